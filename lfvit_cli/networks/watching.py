"""Which parameters a network reads while it answers, and how many tokens enter its attention layers."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

SOFTMAX = (torch.softmax, F.softmax, Tensor.softmax)


class Watching(TorchFunctionMode):
    """A context that notes what is called within; for networks on the CPU, without gradients.

    Attributes:
        read: for each parameter, by its identity, which of its values were read.
        tokens: queries of each attention layer, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.read: dict[int, Tensor] = {}
        self.tokens: list[int] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        made = [value for value in tree_leaves(result) if isinstance(value, Tensor)]
        views = {id(_owner(value)) for value in made}
        for value in tree_leaves((args, kwargs)) if made else ():
            parameter = _owner(value)
            # A view reads nothing: what is made of it may.
            if parameter is not None and id(parameter) not in views:
                self._note(parameter, value)
        if function is F.scaled_dot_product_attention or _forms_attention(function, made):
            self.tokens.append((args[0] if args else made[0]).shape[-2])
        return result

    def _note(self, parameter: nn.Parameter, value: Tensor) -> None:
        read = self.read.setdefault(id(parameter), torch.zeros(parameter.shape, dtype=torch.bool))
        start = value.storage_offset() - parameter.storage_offset()
        # What is expanded lies in one place.
        shape = [size if stride else 1 for size, stride in zip(value.shape, value.stride(), strict=True)]
        read.as_strided(shape, value.stride(), start).fill_(True)


def count_read(*watched: Watching) -> int:
    """Parameters' values that were read in any of some contexts."""
    read: dict[int, Tensor] = {}
    for seen in watched:
        for key, values in seen.read.items():
            read[key] = read[key] | values if key in read else values
    return sum(int(values.sum()) for values in read.values())


def _forms_attention(function: Any, made: Sequence[Tensor]) -> bool:
    """Whether a call has made (B, H, N, M) attention weights, of more than the class token and of no more than keys."""
    return function in SOFTMAX and made[0].ndim == 4 and made[0].shape[-1] >= made[0].shape[-2] > 1


def _owner(value: Any) -> nn.Parameter | None:
    """The parameter that a value is, or is a view of."""
    if isinstance(value, nn.Parameter):
        return value
    base = value._base if isinstance(value, Tensor) else None  # noqa: SLF001  # PyTorch has no other name for it
    return base if isinstance(base, nn.Parameter) else None
