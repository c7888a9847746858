"""Reading checkpoint files without executing what is in them, and without ever writing to them."""

import argparse
import hashlib
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lfvit_cli.errors import CheckpointError, first_line

WRAPPINGS = ("model", "model_ema", "state_dict")
RECORDS = ("flops", "anytime_classification", "budgeted_batch_classification")
HUB = "hf-hub:"
HUB_FILES = ("model.safetensors", "pytorch_model.bin", "model.pth", "checkpoint.pth")


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        source: as the user named it.
        path: the file read.
        state: parameters under their published keys, wrapping and ``module.`` prefix taken off.
        records: the authors' ``flops``, ``anytime_classification`` and ``budgeted_batch_classification``, if there.
        metadata: a safetensors file's header.
    """

    source: str
    path: Path
    state: dict[str, Tensor]
    records: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)


def read_checkpoint(source: str) -> Checkpoint:
    """A ``.pth`` or ``.safetensors`` file, or ``hf-hub:OWNER/NAME``, into memory on the CPU.

    Raises:
        CheckpointError: missing, unreadable, holding code, or holding no parameters.
    """
    path = _locate(source)
    if path.suffix == ".safetensors":
        state, metadata = _read_safetensors(path)
        return Checkpoint(source, path, _without_prefix(state), metadata=metadata)
    content = _read_pickle(path)
    records = {key: content[key] for key in RECORDS if key in content}
    return Checkpoint(source, path, _without_prefix(_unwrap(content, path)), records)


def read_records(source: str) -> dict[str, Any]:
    """The authors' own results stored in a checkpoint: MACs per phase, top-1 per phase, and their curve."""
    return read_checkpoint(source).records


def file_sha256(path: Path) -> str:
    """The hash that identifies a checkpoint in records."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _locate(source: str) -> Path:
    if source.startswith(HUB):
        return _download(source)
    path = Path(source).expanduser()
    if not path.exists():
        raise CheckpointError(f"there is no checkpoint {source}", f"Give a file, {HUB}OWNER/NAME or `pretrained`.")
    if path.is_dir():
        raise CheckpointError(f"checkpoint {source} is a folder", "Name the .pth or .safetensors file in it.")
    return path


def _download(source: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository, _, revision = source.removeprefix(HUB).partition("@")
    cached_only = False
    for name in HUB_FILES:
        try:
            return Path(hf_hub_download(repository, name, revision=revision or None, local_files_only=cached_only))
        except LocalEntryNotFoundError as error:
            absent: Exception = error
            # The hub cannot be reached, and was tried for long enough: the other names may still be in the cache.
            cached_only = True
        except EntryNotFoundError as error:
            absent = error
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            raise CheckpointError(f"{source} could not be fetched: {first_line(error)}", _HUB_REMEDY) from error
    if cached_only:
        raise CheckpointError(f"{source} is not in the cache, and the hub cannot be reached", _HUB_REMEDY) from absent
    raise CheckpointError(f"{source} offers none of {', '.join(HUB_FILES)}", _HUB_REMEDY) from absent


_HUB_REMEDY = "Check the name and the connection, or download the file and give its path."


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {first_line(error)}", _BROKEN) from error


def _read_pickle(path: Path) -> Mapping[str, Any]:
    try:
        # Training checkpoints keep their command line in a Namespace, which is plain data.
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            # About the file's age and format; what matters is whether it can be read.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}", "Check the file.") from error
    except Exception as error:
        # Bytes that are no pickle can fail in any way; only a refused class is told apart.
        culprit = _refused_class(error)
        if culprit is None:
            raise CheckpointError(f"{path} is truncated, or not a checkpoint", _BROKEN) from error
        raise CheckpointError(f"{path} holds more than data, and is not executed: {culprit}", _UNSAFE) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not parameters", _BROKEN)
    return content


_BROKEN = "Download it anew, or save its state dict with torch.save or safetensors."
_UNSAFE = "Save its state dict alone: torch.save(model.state_dict(), FILE), or as safetensors."


def _refused_class(error: Exception) -> str | None:
    """The class or function that ``weights_only`` refused: torch says it in words alone, after GLOBAL."""
    named = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
    return named and named[1]


def _unwrap(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    inner = next((content[key] for key in WRAPPINGS if isinstance(content.get(key), Mapping)), content)
    # A training script's EMA may itself be wrapped.
    inner = next((inner[key] for key in WRAPPINGS if isinstance(inner.get(key), Mapping)), inner)
    state = {key: value for key, value in inner.items() if isinstance(value, Tensor)}
    if not state:
        raise CheckpointError(f"{path} holds no parameters (it has {', '.join(map(str, list(content)[:5]))})", _BROKEN)
    return state


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix("module."): value for key, value in state.items()}
