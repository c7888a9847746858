"""Reading the tokens that a network's traces tell of."""

import torch
from torch import Tensor

from lfvit_cli.networks.stages import Output
from lfvit_cli.networks.traces import Tokens


def reductions(output: Output) -> list[Tokens]:
    """What a network shows of each of its reductions."""
    return [trace for trace in output.traces if isinstance(trace, Tokens)]


def owners(trace: Tokens) -> Tensor:
    """(B, n) owners of patches, ascending: where patches are only dropped, those kept."""
    return torch.stack([owner[owner >= 0].unique() for owner in trace.owner.flatten(1)])
