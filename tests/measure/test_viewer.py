"""Looking at real photos with narrow networks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_looks import CLASSES, DEIT, DYNAMIC_VIT, EVO_VIT, LF_VIT, save_narrow

from lfvit_cli.images.decode import open_image
from lfvit_cli.images.demo import demo_photos
from lfvit_cli.images.transforms import TransformSettings, build_transform
from lfvit_cli.measure.class_names import name_classes
from lfvit_cli.measure.cost import count_stages
from lfvit_cli.measure.looks import Look
from lfvit_cli.measure.viewer import Viewer
from lfvit_cli.networks.build import build, evaluation_settings
from lfvit_cli.networks.staged import confidence, early_exit

CPU = torch.device("cpu")


@pytest.fixture
def photo() -> Path:
    """A real photo."""
    listing = demo_photos()
    return listing.file(len(listing) // 2)


def looked(spec: str, photo: Path, folder: Path, threshold: float = 0.76) -> tuple[Look, Any, torch.Tensor]:
    """A look, the network that looked, and what it was given, prepared another way."""
    weights = save_narrow(spec, folder / "weights.safetensors")
    viewer = Viewer(spec, weights, CPU, torch.float32)
    classes = name_classes(viewer.num_classes, header=viewer.header)
    network = build(spec, checkpoint=weights)
    images = build_transform(TransformSettings(**evaluation_settings(network)))(open_image(photo))[None]
    return viewer.look(photo, open_image(photo), classes, threshold), network, images


@torch.inference_mode()
def test_it_sees_what_lf_vit_computes(photo: Path, tmp_path: Path) -> None:
    """Attention, region, tokens and answers are the network's own."""
    look, network, images = looked(LF_VIT, photo, tmp_path)
    location = network.location(images)
    focus = network.focus(images, location)
    region = look.region
    assert region is not None
    np.testing.assert_allclose(region.attention.ravel(), location.class_attention[0], atol=1e-6)
    assert region.window == focus.region[0]
    cells = network.selector.window_cells[region.window]
    assert (region.row * region.grid + region.column, region.size**2) == (cells[0], len(cells))
    assert region.kept_cells.tolist() == focus.kept_cells[0].tolist()
    assert region.coarse_cells.tolist() == focus.coarse_cells[0].tolist()
    assert region.fine_tokens.tolist() == focus.fine_tokens[0].tolist()
    for stage, output in zip(look.stages, (location, focus), strict=True):
        probabilities = output.logits[0].softmax(0)
        assert [answer.index for answer in stage.top] == probabilities.argsort(descending=True).tolist()
        np.testing.assert_allclose(
            [answer.probability for answer in stage.top], probabilities.sort().values.flip(0), atol=1e-5
        )
        assert [answer.name for answer in stage.top] == [CLASSES[answer.index] for answer in stage.top]


@torch.inference_mode()
@pytest.mark.parametrize("offset", [-1e-3, 0.0, 1e-3])
def test_it_decides_as_the_early_exit(photo: Path, tmp_path: Path, offset: float) -> None:
    """Just below, at and just above the confidence, the decision is that of the network's own exit."""
    first, network, images = looked(LF_VIT, photo, tmp_path)
    threshold = first.stages[0].best.probability + offset
    look, _, _ = looked(LF_VIT, photo, tmp_path, threshold)
    assert look.exited is (offset <= 0)
    assert [stage.needed for stage in look.stages] == [True, offset > 0]
    if offset:
        assert look.exited is bool(early_exit(network, images, threshold).exited)
    assert float(confidence(network.begin(images).logits)) == pytest.approx(threshold - offset, abs=1e-5)


def test_the_costs_are_those_of_lfvit_flops(photo: Path, tmp_path: Path) -> None:
    """Every stage costs what counting finds."""
    look, network, _ = looked(LF_VIT, photo, tmp_path)
    assert [stage.macs for stage in look.stages] == [row.macs for row in count_stages(LF_VIT, network)]


@torch.inference_mode()
@pytest.mark.parametrize("spec", [DYNAMIC_VIT, EVO_VIT], ids=["DynamicViT", "Evo-ViT"])
def test_it_sees_what_token_pruning_keeps(spec: str, photo: Path, tmp_path: Path) -> None:
    """The kept patches are the network's own, on its grid."""
    look, network, images = looked(spec, photo, tmp_path)
    assert [pruning.kept.tolist() for pruning in look.prunings] == [
        kept[0].tolist() for kept in network.begin(images).kept
    ]
    assert {pruning.grid for pruning in look.prunings} == {14}
    assert look.threshold is None
    assert not look.exited


def test_a_plain_network_only_answers(photo: Path, tmp_path: Path) -> None:
    """There is no region and no pruning to see."""
    look, network, images = looked(DEIT, photo, tmp_path)
    assert look.region is None
    assert look.prunings == ()
    assert look.answer.index == int(network(images).argmax())


def test_large_photos_are_shown_smaller_and_framed_alike(photo: Path, tmp_path: Path) -> None:
    """The frame covers the same share of the photo, however large that is."""
    weights = save_narrow(LF_VIT, tmp_path / "weights.safetensors")
    viewer = Viewer(LF_VIT, weights, CPU, torch.float32)
    classes = name_classes(viewer.num_classes)
    small = open_image(photo)
    large = small.resize((small.width * 8, small.height * 8))
    looks = [viewer.look(photo, image, classes, 0.5) for image in (small, large)]
    assert max(looks[1].photo.shape) == 640
    first, second = (np.array(look.frame) / np.tile(look.photo.shape[1::-1], 2) for look in looks)
    np.testing.assert_allclose(first, second, atol=0.005)


def test_random_weights_are_the_same_each_time(photo: Path) -> None:
    """Without a checkpoint two looks agree."""
    classes = name_classes(5)
    answers = [
        Viewer(LF_VIT, None, CPU, torch.float32).look(photo, open_image(photo), classes, 0.5).answer for _ in range(2)
    ]
    assert answers[0] == answers[1]
