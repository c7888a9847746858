"""Tests of networks/spvit.py."""

from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from networks.cases import close, golden_case, narrow
from networks.owners import reductions
from torch import Tensor, nn

from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.checkpoints import family_of
from lfvit_cli.networks.spvit import Selector


@torch.inference_mode()
def test_golden_patches() -> None:
    """After each selection, exactly the reference's patches are left; the others are in the package of theirs."""
    case = golden_case("spvit")
    traces = reductions(case.network().answer(case.images))
    assert [trace.name for trace in traces] == ["layer 3", "layer 6", "layer 9"]
    dropped_before = torch.zeros(2, 196, dtype=torch.bool)
    for selection, (layer, trace) in enumerate(zip((3, 6, 9), traces, strict=True)):
        owner, kept = trace.owner.flatten(1), case.expected[f"kept_mask_{layer}"]
        assert torch.equal(owner == torch.arange(196), kept)
        assert (owner[~kept & ~dropped_before] == 196 + selection).all()
        assert (owner[dropped_before] < 196 + selection).all()
        dropped_before = ~kept


@torch.inference_mode()
def test_one_more_token_after_each_selection() -> None:
    """An image has the class token, the patches kept, and as many packages as there were selections."""
    case = golden_case("spvit")
    output = case.network().answer(case.images)
    for selection, layer in enumerate((3, 6, 9)):
        kept = case.expected[f"kept_mask_{layer}"].sum(dim=1)
        assert torch.equal(output.attended[:, layer], 1 + kept + selection + 1)


def test_published_macs() -> None:
    """The released network masks and runs all tokens: the golden case's figure."""
    case = golden_case("spvit")
    assert case.bare_network().published_macs() == {"full": case.macs["total_released_masked"]}


@torch.inference_mode()
def test_package_is_a_weighted_sum_of_the_dropped() -> None:
    """A selection by hand, in one image: the tokens kept in their order, then the package."""
    case = golden_case("spvit")
    network, image = case.network(), case.images[:1]
    entered: list[Tensor] = []
    network.blocks[3].norm1.register_forward_pre_hook(lambda _, args: entered.append(args[0]))
    tokens = network.embed(image)
    for block in network.blocks[:3]:
        tokens = block(tokens)
    keep, chances = network.score_predictor[0](tokens[:, 1:], None)
    assert torch.equal(keep, case.expected["kept_mask_3"][:1])
    dropped = tokens[0, 1:][~keep[0]]
    package = (chances[0, ~keep[0]].unsqueeze(1) * dropped).sum(dim=0)
    entered.clear()
    network(image)
    expected = torch.cat((tokens[0, :1], tokens[0, 1:][keep[0]], package.unsqueeze(0)))
    assert close(entered[0][0], expected, 1e-4)


@torch.inference_mode()
def test_selector_by_hand() -> None:
    """Head by head: the mean of each head weighs it, and half of its features are the mean over the tokens."""
    selector = Selector(24, 3).eval()
    tokens = torch.randn(1, 7, 24)
    weights = selector.senet(tokens.unflatten(2, (3, 8)).mean(dim=3))
    logits = []
    for head in range(3):
        features = selector.in_conv[head](tokens[..., 8 * head : 8 * head + 8])
        features[..., 4:] = features[..., 4:].mean(dim=1, keepdim=True)
        logits.append(selector.out_conv[head](features))
    stacked = torch.stack(logits, dim=2)
    shares = weights.unsqueeze(3) / weights.sum(dim=2)[:, :, None, None]
    scores = (shares * stacked.log_softmax(dim=3)).sum(dim=2)
    keep, chances = selector(tokens, None)
    assert torch.equal(keep, scores[..., 0] >= scores[..., 1])
    assert close(chances, (shares * stacked.softmax(dim=3)).sum(dim=2)[..., 0], 1e-6)
    present = torch.tensor([[True, False, True, True, False, True, True]])
    kept, alone = selector(tokens, present)[0], selector(tokens[:, present[0]], None)[0]
    assert torch.equal(kept[present], alone[0])


@torch.inference_mode()
def test_heads_share_their_module() -> None:
    """A published file has the module under each head's name, and all of them are one; the last head's values count."""
    network = narrow("spvit_deit_tiny", img_size=64)
    state = network.state_dict()
    assert set(golden_case("spvit").state) == set(state)
    keys = [f"score_predictor.1.out_conv.{head}.4.weight" for head in range(3)]
    assert [key in dict(network.named_parameters()) for key in keys] == [True, False, False]
    # In files, each has its own memory; safetensors refuses what is shared.
    assert all(torch.equal(state[keys[0]], state[key]) for key in keys)
    assert len({state[key].data_ptr() for key in keys}) == 3
    safetensors.torch.save(state)
    network.load_state_dict({**state, keys[2]: state[keys[2]] + 1})
    assert torch.equal(network.state_dict()[keys[0]], state[keys[2]] + 1)


def test_eps_of_the_selectors_norms() -> None:
    """Logits do not pin it: the selectors' norms have 1e-5."""
    network = narrow("spvit_deit_tiny", img_size=64)
    eps = [each.eps for each in network.score_predictor.modules() if isinstance(each, nn.LayerNorm)]
    assert eps == [1e-5] * 3


def test_files_of_relatives_are_told_apart() -> None:
    """DynamicViT's files have score predictors too, but are no file for this network."""
    families = [family_of(narrow(f"{method}_deit_tiny").state_dict()) for method in ("spvit", "dynamicvit", "ats")]
    assert families == ["SPViT", "DynamicViT", "DeiT"]


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"pruning_loc": (3, 12)}, "from 0 to 11"),
        ({"pruning_loc": (6, 3)}, "ascending"),
        ({"pruning_loc": ()}, "ascending"),
        ({"embed_dim": 27}, "even number of channels"),
        ({"num_heads": 1}, "at least 2 heads"),
        ({"embed_dim": 6}, "even number of channels"),
        ({"num_heads": 5}, "num_heads=5"),
    ],
)
def test_values_that_describe_no_network(keywords: dict[str, Any], words: str) -> None:
    """Impossible values are refused in words that name the value or the remedy."""
    with pytest.raises(KeywordError, match=words):
        timm.create_model("spvit_deit_tiny", **keywords)
