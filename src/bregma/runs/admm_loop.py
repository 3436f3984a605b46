"""The training loop of ADMM, which takes no gradients."""

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch

from bregma.admm.workers import ALONE, Workers
from bregma.data import FrameDataset, Splits, stratified_cut
from bregma.prox.thresholds import keep_count
from bregma.runs.build import build_mlp, with_carried
from bregma.runs.evaluate import evaluate
from bregma.runs.folder import RunFolder
from bregma.runs.record import Observer, Progress, finish, keep, measured, restored
from bregma.runs.solvers import build_solver, measure_every, moved, put_weights
from bregma.sparsity import nonzero, parameters

_MEASURED = 10_000  # training samples at most, of which accuracy and loss are measured


class ADMMSession:
    """One run under way: solver, the network with its weights, and progress, saved and restored together.

    Args:
        folder: an existing run folder.
        splits: the data it was made for.
        workers: all have the same data and take a part of them each; the first one writes.

    Raises:
        ValueError: more samples are asked for than there are.
        MemoryError: see `build_solver`.
    """

    def __init__(self, folder: RunFolder, splits: Splits, workers: Workers = ALONE) -> None:
        self.folder, self.splits, self.workers = folder, splits, workers
        self.experiment = folder.config().experiment
        torch.set_num_threads(self.experiment.threads)
        samples = _chosen(splits.train, self.experiment.admm.samples, self.experiment.seed)
        self.measured = _part(samples, min(_MEASURED, len(samples)), self.experiment.seed)
        self.every = measure_every(self.experiment, len(samples))
        self.solver = build_solver(self.experiment, samples, workers)
        self.net = build_mlp(folder.config())
        self.progress = Progress()

    def save(self) -> None:
        """Write the checkpoint that `restore` reads."""
        state = {"solver": self.solver.state_dict(), "progress": asdict(self.progress)}
        if not self.workers.rank:
            self.folder.write_state(state)

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to where `save` was called last."""
        self.solver.load_state_dict(state["solver"])
        self.progress = Progress(**state["progress"])

    def measure(self) -> None:
        """Take the solver's weights, measure the true network, keep the best weights, write checkpoint and metrics."""
        put_weights(self.net, self.solver.weights)
        figures = self.solver.measure()
        if self.workers.rank:
            self.save()
            return
        train, validation = (evaluate(self.net, part) for part in (self.measured, self.splits.validation))
        self.progress.epoch = self.solver.iteration
        self.progress.rows.append(
            {
                "epoch": self.solver.iteration,
                "train_loss": train.loss,
                "train_accuracy": train.accuracy,
                **measured(self.net, validation),
                "reached": self._reached(),
                "solver": figures,
                "seconds": round(self.progress.seconds, 3),
            }
        )
        keep(self.folder, self.progress, with_carried(self.net, self.splits.train))
        self.save()
        self.folder.write_metrics(self.progress.rows)

    def _reached(self) -> bool:
        """Whether the network has no more connections than asked for."""
        wanted = self.experiment.density
        return not wanted or nonzero(self.net) <= keep_count(parameters(self.net), wanted)


def train(
    folder: RunFolder,
    splits: Splits,
    resume: bool = False,
    observer: Observer | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    workers: Workers = ALONE,
) -> dict[str, Any] | None:
    """`bregma.runs.loop.train` by ADMM, once the folder is our own.

    Iterations take the place of epochs; training accuracy and loss are those of at most 10,000 samples.
    """
    session = ADMMSession(folder, splits, workers)
    if resume:
        restored(folder, session.restore)
    solver, progress, admm = session.solver, session.progress, session.experiment.admm
    if observer:
        observer.start(solver.iteration, admm.iterations)
    started = time.perf_counter() - progress.seconds
    while solver.iteration < admm.iterations:
        _step(session)
        progress.seconds = time.perf_counter() - started
        if observer:
            observer.step()
        if solver.iteration % session.every == 0 or solver.iteration == admm.iterations:
            session.measure()
            progress.seconds = time.perf_counter() - started
            if observer and progress.rows:
                observer.epoch(progress.rows[-1])
        if should_stop():
            session.save()
            return None
    return {} if workers.rank else finish(folder, splits, session.net, progress)


def _chosen(dataset: FrameDataset, wanted: int, seed: int) -> FrameDataset:
    """The samples to train on; all of them for 0."""
    if wanted > len(dataset):
        raise ValueError(f"admm.samples must be <= {len(dataset)}, the training samples of the data, got {wanted}")
    return _part(dataset, wanted or len(dataset), seed)


def _part(dataset: FrameDataset, wanted: int, seed: int) -> FrameDataset:
    """So many samples, the same share of every class."""
    if wanted == len(dataset):
        return dataset
    return dataset.subset(stratified_cut(dataset.labels.numpy(), wanted / len(dataset), seed)[1])


def _step(session: ADMMSession) -> None:
    solver, number = session.solver, session.solver.iteration + 1
    try:
        solver.step()
        if not all(bool(weight.isfinite().all()) for weight in moved(solver)):
            raise ValueError("a weight is no longer finite")
    except ValueError as error:
        raise ValueError(f"training diverged in iteration {number} ({error}){session.folder.kept()}") from error
