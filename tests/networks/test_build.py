"""Tests of networks/build.py."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks.cases import close, golden_case, images
from safetensors.torch import save_file
from timm.models import register_model
from torch import nn

from lfvit_cli.errors import CheckpointError, KeywordError, NetworkError, UnknownModelError
from lfvit_cli.networks.build import accepted_keywords, build, evaluation_settings, image_size, parse_spec
from lfvit_cli.networks.lf_vit import LFViT
from lfvit_cli.networks.stages import stage_names, stages_of, walk
from lfvit_cli.policies import ExitPolicy

NARROW = "embed_dim=24,num_heads=3"
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.none()
VALUES = NUMBERS | st.lists(NUMBERS, max_size=3).map(tuple) | st.lists(st.integers(), max_size=3)
WORDS = st.from_regex(r"[a-z_][a-z0-9_]*", fullmatch=True)


@pytest.mark.parametrize(
    ("spec", "name", "keywords"),
    [
        ("lf_deit_small", "lf_deit_small", {}),
        ("lf_deit_small:", "lf_deit_small", {}),
        ("lf_deit_small:location_grid=9,region_size=8", "lf_deit_small", {"location_grid": 9, "region_size": 8}),
        ("x:alpha=0.5,selection=layer", "x", {"alpha": 0.5, "selection": "layer"}),
        ("x:pruning_layers=(3, 6),keep_ratio=.7", "x", {"pruning_layers": (3, 6), "keep_ratio": 0.7}),
        ("x:ratios=[0.5,0.2],flag=True", "x", {"ratios": [0.5, 0.2], "flag": True}),
        (" x : a = 1 , b = two words ", "x", {"a": 1, "b": "two words"}),
        ("x:a=b=c", "x", {"a": "b=c"}),
    ],
)
def test_parse_spec(spec: str, name: str, keywords: dict[str, Any]) -> None:
    """Values are Python literals where they read as such, tuples and lists included, and words otherwise."""
    assert parse_spec(spec) == (name, keywords)


@settings(deadline=None)
@given(WORDS, st.dictionaries(WORDS, VALUES, max_size=4))
def test_a_spec_written_from_keywords_parses_back(name: str, keywords: dict[str, Any]) -> None:
    """Whatever numbers, tuples and lists are written into a spec come back the same."""
    spec = f"{name}:{','.join(f'{key}={value!r}' for key, value in keywords.items())}"
    assert parse_spec(spec) == (name, keywords)


@settings(deadline=None)
@given(st.text())
def test_any_text_parses_or_is_refused_with_a_remedy(text: str) -> None:
    """No text raises anything but a refusal that says how to write it."""
    try:
        parsed = parse_spec(text)
    except KeywordError as error:
        remedy = error.remedy
    else:
        remedy = ""
        assert parsed[0] == text.partition(":")[0].strip()
    assert remedy in ("", "Write NAME:key=value,key=value.")


@pytest.mark.parametrize("spec", ["x:depth", "x:=3", "x:depth=", "x:a=1,,b=2", "x:a=1,b"])
def test_a_keyword_without_a_value_is_refused(spec: str) -> None:
    """Half a keyword is named, and so is the way to write it."""
    with pytest.raises(KeywordError, match=r"not key=value\. Write NAME:key=value,key=value"):
        parse_spec(spec)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("lf_deit_smal", "lf_deit_small"),
        ("dynamicvit_small", "dynamicvit_deit_small"),
        ("deit_small_patch16_22", "deit_small_patch16_224"),
        ("deit_small_patch16_224.fb_in2k", "deit_small_patch16_224.fb_in1k"),
    ],
)
def test_unknown_names_get_near_matches(name: str, meant: str) -> None:
    """A mistyped name or tag is answered with names that exist, the meant one among them."""
    with pytest.raises(UnknownModelError) as refusal:
        build(name)
    assert repr(name) in refusal.value.problem
    assert meant in refusal.value.remedy


@pytest.mark.parametrize("name", ["", "§§§§"])
def test_a_name_like_no_other_points_at_the_catalogue(name: str) -> None:
    """Without a near match, the remedy is the list."""
    with pytest.raises(UnknownModelError, match=r"'\. `lfvit models` lists the catalogue"):
        build(name)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("lf_deit_tiny:regionsize=3", "'regionsize'. Did you mean region_size"),
        ("dynamicvit_deit_tiny:keeps_ratio=0.5", "'keeps_ratio'. Did you mean keep_ratio"),
        ("evo_deit_tiny_patch16_224:zzz=1", "It takes selection, keep_ratio"),
        ("deit_tiny_patch16_224:imgsize=96", "Did you mean img_size"),
        ("test_resnet:zzz=1", "zzz"),
        ("lf_deit_tiny:pretrained=True", "as the checkpoint instead"),
        ("test_vit:pretrained=True", "as the checkpoint instead"),
    ],
)
def test_unknown_keywords_are_named(spec: str, words: str) -> None:
    """A keyword that the network does not take is named, with a near match or all those it takes."""
    with pytest.raises(KeywordError, match=words):
        build(spec)


def test_one_ratio_for_three_layers_is_refused() -> None:
    """DynamicViT says itself how many ratios it was given, and how many it prunes by."""
    with torch.device("meta"), pytest.raises(KeywordError, match="1 token ratios were given for 3 pruning layers"):
        build("dynamicvit_deit_tiny:token_ratio=0.5")


@pytest.mark.parametrize(
    "spec",
    [
        "lf_deit_tiny:alpha=x",
        "lf_deit_tiny:region_size=4.5",
        "lf_deit_tiny:location_grid=7.0",
        "lf_deit_tiny:depth=1.5",
        "lf_deit_tiny:num_classes=-1",
        "lf_deit_tiny:attention_layers=3",
        "evo_deit_tiny_patch16_224:keep_ratio=x",
        "test_vit:img_size=x",
    ],
)
def test_values_of_the_wrong_kind_are_refused_in_one_line(spec: str) -> None:
    """A value that no network can be made of is refused with the spec and a remedy, in a single line."""
    with torch.device("meta"), pytest.raises(KeywordError) as refusal:
        build(spec)
    assert spec in refusal.value.problem
    assert "\n" not in str(refusal.value)


def test_a_networks_own_refusal_is_kept() -> None:
    """A region larger than the grid is refused in the network's own words."""
    with pytest.raises(KeywordError, match=r"region_size=8 does not fit a location grid of 7 x 7 cells\. Give"):
        build("lf_deit_tiny:region_size=8")


@torch.inference_mode()
def test_own_networks_are_staged_as_they_are() -> None:
    """An LF-ViT is built as itself, in evaluation mode, with the keywords and the classes asked for."""
    network = build(f"lf_deit_tiny:{NARROW},location_grid=5", num_classes=7)
    assert isinstance(network, LFViT)
    assert not network.training
    assert network(images(2, 160)).shape == (2, 7)


def test_a_spec_outranks_the_argument() -> None:
    """The number of classes in the spec is the one that counts."""
    network = build(f"lf_deit_tiny:{NARROW},num_classes=3", num_classes=7)
    assert isinstance(network, LFViT)
    assert network.head.out_features == 3


@pytest.mark.parametrize(
    ("spec", "side"),
    [
        ("test_vit", 160),
        ("test_vit:img_size=96", 96),
        ("test_resnet", 160),
        ("test_convnext", 160),
        ("test_efficientnet", 160),
        (f"deit_tiny_patch16_224:{NARROW},img_size=64", 64),
    ],
)
@torch.inference_mode()
def test_any_timm_classifier_is_a_single_stage(spec: str, side: int) -> None:
    """A timm classifier answers in the one stage ``full``, for images of its own size, in evaluation mode."""
    network = build(spec, num_classes=4)
    assert (stage_names(network), image_size(network)) == (("full",), side)
    assert not any(module.training for module in network.modules())
    assert walk(stages_of(network), images(2, side), ExitPolicy.at(0.0)).logits.shape == (2, 4)


@pytest.mark.parametrize("name", ["lf_vit_7x7", "dynamic_vit_05", "evo_vit_deit_stage"])
@torch.inference_mode()
def test_a_checkpoint_sets_the_number_of_classes(name: str, tmp_path: Path) -> None:
    """Without being told, the network has as many classes as the checkpoint's head, and its answers."""
    case = golden_case(name)
    save_file(case.state, tmp_path / "weights.safetensors")
    keywords = {key: value for key, value in case.keywords.items() if key != "num_classes"}
    spec = f"{case.model}:{','.join(f'{key}={value}' for key, value in keywords.items())}"
    network: Any = build(spec, checkpoint=str(tmp_path / "weights.safetensors"))
    expected = case.expected["logits" if "logits" in case.expected else "location_logits"]
    assert close(stages_of(network)[0](case.images, None).logits, expected)


@torch.inference_mode()
def test_a_checkpoint_of_a_timm_classifier(tmp_path: Path) -> None:
    """A timm classifier takes its own state dict, and its number of classes from it."""
    model = timm.create_model("test_vit", num_classes=6).eval()
    torch.save(model.state_dict(), tmp_path / "vit.pth")
    network: Any = build("test_vit", checkpoint=str(tmp_path / "vit.pth"))
    pictures = images(2, 160)
    assert torch.equal(network(pictures), model(pictures))


def test_classes_that_a_checkpoint_has_not_are_refused(tmp_path: Path) -> None:
    """Asked for other classes than the head's, the error names both shapes and the keyword to give."""
    save_file(golden_case("lf_vit_7x7").state, tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"head.weight 10x48, expected 3x48.*num_classes=10"):
        build("lf_deit_tiny:embed_dim=48,num_heads=3", checkpoint=str(tmp_path / "weights.safetensors"), num_classes=3)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("lf_deit_tiny:location_grid=9", (288, 0.875, "bicubic")),
        ("evo_deit_tiny_patch16_224:img_size=96", (96, 0.875, "bicubic")),
        ("deit_tiny_patch16_224", (224, 0.9, "bicubic")),
        ("test_resnet", (160, 0.95, "bilinear")),
    ],
)
def test_evaluation_settings(spec: str, expected: tuple[int, float, str]) -> None:
    """A network says how its authors evaluate it, at the size it was built for."""
    with torch.device("meta"):
        settings = evaluation_settings(build(spec))
    assert (settings["image_size"], settings["crop_pct"], settings["interpolation"]) == expected
    assert len(settings["mean"]) == len(settings["std"]) == 3


def test_accepted_keywords() -> None:
    """The keywords are the network's own, without ``self``; of most timm models only timm knows them."""
    assert accepted_keywords("lf_deit_small")[:3] == ("location_grid", "patch_size", "region_size")
    assert "img_size" in accepted_keywords("deit_tiny_patch16_224")
    assert accepted_keywords("resnet18") == ()


def test_a_network_that_does_not_say_what_it_takes_is_refused() -> None:
    """One from outside without a configuration is told what to add."""

    @register_model  # type: ignore[untyped-decorator]
    def says_nothing(pretrained: bool = False, **keywords: Any) -> nn.Module:  # noqa: ARG001
        return nn.Linear(3, 3)

    with pytest.raises(NetworkError, match=r"says_nothing does not say what images it takes.*pretrained_cfg"):
        build("says_nothing")
