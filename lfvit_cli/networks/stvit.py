"""STViT on DeiT: after a third of the layers, 16 semantic tokens take the place of all patches. A reconstruction."""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.layers import EPS, Block, merge_heads, split_heads
from lfvit_cli.networks.method import Method, Published, State, deit_sizes, register
from lfvit_cli.networks.plain_vit import PlainViT
from lfvit_cli.networks.stages import Output
from lfvit_cli.networks.traces import Tokens

Pooling = Literal["window", "mean", "max"]
# Semantic tokens a side: one for each window.
SIDE = 4
LAYER_SCALE = 1e-5
# What the author's snippet puts in place of the scores of cells that are padding.
PADDING_SCORE = -100.0


class Windows(nn.Module):
    """Cuts the map of patches into 4 x 4 windows, after padding it evenly: 14 x 14 patches to windows of 4 x 4 cells.

    Attributes:
        cells: a side of a window.
        real: (16, cells^2) whether a cell is a patch, not padding.
        owner: (h, w) the window of each patch.

    Args:
        grid: patches a side.

    Raises:
        KeywordError: some window would hold no patch.
    """

    real: Tensor
    owner: Tensor

    def __init__(self, grid: int) -> None:
        super().__init__()
        self.grid = grid
        self.cells = math.ceil(grid / SIDE)
        spare = SIDE * self.cells - grid
        self.before, self.after = spare // 2, spare - spare // 2
        if max(self.before, self.after) >= self.cells:
            raise KeywordError(
                f"{grid} x {grid} patches cannot be cut into {SIDE} x {SIDE} windows",
                f"Give an image size of {SIDE} patches a side, or of 6 or more.",
            )
        real = self.cut(torch.ones(1, grid**2, 1, device="cpu")).squeeze(0).squeeze(-1) > 0
        window = (torch.arange(grid, device="cpu") + self.before) // self.cells
        self.register_buffer("real", real, persistent=False)
        self.register_buffer("owner", SIDE * window.unsqueeze(1) + window, persistent=False)

    def pad(self, patches: Tensor) -> Tensor:
        """(B, N, C) patches to the (B, s, s, C) padded map."""
        around = (self.before, self.after)
        return F.pad(patches.unflatten(1, (self.grid, self.grid)), (0, 0, *around, *around))

    def cut(self, patches: Tensor) -> Tensor:
        """(B, N, C) patches to (B, 16, cells^2, C): the cells of each window, zero where they are padding."""
        return self.windows(self.pad(patches))

    def windows(self, padded: Tensor) -> Tensor:
        """(B, s, s, C) padded map to (B, 16, cells^2, C)."""
        split: Tensor = padded.unflatten(2, (SIDE, self.cells)).unflatten(1, (SIDE, self.cells))
        return split.transpose(2, 3).flatten(3, 4).flatten(1, 2)


class WindowPooling(nn.Module):
    """A weighted mean in each window, its weights a softmax over the window's cells (the author, issue 4).

    Args:
        dim: C.
        windows: how the map is cut.
    """

    def __init__(self, dim: int, windows: Windows) -> None:
        super().__init__()
        self.windows = windows
        self.depthwise = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.score = nn.Linear(dim, 1, bias=False)

    def forward(self, patches: Tensor) -> Tensor:
        """(B, N, C) to (B, 16, C)."""
        padded = self.windows.pad(patches)
        context = self.depthwise(padded.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        scores = self.windows.windows(self.score(F.gelu(self.norm(context)))).squeeze(-1)
        weights = scores.masked_fill(~self.windows.real, PADDING_SCORE).softmax(dim=-1)
        return (weights.unsqueeze(2) @ self.windows.windows(padded)).squeeze(2)


class MeanPooling(nn.Module):
    """The mean of the patches in each window."""

    def __init__(self, _dim: int, windows: Windows) -> None:
        super().__init__()
        self.windows = windows

    def forward(self, patches: Tensor) -> Tensor:
        """(B, N, C) to (B, 16, C)."""
        return self.windows.cut(patches).sum(dim=2) / self.windows.real.sum(dim=1, keepdim=True)


class MaxPooling(nn.Module):
    """The largest value of each channel among the patches in each window."""

    def __init__(self, _dim: int, windows: Windows) -> None:
        super().__init__()
        self.windows = windows

    def forward(self, patches: Tensor) -> Tensor:
        """(B, N, C) to (B, 16, C)."""
        return self.windows.cut(patches).masked_fill(~self.windows.real.unsqueeze(-1), -torch.inf).amax(dim=2)


POOLINGS: dict[Pooling, type[nn.Module]] = {"window": WindowPooling, "mean": MeanPooling, "max": MaxPooling}


class CrossAttention(nn.Module):
    """Multi-head attention of some tokens over others, through the fused kernel."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """(B, n, C) tokens that look at (B, m, C) to (B, n, C)."""
        (query,) = split_heads(self.q(tokens), 1, self.num_heads)
        key, value = split_heads(self.kv(seen), 2, self.num_heads)
        mixed: Tensor = self.proj(merge_heads(F.scaled_dot_product_attention(query, key, value)))
        return mixed


class SemanticBlock(nn.Module):
    """A layer of the semantic token generation module: semantic tokens look at patches.

    Both branches are scaled by a vector that starts near zero, as in the released network on Swin.

    Args:
        block: the plain block whose place it takes, and of which it has all but the attention.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        dim = block.norm1.weight.numel()
        self.norm1, self.norm2, self.mlp, self.drop_path = block.norm1, block.norm2, block.mlp, block.drop_path
        self.attn = CrossAttention(dim, block.attn.num_heads)
        self.layer_scale_1 = nn.Parameter(torch.full((dim,), LAYER_SCALE))
        self.layer_scale_2 = nn.Parameter(torch.full((dim,), LAYER_SCALE))

    def forward(self, tokens: Tensor, seen: Tensor, *, residual: bool) -> Tensor:
        """New semantic tokens.

        Args:
            tokens: (B, 16, C), those that look.
            seen: (B, n, C), what they look at.
            residual: whether what they saw is added to what they were.
        """
        mixed = self.drop_path(self.layer_scale_1 * self.attn(self.norm1(tokens), self.norm1(seen)))
        tokens = tokens + mixed if residual else mixed
        finished: Tensor = tokens + self.drop_path(self.layer_scale_2 * self.mlp(self.norm2(tokens)))
        return finished


class STViT(PlainViT):
    """Semantic tokens in place of patches (Chang et al., CVPR 2023), rebuilt for DeiT, whose code was never published.

    Layers that generate are as in the released network on Swin (STViT-R). Our choices are that pooled tokens go into
    the first of them as they are, and that these look at the patches alone there: looking at themselves as well would
    cost 1.92 GMACs for DeiT-S, where 1.91 are published.

    Args:
        pooling: how a window's patches become one token at first: by learned weights, their mean, or their maximum.
        plain: keywords of :class:`PlainViT`; patches run through the first third of the layers, and two more generate.

    Raises:
        KeywordError: values that describe no network.
    """

    has_class_token = False

    def __init__(self, pooling: Pooling = "window", **plain: Any) -> None:
        super().__init__(**plain)
        if pooling not in POOLINGS:
            raise KeywordError(f"pooling={pooling} is not a way to pool", f"Use one of {', '.join(POOLINGS)}.")
        depth, width = len(self.blocks), self.num_features
        if depth < 3:
            raise KeywordError(f"depth={depth} has no room for layers that generate tokens", "Give at least 3.")
        self.first = depth // 3
        for layer in (self.first, self.first + 1):
            self.blocks[layer] = SemanticBlock(self.blocks[layer])
        self.windows = Windows(self.grid[0])
        self.pool = POOLINGS[pooling](width, self.windows)
        # Under its name in the released network on Swin.
        self.semantic_token2 = nn.Parameter(torch.zeros(1, SIDE**2, width))
        self.initialise()

    def answer(self, images: Tensor, _: None = None) -> Output:
        """(B, 3, S, S) normalised images to logits, and the window, so the semantic token, of each patch."""
        patches = tokens = self.embed(images)
        for layer, block in enumerate(self.blocks):
            if layer == self.first:
                patches, tokens = tokens, block(self.pool(tokens), tokens, residual=False)
            elif layer == self.first + 1:
                tokens = block(tokens + self.semantic_token2, torch.cat((tokens, patches), dim=1), residual=True)
            else:
                tokens = block(tokens)
        owner = self.windows.owner.expand(tokens.shape[0], -1, -1)
        return Output(self.classify(tokens), traces=(Tokens(owner, f"layer {self.first}"),))

    def classify(self, tokens: Tensor) -> Tensor:
        """(B, 16, C) semantic tokens to (B, K) logits, from their mean."""
        logits: Tensor = self.head(self.norm(tokens).mean(dim=1))
        return logits

    def no_weight_decay(self) -> set[str]:
        """Parameters that timm's optimizers leave undecayed."""
        return {"pos_embed", "semantic_token2"}


def _from_vit(network: nn.Module, state: State) -> State:
    """No class token, queries apart from keys and values, and branches as large as a trained network has them."""
    translated: State = {}
    own = network.state_dict()
    for name, value in state.items():
        if name == "pos_embed":
            translated[name] = value[:, 1:]
        elif name in own:
            translated[name] = value
        elif ".attn.qkv." in name:
            width = value.shape[0] // 3
            translated[name.replace(".qkv.", ".q.")] = value[:width]
            translated[name.replace(".qkv.", ".kv.")] = value[width:]
    return translated | {name: torch.ones_like(value) for name, value in own.items() if ".layer_scale_" in name}


METHOD = register(
    Method(
        family="STViT",
        network=STViT,
        models=deit_sizes("stvit"),
        published={"stvit_deit_small": (Published(79.8, 1.91, "STViT, Table 8"),)},
        checkpoint_key="semantic_token2",
        from_vit=_from_vit,
        training="the cross entropy; the published run took DeiT's 300 epochs, from scratch",
        note="a reconstruction from the paper's abstract and its author's remarks: no code for DeiT was published",
    )
)
