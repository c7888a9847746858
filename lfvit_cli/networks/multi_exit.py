"""Multi-exit ViT: a vision transformer of timm's with a small classifier after some of its blocks."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Literal, get_args

from torch import Tensor, nn
from torch.nn import functional as F

from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.layers import EPS, Block, class_attention_row, init_weights, merge_heads, split_heads
from lfvit_cli.networks.method import Method, register
from lfvit_cli.networks.stages import Output, Stage
from lfvit_cli.networks.timm_vit import TimmViT
from lfvit_cli.networks.traces import Heat, Trace
from lfvit_cli.policies import ExitPolicy

Branch = Literal["mlp", "vit"]


class MlpExit(nn.Module):
    """MLP-EE: a two-layer classifier on the class token alone; its hidden width, C, is our choice."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.fc = nn.Linear(dim, dim)
        self.act = nn.GELU()
        self.head = nn.Linear(dim, num_classes)

    def forward(self, tokens: Tensor) -> tuple[Tensor, None]:
        """(B, N, C) tokens to (B, K) logits."""
        return self.head(self.act(self.fc(self.norm(tokens[:, 0])))), None


class ClassTokenBlock(Block):
    """A transformer block of which only the class token is read: all others serve as keys and values alone."""

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """(B, N, C) to the (B, 1, C) class token and its attention (B, H, N-1) over the others."""
        heads, width = self.attn.num_heads, tokens.shape[-1]
        weight, bias = self.attn.qkv.weight, self.attn.qkv.bias
        normed = self.norm1(tokens)
        (query,) = split_heads(F.linear(normed[:, :1], weight[:width], bias[:width]), 1, heads)
        key, value = split_heads(F.linear(normed, weight[width:], bias[width:]), 2, heads)
        mixed = self.attn.proj(merge_heads(F.scaled_dot_product_attention(query, key, value)))
        return self._finish(tokens[:, :1], mixed), class_attention_row(query, key)


class ViTExit(nn.Module):
    """ViT-EE: one more block, of the backbone's heads and MLP width, then a classifier on the class token."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, num_classes: int) -> None:
        super().__init__()
        self.block = ClassTokenBlock(dim, num_heads, mlp_ratio)
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, C) tokens to (B, K) logits and the class token's attention (B, H, N-1)."""
        token, attention = self.block(tokens)
        return self.head(self.norm(token[:, 0])), attention


@dataclass(frozen=True, eq=False)
class ExitOutput(Output):
    """An exit's answer, and what the blocks above it start from.

    Attributes:
        logits: (B, K).
        tokens: (B, N, C) output of the last block that has run.
    """

    tokens: Tensor


class MultiExitViT(TimmViT):
    """Early exits on a vision transformer, after Bakhtiarnia et al. (BMVC workshop 2021, arXiv 2106.15183).

    It is the backbone itself, under the backbone's own parameter names, with ``exits.I`` beside them.

    Args:
        backbone: name of a plain vision transformer of timm's with a class token.
        layers: an exit follows after each of so many blocks.
        branch: ``mlp`` reads the class token, ``vit`` runs one more block first.
        keywords: what else timm takes for the backbone, such as num_classes, img_size, depth or drop_path_rate.

    Raises:
        KeywordError: values that describe no network, or a backbone of another kind.
    """

    def __init__(
        self,
        backbone: str = "deit_small_patch16_224",
        layers: Sequence[int] | int = (4, 8),
        branch: Branch = "mlp",
        **keywords: Any,
    ) -> None:
        super().__init__(backbone, **keywords)
        self.layers = exit_layers(layers, len(self.blocks))
        self.branch = branch
        self.exits = nn.ModuleList(self._make_exit() for _ in self.layers)

    def _make_exit(self) -> nn.Module:
        if self.branch not in get_args(Branch):
            raise KeywordError(
                f"branch={self.branch} is not a kind of exit", f"Use one of {', '.join(get_args(Branch))}."
            )
        if self.branch == "mlp":
            made: nn.Module = MlpExit(self.embed_dim, self.num_classes)
        else:
            block: Any = self.blocks[0]
            ratio = block.mlp.fc1.out_features / self.embed_dim
            made = ViTExit(self.embed_dim, block.attn.num_heads, ratio, self.num_classes)
        return made.apply(init_weights)

    def stages(self) -> tuple[Stage, ...]:
        """A stage for every exit, and the rest of the backbone; each runs only the blocks since the exit before."""
        names = (*(f"after_{layer}" for layer in self.layers), "full")
        return tuple(Stage(name, partial(self.answer, index)) for index, name in enumerate(names))

    def answer(self, stage: int, images: Tensor, before: ExitOutput | None) -> Output:
        """One stage.

        Args:
            stage: its index; the last one has the backbone's own head.
            images: (B, 3, S, S), normalised; read by the first stage alone.
            before: what the exit before gave.
        """
        tokens = self.embed(images) if before is None else before.tokens
        start, end = tuple(pairwise((0, *self.layers, len(self.blocks))))[stage]
        for layer in range(start, end):
            tokens = self.blocks[layer](tokens)
        if stage == len(self.layers):
            return Output(self.forward_head(self.norm(tokens)))
        logits, attention = self.exits[stage](tokens)
        return ExitOutput(logits, tokens, traces=() if attention is None else (self._heat(attention),))

    def _heat(self, attention: Tensor) -> Trace:
        # Beside the class token, a backbone may have registers before its patches.
        patches = attention[..., self.num_prefix_tokens - 1 :].mean(dim=1)
        return Heat(patches.unflatten(1, self.patch_embed.grid_size))

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Start anew with the heads of all exits, and the backbone's, for other classes."""
        super().reset_classifier(num_classes, global_pool)
        self.exits = nn.ModuleList(self._make_exit() for _ in self.layers).to(self.cls_token)


def exit_layers(layers: Sequence[int] | int, depth: int) -> tuple[int, ...]:
    """The numbers of blocks after which there is an exit.

    Raises:
        KeywordError: none, not ascending, or not within the depth.
    """
    chosen: tuple[Any, ...] = tuple(layers) if isinstance(layers, Sequence) else (layers,)
    counts = bool(chosen) and all(isinstance(layer, int) and 0 < layer < depth for layer in chosen)
    if not counts or list(chosen) != sorted(set(chosen)):
        raise KeywordError(
            f"layers={layers} does not fit {depth} blocks",
            f"Give ascending numbers of blocks, from 1 to {depth - 1}, that run before each exit.",
        )
    return chosen


METHOD = register(
    Method(
        family="Multi-exit ViT",
        network=MultiExitViT,
        models={
            "multi_exit": {},
            **{
                f"multi_exit_deit_{size}": {"backbone": f"deit_{size}_patch16_224"}
                for size in ("tiny", "small", "base")
            },
        },
        policy=ExitPolicy.at(0.7),
        checkpoint_key="exits.0.norm.weight",
        training="the mean over stages of the cross entropy; the paper trains each exit alone, on a frozen backbone",
        note="after Bakhtiarnia et al.; widths of the exits, and leaving by confidence, are our choice",
    )
)
