"""What the shipped predictions say: the demo network's exit policy and rate, and every system's accuracy."""

from collections.abc import Iterable
from functools import cache

from lfvit_cli.analysis.exits import Outcome, simulate
from lfvit_cli.demo.suite import demo_policy_file, demo_predictions
from lfvit_cli.evaluation.table import read_predictions
from lfvit_cli.policies import ExitPolicy, read_policy


def demo_policy(model: str) -> ExitPolicy | None:
    """When the answers of a shipped network stand, as chosen on grocery photos; None where it is not shipped."""
    file = demo_policy_file(model)
    return None if file is None else read_policy(file).policy


def demo_policies(models: Iterable[str]) -> dict[str, ExitPolicy]:
    """The policy of each model that has one."""
    policies = {model: demo_policy(model) for model in models}
    return {model: policy for model, policy in policies.items() if policy is not None}


def demo_exit_rate(models: Iterable[str]) -> float | None:
    """Share of the grocery test photos that stop early in the first of the models with a shipped policy, 0 to 1."""
    outcome = next((_outcome(model) for model in models if demo_policy_file(model)), None)
    return None if outcome is None else outcome.exit_rate


def known_top1(models: Iterable[str]) -> dict[str, float]:
    """Top-1 on the grocery test photos of each model whose predictions are shipped, 0 to 1.

    It is that of its shipped policy, where it has one, and else of its last stage.
    """
    outcomes = {model: _outcome(model) for model in models}
    return {model: float(outcome.correct.mean()) for model, outcome in outcomes.items() if outcome is not None}


@cache
def _outcome(model: str) -> Outcome | None:
    """What becomes of each grocery test photo; None where no predictions are shipped."""
    file = demo_predictions(model, "test")
    if file is None:
        return None
    predictions = read_predictions(file)
    policy = demo_policy(model) or ExitPolicy.never(len(predictions.stages))
    return simulate(predictions, policy.thresholds, policy.criterion)
