"""A network ready to be looked at: one photo in, what it saw and decided out."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lfvit_cli.cost import count_stages
from lfvit_cli.errors import MeasureError
from lfvit_cli.images.transforms import TransformSettings, build_pixel_transform, normalise
from lfvit_cli.looks.class_names import ClassNames
from lfvit_cli.looks.look import Answer, BoxLook, HeatLook, Look, StageLook, TokensLook, TraceLook
from lfvit_cli.looks.photos import Frame, crop_frame
from lfvit_cli.networks.build import build, count_classes, evaluation_settings
from lfvit_cli.networks.checkpoints import head_classes, load_checkpoint
from lfvit_cli.networks.exits import measure
from lfvit_cli.networks.stages import Output
from lfvit_cli.networks.traces import Box, Heat, Tokens, Trace
from lfvit_cli.policies import ExitPolicy
from lfvit_cli.runtime.runner import Runner

TOP = 5
# Photos are kept no larger than they are shown.
SHOWN_SIDE = 640
SHOWN_NAMES = 4
_GRID_OF_EACH = 3  # dimensions: (B, h, w)


class Viewer:
    """One network, ready to be looked at; builds it, and counts what its stages cost.

    Args:
        model: ``NAME[:key=value,...]``.
        checkpoint: its weights; without one they are random, the same each time.
        device: where it runs.
        dtype: precision of its weights and activations.
        limited: whether its pictures are to say which classes it knows, because a reader might expect more.

    Raises:
        NetworkError: the model cannot be built, or the checkpoint does not fit.
    """

    def __init__(
        self,
        model: str,
        checkpoint: str | None,
        device: torch.device,
        dtype: torch.dtype,
        *,
        limited: bool = False,
    ) -> None:
        torch.manual_seed(0)
        network = build(model, num_classes=head_classes(checkpoint) if checkpoint else None)
        loaded = load_checkpoint(network, checkpoint) if checkpoint else None
        self.model, self.checkpoint, self.limited = model, checkpoint, limited
        self.header = loaded.metadata if loaded else {}
        self.settings = TransformSettings(**evaluation_settings(network))
        self.num_classes = count_classes(network)
        self._macs = tuple(row.macs for row in count_stages(model, network))
        self._transform: Any = build_pixel_transform(self.settings)
        self._runner = Runner(network, device, dtype)

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the network's stages."""
        return self._runner.names

    def look(self, image: Path, photo: Image.Image, classes: ClassNames, policy: ExitPolicy) -> Look:
        """Run every stage on one photo.

        Args:
            image: its file, whose folder may name its class.
            photo: decoded, upright, RGB.
            classes: names for the network's classes.
            policy: when an answer stands.

        Raises:
            PolicyError: more or fewer thresholds than stages that can exit.
        """
        policy = policy.for_stages(self.stages)
        pixels: Tensor = self._transform(photo)
        outputs = self._run(pixels)
        values = [float(measure(policy.criterion, output.logits)[0]) for output in outputs[:-1]]
        answered = _answered(values, policy)
        label = classes.label_of(image)
        shown, frame = _shown(photo, crop_frame(photo.width, photo.height, self.settings))
        stages = zip(self.stages, outputs, self._spent(outputs), [*values, None], strict=True)
        return Look(
            image=image,
            model=self.model,
            checkpoint=self.checkpoint,
            photo=shown,
            frame=frame,
            pixels=pixels.permute(1, 2, 0).numpy(),
            label=label,
            label_name=None if label is None else classes.names[label],
            policy=policy if values else None,
            stages=tuple(
                StageLook(
                    name=name,
                    top=_top(output, classes),
                    macs=macs,
                    needed=index <= answered,
                    value=value,
                    traces=tuple(map(_trace, output.traces)),
                )
                for index, (name, output, macs, value) in enumerate(stages)
            ),
            answered=answered,
            knows=known_classes(classes.names) if self.limited else None,
        )

    def _spent(self, outputs: Sequence[Output]) -> list[int]:
        """MACs of every stage for the one photo."""
        stages = zip(self._runner.stages, outputs, self._macs, strict=True)
        return [counted if stage.macs is None else int(stage.macs(output)) for stage, output, counted in stages]

    def _run(self, pixels: Tensor) -> tuple[Output, ...]:
        images = normalise(pixels[None], self.settings, dtype=self._runner.dtype, device=self._runner.device)
        return self._runner(images, None).outputs


def known_classes(names: Sequence[str]) -> str:
    """Which classes a network knows, in a few words: all of a few; of many, short names from the whole of the list."""
    count = min(len(names), SHOWN_NAMES)
    bounds = [len(names) * part // count for part in range(count + 1)]
    *others, last = (min(names[start:end], key=len) for start, end in pairwise(bounds))
    listed = f"{', '.join(others)} and {last}" if others else last
    which = listed if count == len(names) else f"{len(names)} classes, such as {listed}"
    return f"knows only {which}, and calls everything else one of them"


def _answered(values: list[float], policy: ExitPolicy) -> int:
    """The stage whose answer stands, decided as the walk does: a value that is no number goes on."""
    pairs = zip(values, policy.thresholds, strict=True)
    return next((index for index, pair in enumerate(pairs) if policy.criterion.exits(*pair)), len(values))


def _top(output: Output, classes: ClassNames) -> tuple[Answer, ...]:
    probabilities = output.logits[0].float().softmax(dim=-1).cpu()
    best = probabilities.topk(min(TOP, len(probabilities)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return tuple(Answer(index, classes.names[index], value) for index, value in pairs)


def _trace(trace: Trace) -> TraceLook:
    """The first image's trace, as pictures take it.

    Raises:
        MeasureError: a trace that cannot be drawn.
    """
    match trace:
        case Heat() if trace.values.ndim == _GRID_OF_EACH:
            return HeatLook(trace.values[0].float().cpu().numpy(), trace.name)
        case Box():
            return BoxLook(int(trace.row[0]), int(trace.column[0]), trace.height, trace.width, trace.grid)
        case Tokens() if trace.owner.ndim == _GRID_OF_EACH:
            return TokensLook(trace.owner[0].long().cpu().numpy(), trace.name)
    raise MeasureError(
        f"a trace of the kind {type(trace).__name__} cannot be drawn",
        "Traces are Heat and Tokens of shape (B, h, w), and Box.",
    )


def _shown(photo: Image.Image, frame: Frame) -> tuple[NDArray[np.uint8], Frame]:
    """The photo no larger than it is shown, and the frame in its pixels."""
    scale = min(1.0, SHOWN_SIDE / max(photo.size))
    width, height = (max(1, round(side * scale)) for side in photo.size)
    across, down = width / photo.width, height / photo.height
    reduced = Frame(frame.left * across, frame.top * down, frame.width * across, frame.height * down)
    return np.asarray(photo.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)), reduced
