"""A small LF-ViT whose answers differ, images, policies, and a way to record a stage on a CPU."""

from collections.abc import Callable

import timm
import torch
from torch import Tensor, nn

import lfvit_cli.networks  # noqa: F401  # registers the networks with timm
from lfvit_cli.networks.lf_vit import LFViT
from lfvit_cli.networks.stages import Output, Walk, stages_of, walk
from lfvit_cli.policies import Criterion, ExitPolicy
from lfvit_cli.runtime.runner import Runner

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


def confidences(runner: Runner, images: Tensor, batch_size: int = 4) -> Tensor:
    """(N,) confidences of the first stage."""
    return runner.criterion_values(images, batch_size, Criterion.CONFIDENCE)[0]


def policy_for(going_on: int, sorted_confidences: Tensor) -> ExitPolicy:
    """A threshold that lets so many of the images go on: between two confidences, as arithmetic may round otherwise."""
    bounds = torch.cat((torch.zeros(1), sorted_confidences, torch.tensor([2.0])))
    return ExitPolicy.at(float(bounds[going_on : going_on + 2].mean()))


@torch.inference_mode()
def plain(network: nn.Module, images: Tensor, policy: ExitPolicy) -> Walk:
    """The walk over the network as it is."""
    return walk(stages_of(network), images, policy)


def rerun(work: Callable[[], Output]) -> tuple[Output, Callable[[], None]]:
    """What stands for a CUDA graph on a CPU: the work done again, its answer put where the first one lay."""
    output = work()

    def replay() -> None:
        for target, source in zip(output.tensors(), work().tensors(), strict=True):
            target.copy_(source)

    return output, replay
