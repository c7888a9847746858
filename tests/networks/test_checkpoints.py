"""Tests of networks/checkpoints.py."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from networks.cases import DYNAMIC_VIT, EVO_VIT, LF_VIT, Case, close, golden_case, narrow
from running import Run
from safetensors.torch import save_file
from torch import Tensor

from lfvit_cli.errors import CheckpointError
from lfvit_cli.networks.checkpoints import family_of, head_classes, load_checkpoint, read_records
from lfvit_cli.networks.stages import stages_of, walk

State = dict[str, Tensor]
RECORDS = {"flops": [1.1, 3.8], "anytime_classification": [70.1, 80.8]}

WRAPPINGS: dict[str, Callable[[State], Any]] = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"state_dict": state},
    "model_ema": lambda state: {"model_ema": state, "epoch": 1},
    "module prefix": lambda state: {"model": {f"module.{key}": value for key, value in state.items()}},
    "training": lambda state: {
        "model": state,
        "model_ema": {key: torch.zeros_like(value) for key, value in state.items()},
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-3, "params": [0]}]},
        "lr_scheduler": {"last_epoch": 299},
        "scaler": {"scale": 65536.0},
        "epoch": 299,
        "args": argparse.Namespace(model="deit", lr=5e-4, output_dir="", mixup=0.8, betas=None),
        **RECORDS,
    },
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where to write a checkpoint."""
    return tmp_path / "checkpoint.pth"


@pytest.fixture(params=(LF_VIT[0], DYNAMIC_VIT[0], EVO_VIT[0]))
def case(request: pytest.FixtureRequest) -> Case:
    """A golden case of each layout."""
    return golden_case(request.param)


def check_answers(case: Case, network: Any) -> None:
    """The network has the case's answers, of every stage."""
    with torch.inference_mode():
        outputs = walk(stages_of(network), case.images).outputs
    names = ("location_logits", "focus_logits") if case.name in LF_VIT else ("logits",)
    for output, name in zip(outputs, names, strict=True):
        assert close(output.logits, case.expected[name])


@pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS.keys())
def test_golden_cases_load_from_the_authors_files(case: Case, file: Path, wrap: Callable[[State], Any]) -> None:
    """Saved as the authors save it, in every wrapping, each case loads and answers as theirs; the file is untouched."""
    torch.save(wrap(case.state), file)
    before = (file.read_bytes(), file.stat().st_mtime_ns)
    network = case.bare_network()
    checkpoint = load_checkpoint(network, str(file))
    assert checkpoint is not None
    assert checkpoint.records == (RECORDS if wrap is WRAPPINGS["training"] else {})
    check_answers(case, network)
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before


def test_golden_cases_load_from_safetensors(case: Case, tmp_path: Path) -> None:
    """Saved as safetensors, each case loads and answers the same; the file is untouched."""
    path = tmp_path / "weights.safetensors"
    save_file(case.state, path)
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    network = case.bare_network()
    load_checkpoint(network, str(path))
    check_answers(case, network)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_records_are_read_without_a_network(file: Path) -> None:
    """The authors' own results can be read on their own."""
    torch.save({"model": golden_case("lf_vit_7x7").state, **RECORDS}, file)
    assert read_records(str(file)) == RECORDS


def test_a_timm_classifier_loads_its_own_keys(file: Path) -> None:
    """Its state dict, as it is."""
    model = timm.create_model("test_vit", num_classes=3)
    torch.save(model.state_dict(), file)
    network = timm.create_model("test_vit", num_classes=3)
    load_checkpoint(network, str(file))
    assert torch.equal(network.state_dict()["head.weight"], model.head.weight)


@pytest.mark.parametrize("theirs", ["lf_vit_7x7", "dynamic_vit_07", "evo_vit_deit_stage", "deit"])
@pytest.mark.parametrize("ours", ["lf_vit_7x7", "dynamic_vit_07", "evo_vit_deit_stage", "deit", "test_resnet"])
def test_another_familys_checkpoint(file: Path, theirs: str, ours: str) -> None:
    """Weights of another family are refused by both families' names, before any key is compared."""
    families = {
        "lf_vit_7x7": "CF-ViT or LF-ViT",
        "dynamic_vit_07": "DynamicViT",
        "evo_vit_deit_stage": "Evo-ViT",
        "deit": "DeiT",
    }
    deit = {"embed_dim": 48, "num_heads": 3, "num_classes": 10}

    def network(name: str) -> Any:
        if name == "test_resnet":
            return timm.create_model(name)
        return (
            timm.create_model("deit_tiny_patch16_224", **deit) if name == "deit" else golden_case(name).bare_network()
        )

    torch.save(network(theirs).state_dict(), file)
    if ours == theirs:
        load_checkpoint(network(ours), str(file))
        return
    with pytest.raises(CheckpointError) as refusal:
        load_checkpoint(network(ours), str(file))
    assert f"holds {families[theirs]} weights" in refusal.value.problem
    assert f"the model is {families.get(ours, 'another network')}" in refusal.value.problem
    assert f"Name a {families[theirs]} model" in refusal.value.remedy


def test_family_of() -> None:
    """A layout is recognised by keys alone; keys of no family are of none."""
    assert [family_of(golden_case(name).state) for name in (LF_VIT[0], DYNAMIC_VIT[0], EVO_VIT[0])] == [
        "CF-ViT or LF-ViT",
        "DynamicViT",
        "Evo-ViT",
    ]
    assert family_of(timm.create_model("test_vit").state_dict()) == "DeiT"
    assert family_of({"conv1.weight", "fc.weight"}) is None


def without(state: State, *starts: str) -> State:
    """A state without the keys that start so."""
    return {key: value for key, value in state.items() if not key.startswith(starts)}


MISFITS: dict[str, tuple[Callable[[State], State], tuple[str, ...], str]] = {
    "no head": (
        lambda state: without(state, "head."),
        ("2 missing (head.weight, head.bias)",),
        "backbone without a head",
    ),
    "unexpected": (
        lambda state: {**state, "decoder.weight": torch.ones(1)},
        ("1 unexpected (decoder.weight)",),
        "exactly this network",
    ),
    "both": (
        lambda state: {**without(state, "norm."), "final_norm.weight": torch.ones(1)},
        ("2 missing (norm.weight, norm.bias)", "1 unexpected (final_norm.weight)"),
        "exactly this network",
    ),
    "shallower": (
        lambda state: without(state, "blocks.11.", "blocks.10."),
        ("24 missing (blocks.10.", " and 21 more)"),
        "the depth it was trained with",
    ),
    "another network": (
        lambda state: dict(timm.create_model("test_resnet").state_dict()),  # noqa: ARG005
        ("159 missing (cls_token, ", " unexpected (conv1.0.weight, "),
        "exactly this network",
    ),
    "another shape": (
        lambda state: {**state, "norm.weight": torch.ones(3), "norm.bias": torch.ones(3)},
        ("2 parameters of another shape", "norm.weight 3, expected 48; norm.bias 3, expected 48"),
        "the keywords it was trained with",
    ),
}


@pytest.mark.parametrize(("change", "problems", "remedy"), MISFITS.values(), ids=MISFITS.keys())
def test_keys_that_do_not_fit(
    file: Path, change: Callable[[State], State], problems: tuple[str, ...], remedy: str
) -> None:
    """Missing, unexpected and mis-shaped keys are counted, the first few named, and the network stays as it was."""
    case = golden_case("lf_vit_7x7")
    torch.save({"model": change(case.state)}, file)
    network = case.bare_network()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(CheckpointError) as refusal:
        load_checkpoint(network, str(file))
    assert str(file) in refusal.value.problem
    assert all(problem in refusal.value.problem for problem in problems), refusal.value.problem
    assert remedy in refusal.value.remedy
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("model", "built", "trained", "remedy"),
    [
        ("lf_deit_tiny", {"embed_dim": 48}, {}, "The checkpoint is 24 wide"),
        ("lf_deit_tiny", {}, {"location_grid": 9}, "Add location_grid=9"),
        ("cf_deit_tiny", {}, {"coarse_grid": 9}, "Add coarse_grid=9"),
        ("lf_deit_tiny", {}, {"num_classes": 3}, "Add num_classes=3"),
        ("evo_deit_tiny_patch16_224", {}, {"img_size": 96}, "6 x 6 patches: add img_size=96"),
        ("dynamicvit_deit_tiny", {}, {"img_size": 384}, "24 x 24 patches: add img_size=384"),
        ("dynamicvit_deit_tiny", {}, {"mlp_ratio": 2}, "the keywords it was trained with"),
    ],
)
def test_the_remedy_for_another_configuration_is_the_keyword(
    file: Path, model: str, built: dict[str, Any], trained: dict[str, Any], remedy: str
) -> None:
    """A checkpoint of another configuration is answered with the keyword to add, where it can be told."""
    torch.save(narrow(model, **trained).state_dict(), file)
    with pytest.raises(CheckpointError) as refusal:
        load_checkpoint(narrow(model, **built), str(file))
    assert str(file) in refusal.value.problem
    assert remedy in refusal.value.remedy
    load_checkpoint(narrow(model, **trained), str(file))


def test_head_classes(file: Path) -> None:
    """The number of classes is the head's rows; a backbone and timm's own weights tell none."""
    state = golden_case("lf_vit_7x7_m4").state
    torch.save(state, file)
    assert head_classes(str(file)) == 20
    torch.save(without(state, "head."), file)
    assert head_classes(str(file)) is None
    assert head_classes("pretrained") is None


@pytest.mark.parametrize("case", ["dvt_deit", "evo_vit_levit_128s"])
def test_head_classes_of_heads_that_lie_deeper(case: str, file: Path) -> None:
    """DVT has a head in each of its parts, and Evo-LeViT's has a norm before it."""
    golden = golden_case(case)
    torch.save(golden.state, file)
    assert head_classes(str(file)) == golden.keywords["num_classes"]


@pytest.mark.parametrize("model", ["tf_efficientnet_lite0", "resnet10t"])
def test_head_classes_of_other_networks_of_timm(model: str, file: Path) -> None:
    """Convolutional ones call their heads otherwise, and have layers of two dimensions nowhere else."""
    torch.save(timm.create_model(model, num_classes=7).state_dict(), file)
    assert head_classes(str(file)) == 7


@pytest.mark.parametrize("model", ["lf_deit_tiny", "dynamicvit_deit_tiny", "evo_deit_tiny_patch16_224"])
def test_own_networks_have_no_pretrained_weights(model: str) -> None:
    """``pretrained`` is timm's; for a network that timm has no weights of, the remedy is a file or the hub."""
    with pytest.raises(CheckpointError, match=f"no pretrained weights for {model}. Give a checkpoint file or hf-hub"):
        load_checkpoint(narrow(model), "pretrained")


LOAD = """
import json, sys
import torch
from lfvit_cli.networks.build import build
from lfvit_cli.errors import CheckpointError

def load(spec, source):
    try:
        network = build(spec, checkpoint=source)
    except CheckpointError as error:
        return [error.problem, error.remedy]
    return next(value.double().sum().item() for key, value in network.state_dict().items() if "head.weight" in key)

print(json.dumps([load(*request.split("<-")) for request in sys.argv[1:]]))
"""


def add_to_cache(home: Path, repository: str, name: str, save: Callable[[Path], object]) -> None:
    """Lay a file into a hub cache, as a download leaves it."""
    folder = home / "hub" / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    save(snapshot / name)


def head_sum(state: State) -> float:
    """What identifies a state in these tests."""
    return state["head.weight"].double().sum().item()


def test_hub_checkpoints_load_from_the_cache_without_a_network(run_python: Run, tmp_path: Path) -> None:
    """What was downloaded once loads offline: safetensors, a training checkpoint, and timm's pretrained weights.

    What was not is an error that names it, and says that the hub cannot be reached.
    """
    case, vit = golden_case("lf_vit_7x7"), timm.create_model("test_vit").state_dict()
    add_to_cache(tmp_path, "lab/lf", "model.safetensors", lambda path: save_file(case.state, path))
    training = WRAPPINGS["training"](case.state)
    add_to_cache(tmp_path, "lab/lf-training", "checkpoint.pth", lambda path: torch.save(training, path))
    add_to_cache(tmp_path, "timm/test_vit.r160_in1k", "model.safetensors", lambda path: save_file(vit, path))

    lf = "lf_deit_tiny:embed_dim=48,num_heads=3"
    requests = [f"{lf}<-hf-hub:lab/lf", f"{lf}<-hf-hub:lab/lf-training", "test_vit<-pretrained"]
    refused = ["hf-hub:lab/absent", "hf-hub:lab/lf@v2", "hf-hub:not a name", "hf-hub:"]
    requests += [f"{lf}<-{source}" for source in refused] + ["deit_tiny_patch16_224<-pretrained"]
    run = run_python("-c", LOAD, *requests, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")

    assert run.returncode == 0, run.stderr
    *answers, pretrained = json.loads(run.stdout)
    expected = head_sum(case.state)
    assert answers[:3] == pytest.approx([expected, expected, head_sum(vit)], abs=1e-9)
    for source, (problem, remedy) in zip(refused, answers[3:], strict=True):
        assert source in problem
        assert "download the file and give its path" in remedy
    assert "is not in the cache, and the hub cannot be reached" in answers[3][0]
    assert "could not be fetched" in answers[5][0]
    assert "timm's weights for deit_tiny_patch16_224.fb_in1k could not be fetched" in pretrained[0]
