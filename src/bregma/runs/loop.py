"""The training loop of the gradient methods. Every step can be the last: what it needs to go on is one dictionary."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from bregma.admm.workers import ALONE, Workers
from bregma.data import FrameDataset, Splits, collate, shift_frames
from bregma.runs import admm_loop
from bregma.runs.build import (
    build_network,
    build_optimizer,
    build_schedule,
    build_sparsifier,
    load_weights,
    with_carried,
)
from bregma.runs.delays import begin_step, end_step, round_while_training
from bregma.runs.evaluate import evaluate, with_spread
from bregma.runs.experiment import Experiment
from bregma.runs.folder import RunFolder
from bregma.runs.record import Observer, Progress, finish, keep, measured, restored


@dataclass
class EpochProgress(Progress):
    """How far the epoch under way has come as well."""

    batch: int = 0
    loss_sum: float = 0.0
    right: int = 0


class Diverged(ValueError):
    """The loss or a membrane is no longer finite."""


class Session:
    """One run under way: network, optimizer, schedule and progress, saved and restored together.

    Args:
        folder: an existing run folder.
        splits: the data it was made for.
        workers: all have the same data and take a part of each batch; the first one writes.
    """

    def __init__(self, folder: RunFolder, splits: Splits, workers: Workers = ALONE) -> None:
        self.folder = folder
        self.splits = splits
        self.workers = workers
        self.experiment = folder.config().experiment
        torch.set_num_threads(self.experiment.threads)
        torch.manual_seed(self.experiment.seed)
        self.net = build_network(folder.config())
        self.model: torch.nn.Module = self.net
        if workers.size > 1:  # networks with delays have parameters that a constant spread leaves out
            delays = self.experiment.network != "mlp"
            self.model = DistributedDataParallel(self.net, find_unused_parameters=delays)
        self.optimizer = build_optimizer(self.net, self.experiment)
        self.batches = -(-len(splits.train) // self.experiment.batch_size)
        steps = self.batches * self.experiment.epochs
        self.sparsifier = build_sparsifier(self.net, self.optimizer, self.experiment, steps)
        self.schedule = build_schedule(self.optimizer, self.experiment, steps)
        self.progress = EpochProgress()
        if workers.rank:  # the networks are alike; what dropout draws for one part of a batch is not for another
            torch.manual_seed(self.experiment.seed + 1_000_003 * workers.rank)

    def save(self) -> None:
        """Write the checkpoint that `restore` reads; called by all workers."""
        progress, generators = asdict(self.progress), self._generators()
        if self.progress.batch:
            progress["loss_sum"], progress["right"] = self.totals()
        if self.workers.rank:
            return
        self.folder.write_state(
            {
                "weights": self.weights(),
                "optimizer": self.optimizer.state_dict(),
                "sparsifier": self.sparsifier.state_dict() if self.sparsifier else None,
                "schedule": self.schedule.state_dict(),
                "generator": generators,
                "progress": progress,
            }
        )

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to where `save` was called last."""
        load_weights(self.net, state["weights"], self.splits.train)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.sparsifier:
            self.sparsifier.load_state_dict(state["sparsifier"])
        self.schedule.load_state_dict(state["schedule"])
        self._load_generators(state["generator"])
        self.progress = EpochProgress(**state["progress"])
        if self.workers.rank:  # the sums so far are in the hands of the first worker
            self.progress.loss_sum, self.progress.right = 0.0, 0

    def _generators(self) -> torch.Tensor:
        """The state of torch's generator; of several workers, whose parts are not alike, a row for each."""
        own = torch.get_rng_state()
        if self.workers.size == 1:
            return own
        rows = torch.zeros(self.workers.size, len(own))
        rows[self.workers.rank] = own
        self.workers.sum([rows])
        return rows.byte()

    def _load_generators(self, states: torch.Tensor) -> None:
        """Take the own one; if there were not as many workers, that of the first."""
        if states.ndim == 2:
            states = states[self.workers.rank if len(states) == self.workers.size else 0].clone()  # torch wants a whole
        torch.set_rng_state(states)

    def totals(self) -> tuple[float, int]:
        """Sum of the losses and number of right answers in the epoch so far, of all workers."""
        done = torch.tensor([self.progress.loss_sum, self.progress.right], dtype=torch.float64)
        self.workers.sum([done])
        return float(done[0]), int(done[1])

    def weights(self) -> dict[str, torch.Tensor]:
        """What a checkpoint holds of network and data."""
        return with_carried(self.net, self.splits.train)


def train(
    folder: RunFolder,
    splits: Splits,
    *,
    resume: bool = False,
    observer: Observer | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    workers: Workers = ALONE,
) -> dict[str, Any] | None:
    """Train the experiment of a run folder to its end.

    Args:
        folder: an existing run folder (`RunFolder.create`).
        splits: data; the test part is touched once, at the end.
        resume: go on from ``last.pt`` if the run got that far; the result equals that of an uninterrupted run bit for
            bit.
        observer: is told of every step and epoch.
        should_stop: asked after every step; when true the checkpoint is written and training ends early.
        workers: a group of processes that all call this with the same data and share the work. The result is that of
            one, up to the order of sums; batch norms see the own part of a batch. The first one writes and tests.

    Returns:
        What ``summary.json`` holds, for the first worker; or None if stopped early.

    Raises:
        Diverged: a membrane or the loss is no longer finite; the last checkpoint is kept.
        ValueError: ``last.pt`` is broken.
        FileNotFoundError: the run to go on with has finished epochs, but no ``last.pt``.
        BlockingIOError: another process trains in this folder.
    """
    loop = admm_loop.train if folder.config().experiment.method == "admm" else _train
    with nullcontext() if workers.rank else folder.locked():
        return loop(folder, splits, resume, observer, should_stop, workers)


def _train(
    folder: RunFolder,
    splits: Splits,
    resume: bool,
    observer: Observer | None,
    should_stop: Callable[[], bool],
    workers: Workers,
) -> dict[str, Any] | None:
    """`train` by gradients, once the folder is our own."""
    session = Session(folder, splits, workers)
    if resume:
        restored(folder, session.restore)
    progress = session.progress
    if observer:
        done = progress.epoch * session.batches + progress.batch
        observer.start(done, session.batches * session.experiment.epochs)
    session.net.train()
    started = time.perf_counter() - progress.seconds
    while progress.epoch < session.experiment.epochs:
        for x, labels, share in _batches(splits.train, session.experiment, progress, workers):
            loss = _step(session, x, labels, share)
            progress.seconds = time.perf_counter() - started
            if observer:
                observer.step(loss)
            if should_stop():
                session.save()
                return None
        _end_epoch(session)
        progress.seconds = time.perf_counter() - started
        if observer and progress.rows:
            observer.epoch(progress.rows[-1])
    return {} if workers.rank else finish(folder, splits, session.net, progress)


def _batches(
    dataset: FrameDataset, experiment: Experiment, progress: EpochProgress, workers: Workers
) -> Iterator[tuple[torch.Tensor, torch.Tensor, float]]:
    """What is left of the epoch under way; order and shifts follow from seed and epoch, so none of it is saved.

    Yields:
        A worker's part of a batch, and what its mean counts in the mean over workers: 1 for parts of equal size.
    """
    generator = torch.Generator().manual_seed(experiment.seed * 1_000_003 + progress.epoch)
    order = torch.randperm(len(dataset), generator=generator)
    moves = torch.randint(-experiment.shift, experiment.shift + 1, (len(dataset), 2), generator=generator)
    batches = order.split(experiment.batch_size)[progress.batch :]
    parts = [batch[workers.rank :: workers.size] for batch in batches]
    shares = [workers.size * len(part) / len(batch) for part, batch in zip(parts, batches, strict=True)]
    # A worker without samples looks at one that counts nothing: all must come to the sum of gradients.
    rows = [part if len(part) else batch[:1] for part, batch in zip(parts, batches, strict=True)]
    loader = DataLoader(
        dataset, batch_sampler=[part.tolist() for part in rows], collate_fn=collate, generator=generator
    )
    for part, share, (x, labels) in zip(rows, shares, loader, strict=True):
        yield (shift_frames(x, moves[part]) if experiment.shift else x), labels, share


def _step(session: Session, x: torch.Tensor, labels: torch.Tensor, share: float) -> float:
    progress = session.progress
    done = progress.epoch + progress.batch / session.batches
    begin_step(session.net, done / session.experiment.epochs)
    logits, loss = _forward(session, x, labels)
    value = loss.item()
    session.optimizer.zero_grad()
    (share * loss).backward()
    if session.experiment.clip:
        torch.nn.utils.clip_grad_norm_(session.net.parameters(), session.experiment.clip)
    session.optimizer.step()
    end_step(session.net)
    session.schedule.step()
    progress.batch += 1
    if share:
        progress.loss_sum += value * len(labels)
        progress.right += int((logits.argmax(1) == labels).sum())
    return value


def _forward(session: Session, x: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    with _diverging(session, session.progress.epoch + 1):
        logits = session.model(x)
        loss = F.cross_entropy(logits, labels)
        if not torch.isfinite(loss):
            raise ValueError(f"loss is {loss.item()}")
    return logits, loss


@contextmanager
def _diverging(session: Session, epoch: int) -> Iterator[None]:
    """Say in which epoch a membrane or the loss was no longer finite."""
    try:
        yield
    except ValueError as error:
        help_ = f"an lr below {session.experiment.lr} may help{session.folder.kept()}"
        raise Diverged(f"training diverged in epoch {epoch} ({error}); {help_}") from error


def _end_epoch(session: Session) -> None:
    """Validate, keep the best weights, write checkpoint and metrics."""
    progress, samples = session.progress, len(session.splits.train)
    loss, right = session.totals()
    progress.batch, progress.loss_sum, progress.right = 0, 0.0, 0
    progress.epoch += 1
    if session.experiment.rounding == "training":
        round_while_training(session.net)
    if session.workers.rank:
        session.save()
        return
    with _diverging(session, progress.epoch):
        validation = evaluate(session.net, session.splits.validation)
        spread = with_spread(session.net, session.splits.validation, "validation")
    sparsifier = session.sparsifier
    progress.rows.append(
        {
            "epoch": progress.epoch,
            "lr": session.schedule.get_last_lr()[0],
            "train_loss": loss / samples,
            "train_accuracy": right / samples,
            **measured(session.net, validation),
            **spread,
            "reached": sparsifier is None or sparsifier.frozen,
            "seconds": round(progress.seconds, 3),
        }
    )
    keep(session.folder, progress, session.weights())
    session.save()
    session.folder.write_metrics(progress.rows)
