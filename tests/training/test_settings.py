"""Tests of training/settings.py."""

from pathlib import Path
from typing import Any

import pytest
from made_training import settings
from pydantic import ValidationError

from lfvit_cli.training.settings import RECIPES, Recipe


def test_deit_rate_grows_with_the_batch() -> None:
    """5e-4 for 512 photos an update, twice that for 1024; the demo's rate is for any batch."""
    assert RECIPES["deit"].peak_lr(1024) == pytest.approx(1e-3)
    assert RECIPES["demo"].peak_lr(64) == RECIPES["demo"].lr


@pytest.mark.parametrize(
    "wrong",
    [
        {"crop_scale": (0.9, 0.1)},
        {"flip": 2},
        {"nothing": 1},
        {"epochs": 0},
        {"epochs": 1_000_000_000},
        {"repeats": 1_000_000_000},
        {"batch_size": 1_000_000_000},
        {"accumulate": 1_000_000_000},
        {"lr": float("inf")},
        {"lr": float("nan")},
        {"mixup": float("inf")},
        {"rand_augment": "9"},
        {"rand_augment": "rand-z9"},
        {"rand_augment": "rand-m999"},
    ],
)
def test_recipes_are_checked(wrong: dict[str, Any]) -> None:
    """A hyperparameter out of its range, or that does not exist, is refused."""
    with pytest.raises(ValidationError):
        Recipe.model_validate(RECIPES["demo"].model_dump() | wrong)


def test_differences_are_of_what_is_learned() -> None:
    """Another rate or seed counts, another device or folder does not."""
    one = settings(Path("a"), seed=1, lr=1e-3)
    assert one.differences(settings(Path("b"), seed=1, lr=1e-3, threads=3).model_dump(mode="json")) == []
    assert one.differences(settings(Path("a"), seed=2, lr=2e-3).model_dump(mode="json")) == ["lr", "seed"]


def test_imported_code_counts_by_its_content() -> None:
    """The same file by another name is the same; a changed, a missing and a new one are named."""
    one = settings(Path("a"), imports={"net.py": "1"})
    for imports, named in (
        ({"/home/net.py": "1"}, []),
        ({"net.py": "2"}, ["the code of net.py"]),
        ({}, ["the code of net.py"]),
        ({"net.py": "1", "more.py": "3"}, ["the code of more.py"]),
    ):
        assert one.differences(settings(Path("a"), imports=imports).model_dump(mode="json")) == named
