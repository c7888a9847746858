"""Devices are chosen, refused and measured as asked."""

import platform

import numpy as np
import pytest
import torch
from running import Run

from lfvit_cli.errors import RuntimeSettingError
from lfvit_cli.runtime.devices import choose_device, choose_dtype, is_out_of_memory, peak_memory, synchronise

CPU = torch.device("cpu")


def test_auto_takes_the_best_device_there_is() -> None:
    """CUDA before MPS before the CPU."""
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert choose_device("auto").type == expected


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "cpu:x", "xla", "meta"])
def test_a_device_that_is_not_there_is_refused_with_a_remedy(name: str) -> None:
    """No run starts on a device that this machine lacks."""
    with pytest.raises(RuntimeSettingError) as refusal:
        choose_device(name)
    assert refusal.value.remedy.startswith("Use ")


@pytest.mark.skipif(torch.cuda.is_available(), reason="shows what a machine without CUDA says")
def test_cuda_asked_for_and_absent_says_so() -> None:
    """The message names CUDA and what to use instead."""
    with pytest.raises(RuntimeSettingError, match=r"no CUDA device.*--device cpu"):
        choose_device("cuda")


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_a_dtype_is_found_by_its_name(name: str) -> None:
    """The usual precisions work on a CPU."""
    assert choose_dtype(name, CPU) == getattr(torch, name)


@pytest.mark.parametrize("name", ["float8_e4m3fn", "int32", "float64", "nn"])
def test_any_other_dtype_is_refused(name: str) -> None:
    """The remedy names those that can be used."""
    with pytest.raises(RuntimeSettingError, match="Use float32"):
        choose_dtype(name, CPU)


def test_peak_memory_sees_what_one_call_holds() -> None:
    """A call that fills 200 MB peaks at least that much above one that does not."""
    idle = peak_memory(CPU, lambda: None)
    busy = peak_memory(CPU, lambda: np.ones(200_000_000, dtype=np.uint8).sum())
    assert idle is not None
    assert busy is not None
    assert busy - idle > 150_000_000


def test_an_impossible_allocation_is_known_as_out_of_memory() -> None:
    """PyTorch's own message for a failed allocation on the CPU is recognised, and other errors are not."""
    with pytest.raises(RuntimeError) as failure:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(failure.value)
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


def test_waiting_for_a_cpu_returns_at_once() -> None:
    """There is nothing to wait for."""
    synchronise(CPU)


FAULTS = """
import resource
import torch
from lfvit_cli.runtime.devices import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(12_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

kept = keep_freed_memory()
print(kept, *(faults() for _ in range(10)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no other C library can be told")
def test_freed_memory_is_used_again(run_python: Run) -> None:
    """48 MB cost 11719 page faults once or twice, not every time."""
    told, *faults = run_python("-c", FAULTS).stdout.split()
    assert told == "True"
    assert int(faults[-1]) < int(faults[0]) / 10
