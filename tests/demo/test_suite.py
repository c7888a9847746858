"""The trained demo suite is what it says: its weights give its predictions, of the grocery photos, in its size."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lfvit_cli.analysis.demo import demo_exit_rate, demo_policies, demo_policy, known_top1
from lfvit_cli.analysis.exits import simulate
from lfvit_cli.demo.grocery import contents, data_folder
from lfvit_cli.demo.suite import FOLDER, SYSTEMS, Split, all_demo_predictions, demo_predictions, demo_weights
from lfvit_cli.evaluation.answers import answer_all_stages
from lfvit_cli.evaluation.table import Predictions, read_predictions
from lfvit_cli.images.folder import list_folder
from lfvit_cli.images.loading import load_photos
from lfvit_cli.images.transforms import TransformSettings, normalise
from lfvit_cli.networks.build import build, evaluation_settings
from lfvit_cli.networks.checkpoint_files import read_checkpoint
from lfvit_cli.runtime.runner import Runner

LF_VIT = "lf_deit_small"
SHIPPED = [system for system in SYSTEMS if demo_predictions(system, "test") is not None]
WEIGHTS = sorted(file.stem for file in (FOLDER / "weights").glob("*.safetensors"))
REPOSITORY = Path(__file__).parents[2]


def shipped(model: str, split: Split) -> Predictions:
    """A system's predictions as they come with the package."""
    file = demo_predictions(model, split)
    assert file is not None
    return read_predictions(file)


@pytest.mark.parametrize("model", WEIGHTS)
def test_weights_come_whole_and_small(model: str) -> None:
    """A float16 file whose header names the model, its classes and its metrics, and no folder of its makers."""
    file = demo_weights(model)
    assert file is not None
    checkpoint = read_checkpoint(str(file))
    assert {value.dtype for value in checkpoint.state.values() if value.is_floating_point()} == {torch.float16}
    assert checkpoint.metadata["model"] == model
    assert {"class_names", "metrics", "recipe", "data_sha256"} <= checkpoint.metadata.keys()
    assert "/" not in checkpoint.metadata["initialisation"]


def test_all_files_together_are_small() -> None:
    """Weights, predictions and photos fit into a wheel of less than 80 MB; a keyword makes another network."""
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) < 70e6
    assert demo_weights(LF_VIT) is not None
    assert demo_weights(f"{LF_VIT}:location_grid=9") is None


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("model", SHIPPED)
def test_predictions_are_of_the_grocery_photos(model: str, split: Split) -> None:
    """A row for each photo of the published split, with its label, by trained weights."""
    predictions, whole = shipped(model, split), contents()
    rows = {str(image): int(label) for image, label in zip(predictions.images, predictions.labels, strict=True)}
    photos = [path.removeprefix(f"{split}/") for path in whole.photos if path.startswith(f"{split}/")]
    assert rows == {path: whole.classes.index(path.partition("/")[0]) for path in photos}
    assert predictions.metadata.trained
    assert predictions.metadata.classes == tuple(whole.classes)


@pytest.mark.parametrize("model", WEIGHTS)
def test_the_weights_give_the_predictions(model: str) -> None:
    """On 20 test photos every stage answers as the predictions file says, row by row."""
    places = [REPOSITORY.parent / "shared" / "data" / "grocery", data_folder() / "grocery"]
    copy = next((place for place in places if (place / "test").is_dir()), None)
    if copy is None:
        pytest.skip("the Grocery Store Dataset is not on this machine: lfvit data grocery fetches it")
    network = build(model, checkpoint=str(demo_weights(model)))
    transform = TransformSettings.model_validate(evaluation_settings(network))
    photos = load_photos(list_folder(copy, split="test"), transform, limit=20)
    columns = answer_all_stages(
        Runner(network, torch.device("cpu"), torch.float32),
        normalise(photos.pixels, transform),
        photos.labels,
        keep_logits=False,
    )
    predictions = shipped(model, "test")
    places_of = {str(image): place for place, image in enumerate(predictions.images)}
    rows = [places_of[path] for path in photos.paths]
    for stage, answers in predictions.stages.items():
        assert columns[f"{stage}_prediction"].tolist() == answers.prediction[rows].tolist()
        assert np.allclose(columns[f"{stage}_confidence"].numpy(), answers.confidence[rows], atol=2e-3)


def test_the_policy_is_what_the_bench_runs_by() -> None:
    """Its exit rate and accuracy are those of the shipped predictions under it; a network without exits has none."""
    policy = demo_policy(LF_VIT)
    assert policy is not None
    outcome = simulate(shipped(LF_VIT, "test"), policy.thresholds, policy.criterion)
    assert demo_policies([LF_VIT, "tf_efficientnet_lite0"]) == {LF_VIT: policy}
    assert demo_exit_rate(["tf_efficientnet_lite0", LF_VIT]) == outcome.exit_rate
    assert 0.05 < outcome.exit_rate < 0.99
    assert known_top1([LF_VIT, "no_such_model"]) == {LF_VIT: outcome.correct.mean()}


def test_the_demo_network_keeps_what_its_card_says() -> None:
    """On the test photos: focus at least 80 %, location less, and the exit within a point at 55 % of DeiT-S's MACs."""
    predictions, policy = shipped(LF_VIT, "test"), demo_policy(LF_VIT)
    assert policy is not None
    outcome = simulate(predictions, policy.thresholds, policy.criterion)
    location, focus = ((answers.prediction == predictions.labels).mean() for answers in predictions.stages.values())
    assert focus >= 0.80
    assert location < focus
    assert outcome.correct.mean() >= focus - 0.01
    assert outcome.macs is not None
    assert outcome.macs.mean() <= 0.55 * 4.608e9


def test_all_predictions_are_found() -> None:
    """Those of every system that ships them."""
    assert [Path(file).stem for file in all_demo_predictions()] == [f"{system}-test" for system in SHIPPED]
