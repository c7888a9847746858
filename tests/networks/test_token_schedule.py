"""Tests of networks/token_schedule.py."""

from typing import Any

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks.cases import images, narrow
from networks.owners import owners, reductions

from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.token_schedule import kept_counts, quarters

MODELS = ("dynamicvit_deit_tiny", "random_deit_tiny", "pool_deit_tiny")


@pytest.mark.parametrize("model", MODELS)
@torch.inference_mode()
def test_tokens_follow_the_schedule(model: str) -> None:
    """Blocks run on the class token and as many others as the schedule says, and traces tell of as many."""
    network = narrow(model, img_size=64)
    entered: list[int] = []
    for block in network.blocks:
        block.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0].shape[1]))
    output = network.answer(images(2, 64))
    assert entered == [17] * 3 + [12] * 3 + [8] * 3 + [6] * 3
    assert [trace.name for trace in reductions(output)] == ["layer 3", "layer 6", "layer 9"]
    assert [owners(trace).shape for trace in reductions(output)] == [(2, 11), (2, 7), (2, 5)]


@pytest.mark.parametrize("model", MODELS)
@torch.inference_mode()
def test_other_schedules(model: str) -> None:
    """Reductions may lie anywhere, and leave any share."""
    network = narrow(model, img_size=64, depth=4, pruning_layers=(1, 2), token_ratio=(0.5, 0.25))
    output = network.answer(images(2, 64))
    assert network.kept_counts == (8, 4)
    assert [owners(trace).shape for trace in reductions(output)] == [(2, 8), (2, 4)]
    assert narrow(model, img_size=64, pruning_layers=6, token_ratio=0.5).kept_counts == (8,)


@pytest.mark.parametrize("model", MODELS)
def test_published_counts(model: str) -> None:
    """At rho = 0.7 the reductions leave 137, 96 and 67 of 196."""
    with torch.device("meta"):
        assert timm.create_model(model.replace("tiny", "small")).kept_counts == (137, 96, 67)


def test_quarters() -> None:
    """After each quarter but the last; fewer in a shallow network."""
    assert quarters(12) == (3, 6, 9)
    assert quarters(3) == (0, 1, 2)
    assert quarters(1) == (0,)


@settings(deadline=None)
@given(st.integers(1, 600), st.integers(1, 10))
def test_counts_are_those_of_exact_arithmetic(patches: int, tenths: int) -> None:
    """Powers of a ratio written in tenths leave int(N * ratio) patches, whatever floats make of it."""
    ratios = [(tenths / 10) ** power for power in (1, 2, 3)]
    exact = tuple(patches * tenths**power // 10**power for power in (1, 2, 3))
    if exact[-1] == 0:
        with pytest.raises(KeywordError, match="keep"):
            kept_counts(patches, ratios)
    else:
        assert kept_counts(patches, ratios) == exact


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"keep_ratio": 0.0}, "ratios above 0"),
        ({"keep_ratio": 1.1}, "at most 1"),
        ({"token_ratio": (0.5, 0.7, 0.3)}, "none larger than the one before"),
        ({"token_ratio": (0.5, 0.3)}, "2 token ratios were given for 3 pruning layers"),
        ({"pruning_layers": (3, 12), "token_ratio": (0.5, 0.3)}, "from 0 to 11"),
        ({"pruning_layers": (6, 3)}, "ascending"),
        ({"img_size": 100}, "images of 100 pixels"),
        ({"num_heads": 0}, "num_heads=0"),
    ],
)
def test_values_that_describe_no_network(model: str, keywords: dict[str, Any], words: str) -> None:
    """Impossible values are refused in words that name the value or the remedy."""
    with pytest.raises(KeywordError, match=words):
        timm.create_model(model, **keywords)
