"""The Grocery Store Dataset is fetched, checked and laid out: whole, or not at all."""

import fcntl
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from made_grocery import PHOTOS, Site, made_archive, made_list, made_photos, published_name, serving

from lfvit_cli.demo import grocery
from lfvit_cli.demo.grocery import contents, data_folder, fetched, lacking, resolve_data
from lfvit_cli.demo.grocery_layout import provide
from lfvit_cli.errors import ImagesError, UnwritableOutput
from lfvit_cli.images.folder import list_folder
from lfvit_cli.records import Progress

REPOSITORY = Path(__file__).parents[2]


@contextmanager
def silent(_task: str) -> Iterator[Progress]:
    """Show nothing."""
    yield lambda _done, _total, _message: None


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the made set goes; its list takes the place of the real one."""
    monkeypatch.setattr(grocery, "LIST", made_list(tmp_path / "list.txt"))
    monkeypatch.setenv("LFVIT_DATA", str(tmp_path / "data"))
    return tmp_path / "data" / "grocery"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The archive of the made set."""
    return made_archive(tmp_path / "archive.zip")


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file of a folder with its content."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def is_clean(target: Path) -> bool:
    """Whether nothing stands beside the target, and the target is whole or not there."""
    beside = [path for path in target.parent.iterdir() if path != target] if target.parent.exists() else []
    return not beside and (not target.exists() or not lacking(target, contents(), hashed=True))


def test_the_shipped_list_is_of_the_published_set() -> None:
    """81 classes in each split, the authors' numbers of photos, and a hash of its own for nearly every one."""
    whole = contents()
    assert {split: whole.photos_in(split) for split in grocery.SPLITS} == {
        "train": 2640,
        "validation": 296,
        "test": 2485,
    }
    assert len(whole.classes) == 81
    assert whole.folders == tuple(f"{split}/{name}" for split in grocery.SPLITS for name in whole.classes)
    assert [whole.classes_in(split) for split in grocery.SPLITS] == [81, 60, 81]
    assert all(len(photo.sha256) == 64 and photo.size > 1000 for photo in whole.photos.values())
    assert len({photo.sha256 for photo in whole.photos.values()}) > 5300


def test_the_real_photos_are_those_of_the_list(tmp_path: Path) -> None:
    """A copy that is at hand is taken whole, byte for byte, and its labels agree between the splits."""
    places = [REPOSITORY.parent / "shared" / "data" / "grocery", data_folder() / "grocery"]
    copy = next((place for place in places if (place / "train").is_dir()), None)
    if copy is None:
        pytest.skip("the Grocery Store Dataset is not on this machine: lfvit data grocery fetches it")
    assert lacking(copy, contents(), hashed=True) == []
    assert provide(tmp_path / "grocery", contents(), copy, silent)
    assert lacking(tmp_path / "grocery", contents(), hashed=True) == []
    splits = [list_folder(tmp_path / "grocery", split=split) for split in grocery.SPLITS]
    assert {split.class_names for split in splits} == {tuple(contents().classes)}
    assert "MIT License" in (tmp_path / "grocery" / "LICENSE").read_text("utf-8")


def test_a_server_gives_the_set(target: Path, archive: Path) -> None:
    """Every photo is laid out by split and class, with the licence; iconic pictures are not, and nothing else stays."""
    with serving(Site(archive.read_bytes())) as site:
        assert len(provide(target, contents(), site.url, silent)) == len(PHOTOS) + len(made_photos())
    assert files_below(target) == {**made_photos(), "LICENSE": b"MIT License"}
    assert is_clean(target)
    assert fetched("grocery") == target


def test_labels_agree_between_splits(target: Path, archive: Path) -> None:
    """A class without photos in a split has its folder there, and so the classes behind it keep their labels."""
    provide(target, contents(), archive, silent)
    for split in grocery.SPLITS:
        listing = list_folder(target, split=split)
        assert listing.class_names == ("Banana", "Oat-Milk", "Pink-Lady")
        for path, label in zip(listing.paths, listing.labels, strict=True):
            assert listing.class_names[label] == path.partition("/")[0]
    assert not any((target / "validation" / "Banana").iterdir())


def test_a_whole_set_is_left_alone(target: Path, archive: Path) -> None:
    """The second time nothing is asked of the server, and no file is written."""
    with serving(Site(archive.read_bytes())) as site:
        provide(target, contents(), site.url, silent)
        before = target.stat().st_mtime_ns, len(site.asked)
        assert provide(target, contents(), site.url, silent, hashed=True) == []
        assert (target.stat().st_mtime_ns, len(site.asked)) == before


def test_damage_is_found_and_made_good(target: Path, archive: Path) -> None:
    """A photo of another size at once, one of the right size when hashed, a class folder that is gone."""
    provide(target, contents(), archive, silent)
    same_size, shorter = "test/Oat-Milk/Oat-Milk_002.jpg", "train/Banana/Banana_001.jpg"
    (target / same_size).write_bytes(bytes(len(made_photos()[same_size])))
    assert provide(target, contents(), archive, silent) == []
    assert provide(target, contents(), archive, silent, hashed=True) == [same_size]
    (target / shorter).write_bytes(b"short")
    (target / "validation" / "Banana").rmdir()
    assert fetched("grocery") is None
    assert provide(target, contents(), archive, silent) == ["validation/Banana", shorter]
    assert is_clean(target)


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("tag", ['"one"', 'W/"one"', ""], ids=["tag", "weak-tag", "no-tag"])
def test_a_download_that_broke_off_is_gone_on_with(target: Path, archive: Path, tag: str, chunked: bool) -> None:
    """The second try asks for the rest alone."""
    content = archive.read_bytes()
    with serving(Site(content, tag=tag, chunked=chunked, breaks_at=200_000)) as site:
        with pytest.raises(ImagesError, match="broke off"):
            provide(target, contents(), site.url, silent)
        assert not target.exists()
        site.breaks_at = None
        assert provide(target, contents(), site.url, silent)
    assert site.asked[1]["Range"] == "bytes=200000-"
    assert site.asked[1].get("If-Range") == (tag if tag == '"one"' else None)
    assert site.sent == len(content)
    assert is_clean(target)


@pytest.mark.parametrize(
    "later",
    [{"ranges": False}, {"tag": '"two"'}, {"tag": '"two"', "honest": False}],
    ids=["no-ranges", "changed", "changed-and-careless"],
)
def test_a_part_of_another_file_is_not_gone_on_with(target: Path, archive: Path, later: dict[str, object]) -> None:
    """Where the server has no ranges, or has changed its file, the download begins anew."""
    old = b"\0" * 300_000
    with serving(Site(old, breaks_at=200_000)) as site:
        with pytest.raises(ImagesError, match=r"broke off after 0\.2 of 0\.3 MB"):
            provide(target, contents(), site.url, silent)
        site.content, site.breaks_at = archive.read_bytes(), None
        for name, value in later.items():
            setattr(site, name, value)
        provide(target, contents(), site.url, silent)
    assert "Range" in site.asked[1]
    assert is_clean(target)


def test_a_part_longer_than_the_file_is_dropped(target: Path, archive: Path) -> None:
    """The server refuses the range, and is asked for all of it."""
    with serving(Site(bytes(len(archive.read_bytes()) + 9000), breaks_at=len(archive.read_bytes()) + 5000)) as site:
        with pytest.raises(ImagesError, match="broke off"):
            provide(target, contents(), site.url, silent)
        site.content, site.breaks_at = archive.read_bytes(), None
        provide(target, contents(), site.url, silent)
    assert len(site.asked) == 3
    assert is_clean(target)


def test_a_mixture_of_two_files_does_not_stay(target: Path, archive: Path) -> None:
    """A server without tags changes its file: the hashes tell, and the next try begins anew."""
    with serving(Site(bytes(300_000), tag="", breaks_at=200_000)) as site:
        with pytest.raises(ImagesError, match="broke off"):
            provide(target, contents(), site.url, silent)
        site.content, site.breaks_at = archive.read_bytes(), None
        with pytest.raises(ImagesError):
            provide(target, contents(), site.url, silent)
        assert is_clean(target)
        provide(target, contents(), site.url, silent)
    assert is_clean(target)


def test_a_layout_that_was_interrupted_needs_no_second_download(target: Path, archive: Path) -> None:
    """Ctrl-C while photos are laid out leaves no half of them, and the archive for the next time."""

    @contextmanager
    def interrupting(task: str) -> Iterator[Progress]:
        def report(done: int, _total: int, _message: str) -> None:
            if task == "Checking" and done == 5:
                raise KeyboardInterrupt

        yield report

    with serving(Site(archive.read_bytes())) as site:
        with pytest.raises(KeyboardInterrupt):
            provide(target, contents(), site.url, interrupting)
        assert not target.exists()
        # What a process that was killed would have left.
        (target.parent / ".grocery.fetching" / "layout" / "train").mkdir(parents=True)
        provide(target, contents(), site.url, silent)
    assert len(site.asked) == 1
    assert is_clean(target)


@pytest.mark.parametrize("status", [404, 500, 403])
def test_a_server_that_refuses(target: Path, status: int) -> None:
    """One line with the status, which names --from."""
    with (
        serving(Site(b"", status=status)) as site,
        pytest.raises(ImagesError, match=f"answers {status} .*--from"),
    ):
        provide(target, contents(), site.url, silent)
    assert is_clean(target)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://127.0.0.1:9/x.zip", "127.0.0.1:9 cannot be reached: Connection refused.*--from"),
        ("http://nowhere.invalid/x.zip", "nowhere.invalid cannot be reached.*--from"),
        ("http://127.0.0.1:x/x.zip", "cannot be reached"),
        ("file:///etc/passwd", "no web address"),
    ],
)
def test_no_network(target: Path, url: str, told: str) -> None:
    """One line that names the server and what else can be done; no file is left."""
    with pytest.raises(ImagesError, match=told) as error:
        provide(target, contents(), url, silent)
    assert "\n" not in str(error.value)
    assert is_clean(target)


def test_copies_are_taken_in_every_form(target: Path, archive: Path, tmp_path: Path) -> None:
    """The archive, the archive unpacked, and the laid-out folder give the same."""
    provide(target, contents(), archive, silent)
    zipfile.ZipFile(archive).extractall(tmp_path / "unpacked")
    copies = (tmp_path / "unpacked", tmp_path / "unpacked" / "GroceryStoreDataset-fc80ba9", target)
    for number, copy in enumerate(copies):
        other = tmp_path / f"made-{number}" / "photos"
        assert provide(other, contents(), copy, silent)
        assert made_photos().items() <= files_below(other).items()
        assert is_clean(other)
    assert (tmp_path / "made-2" / "photos" / "LICENSE").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"test/Oat-Milk/Oat-Milk_001.jpg": bytes(40_000)}, "test/Oat-Milk/Oat-Milk_001.jpg .* SHA-256 differs"),
        ({"train/Banana/Banana_001.jpg": b""}, "SHA-256 differs"),
        ({"test/Oat-Milk/Oat-Milk_001.jpg": None}, "lacks 1 of 13 photos: test/Oat-Milk/Oat-Milk_001.jpg. "),
        (dict.fromkeys(made_photos()), "lacks 13 of 13 photos: train/Banana/Banana_001.jpg, ..."),
        ({"../../escaped.txt": b"out"}, "leads out of it: '../../escaped.txt'"),
        ({"/escaped.txt": b"out"}, "leads out of it"),
        ({"C:\\escaped.txt": b"out"}, "leads out of it"),
    ],
    ids=["wrong", "empty", "missing", "other-archive", "slip", "absolute", "windows"],
)
@pytest.mark.parametrize("way", ["served", "local"])
def test_an_archive_that_is_not_the_set(
    target: Path, tmp_path: Path, changes: dict[str, bytes | None], told: str, way: str
) -> None:
    """One line, nothing laid out, nothing kept; a right one is then taken."""
    wrong = made_archive(tmp_path / "wrong.zip", changes)
    with serving(Site(wrong.read_bytes())) as site, pytest.raises(ImagesError, match=told) as error:
        provide(target, contents(), site.url if way == "served" else wrong, silent)
    assert "\n" not in str(error.value)
    assert not target.exists()
    assert is_clean(target)
    assert not list(tmp_path.rglob("*escaped.txt"))
    assert provide(target, contents(), made_archive(tmp_path / "right.zip"), silent)


def test_what_is_no_archive(target: Path, archive: Path, tmp_path: Path) -> None:
    """A page, a cut archive, a damaged one, a path that is not there."""
    content = archive.read_bytes()
    damaged = bytearray(content)
    damaged[content.find(published_name("train/Banana/Banana_001.jpg").encode()) + 200] ^= 1
    for number, (bad, told) in enumerate(
        [(b"<html>", "no readable zip"), (content[:-5000], "no readable zip"), (bytes(damaged), "cannot be read from")]
    ):
        file = tmp_path / f"bad-{number}.zip"
        file.write_bytes(bad)
        with pytest.raises(ImagesError, match=told):
            provide(target, contents(), file, silent)
    with pytest.raises(ImagesError, match="there is no file or folder"):
        provide(target, contents(), tmp_path / "absent.zip", silent)
    assert is_clean(target)


def test_other_peoples_files_are_not_replaced(target: Path, archive: Path) -> None:
    """A target with a file that is not of the set is refused and stays as it is."""
    provide(target, contents(), archive, silent)
    (target / "train" / "Banana" / "Banana_001.jpg").unlink()
    for stranger in ("holiday.jpg", "train/Banana/notes.txt", "mine/train/x.jpg"):
        (target / stranger).parent.mkdir(parents=True, exist_ok=True)
        (target / stranger).write_text("mine")
        with pytest.raises(ImagesError, match="holds other files"):
            provide(target, contents(), archive, silent)
        assert (target / stranger).read_text() == "mine"
        (target / stranger).unlink()
    assert provide(target, contents(), archive, silent) == ["train/Banana/Banana_001.jpg"]
    file = target.parent / "file"
    file.write_text("mine")
    with pytest.raises(ImagesError, match="is a file"):
        provide(file, contents(), archive, silent)


def test_a_second_process_is_told(target: Path, archive: Path) -> None:
    """While one holds the lock another is refused; a lock that nobody holds is no hindrance."""
    work = target.parent / ".grocery.fetching"
    work.mkdir(parents=True)
    with (work / "lock").open("w") as lock:
        lock.write("4711\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ImagesError, match="process 4711 is fetching the same photos"):
            provide(target, contents(), archive, silent)
        assert not target.exists()
    assert provide(target, contents(), archive, silent)
    assert is_clean(target)


def test_the_lock_is_held_while_photos_are_laid_out(target: Path, archive: Path) -> None:
    """A second call in the midst of the first is refused, and the first goes on."""
    refused = []

    @contextmanager
    def meddling(_task: str) -> Iterator[Progress]:
        with pytest.raises(ImagesError, match="is fetching the same photos") as error:
            provide(target, contents(), archive, silent)
        refused.append(error)
        yield lambda _done, _total, _message: None

    assert provide(target, contents(), archive, meddling)
    assert len(refused) == 1
    assert is_clean(target)


def test_a_place_that_cannot_be_renamed_to_keeps_what_it_had(
    target: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the last step fails, the folder is as it was."""
    provide(target, contents(), archive, silent)
    (target / "test" / "Oat-Milk" / "Oat-Milk_001.jpg").unlink()
    rename = Path.rename

    def failing(self: Path, to: Path) -> Path:
        if self.name == "layout":
            raise OSError(28, "No space left on device")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(UnwritableOutput, match="No space left on device"):
        provide(target, contents(), archive, silent)
    assert lacking(target, contents()) == ["test/Oat-Milk/Oat-Milk_001.jpg"]
    assert [path.name for path in target.parent.iterdir()] == ["grocery"]


def test_the_name_of_the_set_means_its_folder(target: Path, archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is fetched, and unless a folder of this name is here; other texts are left as they are."""
    monkeypatch.chdir(target.parents[1])
    with pytest.raises(ImagesError, match="lfvit data grocery"):
        resolve_data("grocery")
    provide(target, contents(), archive, silent)
    assert resolve_data("grocery") == str(target)
    assert resolve_data("./grocery") == "./grocery"
    assert resolve_data("wds/grocery") == "wds/grocery"
    assert fetched("imagenet") is None
    Path("grocery").mkdir()
    assert resolve_data("grocery") == "grocery"


def test_data_lie_in_the_cache_or_where_the_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """LFVIT_DATA names the folder of data sets."""
    monkeypatch.setenv("LFVIT_DATA", "~/sets")
    assert data_folder() == Path.home() / "sets"
    monkeypatch.setenv("LFVIT_DATA", "")
    assert data_folder().name == "lfvit"
