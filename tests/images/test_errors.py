"""Tests of images/errors.py."""

import pickle

from lfvit_cli.images.errors import ImagesError, UnreadableImageError


def test_message_is_problem_and_remedy() -> None:
    """The text a user sees is the problem, then what to do about it."""
    error = ImagesError("no images in 'x'", "Name another folder.")
    assert str(error) == "no images in 'x'. Name another folder."
    assert (error.problem, error.remedy) == ("no images in 'x'", "Name another folder.")


def test_survives_the_way_out_of_a_worker_process() -> None:
    """An error pickled in one process is the same error in another."""
    copy = pickle.loads(pickle.dumps(UnreadableImageError("broken", "Replace it.")))  # noqa: S301 - our own bytes
    assert type(copy) is UnreadableImageError
    assert (copy.problem, copy.remedy, str(copy)) == ("broken", "Replace it.", "broken. Replace it.")
