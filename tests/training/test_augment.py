"""Tests of training/augment.py."""

import random

import numpy as np
import pytest
import torch
from torch import Tensor

from lfvit_cli.images.transforms import TransformSettings, normalise
from lfvit_cli.training.augment import Augmentation, Draws, PhotoOperations, draw, random_crops, seeded
from lfvit_cli.training.data import share_of
from lfvit_cli.training.settings import RECIPES, Recipe

PLAIN = Recipe(epochs=1, batch_size=8, lr=1e-3)
SMALL = TransformSettings(image_size=32)


def pixels(count: int = 8, side: int = 40) -> Tensor:
    """Noise, uint8 (count, 3, side, side)."""
    return torch.randint(256, (count, 3, side, side), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def whole(flip: float) -> Tensor:
    """Draws (1, 5) of a square crop of the greatest area, in the middle."""
    return torch.tensor([[1.0, 0.5, 0.5, 0.5, flip]])


def test_crop_of_the_whole_photo() -> None:
    """The whole area, at the photo's own size, is the photo; mirrored where the flip is drawn."""
    photo = pixels(1, 32)
    assert random_crops(photo, whole(0.9), 32, PLAIN).equal(photo)
    assert random_crops(photo, whole(0.1), 32, PLAIN).equal(photo.flip(3))


def test_crop_of_a_quarter_is_where_it_was_drawn() -> None:
    """A square quarter of the area, at the top right, is that quarter of the photo."""
    recipe = PLAIN.model_copy(update={"crop_scale": (0.25, 0.25)})
    photo = pixels(1, 32)
    crop = random_crops(photo, torch.tensor([[0.0, 0.5, 1.0, 0.0, 0.9]]), 16, recipe)
    assert crop.equal(photo[:, :, :16, 16:])


def test_crops_stay_within_their_range() -> None:
    """On a photo that brightens from left to right, crops span between the least and the whole width."""
    ramp = torch.linspace(0, 255, 64).round().to(torch.uint8).expand(200, 3, 64, 64)
    recipe = PLAIN.model_copy(update={"crop_scale": (0.25, 1.0)})
    crops = random_crops(ramp, torch.rand(200, 5, generator=torch.Generator().manual_seed(0)), 32, recipe).float()
    spans = (crops[:, 0, 0, -1] - crops[:, 0, 0, 0]).abs() / 255
    assert spans.min() > 0.5 * (3 / 4) ** 0.5 - 0.05
    assert spans.max() > 0.9
    mirrored = (crops[:, 0, 0, -1] < crops[:, 0, 0, 0]).float().mean()
    assert 0.35 < mirrored < 0.65


def test_plain_images_are_normalised_and_labels_left() -> None:
    """Without softening, targets are the labels, and the images the normalised crops."""
    draws = draw(8, torch.Generator().manual_seed(0))
    images, targets = Augmentation(PLAIN, SMALL, 4)(pixels(), torch.arange(8) % 4, draws, 0)
    assert targets.tolist() == [0, 1, 2, 3] * 2
    assert images.equal(normalise(random_crops(pixels(), draws.uniform, 32, PLAIN), SMALL))


def test_label_smoothing_spreads_a_share() -> None:
    """A tenth over four classes: 0.925 for the label, 0.025 for each other."""
    recipe = PLAIN.model_copy(update={"label_smoothing": 0.1})
    draws = draw(2, torch.Generator().manual_seed(0))
    _, targets = Augmentation(recipe, SMALL, 4)(pixels(2), torch.tensor([0, 3]), draws, 0)
    expected = torch.tensor([[0.925, 0.025, 0.025, 0.025], [0.025, 0.025, 0.025, 0.925]])
    assert torch.allclose(targets, expected)


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_augment_as_one_does(processes: int) -> None:
    """With all of DeiT's augmentation, each process's share of a batch is what one process makes of it."""
    augmentation = Augmentation(RECIPES["deit"], SMALL, 4)
    draws, labels = draw(8, torch.Generator().manual_seed(0)), torch.arange(8) % 4

    def augmented(rows: Tensor) -> tuple[Tensor, Tensor]:
        return augmentation(pixels()[rows], labels[rows], draws[rows], batch_seed=5)

    images, targets = augmented(torch.arange(8))
    for process in range(processes):
        rows = share_of(torch.arange(8), process, processes)
        own_images, own_targets = augmented(rows)
        assert torch.allclose(own_images, images[rows], atol=1e-6)
        assert torch.allclose(own_targets, targets[rows])


def test_an_odd_batch_is_mixed_without_its_last_photo() -> None:
    """An unreadable photo leaves an odd number: mixup takes the pairs."""
    draws = draw(7, torch.Generator().manual_seed(0))
    images, targets = Augmentation(RECIPES["deit"], SMALL, 4)(pixels(7), torch.arange(7) % 4, draws, 0)
    assert len(images) == len(targets) == 6


def test_draws_of_some_rows() -> None:
    """Both kinds of draws are taken for the same photos."""
    draws = draw(4, torch.Generator().manual_seed(0))
    some = draws[torch.tensor([2, 0])]
    assert isinstance(some, Draws)
    assert some.uniform.equal(draws.uniform[[2, 0]])
    assert some.seeds.tolist() == [draws.seeds[2].item(), draws.seeds[0].item()]


def test_seeding_is_for_a_while() -> None:
    """Inside, the seed decides; outside, the streams go on as if nothing had been drawn."""

    def drawn() -> tuple[float, float, float]:
        return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: S311, NPY002

    def start() -> None:
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        torch.manual_seed(1)

    start()
    undisturbed = drawn()
    start()
    with seeded(7):
        inside = drawn()
    assert drawn() == undisturbed
    with seeded(7):
        assert drawn() == inside


def test_random_operations_are_of_timms_scale() -> None:
    """DeiT's magnitude 9 of 10 turns a photo by up to 27 degrees, not by the 9 that 9 of 31 would give."""
    recipe = RECIPES["deit"]
    assert recipe.rand_augment == "rand-m9-mstd0.5-inc1"
    operations = PhotoOperations(recipe.rand_augment, SMALL)
    (rotate,) = (each for each in operations._operations.ops if each.name == "Rotate")
    assert abs(rotate.level_fn(9, rotate.hparams)[0]) == pytest.approx(27)


def test_random_operations_depend_on_the_photos_own_seed() -> None:
    """The same seed changes a photo the same way, whatever came before; several seeds differ."""
    photo, operations = pixels(1)[0], PhotoOperations("rand-m9-mstd0.5-inc1", SMALL)
    made = []
    for seed in (5, 6, 7, 5):
        with seeded(seed):
            made.append(operations(photo))
    assert made[0].equal(made[3])
    assert not (made[0].equal(made[1]) and made[0].equal(made[2]))
    assert (made[0].dtype, made[0].shape) == (photo.dtype, photo.shape)
