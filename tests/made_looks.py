"""Networks to look with, and looks made up for drawing."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from lfvit_cli.measure.class_names import HEADER_KEY
from lfvit_cli.measure.framing import Frame
from lfvit_cli.measure.looks import Answer, Look, PruningLook, RegionLook, StageLook
from lfvit_cli.networks.build import build
from lfvit_cli.networks.staged import SingleStage

NARROW = "embed_dim=24,num_heads=3,depth=4,num_classes=5"
LF_VIT = f"lf_deit_tiny:{NARROW}"
DYNAMIC_VIT = f"dynamicvit_deit_tiny:{NARROW},pruning_layers=(1,2,3)"
EVO_VIT = "evo_deit_tiny_patch16_224:embed_dim=24,num_heads=3,depth=9,num_classes=5"
DEIT = f"deit_tiny_patch16_224:{NARROW}"
CLASSES = ("boot", "cap", "coat", "robe", "sock")


def save_narrow(spec: str, file: Path, *, named: bool = True) -> str:
    """Save lively deterministic weights for a narrow network, with class names in the header; give the path."""
    network = build(spec)
    network = network.model if isinstance(network, SingleStage) else network
    generator = torch.Generator().manual_seed(0)
    state = {
        # Unlike an initialisation, these make the class attention differ from patch to patch.
        key: torch.randn(value.shape, generator=generator) * (0.3 if value.ndim == 1 else 1.5 / value[0].numel() ** 0.5)
        for key, value in network.state_dict().items()
    }
    save_file(state, file, metadata={HEADER_KEY: json.dumps(CLASSES)} if named else None)
    return str(file)


def region_look(
    grid: int = 7, size: int = 5, first: float = 0.5, *, label: int | None = None, threshold: float = 0.76
) -> Look:
    """A look of an LF-ViT that answers class 0 with some confidence at first, and class 1 later."""
    generator = np.random.default_rng(0)
    attention = generator.random((grid, grid), dtype=np.float32)
    row, column = grid - size, 0
    inside = np.add.outer(grid * np.arange(row, row + size), np.arange(column, column + size)).ravel()
    ranked = inside[np.argsort(-attention.ravel()[inside])]
    kept = ranked[: max(1, round(0.88 * size**2))]
    corners = 4 * grid * (kept // grid) + 2 * (kept % grid)
    fine = np.sort(np.add.outer(corners, (0, 1, 2 * grid, 2 * grid + 1)).ravel())
    region = RegionLook(
        attention=attention,
        window=row * (grid - size + 1) + column,
        row=row,
        column=column,
        size=size,
        kept_cells=kept,
        coarse_cells=np.setdiff1d(np.arange(grid**2), kept),
        fine_tokens=fine,
    )
    answered = 0 if first >= threshold else 1
    stages = (
        _stage("location", 0, first, 1_100_000_000, needed=True),
        _stage("focus", 1, 0.8, 2_640_000_000, answered == 1),
    )
    return _look(stages, answered, label=label, threshold=threshold, side=32 * grid, region=region)


def pruning_look(prunings: int = 3, label: int | None = None) -> Look:
    """A look of a token-pruning network."""
    kept = [np.sort(np.random.default_rng(k).permutation(196)[: 150 - 12 * k]) for k in range(prunings)]
    stages = (_stage("full", 0, 0.6, 2_990_000_000, needed=True),)
    return _look(stages, 0, label=label, prunings=tuple(PruningLook(14, each) for each in kept))


def plain_look(label: int | None = None) -> Look:
    """A look of a plain network."""
    return _look((_stage("full", 0, 0.6, 4_610_000_000, needed=True),), 0, label=label)


def _stage(name: str, best: int, confidence: float, macs: int, needed: bool) -> StageLook:
    order = [best, *(index for index in range(5) if index != best)]
    values = [confidence, *((1 - confidence) * share for share in (0.5, 0.3, 0.15, 0.05))]
    top = tuple(Answer(index, CLASSES[index], value) for index, value in zip(order, values, strict=True))
    return StageLook(name, top, macs, needed)


def _look(
    stages: tuple[StageLook, ...],
    answered: int,
    *,
    label: int | None,
    threshold: float | None = None,
    side: int = 224,
    region: RegionLook | None = None,
    prunings: tuple[PruningLook, ...] = (),
) -> Look:
    return Look(
        image=Path("photos/a photo.jpg"),
        model="lf_deit_small",
        checkpoint="weights.safetensors",
        photo=np.full((300, 200, 3), 230, dtype=np.uint8),
        frame=Frame(12.5, 62.5, 175, 175),
        # White, so that what is dimmed shows.
        pixels=np.full((side, side, 3), 255, dtype=np.uint8),
        label=label,
        label_name=None if label is None else CLASSES[label],
        threshold=threshold,
        stages=stages,
        answered=answered,
        region=region,
        prunings=prunings,
    )
