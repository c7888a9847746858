"""Tests of evaluation/run.py: whole evaluations of a narrow network on real photos, in this process."""

import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from evaluating import CLASSES, SPEC, answers, evaluated, network, same_answers, save_checkpoint
from labelled import labelled_folder, labelled_photos

from lfvit_cli.cost import count_stages
from lfvit_cli.errors import ImagesError, MeasureError
from lfvit_cli.evaluation.job import EvaluationSettings, prepare
from lfvit_cli.evaluation.run import run
from lfvit_cli.evaluation.table import read_predictions
from lfvit_cli.images.folder import list_folder
from lfvit_cli.images.loading import load_photos
from lfvit_cli.images.sampling import sample
from lfvit_cli.images.transforms import TransformSettings, normalise
from lfvit_cli.networks.build import build
from lfvit_cli.networks.checkpoint_files import file_sha256
from lfvit_cli.networks.stages import stages_of, walk
from lfvit_cli.policies import Criterion, ExitPolicy

PHOTOS = str(labelled_folder() / "test")


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    """Weights of the narrow network, saved."""
    return save_checkpoint(tmp_path)


def test_offline_exits_are_those_of_the_real_path(checkpoint: str, tmp_path: Path) -> None:
    """At any threshold, the table's rows say what the early exit answers, image by image."""
    evaluation = evaluated(tmp_path, checkpoint=checkpoint, data=PHOTOS, limit=24, batch_size=24)
    predictions = evaluation.predictions
    location, focus = predictions.stages.values()
    photos = load_photos(sample(labelled_photos(), 24), TransformSettings())
    images = normalise(photos.pixels, TransformSettings())
    assert list(predictions.images) == list(photos.paths)
    assert predictions.labels.tolist() == photos.labels.tolist()
    for threshold in (0.0, *np.quantile(location.confidence, (0.3, 0.7)), 2.0):
        with torch.inference_mode():
            real = walk(stages_of(network()), images, ExitPolicy.at(float(threshold)))
        exits = location.confidence >= threshold
        assert real.exited.tolist() == exits.tolist()
        assert real.logits.argmax(1).tolist() == np.where(exits, location.prediction, focus.prediction).tolist()


def test_the_table_carries_its_circumstances(checkpoint: str, tmp_path: Path) -> None:
    """Hashes, MACs, precision, classes and machine are with the numbers."""
    evaluation = evaluated(tmp_path, checkpoint=checkpoint, data=PHOTOS, limit=5, transform={"crop_pct": 1.0})
    facts, transform = read_predictions(evaluation.path).metadata, TransformSettings(crop_pct=1.0)
    assert facts.model == SPEC
    assert facts.stages == ("location", "focus")
    assert facts.macs == tuple(stage.macs for stage in count_stages(SPEC, network()))
    assert facts.classes == labelled_photos().class_names
    assert facts.checkpoint_hash == file_sha256(Path(checkpoint))
    assert facts.listing_hash == sample(labelled_photos(), 5).sha256
    assert (facts.transform_hash, facts.transform) == (transform.sha256, transform.model_dump(mode="json"))
    assert (facts.dtype, facts.device, facts.trained) == ("float32", "cpu", True)
    assert facts.environment is not None
    assert facts.environment.device is not None
    assert sorted(file.name for file in tmp_path.iterdir()) == [evaluation.path.name, "weights.pth"]


def test_logits_are_kept_on_request(checkpoint: str, tmp_path: Path) -> None:
    """The logits in the file are the ones that were answered."""
    evaluation = evaluated(tmp_path / "p.parquet", checkpoint=checkpoint, data=PHOTOS, limit=6, logits=True)
    table = pq.read_table(evaluation.path)
    for stage, stored in evaluation.predictions.stages.items():
        kept = np.array(table[f"{stage}_logits"].to_pylist(), dtype=np.float16)
        assert kept.shape == (6, CLASSES)
        assert kept.argmax(axis=1).tolist() == stored.prediction.tolist()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_answers_alike(checkpoint: str, tmp_path: Path, dtype: str) -> None:
    """A lower precision changes confidences a little, and its name is in the table."""
    full = evaluated(tmp_path, checkpoint=checkpoint, data=PHOTOS, limit=6).predictions
    half = evaluated(tmp_path, checkpoint=checkpoint, data=PHOTOS, limit=6, dtype=dtype).predictions
    assert half.metadata.dtype == dtype
    difference = np.abs(full.stages["location"].confidence - half.stages["location"].confidence)
    assert 0 < difference.max() < 0.05


@pytest.mark.parametrize(
    ("spec", "stages", "criterion"),
    [
        ("multi_exit_deit_tiny:layers=(1,2),depth=3,embed_dim=24,num_heads=3", 3, Criterion.CONFIDENCE),
        ("thinking_deit_3h_6h:thinking_stages=(1,2,3),depth=2,embed_dim=24", 3, Criterion.TOP10_ENTROPY),
    ],
)
def test_any_number_of_stages_is_evaluated(tmp_path: Path, spec: str, stages: int, criterion: Criterion) -> None:
    """Every stage has its answers and MACs, and the file names the criterion that the method publishes."""
    table = evaluated(tmp_path, model=f"{spec},num_classes={CLASSES}", data=PHOTOS, limit=4).predictions
    assert len(table.stages) == len(table.metadata.stages) == len(table.metadata.macs or ()) == stages
    assert table.metadata.criterion is criterion
    for answers_of_stage in table.stages.values():
        columns = [getattr(answers_of_stage, each.column) for each in Criterion]
        assert [len(column) for column in columns] == [4] * len(Criterion)
        assert np.isfinite(np.array(columns)).all()


def test_any_classifier_has_the_stage_full(tmp_path: Path) -> None:
    """A plain network is evaluated the same way; without weights the table says that it is untrained."""
    spec = f"deit_tiny_patch16_224:depth=1,embed_dim=24,num_heads=3,num_classes={CLASSES}"
    evaluation = evaluated(tmp_path, model=spec, data=PHOTOS, limit=6)
    facts = evaluation.predictions.metadata
    assert (facts.stages, facts.trained) == (("full",), False)
    assert facts.macs is not None
    other = evaluated(tmp_path, model=spec, data=PHOTOS, limit=6, seed=1)
    assert other.predictions.metadata.checkpoint_hash != facts.checkpoint_hash


def test_rows_do_not_depend_on_the_batches(checkpoint: str, tmp_path: Path) -> None:
    """Another batch size and a decoding process give the same rows in the same order."""
    one, other = tmp_path / "1.parquet", tmp_path / "2.parquet"
    evaluated(one, checkpoint=checkpoint, data=PHOTOS, limit=30, batch_size=7)
    evaluated(other, checkpoint=checkpoint, data=PHOTOS, limit=30, batch_size=30)
    assert same_answers(one, other)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 and 3.13 warn of every DataLoader worker.
def test_decoding_processes_change_nothing(checkpoint: str, tmp_path: Path) -> None:
    """Decoded beside the network or in turn with it, the rows are equal to the last bit."""
    files = [tmp_path / f"{workers}.parquet" for workers in (0, 2)]
    for workers, file in zip((0, 2), files, strict=True):
        evaluated(file, checkpoint=checkpoint, data=PHOTOS, limit=30, batch_size=7, workers=workers)
    assert answers(files[0]).equals(answers(files[1]))


def test_a_finished_evaluation_is_reused(checkpoint: str, tmp_path: Path) -> None:
    """The same evaluation is not done twice, even with other batches, unless asked; another one has another name."""
    settings = EvaluationSettings(model=SPEC, checkpoint=checkpoint, data=PHOTOS, limit=6, device="cpu", workers=0)
    first = run(prepare(settings, tmp_path), lambda *_: None)
    written = first.path.stat().st_mtime_ns
    again = prepare(settings.model_copy(update={"batch_size": 3}), tmp_path)
    assert again.finished is not None
    assert run(again, lambda *_: pytest.fail("nothing is left to do")).path == first.path
    assert first.path.stat().st_mtime_ns == written
    assert prepare(settings, tmp_path, fresh=True).finished is None
    assert evaluated(tmp_path, checkpoint=checkpoint, data=PHOTOS, limit=6, logits=True).path != first.path
    run(prepare(settings, tmp_path, fresh=True), lambda *_: None)
    assert first.path.stat().st_mtime_ns > written


def test_an_interrupted_evaluation_goes_on(checkpoint: str, tmp_path: Path) -> None:
    """Shards done before an interrupt are kept, only the others are evaluated, and the table is as without it."""
    asked = {"model": SPEC, "checkpoint": checkpoint, "data": PHOTOS, "limit": 300, "batch_size": 32}
    settings = EvaluationSettings.model_validate({**asked, "device": "cpu", "workers": 0})

    def interrupt(done: int, total: int, _what: str) -> None:
        assert total == 300
        if done > 200:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(prepare(settings, tmp_path / "broken.parquet"), interrupt)
    job, steps = prepare(settings, tmp_path / "broken.parquet"), list[int]()
    assert (job.done, job.missing, job.finished) == (128, (1, 2), None)
    run(job, lambda done, total, what: steps.append(done))  # noqa: ARG005
    assert steps[0] == 32
    assert steps[-1] == 300 - 128
    whole = evaluated(tmp_path / "whole.parquet", **settings.model_dump())
    assert answers(job.path).equals(answers(whole.path))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["broken.parquet", "weights.pth", "whole.parquet"]
    # Half-done work of other batches is another's.
    with pytest.raises(KeyboardInterrupt):
        run(prepare(settings, tmp_path / "broken.parquet", fresh=True), interrupt)
    assert prepare(settings.model_copy(update={"batch_size": 64}), tmp_path / "other.parquet").done == 0


def test_unreadable_images_have_no_row(checkpoint: str, tmp_path: Path) -> None:
    """Broken files, a whole batch of them too, are left out and named with the reason."""
    photos = tmp_path / "photos"
    for path in labelled_photos().paths[::60]:
        (photos / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(labelled_folder() / "test" / path, photos / path)
    for name in ("apple/a.jpg", "apple/b.jpg", "apple/c.jpg", "notebook/99.jpg"):
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).write_text("no image")
    class_map = tmp_path / "classes.txt"
    class_map.write_text("\n".join(labelled_photos().class_names))
    evaluation = evaluated(
        tmp_path, checkpoint=checkpoint, data=str(photos), class_map=class_map, batch_size=2, workers=0
    )
    assert evaluation.skipped == 4
    assert [photo.path for photo in evaluation.unreadable] == [
        "apple/a.jpg",
        "apple/b.jpg",
        "apple/c.jpg",
        "notebook/99.jpg",
    ]
    assert "not a JPEG" in evaluation.unreadable[0].reason
    readable = [path for path in list_folder(photos).paths if (photos / path).stat().st_size > 10]
    assert list(evaluation.predictions.images) == readable


def test_any_file_name_can_be_written(checkpoint: str, tmp_path: Path) -> None:
    """A name that is no UTF-8 does not cost the evaluation."""
    (tmp_path / "photos").mkdir()
    source = labelled_photos().file(0)
    shutil.copy(source, tmp_path / "photos" / "plain.jpg")
    shutil.copy(source, tmp_path / "photos" / os.fsdecode(b"\xff.jpg"))
    evaluation = evaluated(tmp_path / "out", checkpoint=checkpoint, data=str(tmp_path / "photos"))
    assert list(evaluation.predictions.images) == ["plain.jpg", "\ufffd.jpg"]


def test_no_readable_image_is_an_error(checkpoint: str, tmp_path: Path) -> None:
    """Where nothing can be read there is no table, and no half-done work."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").write_text("no image")
    with pytest.raises(ImagesError, match=r"none of the 1 images can be read: .*1.jpg.*not a JPEG"):
        evaluated(tmp_path / "out", checkpoint=checkpoint, data=str(tmp_path / "photos"))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_flat_folder_has_no_hits(checkpoint: str, tmp_path: Path) -> None:
    """Without labels the predictions are there, and hits are unknown rather than false."""
    evaluation = evaluated(tmp_path, checkpoint=checkpoint, data=PHOTOS + "/cat", limit=3)
    assert evaluation.predictions.labels.tolist() == [-1, -1, -1]
    assert all(stage.top5 is None for stage in evaluation.predictions.stages.values())
    assert not any(name.endswith("top5") for name in answers(evaluation.path).column_names)


def test_labels_beyond_the_classes_are_refused_before_the_work(tmp_path: Path) -> None:
    """A model of five classes cannot be right about ten; nothing is written."""
    with pytest.raises(MeasureError, match=r"labels up to 9, and the model answers the classes 0 to 4.*--class-map"):
        evaluated(tmp_path / "out", model=f"{SPEC},num_classes=5", data=PHOTOS)
    assert not (tmp_path / "out").exists()


def test_weights_that_overflow_are_told(tmp_path: Path) -> None:
    """Answers that are no numbers become advice, not a table."""
    weights = network().state_dict()
    weights["head.bias"].fill_(torch.inf)
    torch.save(weights, tmp_path / "broken.pth")
    with pytest.raises(MeasureError, match="stage location answers with numbers that are not finite"):
        evaluated(tmp_path, checkpoint=str(tmp_path / "broken.pth"), data=PHOTOS, limit=2)


@pytest.mark.parametrize("classes", [CLASSES, 12])
def test_more_classes_than_the_data_name(tmp_path: Path, classes: int) -> None:
    """A class that no folder has is named by its index, and a person is warned of what the labels may mean."""
    from networks.cases import narrow

    torch.save(narrow("lf_deit_tiny", depth=4, num_classes=classes).state_dict(), tmp_path / "w.pth")
    settings = EvaluationSettings(
        model=SPEC, checkpoint=str(tmp_path / "w.pth"), data=PHOTOS, limit=2, device="cpu", workers=0
    )
    job = prepare(settings, tmp_path)
    assert job.facts.classes == (*labelled_photos().class_names, *("10", "11")[: classes - CLASSES])
    assert bool(job.warnings) == (classes > CLASSES)
    assert all("answers 12 classes and the data name 10" in warning for warning in job.warnings)


def test_macs_that_depend_on_the_image_are_the_mean_over_all(tmp_path: Path) -> None:
    """Of all images evaluated, in batches of any size."""
    spec = "spvit_deit_tiny:embed_dim=48,num_heads=3,num_classes=10"
    photos = load_photos(sample(labelled_photos(), 12), TransformSettings())
    tables = [
        evaluated(tmp_path / str(size), model=spec, data=PHOTOS, limit=12, batch_size=size).predictions
        for size in (5, 12)
    ]
    torch.manual_seed(0)
    (row,) = count_stages(spec, build(spec), normalise(photos.pixels, TransformSettings()))
    assert [table.metadata.macs for table in tables] == [(row.macs,)] * 2
