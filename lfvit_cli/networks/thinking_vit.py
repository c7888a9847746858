"""ThinkingViT: a narrow round first, its heads the first of a wider network's, which starts again from its result."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lfvit_cli.errors import CheckpointError, KeywordError
from lfvit_cli.networks.layers import Attention, Block, merge_heads, split_heads
from lfvit_cli.networks.method import Method, Published, State, register
from lfvit_cli.networks.plain_vit import PlainViT
from lfvit_cli.networks.stages import Output, Stage, walk
from lfvit_cli.policies import Criterion, ExitPolicy

# What brings the tokens of one round to the width of the next; a network of two rounds has the first alone.
PROJECTIONS = ("proj_layer", "proj_layer2")
HEAD_WIDTH = 64


@dataclass(frozen=True, eq=False)
class RoundOutput(Output):
    """A round's answer, and what the next round takes up.

    Attributes:
        logits: (B, K).
        tokens: (B, N, c) its tokens after the final norm, c being the round's width.
        embedding: (B, N, c) the image as this round embedded it, positions included.
    """

    tokens: Tensor
    embedding: Tensor


def narrow_linear(linear: nn.Linear, values: Tensor, outputs: int) -> Tensor:
    """(..., i) values through the first i inputs and the first outputs of a layer; its weights are not copied."""
    return F.linear(values, linear.weight[:outputs, : values.shape[-1]], linear.bias[:outputs])


def narrow_norm(norm: nn.LayerNorm, values: Tensor) -> Tensor:
    """(..., i) values normalised over their own i channels, with the first i weights of a norm."""
    width = values.shape[-1]
    return F.layer_norm(values, (width,), norm.weight[:width], norm.bias[:width], norm.eps)


def narrow_attention(attention: Attention, tokens: Tensor) -> Tensor:
    """(B, N, c) tokens through an attention layer's first heads, as many as the tokens are wide."""
    width, full = tokens.shape[-1], attention.proj.in_features
    heads = width * attention.num_heads // full
    # Queries, keys and values are three blocks of rows, of which each gives its first: no one slice has them all.
    weights = attention.qkv.weight.unflatten(0, (3, full))[:, :width, :width]
    biases = attention.qkv.bias.unflatten(0, (3, full))[:, :width]
    query, key, value = (
        split_heads(F.linear(tokens, weight, bias), 1, heads)[0]
        for weight, bias in zip(weights.unbind(0), biases.unbind(0), strict=True)
    )
    mixed = merge_heads(F.scaled_dot_product_attention(query, key, value))
    return narrow_linear(attention.proj, mixed, width)


def narrow_block(block: Block, tokens: Tensor) -> Tensor:
    """(B, N, c) tokens through the first channels and heads of a block, as many as the tokens are wide."""
    width, full = tokens.shape[-1], block.attn.proj.in_features
    if width == full:
        whole: Tensor = block(tokens)
        return whole
    hidden = width * block.mlp.fc1.out_features // full
    tokens = tokens + block.drop_path(narrow_attention(block.attn, narrow_norm(block.norm1, tokens)))
    inner = block.mlp.act(narrow_linear(block.mlp.fc1, narrow_norm(block.norm2, tokens), hidden))
    finished: Tensor = tokens + block.drop_path(narrow_linear(block.mlp.fc2, inner, width))
    return finished


class ThinkingViT(PlainViT):
    """Progressive thinking with nested heads (Hojjat et al., CVPR 2026, arXiv 2507.10800).

    A plain ViT's weights fill all but the projections; its first heads, though, were never trained to answer alone.

    Args:
        thinking_stages: attention heads of each round, two or three, growing; the last round is the whole network.
        embed_dim: C, the width of the last round; 64 for each head by default.
        num_heads: attention heads of the last round; by default as ``thinking_stages`` says.
        plain: further keywords of :class:`PlainViT`.

    Raises:
        KeywordError: values that describe no network.
    """

    def __init__(
        self,
        thinking_stages: Sequence[int] = (3, 6),
        embed_dim: int | None = None,
        num_heads: int | None = None,
        **plain: Any,
    ) -> None:
        stages = check_stages(thinking_stages, num_heads)
        width = HEAD_WIDTH * stages[-1] if embed_dim is None else embed_dim
        super().__init__(embed_dim=width, num_heads=stages[-1], **plain)
        self.thinking_stages = stages
        self.widths = tuple(heads * (width // stages[-1]) for heads in stages)
        # At 0 every round is a plain ViT of its own width.
        self.alpha = nn.ParameterList(nn.Parameter(torch.zeros(1)) for _ in stages[1:])
        for name, narrow in zip(PROJECTIONS, self.widths[:-1], strict=False):
            self.add_module(name, nn.Linear(narrow, width))
        self.initialise()

    def stages(self) -> tuple[Stage, ...]:
        """One stage for each round."""
        return tuple(
            Stage(f"{heads}_heads", partial(self.think, index)) for index, heads in enumerate(self.thinking_stages)
        )

    def think(self, index: int, images: Tensor, before: RoundOutput | None) -> Output:
        """One round.

        Args:
            index: of the round.
            images: (B, 3, S, S), normalised.
            before: what the round before gave; None for the first.
        """
        width = self.widths[index]
        if before is None:
            tokens = embedding = self.embed_channels(images, 0, width)
        else:
            # The channels that earlier rounds have embedded already are kept.
            added = self.embed_channels(images, before.embedding.shape[-1], width)
            embedding = torch.cat((before.embedding, added), dim=-1)
            projection = getattr(self, PROJECTIONS[index - 1])
            tokens = embedding + self.alpha[index - 1] * narrow_linear(projection, before.tokens, width)
        for block in self.blocks:
            tokens = narrow_block(block, tokens)
        if index == len(self.widths) - 1:
            return Output(self.classify(tokens))
        tokens = narrow_norm(self.norm, tokens)
        return RoundOutput(narrow_linear(self.head, tokens[:, 0], self.num_classes), tokens, embedding)

    def embed_channels(self, images: Tensor, start: int, end: int) -> Tensor:
        """(B, 3, S, S) images to the channels of their tokens from start to end, (B, N, end - start)."""
        some = slice(start, end)
        convolution = self.patch_embed.proj
        patches = F.conv2d(images, convolution.weight[some], convolution.bias[some], convolution.stride)
        token = self.cls_token[..., some].expand(images.shape[0], -1, -1)
        return torch.cat((token, patches.flatten(2).transpose(1, 2)), dim=1) + self.pos_embed[..., some]

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) to the (B, K) logits of the last round, for every image."""
        return walk(self.stages(), images).logits

    def adapt_checkpoint(self, state: State) -> State:
        """The state as it is, where its projections say that it was trained with the same stages.

        Raises:
            CheckpointError: it was trained with others; names them.
        """
        found = stages_in(state, self.widths[-1] // self.thinking_stages[-1])
        if found not in ((), self.thinking_stages):
            raise CheckpointError(
                f"the checkpoint was trained with thinking_stages={found}, and the model has {self.thinking_stages}",
                f"Add thinking_stages={found} to the model's keywords.".replace(", ", ","),
            )
        return state

    def published_macs(self) -> dict[str, int]:
        """MACs of each round by the authors' code, counted as fvcore counts (batch 1).

        It embeds all C channels in every round, projects to all of them, and normalises every token for the head.
        """
        full, count = self.widths[-1], 1 + self.num_patches
        hidden = self.blocks[0].mlp.fc1.out_features
        macs, before = dict[str, int](), 0
        for stage, width in zip(self.stages(), self.widths, strict=True):
            per_token = 4 * width**2 + 2 * count * width + 2 * width * (width * hidden // full) + 2 * 5 * width
            blocks = len(self.blocks) * count * per_token
            embedded = self.num_patches * self.patch_embed.proj.weight.numel() + count * full * before
            macs[stage.name] = embedded + blocks + count * 5 * width + width * self.num_classes
            before = width
        return macs


def stages_in(state: State, head_width: int) -> tuple[int, ...]:
    """The heads of each round that a checkpoint was trained with; none where it has no projections."""
    narrow = [state[f"{name}.weight"].shape for name in PROJECTIONS if f"{name}.weight" in state]
    return tuple(shape[1] // head_width for shape in narrow) + tuple(shape[0] // head_width for shape in narrow[-1:])


def check_stages(stages: Any, num_heads: int | None) -> tuple[int, ...]:
    """The heads of each round.

    Raises:
        KeywordError: not two or three growing numbers, or a last round that is not the whole network.
    """
    chosen: tuple[Any, ...] = tuple(stages) if isinstance(stages, Sequence) else (stages,)
    counts = all(isinstance(heads, int) and heads > 0 for heads in chosen)
    if len(chosen) not in (2, 3) or not counts or list(chosen) != sorted(set(chosen)):
        raise KeywordError(
            f"thinking_stages={stages} does not name the heads of each round",
            "Give two or three growing numbers, such as (3, 6).",
        )
    if num_heads not in (None, chosen[-1]):
        raise KeywordError(
            f"thinking_stages={chosen} ends with {chosen[-1]} of {num_heads} heads",
            f"Give num_heads={chosen[-1]}, or leave it out.",
        )
    return chosen


METHOD = register(
    Method(
        family="ThinkingViT",
        network=ThinkingViT,
        models={"thinking_deit_3h_6h": {"thinking_stages": (3, 6)}},
        published={
            "thinking_deit_3h_6h": (
                Published(81.37, 3.98, "ThinkingViT, released logs: threshold 0.5"),
                Published(81.44, 5.85, "ThinkingViT, released logs: threshold 0"),
            ),
        },
        evaluation={"crop_pct": 0.9},
        policy=ExitPolicy.at(0.5, criterion=Criterion.TOP10_ENTROPY),
        checkpoint_key="proj_layer.weight",
        training="the mean over rounds of the cross entropy",
        note="begun from a plain DeiT, its first rounds know nothing: those heads were not trained to answer alone",
    )
)
