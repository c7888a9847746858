"""The ceilings of a device are measured, and are plausible."""

import torch
from runtime.narrow import CPU

from lfvit_cli.runtime.ceilings import measure_ceilings
from lfvit_cli.runtime.energy import energy_meter


def test_ceilings_of_a_cpu() -> None:
    """Between a thousandth and a thousandfold of what CPUs of today do."""
    ceilings = measure_ceilings(CPU, torch.float32)
    assert 1e8 < ceilings.macs_per_second < 1e14
    assert 1e7 < ceilings.bytes_per_second < 1e13


def test_a_cpu_tells_no_energy() -> None:
    """It is left out rather than guessed."""
    assert energy_meter(CPU) is None
