"""Which exit policy a network runs under, from what the user gave and what its method says."""

from collections.abc import Sequence
from pathlib import Path

from lfvit_cli.errors import PolicyError
from lfvit_cli.networks.method import default_criterion, method_of
from lfvit_cli.policies import Criterion, ExitPolicy, read_policy

# For a network whose method names none: LF-ViT's.
PUBLISHED_THRESHOLD = 0.76


def chosen_policy(
    model: str,
    stages: Sequence[str] | None = None,
    thresholds: Sequence[float] | None = None,
    criterion: Criterion | str | None = None,
    policy_file: Path | None = None,
) -> ExitPolicy:
    """The policy of a network: a file's, or thresholds', or its method's own.

    Args:
        model: ``NAME[:key=value,...]``.
        stages: names of its stages, for which the policy then has exactly one threshold each but for the last; None
            where they are not known yet.
        thresholds: one for every stage but the last, or one for all of them.
        criterion: of the thresholds; None for the method's own.
        policy_file: ``policy.json``.

    Raises:
        PolicyError: a file that is no policy, or one of another network or of other stages; thresholds outside the
            criterion's range, or more or fewer than stages that can exit; a criterion without a threshold where the
            method has none.
    """
    if policy_file is not None:
        return _from_file(model, stages, policy_file)
    own = _own_policy(model)
    chosen = default_criterion(model) if criterion is None else Criterion(criterion)
    if thresholds is not None:
        for threshold in thresholds:
            chosen.check(threshold)
        policy = ExitPolicy.at(*thresholds, criterion=chosen)
    elif chosen is own.criterion:
        policy = own
    else:
        raise PolicyError(f"{model} has no published threshold of its {chosen}", "Add --threshold.")
    return policy if stages is None else policy.for_stages(stages)


def _own_policy(model: str) -> ExitPolicy:
    method = method_of(model.partition(":")[0])
    return ExitPolicy.at(PUBLISHED_THRESHOLD) if method is None or method.policy is None else method.policy


def _from_file(model: str, stages: Sequence[str] | None, file: Path) -> ExitPolicy:
    found = read_policy(file)
    if found.model is not None and _described(found.model) != _described(model):
        raise PolicyError(
            f"{str(file)!r} was chosen for {found.model}, not for {model}",
            "Give the policy that was chosen for this network, or thresholds with --threshold.",
        )
    if stages is not None and found.stages != tuple(stages):
        raise PolicyError(
            f"{str(file)!r} is for the stages {', '.join(found.stages)}, and {model} has {', '.join(stages)}",
            "Give the policy that was chosen for this network.",
        )
    return found.policy


def _described(spec: str) -> tuple[str, list[str]]:
    """A network's name and keywords, in whatever order, but for the number of classes, which its weights set."""
    name, _, keywords = spec.partition(":")
    parts = (part.strip() for part in keywords.split(","))
    return name.strip(), sorted(part for part in parts if part and not part.startswith("num_classes="))
