"""`lfvit models` lists the catalogue."""

import json

from running import Run

from lfvit_cli.catalogue import CATALOGUE


def test_every_entry_is_listed_with_its_stages_and_parameters(lfvit: Run) -> None:
    """JSON is a list of objects, in the catalogue's order."""
    rows = json.loads(lfvit("models", "--format", "json").stdout)
    assert [row["name"] for row in rows] == [entry.spec for entry in CATALOGUE]
    by_name = {row["name"]: row for row in rows}
    assert by_name["deit_small_patch16_224"]["params"] == 22_050_664
    assert by_name["lf_deit_small"]["stages"] == ["location", "focus"]
    assert by_name["evo_deit_small_patch16_224"]["published_top1"] == 79.4


def test_a_pattern_filters_the_names(lfvit: Run) -> None:
    """As in timm."""
    done = lfvit("models", "lf_*")
    assert done.returncode == 0
    assert "lf_deit_small:location_grid=9" in done.stdout
    assert "dynamicvit" not in done.stdout


def test_a_pattern_that_matches_nothing_says_so(lfvit: Run) -> None:
    """One line, exit code 1, nothing on standard output."""
    done = lfvit("models", "resnet*")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: no model of the catalogue matches 'resnet*'. `lfvit models` lists them all.\n"
