"""Tests of images/sampling.py."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled import labelled_photos

from lfvit_cli.errors import ImagesError
from lfvit_cli.images.listing import Listing
from lfvit_cli.images.sampling import choose, sample

LABELS = st.lists(st.integers(-1, 4), min_size=1, max_size=40)


def listing_of(labels: list[int]) -> Listing:
    """A listing with these labels."""
    paths = tuple(f"{number:03}.jpg" for number in range(len(labels)))
    return Listing(Path(), paths, (1,) * len(labels), tuple(labels), ())


@settings(deadline=None)
@given(labels=LABELS, limit=st.integers(1, 50), seed=st.integers(0, 5))
def test_sample_is_even(labels: list[int], limit: int, seed: int) -> None:
    """A class is behind another by more than one image only if it has no more to give."""
    chosen = sample(listing_of(labels), limit, seed=seed)
    assert len(chosen) == min(limit, len(labels))
    assert list(chosen.paths) == sorted(set(chosen.paths))
    taken, available = Counter(chosen.labels), Counter(labels)
    most = max(taken.values())
    assert all(taken[label] >= most - 1 or taken[label] == available[label] for label in available)


@settings(deadline=None)
@given(labels=LABELS, limit=st.integers(1, 40), seed=st.integers(0, 5))
def test_smaller_sample_is_part_of_a_larger(labels: list[int], limit: int, seed: int) -> None:
    """With one seed, one more image only adds to the sample."""
    smaller, larger = (set(sample(listing_of(labels), limit + more, seed=seed).paths) for more in (0, 1))
    assert smaller <= larger


def test_seed_chooses() -> None:
    """One seed always gives the same real photos, another seed others."""
    photos = labelled_photos()
    first = sample(photos, 50, seed=1)
    assert first == sample(photos, 50, seed=1)
    assert first.paths != sample(photos, 50, seed=2).paths
    assert Counter(first.labels) == dict.fromkeys(range(10), 5)


@pytest.mark.parametrize("limit", [0, -3])
def test_empty_sample_is_refused(limit: int) -> None:
    """A limit below one is an error."""
    with pytest.raises(ImagesError, match="is empty"):
        sample(labelled_photos(), limit)


@settings(deadline=None)
@given(count=st.integers(1, 60), limit=st.integers(1, 80), seed=st.integers(0, 5))
def test_places_are_chosen_in_order(count: int, limit: int, seed: int) -> None:
    """As many places as asked, ascending, each once; a smaller choice is part of a larger."""
    chosen = choose(count, limit, seed=seed)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(count, limit)
    assert set(chosen) <= set(choose(count, limit + 1, seed=seed)) <= set(range(count))


def test_an_empty_choice_is_refused() -> None:
    """A limit below one is a mistake."""
    with pytest.raises(ImagesError, match="a sample of 0 images is empty"):
        choose(3, 0)
