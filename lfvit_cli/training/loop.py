"""The training itself: epochs of updates, each epoch validated and saved, taken up where it stopped."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from accelerate.utils import gather_object
from torch import Tensor

from lfvit_cli.errors import NonFiniteLoss, TrainingError
from lfvit_cli.training.augment import Draws
from lfvit_cli.training.checkpoints import Checkpoint, latest, load_checkpoint, save_checkpoint
from lfvit_cli.training.data import EpochOrder, Labelled, mixed_seed
from lfvit_cli.training.interrupts import StopRequest, listening
from lfvit_cli.training.job import Report, TrainingJob
from lfvit_cli.training.metrics import EpochMetrics, RunningMean, from_data
from lfvit_cli.training.objectives import teach
from lfvit_cli.training.validation import validate

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


def train(job: TrainingJob, *, resume: bool, report: Report, on_epoch: OnEpoch) -> list[EpochMetrics]:
    """Train to the end, saving a checkpoint after every epoch.

    Args:
        job: from :func:`lfvit_cli.training.job.prepare`.
        resume: go on from the newest checkpoint of this training.
        report: called with (updates done, updates in all, loss and learning rate) after each update.
        on_epoch: called in the main process with all epochs so far, after each.

    Returns:
        What each epoch has come to.

    Raises:
        TrainingError: there is nothing to resume, something else to resume, or something that would be lost.
        NonFiniteLoss: the loss is infinite or no number.
        KeyboardInterrupt: it was interrupted; a checkpoint holds everything up to here.
    """
    run = _Run(job, report)
    run.start(resume)
    with listening() as request:
        while run.epoch < job.recipe.epochs:
            run.train_epoch(request)
            run.finish_epoch()
            if job.accelerator.is_main_process:
                on_epoch(run.metrics)
    # Not end_training, which leaves the group of processes to be destroyed with the network, and that can wait forever.
    for tracker in job.accelerator.trackers:
        tracker.finish()
    return run.metrics


class _Run:
    """A training under way.

    Attributes:
        epoch: under way, from 0.
        update: the next one of that epoch.
        last_lr: learning rate of the last update.
        metrics: of the epochs that are done.
    """

    def __init__(self, job: TrainingJob, report: Report) -> None:
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
        job, started = self.job, time.perf_counter()
        self.started = started
        order = EpochOrder(len(job.train), job.photos_an_update, self.recipe.repeats, job.settings.seed, self.epoch)
        job.objective.train()
        places = [
            part
            for update in range(self.update, order.updates)
            for part in order.positions(
                update, self.recipe.accumulate, self.accelerator.process_index, self.accelerator.num_processes
            )
        ]
        batches = job.train.batches([order.photos(part) for part in places])
        first = self.update * self.recipe.accumulate
        for number, (part, batch) in enumerate(zip(places, batches, strict=True), start=first):
            stop = self._step(batch, order.draws(part[batch.positions]), number, request)
            if self.accelerator.sync_gradients:
                self._count_update()
                if stop:
                    self.save()
                    raise KeyboardInterrupt

    def _step(self, batch: Labelled, draws: Draws, number: int, request: StopRequest) -> bool:
        """The number-th pass of the epoch, and an update where it is due; whether any process should stop."""
        job, accelerator = self.job, self.accelerator
        batch_seed = mixed_seed(job.settings.seed, self.epoch, number)
        images, targets = job.augmentation(batch.pixels, batch.labels, draws, batch_seed)
        total = self.recipe.epochs * job.updates_an_epoch
        with accelerator.accumulate(job.objective):
            lesson = None
            if job.teacher is not None:
                with accelerator.autocast():
                    lesson = teach(job.teacher, images)
            # The augmentation draws from the seeds themselves and the next ones.
            losses = job.objective(images, targets, lesson, self.updates / total, draws.seeds + 2)
            stop = self._check(losses, request)
            accelerator.backward(losses["loss"])
            if accelerator.sync_gradients and self.recipe.clip_grad is not None:
                accelerator.clip_grad_norm_(job.objective.parameters(), self.recipe.clip_grad)
            job.optimizer.step()
            job.optimizer.zero_grad()
        return stop

    def _check(self, losses: dict[str, Tensor], request: StopRequest) -> bool:
        """Take the mean of the losses over all processes, which thus agree on whether to go on."""
        values = torch.stack([*losses.values(), losses["loss"].new_tensor(float(request.made))]).detach()
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
        total = self.recipe.epochs * job.updates_an_epoch
        message = f"epoch {self.epoch + 1}/{self.recipe.epochs}, loss {loss:.3f}, rate {self.last_lr:.1e}"
        self.report(self.updates, total, message)

    def finish_epoch(self) -> None:
        """Validate, note what the epoch has come to, and save."""
        losses, top1 = self.means.means(), validate(self.job)
        seconds = time.perf_counter() - self.started
        self.metrics.append(EpochMetrics(self.epoch + 1, self.updates, self.last_lr, losses, top1, seconds))
        self.accelerator.log(self.metrics[-1].row(), step=self.updates)
        self.epoch, self.update, self.means = self.epoch + 1, 0, RunningMean()
        self.save()

    def save(self) -> None:
        """Write a checkpoint; all processes wait for it."""
        job, scaler = self.job, self.accelerator.scaler
        random = gather_object([_random_states()])
        if self.accelerator.is_main_process:
            checkpoint = Checkpoint(
                weights=job.network.state_dict(),
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
        differing += ["photos"] if saved.data_sha256 != job.splits.train.sha256 else []
        if saved.validation_sha256 not in ("", job.splits.validation.sha256):
            differing.append("validation photos")
        if differing:
            raise TrainingError(
                f"{path} is of another training: it differs in {', '.join(differing)}",
                "Give the same settings, or name another --output.",
            )
        job.network.load_state_dict(saved.weights)
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
