"""SPViT: DeiT with a selector before three layers that drops tokens by their scores, and packages them into one."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.clustering import precise
from lfvit_cli.networks.method import Method, State, deit_sizes, register
from lfvit_cli.networks.ragged import Layout
from lfvit_cli.networks.ragged_vit import RaggedOutput, RaggedViT
from lfvit_cli.networks.token_schedule import quarters
from lfvit_cli.networks.traces import Tokens, Trace


class Selector(nn.Module):
    """Scores each token head by head, and weighs the heads (section 3.2).

    All heads share one module, which the published file repeats under each head's name.

    Args:
        dim: C.
        num_heads: H.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        each = dim // num_heads
        if num_heads < 2 or each < 4 or each % 2:
            raise KeywordError(
                f"a selector cannot halve {num_heads} heads of {each} channels, and the channels twice",
                "Give at least 2 heads, and 4 or another even number of channels for each.",
            )
        self.num_heads = num_heads
        # Of one token.
        products = each * (each + each // 2) + (each // 2) * (each // 4) + (each // 4) * 2
        self.macs = num_heads * (products + 5 * each) + 2 * num_heads * (num_heads // 2)
        self.senet = nn.Sequential(
            nn.Linear(num_heads, num_heads // 2), nn.GELU(), nn.Linear(num_heads // 2, num_heads), nn.Sigmoid()
        )
        inward = nn.Sequential(nn.LayerNorm(each), nn.Linear(each, each), nn.GELU())
        outward = nn.Sequential(
            nn.Linear(each, each // 2), nn.GELU(), nn.Linear(each // 2, each // 4), nn.GELU(), nn.Linear(each // 4, 2)
        )
        self.in_conv = nn.ModuleList([inward] * num_heads)
        self.out_conv = nn.ModuleList([outward] * num_heads)
        self.register_state_dict_post_hook(_in_own_memory)  # type: ignore[no-untyped-call]  # torch's

    def forward(self, tokens: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """Score tokens.

        Args:
            tokens: (B, n, C), the class token not among them.
            present: (B, n) which places hold a token; None for all.

        Returns:
            (B, n) whether each is worth keeping, and (B, n) the probability of that; float32 at least.
        """
        heads = tokens.unflatten(2, (self.num_heads, -1))
        weights = precise(self.senet(heads.mean(dim=3))).unsqueeze(3)
        local, shared = self.in_conv[0](heads).chunk(2, dim=3)
        if present is None:
            shared = shared.mean(dim=1, keepdim=True)
        else:
            there = present[:, :, None, None]
            shared = shared.where(there, 0).sum(dim=1, keepdim=True) / there.sum(dim=1, keepdim=True)
        logits = precise(self.out_conv[0](torch.cat((local, shared.expand_as(local)), dim=3)))
        total = weights.sum(dim=2)
        scores = (weights * logits.log_softmax(dim=3)).sum(dim=2) / total
        chances = (weights * logits.softmax(dim=3)).sum(dim=2) / total
        return scores[..., 0] >= scores[..., 1], chances[..., 0]


def _in_own_memory(_selector: nn.Module, state: State, prefix: str, _metadata: Any) -> None:
    """Give each head but the first a copy of the shared parameters, as some files and moving averages need it."""
    first = (f"{prefix}in_conv.0.", f"{prefix}out_conv.0.")
    for key in state:
        if key.startswith((f"{prefix}in_conv.", f"{prefix}out_conv.")) and not key.startswith(first):
            state[key] = state[key].clone()


class SPViT(RaggedViT):
    """Soft token pruning (Kong et al., ECCV 2022, arXiv 2112.13890), as it answers without its random noise.

    A selection drops the patches that are not worth keeping, and appends one package: their sum, weighted by the
    probability that they are. Packages always stay.

    Args:
        pruning_loc: 0-based layers before which tokens are selected; by default after each quarter of the depth but
            the last (3, 6, 9 of 12).
        plain: keywords of :class:`lfvit_cli.networks.plain_vit.PlainViT`.

    Raises:
        KeywordError: values that describe no network.
    """

    def __init__(self, pruning_loc: Sequence[int] | None = None, **plain: Any) -> None:
        super().__init__(**plain)
        depth = len(self.blocks)
        self.pruning_loc = _layers(quarters(depth) if pruning_loc is None else pruning_loc, depth)
        heads = self.blocks[0].attn.num_heads
        self.score_predictor = nn.ModuleList(Selector(self.num_features, heads) for _ in self.pruning_loc)
        self.initialise()

    @property
    def identities(self) -> int:
        """W: the class token, the patches, and a package of each selection."""
        return 1 + self.num_patches + len(self.pruning_loc)

    def answer(self, images: Tensor, _: None = None) -> RaggedOutput:
        """(B, 3, S, S) normalised images to logits, the tokens of each image, and those of its patches."""
        tokens, layout = self.embed(images), Layout()
        batch, ids = tokens.shape[0], self.identify(tokens)
        # The token that each patch is in: itself, or the package with an id from N on.
        owner = torch.arange(self.num_patches, device=images.device).expand(batch, -1)
        counts, traces = list[Tensor](), list[Trace]()
        for layer, block in enumerate(self.blocks):
            if layer in self.pruning_loc:
                selection = self.pruning_loc.index(layer)
                tokens, ids, layout = self._select(selection, tokens, ids, layout)
                packaged = (owner < self.num_patches) & ~self.patches(ids, layout, batch)
                owner = torch.where(packaged, self.num_patches + selection, owner)
                traces.append(Tokens(owner.unflatten(1, self.grid), f"layer {layer}"))
            counts.append(layout.counts(ids))
            tokens = block.feed(self.attend(block, tokens, layout))
        entered = torch.stack(counts, dim=1)
        return RaggedOutput(self.head(self.norm(layout.first(tokens))), entered, entered, traces=tuple(traces))

    def _select(self, selection: int, tokens: Tensor, ids: Tensor, layout: Layout) -> tuple[Tensor, Tensor, Layout]:
        """One selection: tokens, ids and layout without the patches dropped, but with their package."""
        rows, row_ids = layout.rows(tokens), layout.rows(ids)
        others = None if layout.present is None else layout.present[:, 1:]
        worth, chances = self.score_predictor[selection](rows[:, 1:], others)
        is_package = row_ids[:, 1:] % self.identities > self.num_patches
        keep = worth | is_package
        dropped = ~keep if others is None else ~keep & others
        weights = (chances * dropped).unsqueeze(1).to(tokens.dtype)
        package = weights @ rows[:, 1:]
        package_ids = row_ids[:, :1] + 1 + self.num_patches + selection
        always = torch.ones_like(keep[:, :1])
        present = None if layout.present is None else torch.cat((layout.present, always), dim=1)
        extended = Layout(present=present)
        left, chosen = extended.only(torch.cat((always, keep, always), dim=1), drop=not self.training)
        tokens = extended.take(torch.cat((rows, package), dim=1), chosen)
        return tokens, extended.take(torch.cat((row_ids, package_ids), dim=1), chosen), left

    def decision_macs(self, attended: Tensor, updated: Tensor) -> Tensor:  # noqa: ARG002  # the frame's signature
        """(B,) MACs of scores and packages: of all tokens that leave the layer before, but the class token."""
        before = nn.functional.pad(updated, (1, 0), value=1 + self.num_patches) - 1
        selector: Any = self.score_predictor[0]
        macs: Tensor = before[:, list(self.pruning_loc)].sum(dim=1) * (selector.macs + self.num_features)
        return macs

    def published_macs(self) -> dict[str, int]:
        """MACs of the released network, which masks tokens instead of dropping them (fvcore, batch 1)."""
        packages = (sum(place <= layer for place in self.pruning_loc) for layer in range(len(self.blocks)))
        return {"full": self.masked_macs([1 + self.num_patches + count for count in packages])}


def _layers(layers: Any, depth: int) -> tuple[int, ...]:
    chosen = tuple(layers) if isinstance(layers, Sequence) else (layers,)
    fit = bool(chosen) and all(isinstance(layer, int) and 0 <= layer < depth for layer in chosen)
    if not fit or list(chosen) != sorted(set(chosen)):
        raise KeywordError(
            f"pruning_loc={layers} does not fit {depth} layers", f"Give ascending layers from 0 to {depth - 1}."
        )
    return chosen


METHOD = register(
    Method(
        family="SPViT",
        network=SPViT,
        models=deit_sizes("spvit"),
        checkpoint_key="score_predictor.0.senet.0.weight",
        training="the cross entropy alone, which reaches the selectors by their packages only",
    )
)
