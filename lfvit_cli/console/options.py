"""The options that several commands share, ready for a command's signature."""

import math
from pathlib import Path
from typing import Annotated, Literal

import typer

from lfvit_cli.console.tables import Format

Dtype = Literal["float32", "bfloat16", "float16"]

MOST_THREADS, MOST_IMAGES = 4096, 10**6

MODEL_SYNTAX = "NAME[:key=value,...]"


def complete_model(incomplete: str) -> list[str]:
    """Names of networks for the shell, from the generated file."""
    from lfvit_cli.catalogue import complete

    return complete(incomplete)


ModelsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="MODEL", help=f"Networks, each as {MODEL_SYNTAX}.", autocompletion=complete_model),
]
ImportOption = Annotated[
    list[str] | None,
    typer.Option("--import", metavar="FILE_OR_MODULE", help="Python code that adds networks; may be repeated."),
]
FormatOption = Annotated[Format, typer.Option("--format", help="How to print the answer.")]
OutputOption = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the results.")]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Folder of classes or of images, or grocery. [default: photos that come with lfvit]",
    ),
]
CheckpointOption = Annotated[
    str | None,
    typer.Option("--checkpoint", metavar="SOURCE", help="A .pth or .safetensors file, or hf-hub:OWNER/NAME."),
]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="DEVICE", help="cpu, cuda, cuda:N, mps, or auto for the best there is.")
]
DtypeOption = Annotated[Dtype, typer.Option("--dtype", help="Number type the networks run in.")]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", min=1, max=MOST_THREADS, help="CPU threads. [default: as many as PyTorch chooses]"),
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Seed of everything drawn at random.")]
ExitRateOption = Annotated[
    float, typer.Option("--exit-rate", min=0.0, max=1.0, help="Share of images that exit early, 0 to 1.")
]
ThresholdsOption = Annotated[
    str | None,
    typer.Option(
        "--threshold",
        metavar="X[,X...]",
        help="Exit threshold: one for all stages, or one for each but the last. Confidence and margin exit at or above "
        "it, entropies below it.",
    ),
]
CriterionOption = Annotated[
    Literal["confidence", "margin", "entropy", "top10-entropy"] | None,
    typer.Option("--criterion", help="What the threshold is compared with. [default: the method's own]"),
]
PolicyOption = Annotated[
    list[str] | None,
    typer.Option("--policy", metavar="[MODEL=]FILE", help="Exit policy: a policy.json of lfvit sweep-threshold."),
]


def exit_thresholds(text: str, option: str) -> tuple[float, ...]:
    """Return the numbers of a list such as ``0.7,0.6``, in its order.

    Raises:
        typer.BadParameter: where a part is not a finite number of at least 0 (exit code 2).
    """
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = (math.nan,)
    if not all(0 <= number < math.inf for number in numbers):
        raise typer.BadParameter(f"{text!r} is not a list of numbers such as 0.76 or 0.7,0.6", param_hint=option)
    return numbers


def positive_integers(text: str, option: str) -> tuple[int, ...]:
    """Return the numbers of a list such as ``1,32,256``, at most a million each, in its order and without repeats.

    Args:
        text: Positive integers with commas between.
        option: The option that the text came with, such as ``--batch-size``.

    Raises:
        typer.BadParameter: where a part is not a positive integer (exit code 2).
    """
    numbers = tuple(int(part) if part.strip().isdecimal() and len(part) < 10 else 0 for part in text.split(","))
    if not all(1 <= number <= MOST_IMAGES for number in numbers):
        raise typer.BadParameter(f"{text!r} is not a list of positive integers such as 1,32,256", param_hint=option)
    return tuple(dict.fromkeys(numbers))


def shares(text: str, option: str) -> tuple[float, ...]:
    """Return the numbers of a list such as ``0,0.5,1``, each from 0 to 1, in its order and without repeats.

    Raises:
        typer.BadParameter: where a part is no such number (exit code 2).
    """
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = (math.nan,)
    # Written so that a NaN, which compares as false, is refused.
    if not all(0 <= number <= 1 for number in numbers):
        raise typer.BadParameter(f"{text!r} is not a list of numbers from 0 to 1 such as 0,0.5,1", param_hint=option)
    return tuple(dict.fromkeys(numbers))


def sources_by_model(given: list[str], models: tuple[str, ...], option: str) -> dict[str, str]:
    """Return ``[MODEL=]SOURCE`` options as a mapping; a bare SOURCE is for the first model.

    A model's own keywords hold ``=`` as well, so the models are looked for at the front.

    Raises:
        typer.BadParameter: Where two sources are for one model (exit code 2).
    """
    sources = {}
    for text in given:
        model = next((model for model in models if text.startswith(f"{model}=")), None)
        sources[model or models[0]] = text.removeprefix(f"{model}=")
    if len(sources) < len(given):
        raise typer.BadParameter("two sources are given for one model; write MODEL=SOURCE", param_hint=option)
    return sources
