"""The training loop of ADMM, which takes no gradients: a solver moves all variables at once, on all samples."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from bregma.admm import ADMM
from bregma.admm.checks import require_memory
from bregma.admm.start import random_start
from bregma.admm.workers import ALONE, Workers, shard
from bregma.data import FrameDataset, Splits, stratified_cut
from bregma.nn import SpikingMLP
from bregma.runs.build import build_mlp, with_carried
from bregma.runs.evaluate import evaluate
from bregma.runs.experiment import Experiment
from bregma.runs.folder import RunFolder
from bregma.runs.record import Observer, Progress, finish, keep, measured, restored


class Solver(Protocol):
    """What the loop asks of a solver, whichever it is."""

    iteration: int

    @property
    def weights(self) -> list[Tensor]:
        """W of each layer (n, inputs), the readout's last."""

    def step(self) -> None:
        """One iteration."""

    def measure(self) -> dict[str, Any]:
        """Figures of merit: numbers, or lists with a number per layer."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values that it needs to go on bit by bit."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""


def build_solver(experiment: Experiment, samples: FrameDataset, workers: Workers = ALONE) -> Solver:
    """The solver of an experiment on the samples it is trained on, or on one worker's part of them.

    Raises:
        MemoryError: membranes, spikes and frames would not fit, with the numbers.
    """
    admm, inputs, classes = experiment.admm, math.prod(samples.frame_shape), len(samples.classes)
    copies = 2 + (admm.multipliers == "all") + (2 * admm.anderson + 4 if admm.anderson else 0)  # one in a checkpoint
    frames = 4 * samples.steps * len(samples) * inputs
    require_memory(samples.steps, len(samples), (inputs, *experiment.hidden, classes), copies, held=frames)
    x, labels = samples.__getitems__(list(range(len(samples))))
    x, settings = x.flatten(2), admm.solver_settings(experiment.decay)
    start = None
    if admm.start == "forward":
        generator = torch.Generator().manual_seed(experiment.seed)
        start = random_start(x, (*experiment.hidden, classes), settings.constants, generator, workers=workers)
    y = F.one_hot(labels, classes).to(x.dtype)
    return ADMM(x, y, experiment.hidden, settings, seed=experiment.seed, start=start, workers=workers)


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
        self.samples = _chosen(splits.train, self.experiment)
        own = self.samples.subset(list(shard(len(self.samples), workers.rank, workers.size)))
        self.solver = build_solver(self.experiment, own if workers.size > 1 else self.samples, workers)
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
        train, validation = (evaluate(self.net, part) for part in (self.samples, self.splits.validation))
        self.progress.epoch = self.solver.iteration
        self.progress.rows.append(
            {
                "epoch": self.solver.iteration,
                "train_loss": train.loss,
                "train_accuracy": train.accuracy,
                **measured(self.net, validation),
                "solver": figures,
                "seconds": round(self.progress.seconds, 3),
            }
        )
        keep(self.folder, self.progress, with_carried(self.net, self.splits.train))
        self.save()
        self.folder.write_metrics(self.progress.rows)


def train(
    folder: RunFolder,
    splits: Splits,
    *,
    resume: bool = False,
    observer: Observer | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    workers: Workers = ALONE,
) -> dict[str, Any] | None:
    """Train the experiment of a run folder to its end; arguments, result and errors as `bregma.runs.loop.train`.

    An iteration takes the place of an epoch: it looks at every sample once.
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
        if solver.iteration % admm.measure_every == 0 or solver.iteration == admm.iterations:
            session.measure()
            progress.seconds = time.perf_counter() - started
            if observer and progress.rows:
                observer.epoch(progress.rows[-1])
        if should_stop():
            session.save()
            return None
    return {} if workers.rank else finish(folder, splits, session.net, progress)


@torch.no_grad()
def put_weights(net: SpikingMLP, weights: list[Tensor]) -> None:
    """Give a network the weights of a solver."""
    for layer, weight in zip([*net.hidden, net.readout], weights, strict=True):
        layer.linear.weight.copy_(weight)


def _chosen(dataset: FrameDataset, experiment: Experiment) -> FrameDataset:
    """The samples to train on."""
    wanted = experiment.admm.samples
    if wanted > len(dataset):
        raise ValueError(f"admm.samples must be <= {len(dataset)}, the training samples of the data, got {wanted}")
    if wanted in (0, len(dataset)):
        return dataset
    return dataset.subset(stratified_cut(dataset.labels.numpy(), wanted / len(dataset), experiment.seed)[1])


def _step(session: ADMMSession) -> None:
    solver, number = session.solver, session.solver.iteration + 1
    try:
        solver.step()
        if not all(bool(weight.isfinite().all()) for weight in solver.weights):
            raise ValueError("a weight is no longer finite")
    except ValueError as error:
        raise ValueError(
            f"training diverged in iteration {number} ({error}); the last checkpoint in {session.folder.path} is kept"
        ) from error
