"""Tests of training/objectives.py, and of every method's first steps."""

import inspect

import pytest
import torch
from made_training import DEIT, DYNAMIC_VIT, EVO_VIT, LF_VIT, NARROW
from networks.cases import close, images
from networks.three_stages import NAMES, SIDE, ThreeStages, three_stages
from torch import Tensor, nn
from torch.nn import functional as F

from lfvit_cli.commands.train import train
from lfvit_cli.networks.build import build, image_size, parse_spec
from lfvit_cli.networks.method import Method, method_of, methods
from lfvit_cli.training.dvt import DVTObjective
from lfvit_cli.training.dynamic_vit import DynamicViTObjective
from lfvit_cli.training.evit import EViTObjective
from lfvit_cli.training.evo_vit import EvoViTObjective
from lfvit_cli.training.objective import Lesson, ObjectiveSettings
from lfvit_cli.training.objectives import StagesObjective, built_in_objective, objective_for, stage_logits, teach
from lfvit_cli.training.two_grids import TwoGridObjective

LABELS = torch.tensor([1, 3])
SEEDS = torch.tensor([7, 8])
CF_VIT = f"cf_deit_tiny:{NARROW},coarse_grid=3"
DVT = f"dvt_deit_tiny:{NARROW},img_size=64,patch_sizes=(32,22,16),reuse_hidden=8,reuse_width=4"
EVIT = f"evit_deit_tiny:{NARROW},img_size=96"
THINKING_VIT = "thinking_deit_3h_6h:depth=4,embed_dim=48,thinking_stages=(1,2),img_size=96"
MULTI_EXIT = f"multi_exit_deit_tiny:{NARROW},img_size=96,layers=(1,2)"
KINDS = {
    LF_VIT: TwoGridObjective,
    CF_VIT: TwoGridObjective,
    DYNAMIC_VIT: DynamicViTObjective,
    EVIT: EViTObjective,
    EVO_VIT: EvoViTObjective,
    DVT: DVTObjective,
    DEIT: StagesObjective,
    THINKING_VIT: StagesObjective,
    MULTI_EXIT: StagesObjective,
}


def objective(spec: str, num_classes: int = 4) -> nn.Module:
    """A network of some method with its objective."""
    network = build(spec, num_classes=num_classes)
    return objective_for(network, ObjectiveSettings(), method_of(parse_spec(spec)[0]))


@pytest.mark.parametrize(("spec", "kind"), KINDS.items())
def test_every_method_has_its_objective_and_learns(spec: str, kind: type) -> None:
    """That of the file of the same name, or the default; a few steps lower the loss, in its first and final form."""
    torch.manual_seed(0)
    trained = objective(spec).train()
    assert type(trained) is kind
    seen, labels = images(8, image_size(trained.network)), torch.arange(8) % 4  # type: ignore[arg-type]
    optimizer = torch.optim.AdamW(trained.parameters(), lr=1e-3)
    for progress in (0.0, 1.0):
        course = []
        for _ in range(6):
            losses = trained(seen, labels, None, progress, torch.arange(8))  # the same decisions each time
            optimizer.zero_grad()
            losses["loss"].backward()
            optimizer.step()
            course.append(losses["loss"].item())
        assert course[-1] < course[0]


def test_help_names_the_methods_with_objectives_of_their_own() -> None:
    """Just those, by their families' names."""
    own = {method.family for method in methods() if isinstance(method.network, type) and _own(method)}
    said = " ".join(inspect.getdoc(train).split()).partition(" have losses or schedules of their own")[0]  # type: ignore[union-attr]
    named = said.rpartition(". ")[2].replace(" and ", ", ").split(", ")
    assert named == sorted(own)


def _own(method: Method) -> bool:
    network = method.network
    return isinstance(network, type) and built_in_objective(network) is not None


def test_every_exit_of_a_network_without_its_own_loss_learns() -> None:
    """The mean of the three stages' cross entropies, and a gradient in every head."""
    network = three_stages().requires_grad_(True)
    seen = images(2, SIDE)
    losses = objective_for(network, ObjectiveSettings())(seen, LABELS, None, 0.0, SEEDS)
    alone = [F.cross_entropy(logits, LABELS).item() for logits in stage_logits(network, seen)]
    assert [losses[name].item() for name in NAMES] == pytest.approx(alone, rel=1e-5)
    assert losses["loss"].item() == pytest.approx(sum(alone) / 3, rel=1e-5)
    losses["loss"].backward()
    assert all(layer.weight.grad is not None for layer in network.layers)


def test_every_exit_learns_from_a_teacher() -> None:
    """With soft distillation, each stage's part is half cross entropy and half divergence from the teacher."""
    network, seen = three_stages(), images(2, SIDE)
    lesson = Lesson(torch.tensor([[2.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 3.0]]), None)
    losses = objective_for(network, ObjectiveSettings("soft", 1.0, 0.5))(seen, LABELS, lesson, 0.0, SEEDS)
    taught = lesson.logits.softmax(dim=1)
    for name, logits in zip(NAMES, stage_logits(network, seen), strict=True):
        kl = F.kl_div(logits.log_softmax(dim=1), taught, reduction="batchmean")
        expected = 0.5 * F.cross_entropy(logits, LABELS) + 0.5 * kl
        assert losses[name].item() == pytest.approx(expected.item(), rel=1e-4)


def test_dvt_adds_its_losses_up() -> None:
    """The sum of the three cross entropies, not their mean."""
    trained = objective(DVT)
    losses = trained(images(2, 64), LABELS, None, 0.0, SEEDS)
    parts = [value.item() for name, value in losses.items() if name != "loss"]
    assert len(parts) == 3
    assert losses["loss"].item() == pytest.approx(sum(parts), rel=1e-5)


def test_an_outside_method_brings_its_own_objective() -> None:
    """Called with the network and the settings; without one, and without a method, the default is taken."""

    class Own(nn.Module):
        """A loss of one's own, of which nothing but the call is asked."""

        def __init__(self, network: nn.Module, settings: ObjectiveSettings) -> None:
            super().__init__()
            self.network, self.settings = network, settings

        def forward(self, images: Tensor, *_: object) -> dict[str, Tensor]:
            """Large logits cost."""
            return {"loss": self.network(images).square().mean()}

    settings, network = ObjectiveSettings("hard"), three_stages()
    brought = objective_for(network, settings, Method("Own", ThreeStages, {"own_net": {}}, objective=Own))
    assert isinstance(brought, Own)
    assert (brought.network, brought.settings) == (network, settings)
    for method in (Method("Own", ThreeStages, {"own_net": {}}), None):
        assert type(objective_for(network, settings, method)) is StagesObjective


def test_deit_loss_with_a_teacher() -> None:
    """Half the label's cross entropy, half that of the teacher's first class; one stage, so no parts."""
    model = build(DEIT, num_classes=5)
    seen = images(2, 96)
    lesson = Lesson(F.one_hot(torch.tensor([4, 0]), 5).float(), None)
    losses = objective_for(model, ObjectiveSettings("hard"))(seen, LABELS, lesson, 0.0, SEEDS)
    logits = model(seen)
    expected = 0.5 * F.cross_entropy(logits, LABELS) + 0.5 * F.cross_entropy(logits, torch.tensor([4, 0]))
    assert losses.keys() == {"loss"}
    assert close(losses["loss"], expected, 1e-5)


def test_a_teacher_answers_as_the_network_does() -> None:
    """A plain transformer gives its logits and normalised patch tokens; a staged one its last stage's logits."""
    seen = images(2, 96)
    deit = build(DEIT, num_classes=5)
    lesson = teach(deit, seen)
    assert close(lesson.logits, deit(seen))
    assert lesson.tokens is not None
    assert lesson.tokens.shape == (2, 36, 24)
    lf_vit = build(LF_VIT, num_classes=5)
    assert close(teach(lf_vit, seen).logits, stage_logits(lf_vit, seen)[1])
