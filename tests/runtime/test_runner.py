"""A runner answers as its network does, in the precision asked for, and leaves the network alone."""

import timm
import torch
import torch._dynamo

from lfvit_cli.networks.lf_vit import LFViT
from lfvit_cli.runtime.runner import Runner

CPU = torch.device("cpu")


def narrow(**keywords: int) -> LFViT:
    """A small LF-ViT with weights that make its answers differ."""
    torch.manual_seed(1)
    network = timm.create_model("lf_deit_tiny", embed_dim=48, num_heads=3, depth=2, num_classes=10, **keywords)
    assert isinstance(network, LFViT)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.2)
    return network.eval()


def test_it_answers_as_the_network_does() -> None:
    """Same logits and same exits as the plain forward, in float32."""
    network, images = narrow(), torch.randn(6, 3, 224, 224)
    runner = Runner(network, CPU, torch.float32)
    threshold = float(runner.first_confidences(images, 2).median())
    with torch.inference_mode():
        plain = network(images, threshold)
    output = runner(images, threshold)
    assert torch.equal(output.exited, plain.exited)
    assert 0 < int(output.exited.sum()) < 6
    assert torch.equal(output.logits, plain.logits)


def test_the_network_it_was_given_stays_as_it_was() -> None:
    """A runner in bfloat16 works on a copy."""
    network = narrow()
    runner = Runner(network, CPU, torch.bfloat16)
    output = runner(torch.randn(2, 3, 224, 224, dtype=torch.bfloat16), 0.5)
    assert output.logits.dtype == torch.bfloat16
    assert next(network.parameters()).dtype == torch.float32


def test_confidences_are_float32_and_one_for_each_image() -> None:
    """Batches are cut and put back together in order."""
    runner, images = Runner(narrow(), CPU, torch.float32), torch.randn(5, 3, 224, 224)
    confidences = runner.first_confidences(images, 2)
    assert confidences.dtype == torch.float32
    torch.testing.assert_close(confidences, runner.first_confidences(images, 5))


def test_compiled_stages_give_the_same_answers() -> None:
    """Whatever the number of rows that go on."""
    network, images = narrow(), torch.randn(6, 3, 224, 224)
    plain, compiled = Runner(network, CPU, torch.float32), Runner(network, CPU, torch.float32, compiled=True)
    bounds = torch.cat((torch.zeros(1), plain.first_confidences(images, 6).sort().values, torch.tensor([2.0])))
    for going_on in (0, 2, 6):
        # Between two confidences, as compiled arithmetic rounds otherwise.
        threshold = float(bounds[going_on : going_on + 2].mean())
        expected, seen = plain(images, threshold), compiled(images, threshold)
        assert torch.equal(seen.exited, expected.exited)
        assert int((~seen.exited).sum()) == going_on
        torch.testing.assert_close(seen.logits, expected.logits, rtol=1e-4, atol=1e-4)


def test_warming_up_leaves_nothing_to_compile() -> None:
    """Whatever number of rows goes on afterwards, no stage is compiled while it may be timed."""
    runner, images = Runner(narrow(), CPU, torch.float32, compiled=True), torch.randn(4, 3, 224, 224)
    runner.warm_up(images)
    bounds = torch.cat((torch.zeros(1), runner.first_confidences(images, 4).sort().values, torch.tensor([2.0])))
    compiled = compile_times_count()
    for going_on in range(5):
        output = runner(images, float(bounds[going_on : going_on + 2].mean()))
        assert int((~output.exited).sum()) == going_on
    assert compile_times_count() == compiled


def compile_times_count() -> int:
    """How many times PyTorch has compiled a frame so far."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])
