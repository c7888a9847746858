"""The network's economies change nothing: it answers as LF-ViT written plainly does."""

import pytest
import torch
from networks.cases import NARROW, close, golden_case, images
from networks.plain_lf_vit import PlainLFViT

from lfvit_cli.networks.lf_vit import LFViT
from lfvit_cli.networks.method import SMALL
from lfvit_cli.networks.stages import stages_of, walk
from lfvit_cli.policies import ExitPolicy


def test_the_plain_network_gives_the_golden_answers() -> None:
    """So that what the package's own is compared with is right itself."""
    golden = golden_case("lf_vit_7x7")
    plain = PlainLFViT(**(SMALL | golden.keywords)).eval()
    plain.load_state_dict(golden.state)
    with torch.no_grad():
        location, focus = walk(stages_of(plain), golden.images).outputs
    assert close(location.logits, golden.expected["location_logits"])
    assert close(focus.logits, golden.expected["focus_logits"])


@pytest.mark.parametrize("threshold", [0.0, 0.21, 2.0])
def test_both_answer_alike(threshold: float) -> None:
    """Regions, cells, logits and exits."""
    torch.manual_seed(0)
    network, plain = LFViT(depth=4, **NARROW).eval(), PlainLFViT(depth=4, **NARROW).eval()
    for parameter in network.parameters():
        parameter.data.normal_(std=0.15)
    plain.load_state_dict(network.state_dict())
    seen = images(5, 224)
    with torch.no_grad():
        ours, theirs = (walk(stages_of(each), seen, ExitPolicy.at(threshold)) for each in (network, plain))
        assert torch.equal(ours.exit_stage, theirs.exit_stage)
        assert close(ours.logits, theirs.logits, 1e-3)
        focused = [walk(stages_of(each), seen).outputs[1] for each in (network, plain)]
    assert torch.equal(focused[0].region, focused[1].region)  # type: ignore[attr-defined]
    assert torch.equal(focused[0].kept_cells, focused[1].kept_cells)  # type: ignore[attr-defined]
