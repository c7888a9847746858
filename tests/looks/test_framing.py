"""The frame is the part of a photo that the transform keeps."""

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from lfvit_cli.images.transforms import TransformSettings, build_pixel_transform
from lfvit_cli.looks.framing import crop_frame


@settings(deadline=None, max_examples=40)
@given(st.integers(20, 400), st.integers(20, 400), st.sampled_from([0.875, 0.9, 1.0]))
@example(300, 4, 0.875)
@example(4, 300, 0.875)
def test_the_frame_is_where_the_crop_comes_from(width: int, height: int, crop_pct: float) -> None:
    """In a photo whose colours tell the place, the crop's middle and borders have the colours of the frame's."""
    transform = TransformSettings(image_size=64, crop_pct=crop_pct, interpolation="bilinear")
    across = np.broadcast_to(np.linspace(0, 255, width), (height, width))
    down = np.broadcast_to(np.linspace(0, 255, height)[:, None], (height, width))
    photo = Image.fromarray(np.stack([across, down, down], -1).round().astype(np.uint8))
    crop = build_pixel_transform(transform)(photo).numpy().astype(float)
    frame = crop_frame(width, height, transform)
    for colours, start, length, side in (
        (crop[0, 32], frame.left, frame.width, width),
        (crop[1, :, 32], frame.top, frame.height, height),
    ):
        places = start + (np.arange(64) + 0.5) / 64 * length
        expected = np.interp(places - 0.5, np.arange(side), np.linspace(0, 255, side))
        pixel = 255 / side
        resized = length / 64 * pixel
        # Away from the photo's own border, where resampling sees only one side.
        inner = slice(4, -4)
        assert np.abs(colours - expected)[inner].max() <= 1.5 + pixel + resized


def test_a_square_photo_is_cut_evenly() -> None:
    """A 256-pixel square loses 16 pixels on every side."""
    assert crop_frame(256, 256, TransformSettings()) == (16, 16, 224, 224)
