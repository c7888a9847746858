"""A network ready to be looked at: one photo in, what it saw and decided out."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from lfvit_cli.images.transforms import TransformSettings, build_pixel_transform, normalise
from lfvit_cli.measure.class_names import ClassNames
from lfvit_cli.measure.cost import count_stages
from lfvit_cli.measure.framing import Frame, crop_frame
from lfvit_cli.measure.looks import Answer, Look, PruningLook, RegionLook, StageLook
from lfvit_cli.networks.build import build, count_classes, evaluation_settings
from lfvit_cli.networks.checkpoints import head_classes, load_checkpoint
from lfvit_cli.networks.lf_vit import FocusOutput, LFViT, LocationOutput
from lfvit_cli.networks.staged import PrunedOutput, StageOutput, confidence
from lfvit_cli.runtime.runner import Runner

TOP = 5
# Photos are kept no larger than they are shown.
SHOWN_SIDE = 640


class Viewer:
    """One network, ready to be looked at; builds it, and counts what its stages cost.

    Args:
        model: ``NAME[:key=value,...]``.
        checkpoint: its weights; without one they are random, the same each time.
        device: where it runs.
        dtype: precision of its weights and activations.

    Raises:
        NetworkError: the model cannot be built, or the checkpoint does not fit.
    """

    def __init__(self, model: str, checkpoint: str | None, device: torch.device, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        network = build(model, num_classes=head_classes(checkpoint) if checkpoint else None)
        loaded = load_checkpoint(network, checkpoint) if checkpoint else None
        self.model, self.checkpoint = model, checkpoint
        self.header = loaded.metadata if loaded else {}
        self.settings = TransformSettings(**evaluation_settings(network))
        self.num_classes = count_classes(network)
        self._macs = tuple(row.macs for row in count_stages(model, network))
        self._transform: Any = build_pixel_transform(self.settings)
        self._runner = Runner(network, device, dtype)

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the network's stages."""
        return self._runner.stages

    def look(self, image: Path, photo: Image.Image, classes: ClassNames, threshold: float) -> Look:
        """Run every stage on one photo.

        Args:
            image: its file, whose folder may name its class.
            photo: decoded, upright, RGB.
            classes: names for the network's classes.
            threshold: confidence from which a stage's answer stands.
        """
        pixels: Tensor = self._transform(photo)
        outputs = self._run(pixels)
        answered = _answered(outputs, threshold)
        label = classes.label_of(image)
        shown, frame = _shown(photo, crop_frame(photo.width, photo.height, self.settings))
        return Look(
            image=image,
            model=self.model,
            checkpoint=self.checkpoint,
            photo=shown,
            frame=frame,
            pixels=pixels.permute(1, 2, 0).numpy(),
            label=label,
            label_name=None if label is None else classes.names[label],
            threshold=threshold if len(self.stages) > 1 else None,
            stages=tuple(
                StageLook(name, _top(output, classes), macs, needed=index <= answered)
                for index, (name, output, macs) in enumerate(zip(self.stages, outputs, self._macs, strict=True))
            ),
            answered=answered,
            region=_region(self._runner.network, outputs),
            prunings=_prunings(outputs[0], self._patches()),
        )

    @torch.inference_mode()
    def _run(self, pixels: Tensor) -> list[StageOutput]:
        images = normalise(pixels[None], self.settings, dtype=self._runner.dtype, device=self._runner.device)
        outputs = [self._runner.begin(images)]
        while len(outputs) < len(self.stages):
            outputs.append(self._runner.resume(images, outputs[-1]))
        return outputs

    def _patches(self) -> int:
        """Patches of the full grid, where the network prunes patches."""
        embedding: Any = getattr(self._runner.network, "patch_embed", None)
        return 0 if embedding is None else int(embedding.num_patches)


def _answered(outputs: list[StageOutput], threshold: float) -> int:
    """The stage whose answer stands, decided as ``early_exit`` does: a NaN confidence goes on."""
    stands = (bool(confidence(output.logits) >= threshold) for output in outputs[:-1])
    return next((index for index, enough in enumerate(stands) if enough), len(outputs) - 1)


def _top(output: StageOutput, classes: ClassNames) -> tuple[Answer, ...]:
    probabilities = output.logits[0].float().softmax(dim=-1).cpu()
    best = probabilities.topk(min(TOP, len(probabilities)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return tuple(Answer(index, classes.names[index], value) for index, value in pairs)


def _region(network: nn.Module, outputs: list[StageOutput]) -> RegionLook | None:
    first, last = outputs[0], outputs[-1]
    if not (isinstance(network, LFViT) and isinstance(first, LocationOutput) and isinstance(last, FocusOutput)):
        return None
    if last.region is None:
        return None
    window, grid = int(last.region[0]), last.grid
    cells = network.selector.window_cells[window]
    row, column = divmod(int(cells[0]), grid)
    return RegionLook(
        attention=first.class_attention[0].float().cpu().numpy().reshape(grid, grid),
        window=window,
        row=row,
        column=column,
        size=round(len(cells) ** 0.5),
        kept_cells=last.kept_cells[0].cpu().numpy(),
        coarse_cells=last.coarse_cells[0].cpu().numpy(),
        fine_tokens=last.fine_tokens[0].cpu().numpy(),
    )


def _prunings(output: StageOutput, patches: int) -> tuple[PruningLook, ...]:
    if not isinstance(output, PrunedOutput):
        return ()
    return tuple(PruningLook(round(patches**0.5), kept[0].cpu().numpy()) for kept in output.kept)


def _shown(photo: Image.Image, frame: Frame) -> tuple[NDArray[np.uint8], Frame]:
    """The photo no larger than it is shown, and the frame in its pixels."""
    scale = min(1.0, SHOWN_SIDE / max(photo.size))
    width, height = (max(1, round(side * scale)) for side in photo.size)
    across, down = width / photo.width, height / photo.height
    reduced = Frame(frame.left * across, frame.top * down, frame.width * across, frame.height * down)
    return np.asarray(photo.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)), reduced
