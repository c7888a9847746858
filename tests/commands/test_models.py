"""`lfvit models` lists the catalogue."""

import json
from pathlib import Path

from running import Run

from lfvit_cli.catalogue import shipped

OUTSIDE = """
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.vision_transformer import VisionTransformer

default_cfgs = generate_default_cfgs({"my_own_vit": {"input_size": (3, 224, 224)}})

@register_model
def my_own_vit(pretrained=False, **keywords):
    size = {"embed_dim": 24, "num_heads": 3, "depth": 2, "num_classes": 5}
    return build_model_with_cfg(VisionTransformer, "my_own_vit", pretrained, **(size | keywords))
"""


def test_every_entry_is_listed_with_its_stages_and_parameters(lfvit: Run) -> None:
    """JSON is a list of objects, every family together."""
    rows = json.loads(lfvit("models", "--format", "json").stdout)
    by_name = {row["name"]: row for row in rows}
    assert set(by_name) == {entry.spec for entry in shipped().entries}
    assert by_name["deit_small_patch16_224"]["params"] == 22_050_664
    assert by_name["lf_deit_small"]["stages"] == ["location", "focus"]
    assert by_name["evo_deit_small_patch16_224"]["published_top1"] == 79.4
    families = [row["family"] for row in rows]
    assert len(list(dict.fromkeys(families))) == sum(a != b for a, b in zip(families, [None, *families], strict=False))


def test_a_pattern_filters_the_names(lfvit: Run) -> None:
    """As in timm, whose names it reaches too."""
    done = lfvit("models", "lf_*")
    assert done.returncode == 0
    assert "lf_deit_small:location_grid=9" in done.stdout
    assert "dynamicvit" not in done.stdout
    assert "vit_small_patch16_224 " in lfvit("models", "vit_small*").stdout


def test_a_pattern_that_matches_nothing_says_so(lfvit: Run) -> None:
    """One line, exit code 1, nothing on standard output."""
    done = lfvit("models", "zzz*")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: no model matches 'zzz*'. `lfvit models` lists the catalogue.\n"


def test_networks_from_outside_are_listed(lfvit: Run, tmp_path: Path) -> None:
    """With their stages and parameters, as built."""
    (tmp_path / "mine.py").write_text(OUTSIDE)
    (row,) = json.loads(lfvit("models", "my_*", "--import", "mine.py", "--format", "json").stdout)
    assert (row["name"], row["stages"]) == ("my_own_vit", ["full"])
    assert 20_000 < row["params"] < 60_000
