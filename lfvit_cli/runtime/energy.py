"""The energy that a GPU has used, where its driver and NVIDIA's management library tell."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch

# Joules since the driver was loaded.
Meter = Callable[[], float]


def energy_meter(device: torch.device) -> Meter | None:
    """What reads the device's energy; None where it cannot be read: no NVIDIA GPU, no ``nvidia-ml-py``, an old GPU."""
    if device.type != "cuda":
        return None
    try:
        nvml: Any = import_module("pynvml")
        nvml.nvmlInit()
        # Devices are numbered otherwise there than by PyTorch, which sees only some of them.
        handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}".encode())
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception:  # the library has an error for each of its reasons, and none of them matters
        return None
    return lambda: float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
