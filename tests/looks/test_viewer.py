"""Looking at real photos with narrow networks."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from labelled import labelled_photos
from made_looks import CLASSES, DEIT, DYNAMIC_VIT, EVO_VIT, LF_VIT, save_narrow

from lfvit_cli.cost import count_stages
from lfvit_cli.errors import MeasureError
from lfvit_cli.images.decode import open_image
from lfvit_cli.images.transforms import TransformSettings, build_transform
from lfvit_cli.looks.class_names import name_classes
from lfvit_cli.looks.look import Look
from lfvit_cli.looks.viewer import Viewer, known_classes
from lfvit_cli.networks.build import build, evaluation_settings
from lfvit_cli.networks.exits import confidence
from lfvit_cli.networks.plugins import load_methods
from lfvit_cli.networks.stages import Output, stages_of, walk
from lfvit_cli.networks.traces import Heat, Tokens, Trace
from lfvit_cli.policies import ExitPolicy

CPU = torch.device("cpu")


@pytest.fixture
def photo() -> Path:
    """A real photo."""
    listing = labelled_photos()
    return listing.file(len(listing) // 2)


def looked(spec: str, photo: Path, folder: Path, threshold: float = 0.76) -> tuple[Look, Any, torch.Tensor]:
    """A look, the network that looked, and what it was given, prepared another way."""
    weights = save_narrow(spec, folder / "weights.safetensors")
    viewer = Viewer(spec, weights, CPU, torch.float32)
    classes = name_classes(viewer.num_classes, header=viewer.header)
    network = build(spec, checkpoint=weights)
    images = build_transform(TransformSettings(**evaluation_settings(network)))(open_image(photo))[None]
    return viewer.look(photo, open_image(photo), classes, ExitPolicy.at(threshold)), network, images


@torch.inference_mode()
def test_it_sees_what_lf_vit_computes(photo: Path, tmp_path: Path) -> None:
    """Attention, region, tokens and answers are the network's own."""
    look, network, images = looked(LF_VIT, photo, tmp_path)
    location = network.coarse(images)
    focus = network.fine(images, location)
    (first, second) = look.stages
    (heat,), (box,), (tokens,) = first.heats, second.boxes, second.tokens
    np.testing.assert_allclose(heat.values.ravel(), location.class_attention[0], atol=1e-6)
    cells = network.selector.window_cells[focus.region[0]]
    assert (box.row * 7 + box.column, box.height * box.width, box.grid) == (cells[0], len(cells), (7, 7))
    alone = np.flatnonzero(~tokens.shared.ravel())
    assert alone.tolist() == focus.fine_tokens[0].tolist()
    assert tokens.tokens == len(alone) + focus.coarse_cells.shape[1]
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
    policy = ExitPolicy.at(threshold)
    assert look.exited is (offset <= 0)
    assert [stage.needed for stage in look.stages] == [True, offset > 0]
    if offset:
        assert look.exited is bool(walk(stages_of(network), images, policy).exited)
    assert float(confidence(network.coarse(images).logits)) == pytest.approx(threshold - offset, abs=1e-5)


def test_the_costs_are_those_of_lfvit_flops(photo: Path, tmp_path: Path) -> None:
    """Every stage costs what counting finds."""
    look, network, _ = looked(LF_VIT, photo, tmp_path)
    assert [stage.macs for stage in look.stages] == [row.macs for row in count_stages(LF_VIT, network)]


def test_what_depends_on_the_photo_is_what_this_photo_cost(photo: Path, tmp_path: Path) -> None:
    """Not what a blank image costs."""
    spec = "ats_deit_tiny:embed_dim=48,num_heads=3,depth=6,num_classes=10"
    look, network, images = looked(spec, photo, tmp_path)
    (row,) = count_stages(spec, network, images)
    assert look.macs == row.macs != count_stages(spec, network)[0].macs


@torch.inference_mode()
@pytest.mark.parametrize("spec", [DYNAMIC_VIT, EVO_VIT], ids=["DynamicViT", "Evo-ViT"])
def test_it_sees_what_token_pruning_keeps(spec: str, photo: Path, tmp_path: Path) -> None:
    """The kept patches are the network's own, on its grid."""
    look, network, images = looked(spec, photo, tmp_path)
    (stage,) = look.stages
    seen = [trace.owner.tolist() for trace in stage.tokens]
    assert seen == [trace.owner[0].tolist() for trace in network.answer(images).traces]
    assert all(np.shape(owner) == (14, 14) for owner in seen)
    assert len(seen) == (3 if spec == DYNAMIC_VIT else 2)
    assert look.policy is None
    assert not look.exited


def test_a_plain_network_only_answers(photo: Path, tmp_path: Path) -> None:
    """There is no region and no pruning to see."""
    look, network, images = looked(DEIT, photo, tmp_path)
    assert look.stages[0].traces == ()
    assert look.answer.index == int(network(images).argmax())


def test_large_photos_are_shown_smaller_and_framed_alike(photo: Path, tmp_path: Path) -> None:
    """The frame covers the same share of the photo, however large that is."""
    weights = save_narrow(LF_VIT, tmp_path / "weights.safetensors")
    viewer = Viewer(LF_VIT, weights, CPU, torch.float32)
    classes = name_classes(viewer.num_classes)
    small = open_image(photo)
    large = small.resize((small.width * 8, small.height * 8))
    looks = [viewer.look(photo, image, classes, ExitPolicy.at(0.5)) for image in (small, large)]
    assert max(looks[1].photo.shape) == 640
    first, second = (np.array(look.frame) / np.tile(look.photo.shape[1::-1], 2) for look in looks)
    np.testing.assert_allclose(first, second, atol=0.005)


def test_random_weights_are_the_same_each_time(photo: Path) -> None:
    """Without a checkpoint two looks agree."""
    classes = name_classes(5)
    answers = [
        Viewer(LF_VIT, None, CPU, torch.float32).look(photo, open_image(photo), classes, ExitPolicy.at(0.5)).answer
        for _ in range(2)
    ]
    assert answers[0] == answers[1]


@torch.inference_mode()
@pytest.mark.parametrize("criterion", ["margin", "top10-entropy"])
def test_three_stages_are_decided_by_any_criterion(photo: Path, exit_vit: Path, criterion: str) -> None:
    """The stage that answers is that of the walk, for thresholds on either side of every value."""
    load_methods([str(exit_vit)])
    spec = "exit_vit_small:embed_dim=24,num_heads=3,num_classes=5"
    viewer = Viewer(spec, None, CPU, torch.float32)
    classes, image = name_classes(5), open_image(photo)
    torch.manual_seed(0)
    network = build(spec)
    images = build_transform(TransformSettings(**evaluation_settings(network)))(image)[None]
    values = viewer.look(photo, image, classes, ExitPolicy.at(0.0, 0.0, criterion=criterion)).stages
    nearby = [
        sorted({0.0, max(0.0, float(stage.value or 0) - 1e-3), float(stage.value or 0) + 1e-3}) for stage in values
    ]
    answered = set()
    for thresholds in itertools.product(*nearby[:2]):
        policy = ExitPolicy.at(*thresholds, criterion=criterion)
        look = viewer.look(photo, image, classes, policy)
        assert look.answered == int(walk(stages_of(network), images, policy).exit_stage[0])
        answered.add(look.answered)
    assert answered == {0, 1, 2}


def test_what_little_a_network_knows_is_said(photo: Path) -> None:
    """In the look, where it was asked for."""
    classes = name_classes(5)
    looks = [
        Viewer(LF_VIT, None, CPU, torch.float32, limited=limited).look(
            photo, open_image(photo), classes, ExitPolicy.at(0.5)
        )
        for limited in (False, True)
    ]
    known = "knows only 5 classes, such as class 0, class 1, class 2 and class 3, and calls everything else one of them"
    assert [look.knows for look in looks] == [None, known]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("boot",), "knows only boot,"),
        (("boot", "cap"), "knows only boot and cap,"),
        (CLASSES[:4], "knows only boot, cap, coat and robe,"),
        (
            ("a long name", "ant", "bee", "b long", "cat", "dog", "a d", "eel!"),
            "8 classes, such as ant, bee, cat and a d,",
        ),
    ],
)
def test_short_names_from_the_whole_list_stand_for_all(names: tuple[str, ...], words: str) -> None:
    """All of a few names; of many, the shortest of each quarter."""
    assert words in known_classes(names)


@pytest.mark.parametrize(
    "trace",
    [Heat(torch.zeros(1, 49)), Tokens(torch.zeros(1, 49, dtype=torch.long)), Trace()],
    ids=["flat heat", "flat tokens", "unknown"],
)
def test_a_trace_of_another_shape_or_kind_is_refused(
    photo: Path, trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network from outside learns what its traces should be."""
    viewer = Viewer(DEIT, None, CPU, torch.float32)
    monkeypatch.setattr(viewer, "_run", lambda _: (Output(torch.zeros(1, 5), traces=(trace,)),))
    with pytest.raises(MeasureError, match=f"a trace of the kind {type(trace).__name__} cannot be drawn"):
        viewer.look(photo, open_image(photo), name_classes(5), ExitPolicy.never(1))


def test_an_answer_that_is_no_number_goes_on(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the walk, whichever way the criterion compares."""
    viewer = Viewer(LF_VIT, None, CPU, torch.float32)
    nothing = Output(torch.full((1, 5), torch.nan))
    monkeypatch.setattr(viewer, "_run", lambda _: (nothing, Output(torch.zeros(1, 5))))
    for criterion in ("confidence", "entropy"):
        policy = ExitPolicy.at(0.0 if criterion == "confidence" else 9.0, criterion=criterion)
        assert viewer.look(photo, open_image(photo), name_classes(5), policy).answered == 1
