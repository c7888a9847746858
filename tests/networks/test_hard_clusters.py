"""Tests of networks/hard_clusters.py."""

from typing import Any

import pytest
import timm
import torch
from networks.cases import close, golden_case, images, narrow
from torch import Tensor

from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.hard_clusters import DpcKnn, KMedoids, distances_between, nearest

PATCHES = images(3, 32).reshape(3, 64, 48)
RECEIVED = images(1, 8)[0].reshape(3, 64).exp()


@pytest.mark.parametrize("name", ["dpc_knn_07", "k_medoids_07"])
@torch.inference_mode()
def test_golden_clusters(name: str) -> None:
    """Centres, in the clusters' order, and the cluster of every patch are the released implementation's."""
    case = golden_case(name)
    network = case.network()
    found: list[tuple[Tensor, Tensor]] = []
    received = name.startswith("k_medoids")
    for layer in network.cluster_layers:
        layer.register_forward_hook(lambda layer, args, _: found.append(layer.assign(*args[: 1 + received])))
    traces = network.answer(case.images).traces
    owner = torch.arange(196).expand(2, -1)
    for block, (centres, clusters), trace in zip((3, 6, 9), found, traces, strict=True):
        assert torch.equal(centres, case.expected[f"centres_{block}"])
        assert torch.equal(clusters, case.expected[f"cluster_{block}"])
        owner = case.expected[f"cluster_{block}"].gather(1, owner)
        assert torch.equal(trace.owner.flatten(1), owner)


@torch.inference_mode()
def test_distances() -> None:
    """They are Euclidean, and what all patches have in common costs no precision; a patch is near itself."""
    exact = torch.cdist(PATCHES.double(), PATCHES.double())
    itself = torch.eye(64, dtype=torch.bool)
    for offset in (0.0, 100.0):
        found = distances_between(PATCHES + offset).double()
        assert close(found.masked_fill(itself, 0.0), exact.masked_fill(itself, 0.0), 1e-4)
        assert float(found[:, itself].max()) < 0.02
    assert distances_between(PATCHES.bfloat16()).dtype == torch.float32
    assert distances_between(PATCHES.double()).dtype == torch.float64


def test_nearest_is_the_first_of_equals() -> None:
    """A patch as near to two centres goes to the first of them."""
    distances = torch.tensor([[[0.0, 1.0, 2.0], [1.0, 0.0, 1.0], [2.0, 1.0, 0.0]]])
    assert nearest(distances, torch.tensor([[0, 2]])).tolist() == [[0, 0, 1]]
    assert nearest(distances, torch.tensor([[2, 0]])).tolist() == [[1, 0, 0]]


@torch.inference_mode()
def test_k_medoids_one_cluster_after_the_other() -> None:
    """All centres moved at once are those of the definition: one cluster after the other, image by image."""
    centres, clusters = KMedoids(9, 3).assign(PATCHES, RECEIVED)
    moved = 0
    for row in range(3):
        distances = distances_between(PATCHES[row : row + 1])[0]
        places = RECEIVED[row].argsort(descending=True)[:9].tolist()
        started = list(places)
        for _ in range(3):
            assigned = distances[places].argmin(dim=0)
            for number in range(9):
                costs = (RECEIVED[row].unsqueeze(1) * distances).sum(dim=1)
                places[number] = int(costs.masked_fill(assigned != number, 1e9).argmin())
        assert centres[row].tolist() == places
        assert clusters[row].tolist() == distances[places].argmin(dim=0).tolist()
        moved += places != started
    assert moved == 3


@torch.inference_mode()
def test_k_medoids_keeps_centres_as_they_are() -> None:
    """Nothing is averaged."""
    layer = KMedoids(9, 3)
    tokens, _ = layer(PATCHES, RECEIVED)
    centres, _ = layer.assign(PATCHES, RECEIVED)
    for row in range(3):
        assert torch.equal(tokens[row], PATCHES[row, centres[row]])


@torch.inference_mode()
def test_attention_received() -> None:
    """It is summed over heads and all queries, the class token's included, of the block before the clustering."""
    network = narrow("k_medoids_deit_tiny", img_size=64)
    seen: list[tuple[Tensor, Tensor]] = []
    network.cluster_layers[0].register_forward_pre_hook(lambda _, args: seen.append(args))
    batch = images(2, 64)
    tokens = network.embed(batch)
    for block in network.blocks[:2]:
        tokens = block(tokens)
    block = network.blocks[2]
    query, key, _ = block.attn.qkv(block.norm1(tokens)).unflatten(-1, (3, 3, 8)).permute(2, 0, 3, 1, 4)
    matrix = (query @ key.transpose(-2, -1) / 8**0.5).softmax(dim=-1)
    network(batch)
    patches, received = seen[0]
    assert close(received, matrix.sum(dim=2).sum(dim=1)[:, 1:], 1e-5)
    assert close(patches, block(tokens)[:, 1:])


@torch.inference_mode()
def test_dpc_knn_by_hand() -> None:
    """Densities, separations, centres and weighted means, patch by patch."""
    layer = DpcKnn(48, 9, neighbours=5, equal_weight=False)
    assert layer.score is not None
    tokens, _ = layer(PATCHES)
    centres, clusters = layer.assign(PATCHES)
    for row in range(3):
        points = PATCHES[row]
        distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist") / 48**0.5
        density = [float((-line.sort().values[:5].square().mean()).exp()) for line in distances]
        separation = [
            min((float(line[other]) for other in range(64) if density[other] > own), default=float(distances.max()))
            for line, own in zip(distances, density, strict=True)
        ]
        ranked = sorted(range(64), key=lambda patch: density[patch] * separation[patch], reverse=True)
        assert centres[row].tolist() == ranked[:9]
        for patch in range(64):
            number = int(clusters[row, patch])
            at_home = patch in ranked[:9] and ranked[number] == patch
            assert at_home or distances[patch, ranked[number]] == distances[patch, ranked[:9]].min()
        weights = layer.score(points).exp()
        for cluster in range(9):
            members = clusters[row] == cluster
            mean = (weights * points)[members].sum(dim=0) / (weights[members].sum() + 1e-6)
            assert close(tokens[row, cluster], mean, 1e-5)


@torch.inference_mode()
def test_dpc_knn_of_equal_weight() -> None:
    """Then a new token is the plain mean, and nothing is learned."""
    layer = DpcKnn(48, 9, neighbours=5, equal_weight=True)
    tokens, clusters = layer(PATCHES)
    assert not list(layer.parameters())
    assert close(tokens[0, 4], PATCHES[0, clusters[0] == 4].mean(dim=0), 1e-5)


@torch.inference_mode()
def test_answers_repeat() -> None:
    """Unlike the released code, no noise is added to densities."""
    network, batch = narrow("dpc_knn_deit_tiny", img_size=64), images(2, 64)
    assert torch.equal(network(batch), network(batch))


@pytest.mark.parametrize("layer", [DpcKnn(48, 9, neighbours=5, equal_weight=True), KMedoids(9, 3)])
def test_distances_under_autocast(layer: Any) -> None:
    """In a training of mixed precision the clusters are those of full precision."""
    arguments = (PATCHES,) if isinstance(layer, DpcKnn) else (PATCHES, RECEIVED)
    centres, clusters = layer.assign(*arguments)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = layer.assign(*arguments)
    assert torch.equal(again[0], centres)
    assert torch.equal(again[1], clusters)


@pytest.mark.parametrize(
    ("model", "keywords", "words"),
    [
        ("dpc_knn_deit_tiny", {"k_neighbors": 0}, "from 1 to 96"),
        ("dpc_knn_deit_tiny", {"k_neighbors": 97}, "from 1 to 96"),
        ("k_medoids_deit_tiny", {"equal_weight": True}, "Leave it out"),
        ("k_medoids_deit_tiny", {"cluster_iters": -1}, "at least 0"),
        ("k_medoids_deit_tiny", {"reduction_loc": (0, 3)}, "block 0"),
    ],
)
def test_values_that_describe_no_network(model: str, keywords: dict[str, Any], words: str) -> None:
    """Impossible values are refused in words that name the value or the remedy."""
    with pytest.raises(KeywordError, match=words):
        timm.create_model(model, **keywords)
