"""A narrow LF-ViT with lively weights, and what its tests of the evaluation share."""

import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from networks.cases import narrow
from torch import nn

from lfvit_cli.app import main
from lfvit_cli.evaluation.job import EvaluationSettings
from lfvit_cli.evaluation.run import Evaluation, evaluate

SPEC = "lf_deit_tiny:depth=4,embed_dim=24,num_heads=3"
CLASSES = 10


def quiet(_done: int, _total: int, _what: str) -> None:
    """Hear of the progress and say nothing."""


def network() -> nn.Module:
    """The network of ``SPEC``, for the demo photos' ten classes."""
    built: nn.Module = narrow("lf_deit_tiny", depth=4, num_classes=CLASSES)
    return built


def save_checkpoint(folder: Path) -> str:
    """Save its weights in the authors' style, and name the file."""
    file = folder / "weights.pth"
    torch.save({"model": network().state_dict()}, file)
    return str(file)


def evaluated(output: Path, **settings: Any) -> Evaluation:
    """Evaluate in this process; keywords are settings."""
    return evaluate(EvaluationSettings(**{"model": SPEC, "device": "cpu", "workers": 0, **settings}), output, quiet)


def answers(file: Path) -> pa.Table:
    """The rows of a predictions file, without its circumstances."""
    return pq.read_table(file).replace_schema_metadata(None)


def same_answers(one: Path, other: Path, tolerance: float = 1e-5) -> bool:
    """Whether two files have the same rows in the same order, up to the rounding of another number of threads."""
    ours, theirs = answers(one).to_pandas(), answers(other).to_pandas()
    exact = [name for name in ours if ours[name].dtype.kind != "f"]
    near = [name for name in ours if ours[name].dtype.kind == "f"]
    return (
        list(ours) == list(theirs)
        and ours[exact].equals(theirs[exact])
        and bool((ours[near] - theirs[near]).abs().max().max() <= tolerance)
    )


def run_here(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run lfvit in this process, which has its imports behind it: the exit code, standard output and error."""
    monkeypatch.setattr(sys, "argv", ["lfvit", *arguments])
    try:
        main()
        code: Any = 0
    except SystemExit as end:
        code = end.code or 0
    printed = capsys.readouterr()
    return code, printed.out, printed.err
