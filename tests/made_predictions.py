"""Predictions tables made for tests, and hypothesis strategies for them."""

import numpy as np
from hypothesis import strategies as st

from lfvit_cli.evaluation.table import Predictions, PredictionsMetadata, StageAnswers

LF_VIT = ("location", "focus")
MACS = (1_101_957_888, 2_708_842_368, 1_500_000_000, 900_000_000)


def predictions(
    labels: list[int], stages: dict[str, tuple[list[int], list[float]]], *, classes: int = 4, macs: bool = True
) -> Predictions:
    """Build a table from labels, and for each stage its answers and confidences; these give the other columns."""
    truth = np.array(labels)
    answers = {}
    for stage, (answer, confidence) in stages.items():
        given, sure = np.array(answer), np.array(confidence, dtype=np.float32)
        answers[stage] = StageAnswers(
            prediction=given,
            confidence=sure,
            margin=sure / 2,
            entropy=(1 - sure) / 2,
            top10_entropy=(1 - sure) / 3,
            top5=given == truth,
        )
    return Predictions(
        images=np.array([f"{label}/{row}.jpg" for row, label in enumerate(labels)], dtype=object),
        labels=truth,
        stages=answers,
        metadata=PredictionsMetadata(
            model="lf_deit_small",
            stages=tuple(stages),
            macs=MACS[: len(stages)] if macs else None,
            classes=tuple(f"class {index}" for index in range(classes)),
        ),
    )


def random_predictions(
    images: int, *, stages: tuple[str, ...] = LF_VIT, classes: int = 10, seed: int = 0, macs: bool = True
) -> Predictions:
    """Draw a table in which confidence tells something of being right, and later stages are right more often."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    ease = rng.normal(size=images)
    answers = {}
    for index, stage in enumerate(stages):
        score = ease + rng.normal(size=images)
        right = score > np.quantile(score, 0.3 - 0.08 * index)
        sure = 1 / (1 + np.exp(-(score + 0.6 + rng.normal(size=images))))
        answer = np.where(right, labels, (labels + rng.integers(1, classes, images)) % classes)
        answers[stage] = (answer.tolist(), (1 / classes + (1 - 1 / classes) * sure).tolist())
    return predictions(labels.tolist(), answers, classes=classes, macs=macs)


@st.composite
def tables(draw: st.DrawFn, *, stages: int = 2, most: int = 30) -> Predictions:
    """Small tables with many ties among the confidences, 0 and 1 among them."""
    images = draw(st.integers(1, most))

    def column(element: st.SearchStrategy[int]) -> list[int]:
        return draw(st.lists(element, min_size=images, max_size=images))

    answers = {}
    for index in range(stages):
        confidence = [value / 8 for value in column(st.integers(0, 8))]
        answers[f"stage{index}"] = (column(st.integers(0, 2)), confidence)
    return predictions(column(st.integers(0, 2)), answers, classes=3)
