"""From ``NAME[:key=value,...]`` to a staged network, with or without a checkpoint."""

import ast
import difflib
import inspect
import re
from typing import Any

import timm
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from lfvit_cli.networks.checkpoints import head_classes, load_checkpoint
from lfvit_cli.networks.errors import KeywordError, NetworkError, UnknownModelError, first_line
from lfvit_cli.networks.registry import NETWORKS
from lfvit_cli.networks.staged import SingleStage, StagedNetwork


def parse_spec(spec: str) -> tuple[str, dict[str, Any]]:
    """``lf_deit_small:location_grid=9,region_size=8`` to its name and its keywords.

    Values are Python literals (numbers, tuples, True), else strings.

    Raises:
        KeywordError: a keyword without a value.
    """
    name, _, rest = spec.partition(":")
    keywords: dict[str, Any] = {}
    # Commas within brackets belong to a tuple.
    for part in re.split(r",(?![^(\[]*[)\]])", rest) if rest else ():
        key, equals, value = part.partition("=")
        if not (equals and key.strip() and value.strip()):
            raise KeywordError(f"{part!r} in {spec!r} is no key=value", "Write NAME:key=value,key=value.")
        keywords[key.strip()] = _literal(value.strip())
    return name.strip(), keywords


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def build(spec: str, *, checkpoint: str | None = None, num_classes: int | None = None) -> nn.Module:
    """A network as the rest of the package uses it: an ``nn.Module`` in evaluation mode, satisfying StagedNetwork.

    Any timm classifier with a fixed input size may be named; it has the single stage ``full``.

    Args:
        spec: ``NAME[:key=value,...]``.
        checkpoint: what to load into it, see :func:`load_checkpoint`; it also sets the number of classes, unless
            the spec or ``num_classes`` does.
        num_classes: K.

    Raises:
        UnknownModelError: no such name.
        KeywordError: keywords that the network does not take, or values that describe none.
        CheckpointError: the checkpoint does not fit.
    """
    name, keywords = parse_spec(spec)
    _check_name(name)
    _check_keywords(name, keywords)
    if num_classes is not None:
        keywords.setdefault("num_classes", num_classes)
    if checkpoint is not None and "num_classes" not in keywords:
        classes = head_classes(checkpoint)
        keywords |= {"num_classes": classes} if classes else {}
    model = _create(spec, name, keywords)
    if checkpoint is not None:
        load_checkpoint(model, checkpoint)
    network: nn.Module = model if isinstance(model, StagedNetwork) else SingleStage(model, _input_side(model))
    return network.eval()


def count_classes(network: nn.Module) -> int:
    """Classes that a built network answers."""
    model: Any = network.model if isinstance(network, SingleStage) else network
    return int(model.num_classes)


def accepted_keywords(name: str) -> tuple[str, ...]:
    """The keywords a network of the catalogue takes, from its signature; empty where only timm knows."""
    network = next((network for prefix, network in NETWORKS.items() if name.startswith(prefix)), None)
    if network is None and name.startswith("deit_"):
        network = VisionTransformer
    if network is None:
        return ()
    return tuple(inspect.signature(network).parameters)


def _check_name(name: str) -> None:
    tagged = "." in name
    if timm.is_model_pretrained(name) if tagged else timm.is_model(name):
        return
    close = difflib.get_close_matches(name, timm.list_models(pretrained=tagged), n=3, cutoff=0.5)
    meant = f"Did you mean {' or '.join(close)}? " if close else ""
    raise UnknownModelError(f"no model is called {name!r}", f"{meant}`lfvit models` lists the catalogue.")


def _check_keywords(name: str, keywords: dict[str, Any]) -> None:
    if "pretrained" in keywords:
        raise KeywordError(f"{name} takes no keyword 'pretrained'", "Name `pretrained` as the checkpoint instead.")
    accepted = accepted_keywords(name)
    unknown = [key for key in keywords if accepted and key not in accepted]
    if unknown:
        close = difflib.get_close_matches(unknown[0], accepted, n=1)
        meant = f"Did you mean {close[0]}? " if close else ""
        raise KeywordError(f"{name} takes no keyword {unknown[0]!r}", f"{meant}It takes {', '.join(accepted)}.")


def _create(spec: str, name: str, keywords: dict[str, Any]) -> nn.Module:
    try:
        model: nn.Module = timm.create_model(name, **keywords)
    except NetworkError:
        raise
    except (TypeError, ValueError, AssertionError, RuntimeError, ZeroDivisionError) as error:
        if not keywords:
            raise
        raise KeywordError(
            f"{spec} describes no network: {first_line(error)}", "Check the values given after the colon."
        ) from error
    return model


def _input_side(model: nn.Module) -> int:
    """Pixels a side that a timm classifier takes, as built (``img_size`` may have been given)."""
    cfg: Any = model.pretrained_cfg
    side = getattr(getattr(model, "patch_embed", None), "img_size", None) or cfg["input_size"][-2:]
    return int(side[0])


def evaluation_settings(network: nn.Module) -> dict[str, Any]:
    """How the network's authors evaluate it: image_size, crop_pct, interpolation, mean and std."""
    model = network.model if isinstance(network, SingleStage) else network
    cfg: Any = model.pretrained_cfg
    settings = {key: cfg[key] for key in ("crop_pct", "interpolation", "mean", "std")}
    return {"image_size": network.image_size, **settings}
