"""Starting weights: from nothing, timm, a checkpoint of the family, or a plain vision transformer's backbone."""

from dataclasses import dataclass
from pathlib import Path

import timm
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from lfvit_cli.errors import TrainingError, first_line
from lfvit_cli.networks.checkpoint_files import read_checkpoint
from lfvit_cli.networks.checkpoints import DEIT, HEADS, family_of
from lfvit_cli.networks.method import Method, State


@dataclass(frozen=True)
class Initialisation:
    """Where a network's starting weights come from.

    Attributes:
        source: as it was named; None where all parameters are fresh.
        taken: parameters taken from it.
        resampled: those of them that were resampled to another grid.
        fresh: parameters at their random initial values.
        unused: parameters of the source that the network has no place for.
    """

    source: str | None
    taken: tuple[str, ...]
    resampled: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        """All of it in one line."""
        if self.source is None:
            return f"all {len(self.fresh)} parameters start fresh"
        parts = [f"{len(self.taken)} of {len(self.taken) + len(self.fresh)} parameters from {Path(self.source).name}"]
        parts += [f"{', '.join(self.resampled)} resampled"] if self.resampled else []
        parts += [f"fresh: {_modules(self.fresh)}"] if self.fresh else []
        parts += [f"unused: {_modules(self.unused)}"] if self.unused else []
        return "; ".join(parts)


def initialise(network: nn.Module, source: str | None, method: Method | None = None) -> Initialisation:
    """Load what fits of a source into a freshly built network.

    Args:
        network: from :func:`lfvit_cli.networks.build.build`.
        source: a timm name (with or without a tag), a checkpoint of the network's family, or one of a plain DeiT or
            ViT; None to start from nothing.
        method: that the network belongs to; None for any other network of timm's.

    Raises:
        CheckpointError: the file is missing, broken or unsafe.
        TrainingError: timm's weights cannot be fetched, or nothing in the source is for this network.
    """
    own = network.state_dict()
    parameters = [name for name, _ in network.named_parameters()]
    if source is None:
        return Initialisation(None, (), (), tuple(parameters), ())
    start = "" if method is None else method.starts_from
    remedy = f"Start from {start or 'a checkpoint of its family, or of a plain DeiT'}."
    found = _read(source)
    _check_family(own, found, source, remedy)
    translated = _translate(network, found, method)
    fitted: State = {}
    for name, value in translated.items():
        if name in own and (tensor := _fit(name, value, own[name], source)) is not None:
            fitted[name] = tensor
    taken = tuple(name for name in parameters if name in fitted)
    if not taken:
        raise TrainingError(f"{source} has no parameter of this network", remedy)
    network.load_state_dict(fitted, strict=False)
    resampled = tuple(name for name in taken if translated[name].shape != own[name].shape)
    fresh = tuple(name for name in parameters if name not in fitted)
    unused = tuple(name for name in translated if name not in fitted and name not in fresh)
    return Initialisation(source, taken, resampled, fresh, unused)


def _translate(network: nn.Module, state: State, method: Method | None) -> State:
    """A plain backbone's parameters under a method's own names; those of the method itself stay as they are."""
    if method is None or method.from_vit is None or family_of(state) != DEIT:
        return state
    return method.from_vit(network, state)


def _read(source: str) -> State:
    if not timm.is_model(source.partition(".")[0]):
        return read_checkpoint(source).state
    try:
        state: State = timm.create_model(source, pretrained=True).state_dict()
    except (OSError, RuntimeError, ValueError) as error:
        raise TrainingError(
            f"timm's weights for {source} could not be fetched: {first_line(error)}",
            "Check the name and the connection, or download them and give the file.",
        ) from error
    return state


def _check_family(own: State, found: State, source: str, remedy: str) -> None:
    ours, theirs = family_of(own), family_of(found)
    if theirs not in (ours, DEIT):
        raise TrainingError(
            f"{source} holds {theirs or 'unknown'} weights, and the model is {ours or 'another network'}", remedy
        )


def _fit(name: str, value: Tensor, place: Tensor, source: str) -> Tensor | None:
    """The value in the shape of its place; None for a head of other classes."""
    if value.shape == place.shape:
        return value
    parts = name.split(".")
    if any(part.startswith("pos_embed") for part in parts) and value.shape[-1] == place.shape[-1]:
        side = round((place.shape[1] - 1) ** 0.5)
        resampled: Tensor = resample_abs_pos_embed(value.float(), new_size=[side, side], num_prefix_tokens=1)
        return resampled
    # What answers for other classes than the checkpoint's starts anew.
    if HEADS.intersection(parts):
        return None
    shapes = ["x".join(map(str, tensor.shape)) for tensor in (value, place)]
    raise TrainingError(
        f"{source} has {name} of {shapes[0]}, and this network takes {shapes[1]}",
        "Choose the model of the checkpoint's width and depth.",
    )


def _modules(names: tuple[str, ...]) -> str:
    return ", ".join(dict.fromkeys(name.partition(".")[0] for name in names))
