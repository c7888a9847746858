"""Exit policies: the criterion and the thresholds from which a stage's answer stands; as files too, so no torch."""

import json
import math
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from lfvit_cli.errors import PolicyError

POLICY_VERSION: Literal[1] = 1


class Criterion(StrEnum):
    """What an exit is decided by: a high confidence or margin, or a low entropy.

    ``top10-entropy`` is the entropy of the ten largest probabilities, made to sum to one (ThinkingViT, section 3).
    """

    CONFIDENCE = "confidence"
    MARGIN = "margin"
    ENTROPY = "entropy"
    TOP10_ENTROPY = "top10-entropy"

    @property
    def exits_below(self) -> bool:
        """Whether an image exits below the threshold; otherwise it exits at or above it."""
        return self in (Criterion.ENTROPY, Criterion.TOP10_ENTROPY)

    @property
    def no_exit(self) -> float:
        """A threshold that no image reaches."""
        return 0.0 if self.exits_below else 2.0

    @property
    def column(self) -> str:
        """What the column of its values is called in a predictions table, after the stage's name."""
        return self.value.replace("-", "_")

    def exits(self, values: Any, threshold: float) -> Any:
        """Whether each value of an array or tensor exits; one that is no number does not."""
        return values < threshold if self.exits_below else values >= threshold

    def check(self, threshold: float) -> None:
        """Raise a PolicyError where a threshold lies outside what the criterion can be compared with."""
        # Written so that a NaN, which compares as false, is refused.
        if self.exits_below and not 0 <= threshold < math.inf:
            raise PolicyError(f"{threshold:g} is not a threshold of {self}", "Give nats: a number of at least 0.")
        if not self.exits_below and not 0 <= threshold <= 1:
            raise PolicyError(f"{threshold:g} is not a threshold of {self}", "Give a number from 0 to 1.")


def _shape_of(values: Any) -> Any:
    return (values,) if isinstance(values, int | float) else values


class ExitPolicy(BaseModel):
    """When the answer of a stage stands.

    Attributes:
        criterion: what is compared with the thresholds.
        thresholds: one for every stage but the last; a single one serves all of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    criterion: Criterion = Criterion.CONFIDENCE
    thresholds: Annotated[tuple[float, ...], BeforeValidator(_shape_of)]

    @classmethod
    def at(cls, *thresholds: float, criterion: Criterion | str = Criterion.CONFIDENCE) -> Self:
        """A policy by its thresholds, such as ``ExitPolicy.at(0.7, 0.6)``."""
        return cls(criterion=Criterion(criterion), thresholds=thresholds)

    @classmethod
    def never(cls, stages: int) -> Self:
        """The policy under which every image runs all stages."""
        return cls(thresholds=(Criterion.CONFIDENCE.no_exit,) * (stages - 1))

    def for_stages(self, stages: Sequence[str]) -> Self:
        """The same policy with exactly one threshold for every stage but the last.

        Raises:
            PolicyError: more or fewer thresholds than stages that can exit.
        """
        exits = len(stages) - 1
        if len(self.thresholds) == exits:
            return self
        if len(self.thresholds) != 1:
            raise PolicyError(
                f"{len(self.thresholds)} exit thresholds were given for the stages {', '.join(stages)}",
                f"Give one for every stage but the last: {exits}.",
            )
        return self.model_copy(update={"thresholds": self.thresholds * exits})

    def __str__(self) -> str:
        """Such as ``confidence >= 0.76``, or ``entropy < 0.5, 0.3``."""
        sign = "<" if self.criterion.exits_below else ">="
        return f"{self.criterion} {sign} {', '.join(f'{each:.4g}' for each in self.thresholds)}"


class PolicyFile(ExitPolicy):
    """A policy as a sweep writes it, and as every command reads it.

    Attributes:
        version: of this layout.
        model: the network it was chosen for; None where the predictions do not name one.
        stages: names of that network's stages.
        target: what it was chosen for, in words; None for one written by hand.
        certified: whether it keeps its target on new images with the confidence that the sweep states.
    """

    version: Literal[1] = POLICY_VERSION
    model: str | None
    stages: tuple[str, ...] = Field(min_length=1)
    target: str | None = None
    certified: bool | None = None

    @property
    def policy(self) -> ExitPolicy:
        """The policy alone."""
        return ExitPolicy(criterion=self.criterion, thresholds=self.thresholds)

    def text(self) -> str:
        """The content of the file."""
        order = ("version", "model", "stages", "criterion", "thresholds", "target", "certified")
        fields = self.model_dump(mode="json")
        return json.dumps({name: fields[name] for name in order}, indent=2, ensure_ascii=False) + "\n"


def read_policy(path: Path) -> PolicyFile:
    """Read ``policy.json``.

    Raises:
        PolicyError: the file is missing, not a policy, of a newer version, or its thresholds do not fit its stages.
    """
    try:
        fields = json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or "it is not JSON"
        raise PolicyError(f"cannot read the policy {str(path)!r}: {reason}", _REMEDY) from error
    version = fields.get("version") if isinstance(fields, dict) else None
    if isinstance(version, int) and version > POLICY_VERSION:
        raise PolicyError(f"{str(path)!r} is a policy of version {version}", "Update lfvit to read it.")
    try:
        policy = PolicyFile.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its content"
        raise PolicyError(f"{str(path)!r} is not a policy: {where}: {first['msg']}", _REMEDY) from error
    if not all(math.isfinite(threshold) and threshold >= 0 for threshold in policy.thresholds):
        raise PolicyError(f"{str(path)!r} has thresholds that cannot be compared with", _REMEDY)
    if len(policy.thresholds) != len(policy.stages) - 1:
        raise PolicyError(
            f"{str(path)!r} has {len(policy.thresholds)} thresholds for {len(policy.stages)} stages",
            "It needs one for every stage but the last.",
        )
    return policy


_REMEDY = "Write one with lfvit sweep-threshold."
