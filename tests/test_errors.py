"""Every error tells a problem and its remedy, in any process."""

import inspect
import pickle

import pytest

from lfvit_cli import errors

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.UserError)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_is_the_same_in_another_process(kind: type[errors.UserError]) -> None:
    """Pickled on its way out of a worker, it keeps its type, its problem, its remedy and its message."""
    copy = pickle.loads(pickle.dumps(kind("broken", "Replace it.")))  # noqa: S301  # our own bytes
    assert type(copy) is kind
    assert (copy.problem, copy.remedy, str(copy)) == ("broken", "Replace it.", "broken. Replace it.")
