"""The trained demo suite is what it says: its weights give its predictions, on its photos, in its size."""

import numpy as np
import pytest
import torch

from lfvit_cli.analysis.demo import demo_threshold
from lfvit_cli.analysis.exits import simulate
from lfvit_cli.analysis.targets import Aim, Target
from lfvit_cli.demo.suite import SYSTEMS, Split, demo_predictions, demo_weights
from lfvit_cli.evaluation.answers import answer_all_stages
from lfvit_cli.evaluation.table import Predictions, read_predictions
from lfvit_cli.images.demo import demo_photos
from lfvit_cli.images.loading import load_photos
from lfvit_cli.images.transforms import TransformSettings, normalise
from lfvit_cli.networks.build import build, evaluation_settings
from lfvit_cli.networks.checkpoint_files import read_checkpoint
from lfvit_cli.runtime.runner import Runner

LF_VIT = "lf_deit_small"


def shipped(model: str, split: Split) -> Predictions:
    """A system's predictions as they come with the package."""
    file = demo_predictions(model, split)
    assert file is not None
    return read_predictions(file)


def test_lf_vit_comes_whole_and_small() -> None:
    """One float16 file of at most 50 MB, whose header names the model, its classes and its metrics."""
    file = demo_weights(LF_VIT)
    assert file is not None
    assert file.stat().st_size <= 50e6
    checkpoint = read_checkpoint(str(file))
    assert {value.dtype for value in checkpoint.state.values()} == {torch.float16}
    assert checkpoint.metadata["model"] == LF_VIT
    assert {"class_names", "metrics", "recipe", "data_sha256"} <= checkpoint.metadata.keys()
    assert demo_weights(f"{LF_VIT}:location_grid=9") is None


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("model", SYSTEMS)
def test_predictions_are_of_the_shipped_photos(model: str, split: Split) -> None:
    """A row for each photo of the split, with its label, by trained weights."""
    predictions, photos = shipped(model, split), demo_photos(split)
    rows = {str(image): int(label) for image, label in zip(predictions.images, predictions.labels, strict=True)}
    assert rows == {photos.paths[index]: photos.labels[index] for index in range(len(photos))}
    assert predictions.metadata.trained
    assert predictions.metadata.classes == photos.class_names


def test_the_weights_give_the_predictions() -> None:
    """On 40 photos spread over the classes, both stages answer as the predictions file says, row by row."""
    network = build(LF_VIT, checkpoint=str(demo_weights(LF_VIT)))
    transform = TransformSettings.model_validate(evaluation_settings(network))
    photos = load_photos(demo_photos("test"), transform, limit=40)
    columns = answer_all_stages(
        Runner(network, torch.device("cpu"), torch.float32),
        normalise(photos.pixels, transform),
        photos.labels,
        keep_logits=False,
    )
    predictions = shipped(LF_VIT, "test")
    places = {str(image): place for place, image in enumerate(predictions.images)}
    rows = [places[path] for path in photos.paths]
    for stage, answers in predictions.stages.items():
        assert columns[f"{stage}_prediction"].tolist() == answers.prediction[rows].tolist()
        assert np.allclose(columns[f"{stage}_confidence"].numpy(), answers.confidence[rows], atol=2e-3)


def test_the_threshold_is_chosen_on_validation_alone() -> None:
    """It is the cheapest that loses nothing there; a looser aim gives one that is no higher."""
    threshold = demo_threshold(LF_VIT)
    assert threshold is not None
    predictions = shipped(LF_VIT, "validation")
    last = list(predictions.stages.values())[-1]
    assert simulate(predictions, (threshold,)).correct.mean() >= (last.prediction == predictions.labels).mean()
    looser = demo_threshold(LF_VIT, Target(aim=Aim.MAX_DROP, value=0.02))
    assert looser is not None
    assert looser <= threshold
    assert demo_threshold("deit_small_patch16_224") is None


def test_the_demo_network_keeps_what_its_card_says() -> None:
    """On the test photos: focus at least 86 %, and the exit within a point of it at 42 % of DeiT-S's MACs."""
    predictions, threshold = shipped(LF_VIT, "test"), demo_threshold(LF_VIT)
    assert threshold is not None
    outcome = simulate(predictions, (threshold,))
    focus = (predictions.stages["focus"].prediction == predictions.labels).mean()
    assert focus >= 0.86
    assert outcome.correct.mean() >= focus - 0.01
    assert outcome.macs is not None
    assert outcome.macs.mean() <= 0.42 * 4.608e9
