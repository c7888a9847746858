"""A runner answers as its network does, in the precision asked for, and leaves the network alone."""

import pytest
import torch
import torch._dynamo
from runtime.narrow import CPU, narrow, photos, rerun

from lfvit_cli.networks.staged import early_exit
from lfvit_cli.runtime.runner import EXIT, SELECTION, Execution, Runner
from lfvit_cli.runtime.stopwatch import Stopwatch

COMPILED = Execution(compiled=True)


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
    plain, compiled = Runner(network, CPU, torch.float32), Runner(network, CPU, torch.float32, COMPILED)
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
    runner, images = Runner(narrow(), CPU, torch.float32, COMPILED), torch.randn(4, 3, 224, 224)
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


@pytest.mark.parametrize("going_on", [0, 2, 6])
def test_recorded_stages_give_the_same_answers(going_on: int) -> None:
    """Bit for bit, whatever the number of rows that go on, and with earlier answers left alone."""
    network, images = narrow(), photos(6)
    runner = Runner(network, CPU, torch.float32, Execution(capture=rerun))
    runner.warm_up(images)
    bounds = torch.cat((torch.zeros(1), runner.first_confidences(images, 6).sort().values, torch.tensor([2.0])))
    threshold = float(bounds[going_on : going_on + 2].mean())
    with torch.inference_mode():
        expected = early_exit(network, images, threshold)
    output = runner(images, threshold)
    runner(images.flip(0), threshold)
    assert int((~output.exited).sum()) == going_on
    assert torch.equal(output.exit_stage, expected.exit_stage)
    torch.testing.assert_close(output.logits, expected.logits, rtol=1e-5, atol=1e-5)


def test_where_nothing_can_be_compiled_the_stages_run_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without a C++ compiler: the same answers, and the reason."""
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("no-such-compiler",))
    monkeypatch.setattr(torch._inductor.config, "fx_graph_cache", False)
    torch._dynamo.reset()
    network, images = narrow(depth=1), photos(3)
    runner = Runner(network, CPU, torch.float32, COMPILED)
    runner.warm_up(images)
    assert runner.fallback
    assert not runner.execution.compiled
    assert torch.equal(runner(images, 0.5).logits, Runner(network, CPU, torch.float32)(images, 0.5).logits)


def test_where_recording_fails_the_stages_run_as_they_are() -> None:
    """Any error of the recording; the reason is its first line."""

    def fail(_work: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    runner = Runner(narrow(), CPU, torch.float32, Execution(capture=fail))  # type: ignore[arg-type]
    runner.warm_up(photos(2))
    assert runner.fallback == "operation not permitted when stream is capturing"
    assert runner.execution.capture is None


def test_phases_are_named_and_timed() -> None:
    """Stages by their names, the exit and the selection; a phase that did not run is not there."""
    runner, images = Runner(narrow(), CPU, torch.float32), photos(4)
    for threshold, names in ((2.0, {"location", "focus", EXIT, SELECTION}), (0.0, {"location", EXIT})):
        watch = Stopwatch(CPU)
        runner(images, threshold, watch)
        assert set(watch.seconds()) == names
        assert all(seconds > 0 for seconds in watch.seconds().values())


def test_images_lie_as_the_execution_says() -> None:
    """Pixel by pixel, or colour by colour; the answers are the same."""
    images = photos(2)
    last = Runner(narrow(), CPU, torch.float32, Execution(channels_last=True))
    placed = last.place(images)
    assert placed.is_contiguous(memory_format=torch.channels_last)
    plain = Runner(narrow(), CPU, torch.float32)
    torch.testing.assert_close(last(placed, 2.0).logits, plain(plain.place(images), 2.0).logits, rtol=1e-4, atol=1e-4)


def test_threads_are_taken_when_asked_for() -> None:
    """So that contenders with different threads can be timed in turn."""
    before = torch.get_num_threads()
    try:
        Runner(narrow(), CPU, torch.float32, Execution(threads=1)).settle()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
