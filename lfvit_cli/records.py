"""What every record carries: the circumstances in which its numbers came about."""

import platform
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Annotated

import psutil
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

# Called with (done, total, what is being done) as a long task goes on.
Progress = Callable[[int, int, str], None]

PACKAGES = ("lfvit", "torch", "torchvision", "timm", "fvcore", "numpy", "pillow")


class Facts(BaseModel):
    """Named values that do not change once written, and admit no others."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Device(Facts):
    """Where the networks ran.

    Attributes:
        device: PyTorch's name, such as ``cpu`` or ``cuda:0``.
        name: The maker's name.
        memory_bytes: Its own memory; None for a CPU, whose memory is the machine's.
        driver: Version of the GPU driver.
        cuda: Version of CUDA that PyTorch was built with.
        cudnn: Version of cuDNN in use, as the number that PyTorch gives.
        threads: CPU threads of PyTorch.
    """

    device: str
    name: str
    memory_bytes: int | None
    driver: str | None
    cuda: str | None
    cudnn: int | None
    threads: int


class Environment(Facts):
    """Machine and software.

    Attributes:
        python: Version of Python.
        system: Operating system and its release.
        machine: Instruction set, such as ``x86_64``.
        cpu: The maker's name of the CPU.
        physical_cores: Cores, where the system tells.
        logical_cores: Hardware threads, where the system tells.
        memory_bytes: Memory of the machine.
        packages: Version of each package in ``PACKAGES``; None for one that is not installed.
        commit: Git commit of the package, None where it does not run from a checkout.
        modified: Whether the package differs from that commit; None without one.
        device: None where no network ran.
    """

    python: str
    system: str
    machine: str
    cpu: str
    physical_cores: int | None
    logical_cores: int | None
    memory_bytes: int
    packages: dict[str, str | None]
    commit: str | None
    modified: bool | None
    device: Device | None


def _in_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


class Record(Facts):
    """The base of every record. A subclass narrows ``kind``, ``schema_version`` and ``settings`` and adds its results.

    Attributes:
        kind: What was measured, such as ``bench``; names the record's schema.
        schema_version: Raised whenever a reader of the former version would misread the record.
        created: When, in UTC.
        command: The command line, as given.
        environment: Machine and software.
        settings: Every setting that the numbers depend on.
        warnings: What a reader must know before trusting the numbers.
    """

    kind: str
    schema_version: Annotated[int, Field(ge=1)]
    created: Annotated[AwareDatetime, AfterValidator(_in_utc)]
    command: tuple[str, ...]
    environment: Environment
    settings: Facts
    warnings: tuple[str, ...]


def now() -> datetime:
    """Return the present moment, in UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def command_line() -> tuple[str, ...]:
    """Return the command line of this process: the program's name, then its arguments as given."""
    program = Path(sys.argv[0]).name
    return ("lfvit" if program == "__main__.py" else program, *sys.argv[1:])


def capture_environment(device: str | None = None) -> Environment:
    """Return the circumstances of this process.

    Args:
        device: Where networks run, as PyTorch names it; PyTorch is imported only if one is given.
    """
    commit, modified = _commit()
    return Environment(
        python=platform.python_version(),
        system=platform.platform(),
        machine=platform.machine(),
        cpu=_cpu_name(),
        physical_cores=psutil.cpu_count(logical=False),
        logical_cores=psutil.cpu_count(),
        memory_bytes=psutil.virtual_memory().total,
        packages={package: _version(package) for package in PACKAGES},
        commit=commit,
        modified=modified,
        device=None if device is None else _capture_device(device),
    )


def _capture_device(name: str) -> Device:
    import torch

    device = torch.device(name)
    gpu = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
    return Device(
        device=str(device),
        name=gpu.name if gpu else _cpu_name(),
        memory_bytes=gpu.total_memory if gpu else None,
        driver=_output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader") if gpu else None,
        cuda=torch.version.cuda if gpu else None,
        cudnn=torch.backends.cudnn.version() if gpu else None,
        threads=torch.get_num_threads(),
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    if sys.platform == "darwin":
        name = _output("sysctl", "-n", "machdep.cpu.brand_string")
    elif sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)
    else:
        name = platform.processor()
    return name or platform.machine()


def _commit() -> tuple[str | None, bool | None]:
    """Return the commit that the package is checked out from, and whether the package differs from it."""
    package = Path(__file__).parent
    # An installed package may lie inside some checkout, in an ignored environment: git must know this very file.
    if _git(package, "ls-files", "--error-unmatch", __file__) is None:
        return None, None
    commit = _git(package, "rev-parse", "--verify", "HEAD")
    changes = _git(package, "status", "--porcelain", "--", ".")
    return (None, None) if commit is None else (commit, bool(changes))


def _git(folder: Path, *arguments: str) -> str | None:
    return _output("git", "-C", str(folder), *arguments)


def _output(*command: str) -> str | None:
    """Return the standard output of a program, None where it is absent or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def recorded_path(path: str) -> str:
    """A path as a record keeps it: one inside the package starts there, wherever the package is installed."""
    package = Path(__file__).parent
    if not Path(path).is_relative_to(package):
        return path
    return Path(path).relative_to(package.parent).as_posix()
