"""`lfvit flops` prints a row a stage, in every format, and refuses what it cannot count."""

import csv
import io
import json
from pathlib import Path

import pytest
from running import Run

NARROW = "lf_deit_tiny:embed_dim=48,num_heads=3,depth=4,num_classes=10"


def test_json_has_a_row_for_each_stage_of_the_four_small_networks(lfvit: Run) -> None:
    """Bare, with the keys that scripts rely on."""
    rows = json.loads(lfvit("flops", "--format", "json").stdout)
    assert [(row["model"], row["stage"]) for row in rows] == [
        ("lf_deit_small", "location"),
        ("lf_deit_small", "focus"),
        ("deit_small_patch16_224", "full"),
        ("dynamicvit_deit_small", "full"),
        ("evo_deit_small_patch16_224", "full"),
    ]
    assert {"model", "stage", "tokens", "macs", "params"} <= set(rows[0])
    assert rows[2]["macs"] == 4_608_338_304


def test_an_exit_rate_adds_what_the_early_exit_costs(lfvit: Run) -> None:
    """For networks with an exit only."""
    done = lfvit("flops", NARROW, "deit_tiny_patch16_224", "--exit-rate", "0.5", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["stage"] for row in rows] == ["location", "focus", "expected", "full"]
    location, focus, expected = (float(row["macs"]) for row in rows[:3])
    assert expected == round(location + 0.5 * focus)


def test_any_timm_classifier_can_be_counted(lfvit: Run) -> None:
    """A network without attention has no tokens."""
    (row,) = json.loads(lfvit("flops", "resnet18", "--format", "json").stdout)
    assert (row["stage"], row["tokens"]) == ("full", None)
    assert row["macs"] / 1e9 == pytest.approx(1.82, abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["lf_deit_smal"], 1, "Did you mean lf_deit_small"),
        (["lf_deit_small:alpa=1"], 1, "Did you mean alpha?"),
        (["lf_deit_small:region_size=8"], 1, "Give a region_size from 1 to 7."),
        (["lf_deit_small:alpha"], 1, "is not key=value"),
        (["deit_small_patch16_224", "--exit-rate", "1.5"], 2, "--exit-rate"),
        (["deit_small_patch16_224", "--format", "xml"], 2, "--format"),
    ],
)
def test_bad_input_is_one_clear_line(lfvit: Run, arguments: list[str], code: int, words: str) -> None:
    """No traceback, nothing on standard output."""
    done = lfvit("flops", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    if code == 1:
        assert len(done.stderr.splitlines()) == 1


def test_stages_of_an_outside_network(lfvit: Run, exit_vit: Path) -> None:
    """Three rows, and the early exit as a whole: half of the images spread over the two exits."""
    done = lfvit("flops", "exit_vit_small", "--import", str(exit_vit), "--exit-rate", "0.5", "--format", "json")
    assert done.returncode == 0, done.stderr
    *stages, whole = json.loads(done.stdout)
    assert [row["stage"] for row in stages] == ["after_4", "after_8", "full"]
    first, second, third = (row["macs"] for row in stages)
    assert whole["macs"] == round(first + 0.75 * second + 0.5 * third)
    assert whole["params"] == 22_820_664


def test_a_cost_that_depends_on_the_image_says_so(lfvit: Run) -> None:
    """And is the same each time."""
    first, second = (lfvit("flops", "spvit_deit_tiny", "--format", "json") for _ in range(2))
    assert first.stdout == second.stdout
    assert [row["varies"] for row in json.loads(first.stdout)] == [True]
    assert "depends on the image and on the weights in spvit_deit_tiny" in first.stderr
