"""Tests of networks/lf_vit.py."""

from typing import Any

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks.cases import LF_VIT, Case, agree, close, full_class_attention, golden_case, images, narrow
from torch import Tensor
from torch.nn import functional as F

from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.exits import confidence
from lfvit_cli.networks.lf_vit import LFViT, default_region_size
from lfvit_cli.networks.stages import stage_names, stages_of, walk
from lfvit_cli.networks.traces import Box, Heat, Tokens
from lfvit_cli.networks.two_grids import attention_weights
from lfvit_cli.policies import ExitPolicy

GRIDS = [(4, 1), (4, 4), (5, 3), (6, 2), (9, 8), (10, 10)]


@pytest.fixture(params=LF_VIT)
def case(request: pytest.FixtureRequest) -> Case:
    """Each golden case of LF-ViT."""
    return golden_case(request.param)


@pytest.fixture(scope="module")
def network() -> LFViT:
    """A narrow LF-ViT of the default 7 x 7 grid."""
    made: LFViT = narrow("lf_deit_tiny")
    return made


@pytest.fixture(scope="module")
def batch() -> Tensor:
    """Eight images of 224 pixels a side."""
    return images(8, 224)


@torch.inference_mode()
def test_golden_location(case: Case) -> None:
    """The location pass answers as the authors' does, and collects the same global class attention."""
    location = case.network().coarse(case.images)
    assert agree(location.logits, case.expected["location_logits"])
    assert close(location.class_attention, case.expected["global_class_attention"], 1e-6)


@torch.inference_mode()
def test_golden_focus(case: Case) -> None:
    """The focus pass answers as the authors' does, from exactly the same fine tokens."""
    network = case.network()
    focus = network.fine(case.images, network.coarse(case.images))
    assert agree(focus.logits, case.expected["focus_logits"])
    assert torch.equal(focus.fine_tokens, case.expected["focus_token_index"])


@torch.inference_mode()
def test_golden_focus_without_selection(case: Case) -> None:
    """Without selection, the focus pass runs on all fine tokens, as the authors' does, and on no coarse ones."""
    network = case.network()
    focus = network.fine(case.images, network.coarse(case.images), select=False)
    assert agree(focus.logits, case.expected["focus_logits_all_tokens"])
    assert torch.equal(focus.fine_tokens, torch.arange(4 * network.grid**2).expand(len(case.images), -1))
    assert focus.region is None
    assert focus.coarse_cells.shape == (len(case.images), 0)


def test_golden_macs(case: Case) -> None:
    """The published arithmetic is fvcore's count of the authors' network, to the last MAC."""
    macs = case.bare_network().published_macs()
    assert macs["location"] == case.macs["location"]
    assert macs["location"] + macs["focus"] == case.macs["both_phases"]


@pytest.mark.parametrize(
    ("keywords", "location", "both"),
    [({}, 1_101_957_888, 3_810_800_256), ({"location_grid": 9}, 1_831_336_704, None)],
)
def test_published_macs_at_full_size(keywords: dict[str, Any], location: int, both: int | None) -> None:
    """LF-ViT-S costs what its authors' count says."""
    with torch.device("meta"):
        macs = timm.create_model("lf_deit_small", **keywords).published_macs()
    assert macs["location"] == location
    assert both is None or sum(macs.values()) == both


@pytest.mark.parametrize(("keywords", "tokens"), [({}, 116), ({"location_grid": 9}, 253)])
@torch.inference_mode()
def test_published_token_counts(keywords: dict[str, Any], tokens: int) -> None:
    """The focus pass runs on 116 tokens at 7 x 7, and on 253 at 9 x 9, where the region is 8 cells a side."""
    network = narrow("lf_deit_tiny", depth=4, **keywords)
    seen = []
    network.blocks[0].register_forward_hook(lambda _, __, output: seen.append(output.shape[1]))
    network(images(1, network.image_size))
    assert seen == [network.grid**2 + 1, tokens]


@torch.inference_mode()
def test_class_attention_is_the_decayed_mean_of_full_attention_rows(network: LFViT, batch: Tensor) -> None:
    """G is what the recursion over layers 3 to 11 makes of the whole attention matrices' class rows."""
    projections: list[Tensor] = []
    handles = [
        block.attn.qkv.register_forward_hook(lambda _, __, out: projections.append(out)) for block in network.blocks
    ]
    found = network.coarse(batch).class_attention
    for handle in handles:
        handle.remove()
    expected = torch.zeros(len(batch), 3, 49)
    for projection in projections[3:]:
        query, key, _ = projection.chunk(3, dim=-1)
        expected = 0.99 * expected + 0.01 * full_class_attention(query, key, num_heads=3)
    assert close(found, expected.mean(dim=1), 1e-6)


@settings(deadline=None)
@given(beta=st.floats(0, 0.999), layers=st.sets(st.integers(0, 11), min_size=1))
def test_attention_weights_unroll_the_recursion(beta: float, layers: set[int]) -> None:
    """The closed form gives each layer the weight that G <- beta * G + (1 - beta) * A does."""
    weights = attention_weights(sorted(layers), 12, beta)
    recursion = dict.fromkeys(sorted(layers), 0.0)
    for layer in recursion:
        recursion = {key: beta * value for key, value in recursion.items()}
        recursion[layer] += 1 - beta
    assert weights == pytest.approx(recursion, abs=1e-12)


@torch.inference_mode()
def test_location_is_a_vision_transformer_on_the_reduced_image(network: LFViT, batch: Tensor) -> None:
    """The location pass is timm's VisionTransformer of 112 pixels with the same weights."""
    plain = timm.create_model("deit_tiny_patch16_224", img_size=112, embed_dim=24, num_heads=3, num_classes=5).eval()
    state = {key: value for key, value in network.state_dict().items() if key in plain.state_dict()}
    plain.load_state_dict({**state, "pos_embed": network.pos_embed_list[0]})
    small = F.interpolate(batch, size=112, mode="bilinear", align_corners=True)
    assert close(network.coarse(batch).logits, plain(small))


@torch.inference_mode()
def test_region_of_the_whole_grid_is_the_focus_without_selection(batch: Tensor) -> None:
    """With m = s and alpha = 1 all cells are fine: the pass differs from the unselected one by positions alone."""
    network = narrow("lf_deit_tiny", region_size=7, alpha=1.0, depth=4)
    network.pos_embed_list[1].zero_()
    location = network.coarse(batch)
    assert close(network.fine(batch, location).logits, network.fine(batch, location, select=False).logits)


@torch.inference_mode()
def test_answers_do_not_depend_on_companions(network: LFViT, batch: Tensor) -> None:
    """Reversing a batch reverses its answers, regions and tokens."""
    forth, back = (network.fine(part, network.coarse(part)) for part in (batch, batch.flip(0)))
    assert close(back.logits.flip(0), forth.logits)
    assert torch.equal(back.fine_tokens.flip(0), forth.fine_tokens)


@torch.inference_mode()
def test_memory_format_changes_no_answer(network: LFViT, batch: Tensor) -> None:
    """Images whose channels come last in memory are read all the same."""
    assert close(network(batch.contiguous(memory_format=torch.channels_last)), network(batch))


@pytest.mark.parametrize(("grid", "region"), GRIDS)
@torch.inference_mode()
def test_any_grid_and_region(grid: int, region: int) -> None:
    """Every grid with every region up to the grid runs, and its tokens cover the picture once."""
    network = narrow("lf_deit_tiny", location_grid=grid, region_size=region, depth=4)
    batch = images(2, 32 * grid)
    location = network.coarse(batch)
    focus = network.fine(batch, location)
    assert location.class_attention.shape == (2, grid**2)
    assert focus.logits.shape == network.fine(batch, location, select=False).logits.shape == (2, 5)
    assert bool(focus.logits.isfinite().all())
    cells = torch.cat((focus.kept_cells, focus.coarse_cells), dim=1).sort(dim=1).values
    assert torch.equal(cells, torch.arange(grid**2).expand(2, -1))


@torch.inference_mode()
def test_patch_size_sets_the_image_size() -> None:
    """Patches of 8 pixels on a 5 x 5 grid make images of 80 pixels a side."""
    network = narrow("lf_deit_tiny", location_grid=5, patch_size=8, depth=4)
    assert network.image_size == 80
    assert network(images(2, 80)).shape == (2, 5)


@pytest.mark.parametrize(("grid", "region"), [(7, 5), (9, 8), (3, 3), (12, 5)])
def test_default_region(grid: int, region: int) -> None:
    """The region is 5 cells a side at 7 x 7 and 8 at 9 x 9, as published, and never larger than the grid."""
    assert default_region_size(grid) == region


@torch.inference_mode()
def test_bfloat16(batch: Tensor) -> None:
    """In bfloat16 both stages run, and G and the confidence that decides stay float32."""
    network = narrow("lf_deit_tiny", depth=4).bfloat16()
    location = network.coarse(batch.bfloat16())
    policy = ExitPolicy.at(confidence(location.logits).median().item())
    answer = walk(stages_of(network), batch.bfloat16(), policy)
    assert location.class_attention.dtype == torch.float32
    assert answer.logits.dtype == torch.bfloat16
    assert 0 < answer.exited.sum() < len(batch)


@torch.inference_mode()
def test_autocast(network: LFViT, batch: Tensor) -> None:
    """Under autocast the answers stay near those of float32."""
    expected = network(batch)
    with torch.autocast("cpu", torch.bfloat16):
        found = network(batch).float()
    assert close(found, expected, 0.2 * expected.abs().max().item())


@pytest.mark.parametrize("select", [True, False])
def test_gradients_flow_through_both_stages(batch: Tensor, select: bool) -> None:
    """In training the focus answer alone moves every weight, those of the location pass through reuse included."""
    network = narrow("lf_deit_tiny", depth=4, drop_path_rate=0.1).train()
    location = network.coarse(batch)
    network.fine(batch, location, select=select).logits.square().sum().backward()
    still = {name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()}
    # Without selection the authors' network adds no fine position.
    assert still == (set() if select else {"pos_embed_list.1"})


def test_location_embeddings_carry_gradient_to_their_input(batch: Tensor) -> None:
    """The location answer's gradient reaches its position embedding, and leaves the focus pass's alone."""
    network = narrow("lf_deit_tiny", depth=4).train()
    network.coarse(batch).logits.square().sum().backward()
    assert bool(network.pos_embed_list[0].grad.any())
    assert network.pos_embed_list[1].grad is None


@torch.inference_mode()
def test_stages_are_location_and_focus(network: LFViT, batch: Tensor) -> None:
    """The focus stage chooses its region first; its answer is the network's."""
    assert stage_names(network) == ("location", "focus")
    location, focus = stages_of(network)
    state = location(batch[:2], None)
    assert focus.prepare is not None
    assert focus.prepare(state).cells is not None  # type: ignore[attr-defined]
    assert torch.equal(focus(batch[:2], state).logits, focus.run(batch[:2], state).logits)
    assert torch.equal(focus(batch[:2], state).logits, network(batch[:2]))


@torch.inference_mode()
def test_traces_say_where_it_looked(network: LFViT, batch: Tensor) -> None:
    """Attention on the cells, the window, and the token that each fine patch is in."""
    location, focus = walk(stages_of(network), batch).outputs
    (heat,), (box, tokens) = location.traces, focus.traces
    assert isinstance(heat, Heat)
    assert isinstance(box, Box)
    assert isinstance(tokens, Tokens)
    assert torch.equal(heat.values.flatten(1), location.class_attention)  # type: ignore[attr-defined]
    for row in range(len(batch)):
        inside = torch.zeros(7, 7, dtype=torch.bool)
        inside[box.row[row] : box.row[row] + box.height, box.column[row] : box.column[row] + box.width] = True
        assert torch.equal(inside.flatten(), network.selector.in_window[focus.region[row]])  # type: ignore[attr-defined]
        owners, counts = tokens.owner[row].unique(return_counts=True)
        assert owners[counts == 1].tolist() == focus.fine_tokens[row].tolist()  # type: ignore[attr-defined]
        assert (counts == 4).sum() == focus.coarse_cells.shape[1]  # type: ignore[attr-defined]


def test_images_of_another_size_are_refused(network: LFViT) -> None:
    """Images that are not 32s pixels a side are refused with both sizes named."""
    with pytest.raises(ValueError, match=r"\(112, 112\).*224"):
        network.coarse(images(1, 112))


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"region_size": 8}, "region_size=8 does not fit a location grid of 7 x 7"),
        ({"region_size": 0}, "from 1 to 7"),
        ({"location_grid": 0}, "location_grid=0"),
        ({"alpha": 0.0}, "alpha=0.0"),
        ({"alpha": 1.5}, "alpha=1.5"),
        ({"beta": 1.0}, "beta=1.0"),
        ({"attention_layers": ()}, "at least one layer"),
        ({"attention_layers": (3, 12)}, "from 0 to 11"),
        ({"num_heads": 5}, "num_heads=5"),
        ({"patch_size": 0}, "patches of 0"),
    ],
)
def test_values_that_describe_no_network(keywords: dict[str, Any], words: str) -> None:
    """Impossible values are refused in words that name the value and the remedy."""
    with pytest.raises(KeywordError, match=words):
        timm.create_model("lf_deit_tiny", **keywords)


@settings(max_examples=10, deadline=None)
@given(st.floats(0.01, 1.0), st.integers(1, 4))
def test_token_count_follows_alpha(alpha: float, region: int) -> None:
    """Whatever alpha, the fine tokens that ran are as many as were asked for, all different, in order."""
    network = narrow("lf_deit_tiny", location_grid=4, region_size=region, alpha=alpha, depth=1, attention_layers=(0,))
    with torch.inference_mode():
        focus = network.fine(images(2, 128), network.coarse(images(2, 128)))
    assert focus.fine_tokens.shape == (2, 4 * network.selector.kept)
    assert bool((focus.fine_tokens.diff(dim=1) > 0).all())


def test_weight_decay_spares_tokens_and_positions(network: LFViT) -> None:
    """The names left undecayed are parameters of the network."""
    assert network.no_weight_decay() < {name for name, _ in network.named_parameters()}
