"""From ``NAME[:key=value,...]`` to a network, with or without a checkpoint."""

import ast
import difflib
import inspect
import re
from typing import Any

import timm
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from lfvit_cli.errors import KeywordError, NetworkError, UnknownModelError, first_line
from lfvit_cli.networks.checkpoints import head_classes, load_checkpoint
from lfvit_cli.networks.method import method_of
from lfvit_cli.networks.stages import stages_of


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
            raise KeywordError(f"{part!r} in {spec!r} is not key=value", "Write NAME:key=value,key=value.")
        keywords[key.strip()] = _literal(value.strip())
    return name.strip(), keywords


def require_known(spec: str) -> tuple[str, dict[str, Any]]:
    """Parse a spec whose name is of a network.

    Raises:
        UnknownModelError: no such name.
        KeywordError: a keyword without a value.
    """
    name, keywords = parse_spec(spec)
    _check_name(name)
    return name, keywords


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def build(spec: str, *, checkpoint: str | None = None, num_classes: int | None = None) -> nn.Module:
    """A network in evaluation mode; what its stages are, :func:`lfvit_cli.networks.stages.stages_of` tells.

    Any timm classifier with a fixed input size may be named.

    Args:
        spec: ``NAME[:key=value,...]``.
        checkpoint: what to load into it, see :func:`load_checkpoint`; it also sets the number of classes, unless
            the spec or ``num_classes`` does.
        num_classes: K.

    Raises:
        UnknownModelError: no such name.
        KeywordError: keywords that the network does not take, or values that describe none.
        NetworkError: a network from outside that does not say what images it takes.
        CheckpointError: the checkpoint does not fit.
    """
    name, keywords = require_known(spec)
    _check_keywords(name, keywords)
    if num_classes is not None:
        keywords.setdefault("num_classes", num_classes)
    if checkpoint is not None and "num_classes" not in keywords:
        classes = head_classes(checkpoint)
        keywords |= {"num_classes": classes} if classes else {}
    network = _create(spec, name, keywords)
    _settle_size(name, network, keywords)
    stages_of(network)
    if checkpoint is not None:
        load_checkpoint(network, checkpoint)
    return network.eval()


def count_classes(network: nn.Module) -> int:
    """Classes that a built network answers."""
    answering: Any = network
    return int(answering.num_classes)


def image_size(network: nn.Module) -> int:
    """Pixels a side of the images that a built network takes."""
    model: Any = network
    return int(model.pretrained_cfg["input_size"][-1])


def accepted_keywords(name: str) -> tuple[str, ...]:
    """The keywords a network of the catalogue takes, from its signature; empty where only timm knows."""
    method = method_of(name)
    if method is None:
        return ()
    return _parameters(method.network or VisionTransformer)


def _parameters(network: Any) -> tuple[str, ...]:
    """The named parameters of a class, and of the classes that it hands the others on to."""
    classes = inspect.getmro(network) if inspect.isclass(network) else (network,)
    names = list[str]()
    for each in classes:
        own = inspect.signature(each).parameters.values()
        names += [parameter.name for parameter in own if parameter.kind is not parameter.VAR_KEYWORD]
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in own):
            break
    return tuple(dict.fromkeys(names))


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


def _settle_size(name: str, network: nn.Module, keywords: dict[str, Any]) -> None:
    """Let the configuration of the network say what images it takes, as built."""
    cfg: Any = getattr(network, "pretrained_cfg", None)
    if not (cfg and "input_size" in cfg):
        raise NetworkError(
            f"{name} does not say what images it takes", "Give it a pretrained_cfg with input_size, as timm's have."
        )
    method = method_of(name)
    if "img_size" in keywords and (method is None or method.network is None):
        side = keywords["img_size"]
        cfg["input_size"] = (3, *(side if isinstance(side, tuple | list) else (side, side)))


def evaluation_settings(network: nn.Module) -> dict[str, Any]:
    """How the network's authors evaluate it: image_size, crop_pct, interpolation, mean and std."""
    model: Any = network
    settings = {key: model.pretrained_cfg[key] for key in ("crop_pct", "interpolation", "mean", "std")}
    return {"image_size": image_size(network), **settings}
