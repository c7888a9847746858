"""Photos come in their order, as they would if decoded beforehand."""

import pytest
import torch
from labelled import labelled_photos

from lfvit_cli.errors import UnreadableImageError
from lfvit_cli.images.loading import load_photos
from lfvit_cli.images.streaming import stream_photos
from lfvit_cli.images.transforms import TransformSettings

SETTINGS = TransformSettings(
    image_size=64, crop_pct=0.875, interpolation="bicubic", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
)


@pytest.mark.parametrize("batch_size", [1, 4, 9, 20])
def test_batches_are_the_photos_in_order(batch_size: int) -> None:
    """Nine photos, the last batch shorter where they do not divide."""
    listing = labelled_photos("test").select(range(9))
    batches = list(stream_photos([listing.file(index) for index in range(9)], SETTINGS, batch_size))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert torch.equal(torch.cat(batches), load_photos(listing, SETTINGS).pixels)


def test_a_file_that_is_gone_is_told(tmp_path) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """As unreadable."""
    with pytest.raises(UnreadableImageError):
        list(stream_photos([tmp_path / "gone.jpg"], SETTINGS, 2))
