"""Tests of training/checkpoints.py."""

import json
from pathlib import Path

import pytest
import torch
from made_training import LF_VIT, copy_photos, run_training, settings
from safetensors import safe_open

from lfvit_cli.errors import TrainingError
from lfvit_cli.images.folder import list_folder
from lfvit_cli.networks.build import build
from lfvit_cli.training.checkpoints import latest, load_checkpoint, save_checkpoint, write_final


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen photos of two classes to train on, four to validate on."""
    return copy_photos(tmp_path_factory.mktemp("photos"))


def test_final_file_says_what_it_is(photos: Path, tmp_path: Path) -> None:
    """It loads as a checkpoint of its model, in half precision, and its header names what made it."""
    asked = settings(photos, save_dtype="float16", epochs=1, drop_path=0.1, imports={"net.py": "1"})
    job, epochs = run_training(asked, tmp_path)
    path = write_final(job, epochs[-1])
    assert path == tmp_path / "lf_deit_tiny.safetensors"
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
        assert file.get_tensor("head.weight").dtype == torch.float16
    assert header["model"] == LF_VIT
    assert json.loads(header["imports"]) == {"net.py": "1"}
    assert json.loads(header["class_names"]) == list(job.splits.train.class_names)
    assert json.loads(header["keywords"])["num_classes"] == 2
    assert json.loads(header["transform"])["image_size"] == 96
    assert header["data_sha256"] == list_folder(photos, split="train").sha256
    assert json.loads(header["metrics"])["focus_top1"] == epochs[-1].top1["focus"]
    assert json.loads(header["recipe"])["epochs"] == 1
    trained = job.network.state_dict()["head.weight"]
    loaded = build(LF_VIT, checkpoint=str(path))
    assert torch.allclose(loaded.state_dict()["head.weight"], trained, atol=1e-3)


def test_only_the_newest_whole_checkpoint_stays(photos: Path, tmp_path: Path) -> None:
    """It is a checkpoint of its model, too; one that cannot be written leaves it, and a damaged one is told."""
    job, _ = run_training(settings(photos), tmp_path)
    folder = tmp_path / "checkpoints"
    (folder / ".unfinished.tmp").touch()
    newest = folder / "update-00000004.pth"
    assert latest(folder) == newest
    assert list(folder.glob("update-*")) == [newest]
    saved = load_checkpoint(newest)
    for name, value in build(LF_VIT, checkpoint=str(newest)).state_dict().items():
        assert value.equal(job.network.state_dict()[name])
    (folder / "update-00000005.pth").mkdir()
    with pytest.raises(TrainingError, match=r"update-00000005.pth cannot be written"):
        save_checkpoint(folder, saved, 5)
    assert newest.is_file()
    newest.write_bytes(b"half")
    with pytest.raises(TrainingError, match="cannot be read"):
        load_checkpoint(newest)
