"""Values that options take, and those they refuse as bad usage."""

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from running import Run

from lfvit_cli.console.options import exit_thresholds, positive_integers, sources_by_model

PROGRAM = """
import typer
from lfvit_cli.console.options import *
app = typer.Typer(rich_markup_mode=None)
@app.command()
def show(
    models: ModelsArgument = None, form: FormatOption = "table", output: OutputOption = Path("out"),
    data: DataOption = None, checkpoint: CheckpointOption = None, device: DeviceOption = "auto",
    dtype: DtypeOption = "float32", threads: ThreadsOption = None, seed: SeedOption = 0,
    exit_rate: ExitRateOption = 0.78, threshold: ThresholdsOption = None,
    criterion: CriterionOption = None, policy: PolicyOption = None, imports: ImportOption = None,
) -> None:
    print(models, form, output, data, checkpoint, device, dtype, threads, seed, exit_rate, threshold,
          criterion, policy, imports)
app()
"""


@settings(deadline=None)
@given(st.lists(st.integers(1, 10_000), min_size=1, unique=True))
def test_lists_of_numbers_read_back(numbers: list[int]) -> None:
    """Any list of positive integers is read as written."""
    assert positive_integers(",".join(map(str, numbers)), "--batch-size") == tuple(numbers)


def test_repeats_count_once() -> None:
    """A batch size given twice is measured once."""
    assert positive_integers("32, 1,32", "--batch-size") == (32, 1)


@pytest.mark.parametrize("text", ["", "0", "1,,2", "-1", "two", "1.5", "²"])
def test_no_list_of_positive_integers(text: str) -> None:
    """Anything else is bad usage."""
    with pytest.raises(typer.BadParameter, match="positive integers"):
        positive_integers(text, "--batch-size")


def test_defaults_and_given_values_arrive(run_python: Run) -> None:
    """Every shared option reaches the command, by default and as given."""
    done = run_python("-c", PROGRAM)
    assert done.stdout == "None table out None None auto float32 None 0 0.78 None None None None\n"
    done = run_python("-c", PROGRAM, "a", "b", "--format", "json", "--threads", "2", "--exit-rate", "1", "-o", "here")
    assert done.stdout == "['a', 'b'] json here None None auto float32 2 0 1.0 None None None None\n"


@pytest.mark.parametrize(
    ("option", "value"),
    [("--exit-rate", "1.1"), ("--format", "xml"), ("--dtype", "int8"), ("--threads", "0")],
)
def test_wrong_values_are_bad_usage(run_python: Run, option: str, value: str) -> None:
    """A value outside the allowed ones ends with exit code 2 and the option's name."""
    done = run_python("-c", PROGRAM, option, value)
    assert done.returncode == 2
    assert option in done.stderr
    assert "Traceback" not in done.stderr


def test_a_source_goes_to_the_model_it_names_or_to_the_first() -> None:
    """Also where the model's own keywords hold an equals sign, and where the file's name does."""
    models = ("net:size=9", "other")
    assert sources_by_model(["net:size=9=a.pth", "other=b=c.pth"], models, "--x") == {
        "net:size=9": "a.pth",
        "other": "b=c.pth",
    }
    assert sources_by_model(["run=3.pth"], models, "--x") == {"net:size=9": "run=3.pth"}


def test_two_sources_for_one_model_are_bad_usage() -> None:
    """Rather than one of them silently winning."""
    with pytest.raises(typer.BadParameter, match="MODEL=SOURCE"):
        sources_by_model(["a.pth", "b.pth"], ("net",), "--x")


def test_thresholds_are_one_number_or_one_for_each_exit() -> None:
    """In the order given, repeats kept: each is of its own stage."""
    assert exit_thresholds("0.76", "--threshold") == (0.76,)
    assert exit_thresholds("0.7, 0.7,2.3", "--threshold") == (0.7, 0.7, 2.3)


@pytest.mark.parametrize("text", ["", "x", "-0.1", "nan", "inf", "0.5,,0.6"])
def test_no_thresholds(text: str) -> None:
    """Bad usage, with an example."""
    with pytest.raises(typer.BadParameter, match=r"not a list of numbers such as 0\.76"):
        exit_thresholds(text, "--threshold")
