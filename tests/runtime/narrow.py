"""A small LF-ViT whose answers differ, images, and a way to record a stage on a CPU."""

from collections.abc import Callable

import timm
import torch
from torch import Tensor

import lfvit_cli.networks  # noqa: F401  # registers the networks with timm
from lfvit_cli.networks.lf_vit import LFViT
from lfvit_cli.networks.staged import StageOutput

CPU = torch.device("cpu")


def narrow(**keywords: int) -> LFViT:
    """Weights that make its answers differ."""
    torch.manual_seed(1)
    size = {"embed_dim": 48, "num_heads": 3, "depth": 2, "num_classes": 10}
    network = timm.create_model("lf_deit_tiny", **(size | keywords))
    assert isinstance(network, LFViT)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.2)
    return network.eval()


def photos(count: int) -> Tensor:
    """(count, 3, 224, 224) random images."""
    return torch.randn(count, 3, 224, 224, generator=torch.Generator().manual_seed(2))


def rerun(work: Callable[[], StageOutput]) -> tuple[StageOutput, Callable[[], None]]:
    """What stands for a CUDA graph on a CPU: the work done again, its answer put where the first one lay."""
    output = work()

    def replay() -> None:
        for target, source in zip(output.tensors(), work().tensors(), strict=True):
            target.copy_(source)

    return output, replay
