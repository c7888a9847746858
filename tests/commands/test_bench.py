"""`lfvit bench` times real networks on real photos, writes its files whole, and refuses what it cannot do."""

import csv
import hashlib
import json
import os
from pathlib import Path

import jsonschema
import pytest
from labelled import labelled_photos
from running import Run

from lfvit_cli import catalogue
from lfvit_cli.analysis.demo import demo_exit_rate, known_top1
from lfvit_cli.policies import PolicyFile
from lfvit_cli.results.schemas import shipped_schema

NARROW = "embed_dim=48,num_heads=3,depth=2,num_classes=10"
LF, DEIT = f"lf_deit_tiny:{NARROW}", f"deit_tiny_patch16_224:{NARROW}"
QUICK = ["--seconds", "0", "--photos", "24", "--device", "cpu"]


def test_it_prints_the_record_and_writes_all_files(lfvit: Run, tmp_path: Path) -> None:
    """JSON on standard output, talk on standard error, all files, a record that fits the shipped schema."""
    done = lfvit("bench", LF, DEIT, "--reference", DEIT, "--batch-size", "4,8", *QUICK, "--format", "json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    jsonschema.validate(record, shipped_schema("bench"))
    folder = tmp_path / "reports/bench"
    names = sorted(path.name for path in folder.iterdir())
    figures = ("images-by-batch", "realised-vs-promised", "speed-vs-cost")
    pictures = [f"{figure}.{form}" for figure in figures for form in ("png", "svg")]
    assert names == sorted(["bench.csv", "bench.json", "bench.md", *pictures])
    assert json.loads((folder / "bench.json").read_text()) == record
    assert [(row["model"], row["batch_size"]) for row in record["rows"]] == [(LF, 4), (DEIT, 4), (LF, 8), (DEIT, 8)]
    assert {"median", "low", "high"} <= set(record["rows"][0]["images_per_second"])
    assert record["command"][:2] == ["lfvit", "bench"]
    assert "random weights" in done.stderr
    rows = list(csv.DictReader((folder / "bench.csv").read_text().splitlines()))
    assert float(rows[0]["images_per_second_median"]) == record["rows"][0]["images_per_second"]["median"]
    assert (folder / "speed-vs-cost.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "bench.md").read_text()
    assert f"| {LF}" in page
    assert "## Where an image's time goes" in page
    assert all(f"({figure}.png)" in page for figure in figures)


def test_a_queue_and_several_exit_rates(lfvit: Run, tmp_path: Path) -> None:
    """A row for each rate, with the batch of the focus; the table and the breakdown for people."""
    queue = ["--schedule", "queued", "--focus-batch", "2", "--exit-rate", "0,0.5", "--batch-size", "4"]
    done = lfvit("bench", LF, "--reference", DEIT, *QUICK, *queue, "-o", "here")
    assert done.returncode == 0, done.stderr
    assert "queue of 2" in done.stdout
    assert "Where an image's time goes" in done.stdout
    rows = list(csv.DictReader((tmp_path / "here/bench.csv").read_text().splitlines()))
    assert [row["asked_rate"] for row in rows] == ["0.0", "0.5", ""]


def test_latency_and_traces_and_files(lfvit: Run, tmp_path: Path) -> None:
    """At batch 1 the percentiles and their picture; a trace of each network; the speed from files."""
    done = lfvit("bench", LF, "--reference", DEIT, *QUICK, "--batch-size", "1", "--profile", "--end-to-end", "-o", "x")
    assert done.returncode == 0, done.stderr
    assert "p50" in done.stdout
    assert "from files" in done.stdout
    assert (tmp_path / "x/latency-by-exit.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "x/traces/float32-1").glob("*.trace.json"))) == 2
    assert "profiler" not in done.stderr


def test_the_fastest_way_is_found_and_kept(lfvit: Run, tmp_path: Path) -> None:
    """In the user's cache; the second time nothing is tried."""
    command = ["bench", LF, "--reference", LF, *QUICK, "--photos", "8", "--batch-size", "2", "--autotune"]
    first = lfvit(*command, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert first.returncode == 0, first.stderr
    assert "tunings of" in first.stderr
    kept = json.loads((tmp_path / "cache/lfvit/tuning.json").read_text())
    assert len(kept) == 1
    again = lfvit(*command, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert "tunings of" not in again.stderr
    record = json.loads((tmp_path / "reports/bench/bench.json").read_text())
    assert record["rows"][0]["compiled"] == next(iter(kept.values()))["compiled"]


def test_a_folder_of_photos_can_be_given(lfvit: Run, tmp_path: Path) -> None:
    """Flat, with an unreadable file among them; a table for people by default."""
    listing = labelled_photos("test")
    for index in range(5):
        (tmp_path / f"photo {index}.jpg").write_bytes(listing.file(index).read_bytes())
    (tmp_path / "photo 5.jpg").write_text("no picture")
    done = lfvit("bench", DEIT, "--reference", DEIT, "--data", str(tmp_path), *QUICK, "-o", "here")
    assert done.returncode == 0, done.stderr
    assert "1 of 6 photos cannot be read" in done.stderr
    assert "images/s" in done.stdout
    assert json.loads((tmp_path / "here/bench.json").read_text())["decoding"][0]["photos"] == 5


def test_weights_can_be_given(lfvit: Run, run_python: Run) -> None:
    """They set the number of classes, and the row says that it is trained."""
    program = f"""
from safetensors.torch import save_file
from lfvit_cli.networks.build import build
save_file(build({LF!r}).state_dict(), "lf.safetensors")
"""
    assert run_python("-c", program).returncode == 0
    spec = LF.replace(",num_classes=10", "")
    done = lfvit(
        "bench", spec, "--reference", spec, "--checkpoint", f"{spec}=lf.safetensors", *QUICK, "--format", "json"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"][0]["trained"] is True


def test_the_demo_network_runs_bare(lfvit: Run) -> None:
    """On photos that are no groceries: trained, as many exit as of the groceries, right as often as there."""
    quick = ["--reference", "lf_deit_small", *QUICK, "--format", "json"]
    done = lfvit("bench", "lf_deit_small", *quick)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert row["trained"]
    assert row["asked_rate"] == demo_exit_rate(["lf_deit_small"])
    assert (row["top1"], row["top1_from"]) == (known_top1(["lf_deit_small"])["lf_deit_small"], "predictions")
    assert "assumption" in done.stderr
    assert "on the grocery test photos, from predictions that come with lfvit" in done.stderr
    asked = json.loads(lfvit("bench", "lf_deit_small", *quick, "--exit-rate", "0.5").stdout)["rows"][0]
    assert (asked["asked_rate"], asked["top1"]) == (0.5, None)


def test_speed_ups_are_against_deit_s_wherever_it_stands(lfvit: Run) -> None:
    """Named first, and not last, it is still the reference."""
    quick = ["--seconds", "0", "--photos", "2", "--round-photos", "1", "--batch-size", "1", "--device", "cpu"]
    done = lfvit("bench", catalogue.REFERENCE, DEIT, *quick, "--format", "json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["settings"]["reference"] == catalogue.REFERENCE
    assert [row["promised_speedup"] == 1 for row in record["rows"]] == [True, False]


def test_three_stages_from_outside(lfvit: Run, exit_vit: Path, tmp_path: Path) -> None:
    """Immediate, queued and compiled, under a policy file: every stage is counted, and the file's hash is kept."""
    spec = "exit_vit_small:embed_dim=24,num_heads=3,num_classes=5"
    policy = PolicyFile(model=spec, stages=("after_4", "after_8", "full"), criterion="margin", thresholds=(0.02, 0.02))
    (tmp_path / "policy.json").write_text(policy.text())
    common = ["bench", spec, "--import", str(exit_vit), "--reference", spec, "--policy", "policy.json", *QUICK]
    for options in ([], ["--schedule", "queued"], ["--compile", "--batch-size", "8"]):
        done = lfvit(*common, *options, "--format", "json")
        assert done.returncode == 0, done.stderr
        record = json.loads(done.stdout)
        (row,) = record["rows"]
        assert row["policy"] == {"criterion": "margin", "thresholds": [0.02, 0.02]}
        assert len(row["answered"]) == 3
        assert row["exit_rate"] == sum(row["answered"][:2]) / sum(row["answered"])
        assert record["settings"]["imports"] == {str(exit_vit): hashlib.sha256(exit_vit.read_bytes()).hexdigest()}
        assert "warning: a stage" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["no_such_net"], 1, "no model is called 'no_such_net'"),
        ([DEIT, "--data", "nowhere"], 1, "there is no folder 'nowhere'"),
        ([DEIT, "--device", "tpu"], 1, "Use auto, cpu, cuda"),
        ([DEIT, "--checkpoint", "lost.pth"], 1, "there is no checkpoint lost.pth"),
        ([LF, DEIT, "--checkpoint", "a.pth", "--checkpoint", "b.pth"], 2, "MODEL=SOURCE"),
        ([DEIT, "--exit-rate", "2"], 2, "--exit-rate"),
        ([DEIT, "--exit-rate", "0.5,many"], 2, "--exit-rate"),
        ([DEIT, "--later-batch", "4"], 2, "--schedule queued"),
        ([DEIT, "--schedule", "queued"], 1, "none of these networks has a later stage"),
        ([DEIT, "--order", "hard"], 1, "without a network that exits early"),
        ([DEIT, "--dtype", "tf32"], 1, "cpu has no TF32"),
        ([DEIT, "--graphs"], 1, "cpu has no CUDA graphs"),
        ([DEIT, "--threshold", "-0.1"], 2, "--threshold"),
        ([LF, "--threshold", "1.2"], 1, "1.2 is not a threshold of confidence"),
        ([LF, "--threshold", "0.3,0.4"], 1, "2 exit thresholds were given for the stages location, focus"),
        ([LF, "--policy", "none.json"], 1, "cannot read the policy 'none.json'"),
        ([LF, "--policy", "p.json", "--exit-rate", "0.5"], 2, "either a policy, or a threshold"),
        ([LF, "--criterion", "luck"], 2, "--criterion"),
        ([DEIT, "--import", "none.py"], 1, "there is no file none.py to import"),
        ([DEIT, "--split", "test"], 2, "it goes with --data"),
        ([DEIT, "--seconds", "inf"], 2, "--seconds"),
        ([DEIT, "--batch-size", "1000000000"], 2, "--batch-size"),
        ([DEIT, "--threads", "1000000000"], 2, "--threads"),
        ([DEIT, "--seed", "10000000000000000000000"], 2, "--seed"),
        ([DEIT, "--batch-size", "0"], 2, "--batch-size"),
        ([DEIT, "--dtype", "int8"], 2, "--dtype"),
        ([DEIT, "--output", "/proc/nothing"], 1, "cannot write to /proc/nothing"),
    ],
)
def test_bad_input_is_one_clear_line(lfvit: Run, tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    """No traceback, and no file left behind."""
    done = lfvit("bench", *QUICK, "--reference", DEIT, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.skipif(os.environ.get("CUDA_VISIBLE_DEVICES") not in (None, ""), reason="shows a machine without CUDA")
def test_cuda_asked_for_and_absent_says_what_to_use(lfvit: Run) -> None:
    """With every CUDA device hidden, as on a machine that has none."""
    done = lfvit("bench", DEIT, "--device", "cuda", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 1
    assert "there is no CUDA device that PyTorch can use. Use --device cpu, or auto." in done.stderr


def test_debug_shows_the_traceback(lfvit: Run) -> None:
    """For whoever has to find the cause."""
    done = lfvit("--debug", "bench", "no_such_net", *QUICK)
    assert done.returncode != 0
    assert "Traceback" in done.stderr
    assert "UnknownModelError" in done.stderr
