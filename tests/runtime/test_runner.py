"""A runner answers as its network does, in the precision asked for, and leaves the network alone."""

import pytest
import torch
import torch._dynamo
from networks.three_stages import SIDE, three_stages
from runtime.narrow import CPU, confidences, narrow, photos, plain, policy_for, rerun

from lfvit_cli.networks.stages import EXIT, PREPARATION, stages_of, walk
from lfvit_cli.policies import Criterion, ExitPolicy
from lfvit_cli.runtime.runner import Execution, Runner
from lfvit_cli.runtime.stopwatch import Stopwatch

COMPILED = Execution(compiled=True)
NEVER, ALWAYS = ExitPolicy.at(2.0), ExitPolicy.at(0.0)


def test_it_answers_as_the_network_does() -> None:
    """Same logits and same exits as the walk over the network itself, in float32."""
    network, images = narrow(), photos(6)
    runner = Runner(network, CPU, torch.float32)
    policy = ExitPolicy.at(float(confidences(runner, images).median()))
    output, expected = runner(images, policy), plain(network, images, policy)
    assert torch.equal(output.exited, expected.exited)
    assert 0 < int(output.exited.sum()) < 6
    assert torch.equal(output.logits, expected.logits)


def test_the_network_it_was_given_stays_as_it_was() -> None:
    """A runner in bfloat16 works on a copy."""
    network = narrow()
    runner = Runner(network, CPU, torch.bfloat16)
    output = runner(torch.randn(2, 3, 224, 224, dtype=torch.bfloat16), ExitPolicy.at(0.5))
    assert output.logits.dtype == torch.bfloat16
    assert next(network.parameters()).dtype == torch.float32


@pytest.mark.parametrize("criterion", list(Criterion))
def test_criterion_values_are_float32_and_one_for_each_image_and_exit(criterion: Criterion) -> None:
    """Batches are cut and put back together in order; the last stage has none."""
    runner, images = Runner(three_stages(), CPU, torch.float32), photos(5)[..., :SIDE, :SIDE]
    values = runner.criterion_values(images, 2, criterion)
    assert (values.dtype, values.shape) == (torch.float32, (2, 5))
    torch.testing.assert_close(values, runner.criterion_values(images, 5, criterion))


def test_compiled_stages_give_the_same_answers() -> None:
    """Whatever the number of rows that go on."""
    network, images = narrow(), photos(6)
    eager, compiled = Runner(network, CPU, torch.float32), Runner(network, CPU, torch.float32, COMPILED)
    ranked = confidences(eager, images).sort().values
    for going_on in (0, 2, 6):
        expected, seen = eager(images, policy_for(going_on, ranked)), compiled(images, policy_for(going_on, ranked))
        assert torch.equal(seen.exited, expected.exited)
        assert int((~seen.exited).sum()) == going_on
        torch.testing.assert_close(seen.logits, expected.logits, rtol=1e-4, atol=1e-4)


def test_warming_up_leaves_nothing_to_compile() -> None:
    """Whatever number of rows goes on afterwards, no stage is compiled while it may be timed."""
    runner, images = Runner(narrow(), CPU, torch.float32, COMPILED), photos(4)
    runner.warm_up(images)
    ranked = confidences(runner, images).sort().values
    compiled = compiled_graphs()
    for going_on in range(5):
        output = runner(images, policy_for(going_on, ranked))
        assert int((~output.exited).sum()) == going_on
    assert compiled_graphs() == compiled


def compiled_graphs() -> int:
    """How many graphs PyTorch has compiled so far."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


@pytest.mark.parametrize("going_on", [0, 2, 6])
def test_recorded_stages_give_the_same_answers(going_on: int) -> None:
    """Bit for bit, whatever the number of rows that go on, and with earlier answers left alone."""
    network, images = narrow(), photos(6)
    runner = Runner(network, CPU, torch.float32, Execution(capture=rerun))
    runner.warm_up(images)
    policy = policy_for(going_on, confidences(runner, images).sort().values)
    output, expected = runner(images, policy), plain(network, images, policy)
    runner(images.flip(0), policy)
    assert int((~output.exited).sum()) == going_on
    assert torch.equal(output.exit_stage, expected.exit_stage)
    torch.testing.assert_close(output.logits, expected.logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("threshold", [0.0, 0.8, 2.0])
def test_every_one_of_three_stages_has_recordings_of_its_own(threshold: float) -> None:
    """The third stage replays itself, not the second at the same number of rows."""
    network, images = three_stages(), photos(8)[..., :SIDE, :SIDE]
    runner = Runner(network, CPU, torch.float32, Execution(capture=rerun))
    runner.warm_up(images)
    for pictures in (images, images.flip(0)):
        output = runner(pictures, ExitPolicy.at(threshold))
        expected = plain(network, pictures, ExitPolicy.at(threshold))
        assert torch.equal(output.exit_stage, expected.exit_stage)
        torch.testing.assert_close(output.logits, expected.logits)


def test_every_stage_of_a_walk_without_a_policy_is_there() -> None:
    """Recorded or not, with the outputs of all three."""
    network, images = three_stages(), photos(4)[..., :SIDE, :SIDE]
    expected = walk(stages_of(network), images).outputs
    for execution in (Execution(), Execution(capture=rerun)):
        outputs = Runner(network, CPU, torch.float32, execution)(images, None).outputs
        for output, known in zip(outputs, expected, strict=True):
            torch.testing.assert_close(output.logits, known.logits)


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
    assert torch.equal(runner(images, ALWAYS).logits, Runner(network, CPU, torch.float32)(images, ALWAYS).logits)


def test_where_recording_fails_the_stages_run_as_they_are() -> None:
    """Any error of the recording; the reason is its first line."""

    def fail(_work: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    runner = Runner(narrow(), CPU, torch.float32, Execution(capture=fail))  # type: ignore[arg-type]
    runner.warm_up(photos(2))
    assert runner.fallback == "operation not permitted when stream is capturing"
    assert runner.execution.capture is None


def test_phases_are_named_and_timed() -> None:
    """Stages by their names, the exit and the preparation; a phase that did not run is not there."""
    runner, images = Runner(narrow(), CPU, torch.float32), photos(4)
    for policy, names in ((NEVER, {"location", "focus", EXIT, PREPARATION}), (ALWAYS, {"location", EXIT})):
        watch = Stopwatch(CPU)
        runner(images, policy, watch)
        assert set(watch.seconds()) == names
        assert all(seconds > 0 for seconds in watch.seconds().values())


def test_images_lie_as_the_execution_says() -> None:
    """Pixel by pixel, or colour by colour; the answers are the same."""
    images = photos(2)
    last = Runner(narrow(), CPU, torch.float32, Execution(channels_last=True))
    placed = last.place(images)
    assert placed.is_contiguous(memory_format=torch.channels_last)
    first = Runner(narrow(), CPU, torch.float32)
    torch.testing.assert_close(last(placed, NEVER).logits, first(images, NEVER).logits, rtol=1e-4, atol=1e-4)


def test_threads_are_taken_when_asked_for() -> None:
    """So that contenders with different threads can be timed in turn."""
    before = torch.get_num_threads()
    try:
        Runner(narrow(), CPU, torch.float32, Execution(threads=1)).settle()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
