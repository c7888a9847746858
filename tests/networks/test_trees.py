"""Tests of networks/trees.py: outputs are trees of tensors that keep everything else."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from lfvit_cli.networks.stages import Output
from lfvit_cli.networks.traces import Box, Heat, Tokens, kept_tokens


@dataclass(frozen=True, eq=False)
class Everything(Output):
    """Every kind of field."""

    pair: tuple[Tensor, Tensor]
    maybe: Tensor | None
    named: dict[str, Tensor]
    grid: tuple[int, int]
    name: str
    inner: Output


def everything(rows: int) -> Everything:
    """One with so many rows."""
    values = torch.arange(rows * 3).view(rows, 3)
    return Everything(
        values.float(),
        (values, values + 1),
        None,
        {"a": values + 2},
        (7, 7),
        "x",
        Output(values + 3.0),
        traces=(Heat(torch.zeros(rows, 2, 2)), Box(values[:, 0], values[:, 1], 2, 3, (7, 7))),
    )


@pytest.mark.parametrize("mask", [[True, False, False, True], [False] * 4, [True] * 4], ids=str)
def test_outputs_are_indexed_by_mask_indices_and_slice(mask: list[bool]) -> None:
    """The same rows of every tensor, wherever it lies; everything else stays."""
    whole, chosen = everything(4), torch.tensor(mask)
    for part in (whole[chosen], whole[chosen.nonzero().squeeze(1)]):
        for found, value in zip(part.tensors(), whole.tensors(), strict=True):
            assert torch.equal(found, value[chosen])
        assert (type(part), part.grid, part.name, part.maybe) == (Everything, (7, 7), "x", None)
        assert isinstance(part.traces[1], Box)
        assert part.traces[1].grid == (7, 7)
    assert torch.equal(whole[1:3].inner.logits, whole.inner.logits[1:3])


def test_a_tree_goes_through_pytorchs_own_maps() -> None:
    """Flattened and put together again it is the same; context is part of its structure."""
    whole = everything(2)
    leaves, structure = pytree.tree_flatten(whole)
    again = pytree.tree_unflatten(leaves, structure)
    assert isinstance(again, Everything)
    assert [len(whole.tensors()), again.grid, again.name] == [8, (7, 7), "x"]
    assert structure != pytree.tree_structure(Output(torch.zeros(2, 3)))


def test_tokens_of_kept_patches() -> None:
    """A kept patch is its own token, any other is dropped."""
    trace = kept_tokens(torch.tensor([[0, 3], [2, 1]]), (2, 2), "layer 3")
    assert trace.owner.tolist() == [[[0, -1], [-1, 3]], [[-1, 1], [2, -1]]]
    assert isinstance(trace, Tokens)
    assert trace.name == "layer 3"


@torch.inference_mode()
def test_an_output_passes_through_a_compiled_function() -> None:
    """Dynamo takes it as an argument and gives it back."""
    doubled = torch.compile(lambda state: Output(state.logits * 2), backend="eager")
    assert torch.equal(doubled(Output(torch.ones(2, 3))).logits, torch.full((2, 3), 2.0))
