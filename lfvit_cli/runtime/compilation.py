"""Compiled stages, and what becomes of them where nothing can be compiled."""

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


def compile_stage(stage: Callable[..., Any], device: torch.device, *, dynamic: bool) -> Callable[..., Any]:
    """The stage through ``torch.compile``, which happens at its first call.

    Args:
        stage: a method of a network that is not to change any more.
        device: where it runs.
        dynamic: one variant for all numbers of rows, rather than one for each.
    """
    dynamo_settings.recompile_limit = MOST_VARIANTS
    # On a CPU frozen weights are laid out beforehand as the matrix kernels want them.
    inductor_settings.freezing = device.type == "cpu"
    return torch.compile(stage, dynamic=dynamic)


def reason_of(error: BaseException) -> str:
    """The first line of what went wrong, short enough for a warning."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]
