"""Tests of images/folder.py."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from labelled import labelled_folder

from lfvit_cli.errors import ImagesError
from lfvit_cli.images.folder import list_files, list_folder

MakeFolder = Callable[..., Path]


def test_class_folders_are_labelled_by_sorted_name(make_folder: MakeFolder) -> None:
    """Labels are ranks of the folder names (upper case first, as sorted() has it); paths are POSIX and sorted."""
    root = make_folder("dog/2.png", "dog/1.JPEG", "Cat/x.webp", "ant/z.png")
    listing = list_folder(root)
    assert listing.class_names == ("Cat", "ant", "dog")
    assert listing.paths == ("Cat/x.webp", "ant/z.png", "dog/1.JPEG", "dog/2.png")
    assert listing.labels == (0, 1, 2, 2)
    assert listing.sizes == tuple(listing.file(i).stat().st_size for i in range(4))
    assert listing.root == root


def test_nested_folders_belong_to_their_class(make_folder: MakeFolder) -> None:
    """Images at any depth have the label of the class folder, whatever their names hold."""
    listing = list_folder(make_folder("a/deep/er/1.png", "a/2.png", "b ü/ä 1.png"))
    assert listing.paths == ("a/2.png", "a/deep/er/1.png", "b ü/ä 1.png")
    assert listing.labels == (0, 0, 1)


def test_flat_folder_is_unlabelled(make_folder: MakeFolder) -> None:
    """A folder of images has no labels and no classes, and sub-folders without images do not change that."""
    root = make_folder("b.png", "a.jpg", "notes.txt", ".thumbs/c.png", "logs/run.txt")
    listing = list_folder(root)
    assert (listing.paths, listing.labels, listing.class_names) == (("a.jpg", "b.png"), (-1, -1), ())


def test_hidden_and_other_files_are_skipped(make_folder: MakeFolder) -> None:
    """Hidden files, hidden folders and files that are no images are no part of a listing."""
    root = make_folder("a/1.png", "a/._1.png", "a/.cache/2.png", "a/readme.txt", "a/png", ".git/3.png")
    assert list_folder(root).paths == ("a/1.png",)


def test_empty_class_folder_keeps_its_index(make_folder: MakeFolder) -> None:
    """A class without images still counts, or every later class would be mislabelled."""
    root = make_folder("a/1.png", "c/2.png")
    (root / "b").mkdir()
    listing = list_folder(root)
    assert (listing.labels, listing.class_names) == ((0, 2), ("a", "b", "c"))


@pytest.mark.parametrize("name", ["val", "validation"])
def test_validation_split_is_the_default(make_folder: MakeFolder, name: str) -> None:
    """Of a data set with splits, the validation split is evaluated unless another is named."""
    root = make_folder(f"{name}/a/1.png", "train/a/2.png", "test/a/3.png")
    assert list_folder(root).root == root / name
    assert list_folder(root, split="test").root == root / "test"


def test_splits_without_validation_are_no_classes(make_folder: MakeFolder) -> None:
    """Folders named train and test are not taken for classes."""
    root = make_folder("train/a/1.png", "test/a/2.png")
    with pytest.raises(ImagesError, match="holds the splits test, train") as caught:
        list_folder(root)
    assert "--split test" in caught.value.remedy


def test_class_named_train_is_a_class(make_folder: MakeFolder) -> None:
    """A class may be called train where other classes are beside it."""
    assert list_folder(make_folder("train/1.png", "bus/2.png")).class_names == ("bus", "train")


def test_class_map_sets_the_labels(make_folder: MakeFolder, tmp_path: Path) -> None:
    """A class map decides the labels, and names classes that this folder does not hold."""
    root = make_folder("cat/1.png", "dog/2.png")
    (root / "no-class-and-no-images").mkdir()
    class_map = tmp_path / "map.txt"
    class_map.write_text("dog\nbird\ncat\n")
    listing = list_folder(root, class_map=class_map)
    assert (listing.labels, listing.class_names) == ((2, 0), ("dog", "bird", "cat"))


def test_class_map_names_the_classes_of_a_flat_folder(make_folder: MakeFolder, tmp_path: Path) -> None:
    """Unlabelled images stay so, and the answers for them can be named."""
    class_map = tmp_path / "map.txt"
    class_map.write_text("dog\ncat\n")
    listing = list_folder(make_folder("1.png"), class_map=class_map)
    assert (listing.labels, listing.class_names) == ((-1,), ("dog", "cat"))


def test_folder_beyond_the_class_map_is_an_error(make_folder: MakeFolder, tmp_path: Path) -> None:
    """A class folder that the map does not know is named, not guessed."""
    class_map = tmp_path / "map.txt"
    class_map.write_text("dog\n")
    with pytest.raises(ImagesError, match=r"1 class folder\(s\) are not in the class map .*map\.txt.*: cat"):
        list_folder(make_folder("cat/1.png", "dog/2.png"), class_map=class_map)


def test_missing_folder(tmp_path: Path) -> None:
    """A folder that is not there is named."""
    with pytest.raises(ImagesError, match=r"there is no folder .*absent"):
        list_folder(tmp_path / "absent")


def test_file_is_no_folder(make_folder: MakeFolder) -> None:
    """A file in place of a folder is an error that says so."""
    with pytest.raises(ImagesError, match=r"1\.png' is a file, not a folder"):
        list_folder(make_folder("1.png") / "1.png")


@pytest.mark.parametrize("names", [(), ("notes.txt",), ("a/notes.txt",), (".hidden.png",)])
def test_folder_without_images(make_folder: MakeFolder, names: tuple[str, ...]) -> None:
    """A folder in which nothing is an image is an error that says what an image is."""
    with pytest.raises(ImagesError, match="there are no images in") as caught:
        list_folder(make_folder(*names))
    assert ".jpeg" in caught.value.remedy


def test_folder_of_both_kinds_is_ambiguous(make_folder: MakeFolder) -> None:
    """Loose images beside class folders are neither dropped nor labelled in silence."""
    with pytest.raises(ImagesError, match=r"both class folders \('a', ...\) and images \('1\.png', ...\)"):
        list_folder(make_folder("a/2.png", "1.png"))


def test_unknown_split_shows_the_folders(make_folder: MakeFolder) -> None:
    """A split that is not there is answered with those that are."""
    with pytest.raises(ImagesError, match=r"has no split 'val'\. Its folders are: a, b"):
        list_folder(make_folder("a/1.png", "b/2.png"), split="val")


def test_links_are_followed(make_folder: MakeFolder, tmp_path: Path) -> None:
    """Linked class folders count as folders; a dangling link stays listed, to be counted as unreadable."""
    root = make_folder("a/1.png")
    (tmp_path / "store").mkdir()
    shutil.copy(root / "a/1.png", tmp_path / "store/2.png")
    (root / "b").symlink_to(tmp_path / "store")
    (root / "a/gone.png").symlink_to(tmp_path / "nowhere.png")
    listing = list_folder(root)
    assert listing.paths == ("a/1.png", "a/gone.png", "b/2.png")
    assert listing.sizes[1] == 0


def test_link_that_leads_back_ends(make_folder: MakeFolder) -> None:
    """Links into each other do not list an image of a class twice."""
    root = make_folder("a/1.png", "b/2.png")
    (root / "a/again").symlink_to(root / "a")
    (root / "a/other").symlink_to(root / "b")
    (root / "b/other").symlink_to(root / "a")
    assert list_folder(root).paths == ("a/1.png", "a/other/2.png", "b/2.png", "b/other/1.png")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not bind this user")
def test_closed_folder_is_an_error(make_folder: MakeFolder) -> None:
    """A class folder that may not be read is not passed over in silence."""
    root = make_folder("a/1.png", "b/2.png")
    (root / "b").chmod(0)
    try:
        with pytest.raises(ImagesError, match=r"cannot list '.*b': Permission denied"):
            list_folder(root)
    finally:
        (root / "b").chmod(0o755)


def test_copied_folder_has_the_same_hash(tmp_path: Path) -> None:
    """The hash of real photos does not change when the folder is copied."""
    copy = tmp_path / "copy"
    shutil.copytree(labelled_folder() / "test" / "cat", copy / "cat")
    shutil.copytree(labelled_folder() / "test" / "dog", copy / "dog")
    before = list_folder(copy).sha256
    shutil.move(copy, tmp_path / "moved")
    assert list_folder(tmp_path / "moved").sha256 == before
    (tmp_path / "moved/cat").rename(tmp_path / "moved/zebra")
    assert list_folder(tmp_path / "moved").sha256 != before


def test_single_files_keep_their_order(make_folder: MakeFolder) -> None:
    """Files named one by one are listed as given, relative to the folder they share, and unlabelled."""
    root = make_folder("b/2.png", "a/1.png")
    listing = list_files([root / "b/2.png", root / "a/1.png"])
    assert (listing.root, listing.paths, listing.labels) == (root, ("b/2.png", "a/1.png"), (-1, -1))
    assert list_files([root / "b/2.png"]).paths == ("2.png",)


def test_no_files_are_an_error() -> None:
    """An empty list of files is refused."""
    with pytest.raises(ImagesError, match="no image files"):
        list_files([])
