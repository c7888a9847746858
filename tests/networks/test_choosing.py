"""The policy that a network runs under, from what was given and from what its method says."""

from pathlib import Path

import pytest

from lfvit_cli.errors import PolicyError
from lfvit_cli.networks.choosing import PUBLISHED_THRESHOLD, chosen_policy
from lfvit_cli.policies import Criterion, ExitPolicy, PolicyFile

TWO = ("location", "focus")
THREE = ("first", "second", "third")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A policy of LF-ViT's two stages."""
    path = tmp_path / "policy.json"
    policy = PolicyFile(model="lf_deit_small", stages=TWO, criterion=Criterion.MARGIN, thresholds=(0.25,))
    path.write_text(policy.text())
    return path


def test_a_method_has_a_policy_of_its_own() -> None:
    """The authors' threshold; LF-ViT's for a network that no method describes, once for each stage."""
    assert chosen_policy("lf_deit_small", TWO) == ExitPolicy.at(0.76)
    unknown = chosen_policy("somebodys_network", THREE)
    assert unknown == ExitPolicy.at(PUBLISHED_THRESHOLD, PUBLISHED_THRESHOLD)


def test_thresholds_go_by_the_criterion_that_is_given() -> None:
    """One serves all stages; without a criterion, the method's own decides."""
    assert chosen_policy("x", THREE, (0.3,), "entropy") == ExitPolicy.at(0.3, 0.3, criterion="entropy")
    assert chosen_policy("x", THREE, (0.3, 0.2)).thresholds == (0.3, 0.2)
    assert chosen_policy("lf_deit_small", TWO, (0.5,)).criterion is Criterion.CONFIDENCE
    assert chosen_policy("x", None, (0.5,)).thresholds == (0.5,)


@pytest.mark.parametrize(
    ("thresholds", "criterion", "problem"),
    [
        ((1.2,), "margin", "1.2 is not a threshold of margin"),
        ((0.5, 0.5, 0.5), "confidence", "3 exit thresholds were given for the stages first, second, third"),
        (None, "entropy", "has no published threshold of its entropy"),
    ],
)
def test_what_does_not_fit_is_refused(thresholds: tuple[float, ...] | None, criterion: str, problem: str) -> None:
    """Out of the criterion's range, of another number than exits, or a criterion alone."""
    with pytest.raises(PolicyError, match=problem):
        chosen_policy("x", THREE, thresholds, criterion)


@pytest.mark.parametrize("model", ["lf_deit_small", "lf_deit_small:num_classes=7"])
def test_a_file_serves_the_network_that_it_names(file: Path, model: str) -> None:
    """The number of classes is no other network."""
    assert chosen_policy(model, TWO, policy_file=file) == ExitPolicy.at(0.25, criterion="margin")


@pytest.mark.parametrize(
    ("model", "stages", "problem"),
    [
        ("lf_deit_base", TWO, "was chosen for lf_deit_small, not for lf_deit_base"),
        ("lf_deit_small:location_grid=9", TWO, "not for lf_deit_small:location_grid=9"),
        ("lf_deit_small", THREE, "is for the stages location, focus, and lf_deit_small has first, second, third"),
    ],
)
def test_a_file_of_another_network_is_refused(file: Path, model: str, stages: tuple[str, ...], problem: str) -> None:
    """Another name, other keywords, or other stages."""
    with pytest.raises(PolicyError, match=problem):
        chosen_policy(model, stages, policy_file=file)


def test_a_file_without_a_name_is_judged_by_its_stages(tmp_path: Path) -> None:
    """Predictions of other tools name no network."""
    path = tmp_path / "policy.json"
    path.write_text(PolicyFile(model=None, stages=TWO, thresholds=(0.5,)).text())
    assert chosen_policy("anything", TWO, policy_file=path) == ExitPolicy.at(0.5)
    with pytest.raises(PolicyError, match="is for the stages"):
        chosen_policy("anything", THREE, policy_file=path)
