"""Tests of training/objectives.py and of the objectives of LF-ViT and Evo-ViT."""

import math

import pytest
import torch
from made_training import SPECS
from networks.cases import close, images, narrow
from networks.three_stages import NAMES, SIDE, ThreeStages, three_stages
from torch.nn import functional as F

from lfvit_cli.networks.build import build
from lfvit_cli.networks.evo_vit import selection_layers
from lfvit_cli.networks.method import Method, register
from lfvit_cli.training.dynamic_vit import DynamicViTObjective
from lfvit_cli.training.evo_vit import EvoViTObjective
from lfvit_cli.training.lf_vit import LFViTObjective
from lfvit_cli.training.objective import Lesson, ObjectiveSettings
from lfvit_cli.training.objectives import StagesObjective, objective_for, stage_logits, teach

LABELS = torch.tensor([1, 3])
SEEDS = torch.tensor([7, 8])


def test_every_method_has_its_objective() -> None:
    """That of the file of the same name; any other network learns on all its stages."""
    kinds = [type(objective_for(build(spec, num_classes=3), ObjectiveSettings())) for spec in SPECS]
    assert kinds == [LFViTObjective, StagesObjective, DynamicViTObjective, EvoViTObjective]


@pytest.mark.parametrize(("progress", "select"), [(0.76, False), (0.77, True)])
def test_lf_vit_loss(progress: float, select: bool) -> None:
    """CE(focus) + KL(focus || location), by hand; the selection starts at 77 % of the training."""
    model = narrow("lf_deit_tiny", depth=4)
    seen = images(2, 224)
    losses = LFViTObjective(model, ObjectiveSettings())(seen, LABELS, None, progress, SEEDS)
    location = model.location(seen)
    p, q = (
        logits.detach().softmax(1) for logits in (model.focus(seen, location, select=select).logits, location.logits)
    )
    focus = -(math.log(p[0, 1]) + math.log(p[1, 3])) / 2
    kl = float((p * (p / q).log()).sum()) / 2
    assert losses["focus"].item() == pytest.approx(focus, rel=1e-4)
    assert losses["location"].item() == pytest.approx(kl, rel=1e-3)
    assert losses["loss"].item() == pytest.approx(focus + kl, rel=1e-4)


def test_lf_vit_takes_mixed_targets() -> None:
    """The focus loss of a mixture of two labels is the mixture of their losses; the location's stays."""
    objective = LFViTObjective(narrow("lf_deit_tiny", depth=4), ObjectiveSettings(final_form_from=0))
    seen, other = images(2, 224), torch.tensor([0, 2])
    one, two = objective(seen, LABELS, None, 0.0, SEEDS), objective(seen, other, None, 0.0, SEEDS)
    mixed = objective(seen, 0.3 * F.one_hot(LABELS, 5) + 0.7 * F.one_hot(other, 5), None, 0.0, SEEDS)
    assert mixed["focus"].item() == pytest.approx(0.3 * one["focus"].item() + 0.7 * two["focus"].item(), rel=1e-4)
    assert mixed["location"].item() == pytest.approx(one["location"].item(), rel=1e-5)


def test_lf_vit_location_learns_from_a_detached_focus() -> None:
    """The location loss alone gives the reuse block, through which only the focus pass goes, no gradient."""
    model = narrow("lf_deit_tiny", depth=4)
    LFViTObjective(model, ObjectiveSettings())(images(2, 224), LABELS, None, 1.0, SEEDS)["location"].backward()
    assert all(parameter.grad is None for parameter in model.reuse_block.parameters())
    assert model.head.weight.grad is not None


@pytest.mark.parametrize(("progress", "selection"), [(0.66, "layer"), (0.67, "stage")])
def test_evo_vit_loss(progress: float, selection: str) -> None:
    """The mean of the two heads' cross entropies; before every layer first, per stage from two thirds on."""
    model = narrow("evo_deit_tiny_patch16_224", depth=10)
    seen = images(2, 224)
    losses = EvoViTObjective(model, ObjectiveSettings())(seen, LABELS, None, progress, SEEDS)
    token, tokens, kept = model.evolve(seen, selection_layers(selection, 10))
    one = F.cross_entropy(model.head(model.norm(tokens.mean(1))), LABELS).item()
    two = F.cross_entropy(model.head_cls(model.norm_cls(token[:, 0])), LABELS).item()
    assert losses["loss"].item() == pytest.approx((one + two) / 2, rel=1e-5)
    assert len(kept) == {"layer": 6, "stage": 2}[selection]


def test_every_exit_of_a_network_without_its_own_loss_learns() -> None:
    """The mean of the three stages' cross entropies, and a gradient in every head."""
    network = three_stages().requires_grad_(True)
    seen = images(2, SIDE)
    objective = objective_for(network, ObjectiveSettings())
    losses = objective(seen, LABELS, None, 0.0, SEEDS)
    alone = [F.cross_entropy(logits, LABELS).item() for logits in stage_logits(network, seen)]
    assert [losses[name].item() for name in NAMES] == pytest.approx(alone, rel=1e-5)
    assert losses["loss"].item() == pytest.approx(sum(alone) / 3, rel=1e-5)
    losses["loss"].backward()
    assert all(layer.weight.grad is not None for layer in network.layers)  # type: ignore[union-attr]


def test_an_outside_method_brings_its_own_objective() -> None:
    """Called with the network and the settings; the class that another method has is untouched."""

    class Own(StagesObjective):
        """A loss of one's own."""

    class OwnNetwork(ThreeStages):
        """A network of one's own."""

    register(Method(family="Own", network=OwnNetwork, models={}, objective=Own))
    assert type(objective_for(OwnNetwork(), ObjectiveSettings())) is Own
    assert type(objective_for(three_stages(), ObjectiveSettings())) is StagesObjective


def test_deit_loss_with_a_teacher() -> None:
    """Half the label's cross entropy, half that of the teacher's first class."""
    model = build(SPECS[1], num_classes=5)
    seen = images(2, 224)
    lesson = Lesson(F.one_hot(torch.tensor([4, 0]), 5).float(), None)
    objective = objective_for(model, ObjectiveSettings("hard"))
    logits = model(seen)
    expected = 0.5 * F.cross_entropy(logits, LABELS) + 0.5 * F.cross_entropy(logits, torch.tensor([4, 0]))
    assert close(objective(seen, LABELS, lesson, 0.0, SEEDS)["loss"], expected, 1e-5)


def test_a_teacher_answers_as_the_network_does() -> None:
    """A plain transformer gives its logits and normalised patch tokens; a staged one its last stage's logits."""
    seen = images(2, 224)
    deit = build(SPECS[1], num_classes=5)
    lesson = teach(deit, seen)
    assert close(lesson.logits, deit(seen))
    assert lesson.tokens is not None
    assert lesson.tokens.shape == (2, 196, 24)
    lf_vit = build(SPECS[0], num_classes=5)
    assert close(teach(lf_vit, seen).logits, stage_logits(lf_vit, seen)[1])


@pytest.mark.parametrize("spec", SPECS)
def test_steps_lower_the_loss(spec: str) -> None:
    """A few steps of each family, in its first and in its final form, lower the loss on 16 images."""
    torch.manual_seed(0)
    objective = objective_for(build(spec, num_classes=4), ObjectiveSettings()).train()
    seen, labels = images(16, 224), torch.arange(16) % 4
    optimizer = torch.optim.AdamW(objective.parameters(), lr=5e-4)
    for progress in (0.0, 1.0):
        course = []
        for _ in range(6):
            losses = objective(seen, labels, None, progress, torch.arange(16))  # the same decisions each time
            optimizer.zero_grad()
            losses["loss"].backward()
            optimizer.step()
            course.append(losses["loss"].item())
        assert course[1] < course[0]
        assert course[-1] < course[1]
