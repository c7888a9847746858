"""A look as a record: what a program reads of it."""

from lfvit_cli.measure.looks import Look
from lfvit_cli.measure.record import Facts


class AnswerRecord(Facts):
    """A class and its softmax probability."""

    index: int
    name: str
    probability: float


class StageRecord(Facts):
    """What one stage answers.

    Attributes:
        prediction: class index.
        confidence: largest softmax probability, 0..1.
        name: of the class.
        macs: MACs that the stage adds.
        needed: False where an earlier answer stood.
        top5: the most probable classes, the best first.
    """

    prediction: int
    confidence: float
    name: str
    macs: int
    needed: bool
    top5: tuple[AnswerRecord, ...]


class RegionCells(Facts):
    """A square region on the location grid: its upper left cell, its side and the grid's, in cells."""

    row: int
    column: int
    size: int
    grid: int


class LookRecord(Facts):
    """What one network saw in one photo, and decided.

    Attributes:
        image: the photo's file.
        model: the network, as named.
        trained: False where its weights are random.
        label: the right class, None where unknown.
        exited: whether an earlier stage than the last answered.
        answered: the stage whose answer stands.
        threshold: confidence from which a stage's answer stands; None for a network of one stage.
        macs: MACs spent on this photo.
        most_macs: MACs of all stages.
        region: index of LF-ViT's chosen window, row-major.
        region_cells: the same window, as a square of cells.
        fine_tokens: LF-ViT's fine tokens, ascending on the 2s x 2s grid.
        kept_patches: for each pruning of a token-pruning network, the patches it leaves, ascending.
        stages: every stage's answer, by its name.
    """

    image: str
    model: str
    trained: bool
    label: int | None
    exited: bool
    answered: str
    threshold: float | None
    macs: int
    most_macs: int
    region: int | None
    region_cells: RegionCells | None
    fine_tokens: tuple[int, ...] | None
    kept_patches: tuple[tuple[int, ...], ...] | None
    stages: dict[str, StageRecord]


def look_record(look: Look) -> LookRecord:
    """The record of a look."""
    region = look.region
    return LookRecord(
        image=str(look.image),
        model=look.model,
        trained=look.checkpoint is not None,
        label=look.label,
        exited=look.exited,
        answered=look.stages[look.answered].name,
        threshold=look.threshold,
        macs=look.macs,
        most_macs=look.most_macs,
        region=region and region.window,
        region_cells=region and RegionCells(row=region.row, column=region.column, size=region.size, grid=region.grid),
        fine_tokens=region and tuple(region.fine_tokens.tolist()),
        kept_patches=tuple(tuple(pruning.kept.tolist()) for pruning in look.prunings) or None,
        stages={
            stage.name: StageRecord(
                prediction=stage.best.index,
                confidence=stage.best.probability,
                name=stage.best.name,
                macs=stage.macs,
                needed=stage.needed,
                top5=tuple(
                    AnswerRecord(index=each.index, name=each.name, probability=each.probability) for each in stage.top
                ),
            )
            for stage in look.stages
        },
    )
