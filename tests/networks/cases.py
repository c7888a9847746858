"""The golden cases as networks, images and expected answers, and narrow networks to try other things on."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import timm
import torch
from golden.golden import FOLDER, images_for, load_case, state_dict
from torch import Tensor

import lfvit_cli.networks  # noqa: F401  # registers the networks with timm

LF_VIT = ("lf_vit_7x7", "lf_vit_9x9", "lf_vit_7x7_m4")
DYNAMIC_VIT = ("dynamic_vit_07", "dynamic_vit_05")
EVO_VIT = ("evo_vit_deit_stage", "evo_vit_deit_layer")
ALL = tuple(sorted(file.stem for file in FOLDER.glob("*.json")))

# What timm creates a case's network by, where that is not the case's model and ``_small``.
MODELS = {
    "lf_vit": "lf_deit_small",
    "cf_vit": "cf_deit_small",
    "dynamic_vit": "dynamicvit_deit_small",
    "evo_vit_deit": "evo_deit_small_patch16_224",
    "evo_vit_levit": "evo_levit_128s",
    "thinking_vit": "thinking_deit_3h_6h",
}
# What a case is called, or recorded, rather than how its network is built.
LABELS = ("trace", "variant")
NARROW: dict[str, Any] = {"embed_dim": 24, "num_heads": 3, "num_classes": 5}
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Case:
    """One golden case.

    Attributes:
        name: its file's name.
        model: the name that timm creates it by.
        keywords: its configuration.
        state: its weights, under their published keys.
        images: (B, 3, S, S) its images.
        expected: what the authors' implementation answers.
        macs: by fvcore, with the authors' arithmetic.
        threshold: of the early exit, where there is one.
        thresholds: of each exit, where they differ.
    """

    name: str
    model: str
    keywords: dict[str, Any]
    state: dict[str, Tensor]
    images: Tensor
    expected: dict[str, Tensor]
    macs: Any
    threshold: float
    thresholds: tuple[float, ...]

    def bare_network(self) -> Any:
        """The network of the case's configuration, in evaluation mode, with other weights than the case's."""
        return timm.create_model(self.model, **self.keywords).eval()

    def network(self) -> Any:
        """The network of the case's configuration, in evaluation mode, with the case's weights."""
        network = self.bare_network()
        network.load_state_dict(self.state)
        return network


@cache
def golden_case(name: str) -> Case:
    """A case by its file's name."""
    case = load_case(name)
    return Case(
        name=name,
        model=MODELS.get(case["model"], f"{case['model']}_small"),
        keywords=keywords_of(case["config"]),
        state={key: torch.from_numpy(value) for key, value in state_dict(case).items()},
        images=torch.from_numpy(images_for(case)),
        expected={key: torch.from_numpy(np.asarray(value)) for key, value in case["expected"].items()},
        macs=case["fvcore_macs"],
        threshold=case.get("threshold", torch.inf),
        thresholds=tuple(case.get("thresholds", ())),
    )


def keywords_of(config: dict[str, Any]) -> dict[str, Any]:
    """A case's configuration as keywords of its network; lists become tuples."""
    keywords = {key: value for key, value in config.items() if key not in LABELS}
    if "tradeoff" in keywords:
        # Evo-ViT's reference names a ratio and a trade-off for every layer, and its selection in words.
        selection = "stage" if "stage" in keywords["selection"] else "layer"
        keywords = {key: value for key, value in keywords.items() if key != "tradeoff"}
        keywords |= {"keep_ratio": keywords["keep_ratio"][-1], "selection": selection}
    return {key: tuple(value) if isinstance(value, list) else value for key, value in keywords.items()}


def narrow(model: str, **keywords: Any) -> Any:
    """A network of a small width, in evaluation mode, with lively deterministic weights."""
    network = timm.create_model(model, **{**NARROW, **keywords}).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            # Unlike an initialisation, these make the class attention differ from patch to patch.
            scale = 0.3 if parameter.ndim == 1 else 1.5 / parameter[0].numel() ** 0.5
            parameter.normal_(std=scale, generator=generator)
    return network


def images(count: int, side: int, seed: int = 0) -> Tensor:
    """(count, 3, side, side) of noise."""
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def agree(logits: Tensor, expected: Tensor, bound: float = 1e-5) -> bool:
    """Whether logits agree to a share of the largest of them, or of 1."""
    return close(logits, expected, bound * max(1.0, float(expected.abs().max())))


def close(answer: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> bool:
    """Whether two tensors of one shape agree everywhere to an absolute tolerance."""
    return answer.shape == expected.shape and bool((answer - expected).abs().max() <= tolerance)


def full_class_attention(query: Tensor, key: Tensor, num_heads: int) -> Tensor:
    """(B, N, C) queries and keys to the class token's row (B, H, N-1), out of the whole softmax attention matrix."""
    query, key = (part.unflatten(-1, (num_heads, -1)).transpose(1, 2) for part in (query, key))
    matrix = (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(dim=-1)
    row: Tensor = matrix[:, :, 0, 1:]
    return row
