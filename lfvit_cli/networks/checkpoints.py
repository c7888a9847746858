"""Loading a checkpoint into a network, or saying exactly why it does not fit."""

from collections.abc import Iterable
from typing import Any

import timm
from torch import Tensor, nn

from lfvit_cli.errors import CheckpointError, first_line
from lfvit_cli.networks.checkpoint_files import Checkpoint, read_checkpoint, read_records
from lfvit_cli.networks.method import methods

__all__ = ["head_classes", "load_checkpoint", "read_records"]

PRETRAINED = "pretrained"
DEIT, DEIT_KEY = "DeiT", "blocks.0.attn.qkv.weight"
# What networks call the layer that names the class.
HEADS = {"head", "head_cls", "head_dist", "head_cls_dist", "fc", "classifier"}
SHOWN = 3


def load_checkpoint(model: nn.Module, source: str) -> Checkpoint | None:
    """Load published or own weights into ``model``, all keys or none.

    Args:
        model: a network from timm or :func:`lfvit_cli.networks.build.build`.
        source: a ``.pth`` or ``.safetensors`` file, ``hf-hub:OWNER/NAME[@REVISION]``, or ``pretrained`` for timm's own.

    Returns:
        What was read, or None for ``pretrained``.

    Raises:
        CheckpointError: the file is missing, broken or unsafe, or its keys are not the model's; names the first few.
    """
    if source == PRETRAINED:
        _load_pretrained(model)
        return None
    checkpoint = read_checkpoint(source)
    _load(model, checkpoint.state, source)
    return checkpoint


def head_classes(source: str) -> int | None:
    """The number of classes a checkpoint's head answers; None where it has no head or is timm's own."""
    if source == PRETRAINED:
        return None
    state = read_checkpoint(source).state
    heads = [tensor for name, tensor in state.items() if HEADS.intersection(name.split(".")[:-1]) and tensor.ndim == 2]
    return len(heads[-1]) if heads else None


def family_of(keys: Iterable[str]) -> str | None:
    """The family whose published layout the keys have, or both of two that share one."""
    keys = set(keys)
    known = [method.family for method in methods() if method.checkpoint_key in keys]
    return " or ".join(known) or (DEIT if DEIT_KEY in keys else None)


def _load_pretrained(model: nn.Module) -> None:
    cfg: Any = model.pretrained_cfg
    # The tag tells apart several trainings of one architecture.
    name = ".".join(filter(None, (cfg["architecture"], cfg.get("tag"))))
    if not timm.is_model_pretrained(name):
        raise CheckpointError(
            f"timm has no pretrained weights for {name}", "Give a checkpoint file or hf-hub:OWNER/NAME."
        )
    try:
        trained = timm.create_model(name, pretrained=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"timm's weights for {name} could not be fetched: {first_line(error)}",
            "Check the connection, or download them and give the file.",
        ) from error
    _load(model, trained.state_dict(), f"timm's {name}")


def _load(model: nn.Module, state: dict[str, Tensor], source: str) -> None:
    adapt: Any = getattr(model, "adapt_checkpoint", dict)
    try:
        state = adapt(state)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error.problem}", error.remedy) from error
    _check_fit(model.state_dict(), state, source)
    model.load_state_dict(state)


def _check_fit(expected: dict[str, Tensor], found: dict[str, Tensor], source: str) -> None:
    theirs, ours = family_of(found), family_of(expected)
    if theirs and theirs != ours:
        raise CheckpointError(
            f"{source} holds {theirs} weights, and the model is {ours or 'another network'}",
            f"Name a {theirs} model, or give a checkpoint of this family.",
        )
    misshaped = [key for key in expected if key in found and found[key].shape != expected[key].shape]
    if misshaped:
        shapes = [f"{key} {_shape(found[key])}, expected {_shape(expected[key])}" for key in misshaped[:SHOWN]]
        raise CheckpointError(
            f"{source} has {len(misshaped)} parameters of another shape: {'; '.join(shapes)}",
            _shape_remedy(misshaped, found),
        )
    missing, unexpected = [key for key in expected if key not in found], [key for key in found if key not in expected]
    if missing or unexpected:
        raise CheckpointError(
            f"{source} does not have this model's keys: {_listed(missing, unexpected)}",
            _key_remedy(missing, unexpected, some_fit=len(missing) < len(expected)),
        )


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape))


def _listed(missing: list[str], unexpected: list[str]) -> str:
    parts = []
    for label, keys in (("missing", missing), ("unexpected", unexpected)):
        if keys:
            more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
            parts.append(f"{len(keys)} {label} ({', '.join(keys[:SHOWN])}{more})")
    return ", ".join(parts)


def _shape_remedy(misshaped: list[str], found: dict[str, Tensor]) -> str:
    if "cls_token" in misshaped:
        return f"The checkpoint is {found['cls_token'].shape[-1]} wide: choose the model of that size."
    if "pos_embed" in misshaped:
        side = round((found["pos_embed"].shape[1] - 1) ** 0.5)
        return f"The checkpoint has {side} x {side} patches: add img_size={16 * side} to the model's keywords."
    if "head.weight" in misshaped:
        return f"Add num_classes={len(found['head.weight'])} to the model's keywords."
    return "Give the model the keywords it was trained with."


def _key_remedy(missing: list[str], unexpected: list[str], *, some_fit: bool) -> str:
    if some_fit and any(key.startswith("blocks.") for key in (*missing, *unexpected)):
        return "Give the model the depth it was trained with, or a checkpoint in the published layout."
    if missing and all(key.startswith("head") for key in missing):
        return "This is a backbone without a head: it can start a training, not answer."
    return "Give a checkpoint of exactly this network, in its published layout."
