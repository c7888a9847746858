"""A sweep as people read it: the table of operating points, and the report."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from lfvit_cli.results.formats import count, fixed, scaled
from lfvit_cli.results.markdown import as_markdown
from lfvit_cli.results.tables import Column, Table

if TYPE_CHECKING:
    from lfvit_cli.analysis.intervals import Estimate
    from lfvit_cli.analysis.operating_points import OperatingPoint, Spread
    from lfvit_cli.analysis.sweep import Sweep, SweepRecord

UNKNOWN = "unknown"
WORST_CLASSES = 10
_METHOD = """\
Each threshold was chosen on one half of the images and is reported on the other half, with 95 % intervals: Wilson's for
shares, bootstrap for costs, paired bootstrap for the difference to the last stage. Of {splits} random splits, each
stratified by class, the one with the median threshold is shown.
"""
_CAUTIOUS = """\
The choice is cautious: thresholds are tested from the safe end (no exits; for a cost, all exits) up to the first that
fails its test at 5 %, and the best of those that pass is certified: at most one in twenty such choices misses its aim
on further images like these (fixed-sequence testing, as in Learn then Test, Angelopoulos et al., 2021). Where the
images are too few to certify any, the threshold is marked * and is the best by the estimate alone, which misses its aim
about as often as not. An aim is met where the threshold is certified and the held-out estimate agrees, or where the
held-out interval lies within the aim; it is missed where that interval lies beyond it.
"""
# Sides of an interval that differ by more than this share are shown apart; otherwise the wider stands for both.
_UNEVEN = 0.2
_ANSWERS = {"met": "yes", "missed": "no", "undecided": "cannot tell"}


def operating_table(record: "SweepRecord") -> Table:
    """Return the operating points, and what each stage reaches alone, with 95 % intervals."""
    columns = [
        Column("aim", "aim"),
        Column("threshold", "threshold", format=_choice, justify="right"),
        Column("exit_rate", "exit rate", "%", _interval(0.01, 1), "right"),
        Column("top1", "top-1", "%", _interval(0.01, 1), "right"),
        Column("difference", "against last stage", "points", _interval(0.01, 1, signed=True), "right"),
        Column("macs", "expected", "GMACs", _interval(1e9, 2), "right"),
        Column("verdict", "aim met", format=lambda verdict: _ANSWERS[verdict]),
    ]
    sweeps = (record, *record.others)
    if any(sweep.criterion != "confidence" and sweep.operating_points for sweep in sweeps):
        columns.insert(1, Column("criterion", "criterion"))
    if record.others:
        columns.insert(0, Column("model", "model"))
    rows = [row for sweep in sweeps for row in _operating_rows(sweep)]
    return Table(columns, rows)


def doubts(record: "SweepRecord") -> list[str]:
    """Return, for each operating point, what the images are too few to certify or to decide."""
    said = []
    for sweep in (record, *record.others):
        for point in sweep.operating_points:
            subject = f"{sweep.name}, {point.target.words}"
            if _fell_back(point):
                calibration = sweep.images - point.images
                said.append(f"{subject}: {calibration:,} calibration images are too few to certify any threshold")
            if point.verdict == "undecided":
                question = _open_question(point)
                said.append(f"{subject}: {point.images:,} held-out images do not show whether it is met ({question})")
    return said


def conclusions(record: "SweepRecord") -> list[str]:
    """Return, for each network with exits, whether they pay against its own last stage and against each rival."""
    sweeps = {sweep.name: sweep for sweep in (record, *record.others)}
    said = []
    for sweep in sweeps.values():
        point = sweep.main_point
        if point is None or point.macs is None or sweep.source.macs is None:
            continue
        rivals = [("its own last stage", sum(sweep.source.macs), point.difference)]
        rivals += [
            (name, sum(macs), difference)
            for name, difference in point.against.items()
            if (macs := sweeps[name].source.macs) is not None
        ]
        said += [f"{sweep.name}, {point.target.words}: {_conclusion(point.macs.value, *each)}" for each in rivals]
    return said


def _conclusion(macs: float, name: str, theirs: float, difference: "Estimate") -> str:
    """One sentence on the early exit beside one alternative, on the held-out images."""
    cheaper, less, more = macs < theirs, difference.high < 0, difference.low > 0
    if cheaper:
        verdict = "is cheaper and less accurate" if less else "pays"
    else:
        verdict = "is dearer and more accurate" if more else "does not pay"
    points = _interval(0.01, 1, signed=True)(difference.model_dump())
    cost = f"{macs / 1e9:.2f} GMACs to {theirs / 1e9:.2f}"
    return f"against {name} the early exit {verdict} ({cost}, {points} points of top-1)."


def has_fallen_back(record: "SweepRecord") -> bool:
    """Whether some threshold was chosen by the estimate alone, although a certificate was asked for."""
    return any(_fell_back(point) for sweep in (record, *record.others) for point in sweep.operating_points)


def _fell_back(point: "OperatingPoint") -> bool:
    return point.certified_splits is not None and not point.certified


def report(record: "SweepRecord") -> str:
    """Return the record as a page of Markdown, beside which the figures lie."""
    sweeps = [record, *record.others]
    parts = [
        f"# Exit thresholds: {', '.join(sweep.name for sweep in sweeps)}\n",
        "![Accuracy against cost](curve.png)\n",
        "## Operating points\n",
        _METHOD.format(splits=record.settings.repeats),
        _CAUTIOUS if record.settings.rule == "cautious" else "",
        as_markdown(operating_table(record)),
        *(f"{sentence}\n" for sentence in conclusions(record)),
        _bullets([*doubts(record), *record.warnings]),
        *(_sweep_section(sweep) for sweep in sweeps),
        "## Circumstances\n",
        *(_source_table(sweep) for sweep in sweeps),
        _closing(record),
    ]
    return "\n".join(part for part in parts if part)


def _bullets(texts: Iterable[str]) -> str:
    return "".join(f"- {text}.\n" for text in texts)


def _closing(record: "SweepRecord") -> str:
    version = record.environment.packages["lfvit"] or UNKNOWN
    return (
        f"Analysed {record.created:%Y-%m-%d %H:%M} UTC with seed {record.settings.seed}, lfvit {version}, "
        f"Python {record.environment.python}, {record.environment.system}.\n"
    )


def _operating_rows(sweep: "Sweep") -> list[dict[str, Any]]:
    chosen: list[dict[str, Any]] = [
        {
            "model": sweep.name,
            "aim": point.target.words,
            "criterion": str(sweep.criterion),
            "threshold": {
                "value": point.thresholds[0] if len(point.thresholds) == 1 else list(point.thresholds),
                "certified": point.certified,
                "marked": _fell_back(point),
                "no_exit": sweep.criterion.no_exit,
            },
            "exit_rate": point.exit_rate.model_dump(),
            "top1": point.top1.model_dump(),
            "difference": point.difference.model_dump(),
            "macs": None if point.macs is None else point.macs.model_dump(),
            "verdict": str(point.verdict),
        }
        for point in sweep.operating_points
    ]
    last = sweep.reference_curves[f"{sweep.source.stages[-1]}_only"][0]
    for stage in sweep.source.stages:
        (point,) = sweep.reference_curves[f"{stage}_only"]
        chosen.append(
            {
                "model": sweep.name,
                "aim": f"{stage} only",
                "exit_rate": {"value": point.exit_rate},
                "top1": {"value": point.top1},
                "difference": {"value": point.top1 - last.top1},
                "macs": None if point.macs is None else {"value": point.macs},
            }
        )
    return chosen


def _open_question(point: "OperatingPoint") -> str:
    """Return the interval that leaves the target undecided, in the target's unit."""
    match point.target.aim:
        case "budget" if point.macs is not None:
            return f"{_range(point.macs, 1e9, 2)} GMACs"
        case "max_drop":
            return f"a change of {_range(point.difference, 0.01, 1, signed=True)} points"
        case "min_accuracy":
            return f"top-1 {_range(point.top1, 0.01, 1)} %"
        case _:
            return f"exit rate {_range(point.exit_rate, 0.01, 1)} %"


def _range(estimate: "Estimate", factor: float, digits: int, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{estimate.low / factor:{sign}.{digits}f} to {estimate.high / factor:{sign}.{digits}f}"


def _sweep_section(sweep: "Sweep") -> str:
    lines = [f"## {sweep.name}\n", _bullets(_split_sentence(point) for point in sweep.operating_points)]
    if sweep.area is not None:
        share = "" if sweep.area.share_of_oracle is None else f": {100 * sweep.area.share_of_oracle:.0f} % of the way"
        lines.append(
            f"Area under the curve (mean top-1 over all budgets between the first stage and all stages): "
            f"{100 * sweep.area.curve:.2f} %, between random exits ({100 * sweep.area.random:.2f} %) and the oracle "
            f"({100 * sweep.area.oracle:.2f} %){share}.\n"
        )
    lines += [f"### Confidence by stage\n\n{as_markdown(_calibration_table(sweep))}"]
    if len(sweep.source.stages) > 1:
        threshold = _threshold(_as_list(sweep.class_threshold), sweep.criterion.no_exit)
        lines.append(
            f"### Classes that lose most\n\nOver all images, at the {sweep.criterion} threshold {threshold}; "
            f"classes.csv has every class.\n\n"
            f"{as_markdown(_class_table(sweep))}"
        )
    return "\n".join(lines)


def _split_sentence(point: "OperatingPoint") -> str:
    thresholds = ", then ".join(_spread(each, 1, 3) for each in point.threshold_spread)
    parts = [
        f"{point.target.words}: met on the held-out half of {100 * point.met_splits:.0f} % of {point.splits} splits",
        f"threshold {thresholds}; top-1 {_spread(point.top1_spread, 0.01, 1)} %",
    ]
    if point.certified_splits is not None:
        parts.append(f"{100 * point.certified_splits:.0f} % of all splits certify a threshold")
    if point.reachable_splits < 1:
        parts.append(
            f"in {100 * (1 - point.reachable_splits):.0f} % of them no threshold met it on the calibration half"
        )
    return "; ".join(parts)


def _spread(spread: "Spread", factor: float, digits: int) -> str:
    return f"{spread.low / factor:.{digits}f} to {spread.high / factor:.{digits}f}"


def _calibration_table(sweep: "Sweep") -> Table:
    percent = scaled(0.01, 1)
    columns = [
        Column("stage", "stage"),
        Column("top1", "top-1", "%", percent, "right"),
        Column("confidence", "mean confidence", "%", percent, "right"),
        Column("ece", "calibration error", "points", percent, "right"),
        Column("auroc", "AUROC", format=fixed(3), justify="right"),
    ]
    return Table(columns, [stage.model_dump() for stage in sweep.calibration])


def _class_table(sweep: "Sweep") -> Table:
    percent = scaled(0.01, 1)
    columns = [
        Column("name", "class"),
        Column("images", "images", format=count, justify="right"),
        Column("exit_rate", "exit rate", "%", percent, "right"),
        Column("top1", "top-1", "%", percent, "right"),
        Column("top1_last", "last stage only", "%", percent, "right"),
        Column("change", "change", "points", lambda value: f"{100 * value:+.1f}", "right"),
    ]
    return Table(columns, [outcome.model_dump() for outcome in sweep.classes[:WORST_CLASSES]])


def _source_table(sweep: "Sweep") -> str:
    source = sweep.source
    macs = (
        None
        if source.macs is None
        else ", ".join(f"{stage} {macs / 1e9:.3f} G" for stage, macs in zip(source.stages, source.macs, strict=True))
    )
    facts = {
        "predictions": sweep.file,
        "model": source.model,
        "images": f"{sweep.images:,}",
        "MACs that each stage adds": macs,
        "weights": None if source.trained is None else "trained" if source.trained else "untrained",
        "checkpoint": source.checkpoint_hash,
        "data listing": source.listing_hash,
        "transform": source.transform_hash,
        "number type": source.dtype,
        "device": source.device,
    }
    rows = [{"fact": name, "value": value or UNKNOWN} for name, value in facts.items()]
    return as_markdown(Table([Column("fact", "circumstance"), Column("value", sweep.name)], rows))


def _interval(factor: float, digits: int, *, signed: bool = False) -> Any:
    """Return a format of an estimate: 78.1 ±0.5, and 2.0 (1.2 to 4.1) where the sides are far from equal."""
    sign = "+" if signed else ""

    def text(estimate: dict[str, float]) -> str:
        value = f"{estimate['value'] / factor:{sign}.{digits}f}"
        if "low" not in estimate:
            return value
        below, above = (abs(estimate[end] - estimate["value"]) / factor for end in ("low", "high"))
        if abs(below - above) <= max(10**-digits, _UNEVEN * max(below, above)):
            return f"{value} ±{max(below, above):.{digits}f}"
        return f"{value} ({estimate['low'] / factor:{sign}.{digits}f} to {estimate['high'] / factor:{sign}.{digits}f})"

    return text


def _choice(chosen: dict[str, Any]) -> str:
    """Return a threshold, marked where it could not be certified and the estimate alone chose it."""
    return ("* " if chosen["marked"] else "") + _threshold(_as_list(chosen["value"]), chosen["no_exit"])


def _threshold(thresholds: Iterable[float], no_exit: float) -> str:
    return ", ".join("none" if value == no_exit else f"{value:.4f}" for value in thresholds)


def _as_list(threshold: "float | Sequence[float] | None") -> list[float]:
    if threshold is None:
        return []
    return [threshold] if isinstance(threshold, float) else list(threshold)
