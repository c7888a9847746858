"""Networks to look with, and looks made up for drawing."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from lfvit_cli.looks.class_names import HEADER_KEY
from lfvit_cli.looks.look import Answer, BoxLook, HeatLook, Look, StageLook, TokensLook, TraceLook
from lfvit_cli.looks.photos import Frame
from lfvit_cli.networks.build import build
from lfvit_cli.policies import ExitPolicy

NARROW = "embed_dim=24,num_heads=3,depth=4,num_classes=5"
LF_VIT = f"lf_deit_tiny:{NARROW}"
DYNAMIC_VIT = f"dynamicvit_deit_tiny:{NARROW},pruning_layers=(1,2,3)"
EVO_VIT = "evo_deit_tiny_patch16_224:embed_dim=24,num_heads=3,depth=9,num_classes=5"
DEIT = f"deit_tiny_patch16_224:{NARROW}"
CLASSES = ("boot", "cap", "coat", "robe", "sock")


def save_narrow(spec: str, file: Path, *, named: bool = True) -> str:
    """Save lively deterministic weights for a narrow network, with class names in the header; give the path."""
    network = build(spec)
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
    places = np.arange(4 * grid**2).reshape(2 * grid, 2 * grid)
    coarse = places[::2, ::2].repeat(2, axis=0).repeat(2, axis=1)
    fine = np.isin(np.arange(grid**2).reshape(grid, grid), kept).repeat(2, axis=0).repeat(2, axis=1)
    focus = (BoxLook(row, column, size, size, (grid, grid)), TokensLook(np.where(fine, places, coarse), "focus"))
    answered = 0 if first >= threshold else 1
    stages = (
        _stage("location", 0, first, 1_100_000_000, needed=True, value=first, traces=(HeatLook(attention),)),
        _stage("focus", 1, 0.8, 2_640_000_000, needed=answered == 1, traces=focus),
    )
    return _look(stages, answered, label=label, policy=ExitPolicy.at(threshold), side=32 * grid)


def pruning_look(prunings: int = 3, label: int | None = None) -> Look:
    """A look of a token-pruning network."""
    owners = [np.full(196, -1) for _ in range(prunings)]
    for k, owner in enumerate(owners):
        kept = np.random.default_rng(k).permutation(196)[: 150 - 12 * k]
        owner[kept] = kept
    traces = tuple(TokensLook(owner.reshape(14, 14), f"layer {3 * k}") for k, owner in enumerate(owners, start=1))
    return _look((_stage("full", 0, 0.6, 2_990_000_000, needed=True, traces=traces),), 0, label=label)


def plain_look(label: int | None = None) -> Look:
    """A look of a plain network."""
    return _look((_stage("full", 0, 0.6, 4_610_000_000, needed=True),), 0, label=label)


def staged_look(stages: int, *, criterion: str = "confidence", label: int | None = None) -> Look:
    """A look of a network of several stages that shows nothing of itself; the last answers."""
    policy = ExitPolicy.at(*[0.7 if criterion in ("confidence", "margin") else 0.3] * (stages - 1), criterion=criterion)
    made = tuple(
        _stage(f"stage_{k}", k % 5, 0.5, 10**9 * (k + 1), needed=True, value=0.5 if k < stages - 1 else None)
        for k in range(stages)
    )
    return _look(made, stages - 1, label=label, policy=policy)


def tracing_look() -> Look:
    """A look of three stages, each of which shows another thing; the second answers, so that the last never runs."""
    patches = np.arange(64).reshape(8, 8)
    windows = TokensLook(np.where(patches % 8 < 4, patches // 16 * 4 + patches % 8 // 2, patches), "windows")
    macs = 500_000_000
    stages = (
        _stage("coarse", 0, 0.6, macs, needed=True, value=0.6, traces=(HeatLook(np.eye(4)),)),
        _stage("middle", 0, 0.9, macs, needed=True, value=0.9, traces=(BoxLook(0, 1, 2, 3, (4, 4)),)),
        _stage("fine", 1, 0.9, macs, needed=False, traces=(windows,)),
    )
    return _look(stages, 1, label=0, policy=ExitPolicy.at(0.7, 0.7))


def _stage(
    name: str,
    best: int,
    confidence: float,
    macs: int,
    *,
    needed: bool,
    value: float | None = None,
    traces: tuple[TraceLook, ...] = (),
) -> StageLook:
    order = [best, *(index for index in range(5) if index != best)]
    values = [confidence, *((1 - confidence) * share for share in (0.5, 0.3, 0.15, 0.05))]
    top = tuple(Answer(index, CLASSES[index], value) for index, value in zip(order, values, strict=True))
    return StageLook(name, top, macs, needed, value, traces)


def _look(
    stages: tuple[StageLook, ...],
    answered: int,
    *,
    label: int | None,
    policy: ExitPolicy | None = None,
    side: int = 224,
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
        policy=policy,
        stages=stages,
        answered=answered,
    )
