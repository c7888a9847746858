"""A network of three stages, small enough to follow by hand: each is a linear layer on the mean colour."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lfvit_cli.networks.stages import Output, Stage

NAMES = ("coarse", "middle", "fine")
SIDE = 4


@dataclass(frozen=True, eq=False)
class Coarse(Output):
    """What the first stage hands on: a number for each image, and one for all."""

    mark: Tensor
    factor: float


class ThreeStages(nn.Module):
    """Logits of a stage depend on the stage, on the image and on what earlier stages have marked.

    Attributes:
        ran: rows that each stage was called with.
        prepared: rows that the middle stage prepared.
    """

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(3, num_classes) for _ in NAMES)
        for parameter in self.layers.parameters():
            nn.init.normal_(parameter, std=2.0)
        self.num_classes = num_classes
        self.pretrained_cfg = {"input_size": (3, SIDE, SIDE)}
        self.ran: list[tuple[str, int]] = []
        self.prepared: list[int] = []

    def stages(self) -> tuple[Stage, ...]:
        """Three; the middle one prepares."""
        return (
            Stage("coarse", self.coarse),
            Stage("middle", lambda images, state: self.later(1, images, state), prepare=self.prepare),
            Stage("fine", lambda images, state: self.later(2, images, state)),
        )

    def coarse(self, images: Tensor, _: Any = None) -> Coarse:
        """The first stage; the mark is the image's own mean."""
        self.ran.append(("coarse", images.shape[0]))
        return Coarse(self.answer(0, images), images.mean(dim=(1, 2, 3)), 1.0)

    def prepare(self, state: Coarse) -> Coarse:
        """Ten more on the mark of what goes on."""
        self.prepared.append(state.mark.shape[0])
        return Coarse(state.logits, state.mark + 10, state.factor)

    def later(self, stage: int, images: Tensor, state: Coarse) -> Coarse:
        """A later stage; its logits are shifted by the mark."""
        self.ran.append((NAMES[stage], images.shape[0]))
        return Coarse(self.answer(stage, images) + state.factor * state.mark[:, None], state.mark, state.factor)

    def answer(self, stage: int, images: Tensor) -> Tensor:
        """(B, K) logits of one stage."""
        logits: Tensor = self.layers[stage](images.mean(dim=(2, 3)))
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """The last stage's logits."""
        state: Any = None
        for stage in self.stages():
            state = stage(images, state)
        logits: Tensor = state.logits
        return logits


def three_stages(num_classes: int = 4) -> ThreeStages:
    """A network with the same weights each time, which needs no gradients."""
    torch.manual_seed(0)
    return ThreeStages(num_classes).requires_grad_(False).eval()
