"""Tests of images/classes.py."""

from pathlib import Path

import pytest

from lfvit_cli.errors import ImagesError
from lfvit_cli.images.classes import class_names_by_index, read_class_map


def test_text_file_numbers_its_lines(tmp_path: Path) -> None:
    """A timm-style class map: the line number, from 0, is the index, whatever ends the line."""
    file = tmp_path / "synsets.txt"
    file.write_bytes(b"n02\r\nn01\r\nn 03 \r\n\r\n")
    assert read_class_map(file) == {"n02": 0, "n01": 1, "n 03": 2}


def test_json_gives_the_index_by_name(tmp_path: Path) -> None:
    """A JSON class map may leave indexes out, and gaps are named by their number."""
    file = tmp_path / "classes.JSON"
    file.write_text('{"cat": 3, "dög": 0}', encoding="utf-8")
    class_to_idx = read_class_map(file)
    assert class_to_idx == {"cat": 3, "dög": 0}
    assert class_names_by_index(class_to_idx) == ("dög", "1", "2", "cat")


def test_no_classes_have_no_names() -> None:
    """An empty map names nothing."""
    assert class_names_by_index({}) == ()


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("map.txt", b"", "is empty"),
        ("map.json", b"{}", "is empty"),
        ("map.txt", b"cat\ndog\ncat\n", "twice"),
        ("map.json", b'{"cat": 0, "cat": 1}', "twice"),
        ("map.json", b'{"cat": 0, "dog": 0}', "twice"),
        ("map.txt", b"cat\n\ndog\n", "without a name"),
        ("map.json", b'["cat", "dog"]', "not a JSON object"),
        ("map.json", b'{"cat": -1}', "not a JSON object"),
        ("map.json", b'{"cat": "0"}', "not a JSON object"),
        ("map.json", b'{"cat": true}', "not a JSON object"),
        ("map.json", b'{"cat": {"index": 0}}', "not a JSON object"),
        ("map.json", b'{"cat": 0', "not a JSON object"),
        ("map.json", b"7", "not a JSON object"),
        ("map.json", b'{"cat": 1000000000000}', "or more"),
        ("map.txt", b"\xff\xfe\x00", "cannot read"),
    ],
)
def test_malformed_map_is_refused(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    """A class map that could mislabel an image is an error that shows the two formats."""
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ImagesError, match=problem) as caught:
        read_class_map(file)
    assert "one class folder a line" in caught.value.remedy


def test_missing_map_is_named(tmp_path: Path) -> None:
    """A class map that is not there is named."""
    with pytest.raises(ImagesError, match=r"absent\.txt"):
        read_class_map(tmp_path / "absent.txt")
