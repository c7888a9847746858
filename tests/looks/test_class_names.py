"""Names for classes, and labels from folders."""

import json
from pathlib import Path
from typing import Any

import pytest

from lfvit_cli.demo.grocery import contents
from lfvit_cli.errors import MeasureError
from lfvit_cli.looks.class_names import HEADER_KEY, name_classes
from lfvit_cli.looks.photos import PhotoFiles

NAMES = ("ant", "bee")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("names.txt", "ant\nbee\n"),
        ("names.txt", "\ufeffant\nbee"),
        ("names.json", ["ant", "bee"]),
        ("names.json", {"ant": 0, "bee": 1}),
        ("names.json", {"1": "bee", "0": "ant"}),
        ("names.json", {"0": ["n1", "ant"], "1": ["n2", "bee"]}),
    ],
)
def test_a_file_names_the_classes(tmp_path: Path, name: str, content: Any) -> None:
    """Names come from lines or from JSON of the usual shapes."""
    file = tmp_path / name
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    assert name_classes(2, file).names == NAMES


def test_folders_of_a_file_with_pairs_are_labels(tmp_path: Path) -> None:
    """A photo in the folder n2 is a bee."""
    file = tmp_path / "names.json"
    file.write_text(json.dumps({"0": ["n1", "ant"], "1": ["n2", "bee"]}))
    names = name_classes(2, file)
    assert names.label_of(Path("val/n2/deep/photo.jpg")) == 1
    assert names.label_of(Path("val/n3/photo.jpg")) is None


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("few.txt", "ant\n", "1 class names, and the network 2 classes"),
        ("many.txt", "ant\nbee\ncat\n", "3 class names"),
        ("broken.json", "[", "no class names"),
        ("number.json", "3", "no class names"),
        ("holes.json", '{"0": "ant", "7": "bee"}', "no class names"),
        ("numbers.json", "[1, 2]", "no class names"),
        ("binary.txt", "\udcff\udcfe", "no class names"),
    ],
)
def test_a_wrong_file_says_so(tmp_path: Path, name: str, text: str, problem: str) -> None:
    """A file of another number of names, or of none, is refused with what is expected."""
    file = tmp_path / name
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(MeasureError, match=problem) as caught:
        name_classes(2, file)
    assert "one name a line" in caught.value.remedy


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    """A file that is not there is refused."""
    with pytest.raises(MeasureError, match="No such file"):
        name_classes(2, tmp_path / "none.txt")


@pytest.mark.parametrize("header", ["not json", '["ant"]', '{"ant": 0}'])
def test_a_header_of_another_kind_is_passed_over(header: str) -> None:
    """Only a list of as many names as classes counts."""
    assert name_classes(2, header={HEADER_KEY: header}).names == ("class 0", "class 1")


def test_the_order_of_sources(tmp_path: Path) -> None:
    """A file goes before the header, the header before the photos' folders."""
    file = tmp_path / "names.txt"
    file.write_text("ant\nbee\n")
    header = {HEADER_KEY: '["cat", "dog"]'}
    photos = PhotoFiles((Path("elk/a.jpg"),), ("elk", "fox"))
    assert name_classes(2, file, header, photos).names == NAMES
    assert name_classes(2, None, header, photos).names == ("cat", "dog")
    assert name_classes(2, None, None, photos).names == ("elk", "fox")


def test_unknown_names_still_know_labels() -> None:
    """With names of other words, K class folders are the labels by their order."""
    photos = PhotoFiles((Path("elk/a.jpg"),), ("elk", "fox"))
    names = name_classes(2, None, {HEADER_KEY: '["cat", "dog"]'}, photos)
    assert names.label_of(Path("fox/a.jpg")) == 1


def test_a_photo_of_a_grocery_names_the_groceries() -> None:
    """81 classes and a photo in the folder of one of them: their names."""
    photo = PhotoFiles((Path("Avocado/a.jpg"),), ())
    assert name_classes(81, photos=photo).names == tuple(contents().classes)
    assert name_classes(81, photos=PhotoFiles((Path("elsewhere/a.jpg"),), ())).names[3] == "class 3"
    assert name_classes(80, photos=photo).names[3] == "class 3"


def test_a_thousand_classes_are_imagenet() -> None:
    """Names are short and differ, and folders are WordNet ids."""
    names = name_classes(1000)
    assert (names.names[0], names.names[207]) == ("tench", "golden retriever")
    assert len(set(names.names)) >= 998
    assert names.label_of(Path("val/n01440764/a.JPEG")) == 0
