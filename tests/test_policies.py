"""Tests of policies.py: policies as values and as files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfvit_cli.errors import PolicyError
from lfvit_cli.policies import Criterion, ExitPolicy, PolicyFile, read_policy

GOOD: dict[str, Any] = {
    "version": 1,
    "model": "lf_deit_small",
    "stages": ["location", "focus"],
    "criterion": "confidence",
    "thresholds": [0.76],
    "target": "max-drop 0.01",
    "certified": True,
}


def test_a_policy_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    """All its fields, in the documented order."""
    file = tmp_path / "policy.json"
    file.write_text(PolicyFile(**GOOD).text())
    assert list(json.loads(file.read_text())) == list(GOOD)
    assert json.loads(file.read_text()) == GOOD
    read = read_policy(file)
    assert read.policy == ExitPolicy.at(0.76)
    assert (read.model, read.stages, read.certified) == ("lf_deit_small", ("location", "focus"), True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "policy of version 2. Update lfvit"),
        ({"criterion": "luck"}, "criterion: "),
        ({"thresholds": [0.5, 0.5]}, "has 2 thresholds for 2 stages"),
        ({"thresholds": ["x"]}, "thresholds"),
        ({"thresholds": [float("nan")]}, "cannot be compared"),
        ({"thresholds": [-1]}, "cannot be compared"),
        ({"stages": []}, "stages"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_what_is_no_policy_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    """In one line that names the file and what is wrong in it."""
    file = tmp_path / "policy.json"
    file.write_text(json.dumps(GOOD | change))
    with pytest.raises(PolicyError, match=words) as refusal:
        read_policy(file)
    assert "policy.json" in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_is_refused(tmp_path: Path, content: bytes) -> None:
    """Whatever the bytes."""
    file = tmp_path / "policy.json"
    file.write_bytes(content)
    with pytest.raises(PolicyError):
        read_policy(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """With what wrote it last time."""
    with pytest.raises(PolicyError, match=r"nowhere.json.*No such file.*sweep-threshold"):
        read_policy(tmp_path / "nowhere.json")


def test_one_threshold_serves_all_stages() -> None:
    """And several serve one each."""
    assert ExitPolicy.at(0.7).for_stages(("a", "b", "c")).thresholds == (0.7, 0.7)
    assert ExitPolicy.at(0.7, 0.6).for_stages(("a", "b", "c")).thresholds == (0.7, 0.6)
    assert ExitPolicy.at(0.7).for_stages(("full",)).thresholds == ()
    with pytest.raises(PolicyError, match="2 exit thresholds were given for the stages a, b"):
        ExitPolicy.at(0.7, 0.6).for_stages(("a", "b"))


@pytest.mark.parametrize(
    ("criterion", "good", "bad"),
    [
        (Criterion.CONFIDENCE, (0, 0.5, 1), (-0.1, 1.1, float("nan"))),
        (Criterion.MARGIN, (0, 1), (1.1,)),
        (Criterion.ENTROPY, (0, 1.5, 7), (-0.1, float("inf"), float("nan"))),
        (Criterion.TOP10_ENTROPY, (0, 10), (-1,)),
    ],
)
def test_a_threshold_is_checked_by_its_criterion(
    criterion: Criterion, good: tuple[float, ...], bad: tuple[float, ...]
) -> None:
    """Shares for confidence and margin, nats for entropies."""
    for threshold in good:
        criterion.check(threshold)
    for threshold in bad:
        with pytest.raises(PolicyError, match=str(criterion)):
            criterion.check(threshold)


def test_criteria_compare_arrays_as_they_do_numbers() -> None:
    """At or above, or strictly below; what is no number goes on."""
    values = np.array([0.4, 0.5, 0.6, np.nan])
    assert Criterion.CONFIDENCE.exits(values, 0.5).tolist() == [False, True, True, False]
    assert Criterion.ENTROPY.exits(values, 0.5).tolist() == [True, False, False, False]


def test_a_policy_reads_as_a_rule() -> None:
    """For tables and captions."""
    assert str(ExitPolicy.at(0.76)) == "confidence >= 0.76"
    assert str(ExitPolicy.at(0.5, 0.3, criterion="top10-entropy")) == "top10-entropy < 0.5, 0.3"
