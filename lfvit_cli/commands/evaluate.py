"""`lfvit evaluate`: what every stage of a network answers for every image."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lfvit_cli.console import talk
from lfvit_cli.console.errors import FAILED, INTERRUPTED
from lfvit_cli.console.options import (
    MODEL_SYNTAX,
    MOST_IMAGES,
    CheckpointOption,
    CriterionOption,
    DeviceOption,
    DtypeOption,
    FormatOption,
    ImportOption,
    PolicyOption,
    SeedOption,
    ThreadsOption,
    ThresholdsOption,
    exit_thresholds,
    sources_by_model,
)
from lfvit_cli.console.progress import progress
from lfvit_cli.console.tables import show_table
from lfvit_cli.demo.grocery import NAME, judged_split, resolve_data
from lfvit_cli.demo.suite import with_demo_weights
from lfvit_cli.results.formats import count, scaled
from lfvit_cli.results.tables import Column, Table

if TYPE_CHECKING:
    from lfvit_cli.evaluation.job import EvaluationJob, EvaluationSettings
    from lfvit_cli.evaluation.run import Evaluation
    from lfvit_cli.policies import ExitPolicy

    Choose = Callable[[Sequence[str]], ExitPolicy]

Interpolation = Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"]

SHOWN = 3


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=f"The network, as {MODEL_SYNTAX}.")],
    checkpoint: CheckpointOption = None,
    data: Annotated[
        str,
        typer.Option(
            "--data",
            metavar="DATA",
            help="Folder of class folders or of images, grocery, or wds/FOLDER, hfds/NAME, tfds/NAME, torch/NAME.",
        ),
    ] = NAME,
    data_root: Annotated[
        Path | None, typer.Option("--data-root", metavar="DIR", help="Where a wds/, tfds/ or torch/ data set lies.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split", help="Sub-folder, or split of a data set. [default: val or validation; test of grocery]"
        ),
    ] = None,
    class_map: Annotated[
        Path | None,
        typer.Option("--class-map", metavar="FILE", help="One class folder a line, or JSON {class folder: index}."),
    ] = None,
    crop_pct: Annotated[
        float | None,
        typer.Option("--crop-pct", min=0.01, max=1.0, help="Side of the crop divided by the resized short side."),
    ] = None,
    interpolation: Annotated[
        Interpolation | None, typer.Option("--interpolation", help="Interpolation of the resize.")
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option("--mean", metavar="R,G,B", help="Subtracted from each channel, whose values are 0 to 1."),
    ] = None,
    std: Annotated[str | None, typer.Option("--std", metavar="R,G,B", help="Divides each channel.")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, max=MOST_IMAGES, help="Images per batch.")] = 64,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "float32",
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", min=0, help="Processes that decode; 0 decodes in this one. [default: one per core, at most 8]"
        ),
    ] = None,
    threads: ThreadsOption = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Maximum number of images, spread over the classes.")
    ] = None,
    seed: SeedOption = 0,
    logits: Annotated[bool, typer.Option("--logits", help="Also keep the logits, as float16.")] = False,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="PATH", help="Folder for the predictions, or a .parquet file.")
    ] = Path("reports/predictions"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over, and replace what is there.")] = False,
    imports: ImportOption = None,
    threshold: ThresholdsOption = None,
    criterion: CriterionOption = None,
    policy: PolicyOption = None,
    form: FormatOption = "table",
) -> None:
    """Run every stage on every image once, and keep what each answers in a predictions file.

    Everything else about early exits is worked out from that file: by lfvit sweep-threshold, or here for one policy
    by --policy, --threshold or --criterion. The same command continues an interrupted evaluation, and reuses a
    finished one.

    Several devices share the work: torchrun --nproc-per-node 2 -m lfvit_cli evaluate ..., or accelerate launch -m.
    """
    from lfvit_cli.evaluation.job import EvaluationSettings
    from lfvit_cli.networks.build import require_known
    from lfvit_cli.networks.plugins import load_methods

    imported = load_methods(imports or [])
    require_known(model)
    changes = {"crop_pct": crop_pct, "interpolation": interpolation, "mean": _channels(mean, "--mean")}
    changes["std"] = _channels(std, "--std", positive=True)
    settings = EvaluationSettings(
        model=model,
        imports=imported,
        checkpoint=checkpoint or with_demo_weights([model], {}, data).get(model),
        data=resolve_data(data),
        data_root=data_root,
        split=judged_split(data, split),
        class_map=class_map,
        transform={name: value for name, value in changes.items() if value is not None},
        batch_size=batch_size,
        device=device,
        dtype=dtype,
        workers=workers,
        threads=threads,
        limit=limit,
        seed=seed,
        logits=logits,
    )
    choose = _policy_asked(model, threshold, criterion, policy or [])
    evaluation = evaluate_talking(settings, output, fresh, choose)
    if evaluation is not None:
        rows = summary(evaluation)
        if choose is not None:
            rows.append(under_policy(evaluation, choose(evaluation.predictions.metadata.stages)))
        columns = COLUMNS if choose is None else (*COLUMNS[:-1], *POLICY_COLUMNS, COLUMNS[-1])
        show_table(Table(columns, rows, title=f"{model}, {len(evaluation.predictions)} images"), form)


def _policy_asked(model: str, thresholds: str | None, criterion: str | None, files: list[str]) -> "Choose | None":
    """A function from the names of the stages to the policy that was asked for; None where none was."""
    if files and (thresholds, criterion) != (None, None):
        raise typer.BadParameter("goes without --threshold and --criterion", param_hint="--policy")
    if not files and thresholds is None and criterion is None:
        return None
    from lfvit_cli.networks.choosing import chosen_policy

    numbers = None if thresholds is None else exit_thresholds(thresholds, "--threshold")
    file = sources_by_model(files, (model,), "--policy").get(model)
    path = None if file is None else Path(file)
    chosen_policy(model, None, numbers, criterion, path)  # so that a mistake is told before the network is built
    return partial(chosen_policy, model, thresholds=numbers, criterion=criterion, policy_file=path)


def under_policy(evaluation: "Evaluation", policy: "ExitPolicy") -> dict[str, Any]:
    """A row for the early exit as a whole, worked out from the answers of all stages.

    Args:
        evaluation: finished.
        policy: with a threshold for every stage but the last.
    """
    import numpy as np

    from lfvit_cli.analysis.exits import simulate

    predictions = evaluation.predictions
    known, answers = predictions.labels >= 0, list(predictions.stages.values())
    outcome = simulate(predictions, policy.thresholds, policy.criterion)
    hits = [each.top5 for each in answers if each.top5 is not None]
    told = known.any() and len(hits) == len(answers)
    return {
        **summary(evaluation)[-1],
        "stage": str(policy),
        "criterion": str(policy.criterion),
        "thresholds": list(policy.thresholds),
        "top1": float(outcome.correct[known].mean()) if known.any() else None,
        "top5": float(np.stack(hits)[outcome.stage, np.arange(len(known))][known].mean()) if told else None,
        "macs": None,
        "answered": np.bincount(outcome.stage, minlength=len(answers)).tolist(),
        "expected_macs": None if outcome.macs is None else float(outcome.macs.mean()),
    }


def evaluate_talking(
    settings: "EvaluationSettings", output: Path, fresh: bool, check: "Choose | None" = None
) -> "Evaluation | None":
    """Evaluate with talk and a progress bar; None in a process that leaves both to the main one.

    Args:
        settings: what to evaluate, and how.
        output: a folder, or a ``.parquet`` file.
        fresh: begin anew.
        check: called with the names of the stages before anything is written; it may raise.
    """
    from lfvit_cli.errors import AlreadyTold
    from lfvit_cli.evaluation.job import prepare

    try:
        job = prepare(settings, output, fresh=fresh, check=check)
        if not job.processes.is_main:
            _assist(job)
            return None
        _introduce(job)
        evaluation = _run(job)
    except AlreadyTold as error:
        raise typer.Exit(FAILED) from error
    _conclude(job, evaluation)
    return evaluation


def _run(job: "EvaluationJob") -> "Evaluation":
    from lfvit_cli.evaluation.run import run

    try:
        with progress("Evaluating") as report:
            return run(job, report)
    except KeyboardInterrupt:
        talk.note("what is done is saved: the same command goes on from there")
        raise


def _assist(job: "EvaluationJob") -> None:
    """Do this process's share, and leave the talk to the main one."""
    from lfvit_cli.evaluation.run import run

    try:
        run(job, lambda *_: None)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def _introduce(job: "EvaluationJob") -> None:
    for warning in job.warnings:
        talk.warning(warning)
    if job.finished is not None:
        talk.note(f"this evaluation is already done: reusing {job.path}")
    elif job.done:
        talk.note(f"continuing where an earlier run stopped: {job.done} of {len(job.source)} images are done")


def _conclude(job: "EvaluationJob", evaluation: "Evaluation") -> None:
    if evaluation.skipped:
        named = "; ".join(photo.reason for photo in evaluation.unreadable[:SHOWN])
        more = f"; and {len(evaluation.unreadable) - SHOWN} more" if len(evaluation.unreadable) > SHOWN else ""
        which = f": {named}{more}" if named else ""
        talk.warning(f"{evaluation.skipped} of {len(job.source)} images could not be read and were skipped{which}")
    if job.finished is None:
        talk.note(f"predictions: {evaluation.path}")


def summary(evaluation: "Evaluation") -> list[dict[str, Any]]:
    """A row a stage: how often it is right, among the labelled images, and the MACs it adds."""
    predictions = evaluation.predictions
    known = predictions.labels >= 0
    macs = predictions.metadata.macs or (None,) * len(predictions.stages)
    rows = []
    for (stage, answers), added in zip(predictions.stages.items(), macs, strict=True):
        right = (answers.prediction == predictions.labels)[known]
        rows.append(
            {
                "model": predictions.metadata.model,
                "stage": stage,
                "images": len(predictions),
                "labelled": int(known.sum()),
                "skipped": evaluation.skipped,
                "top1": float(right.mean()) if known.any() else None,
                "top5": None if answers.top5 is None or not known.any() else float(answers.top5[known].mean()),
                "macs": added,
                "trained": predictions.metadata.trained,
                "file": str(evaluation.path),
            }
        )
    return rows


def _channels(text: str | None, option: str, *, positive: bool = False) -> tuple[float, ...] | None:
    """Three numbers such as ``0.5,0.5,0.5``."""
    if text is None:
        return None
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    finite = all(abs(number) < float("inf") and (number > 0 or not positive) for number in numbers)
    if len(numbers) != 3 or not finite:
        kind = "three positive numbers" if positive else "three numbers"
        raise typer.BadParameter(f"{text!r} is not {kind} such as 0.5,0.5,0.5", param_hint=option)
    return numbers


POLICY_COLUMNS = (
    Column("answered", "answered by stage", format=lambda counts: " / ".join(map(str, counts)), justify="right"),
    Column("expected_macs", "GMACs expected", "", scaled(1e9, 3), "right"),
)
COLUMNS = (
    Column("stage", "stage"),
    Column("labelled", "labelled", "", count, "right"),
    Column("top1", "top-1", "%", scaled(0.01, 2), "right"),
    Column("top5", "top-5", "%", scaled(0.01, 2), "right"),
    Column("macs", "GMACs added", "", scaled(1e9, 3), "right"),
    Column("trained", "trained", format=lambda value: "yes" if value else "no"),
)
