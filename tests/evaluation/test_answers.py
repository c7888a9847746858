"""Tests of evaluation/answers.py."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import special, stats

from lfvit_cli.errors import MeasureError
from lfvit_cli.evaluation.answers import describe, to_columns
from lfvit_cli.networks.exits import confidence

LOGITS = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.integers(2, 12)),
    elements=st.floats(-60, 60, width=16),
)


@given(values=LOGITS, data=st.data())
def test_descriptions_are_those_of_the_softmax(values: np.ndarray, data: st.DataObject) -> None:
    """Confidence, entropy, margin and hits agree with SciPy in double precision, and ties cannot contradict."""
    rows, classes = values.shape
    labels = np.array(data.draw(st.lists(st.integers(-1, classes - 1), min_size=rows, max_size=rows)))
    found = {name: column.numpy() for name, column in describe(torch.tensor(values), torch.tensor(labels)).items()}
    probabilities = special.softmax(values.astype(float), axis=1)
    ordered = np.sort(probabilities, axis=1)
    np.testing.assert_allclose(found["confidence"], ordered[:, -1], rtol=1e-5)
    np.testing.assert_allclose(found["margin"], ordered[:, -1] - ordered[:, -2], atol=1e-6)
    np.testing.assert_allclose(found["entropy"], stats.entropy(probabilities, axis=1), atol=1e-5)
    # SciPy makes them sum to one.
    np.testing.assert_allclose(found["top10_entropy"], stats.entropy(ordered[:, -10:], axis=1), atol=1e-5)
    assert (np.take_along_axis(values, found["prediction"][:, None], 1)[:, 0] == values.max(axis=1)).all()
    ahead = (values > values[np.arange(rows), labels][:, None]).sum(axis=1)
    behind = (values < values[np.arange(rows), labels][:, None]).sum(axis=1)
    known = labels >= 0
    assert found["top5"][known & (classes - behind <= 5)].all()
    assert not found["top5"][(ahead >= 5) | ~known].any()
    assert (found["top5"] | (found["prediction"] != labels)).all()


def test_confidence_is_the_one_that_the_early_exit_compares() -> None:
    """To the last bit, also in half precision, so that a threshold splits both alike."""
    logits = torch.randn(50, 1000, generator=torch.Generator().manual_seed(0)).half() * 4
    described = describe(logits, torch.zeros(50, dtype=torch.int64))
    assert torch.equal(described["confidence"], confidence(logits))
    assert all(described[name].dtype == torch.float32 for name in ("confidence", "entropy", "margin", "top10_entropy"))


def test_a_single_class_leaves_no_doubt() -> None:
    """One class is answered with confidence and margin 1 and entropy 0."""
    described = describe(torch.zeros(2, 1), torch.tensor([0, -1]))
    assert described["confidence"].tolist() == described["margin"].tolist() == [1.0, 1.0]
    assert described["entropy"].tolist() == [0.0, 0.0]
    assert described["top5"].tolist() == [True, False]


def test_batches_are_joined() -> None:
    """Columns of batches become columns of the table; none are made of nothing."""
    columns = to_columns([{"full_confidence": torch.tensor([0.5])}, {"full_confidence": torch.tensor([0.25, 1.0])}])
    assert columns["full_confidence"].tolist() == [0.5, 0.25, 1.0]
    assert to_columns([]) == {}


def test_answers_that_are_not_finite_are_refused() -> None:
    """A network that overflows is told so, with its stage."""
    described = describe(torch.tensor([[float("inf"), 0.0]]), torch.tensor([0]))
    with pytest.raises(MeasureError, match=r"stage focus answers .* not finite. Use --dtype float32"):
        to_columns([{f"focus_{name}": values for name, values in described.items()}])
