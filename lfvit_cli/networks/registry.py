"""The networks under the names that timm creates them by."""

from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

from lfvit_cli.networks.dynamic_vit import DynamicViT
from lfvit_cli.networks.evo_vit import EvoViT
from lfvit_cli.networks.lf_vit import LFViT

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

NAMES = (
    *(f"lf_deit_{size}" for size in ("tiny", "small", "base")),
    *(f"dynamicvit_deit_{size}" for size in ("tiny", "small", "base")),
    *(f"evo_deit_{size}_patch16_224" for size in ("tiny", "small", "base")),
)

NETWORKS: dict[str, type[nn.Module]] = {"lf_deit": LFViT, "dynamicvit_deit": DynamicViT, "evo_deit": EvoViT}

default_cfgs = generate_default_cfgs(dict.fromkeys(NAMES, EVALUATION))


def _build(
    network: type[nn.Module], variant: str, pretrained: bool, size: dict[str, Any], **keywords: Any
) -> nn.Module:
    model: nn.Module = build_model_with_cfg(network, variant, pretrained, **(size | keywords))
    cfg: Any = model.pretrained_cfg
    cfg["input_size"] = (3, model.image_size, model.image_size)
    return model


@register_model
def lf_deit_tiny(pretrained: bool = False, **keywords: Any) -> nn.Module:
    """LF-ViT of DeiT-T's width."""
    return _build(LFViT, "lf_deit_tiny", pretrained, TINY, **keywords)


@register_model
def lf_deit_small(pretrained: bool = False, **keywords: Any) -> nn.Module:
    """LF-ViT of DeiT-S's width."""
    return _build(LFViT, "lf_deit_small", pretrained, SMALL, **keywords)


@register_model
def lf_deit_base(pretrained: bool = False, **keywords: Any) -> nn.Module:
    """LF-ViT of DeiT-B's width."""
    return _build(LFViT, "lf_deit_base", pretrained, BASE, **keywords)


@register_model
def dynamicvit_deit_tiny(pretrained: bool = False, **keywords: Any) -> nn.Module:
    """DynamicViT on DeiT-T."""
    return _build(DynamicViT, "dynamicvit_deit_tiny", pretrained, TINY, **keywords)


@register_model
def dynamicvit_deit_small(pretrained: bool = False, **keywords: Any) -> nn.Module:
    """DynamicViT on DeiT-S."""
    return _build(DynamicViT, "dynamicvit_deit_small", pretrained, SMALL, **keywords)


@register_model
def dynamicvit_deit_base(pretrained: bool = False, **keywords: Any) -> nn.Module:
    """DynamicViT on DeiT-B."""
    return _build(DynamicViT, "dynamicvit_deit_base", pretrained, BASE, **keywords)


@register_model
def evo_deit_tiny_patch16_224(pretrained: bool = False, **keywords: Any) -> nn.Module:
    """Evo-ViT on DeiT-T."""
    return _build(EvoViT, "evo_deit_tiny_patch16_224", pretrained, TINY, **keywords)


@register_model
def evo_deit_small_patch16_224(pretrained: bool = False, **keywords: Any) -> nn.Module:
    """Evo-ViT on DeiT-S."""
    return _build(EvoViT, "evo_deit_small_patch16_224", pretrained, SMALL, **keywords)


@register_model
def evo_deit_base_patch16_224(pretrained: bool = False, **keywords: Any) -> nn.Module:
    """Evo-ViT on DeiT-B."""
    return _build(EvoViT, "evo_deit_base_patch16_224", pretrained, BASE, **keywords)
