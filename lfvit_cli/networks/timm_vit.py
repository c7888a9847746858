"""A plain vision transformer of timm's, by any of its names, as a frame for methods that leave its parameters alone."""

from typing import Any

import timm
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from lfvit_cli.errors import KeywordError, NetworkError, first_line

# What an evaluation has to take from the backbone: it was trained on images that were prepared so.
PREPARATION = ("mean", "std", "interpolation", "crop_pct")
SUPPORTED = "Use one of timm's plain vision transformers that have a class token, such as deit_tiny_patch16_224."


class TimmViT(VisionTransformer):  # type: ignore[misc]  # timm is untyped
    """It is the backbone itself, under the backbone's own parameter names; subclasses give it other stages.

    Args:
        backbone: name of a plain vision transformer of timm's with a class token.
        keywords: what timm takes for it, such as num_classes, img_size, depth or drop_path_rate.

    Raises:
        KeywordError: values that describe no network, or a backbone of another kind.
    """

    def __init__(self, backbone: str = "deit_small_patch16_224", **keywords: Any) -> None:
        nn.Module.__init__(self)
        # All that the backbone is, whatever its name stands for.
        self.__dict__.update(vars(make_backbone(backbone, keywords)))

    @property
    def image_size(self) -> int:
        """Pixels a side."""
        return int(self.patch_embed.img_size[0])

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """What timm knows of the network; its images are prepared as those of its backbone were."""
        known: dict[str, Any] = self.__dict__["pretrained_cfg"]
        return known

    @pretrained_cfg.setter
    def pretrained_cfg(self, known: dict[str, Any]) -> None:
        self.__dict__["pretrained_cfg"] = {**known, **{name: self.pretrained_cfg[name] for name in PREPARATION}}

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, N, C) tokens as they enter the first block."""
        tokens: Tensor = self.norm_pre(self.patch_drop(self._pos_embed(self.patch_embed(images))))
        return tokens

    def no_weight_decay(self) -> set[str]:
        """Parameters that timm's optimizers leave undecayed."""
        named: set[str] = super().no_weight_decay()
        return {name for name, _ in self.named_parameters() if name in named}


def make_backbone(name: str, keywords: dict[str, Any]) -> Any:
    """A plain vision transformer of timm's.

    Raises:
        KeywordError: no such network, one of another kind, or keywords that it does not take.
    """
    if not timm.is_model(str(name).partition(".")[0]):
        raise KeywordError(f"backbone={name} is not a model of timm's", SUPPORTED)
    try:
        backbone = timm.create_model(name, **keywords)
    except NetworkError:
        raise
    except (TypeError, ValueError, AssertionError, RuntimeError, ZeroDivisionError) as error:
        raise KeywordError(
            f"timm cannot build the backbone {name}: {first_line(error)}",
            "Check the values given to the network, and the keywords that the backbone takes.",
        ) from error
    # Its relatives in timm have other stems, two class tokens, or blocks in parallel.
    plain = type(backbone) is VisionTransformer and all(type(block) is Block for block in backbone.blocks)
    if not (plain and backbone.has_class_token):
        raise KeywordError(f"backbone={name} is not a plain vision transformer with a class token", SUPPORTED)
    sides = tuple(backbone.patch_embed.img_size)
    if len(set(sides)) > 1:
        raise KeywordError(f"img_size={sides} is not a square", "Give one number of pixels a side.")
    return backbone
