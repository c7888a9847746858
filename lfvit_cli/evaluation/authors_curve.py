"""The exit curve that authors report of their network: stored in a checkpoint, or typed into a CSV file."""

import csv
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lfvit_cli.errors import MeasureError, first_line
from lfvit_cli.records import Facts, Record, capture_environment, command_line, now

if TYPE_CHECKING:
    import pandas as pd

STAGES = ("location", "focus")
CAVEAT = "its authors' own curve, not measured here: a threshold chosen on it is not tested on other images"
# The two units in which costs are found lie far apart: 10^9 MACs, and MACs.
_LEAST_MACS = 1e6

# What each fact may be called in a CSV file, the first one found being taken.
CSV_COLUMNS = {
    "top1": ("top1",),
    "macs": ("gmacs", "gmacs_recomputed", "gmacs_reported"),
    "threshold": ("threshold",),
    "exit_rate": ("exit_rate", "exit_rate_implied"),
}
_NEEDED = ("top1", "macs")
_LAYOUT = "Give the columns top1 and gmacs, and if known threshold and exit_rate, with a number in every row."


class AuthorsPoint(Facts):
    """One point of the authors' curve.

    Attributes:
        threshold: of the exit; None where it is not reported.
        exit_rate: share of images that never reach the last stage: as reported, or worked out from the MACs; None where
            neither is possible.
        top1: share answered correctly, 0..1.
        macs: expected MACs of one image, as the authors count them.
    """

    threshold: float | None = None
    exit_rate: float | None
    top1: float
    macs: float


class AuthorsCurve(Facts):
    """What authors report of their early exit; nothing of it is measured here.

    Attributes:
        name: of the file, without its ending.
        file: the checkpoint or CSV file, as given.
        sha256: of the file.
        curve: from the cheapest point.
        reference_curves: `location_only` and `focus_only`, a point each; empty where the file lacks them.
    """

    name: str
    file: str
    sha256: str
    curve: tuple[AuthorsPoint, ...]
    reference_curves: dict[str, tuple[AuthorsPoint, ...]]


class AuthorsSettings(Facts):
    """Nothing is set: the numbers are read."""


class AuthorsCurveRecord(AuthorsCurve, Record):
    """Curves that authors report, where no predictions were given.

    Attributes:
        operating_points: none, since a threshold would have to be chosen on other images.
        others: further curves.
    """

    kind: Literal["authors_curve"] = "authors_curve"
    schema_version: Literal[2] = 2
    settings: AuthorsSettings
    operating_points: tuple[AuthorsPoint, ...] = ()
    others: tuple[AuthorsCurve, ...]


def authors_record(curves: "list[AuthorsCurve]") -> AuthorsCurveRecord:
    """Add the circumstances of this process to one or more curves; the first becomes the record's own."""
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


def holds_curve(file: Path) -> bool:
    """Whether the header of a text file names the columns of a curve, and not those of predictions."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            header = next(csv.reader(lines), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return False
    names = {name.strip() for name in header}
    return not any(name.endswith("_prediction") for name in names) and all(
        names.intersection(CSV_COLUMNS[fact]) for fact in _NEEDED
    )


def read_curve_file(file: str) -> AuthorsCurve:
    """Read a curve from a CSV file with a row for each point, in any order.

    Args:
        file: with a column for ``top1`` (per cent, or shares) and one for ``gmacs`` per image (``gmacs_recomputed`` or
            ``gmacs_reported`` stand in for it), and optionally ``threshold`` and ``exit_rate`` (a share; or
            ``exit_rate_implied``). Other columns are ignored.

    Raises:
        MeasureError: it cannot be read, or holds something else.
    """
    table = _read_table(file)
    macs, top1 = _in_our_units(table["macs"].to_numpy(), table["top1"].to_numpy(), f"the curve in {file}", _LAYOUT)
    # Without NaN, which in these columns stands for a number that is not reported.
    rest = table.reindex(columns=["threshold", "exit_rate"]).astype(object)
    rest = rest.where(rest.notna(), None)
    points = [
        AuthorsPoint(macs=cost, top1=right, threshold=threshold, exit_rate=exit_rate)
        for cost, right, threshold, exit_rate in zip(macs, top1, rest["threshold"], rest["exit_rate"], strict=True)
    ]
    return AuthorsCurve(
        name=Path(file).stem,
        file=file,
        sha256=hashlib.sha256(Path(file).read_bytes()).hexdigest(),
        curve=tuple(sorted(points, key=lambda point: (point.macs, point.top1))),
        reference_curves={},
    )


def _read_table(file: str) -> "pd.DataFrame":
    """The columns of ``CSV_COLUMNS`` that a file has, as numbers."""
    import pandas as pd

    try:
        given = pd.read_csv(file, index_col=False, skipinitialspace=True, encoding="utf-8-sig").rename(
            columns=str.strip
        )
        found = {fact: next((name for name in names if name in given), None) for fact, names in CSV_COLUMNS.items()}
        table = pd.DataFrame({fact: given[name].astype(float) for fact, name in found.items() if name is not None})
    except (OSError, ValueError) as error:
        raise MeasureError(f"the curve in {file} cannot be read: {first_line(error)}", _LAYOUT) from error
    rates = table["exit_rate"].dropna() if "exit_rate" in table else pd.Series(dtype=float)
    if not rates.between(0, 1).all():
        raise MeasureError(f"the curve in {file} has exit rates outside 0 to 1", _LAYOUT)
    return table


def read_checkpoint_curve(source: str) -> AuthorsCurve:
    """Read the curve that a checkpoint carries; PyTorch is imported.

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
        sha256=file_sha256(checkpoint.path),
        curve=tuple(_point(cost, right, stage_macs) for cost, right in points),
        reference_curves={f"{stage}_only": (_point(cost, right, stage_macs),) for stage, cost, right in alone},
    )


def _pairs(value: Any, source: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Take a list of costs and a list of accuracies as MACs and shares."""
    what = f"the curve in checkpoint {source}"
    remedy = "Evaluate the checkpoint instead: lfvit sweep-threshold MODEL --checkpoint FILE."
    try:
        macs, top1 = np.asarray([[float(each) for each in row] for row in value])
    except (TypeError, ValueError) as error:
        raise MeasureError(f"{what} {_PROBLEM}", remedy) from error
    return _in_our_units(macs, top1, what, remedy)


_PROBLEM = "does not have a positive number of MACs and an accuracy for every point"


def _in_our_units(macs: Any, top1: Any, what: str, remedy: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Costs in MACs or GMACs as MACs, and accuracies in per cent or shares as shares."""
    macs = macs * 1e9 if macs.max(initial=0.0) < _LEAST_MACS else macs
    top1 = top1 / 100 if top1.max(initial=0.0) > 1 else top1
    # Written so that a NaN, which compares as false, counts as outside.
    if not (len(macs) and (macs > 0).all() and np.isfinite(macs).all() and ((top1 >= 0) & (top1 <= 1)).all()):
        raise MeasureError(f"{what} {_PROBLEM}", remedy)
    return tuple(macs.tolist()), tuple(top1.tolist())


def _point(macs: float, top1: float, stage_macs: tuple[float, ...]) -> AuthorsPoint:
    if not stage_macs or stage_macs[0] >= stage_macs[-1]:
        return AuthorsPoint(exit_rate=None, top1=top1, macs=macs)
    rate = (stage_macs[-1] - macs) / (stage_macs[-1] - stage_macs[0])
    return AuthorsPoint(exit_rate=min(1.0, max(0.0, rate)), top1=top1, macs=macs)
