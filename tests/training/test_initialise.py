"""Tests of training/initialise.py."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_training import DEIT, EVO_VIT, LF_VIT, NARROW
from networks.cases import close, images, narrow
from safetensors.torch import save_file
from torch import Tensor, nn

from lfvit_cli.errors import CheckpointError, TrainingError
from lfvit_cli.networks.build import build, parse_spec
from lfvit_cli.networks.method import method_of
from lfvit_cli.training.initialise import Initialisation, initialise

DEPTH = {"depth": 6, "num_classes": 5}


def backbone(folder: Path) -> tuple[nn.Module, str]:
    """A plain DeiT with lively weights, and a file of it without its head."""
    model: nn.Module = narrow("deit_tiny_patch16_224", **DEPTH)
    state = {name: value for name, value in model.state_dict().items() if not name.startswith("head")}
    file = folder / "backbone.safetensors"
    save_file(state, file)
    return model, str(file)


def started(spec: str, source: str | None, num_classes: int = 5) -> tuple[nn.Module, Initialisation]:
    """A network that starts from a source, and what was taken."""
    network = build(spec, num_classes=num_classes)
    return network, initialise(network, source, method_of(parse_spec(spec)[0]))


def with_head_of(model: nn.Module, source: nn.Module) -> None:
    """Give a network the head that a backbone's file leaves out."""
    for name in ("weight", "bias"):
        getattr(model.head, name).data.copy_(getattr(source.head, name))


def patch_mean(source: nn.Module, seen: Tensor) -> Tensor:
    """Logits from the mean of a plain transformer's patch tokens, as Evo-ViT answers."""
    tokens = seen
    with torch.no_grad():
        tokens = source.patch_embed(seen)  # type: ignore[operator]
        tokens = source.blocks(source._pos_embed(tokens))  # type: ignore[operator]
        answer: Tensor = source.head(source.norm(tokens[:, 1:].mean(1)))  # type: ignore[operator]
    return answer


def test_deit_and_dynamic_vit_answer_as_the_backbone(tmp_path: Path) -> None:
    """From a backbone, DeiT and a DynamicViT that keeps everything answer just as the source does."""
    source, file = backbone(tmp_path)
    seen = images(2, 224)
    for spec in ("deit_tiny_patch16_224", "dynamicvit_deit_tiny"):
        ratio = ",keep_ratio=1.0" if "dynamic" in spec else ""
        network, done = started(f"{spec}:depth=6,embed_dim=24,num_heads=3{ratio}", file)
        with_head_of(network, source)
        assert close(network(seen), source(seen), 1e-3)
        assert set(done.fresh) >= {"head.weight", "head.bias"}
        assert done.resampled == ()


def test_lf_vit_starts_without_reuse(tmp_path: Path) -> None:
    """A fresh reuse block answers zero, so that it does not drown a backbone's embeddings; a trained one is kept."""
    _, file = backbone(tmp_path)
    spec = "lf_deit_tiny:depth=6,embed_dim=24,num_heads=3"
    network, done = started(spec, file)
    assert "reuse_block.1.fc1.weight" in done.fresh
    assert not network.reuse_block(torch.randn(2, 24)).any()  # type: ignore[operator]
    other = narrow("lf_deit_tiny", **DEPTH)
    save_file(other.state_dict(), tmp_path / "lf.safetensors")
    network, _ = started(spec, str(tmp_path / "lf.safetensors"))
    assert network.reuse_block(torch.randn(2, 24)).any()  # type: ignore[operator]


def test_evo_vit_answers_as_the_backbone(tmp_path: Path) -> None:
    """With queries, keys and values split and every patch kept, Evo-ViT is the source with a mean-pooled head."""
    source, file = backbone(tmp_path)
    network, done = started("evo_deit_tiny_patch16_224:depth=6,embed_dim=24,num_heads=3,keep_ratio=1.0", file)
    with_head_of(network, source)
    seen = images(2, 224)
    assert close(network(seen), patch_mean(source, seen), 1e-3)
    assert done.fresh == ("head.weight", "head.bias", "head_cls.weight", "head_cls.bias")


def test_lf_vit_takes_the_backbone_for_both_grids(tmp_path: Path) -> None:
    """The fine grid's positions are the source's, the coarse grid's are resampled, and the reuse block is fresh."""
    source, file = backbone(tmp_path)
    network, done = started("lf_deit_tiny:depth=6,embed_dim=24,num_heads=3", file)
    positions, state = source.state_dict()["pos_embed"], network.state_dict()
    assert state["pos_embed_list.1"].equal(positions)
    assert state["pos_embed_list.0"].shape == (1, 50, 24)
    assert state["pos_embed_list.0"][:, 0].equal(positions[:, 0])
    assert done.resampled == ("pos_embed_list.0",)
    assert {name.partition(".")[0] for name in done.fresh} == {"head", "reuse_block"}
    assert str(done) == (
        f"{len(done.taken)} of {len(state)} parameters from {Path(file).name}; pos_embed_list.0 resampled; "
        "fresh: head, reuse_block"
    )


def test_checkpoint_of_the_family_with_other_classes(tmp_path: Path) -> None:
    """Everything but the head is taken from a network trained for other classes, on whatever grid."""
    source = narrow("lf_deit_tiny", depth=4, num_classes=7)
    file = tmp_path / "weights.pth"
    torch.save({"model": source.state_dict()}, file)
    network, done = started(f"lf_deit_tiny:{NARROW},location_grid=9", str(file), num_classes=3)
    assert done.fresh == ("head.weight", "head.bias")
    assert done.resampled == ("pos_embed_list.0", "pos_embed_list.1")
    assert network.state_dict()["blocks.3.attn.qkv.weight"].equal(source.state_dict()["blocks.3.attn.qkv.weight"])


def test_heads_of_every_exit_start_anew_for_other_classes(tmp_path: Path) -> None:
    """Wherever in the network they are."""
    for number, spec in enumerate((f"dvt_deit_tiny:{NARROW}", f"multi_exit_deit_tiny:{NARROW},layers=(1,2)")):
        file = tmp_path / f"{number}.safetensors"
        save_file(build(spec, num_classes=7).state_dict(), file)
        _, done = started(spec, str(file), num_classes=3)
        assert len(done.fresh) == 2 * 3
        assert all(".head." in f".{parameter}" for parameter in done.fresh)


@pytest.mark.parametrize("name", ["cf_deit_tiny", "dvt_deit_tiny", "evit_deit_tiny", "stvit_deit_tiny"])
def test_methods_start_from_a_plain_transformer(tmp_path: Path, name: str) -> None:
    """Each takes all of its blocks, under its own names, and leaves nothing but the source's head unused."""
    _, file = backbone(tmp_path)
    network, done = started(f"{name}:depth=6,embed_dim=24,num_heads=3", file)
    state = {key: value for key, value in network.state_dict().items() if key.endswith("mlp.fc2.weight")}
    blocks = {key for key in state if "blocks." in key}
    assert len(blocks) in (6, 18)
    assert blocks <= set(done.taken)
    assert done.unused == ()


def test_nothing_is_taken_from_nothing() -> None:
    """Without a source all is fresh, and said so."""
    _, done = started(LF_VIT, None)
    assert done.taken == ()
    assert str(done) == f"all {len(done.fresh)} parameters start fresh"


def test_what_cannot_be_taken_is_told(tmp_path: Path) -> None:
    """Another family, another width, and a missing file are told apart."""
    lf_vit, wide = tmp_path / "lf.pth", tmp_path / "wide.pth"
    torch.save(narrow("lf_deit_tiny", depth=4).state_dict(), lf_vit)
    torch.save(narrow("deit_tiny_patch16_224", depth=4, embed_dim=48).state_dict(), wide)
    # CF-ViT's checkpoints have the same layout.
    with pytest.raises(TrainingError, match=r"holds .*-ViT weights, and the model is Evo-ViT. .* or of a plain DeiT"):
        started(EVO_VIT, str(lf_vit))
    with pytest.raises(TrainingError, match="and this network takes"):
        started(DEIT, str(wide))
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        started(DEIT, "nowhere.pth")


def test_a_method_says_what_it_starts_from(tmp_path: Path) -> None:
    """Where that is not a plain transformer's checkpoint."""
    lf_vit = tmp_path / "lf.pth"
    torch.save(narrow("lf_deit_tiny", depth=4).state_dict(), lf_vit)
    method = method_of("evo_deit_tiny_patch16_224")
    assert method is not None
    with pytest.raises(TrainingError, match=r"Start from a trained Swin-S\.$"):
        initialise(build(EVO_VIT), str(lf_vit), replace(method, starts_from="a trained Swin-S"))
