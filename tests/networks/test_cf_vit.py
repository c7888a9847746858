"""Tests of networks/cf_vit.py."""

import copy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from networks.cases import Case, agree, close, golden_case, images, narrow
from torch import nn

from lfvit_cli.cost import count_stages
from lfvit_cli.errors import CheckpointError, KeywordError
from lfvit_cli.networks.build import build
from lfvit_cli.networks.checkpoints import family_of, load_checkpoint
from lfvit_cli.networks.stages import stage_names, stages_of, walk
from lfvit_cli.networks.traces import Heat, Tokens
from lfvit_cli.policies import ExitPolicy


@pytest.fixture(params=["cf_vit_7x7", "cf_vit_9x9"])
def case(request: pytest.FixtureRequest) -> Case:
    """Each golden case of CF-ViT."""
    return golden_case(request.param)


@torch.inference_mode()
def test_golden_answers(case: Case, tmp_path: Path) -> None:
    """Both stages, the class attention and the refined cells are the authors', from their own kind of file."""
    torch.save({"model": case.state, "flop": 1, "epoch": 3}, tmp_path / "cf.pth")
    network = case.bare_network()
    load_checkpoint(network, str(tmp_path / "cf.pth"))
    outputs: tuple[Any, ...] = walk(stages_of(network), case.images).outputs
    coarse, fine = outputs
    assert agree(coarse.logits, case.expected["coarse_logits"])
    assert agree(fine.logits, case.expected["fine_logits"])
    assert close(coarse.class_attention, case.expected["global_class_attention"], 1e-6)
    assert torch.equal(fine.fine_tokens, case.expected["fine_token_index"])
    assert torch.equal(fine.kept_cells.sort(dim=1).values, case.expected["coarse_cells"])
    everywhere = network.fine(case.images, coarse, select=False)
    assert agree(everywhere.logits, case.expected["fine_logits_all_tokens"])


@torch.inference_mode()
def test_golden_early_exit(case: Case) -> None:
    """At the case's threshold the same rows exit, and every row has the authors' answer."""
    answer = walk(stages_of(case.network()), case.images, ExitPolicy.at(case.threshold))
    assert torch.equal(answer.exited, case.expected["exited"])
    assert 0 < int(answer.exited.sum()) < len(case.images)
    assert agree(answer.logits, case.expected["early_exit_logits"])


def test_golden_macs(case: Case) -> None:
    """The published arithmetic is fvcore's count of the authors' network, to the last MAC."""
    macs = case.bare_network().published_macs()
    assert macs["coarse"] == case.macs["coarse"]
    assert sum(macs.values()) == case.macs["both_phases"]


@pytest.mark.parametrize(
    ("spec", "coarse", "both"),
    [
        ("cf_deit_small", 1_101_957_888, 4_022_324_736),
        ("cf_deit_small:coarse_grid=9", 1_831_336_704, 6_773_147_136),
    ],
)
def test_macs_at_full_size(spec: str, coarse: int, both: int) -> None:
    """As the authors count, and less in all as it runs: only the refined patches are embedded and reused."""
    rows = count_stages(spec, build(spec))
    published = [row.published_macs or row.macs for row in rows]
    assert published == [coarse, both - coarse]
    assert sum(row.macs for row in rows) < both


@pytest.mark.parametrize(("keywords", "tokens"), [({}, 125), ({"coarse_grid": 9}, 205)])
@torch.inference_mode()
def test_published_token_counts(keywords: dict[str, Any], tokens: int) -> None:
    """The fine pass runs on 125 tokens at 7 x 7, and on 205 at 9 x 9."""
    network = narrow("cf_deit_tiny", depth=4, **keywords)
    seen = []
    network.blocks[0].register_forward_hook(lambda _, __, output: seen.append(output.shape[1]))
    network(images(1, network.image_size))
    assert seen == [network.grid**2 + 1, tokens]


@torch.inference_mode()
def test_an_image_is_answered_as_if_alone_in_any_precision() -> None:
    """Three at once are three times one; a copy in float64 agrees."""
    network, batch = narrow("cf_deit_tiny", depth=4), images(3, 224)
    together = network(batch)
    assert close(together, torch.cat([network(image[None]) for image in batch]), 1e-4)
    double = copy.deepcopy(network).to(torch.float64)
    assert agree(double(batch.double()).float(), together, 1e-4)
    assert stage_names(network) == ("coarse", "fine")


@torch.inference_mode()
def test_traces_say_what_was_refined() -> None:
    """Attention on the cells, and the token that each fine patch is in: its own, or that of four in a coarse cell."""
    network = narrow("cf_deit_tiny", depth=4)
    coarse, fine = walk(stages_of(network), images(2, 224)).outputs
    (heat,), (tokens,) = coarse.traces, fine.traces
    assert isinstance(heat, Heat)
    assert isinstance(tokens, Tokens)
    assert torch.equal(heat.values.flatten(1), coarse.class_attention)  # type: ignore[attr-defined]
    best = coarse.class_attention.topk(25, dim=1).indices  # type: ignore[attr-defined]
    assert torch.equal(fine.kept_cells, best)  # type: ignore[attr-defined]
    for row in range(2):
        owners, counts = tokens.owner[row].unique(return_counts=True)
        assert owners[counts == 1].tolist() == fine.fine_tokens[row].tolist()  # type: ignore[attr-defined]
        assert int((counts == 4).sum()) == 24


def test_gradients_flow() -> None:
    """The fine answer alone moves every weight, those of the coarse pass through reuse included."""
    network = narrow("cf_deit_tiny", depth=4, drop_path_rate=0.1).train()
    network(images(2, 224)).square().sum().backward()
    assert not [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]


def test_files_are_lf_vits(tmp_path: Path) -> None:
    """CF-ViT's and LF-ViT's files have the same keys, and each network takes the other's."""
    case = golden_case("cf_vit_7x7")
    torch.save(case.state, tmp_path / "cf.pth")
    other = golden_case("lf_vit_7x7").bare_network()
    load_checkpoint(other, str(tmp_path / "cf.pth"))
    assert torch.equal(other.pos_embed_list[0], case.state["pos_embed_list.0"])
    assert family_of(case.state) == family_of(case.bare_network().state_dict()) == "CF-ViT or LF-ViT"


def test_every_norm_has_the_published_epsilon() -> None:
    """1e-6, which logits would hardly tell from 1e-5."""
    norms = [module for module in build("cf_deit_tiny").modules() if isinstance(module, nn.LayerNorm)]
    assert len(norms) == 26
    assert {norm.eps for norm in norms} == {1e-6}


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"coarse_grid": 0}, "coarse_grid=0 is not a grid"),
        ({"alpha": 0.0}, "alpha=0.0 is not a share"),
        ({"alpha": 1.5}, "alpha=1.5"),
        ({"beta": 1.0}, "beta=1.0 is not a decay"),
        ({"attention_layers": (12,)}, "from 0 to 11"),
    ],
)
def test_values_that_describe_no_network(keywords: dict[str, Any], words: str) -> None:
    """Are refused in words that name the value and the remedy."""
    with pytest.raises(KeywordError, match=words):
        timm.create_model("cf_deit_tiny", **keywords)


def test_another_methods_checkpoint_is_named(tmp_path: Path) -> None:
    """With the likely right name."""
    torch.save(golden_case("evo_vit_deit_stage").state, tmp_path / "evo.pth")
    with pytest.raises(CheckpointError, match=r"holds Evo-ViT weights.*Name a Evo-ViT model"):
        load_checkpoint(golden_case("cf_vit_7x7").bare_network(), str(tmp_path / "evo.pth"))
