"""Compiled stages, and what becomes of them where nothing can be compiled."""

import functools
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch._dynamo import config as dynamo_settings
from torch._inductor import config as inductor_settings

# It warns of a missing GPU wherever anything is compiled for a CPU.
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)

# Networks of one class share their code, and every batch size is a variant of its own.
MOST_VARIANTS = 256


class CompiledStage:
    """A stage that goes through ``torch.compile`` at its first call, so that nothing of it can fail before.

    Args:
        stage: a method of a network that is not to change any more.
        device: where it runs.
        dynamic: one variant for all numbers of rows, rather than one for each.
    """

    def __init__(self, stage: Callable[..., Any], device: torch.device, *, dynamic: bool) -> None:
        self._stage, self._device, self._dynamic = stage, device, dynamic

    def __call__(self, *arguments: Any) -> Any:
        """What the stage answers."""
        return self._compiled(*arguments)

    @functools.cached_property
    def _compiled(self) -> Callable[..., Any]:
        dynamo_settings.recompile_limit = MOST_VARIANTS
        # On a CPU frozen weights are laid out beforehand as the matrix kernels want them.
        inductor_settings.freezing = self._device.type == "cpu"
        return torch.compile(self._stage, dynamic=self._dynamic)


def reason_of(error: BaseException) -> str:
    """The first line of what went wrong, short enough for a warning."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]
