"""`lfvit visualize`, as a person at a terminal meets it."""

import json
from pathlib import Path

import numpy as np
import pytest
from labelled import labelled_photos
from made_looks import CLASSES, DEIT, DYNAMIC_VIT, LF_VIT, save_narrow
from PIL import Image
from running import Run

from lfvit_cli.demo.grocery import contents
from lfvit_cli.images.demo import demo_photos
from lfvit_cli.policies import PolicyFile


@pytest.fixture
def weights(tmp_path: Path) -> str:
    """A narrow LF-ViT's weights."""
    return save_narrow(LF_VIT, tmp_path / "weights.safetensors")


@pytest.fixture
def photo() -> str:
    """A real photo."""
    return str(labelled_photos().file(3))


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Class folders with a real photo in every kind of file, and two files that are no images."""
    folder = tmp_path / "odd"
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
    with Image.open(labelled_photos().file(5)) as image:
        image.convert("L").save(folder / "boot/grey.png")
        image.convert("CMYK").save(folder / "boot/cmyk.jpg")
        image.convert("P").save(folder / "cap/palette.gif")
        image.resize((900, 30)).save(folder / "cap/strip.png")
        image.resize((3, 7)).save(folder / "coat/tiny.bmp")
        layered = image.convert("RGBA")
        layered.putalpha(90)
        layered.save(folder / "coat/alpha.webp")
        deep = (np.asarray(image.convert("L")).astype(np.uint16) * 257).view(np.uint16)
        Image.fromarray(deep).save(folder / "robe/deep.png")
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(folder / "robe/turned.jpg", exif=exif)
        image.convert("RGB").save(
            folder / "sock/moving.gif", save_all=True, append_images=[Image.new("RGB", image.size, "red")]
        )
        image.save(folder / "sock/прекрасное_$фото$ [1].jpg")
    (folder / "sock/broken.jpg").write_bytes(b"\xff\xd8\xff no image")
    (folder / "sock/empty.png").write_bytes(b"")
    return folder


def test_one_photo_becomes_one_picture(lfvit: Run, tmp_path: Path, photo: str, weights: str) -> None:
    """The picture is written, wide enough to read, and the answer is told."""
    done = lfvit("visualize", photo, "--model", LF_VIT, "--checkpoint", weights)
    assert done.returncode == 0, done.stderr
    (picture,) = (tmp_path / "reports/visualize").iterdir()
    assert picture.name == f"{Path(photo).stem}.png"
    with Image.open(picture) as image:
        assert image.width >= 1800
    assert picture.name in done.stdout
    assert "random weights" not in done.stderr


def test_every_kind_of_photo_is_drawn(lfvit: Run, tmp_path: Path, odd: Path, weights: str) -> None:
    """Odd files are drawn with a contact sheet; the two that are no images are skipped and counted."""
    done = lfvit("visualize", str(odd), "--model", LF_VIT, "--checkpoint", weights, "-o", "out", "--format", "svg")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").glob("*.svg"))) == 11
    assert (tmp_path / "out/contact-sheet.svg").is_file()
    assert "skipped 2 of 12 images: cannot read the image" in done.stderr
    assert "Warning" not in done.stderr


def test_json_tells_what_was_seen(lfvit: Run, tmp_path: Path, odd: Path, weights: str) -> None:
    """A list of looks goes to standard output, with labels from the folders, and nothing is drawn."""
    done = lfvit(
        "visualize", str(odd), "--model", LF_VIT, "--checkpoint", weights, "--format", "json", "--threshold", "0"
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert len(rows) == 10
    for row in rows:
        assert CLASSES[row["label"]] == Path(row["image"]).parent.name
        assert row["exited"] is True
        assert row["model"] == LF_VIT
        assert row["policy"] == {"criterion": "confidence", "thresholds": [0.0]}
        assert row["answered_by"] == "location"
        assert row["macs"] == row["stages"]["location"]["macs"] < row["most_macs"]
        assert [trace["kind"] for trace in row["stages"]["focus"]["traces"]] == ["box", "tokens"]
        assert len(set(row["stages"]["focus"]["traces"][1]["owner"])) == 88 + 27
        assert row["stages"]["focus"].keys() >= {"prediction", "confidence"}
    assert not (tmp_path / "reports").exists()
    by_name = {Path(row["image"]).name: row["stages"] for row in rows}
    # The same photo, decoded alike: EXIF is honoured, so the turned one differs.
    assert by_name["turned.jpg"] != by_name["прекрасное_$фото$ [1].jpg"]


@pytest.mark.parametrize("only", ["exited", "focused", "harmed"])
def test_only_filters(lfvit: Run, odd: Path, weights: str, only: str) -> None:
    """Each filter lets through just the photos it names."""
    common = (
        "visualize",
        str(odd),
        "--model",
        LF_VIT,
        "--checkpoint",
        weights,
        "--format",
        "json",
        "--threshold",
        "0.8",
    )
    rows = json.loads(lfvit(*common).stdout)
    done = lfvit(*common, "--only", only)
    assert done.returncode == 0, done.stderr

    def passes(row: dict[str, object]) -> bool:
        stages: dict[str, dict[str, int]] = row["stages"]  # type: ignore[assignment]
        if only == "harmed":
            answered = stages[str(row["answered_by"])]["prediction"]
            return stages["location"]["prediction"] == row["label"] != answered
        return row["exited"] is (only == "exited")

    assert json.loads(done.stdout) == [row for row in rows if passes(row)]
    assert f"{only}: {sum(map(passes, rows))} of 10 photos" in done.stderr


def test_networks_are_compared_on_one_sheet(lfvit: Run, tmp_path: Path, photo: str, weights: str) -> None:
    """Networks after --compare share a sheet with the first, whose class names serve those of as many classes."""
    dynamic = save_narrow(DYNAMIC_VIT, tmp_path / "dynamic.safetensors", named=False)
    arguments = ("visualize", photo, "--model", LF_VIT, "--checkpoint", weights, "--compare", DYNAMIC_VIT, DEIT)
    done = lfvit(*arguments, "--checkpoint", f"{DYNAMIC_VIT}={dynamic}", "--format", "json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["model"] for row in rows] == [LF_VIT, DYNAMIC_VIT, DEIT]
    assert [row["trained"] for row in rows] == [True, True, False]
    assert rows[1]["stages"]["full"]["name"] in CLASSES
    pruned = [trace["owner"] for trace in rows[1]["stages"]["full"]["traces"]]
    assert [sum(owner >= 0 for owner in owners) for owners in pruned] == [137, 96, 67]
    assert f"{DEIT} has random weights" in done.stderr
    drawn = lfvit(*arguments, "--output", "out")
    assert drawn.returncode == 0, drawn.stderr
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_bare_looks_through_the_demo_network(lfvit: Run) -> None:
    """The trained LF-ViT, with its class names, at the threshold calibrated for it; another one can be asked for."""
    photo = "demo:apple.jpg"
    done = lfvit("visualize", photo, "--format", "json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert row["model"] == "lf_deit_small"
    assert row["stages"]["location"]["name"] in contents().classes
    assert "random" not in done.stderr
    asked = lfvit("visualize", photo, "--format", "json", "--threshold", "1")
    given, found = json.loads(asked.stdout)[0]["policy"]["thresholds"], row["policy"]["thresholds"]
    assert 0 < found[0] < given[0] == 1
    known = "knows only 81 classes, such as "
    assert row["knows"].startswith(known)
    assert done.stderr.count(f"lf_deit_small {known}") == 1


def test_without_an_image_it_looks_at_the_photos_that_come_along(lfvit: Run) -> None:
    """Each of them has a row."""
    done = lfvit("visualize", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert [Path(row["image"]).name for row in json.loads(done.stdout)] == list(demo_photos().paths)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("demo:pear.jpg",), 1, "no demo photo is called 'pear.jpg'"),
        (("none.jpg",), 1, "there is no image or folder 'none.jpg'"),
        (("*.png",), 1, "no image matches '*.png'"),
        (("notes.txt",), 1, "cannot read the image"),
        ((".", "--only", "exited"), 1, "has one stage, so --only exited has nothing to choose by"),
        (("{photo}", "--threshold", "1.5"), 1, "1.5 is not a threshold of confidence"),
        (("{photo}", "--threshold", "0.5,0.5"), 1, "2 exit thresholds were given for the stages location, focus"),
        (("{photo}", "--threshold", "0.5", "--policy", "x.json"), 2, "either a policy or a threshold"),
        (("{photo}", "--policy", "none.json"), 1, "cannot read the policy 'none.json'"),
        (("{photo}", "--policy", "notes.txt"), 1, "it is not JSON"),
        (("{photo}", "--policy", "other.json"), 1, "was chosen for somebodys_network, not for"),
        (("{photo}", "--policy", "three.json"), 1, "is for the stages a, b, c, and"),
        (("{photo}", "--criterion", "margin"), 1, "has no published threshold of its margin"),
        (("{photo}", "--criterion", "size"), 2, "--criterion"),
        (("{photo}", "--import", "none.py"), 1, "there is no file none.py to import"),
        (("{photo}", "--threshold", "nan"), 2, "--threshold"),
        (("{photo}", "--only", "spoiled"), 2, "--only"),
        (("{photo}", "--classes", "notes.txt"), 1, "has 1 class names, and the network 5 classes"),
        (("{photo}", "--classes", "none.txt"), 1, "cannot read the class names 'none.txt'"),
        (("{photo}", "--output", "notes.txt"), 1, "cannot write to notes.txt"),
        (("{photo}", "--checkpoint", "none.pth"), 1, "there is no checkpoint none.pth"),
        (("{photo}", "--checkpoint", "a.pth", "--checkpoint", "b.pth"), 2, "two sources"),
        (("{photo}", "--compare", "deit_smal"), 1, "no model is called 'deit_smal'"),
        (("{photo}", "--device", "toaster"), 1, "'toaster' is not a device"),
    ],
)
def test_bad_input_is_one_line(
    lfvit: Run, tmp_path: Path, photo: str, arguments: tuple[str, ...], code: int, told: str
) -> None:
    """What is wrong is said in one line with its remedy, and nothing is written."""
    (tmp_path / "notes.txt").write_text("no image")
    for name, of in (("other", "somebodys_network"), ("three", None)):
        policy = PolicyFile(model=of, stages=("a", "b", "c"), thresholds=(0.5, 0.5))
        (tmp_path / f"{name}.json").write_text(policy.text())
    Image.new("RGB", (30, 30)).save(tmp_path / "grey.jpg")
    model = DEIT if "--only" in arguments else LF_VIT
    done = lfvit("visualize", *(argument.format(photo=photo) for argument in arguments), "--model", model)
    assert done.returncode == code, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    if code == 1:
        assert sum(line.startswith("error: ") for line in done.stderr.splitlines()) == 1
    assert not list(tmp_path.rglob("*.png"))


def test_a_policy_file_decides(lfvit: Run, tmp_path: Path, photo: str, weights: str) -> None:
    """Criterion and thresholds are the file's, and the record says so."""
    policy = PolicyFile(model=LF_VIT, stages=("location", "focus"), criterion="entropy", thresholds=(9.0,))
    (tmp_path / "policy.json").write_text(policy.text())
    common = ("visualize", photo, "--model", LF_VIT, "--checkpoint", weights, "--format", "json")
    (row,) = json.loads(lfvit(*common, "--policy", "policy.json").stdout)
    assert row["policy"] == {"criterion": "entropy", "thresholds": [9.0]}
    assert row["answered_by"] == "location"
    assert 0 < row["stages"]["location"]["value"] < 9
    assert row["stages"]["focus"]["value"] is None


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_three_stages_from_outside_are_drawn(lfvit: Run, tmp_path: Path, photo: str, exit_vit: Path, form: str) -> None:
    """With a threshold for each stage, in every format."""
    model = "exit_vit_small:embed_dim=24,num_heads=3,num_classes=5"
    options = ("--import", str(exit_vit), "--criterion", "entropy", "--threshold", "0,9")
    done = lfvit("visualize", photo, "--model", model, *options, "--format", form)
    assert done.returncode == 0, done.stderr
    (picture,) = (tmp_path / "reports/visualize").iterdir()
    assert picture.suffix == f".{form}"
    assert picture.stat().st_size > 10_000
    assert "after_8" in done.stdout


def test_thresholds_without_an_exit_are_told(lfvit: Run, photo: str) -> None:
    """A network of one stage decides nothing, which is no error but said."""
    done = lfvit("visualize", photo, "--model", DEIT, "--threshold", "0.5", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert "--threshold and --criterion change nothing" in done.stderr
    assert json.loads(done.stdout)[0]["policy"] is None


def test_no_readable_photo_is_an_error(lfvit: Run, tmp_path: Path) -> None:
    """Where every file is skipped, the command fails, and says why."""
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_text("no image")
    done = lfvit("visualize", "a.jpg", "b.jpg", "--model", LF_VIT, "--format", "json")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("error: cannot read the image 'a.jpg': not a JPEG")


def test_harm_needs_labels(lfvit: Run, tmp_path: Path, weights: str) -> None:
    """Without class folders no answer is known to be right."""
    Image.new("RGB", (30, 30)).save(tmp_path / "grey.jpg")
    done = lfvit("visualize", "grey.jpg", "--model", LF_VIT, "--checkpoint", weights, "--only", "harmed")
    assert done.returncode == 1
    assert "without labels it is unknown which answers were right" in done.stderr
    assert "boot" in done.stderr


def test_a_limit_spreads_over_the_classes(lfvit: Run, odd: Path, weights: str) -> None:
    """Of five classes, five photos are one of each."""
    done = lfvit(
        "visualize", f"{odd}/*/*", "--model", LF_VIT, "--checkpoint", weights, "--format", "json", "--limit", "5"
    )
    folders = [Path(row["image"]).parent.name for row in json.loads(done.stdout)]
    assert len(folders) == len(set(folders)) >= 4


def test_half_precision_looks_too(lfvit: Run, photo: str, weights: str) -> None:
    """In bfloat16 the confidences are near those in float32."""
    common = ("visualize", photo, "--model", LF_VIT, "--checkpoint", weights, "--format", "json")
    full, half = (json.loads(lfvit(*common, "--dtype", dtype).stdout)[0] for dtype in ("float32", "bfloat16"))
    near = pytest.approx(full["stages"]["location"]["confidence"], abs=0.1)
    assert half["stages"]["location"]["confidence"] == near
