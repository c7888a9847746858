"""Tests of networks/controls.py; what its schedule is, test_token_schedule.py has."""

import pytest
import timm
import torch
from networks.cases import agree, close, images, narrow
from networks.owners import owners, reductions

from lfvit_cli.cost import count_stages
from lfvit_cli.networks.controls import PRIME, GroupMean, ImageShuffle, scramble
from lfvit_cli.networks.method import method_of

CONTROLS = ("random", "pool")


def test_small_macs() -> None:
    """Both cost DynamicViT's tokens, and not its predictors, whose MACs are counted by hand."""
    ours = [count_stages("", timm.create_model(f"{name}_deit_small").eval())[0] for name in CONTROLS]
    (dynamic,) = count_stages("", timm.create_model("dynamicvit_deit_small").eval())
    width = 384
    predictor = 5 * width + width**2 + width**2 // 2 + (width // 2) * (width // 4) + (width // 4) * 2
    assert [row.macs for row in ours] == [2_883_782_016] * 2
    assert dynamic.macs - ours[0].macs == (196 + 137 + 96) * predictor
    assert [row.tokens_per_layer for row in ours] == [dynamic.tokens_per_layer] * 2


@pytest.mark.parametrize("control", CONTROLS)
@torch.inference_mode()
def test_keeping_all_is_deit(control: str) -> None:
    """With every ratio 1 the network is timm's DeiT with the same weights."""
    network = narrow(f"{control}_deit_tiny", token_ratio=(1, 1, 1), img_size=64)
    plain = timm.create_model("deit_tiny_patch16_224", img_size=64, embed_dim=24, num_heads=3, num_classes=5).eval()
    plain.load_state_dict(network.state_dict())
    batch = images(3, 64)
    assert agree(network(batch), plain(batch))


@pytest.mark.parametrize("control", CONTROLS)
def test_says_that_it_is_a_control(control: str) -> None:
    """The catalogue lists both under one name and says what they are."""
    method = method_of(f"{control}_deit_base")
    assert method is not None
    assert method.family in {"Random control", "Pooling control"}
    assert "control" in method.note


@torch.inference_mode()
def test_dropped_stays_dropped() -> None:
    """Each reduction's patches are a part of the one before's, and images differ in theirs."""
    output = narrow("random_deit_tiny", img_size=64).answer(images(4, 64))
    kept = [owners(trace).tolist() for trace in reductions(output)]
    for first, second, third in zip(*kept, strict=True):
        assert set(third) < set(second) < set(first) < set(range(16))
    assert len({tuple(row) for row in kept[0]}) > 1


def test_the_draw_is_integer_arithmetic() -> None:
    """The order is what Python's own integers give, whatever the layout in memory, and double precision has it, too."""
    shuffle, image = ImageShuffle(3 * 8 * 8, 40), images(1, 32)
    scrambled = [pow(10**6 + place, 5, PRIME) for place in range(192)]
    pixels = [round(float(value) * 1024) for value in image[:, :, ::4, ::4].flatten()]
    seed = sum(pixel * weight for pixel, weight in zip(pixels, scrambled, strict=True))
    ranks = [pow((seed + number) % PRIME, 5, PRIME) for number in scrambled[:40]]
    expected = sorted(range(40), key=ranks.__getitem__)
    assert shuffle(image)[0].tolist() == expected
    assert shuffle(image.double())[0].tolist() == expected
    assert shuffle(image.to(memory_format=torch.channels_last))[0].tolist() == expected


def test_scrambled_numbers_differ() -> None:
    """No two numbers are scrambled to the same, so that no order has ties."""
    assert len(scramble(torch.arange(10**5)).unique()) == 10**5


def test_the_draw_is_fair() -> None:
    """Over many images each patch is kept as often as the next, and neighbours independently of one another."""
    count = 4000
    order = ImageShuffle(3 * 8 * 8, 16)(images(count, 32))
    assert torch.equal(order.sort(dim=1).values, torch.arange(16).expand(count, -1))
    kept = torch.zeros(count, 16).scatter(1, order[:, :8], 1.0)
    deviation = 0.5 / count**0.5
    assert bool(((kept.mean(dim=0) - 0.5).abs() < 4 * deviation).all())
    correlation = torch.corrcoef(kept.T) + torch.eye(16) * -1
    # Half of 16 being kept, any two are correlated by -1/15.
    off = correlation[~torch.eye(16, dtype=torch.bool)]
    assert bool(((off + 1 / 15).abs() < 5 / count**0.5).all())


def test_blank_images_differ() -> None:
    """Images of one colour each, a shade apart, have different orders."""
    shades = (torch.arange(8) / 255 / 0.229).view(8, 1, 1, 1).expand(8, 3, 32, 32)
    orders = ImageShuffle(3 * 8 * 8, 16)(shades)
    assert len({tuple(order) for order in orders.tolist()}) == 8


@pytest.mark.parametrize(("before", "after"), [(196, 137), (137, 96), (7, 3), (16, 5), (5, 5), (9, 1)])
def test_means_are_of_neighbours(before: int, after: int) -> None:
    """Token p goes into token floor(p * after / before), which is the plain mean of all that do."""
    tokens = torch.randn(2, before, 3)
    groups = torch.arange(before) * after // before
    expected = torch.stack([tokens[:, groups == group].mean(dim=1) for group in range(after)], dim=1)
    assert close(GroupMean(before, after)(tokens), expected, 1e-6)


@torch.inference_mode()
def test_averaged_patches_stay_together() -> None:
    """Patches that share a token share the next one, which is of neighbours in raster order."""
    output = narrow("pool_deit_tiny", img_size=160).answer(images(1, 160))
    first, second, third = (trace.owner.flatten() for trace in reductions(output))
    for owner, count in zip((first, second, third), (70, 49, 34), strict=True):
        assert owner.unique().tolist() == list(range(count))
        assert bool((owner.diff() >= 0).all())
    assert torch.equal(second, first * 49 // 70)
    assert torch.equal(third, second * 34 // 49)
