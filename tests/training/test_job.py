"""Tests of training/job.py."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from made_training import DEIT, LF_VIT, SPECS, copy_photos, quiet, settings
from torch import nn

from lfvit_cli.errors import KeywordError, TrainingError
from lfvit_cli.networks.build import build
from lfvit_cli.training.job import make_optimizer, make_scheduler, prepare
from lfvit_cli.training.settings import Recipe


def test_rate_rises_and_falls_along_a_cosine() -> None:
    """A quarter of linear warm-up from a hundredth, then half a cosine that ends at the final share."""
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    scheduler = make_scheduler(optimizer, Recipe(epochs=4, batch_size=1, lr=1.0, warmup=0.25, final_lr=0.1), 10)
    rates = []
    for update in range(41):
        scheduler.step_update(update)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(0.01)
    assert rates[5] == pytest.approx((0.01 + 1) / 2)
    assert rates[10] == pytest.approx(1)
    assert rates[25] == pytest.approx((1 + 0.1) / 2)
    assert rates[40] == pytest.approx(0.1)


@pytest.mark.parametrize("spec", SPECS)
def test_lower_layers_learn_slower(spec: str) -> None:
    """Each block at half the rate of the block above it, the stem below the first."""
    network = build(spec)
    recipe = Recipe(epochs=1, batch_size=1, lr=1.0, layer_decay=0.5)
    scales = {
        id(parameter): group["lr_scale"]
        for group in make_optimizer(network, recipe, 1).param_groups
        for parameter in group["params"]
    }
    named = {name: scales[id(parameter)] for name, parameter in network.named_parameters()}
    blocks = [
        {scale for name, scale in named.items() if re.search(rf"^(blocks|norms|qks|vs|projs)\.{index}\.", name)}
        for index in range(2)
    ]
    assert [len(found) for found in blocks] == [1, 1]
    lower, upper = (found.pop() for found in blocks)
    assert lower == upper / 2
    assert {scale for name, scale in named.items() if re.match("cls_token|pos_embed|patch_embed", name)} == {lower / 2}
    assert named["head.weight"] == 1


def test_decay_and_drop_path(tmp_path: Path) -> None:
    """Positions, biases and norms are not decayed, and stochastic depth is built into the network."""
    job = prepare(settings(copy_photos(tmp_path), drop_path=0.2), tmp_path, quiet)
    undecayed, decayed = job.optimizer.param_groups
    assert (undecayed["weight_decay"], decayed["weight_decay"]) == (0, 0.05)
    network: Any = job.network
    assert any(parameter is network.pos_embed_list[0] for parameter in undecayed["params"])
    assert any(parameter is network.head.weight for parameter in decayed["params"])
    assert network.blocks[3].drop_path.drop_prob == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"precision": "float16"}, "cpu cannot train in float16"),
        ({"batch_size": 3, "mixup": 0.8}, "mixup needs photos in pairs"),
        ({"optimizer": "newton"}, "timm has no optimizer 'newton'"),
        ({"teacher": DEIT, "distillation": "soft"}, "has no weights"),
    ],
)
def test_what_cannot_be_had_is_told(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    """Each with a problem and a remedy, before any update."""
    with pytest.raises(TrainingError, match=said):
        prepare(settings(copy_photos(tmp_path), **changes), tmp_path, quiet)


def test_teacher_must_know_the_classes(tmp_path: Path) -> None:
    """A teacher of a thousand classes cannot teach two."""
    file = tmp_path / "teacher.pth"
    torch.save(build(DEIT).state_dict(), file)
    asked = settings(copy_photos(tmp_path), LF_VIT, teacher=DEIT, teacher_checkpoint=str(file), distillation="soft")
    with pytest.raises(TrainingError, match="the teacher answers 1000 classes, and the photos have 2"):
        prepare(asked, tmp_path, quiet)


def test_model_without_stochastic_depth_is_told(tmp_path: Path) -> None:
    """A keyword of the model that does not exist is told as ever."""
    with pytest.raises(KeywordError, match="takes no keyword 'depht'"):
        prepare(settings(copy_photos(tmp_path), "lf_deit_tiny:depht=4", drop_path=0.1), tmp_path, quiet)
