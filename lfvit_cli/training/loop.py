"""The training itself: epochs of updates, each epoch validated and saved, taken up where it stopped."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor

from lfvit_cli.errors import NonFiniteLoss, TrainingError
from lfvit_cli.records import Progress
from lfvit_cli.training.augment import Draws
from lfvit_cli.training.checkpoints import Checkpoint, latest, load_checkpoint, save_checkpoint
from lfvit_cli.training.data import EpochOrder, Labelled, mixed_seed
from lfvit_cli.training.job import TrainingJob
from lfvit_cli.training.metrics import EpochMetrics, RunningMean, from_data, validate
from lfvit_cli.training.objectives import teach

OnEpoch = Callable[[Sequence[EpochMetrics]], None]


def checkpoint_folder(output: Path) -> Path:
    """Where a training keeps its checkpoints."""
    return output / "checkpoints"


def find_start(output: Path, *, resume: bool) -> Path | None:
    """The checkpoint to go on from; None to begin anew.

    Raises:
        TrainingError: there is nothing to resume, or a training that would be overwritten.
    """
    path = latest(checkpoint_folder(output))
    if resume and path is None:
        raise TrainingError(f"{output} has no checkpoint to go on from", "Leave out --resume.")
    if not resume and path is not None:
        raise TrainingError(
            f"there is a training in {output} already", "Add --resume to go on with it, or name another --output."
        )
    return path


def train(job: TrainingJob, *, resume: bool, report: Progress, on_epoch: OnEpoch) -> list[EpochMetrics]:
    """Train to the end, saving a checkpoint after every epoch.

    A resumed training equals an unbroken one bit for bit on a CPU with one thread. Several threads, or a GPU, may add
    in another order each time: then they differ by rounding, which is about 1e-7 at first.

    Args:
        job: from :func:`lfvit_cli.training.job.prepare`.
        resume: go on from the newest checkpoint of this training.
        report: called with (updates done, updates in all, loss and learning rate) after each update.
        on_epoch: called in the main process with all epochs so far, after each.

    Returns:
        What each epoch has come to.

    Raises:
        TrainingError: there is nothing to resume, something else to resume, or something that would be lost.
        NonFiniteLoss: the loss is infinite or not a number.
        KeyboardInterrupt: it was interrupted; a checkpoint holds everything up to here.
    """
    run = _Run(job, report)
    run.start(resume)
    with listening() as request:
        while run.epoch < job.recipe.epochs:
            run.train_epoch(request)
            run.finish_epoch(request)
            if job.accelerator.is_main_process:
                on_epoch(run.metrics)
    # Not end_training, which leaves the group of processes to be destroyed with the network, and that can wait forever.
    for tracker in job.accelerator.trackers:
        tracker.finish()
    return run.metrics


class StopRequest:
    """Whether the training has been asked to stop."""

    def __init__(self) -> None:
        self.made = False

    def hear(self, number: int) -> None:
        """Take note of a signal; a second Ctrl-C does not wait."""
        if self.made and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.made = True


@contextmanager
def listening() -> Iterator[StopRequest]:
    """Note an interrupt or a termination, to be obeyed after the step under way; only the main thread can."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before: dict[int, Any] = {
        number: signal.signal(number, lambda number, _frame: request.hear(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Run:
    """A training under way.

    Attributes:
        epoch: under way, from 0.
        update: the next one of that epoch.
        last_lr: learning rate of the last update.
        metrics: of the epochs that are done.
    """

    def __init__(self, job: TrainingJob, report: Progress) -> None:
        self.job, self.report, self.recipe, self.accelerator = job, report, job.recipe, job.accelerator
        self.epoch, self.update, self.last_lr = 0, 0, 0.0
        self.metrics: list[EpochMetrics] = []
        self.means = RunningMean()
        self.started = time.perf_counter()
        self.folder = checkpoint_folder(job.output)

    @property
    def updates(self) -> int:
        """Updates done in all."""
        return self.epoch * self.job.updates_an_epoch + self.update

    @property
    def updates_in_all(self) -> int:
        """Updates when the training is done."""
        return self.recipe.epochs * self.job.updates_an_epoch

    @property
    def lr(self) -> float:
        """The present learning rate."""
        return float(max(group["lr"] for group in self.job.optimizer.param_groups))

    def start(self, resume: bool) -> None:
        """Begin anew, or from the newest checkpoint."""
        path = find_start(self.job.output, resume=resume)
        if path is None:
            self.job.scheduler.step_update(0)
        else:
            self._restore(load_checkpoint(path), path)

    def train_epoch(self, request: StopRequest) -> None:
        """The rest of an epoch.

        Raises:
            KeyboardInterrupt: a stop was requested; the checkpoint is written.
        """
        job, accelerator = self.job, self.accelerator
        self.started = time.perf_counter()
        order = EpochOrder(len(job.train), job.photos_an_update, self.recipe.repeats, job.settings.seed, self.epoch)
        job.objective.train()
        places = [
            part
            for update in range(self.update, order.updates)
            for part in order.positions(
                update, self.recipe.accumulate, accelerator.process_index, accelerator.num_processes
            )
        ]
        batches = job.train.batches([order.photos(part) for part in places])
        first = self.update * self.recipe.accumulate
        for number, (part, batch) in enumerate(zip(places, batches, strict=True), start=first):
            losses = self._step(batch, order.draws(part[batch.positions]), number)
            stop = self._note(losses, request)
            if accelerator.sync_gradients:
                self._count_update()
                if stop:
                    self._stop()

    def _step(self, batch: Labelled, draws: Draws, number: int) -> dict[str, Tensor]:
        """The number-th pass of the epoch, and an update where it is due; gives the losses."""
        job, accelerator = self.job, self.accelerator
        batch_seed = mixed_seed(job.settings.seed, self.epoch, number)
        images, targets = job.augmentation(batch.pixels, batch.labels, draws, batch_seed)
        with accelerator.accumulate(job.objective):
            lesson = None
            if job.teacher is not None:
                with accelerator.autocast():
                    lesson = teach(job.teacher, images)
            # The augmentation draws from the seeds themselves and the next ones.
            losses: dict[str, Tensor] = job.objective(
                images, targets, lesson, self.updates / self.updates_in_all, draws.seeds + 2
            )
            if "loss" not in losses:
                raise TrainingError(
                    f"the objective of {job.settings.model} gives no 'loss'",
                    "Return a dictionary with the scalar to train on.",
                )
            accelerator.backward(losses["loss"])
            if accelerator.sync_gradients and self.recipe.clip_grad is not None:
                accelerator.clip_grad_norm_(job.objective.parameters(), self.recipe.clip_grad)
            job.optimizer.step()
            job.optimizer.zero_grad()
        return losses

    def _note(self, losses: dict[str, Tensor], request: StopRequest) -> bool:
        """Take the mean of the losses over all processes; whether any of them was asked to stop."""
        stopping = losses["loss"].new_tensor(request.made)
        values = torch.stack([value.detach().float() for value in (*losses.values(), stopping)])
        *means, stop = self.accelerator.reduce(values, "mean").tolist()
        named = dict(zip(losses, means, strict=True))
        if not math.isfinite(named["loss"]):
            raise NonFiniteLoss(
                f"the loss is {named['loss']} at update {self.updates + 1}, at a learning rate of {self.lr:.2g}",
                "Lower --lr, or train in --precision float32; the last checkpoint is from before.",
            )
        self.means.add(named)
        return bool(stop > 0)

    def _count_update(self) -> None:
        job = self.job
        self.last_lr = self.lr
        self.update += 1
        if job.ema is not None:
            job.ema.update(job.network, self.updates)
        job.scheduler.step_update(self.updates)
        loss = self.means.means()["loss"]
        message = f"epoch {self.epoch + 1}/{self.recipe.epochs}, loss {loss:.3f}, rate {self.last_lr:.1e}"
        self.report(self.updates, self.updates_in_all, message)

    def finish_epoch(self, request: StopRequest) -> None:
        """Validate, note what the epoch has come to, and save.

        Raises:
            KeyboardInterrupt: a stop was requested; the checkpoint is written, and the epoch still to be validated.
        """
        top1 = validate(self.job, lambda: request.made)
        if top1 is None:
            self._stop()
            return
        seconds = time.perf_counter() - self.started
        done = EpochMetrics(self.epoch + 1, self.updates, self.last_lr, self.means.means(), top1, seconds)
        self.metrics.append(done)
        self.accelerator.log(done.row(), step=self.updates)
        self.epoch, self.update, self.means = self.epoch + 1, 0, RunningMean()
        self.save()

    def _stop(self) -> None:
        self.save()
        raise KeyboardInterrupt

    def save(self) -> None:
        """Write a checkpoint; all processes wait for it."""
        job, scaler = self.job, self.accelerator.scaler
        random = gather_object([_random_states()])
        if self.accelerator.is_main_process:
            checkpoint = Checkpoint(
                model=job.network.state_dict(),
                epoch=self.epoch,
                update=self.update,
                settings=job.settings.model_dump(mode="json"),
                data_sha256=job.splits.train.sha256,
                validation_sha256=job.splits.validation.sha256,
                optimizer=job.optimizer.state_dict(),
                scheduler=job.scheduler.state_dict(),
                ema=None if job.ema is None else job.ema.module.state_dict(),
                scaler=None if scaler is None else scaler.state_dict(),
                random=random,
                last_lr=self.last_lr,
                sums=self.means.sums,
                steps=self.means.steps,
                metrics=[list(epoch) for epoch in self.metrics],
            )
            save_checkpoint(self.folder, checkpoint, self.updates)
        self.accelerator.wait_for_everyone()

    def _restore(self, saved: Checkpoint, path: Path) -> None:
        job = self.job
        differing = job.settings.differences(saved.settings)
        differing += ["training photos"] if saved.data_sha256 != job.splits.train.sha256 else []
        differing += ["validation photos"] if saved.validation_sha256 != job.splits.validation.sha256 else []
        if differing:
            raise TrainingError(
                f"{path} is of another training: it differs in {', '.join(differing)}",
                "Give the same settings, or name another --output.",
            )
        job.network.load_state_dict(saved.model)
        job.optimizer.load_state_dict(saved.optimizer)
        job.scheduler.load_state_dict(saved.scheduler)
        if job.ema is not None and saved.ema is not None:
            job.ema.module.load_state_dict(saved.ema)
        if self.accelerator.scaler is not None and saved.scaler is not None:
            self.accelerator.scaler.load_state_dict(saved.scaler)
        self.epoch, self.update, self.last_lr = saved.epoch, saved.update, saved.last_lr
        self.means = RunningMean(saved.sums, saved.steps)
        self.metrics = from_data(saved.metrics)
        if len(saved.random) == self.accelerator.num_processes:
            _set_random_states(saved.random[self.accelerator.process_index])


def _random_states() -> dict[str, Tensor]:
    """Of this process: the CPU's stream, and its GPU's."""
    states = {"cpu": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def _set_random_states(states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
