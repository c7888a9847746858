"""The processes that share one piece of work, as torchrun or accelerate launch started them; mostly just this one."""

import atexit
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from accelerate import PartialState
from accelerate.utils import gather_object

from lfvit_cli.errors import AlreadyTold

T = TypeVar("T")

# A process whose device is slow may keep the others waiting at the end.
PATIENCE = timedelta(days=1)


@dataclass(frozen=True)
class Processes:
    """This process among all.

    Attributes:
        index: 0 for the main process.
        count: of all processes, on all machines.
        local_index: among those of this machine.
    """

    index: int = 0
    count: int = 1
    local_index: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process speaks, and writes what all have found."""
        return self.index == 0

    def share(self, work: Sequence[T]) -> Sequence[T]:
        """This process's part of the work: every ``count``-th piece."""
        return work[self.index :: self.count]

    def gather(self, value: T) -> list[T]:
        """Every process's value, in the order of their indices; all wait for each other here."""
        values: list[T] = gather_object([value])
        return values

    def together(self, action: Callable[[], T]) -> T:
        """Act in every process and wait for all; what fails in several of them is told by one.

        Raises:
            AlreadyTold: an action failed, and the first process where it did tells why.
            Exception: whatever the action raises.
        """
        failure: Exception | None = None
        try:
            result = action()
        except Exception as error:  # raised again below, unless another process does
            failure = error
        failed = self.gather(failure is not None)
        if True not in failed:
            return result
        first = failed.index(True)
        if failure is not None and first == self.index:
            raise failure
        raise AlreadyTold(f"process {first} failed", "Its message says why.") from failure


def join_processes() -> Processes:
    """Meet the other processes of this launch; alone where there is none.

    They only exchange short messages, over the CPU, whatever devices compute.
    """
    state = PartialState(cpu=True, timeout=PATIENCE)
    if state.num_processes > 1:
        # Its threads, left running, now and then abort an interpreter that has done its work.
        atexit.register(state.destroy_process_group)
    return Processes(state.process_index, state.num_processes, max(0, state.local_process_index))
