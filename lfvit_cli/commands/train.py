"""`lfvit train`: a network of any family, on photos in class folders."""

import ast
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lfvit_cli.console import talk
from lfvit_cli.console.options import (
    MODEL_SYNTAX,
    MOST_THREADS,
    FormatOption,
    ImportOption,
    SeedOption,
    ThreadsOption,
    complete_model,
)
from lfvit_cli.console.progress import progress
from lfvit_cli.console.tables import show_table
from lfvit_cli.demo.grocery import resolve_data
from lfvit_cli.results.formats import count, fixed, scaled
from lfvit_cli.results.tables import Column, Table, as_csv

if TYPE_CHECKING:
    from lfvit_cli.training.job import TrainingJob
    from lfvit_cli.training.metrics import EpochMetrics
    from lfvit_cli.training.settings import Recipe, TrainSettings

RecipeName = Literal["demo", "deit"]
Precision = Literal["float32", "bfloat16", "float16"]
Device = Literal["auto", "cpu", "cuda", "mps"]

SHOWN = 3
# As in lfvit_cli.training.settings, which --help has no time to import.
MOST_EPOCHS, MOST_PHOTOS = 100_000, 65_536


def train(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help=f"The network, as {MODEL_SYNTAX}.", autocompletion=complete_model)
    ],
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="Folder of the splits, each of class folders, or grocery.")
    ],
    init: Annotated[
        str | None,
        typer.Option("--init", metavar="SOURCE", help="Starting weights: a timm name, a checkpoint, a DeiT backbone."),
    ] = None,
    teacher: Annotated[str | None, typer.Option("--teacher", metavar="MODEL", help="A network to learn from.")] = None,
    teacher_checkpoint: Annotated[
        str | None, typer.Option("--teacher-checkpoint", metavar="SOURCE", help="Its weights.")
    ] = None,
    recipe: Annotated[RecipeName, typer.Option("--recipe", help="A full set of hyperparameters.")] = "demo",
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, max=MOST_EPOCHS, help="Instead of the recipe's.")
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size", min=1, max=MOST_PHOTOS, help="Photos in a pass of one process, instead of the recipe's."
        ),
    ] = None,
    accumulate: Annotated[
        int | None, typer.Option("--accumulate", min=1, max=MOST_PHOTOS, help="Passes before each update.")
    ] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="Highest learning rate, whatever the batch size.")] = None,
    distillation: Annotated[
        Literal["none", "soft", "hard"] | None,
        typer.Option("--distillation", help="How the teacher's answers are learned from."),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any other hyperparameter, such as ema_decay=0.99."),
    ] = None,
    precision: Annotated[
        Precision, typer.Option("--precision", help="Of the passes; weights are float32.")
    ] = "bfloat16",
    device: Annotated[Device, typer.Option("--device", help="auto for the best there is.")] = "auto",
    threads: ThreadsOption = None,
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            min=0,
            max=MOST_THREADS,
            help="Processes that decode photos, where memory cannot hold them all.",
        ),
    ] = 4,
    seed: SeedOption = 0,
    train_split: Annotated[str, typer.Option("--train-split", help="Sub-folder to train on.")] = "train",
    validation_split: Annotated[
        str | None, typer.Option("--validation-split", help="Sub-folder to validate on. [default: val or validation]")
    ] = None,
    save_dtype: Annotated[
        Literal["float32", "float16"], typer.Option("--save-dtype", help="Number type of the final file.")
    ] = "float32",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Folder. [default: reports/train/MODEL]")
    ] = None,
    imports: ImportOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where this training stopped.")] = False,
    format: FormatOption = "table",  # noqa: A002
) -> None:
    """Train a network end to end, with the loss that its authors published, or else on all its stages.

    CF-ViT, DVT, DynamicViT, EViT, Evo-LeViT, Evo-ViT and LF-ViT have losses or schedules of their own. Any other
    network learns from the mean over its stages of the cross entropy, so that every exit learns. ToMe, ATS and DiffRate
    need no training: they run with the weights of a plain DeiT.

    The folder receives checkpoints, metrics.csv, training.png and, if TensorBoard is installed, events for it; in the
    end MODEL.safetensors, which every other command takes as --checkpoint. Ctrl-C saves first, and the same command
    with --resume goes on: as if it had not stopped, bit for bit, on a CPU with --threads 1; otherwise up to rounding,
    as several threads may add in another order each time.

    Several devices share the work: torchrun --nproc-per-node 2 -m lfvit_cli train ..., or accelerate launch -m.
    """
    named = {
        "epochs": epochs,
        "batch_size": batch_size,
        "accumulate": accumulate,
        "lr": lr,
        "distillation": distillation,
    }
    given = {name: value for name, value in named.items() if value is not None}
    whatever_the_batch: dict[str, Any] = {} if lr is None else {"lr_batch_size": None}
    hyperparameters = _recipe(recipe, given | whatever_the_batch | _changes(changes or []))

    from lfvit_cli.networks.plugins import load_methods
    from lfvit_cli.training.settings import TrainSettings

    with _told_once():
        added = load_methods(imports or [])
    settings = TrainSettings(
        model=model,
        imports=added,
        data=Path(resolve_data(str(data))).expanduser(),
        train_split=train_split,
        validation_split=validation_split,
        recipe=hyperparameters,
        init=init,
        teacher=teacher,
        teacher_checkpoint=teacher_checkpoint,
        precision=precision,
        device=device,
        seed=seed,
        threads=threads,
        workers=workers,
        save_dtype=save_dtype,
    )
    folder = output or Path("reports/train") / model.partition(":")[0]
    with _told_once():
        epochs_done = _train(settings, folder, resume)
    if epochs_done and _is_main():
        rows = [epoch.row() for epoch in epochs_done]
        show_table(Table(_columns(rows), rows, title=f"{model}, validation top-1"), format)


def _train(settings: "TrainSettings", folder: Path, resume: bool) -> "Sequence[EpochMetrics]":
    from lfvit_cli.files import prepare_folder
    from lfvit_cli.training.checkpoints import write_final
    from lfvit_cli.training.job import prepare
    from lfvit_cli.training.loop import find_start
    from lfvit_cli.training.loop import train as run

    prepare_folder(folder)
    find_start(folder, resume=resume)
    with _progress("Decoding") as report:
        job = prepare(settings, folder, report)
    _introduce(job)
    try:
        with _progress("Training") as report:
            epochs = run(job, resume=resume, report=report, on_epoch=lambda done: _save(settings.model, folder, done))
    except KeyboardInterrupt:
        if _is_main():
            talk.note("what is done is saved: the same command with --resume goes on from there")
        raise
    if _is_main():
        _save(settings.model, folder, epochs)
        talk.note(f"trained weights: {write_final(job, epochs[-1])}")
    return epochs


def _introduce(job: "TrainingJob") -> None:
    if not _is_main():
        return
    talk.note(f"{job.settings.model}: {job.initialisation}")
    talk.note(f"training: {job.loss}")
    photos = f"{len(job.train)} photos to train on, {len(job.validation)} to validate on"
    talk.note(
        f"{photos}; {job.updates_an_epoch} updates of {job.photos_an_update} an epoch, on {job.accelerator.device}"
    )
    for unreadable in job.unreadable[:SHOWN]:
        talk.warning(f"skipped: {unreadable}")
    if len(job.unreadable) > SHOWN:
        talk.warning(f"and {len(job.unreadable) - SHOWN} more photos that cannot be read")


def _save(model: str, folder: Path, epochs: "Sequence[EpochMetrics]") -> None:
    from lfvit_cli.figures.style import render
    from lfvit_cli.figures.training import draw_training
    from lfvit_cli.files import save_files

    rows = [epoch.row() for epoch in epochs]
    table = Table([Column(name, name) for name in rows[0]], rows)
    save_files(folder, {"metrics.csv": as_csv(table), "training.png": render(draw_training(model, epochs), "png")})


def _recipe(name: RecipeName, changes: dict[str, Any]) -> "Recipe":
    from pydantic import ValidationError

    from lfvit_cli.training.settings import RECIPES, Recipe

    try:
        return Recipe.model_validate(RECIPES[name].model_dump() | changes)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            names = ", ".join(Recipe.model_fields)
            raise typer.BadParameter(f"there is no hyperparameter {where!r}; there are {names}") from error
        raise typer.BadParameter(f"{where}={first['input']!r}: {first['msg']}") from error


def _changes(options: list[str]) -> dict[str, Any]:
    changes = {}
    for option in options:
        name, equals, text = option.partition("=")
        if not (name and equals and text):
            raise typer.BadParameter(f"{option!r} is not NAME=VALUE", param_hint="--set")
        try:
            changes[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            changes[name] = text
    return changes


@contextmanager
def _progress(task: str) -> "Iterator[Any]":
    """A bar in the main process, silence in the others."""
    if _is_main():
        with progress(task) as report:
            yield report
    else:
        yield lambda _done, _total, _message: None


@contextmanager
def _told_once() -> Iterator[None]:
    """Let only the main process tell what is wrong in all of them."""
    try:
        yield
    except ValueError as error:
        if _is_main() or not hasattr(error, "remedy"):
            raise
        raise typer.Exit(1) from error


def _is_main() -> bool:
    """Whether this is the main process, by what launchers say in the environment."""
    return os.environ.get("RANK", "0") == "0"


def _columns(rows: list[dict[str, float]]) -> list[Column]:
    stages = [name for name in rows[0] if name.endswith("_top1")]
    return [
        Column("epoch", "epoch", "", count, "right"),
        Column("loss", "loss", "", fixed(3), "right"),
        *(Column(name, name.removesuffix("_top1").replace("_", " "), "%", scaled(0.01, 2), "right") for name in stages),
        Column("seconds", "seconds", "", fixed(0), "right"),
    ]
