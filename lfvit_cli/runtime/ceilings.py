"""What a device can do at most, measured: multiply-accumulates a second of large matrix products, bytes of a copy."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from lfvit_cli.runtime.devices import synchronise

# Rows, inner width, columns: as tall as a batch of a transformer's tokens, and as square as matrices may be.
SHAPES = {"cpu": ((2048, 384, 1536), (2048, 1536, 1536)), "cuda": ((8192, 8192, 8192), (16384, 4096, 4096))}
COPIED_BYTES = {"cpu": 2**28, "cuda": 2**30}
REPEATS = 15


class Ceilings(NamedTuple):
    """The best of a few repeats.

    Attributes:
        macs_per_second: of a matrix product.
        bytes_per_second: of a copy within the device's memory, read and written bytes together.
    """

    macs_per_second: float
    bytes_per_second: float


@torch.inference_mode()
def measure_ceilings(device: torch.device, dtype: torch.dtype) -> Ceilings:
    """Measure both ceilings of a device, in one precision, with the threads there are."""
    kind = "cuda" if device.type == "cuda" else "cpu"
    rates = []
    for rows, inner, columns in SHAPES[kind]:
        left = torch.randn(rows, inner, device=device).to(dtype)
        weight = torch.randn(columns, inner, device=device).to(dtype)
        seconds = min(_best(product, device) for product in _products(left, weight))
        rates.append(rows * inner * columns / seconds)
    source = torch.ones(COPIED_BYTES[kind], dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    return Ceilings(max(rates), 2 * len(source) / _best(lambda: target.copy_(source), device))


def _products(left: Tensor, weight: Tensor) -> Iterator[Callable[[], object]]:
    """The ways a device multiplies by a weight: as it is, and on a CPU also laid out as compiled stages have it."""
    yield lambda: functional.linear(left, weight)
    if left.device.type == "cpu" and torch.backends.mkldnn.is_available():
        kernels: Any = torch.ops.mkldnn
        with suppress(RuntimeError):  # a precision that it lacks on this CPU
            packed = kernels._reorder_linear_weight(weight, len(left))  # noqa: SLF001  # what compiled code calls
            yield lambda: kernels._linear_pointwise(left, packed, None, "none", [], "")  # noqa: SLF001


def _best(work: Callable[[], object], device: torch.device) -> float:
    """The least seconds of a few repeats, after one that does not count."""
    work()
    taken = []
    for _ in range(REPEATS):
        synchronise(device)
        began = time.perf_counter()
        work()
        synchronise(device)
        taken.append(time.perf_counter() - began)
    return min(taken)
