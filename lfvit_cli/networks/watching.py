"""Which parameters a network reads while it answers, and how many tokens enter its attention layers."""

from typing import Any

from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves


class Watching(TorchFunctionMode):
    """A context that notes what is called within.

    Attributes:
        parameters: those read, by their identity.
        tokens: queries of each attention layer, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.parameters: dict[int, nn.Parameter] = {}
        self.tokens: list[int] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, nn.Parameter):
                self.parameters[id(value)] = value
        if function is F.scaled_dot_product_attention:
            self.tokens.append(args[0].shape[-2])
        return function(*args, **(kwargs or {}))
