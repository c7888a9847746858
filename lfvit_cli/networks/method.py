"""A method as the house knows it: its networks' names, its published figures, its exit policy, its checkpoints."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from lfvit_cli.policies import Criterion, ExitPolicy

TINY: dict[str, Any] = {"embed_dim": 192, "num_heads": 3}
SMALL: dict[str, Any] = {"embed_dim": 384, "num_heads": 6}
BASE: dict[str, Any] = {"embed_dim": 768, "num_heads": 12}

# The papers' evaluation: resize so that the crop is 0.875 of the side, bicubic.
EVALUATION: dict[str, Any] = {
    "num_classes": 1000,
    "input_size": (3, 224, 224),
    "crop_pct": 0.875,
    "interpolation": "bicubic",
    "mean": IMAGENET_DEFAULT_MEAN,
    "std": IMAGENET_DEFAULT_STD,
    "first_conv": "patch_embed.proj",
    "classifier": "head",
}

State = dict[str, Tensor]


def deit_sizes(method: str) -> dict[str, dict[str, Any]]:
    """The names ``METHOD_deit_tiny``, ``_small`` and ``_base``, with the keywords of their width."""
    return {f"{method}_deit_{size}": keywords for size, keywords in (("tiny", TINY), ("small", SMALL), ("base", BASE))}


@dataclass(frozen=True)
class Published:
    """A result on ImageNet-1k val as its authors report it.

    Attributes:
        top1: per cent.
        gmacs: 10^9 MACs an image (an expectation, for an early exit); None where the source does not say.
        source: where it stands.
    """

    top1: float
    gmacs: float | None
    source: str


@dataclass(frozen=True)
class Method:
    """One method; a network file ends with it, handed to :func:`register`.

    Attributes:
        family: the method's name, for tables.
        network: the class of its networks; None where timm has them.
        models: keywords of the class for each name that timm is to create; the names alone where timm has them.
        published: published results for a name, or a name with keywords, the first being the one a table shows.
        evaluation: what differs from ``EVALUATION`` in how the authors evaluate.
        policy: the authors' exit criterion and threshold.
        checkpoint_key: a parameter that only this method's checkpoints have; empty where they are a plain DeiT's.
        from_vit: the network and a plain ViT's parameters to the network's own names; None where they are the same.
        starts_from: which checkpoint a training starts from, where that is not a plain ViT's.
        objective: what makes the module that is trained, see CONTRIBUTING; None for the mean of the stages' losses.
        training: in a few words, what ``train`` does for it; empty for the mean over stages of the cross entropy.
        note: what a reader of the catalogue must know, such as that it is a reconstruction.
    """

    family: str
    network: Callable[..., nn.Module] | None
    models: Mapping[str, Mapping[str, Any]]
    published: Mapping[str, tuple[Published, ...]] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    policy: ExitPolicy | None = None
    checkpoint_key: str = ""
    from_vit: Callable[[nn.Module, State], State] | None = None
    starts_from: str = ""
    objective: Callable[..., nn.Module] | None = None
    training: str = ""
    note: str = ""

    @property
    def specs(self) -> tuple[str, ...]:
        """What the catalogue lists: every name, followed by its published variants."""
        return tuple(
            spec
            for name in self.models
            for spec in (name, *(variant for variant in self.published if variant.startswith(f"{name}:")))
        )


_METHODS: list[Method] = []
# timm looks for the configurations of a registered name in its function's module, which is this one.
default_cfgs: dict[str, Any] = {}


def register(method: Method) -> Method:
    """Make a method known: its names to timm, and the method to every command."""
    if method.network is not None:
        default_cfgs.update(
            generate_default_cfgs({name: {**EVALUATION, **method.evaluation} for name in method.models})
        )
        for name, keywords in method.models.items():
            register_model(_creator(method.network, name, keywords))
    _METHODS.append(method)
    return method


def _creator(network: Callable[..., nn.Module], name: str, keywords: Mapping[str, Any]) -> Callable[..., nn.Module]:
    def create(pretrained: bool = False, **given: Any) -> nn.Module:
        model: nn.Module = build_model_with_cfg(network, name, pretrained, **{**keywords, **given})
        if (side := getattr(model, "image_size", None)) is not None:
            cfg: Any = model.pretrained_cfg
            cfg["input_size"] = (3, side, side)
        return model

    create.__name__ = create.__qualname__ = name
    create.__doc__ = f"Create {name}."
    return create


def methods() -> tuple[Method, ...]:
    """Every method known so far, in the order of their registration."""
    return tuple(_METHODS)


def method_of(name: str) -> Method | None:
    """The method that a model's name belongs to; None for any other name that timm knows."""
    return next((method for method in _METHODS if name in method.models), None)


def default_criterion(spec: str) -> Criterion:
    """The exit criterion of the method that a model ``NAME[:key=value,...]`` belongs to; else the confidence."""
    method = method_of(spec.partition(":")[0])
    return Criterion.CONFIDENCE if method is None or method.policy is None else method.policy.criterion
