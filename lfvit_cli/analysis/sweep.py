"""Everything that predictions tables say about their early exits, as a record."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from lfvit_cli.analysis.breakdown import Calibration, ClassOutcome, calibration, class_outcomes
from lfvit_cli.analysis.exits import ExitCurve, exit_curve
from lfvit_cli.analysis.intervals import wilson
from lfvit_cli.analysis.operating_points import OperatingPoint, operating_points
from lfvit_cli.analysis.references import Area, ReferencePoint, area_under, reference_curves
from lfvit_cli.analysis.targets import Aim, Rule, Target
from lfvit_cli.evaluation.authors_curve import CAVEAT, AuthorsCurve
from lfvit_cli.evaluation.table import Predictions, PredictionsMetadata
from lfvit_cli.policies import Criterion, PolicyFile
from lfvit_cli.records import Facts, Record, capture_environment, command_line, now, recorded_path

DEFAULT_TARGETS = tuple(Target(aim=Aim.MAX_DROP, value=drop) for drop in (0.005, 0.01, 0.02))


class CurvePoint(Facts):
    """What one exit threshold gives over all images.

    Attributes:
        threshold: an image exits at or above this confidence or margin, or below this entropy. The point without exits
            has one that no image reaches: 2, or 0 for an entropy. With more than two stages, one for each but the last;
            with a single stage, None.
        exit_rate: share of images that never reach the last stage.
        top1: share answered correctly, with its 95 % Wilson interval.
        top5: share whose label is among the five most probable classes; None if unknown.
        macs: expected MACs of one image; None if unknown.
        macs_p95: the least MACs that cover 95 % of the images; None if unknown.
        harm_rate: share of images that the first stage has right and the answer has wrong.
        gain_rate: share of images that the first stage has wrong and the answer has right.
    """

    threshold: float | tuple[float, ...] | None
    exit_rate: float
    top1: float
    top1_low: float
    top1_high: float
    top5: float | None
    macs: float | None
    macs_p95: int | None
    harm_rate: float
    gain_rate: float


_NO_EXITS = "every network here has one stage: it is a point, and has no exits to choose a threshold for"
_CURVE = TypeAdapter(tuple[CurvePoint, ...])


class Sweep(Facts):
    """Everything that one predictions table says about its early exit.

    Attributes:
        name: the model, or the predictions file's name where the model is unknown.
        file: the predictions file, as given.
        images: number of images.
        source: circumstances of the predictions; null where unknown.
        criterion: what its exits are decided by.
        curve: a point for every distinct value of the criterion and one without exits; with more than two stages, the
            Pareto front.
        operating_points: thresholds chosen on one half of the images and reported on the other; none with one stage.
        reference_curves: `oracle`, `random`, and `{stage}_only`; straight between their points.
        area: area under the curve; None with one stage.
        calibration: confidence against accuracy, by stage.
        class_threshold: the threshold of the class table: that of the main operating point.
        classes: every class over all images, the greatest loss first.
    """

    name: str
    file: str
    images: int
    source: PredictionsMetadata
    criterion: Criterion
    curve: tuple[CurvePoint, ...]
    operating_points: tuple[OperatingPoint, ...]
    reference_curves: dict[str, tuple[ReferencePoint, ...]]
    area: Area | None
    calibration: tuple[Calibration, ...]
    class_threshold: float | tuple[float, ...] | None
    classes: tuple[ClassOutcome, ...]

    @property
    def main_point(self) -> OperatingPoint | None:
        """The operating point to show where there is room for one."""
        return _main(self.operating_points)


class SweepSettings(Facts):
    """What the numbers of a sweep depend on.

    Attributes:
        criterion: what exits are decided by; None for each network's own, which is the confidence where unknown.
        targets: what thresholds were chosen for.
        rule: how they were chosen.
        repeats: number of random splits into calibration and held-out half.
        seed: of the splits and of the bootstrap.
    """

    criterion: Criterion | None = None
    targets: tuple[Target, ...] = DEFAULT_TARGETS
    rule: Rule = Rule.CAUTIOUS
    repeats: int = 20
    seed: int = 0


class SweepRecord(Sweep, Record):
    """A sweep with its circumstances, and what it is compared with.

    Attributes:
        others: the sweeps of further predictions tables.
        authors: curves as the authors of other networks report them.
    """

    kind: Literal["sweep"] = "sweep"
    schema_version: Literal[2] = 2
    settings: SweepSettings
    others: tuple[Sweep, ...]
    authors: tuple[AuthorsCurve, ...] = ()


def sweep(
    predictions: Predictions,
    file: str,
    name: str,
    settings: SweepSettings,
    rivals: Mapping[str, Predictions] | None = None,
) -> Sweep:
    """Analyse one predictions table.

    Args:
        predictions: all labelled.
        file: where they come from, as given.
        name: what to call them.
        settings: what to choose thresholds for, and how.
        rivals: by name, networks of one stage to compare with; those about other images are left out.

    Raises:
        AnalysisError: a target cannot be reached, or the criterion's column is missing.
    """
    criterion = settings.criterion or predictions.metadata.criterion or Criterion.CONFIDENCE
    curve = exit_curve(predictions, criterion)
    references = reference_curves(predictions)
    staged = len(predictions.stages) > 1
    chosen = (
        operating_points(
            predictions,
            settings.targets,
            criterion,
            rule=settings.rule,
            repeats=settings.repeats,
            seed=settings.seed,
            rivals=_correct_about(predictions, rivals or {}),
        )
        if staged
        else ()
    )
    main = _main(chosen)
    thresholds = main.thresholds if main else tuple(float(value) for value in curve.thresholds[-1])
    return Sweep(
        name=name,
        file=recorded_path(file),
        images=len(predictions),
        source=predictions.metadata,
        criterion=criterion,
        curve=curve_points(curve),
        operating_points=chosen,
        reference_curves=references,
        area=area_under(curve, references["oracle"], references["random"]) if staged else None,
        calibration=calibration(predictions),
        class_threshold=single(thresholds),
        classes=class_outcomes(predictions, thresholds, criterion),
    )


def _correct_about(predictions: Predictions, rivals: Mapping[str, Predictions]) -> dict[str, NDArray[np.bool_]]:
    """For each rival that answered the same images, whether it is right about each, in the order of the table."""
    found = {}
    order = np.argsort(predictions.images)
    for name, rival in rivals.items():
        theirs = np.argsort(rival.images)
        if np.array_equal(predictions.images[order], rival.images[theirs]):
            right = np.empty(len(predictions), dtype=bool)
            (answers,) = rival.stages.values()
            right[order] = (answers.prediction == rival.labels)[theirs]
            found[name] = right
    return found


def sweep_record(sweeps: Sequence[Sweep], settings: SweepSettings, authors: Sequence[AuthorsCurve] = ()) -> SweepRecord:
    """Add the circumstances of this process to one or more sweeps; the first becomes the record's own."""
    first, *others = sweeps
    return SweepRecord(
        **dict(first),
        created=now(),
        command=command_line(),
        environment=capture_environment(),
        settings=settings,
        warnings=(
            *(warning for each in sweeps for warning in _warnings(each)),
            *(() if any(len(each.source.stages) > 1 for each in sweeps) else (_NO_EXITS,)),
            *(f"{curve.name}: {CAVEAT}" for curve in authors),
        ),
        others=tuple(others),
        authors=tuple(authors),
    )


def curve_points(curve: ExitCurve) -> tuple[CurvePoint, ...]:
    """Turn a curve into one object a threshold."""
    unknown = [None] * len(curve)
    low, high = wilson(curve.correct, curve.images)
    columns: dict[str, list[Any]] = {
        "threshold": [single(tuple(row)) for row in curve.thresholds.tolist()],
        "exit_rate": curve.exit_rate.tolist(),
        "top1": curve.top1.tolist(),
        "top1_low": low.tolist(),
        "top1_high": high.tolist(),
        "top5": unknown if curve.top5 is None else curve.top5.tolist(),
        "macs": unknown if curve.macs is None else curve.macs.tolist(),
        "macs_p95": unknown if curve.macs_p95 is None else curve.macs_p95.tolist(),
        "harm_rate": curve.harm_rate.tolist(),
        "gain_rate": curve.gain_rate.tolist(),
    }
    rows = zip(*columns.values(), strict=True)
    return _CURVE.validate_python([dict(zip(columns, row, strict=True)) for row in rows])


def policy_of(each: Sweep, point: OperatingPoint) -> PolicyFile:
    """The exit policy of an operating point, as every command reads it."""
    return PolicyFile(
        model=each.source.model,
        stages=each.source.stages,
        criterion=each.criterion,
        thresholds=point.thresholds,
        target=point.target.words,
        certified=point.certified,
    )


def single(thresholds: tuple[float, ...]) -> float | tuple[float, ...] | None:
    """Return the threshold of two stages as a number, those of more as they are, and None for one stage."""
    if len(thresholds) > 1:
        return thresholds
    return thresholds[0] if thresholds else None


def _main(points: Sequence[OperatingPoint]) -> OperatingPoint | None:
    """Return the first certified operating point, or the first."""
    return next((point for point in points if point.certified), points[0] if points else None)


def _warnings(each: Sweep) -> list[str]:
    said = []
    if each.source.macs is None:
        said.append(f"{each.name}: the MACs are unknown; give them with --macs")
    if each.source.trained is False:
        said.append(f"{each.name}: the weights are untrained, so its accuracy means nothing")
    return said
