"""The one abstraction: a network is a tuple of stages, and one walk over them answers everywhere."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lfvit_cli.errors import NetworkError
from lfvit_cli.networks.exits import goes_on
from lfvit_cli.networks.traces import Trace
from lfvit_cli.networks.trees import Tree
from lfvit_cli.policies import ExitPolicy

EXIT, PREPARATION = "exit", "preparation"


@dataclass(frozen=True, eq=False)
class Output(Tree):
    """What one stage answers; also the state that the next stage starts from.

    Every tensor in it has a row for each image. Subclasses add what their next stage needs.

    Attributes:
        logits: (B, K) class logits.
        traces: what the stage shows of itself, for pictures.
    """

    logits: Tensor
    traces: tuple[Trace, ...] = field(default=(), kw_only=True)


State = TypeVar("State", bound=Output)


class Stage(NamedTuple):
    """One stage of a network.

    Attributes:
        name: of the stage, for tables.
        run: images (B, 3, S, S) and the output of the stage before (None for the first) to this stage's output.
        prepare: applied to the output of the stage before, on the rows that go on, and timed apart from ``run``.
        macs: this stage's output to the (B,) MACs that each image took, where images differ; None where they do not.
    """

    name: str
    run: Callable[[Tensor, Any], Output]
    prepare: Callable[[Any], Output] | None = None
    macs: Callable[[Any], Tensor] | None = None

    def __call__(self, images: Tensor, state: Output | None) -> Output:
        """Prepare, then run."""
        return self.run(images, state if self.prepare is None else self.prepare(state))


class Walk(NamedTuple):
    """The answers of a walk over the stages.

    Attributes:
        logits: (B, K), each row from the stage whose answer stands.
        exit_stage: (B,) index of that stage.
        exited: (B,) True where an earlier stage than the last answered.
        outputs: every stage's output for all images, where no policy let any of them exit; else empty.
    """

    logits: Tensor
    exit_stage: Tensor
    exited: Tensor
    outputs: tuple[Output, ...] = ()

    def answered(self, stages: int) -> list[int]:
        """Images answered by each of so many stages."""
        return torch.bincount(self.exit_stage, minlength=stages).tolist()


def stages_of(network: nn.Module) -> tuple[Stage, ...]:
    """The stages of a network: those of its method ``stages``, asked anew of every copy; else the one stage ``full``.

    Raises:
        NetworkError: its method ``stages`` returns something else.
    """
    if not callable(getattr(type(network), "stages", None)):
        return (Stage("full", lambda images, _: Output(network(images))),)
    stages: Any = network.stages()  # type: ignore[operator]
    if not (isinstance(stages, tuple) and stages and all(isinstance(stage, Stage) for stage in stages)):
        raise NetworkError(f"{type(network).__name__}.stages() returns no tuple of Stage", "See CONTRIBUTING.md.")
    if len({stage.name for stage in stages}) < len(stages):
        raise NetworkError(f"{type(network).__name__} has two stages of one name", "Name each stage differently.")
    return stages


def stage_names(network: nn.Module) -> tuple[str, ...]:
    """The names of a network's stages, in order."""
    return tuple(stage.name for stage in stages_of(network))


def join_rows(outputs: Sequence[State]) -> State:
    """Outputs of the same kind, made one: every tensor row after row."""
    first, *others = outputs
    if not others:
        return first
    joined: State = pytree.tree_map(
        lambda leaf, *more: torch.cat((leaf, *more)) if isinstance(leaf, Tensor) else leaf, first, *others
    )
    return joined


Watch = Callable[[str], AbstractContextManager[None]]


def _unwatched(_phase: str) -> AbstractContextManager[None]:
    return nullcontext()


def walk(stages: Sequence[Stage], images: Tensor, policy: ExitPolicy | None = None, watch: Watch = _unwatched) -> Walk:
    """Answer each image at the first stage whose answer stands.

    Rows that stop never enter the next stage; where none is left, nothing runs.

    Args:
        stages: of a network, see :func:`stages_of`.
        images: (B, 3, S, S), normalised.
        policy: when an answer stands; None runs every stage on every image.
        watch: given the name of a phase, a context that times it: each stage by its name, ``preparation`` (of a
            stage, and the gathering of the rows that go on) and ``exit``.

    Raises:
        PolicyError: more or fewer thresholds than stages that can exit.
    """
    first, *later = stages
    chosen = None if policy is None else policy.for_stages([stage.name for stage in stages])
    with watch(first.name):
        output = first(images, None)
    outputs, logits = [output], output.logits
    exit_stage = torch.zeros(logits.shape[0], dtype=torch.long, device=logits.device)
    rows = torch.arange(logits.shape[0], device=logits.device)
    for index, stage in enumerate(later, start=1):
        chosen_images = images
        if chosen is not None:
            with watch(EXIT):
                going_on = goes_on(output.logits, chosen, index - 1).nonzero().squeeze(1)
            if not len(going_on):
                break
            with watch(PREPARATION):
                rows, output = rows[going_on], output[going_on]
                chosen_images = images[rows]
        if stage.prepare is not None:
            with watch(PREPARATION):
                output = stage.prepare(output)
        with watch(stage.name):
            output = stage.run(chosen_images, output)
        with watch(EXIT):
            logits = logits.index_copy(0, rows, output.logits)
            exit_stage[rows] = index
        outputs.append(output)
    return Walk(logits, exit_stage, exit_stage < len(stages) - 1, tuple(outputs) if chosen is None else ())
