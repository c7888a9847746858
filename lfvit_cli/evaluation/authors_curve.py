"""The exit curve that a checkpoint's authors stored in it."""

from typing import Any, Literal

import numpy as np

from lfvit_cli.errors import MeasureError
from lfvit_cli.records import Facts, Record, capture_environment, command_line, now

STAGES = ("location", "focus")
CAVEAT = "the authors' own curve: its thresholds were chosen on the very images that it is reported on"
# The two units in which the counts are found lie far apart: 10^9 MACs, and MACs.
_LEAST_MACS = 1e6


class AuthorsPoint(Facts):
    """One point of the authors' curve.

    Attributes:
        threshold: None: the checkpoint does not tell.
        exit_rate: share of images that never reach the last stage, worked out from the MACs; None where those of the
            stages are unknown.
        top1: share answered correctly, 0..1.
        macs: expected MACs of one image, as the authors count them.
    """

    threshold: None = None
    exit_rate: float | None
    top1: float
    macs: float


class AuthorsCurve(Facts):
    """What the authors of a checkpoint report of its early exit; nothing of it is measured here.

    Attributes:
        name: of the checkpoint's file, without its ending.
        file: the checkpoint, as given.
        checkpoint_hash: SHA-256 of the file.
        curve: from the cheapest point.
        reference_curves: `location_only` and `focus_only`, a point each; empty where the checkpoint lacks them.
    """

    name: str
    file: str
    checkpoint_hash: str
    curve: tuple[AuthorsPoint, ...]
    reference_curves: dict[str, tuple[AuthorsPoint, ...]]


class AuthorsSettings(Facts):
    """Nothing is set: the numbers are read."""


class AuthorsCurveRecord(AuthorsCurve, Record):
    """The curves of one or more checkpoints, where no predictions were given.

    Attributes:
        operating_points: none, since a threshold would have to be chosen on other images.
        others: the curves of further checkpoints.
    """

    kind: Literal["authors_curve"] = "authors_curve"
    schema_version: Literal[1] = 1
    settings: AuthorsSettings
    operating_points: tuple[AuthorsPoint, ...] = ()
    others: tuple[AuthorsCurve, ...]


def authors_record(curves: "list[AuthorsCurve]") -> AuthorsCurveRecord:
    """Put the circumstances of this process to one or more curves; the first is the record's own."""
    first, *others = curves
    return AuthorsCurveRecord(
        **dict(first),
        created=now(),
        command=command_line(),
        environment=capture_environment(),
        settings=AuthorsSettings(),
        warnings=tuple(f"{curve.name}: {CAVEAT}" for curve in curves),
        others=tuple(others),
    )


def read_authors_curve(source: str) -> AuthorsCurve:
    """Read the curve from a checkpoint; PyTorch is imported.

    Args:
        source: a `.pth` file or `hf-hub:OWNER/NAME`, with `budgeted_batch_classification` (GMACs or MACs, and top-1),
            and for the stages alone `flops` and `anytime_classification`.

    Raises:
        MeasureError: it carries no such curve, or one that cannot be read.
        CheckpointError: it cannot be read at all.
    """
    from lfvit_cli.networks.checkpoint_files import file_sha256, read_checkpoint

    checkpoint = read_checkpoint(source)
    if "budgeted_batch_classification" not in checkpoint.records:
        remedy = f"Evaluate it: lfvit sweep-threshold MODEL --checkpoint {source}."
        raise MeasureError(f"checkpoint {source} carries no curve of its authors", remedy)
    macs, top1 = _pairs(checkpoint.records["budgeted_batch_classification"], source)
    stages = [checkpoint.records.get(name) for name in ("flops", "anytime_classification")]
    stage_macs, stage_top1 = ((), ()) if None in stages else _pairs(stages, source)
    if len(stage_macs) != len(STAGES):
        stage_macs, stage_top1 = (), ()
    points = sorted(zip(macs, top1, strict=True))
    alone = zip(STAGES, stage_macs, stage_top1, strict=False)
    return AuthorsCurve(
        name=checkpoint.path.stem,
        file=source,
        checkpoint_hash=file_sha256(checkpoint.path),
        curve=tuple(_point(cost, right, stage_macs) for cost, right in points),
        reference_curves={f"{stage}_only": (_point(cost, right, stage_macs),) for stage, cost, right in alone},
    )


def _pairs(value: Any, source: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Take a list of costs and a list of accuracies, in whichever of their units, as MACs and shares."""
    try:
        macs, top1 = np.asarray([[float(each) for each in row] for row in value])
    except (TypeError, ValueError) as error:
        raise _unreadable(source) from error
    if macs.max(initial=0.0) < _LEAST_MACS:
        macs = macs * 1e9
    if top1.max(initial=0.0) > 1:
        top1 = top1 / 100
    # Written so that a NaN, which compares as false, counts as outside.
    if not (len(macs) and (macs > 0).all() and np.isfinite(macs).all() and ((top1 >= 0) & (top1 <= 1)).all()):
        raise _unreadable(source)
    return tuple(macs.tolist()), tuple(top1.tolist())


def _unreadable(source: str) -> MeasureError:
    problem = f"the curve in checkpoint {source} is not a list of positive MACs and one of accuracies"
    return MeasureError(problem, "Evaluate the checkpoint instead: lfvit sweep-threshold MODEL --checkpoint FILE.")


def _point(macs: float, top1: float, stage_macs: tuple[float, ...]) -> AuthorsPoint:
    if not stage_macs or stage_macs[0] >= stage_macs[-1]:
        return AuthorsPoint(exit_rate=None, top1=top1, macs=macs)
    rate = (stage_macs[-1] - macs) / (stage_macs[-1] - stage_macs[0])
    return AuthorsPoint(exit_rate=min(1.0, max(0.0, rate)), top1=top1, macs=macs)
