"""Augmentation of uint8 batches on their device; what happens to a photo depends on its own draws alone."""

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from timm.data import Mixup
from timm.data.auto_augment import rand_augment_transform
from timm.data.mixup import mixup_target
from timm.data.random_erasing import RandomErasing
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from lfvit_cli.images.transforms import TransformSettings, normalise
from lfvit_cli.training.settings import Recipe

LOG_ASPECT = math.log(4 / 3)


@dataclass(frozen=True)
class Draws:
    """What chance has in store for some photos.

    Attributes:
        uniform: (B, 5) in [0, 1), for the crop and the flip.
        seeds: (B,) for all else; other draws for a photo begin at other offsets from its seed.
    """

    uniform: Tensor
    seeds: Tensor

    def __getitem__(self, rows: Tensor) -> "Draws":
        """The draws of some of the photos."""
        return Draws(self.uniform[rows], self.seeds[rows])


def draw(count: int, generator: torch.Generator) -> Draws:
    """Draw for ``count`` photos, on the CPU, so that devices and processes all draw the same."""
    return Draws(torch.rand(count, 5, generator=generator), torch.randint(2**31, (count,), generator=generator))


class PhotoOperations:
    """timm's RandAugment on one uint8 photo (3, S, S); DeiT's configuration is ``rand-m9-mstd0.5-inc1``.

    Args:
        configuration: timm's string: magnitudes on a scale of 10.
        transform: of the network; gives the length of shifts, and the colour that fills what they uncover.
    """

    def __init__(self, configuration: str, transform: TransformSettings) -> None:
        fill = tuple(min(255, round(255 * value)) for value in transform.mean)
        # As timm's own training has them.
        shifts = {"translate_const": int(0.45 * transform.image_size), "img_mean": fill}
        self._operations = rand_augment_transform(configuration, shifts | {"interpolation": Image.Resampling.BICUBIC})

    def __call__(self, photo: Tensor) -> Tensor:
        """The photo after a few operations, drawn from the random streams of Python and NumPy."""
        changed: Tensor = pil_to_tensor(self._operations(to_pil_image(photo.cpu())))
        return changed.to(photo.device)


class Augmentation:
    """From uint8 photos and labels to the images and targets of a training step.

    Args:
        recipe: what is done to them.
        transform: of the network; gives the size of the images and their normalisation.
        num_classes: K.
    """

    def __init__(self, recipe: Recipe, transform: TransformSettings, num_classes: int) -> None:
        self.recipe, self.transform, self.num_classes = recipe, transform, num_classes
        self._operations = None if recipe.rand_augment is None else PhotoOperations(recipe.rand_augment, transform)
        # Its noise is drawn on the CPU, whatever the images' device: only that stream is seeded here.
        self._eraser = RandomErasing(recipe.erasing, mode="pixel", device="cpu") if recipe.erasing else None
        self._mixup = (
            Mixup(recipe.mixup, recipe.cutmix, label_smoothing=recipe.label_smoothing, num_classes=num_classes)
            if recipe.mixup or recipe.cutmix
            else None
        )

    def __call__(self, pixels: Tensor, labels: Tensor, draws: Draws, batch_seed: int) -> tuple[Tensor, Tensor]:
        """Augment a batch.

        Args:
            pixels: uint8 (B, 3, R, R), on the device of the training.
            labels: (B,), there too.
            draws: for these photos.
            batch_seed: for what mixes photos with each other.

        Returns:
            Normalised images (B, 3, S, S), and their targets: (B, K) probabilities where labels are softened, else
            the labels.
        """
        cropped = random_crops(pixels, draws.uniform, self.transform.image_size, self.recipe)
        if self._operations is not None:
            cropped = self._for_each(self._operations, cropped, draws.seeds)
        images = normalise(cropped, self.transform)
        if self._eraser is not None:
            images = self._for_each(self._eraser, images, draws.seeds + 1)
        return self._soften(images, labels, batch_seed)

    def _for_each(self, change: "PhotoOperations | RandomErasing", images: Tensor, seeds: Tensor) -> Tensor:
        changed = []
        for image, seed in zip(images, seeds.tolist(), strict=True):
            with seeded(seed):
                changed.append(change(image))
        return torch.stack(changed)

    def _soften(self, images: Tensor, labels: Tensor, batch_seed: int) -> tuple[Tensor, Tensor]:
        if self._mixup is not None:
            # An unreadable photo can leave an odd number, one of which has no partner.
            paired = len(images) // 2 * 2
            with seeded(batch_seed):
                mixed: tuple[Tensor, Tensor] = self._mixup(images[:paired], labels[:paired])
            return mixed
        if self.recipe.label_smoothing:
            return images, mixup_target(labels, self.num_classes, lam=1.0, smoothing=self.recipe.label_smoothing)
        return images, labels


def random_crops(pixels: Tensor, uniform: Tensor, side: int, recipe: Recipe) -> Tensor:
    """Random resized crops and flips, all in one bicubic resampling.

    Args:
        pixels: uint8 (B, 3, R, R).
        uniform: (B, 5) in [0, 1): area, aspect, place across and down, flip.
        side: S, pixels a side of the crops.
        recipe: gives the range of the area, of a photo's, and the probability of a flip. The aspect is 3/4 to 4/3; a
            side that would be longer than the photo's is the photo's.

    Returns:
        uint8 (B, 3, S, S).
    """
    area, aspect, across, down, flip = uniform.to(pixels.device).unbind(dim=1)
    least, most = recipe.crop_scale
    area, stretch = least + (most - least) * area, ((2 * aspect - 1) * LOG_ASPECT / 2).exp()
    width, height = (area.sqrt() * stretch).clamp(max=1), (area.sqrt() / stretch).clamp(max=1)
    mirrored = torch.where(flip < recipe.flip, -1.0, 1.0)
    zero = torch.zeros_like(width)
    # Rows of the map from the crop's coordinates to the photo's, both from -1 to 1.
    x = torch.stack((width * mirrored, zero, (2 * across - 1) * (1 - width)), dim=1)
    y = torch.stack((zero, height, (2 * down - 1) * (1 - height)), dim=1)
    grid = F.affine_grid(torch.stack((x, y), dim=1), [len(pixels), 3, side, side], align_corners=False)
    crops = F.grid_sample(pixels.float(), grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    return crops.round_().clamp_(0, 255).to(torch.uint8)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the CPU's random streams of Python, NumPy and PyTorch for a while, and then let them go on as before."""
    python, numpy, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  # timm draws from the global stream
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(torch_state)
