"""Devices: the best there is, what it can compute in, waiting for it, and the memory it peaks at."""

import ctypes
import platform
import threading
from collections.abc import Callable

import psutil
import torch
from torch.nn import functional as F

from lfvit_cli.errors import RuntimeSettingError

DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
TF32_SINCE = (8, 0)  # compute capability
SAMPLING_SECONDS = 0.002
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # glibc's options, from malloc.h
MOST_KEPT = 2**30  # bytes


def choose_device(name: str = "auto") -> torch.device:
    """The named device, or for ``auto`` the best there is: CUDA, else MPS, else the CPU.

    Raises:
        RuntimeSettingError: no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise RuntimeSettingError(f"{name!r} is not a device", "Use auto, cpu, cuda, cuda:N or mps.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RuntimeSettingError("there is no CUDA device that PyTorch can use", "Use --device cpu, or auto.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RuntimeSettingError(f"there is no {name}", f"Use cuda:0 to cuda:{torch.cuda.device_count() - 1}.")
    if device.type == "mps" and not _has_mps():
        raise RuntimeSettingError("there is no MPS device that PyTorch can use", "Use --device cpu, or auto.")
    if device.type not in ("cpu", "cuda", "mps"):
        raise RuntimeSettingError(f"{name!r} is not supported", "Use auto, cpu, cuda, cuda:N or mps.")
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """A floating-point type by its name, tried on the device with a small matrix product.

    ``tf32`` is float32 whose matrix products may round their inputs: see :func:`use_precision`.

    Raises:
        RuntimeSettingError: no such type, or the device cannot compute in it.
    """
    if name not in DTYPES:
        raise RuntimeSettingError(f"{name!r} is not a precision", f"Use {', '.join(DTYPES)}.")
    dtype = DTYPES[name]
    if name == "tf32" and (device.type != "cuda" or torch.cuda.get_device_capability(device) < TF32_SINCE):
        raise RuntimeSettingError(f"{device} has no TF32", "Use float32.")
    try:
        ones = torch.ones(8, 8, dtype=dtype, device=device)
        F.linear(ones, ones)
    except (RuntimeError, TypeError) as error:
        raise RuntimeSettingError(f"{device} cannot compute in {name}", "Use float32.") from error
    return dtype


def use_precision(name: str) -> None:
    """Let matrix products of float32 round their inputs to TF32, or not; for all that runs from now on."""
    torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")
    if torch.cuda.is_available():
        torch.backends.cudnn.allow_tf32 = name == "tf32"


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all it was given; nothing to wait for on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def keep_freed_memory() -> bool:
    """Let the process keep the memory it frees for what it computes next.

    Else the C library gives large activations back to the system at every layer, and fetches them anew page by page.

    Returns:
        False where the C library cannot be told so, and nothing changed.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    return all(library.mallopt(option, MOST_KEPT) for option in (TRIM_THRESHOLD, MMAP_THRESHOLD))


def peak_memory(device: torch.device, run: Callable[[], object]) -> int | None:
    """Bytes at the peak of one call.

    On CUDA what PyTorch had allocated; on a CPU the process's resident memory, sampled; None where neither is known.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        run()
        synchronise(device)
        return int(torch.cuda.max_memory_allocated(device))
    if device.type == "cpu":
        return _peak_resident(run)
    run()
    return None


def _peak_resident(run: Callable[[], object]) -> int:
    process, done = psutil.Process(), threading.Event()
    peak = process.memory_info().rss

    def sample() -> None:
        nonlocal peak
        while not done.wait(SAMPLING_SECONDS):
            peak = max(peak, process.memory_info().rss)

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        run()
    finally:
        done.set()
        sampler.join()
    return max(peak, process.memory_info().rss)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device or the machine has no memory left."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _has_mps() -> bool:
    return torch.backends.mps.is_available()
