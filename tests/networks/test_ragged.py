"""Tests of networks/ragged.py: tokens of images that have different numbers of them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lfvit_cli.networks.ragged import Layout

Keep = list[list[bool]]


@st.composite
def keeps(draw: st.DrawFn) -> list[Keep]:
    """For up to four images of up to six tokens: which tokens two selections, one after the other, keep."""
    batch, count = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    row = st.lists(st.booleans(), min_size=count, max_size=count)
    return [draw(st.lists(row, min_size=batch, max_size=batch)) for _ in range(2)]


def numbered(batch: int, count: int) -> Tensor:
    """(B, n, 2) tokens that all differ."""
    return torch.arange(2.0 * batch * count).view(batch, count, 2)


def each(layout: Layout, values: Tensor) -> list[Tensor]:
    """What lies as the tokens do, image by image."""
    rows, counts = layout.rows(values), layout.counts(values)
    present = torch.ones_like(rows[..., 0], dtype=torch.bool) if layout.present is None else layout.present
    assert torch.equal(present.sum(dim=1), counts)
    return [row[there] for row, there in zip(rows, present, strict=True)]


@settings(deadline=None)
@given(keeps(), st.booleans())
def test_selections_are_those_of_images_alone(selections: list[Keep], drop: bool) -> None:
    """Whatever is dropped or masked, each image has the tokens that indexing it by itself leaves."""
    masks = [torch.tensor(selection) for selection in selections]
    tokens, layout = numbered(*masks[0].shape), Layout()
    expected, kept = list(tokens), list(masks)
    for mask in kept:
        left, chosen = layout.only(layout.flat(_placed(mask, layout, expected)), drop=drop)
        expected = [image[flags[: len(image)]] for image, flags in zip(expected, mask, strict=True)]
        tokens, layout = layout.take(tokens, chosen), left
        found = each(layout, tokens)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        assert torch.equal(layout.flat(layout.rows(tokens)), tokens)
        if drop:
            # Nothing is left of what was dropped: rows are no longer than the longest image.
            assert layout.rows(tokens).shape[1] == max(map(len, expected))
            assert tokens.flatten().shape[0] == 2 * sum(map(len, expected))


def _placed(mask: Tensor, layout: Layout, images: list[Tensor]) -> Tensor:
    """(B, n) flags of each image's own tokens, the first ones of a row, as rows of the layout."""
    if layout.present is None:
        return mask[:, : len(images[0])]
    rows = torch.zeros_like(layout.present)
    for row, image in enumerate(images):
        rows[row, layout.present[row]] = mask[row, : len(image)]
    return rows


def test_equally_many_lie_in_rows() -> None:
    """Where images keep as many as each other, and so where there is one, there is no mask and no padding."""
    keep = torch.tensor([[True, False, True], [False, True, True]])
    layout, chosen = Layout().only(keep, drop=True)
    assert layout.present is layout.slots is layout.sources is layout.mask() is None
    assert Layout().take(numbered(2, 3), chosen)[..., 0].tolist() == [[0, 4], [8, 10]]
    assert Layout().only(keep[:1], drop=True)[0].present is None


def test_places_without_a_token_repeat_the_image() -> None:
    """No image's padding holds numbers of another, so that what is no number stays where it is."""
    keep = torch.tensor([[True, False, False], [True, True, True]])
    tokens = numbered(2, 3)
    layout, chosen = Layout().only(keep, drop=True)
    rows = layout.rows(Layout().take(tokens, chosen))
    assert torch.equal(rows[0], tokens[0, :1].expand(3, -1))
    mask = layout.mask()
    assert mask is not None
    assert mask.tolist() == [[[[True, False, False]]], [[[True, True, True]]]]


def test_images_without_tokens() -> None:
    """They have no tokens, and their places see all others, which leaves numbers finite."""
    keep = torch.tensor([[False, False], [True, False]])
    layout, chosen = Layout().only(keep, drop=True)
    tokens = Layout().take(numbered(2, 2), chosen)
    assert tokens.tolist() == [[4, 5]]
    assert layout.counts(tokens).tolist() == [0, 1]
    mask = layout.mask()
    assert mask is not None
    assert mask.tolist() == [[[[True]]], [[[True]]]]
    empty, chosen = layout.only(torch.tensor([False]), drop=True)
    assert layout.take(tokens, chosen).shape == (2, 0, 2)
    assert empty.counts(layout.take(tokens, chosen)).tolist() == [0, 0]


@pytest.mark.parametrize("drop", [False, True])
def test_first(drop: bool) -> None:
    """The first token of each image, however tokens lie."""
    keep = torch.tensor([[True, False, True], [True, True, True]])
    layout, chosen = Layout().only(keep, drop=drop)
    assert layout.first(Layout().take(numbered(2, 3), chosen)).tolist() == [[0, 1], [6, 7]]


def test_masking_leaves_tokens_where_they_are() -> None:
    """Without dropping, shapes do not depend on what is kept, and what was masked stays masked."""
    layout, chosen = Layout().only(torch.tensor([[True, False]]), drop=False)
    again, _ = layout.only(torch.tensor([[True, True]]), drop=False)
    tokens = numbered(1, 2)
    assert layout.take(tokens, chosen) is tokens
    assert again.counts(tokens).tolist() == [1]
