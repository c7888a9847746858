"""`lfvit sweep-threshold`, as a person at a terminal meets it."""

import csv
import io
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest
import torch
from evaluating import SPEC, save_checkpoint
from labelled import labelled_folder, labelled_photos
from made_predictions import random_predictions
from PIL import Image
from running import Run

from lfvit_cli.analysis.sweep import SweepRecord
from lfvit_cli.demo.suite import all_demo_predictions
from lfvit_cli.evaluation.authors_curve import AuthorsCurveRecord
from lfvit_cli.evaluation.table import Predictions, read_predictions, write_predictions
from lfvit_cli.results.schemas import shipped_schema

# Rows of ThinkingViT's released logs.
CURVE = """\
threshold,images,exit_rate,top1,top5,gmacs_reported,gmacs_recomputed
0.0,50000,0.0,81.44,95.716,5.85,5.85
0.5,50000,0.40722,81.368,95.562,3.98,3.976788
5.0,50000,1.0,73.536,92.046,1.25,1.25
"""

FILES = {
    "calibration.png",
    "policies",
    "policy.json",
    "classes.csv",
    "curve.csv",
    "curve.json",
    "curve.png",
    "curve.svg",
    "report.md",
}


@pytest.fixture
def table(tmp_path: Path) -> Predictions:
    """Predictions of 150 images, in p.parquet and, bare, in bare.csv; and a checkpoint without a curve, bare.pth."""
    made = random_predictions(150)
    write_predictions(tmp_path / "p.parquet", made)
    columns: dict[str, object] = {"label": made.labels}
    for stage, answers in made.stages.items():
        columns |= {f"{stage}_prediction": answers.prediction, f"{stage}_confidence": answers.confidence}
    pd.DataFrame(columns).to_csv(tmp_path / "bare.csv", index=False)
    torch.save({"head.weight": torch.zeros(3, 2)}, tmp_path / "bare.pth")
    return made


@pytest.mark.usefixtures("table")
def test_files_are_written_and_the_table_is_short(lfvit: Run, tmp_path: Path) -> None:
    """A run writes every file, whole, and shows the few thresholds that a person would choose from."""
    done = lfvit("sweep-threshold", "p.parquet", COLUMNS="160")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "reports" / "sweep"
    assert {file.name for file in folder.iterdir()} == FILES
    assert len(done.stdout.splitlines()) < 15
    for words in ("drop ≤ 0.5 points", "drop ≤ 1 point ", "location only", "focus only"):
        assert words in done.stdout
    with Image.open(folder / "curve.png") as picture:
        assert picture.size > (1000, 600)
    assert ET.parse(folder / "curve.svg").getroot().tag.endswith("svg")  # noqa: S314 - our own file
    report = (folder / "report.md").read_text()
    assert "| location |" in report
    assert "![Accuracy against cost](curve.png)" in report


def test_json_is_the_record(lfvit: Run, tmp_path: Path, table: Predictions) -> None:
    """--format json prints the stored record: a point for every distinct confidence, and one for no exit."""
    done = lfvit("sweep-threshold", "p.parquet", "--format", "json", "--repeats", "2")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    jsonschema.validate(document, SweepRecord.model_json_schema(mode="serialization"))
    assert document == json.loads((tmp_path / "reports/sweep/curve.json").read_text())
    sure = table.stages["location"].confidence
    assert len(document["curve"]) == len(np.unique(sure)) + 1
    for point in document["curve"]:
        assert point["exit_rate"] == np.mean(sure >= point["threshold"])
    assert document["reference_curves"].keys() == {"oracle", "random", "location_only", "focus_only"}
    assert document["environment"]["packages"]["lfvit"]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "reports/sweep/curve.csv").read_text())))
    assert [float(row["top1"]) for row in rows] == [point["top1"] for point in document["curve"]]


@pytest.mark.usefixtures("table")
def test_torch_is_never_imported(run_python: Run, tmp_path: Path) -> None:
    """Given predictions and CSV files, the whole command runs without PyTorch."""
    (tmp_path / "curve.csv").write_text(CURVE)
    sources = ("p.parquet", "curve.csv", "--published")
    done = run_python("-X", "importtime", "-m", "lfvit_cli", "sweep-threshold", *sources)
    assert done.returncode == 0, done.stderr
    modules = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "matplotlib" in modules
    assert modules.isdisjoint({"torch", "timm", "torchvision"})


@pytest.mark.usefixtures("table")
def test_the_choice_is_cautious_unless_asked_otherwise(lfvit: Run, tmp_path: Path) -> None:
    """By default a threshold is certified or marked as not; --rule point takes the estimate without a word."""
    cautious = lfvit("sweep-threshold", "p.parquet", "--max-drop", "0.5", "--exit-rate", "0.3")
    assert cautious.returncode == 0, cautious.stderr
    assert "* 0." in cautious.stdout
    assert "* too few images to certify any threshold" in cautious.stderr
    record = json.loads((tmp_path / "reports/sweep/curve.json").read_text())
    assert [point["certified"] for point in record["operating_points"]] == [False, True]
    assert record["settings"]["rule"] == "cautious"
    point = lfvit("sweep-threshold", "p.parquet", "--max-drop", "0.5", "--rule", "point")
    assert "*" not in point.stdout + point.stderr


@pytest.mark.usefixtures("table")
def test_the_authors_curve_of_a_checkpoint(lfvit: Run, tmp_path: Path) -> None:
    """A checkpoint's own curve is shown as its authors', alone and beside predictions."""
    budgeted, alone = [[1.2, 1.8, 3.1], [75.0, 79.8, 80.6]], [70.1, 80.8]
    records = {"flops": [1.1, 3.8], "anytime_classification": alone, "budgeted_batch_classification": budgeted}
    torch.save({"model": {"head.weight": torch.zeros(3, 2)}, **records}, tmp_path / "lf-vit.pth")
    done = lfvit("sweep-threshold", "lf-vit.pth", "--format", "json", "-o", "alone")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    jsonschema.validate(document, AuthorsCurveRecord.model_json_schema(mode="serialization"))
    drawn = [[point["macs"] / 1e9 for point in document["curve"]], [100 * point["top1"] for point in document["curve"]]]
    assert drawn == [pytest.approx(row) for row in budgeted]
    assert document.keys() >= {"curve", "operating_points", "reference_curves", "environment"}
    assert "its authors' own curve, not measured here" in done.stderr
    files = {"authors.csv", "curve.json", "curve.png", "curve.svg", "report.md"}
    assert {file.name for file in (tmp_path / "alone").iterdir()} == files

    both = lfvit("sweep-threshold", "p.parquet", "lf-vit.pth", "--published", "-o", "both")
    assert both.returncode == 0, both.stderr
    assert {file.name for file in (tmp_path / "both").iterdir()} == {*FILES, "authors.csv"}
    assert json.loads((tmp_path / "both/curve.json").read_text())["authors"][0]["curve"] == document["curve"]


@pytest.mark.usefixtures("table")
def test_the_authors_curve_of_a_csv_file(lfvit: Run, tmp_path: Path) -> None:
    """A CSV file with the documented columns is an authors' curve, alone and beside a CSV file of predictions."""
    (tmp_path / "curve.csv").write_text(CURVE)
    done = lfvit("sweep-threshold", "curve.csv", "--format", "json", "-o", "alone")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    jsonschema.validate(document, shipped_schema("authors_curve"))
    assert [(point["threshold"], point["exit_rate"]) for point in document["curve"]] == [(5, 1), (0.5, 0.40722), (0, 0)]
    assert document["operating_points"] == []
    shown = lfvit("sweep-threshold", "curve.csv", "-o", "alone")
    assert "threshold" in shown.stdout

    both = lfvit("sweep-threshold", "curve.csv", "bare.csv", "p.parquet", "--macs", "1,2", "-o", "both")
    assert both.returncode == 0, both.stderr
    assert {file.name for file in (tmp_path / "both").iterdir()} == {*FILES, "authors.csv"}
    record = json.loads((tmp_path / "both/curve.json").read_text())
    jsonschema.validate(record, shipped_schema("sweep"))
    assert record["authors"][0]["curve"] == document["curve"]
    assert (record["name"], [other["name"] for other in record["others"]]) == ("bare", ["lf_deit_small"])
    assert {file.name for file in (tmp_path / "both/policies").iterdir()} == {"bare.json", "lf_deit_small.json"}


def test_a_model_is_evaluated_first_and_its_evaluation_reused(lfvit: Run, tmp_path: Path) -> None:
    """A model's photos are evaluated as by `lfvit evaluate`, into its folder; the second time that is reused."""
    data = ["--data", str(labelled_folder() / "test")]
    model = ("sweep-threshold", SPEC, "--checkpoint", save_checkpoint(tmp_path), *data, "--device", "cpu")
    first = lfvit(*model, "--format", "json", "--repeats", "3", "--exit-rate", "0.2")
    assert first.returncode == 0, first.stderr
    (file,) = (tmp_path / "reports/predictions").iterdir()
    assert f"predictions: reports/predictions/{file.name}" in first.stderr
    document = json.loads(first.stdout)
    assert document["source"]["model"] == document["name"] == SPEC
    assert document["file"] == f"reports/predictions/{file.name}"
    assert document["images"] == len(read_predictions(file))
    second = lfvit(*model, "--format", "json", "--repeats", "3", "--exit-rate", "0.2")
    assert second.returncode == 0, second.stderr
    assert "this evaluation is already done: reusing" in second.stderr
    assert json.loads(second.stdout)["curve"] == document["curve"]


@pytest.mark.usefixtures("table")
def test_aims_can_be_chosen(lfvit: Run) -> None:
    """Each aim is a row, in the order budget, drop, accuracy, exit rate; the accuracy may be a share or per cent."""
    aims = ["--exit-rate", "0.5", "--budget", "2.5", "--min-accuracy", "0.7", "--min-accuracy", "70", "--max-drop", "3"]
    done = lfvit("sweep-threshold", "p.parquet", *aims, "--format", "json")
    targets = json.loads(done.stdout)["settings"]["targets"]
    assert [(target["aim"], target["value"]) for target in targets] == [
        ("budget", 2.5e9),
        ("max_drop", 0.03),
        ("min_accuracy", 0.7),
        ("min_accuracy", 0.7),
        ("exit_rate", 0.5),
    ]


@pytest.mark.usefixtures("table")
def test_several_files_are_compared(lfvit: Run, tmp_path: Path) -> None:
    """Two models of the same name are told apart by their files, and a network with one stage joins them."""
    write_predictions(tmp_path / "q.parquet", random_predictions(100, seed=1))
    single = random_predictions(100, stages=("full",))
    metadata = single.metadata.model_copy(update={"model": "deit"})
    write_predictions(tmp_path / "r.parquet", Predictions(single.images, single.labels, single.stages, metadata))
    done = lfvit("sweep-threshold", "p.parquet", "q.parquet", "r.parquet", "--format", "csv", "-o", "out")
    assert done.returncode == 0, done.stderr
    models = {row["model"] for row in csv.DictReader(io.StringIO(done.stdout))}
    assert models == {"lf_deit_small (p)", "lf_deit_small (q)", "deit"}
    assert {file.name for file in (tmp_path / "out").iterdir()} == FILES
    assert len(json.loads((tmp_path / "out/curve.json").read_text())["others"]) == 2


@pytest.mark.usefixtures("table")
def test_bare_csv_shows_what_is_unknown(lfvit: Run, tmp_path: Path) -> None:
    """A file of another tool is swept: without MACs, and with them when they are given."""
    done = lfvit("sweep-threshold", "bare.csv", "--format", "json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["source"]["model"] is document["curve"][0]["macs"] is None
    assert "bare: the MACs are unknown" in done.stderr
    assert re.search(r"\| model +\| unknown", (tmp_path / "reports/sweep/report.md").read_text())

    given = lfvit("sweep-threshold", "bare.csv", "--macs", "1.102,2.709", "--format", "json")
    curve = json.loads(given.stdout)["curve"]
    assert (curve[0]["macs"], curve[-1]["macs"]) == (1.102e9, 3.811e9)
    assert "unknown" not in given.stderr


def test_bare_sweeps_the_demo_suite(lfvit: Run) -> None:
    """The shipped predictions on the grocery test photos, with LF-ViT's exact curve; the same as naming the files."""
    done = lfvit("sweep-threshold", "--format", "json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["images"] == 2485
    files = all_demo_predictions()
    named = json.loads(lfvit("sweep-threshold", *files, "--format", "json").stdout)
    assert named["curve"] == record["curve"]
    assert len(record["others"]) == len(files) - 1 > 0


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (
            ("lf_deit_smal", "--device", "cpu"),
            1,
            "error: no model is called 'lf_deit_smal'. Did you mean lf_deit_small",
        ),
        (("p.parquet", "--checkpoint", "a.pth"), 2, "needs a model among the sources"),
        (("lf_deit_small", "--checkpoint", "a.pth", "--checkpoint", "b.pth"), 2, "2 given for 1 model"),
        (("bare.pth",), 1, "error: checkpoint bare.pth carries no curve of its authors. Evaluate it: lfvit sweep"),
        (("p.parquet", "--rule", "bold"), 2, "Invalid value for '--rule'"),
        (("absent.parquet",), 1, "error: predictions 'absent.parquet': no such file. Make one with `lfvit evaluate`"),
        (("p.parquet", "--budget", "0.5"), 1, "The reachable range is 1.102 to 3.811 GMACs"),
        (("bare.csv", "--budget", "2"), 1, "error: a budget needs MACs"),
        (("bare.csv", "--criterion", "entropy"), 1, "the predictions have no entropy column"),
        (("p.parquet", "--exit-rate", "1.2"), 2, "Invalid value for '--exit-rate'"),
        (("p.parquet", "--macs", "1,2"), 2, "1 given for 0 files without MACs"),
        (("bare.csv", "--macs", "many"), 2, "'many' is not a list of GMACs"),
        (("bare.csv", "--macs", "1,2,3"), 1, "3 MACs given for the stages location, focus"),
        (("p.parquet", "-o", "p.parquet/out"), 1, "cannot write to"),
    ],
)
def test_what_cannot_be_done_is_told(
    lfvit: Run, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    """A question that cannot be answered is one clear line with its remedy, and nothing is half-written."""
    done = lfvit("sweep-threshold", *arguments, COLUMNS="300")
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not list(tmp_path.rglob("curve.*"))


@pytest.mark.usefixtures("table")
def test_the_same_seed_gives_the_same_files(lfvit: Run, tmp_path: Path) -> None:
    """Running twice gives the same files byte for byte, but for the time of the run."""
    for folder in ("one", "two"):
        assert lfvit("sweep-threshold", "p.parquet", "-o", folder, "--seed", "7").returncode == 0
    for name in FILES - {"curve.json", "report.md", "policies"}:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_policy_of_the_sweep_runs_in_every_command(lfvit: Run, exit_vit: Path, tmp_path: Path) -> None:
    """Three stages, by entropy: evaluated, swept, and the same images stop at the same stages when it is timed."""
    spec = "exit_vit_small:embed_dim=24,num_heads=3,num_classes=10"
    outside = ["--import", str(exit_vit)]
    photos = [str(labelled_photos().file(index)) for index in range(0, 40, 2)]
    for number, photo in enumerate(photos):
        folder = tmp_path / "photos" / labelled_photos().class_names[number % 10]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.jpg").write_bytes(Path(photo).read_bytes())
    evaluated = lfvit("evaluate", spec, *outside, "--data", "photos", "-o", "p.parquet", "--workers", "0")
    assert evaluated.returncode == 0, evaluated.stderr
    swept = lfvit("sweep-threshold", "p.parquet", "--criterion", "entropy", "--exit-rate", "0.5", "--rule", "point")
    assert swept.returncode == 0, swept.stderr
    policy = json.loads((tmp_path / "reports/sweep/policy.json").read_text())
    assert (policy["version"], policy["model"], policy["criterion"]) == (1, spec, "entropy")
    assert policy["stages"] == ["after_4", "after_8", "full"]
    assert len(policy["thresholds"]) == 2
    assert [file.name for file in (tmp_path / "reports/sweep/policies").iterdir()] != []
    known = ["--policy", "reports/sweep/policy.json", "--format", "json"]
    again = lfvit("evaluate", spec, *outside, "--data", "photos", "-o", "p.parquet", *known)
    (*_, row) = json.loads(again.stdout)
    assert sum(row["answered"]) == 20
    looked = lfvit("visualize", "photos", "--model", spec, *outside, *known)
    stops = [look["answered_by"] for look in json.loads(looked.stdout)]
    assert [stops.count(stage) for stage in policy["stages"]] == row["answered"]
    timed = lfvit("bench", spec, *outside, "--reference", spec, "--data", "photos", "--batch-size", "20", *known)
    (measured,) = json.loads(timed.stdout)["rows"]
    rounds = sum(measured["answered"]) // 20
    assert measured["answered"] == [rounds * count for count in row["answered"]]
