"""A-ViT: DeiT in which every token halts by itself, once it has been through enough blocks."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.clustering import precise
from lfvit_cli.networks.method import BASE, SMALL, TINY, Method, Published, register
from lfvit_cli.networks.ragged import Layout
from lfvit_cli.networks.ragged_vit import RaggedOutput, RaggedViT
from lfvit_cli.networks.traces import Heat, Trace


@dataclass(frozen=True, eq=False)
class HaltingOutput(RaggedOutput):
    """An answer of A-ViT.

    Attributes:
        depth: (B, 1 + N) blocks that each token has been through, the class token first.
        ponder: (B, 1 + N) the same and what remained of the token's share when it halted, whose mean is what training
            makes small (section 3.2).
    """

    depth: Tensor
    ponder: Tensor


class AViT(RaggedViT):
    """Adaptive tokens (Yin et al., CVPR 2022, arXiv 2112.07658): after each block, some tokens halt for good.

    Each token has a share of 1 to give. After a block it gives as much as its first channel says, and halts with what
    remains when that has become too little. The answer is the class token's sum over the blocks, weighted by what it
    gives. Once it has halted, nothing changes the answer any more, and the image takes no further block, except in
    training, where the depth of every token counts.

    Args:
        gate_scale: factor of the first channel.
        gate_center: what is subtracted from it, before the sigmoid.
        eps: what remains is too little when it is less than this.
        plain: keywords of :class:`lfvit_cli.networks.plain_vit.PlainViT`.

    Raises:
        KeywordError: values that describe no network.
    """

    def __init__(self, gate_scale: float = 10.0, gate_center: float = 75.0, eps: float = 0.01, **plain: Any) -> None:
        super().__init__(**plain)
        for name, value in (("gate_scale", gate_scale), ("gate_center", gate_center), ("eps", eps)):
            if not isinstance(value, int | float):
                raise KeywordError(f"{name}={value} is not a number", "Give one, such as 10.")
        if not 0 < eps < 1:
            raise KeywordError(f"eps={eps} is not a share", "Give a number above 0 and below 1.")
        self.gate_scale, self.gate_center, self.eps = gate_scale, gate_center, eps

    def answer(self, images: Tensor, _: None = None) -> HaltingOutput:
        """(B, 3, S, S) normalised images to logits, how deep each token went, and the patches left after each block."""
        tokens, layout = self.embed(images), Layout()
        batch, ids = tokens.shape[0], self.identify(tokens)
        given = precise(torch.zeros_like(tokens[..., 0]))
        depth, remainder = torch.zeros_like(ids), torch.zeros_like(given)
        answer, running = torch.zeros_like(tokens[:, 0]), torch.ones_like(ids[:, 0], dtype=torch.bool)
        counts = list[Tensor]()
        for layer, block in enumerate(self.blocks):
            counts.append(layout.counts(ids))
            tokens = block.feed(self.attend(block, tokens, layout))
            part = self._part(tokens, last=layer == len(self.blocks) - 1)
            rest, given = 1 - given, given + part
            # What has given exactly 1 - eps halts without the rest, as in the released code.
            halts, goes_on = given > 1 - self.eps, given < 1 - self.eps
            rest = rest.where(halts, 0)
            gift = layout.first(rest + part.where(goes_on, 0)).unsqueeze(1).to(tokens.dtype)
            answer = answer + (gift * layout.first(tokens)).where(running.unsqueeze(1), 0)
            depth = depth + self.spread(torch.ones_like(ids), ids, layout, batch)
            remainder = remainder + self.spread(rest, ids, layout, batch)
            running = running & layout.first(goes_on)
            if not self.training:
                goes_on = goes_on & running[ids // self.identities]
            left, chosen = layout.only(goes_on, drop=not self.training)
            tokens, ids, given = (layout.take(each, chosen) for each in (tokens, ids, given))
            layout = left
            if tokens.numel() == 0:
                break
        counts += [torch.zeros_like(counts[0])] * (len(self.blocks) - len(counts))
        entered = torch.stack(counts, dim=1)
        logits, traces = self.head(self.norm(answer)), self._traces(depth)
        return HaltingOutput(logits, entered, entered, depth, depth + remainder, traces=traces)

    def _part(self, tokens: Tensor, *, last: bool) -> Tensor:
        """What each token gives after a block, one value for each: all there is, after the last."""
        channel = precise(tokens[..., 0])
        return torch.ones_like(channel) if last else (self.gate_scale * channel - self.gate_center).sigmoid()

    def _traces(self, depth: Tensor) -> tuple[Trace, ...]:
        """The depth of each patch, and the patches that went on after each block."""
        patches = depth[:, 1:]
        heat = Heat(precise(patches.unflatten(1, self.grid)), "blocks per patch")
        return (heat, *(self.trace(patches > layer, f"layer {layer - 1}") for layer in range(1, len(self.blocks))))

    def published_macs(self) -> dict[str, int]:
        """MACs of the released network, which masks tokens instead of dropping them (fvcore, batch 1)."""
        return {"full": self.masked_macs([1 + self.num_patches] * len(self.blocks))}


METHOD = register(
    Method(
        family="A-ViT",
        network=AViT,
        models={
            "a_vit_deit_tiny": {**TINY, "gate_center": 30.0},
            "a_vit_deit_small": SMALL,
            "a_vit_deit_base": BASE,
        },
        published={
            "a_vit_deit_tiny": (Published(71.4, 0.8, "A-ViT, README"),),
            "a_vit_deit_small": (Published(78.8, 3.6, "A-ViT, README"),),
        },
        training="the cross entropy alone, by which nothing halts sooner",
        note="B was never published: its gate is S's",
    )
)
