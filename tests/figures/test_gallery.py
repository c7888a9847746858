"""Files of pictures: named, and with sheets where they help."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from made_looks import plain_look, region_look
from PIL import Image

from lfvit_cli.figures import gallery as module
from lfvit_cli.figures.gallery import gallery
from lfvit_cli.looks.look import Look


def looks(*files: str) -> list[list[Look]]:
    """One look at each of some photos."""
    return [[replace(region_look(), image=Path(file))] for file in files]


def test_a_single_photo_needs_no_sheet() -> None:
    """One photo, one picture, named after it, in PNG."""
    (picture,) = gallery(looks("a/boot.jpeg"), "png")
    assert picture.name == "boot.png"
    assert Image.open(io.BytesIO(picture.content)).format == "PNG"


def test_photos_of_one_name_have_pictures_of_their_own() -> None:
    """Names are numbered, whatever their capitals, and also beside the contact sheet."""
    names = [each.name for each in gallery(looks("a/boot.jpg", "b/Boot.png", "c/contact-sheet.jpg"), "svg")]
    assert names == ["boot.svg", "Boot-2.svg", "contact-sheet.svg", "contact-sheet-2.svg"]


def test_many_photos_have_several_sheets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full sheet is closed and a new one begun."""
    monkeypatch.setattr(module, "PHOTOS_A_SHEET", 2)
    names = [each.name for each in gallery(looks("1.jpg", "2.jpg", "3.jpg"), "svg")]
    assert names == ["1.svg", "2.svg", "contact-sheet.svg", "3.svg", "contact-sheet-2.svg"]


def test_comparisons_have_no_sheet() -> None:
    """Several networks share one picture a photo."""
    seen = [[region_look(), plain_look()] for _ in range(2)]
    assert [len(each.looks) for each in gallery(seen, "svg")] == [2, 2]


def test_long_names_fit_the_file_system(tmp_path: Path) -> None:
    """A name of the greatest length still leaves room for an ending."""
    (picture,) = gallery(looks("é" * 120 + ".jpg"), "svg")
    (tmp_path / f".{picture.name}.12345678.tmp").write_bytes(b"")
    assert picture.name == "é" * 90 + ".svg"


def test_pdf_is_a_pdf() -> None:
    """The third format."""
    (picture,) = gallery(looks("a.jpg"), "pdf")
    assert picture.content.startswith(b"%PDF")
