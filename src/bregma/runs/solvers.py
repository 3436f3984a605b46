"""From an experiment of the method admm to a solver that holds its data, or knows where to fetch them."""

import math
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from bregma.admm import ADMM, building
from bregma.admm.checks import require_memory
from bregma.admm.consistent import ConsistentADMM
from bregma.admm.layers import Layer, Recurrent
from bregma.admm.start import random_start
from bregma.admm.training import ConsistentTraining
from bregma.admm.workers import ALONE, Workers, shard
from bregma.data import FrameDataset
from bregma.nn import RecurrentLIF, SpikingMLP
from bregma.runs.experiment import Experiment

_MEASURE_EVERY = 10  # iterations that see all samples


class Solver(Protocol):
    """What the loop asks of a solver, whichever it is."""

    @property
    def iteration(self) -> int:
        """How many iterations were done."""

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
    """The solver of an experiment on the samples it is trained on.

    Args:
        experiment: of the method admm.
        samples: all that the run is trained on.
        workers: which take a part each, of all samples once or of each mini-batch.

    Raises:
        MemoryError: what the solver holds at once would not fit, with the numbers.
    """
    return (_consistent if experiment.admm.solver == "consistent" else _paper)(experiment, samples, workers)


def measure_every(experiment: Experiment, samples: int) -> int:
    """Iterations between two lines of metrics.

    Args:
        experiment: of the method admm.
        samples: that the run is trained on.
    """
    batch = building.batch_of(experiment.admm.parameters(), samples)
    return experiment.admm.measure_every or (-(-samples // batch) if batch < samples else _MEASURE_EVERY)


def moved(solver: Solver) -> list[Tensor]:
    """The weights as the last iteration left them; those of a consistent solver with the running readout."""
    return solver.solver.weights if isinstance(solver, ConsistentTraining) else solver.weights


@torch.no_grad()
def put_weights(net: SpikingMLP, weights: list[Tensor]) -> None:
    """Give a network the weights of a solver."""
    for layer, weight in zip([*net.hidden, net.readout], weights, strict=True):
        heard = layer.linear.in_features
        layer.linear.weight.copy_(weight[:, :heard])
        if heard < weight.shape[1]:
            neurons: RecurrentLIF = layer.neurons
            neurons.recurrent.weight.copy_(weight[:, heard:])


def _consistent(experiment: Experiment, samples: FrameDataset, workers: Workers) -> ConsistentTraining:
    """The consistent solver, which fetches a batch at a time, or all samples once in full-batch descent."""
    p = experiment.admm.parameters(decay=experiment.decay, density=experiment.density or None)
    inputs, classes, batch = math.prod(samples.frame_shape), len(samples.classes), building.batch_of(p, len(samples))
    full = batch == len(samples)
    hidden: list[Layer] = [Recurrent(n) if experiment.recurrent else n for n in experiment.hidden]
    settings = building.consistent_settings(p, full, None if full else experiment.admm.iterations)
    solver = ConsistentADMM(hidden, inputs, classes, settings, seed=experiment.seed, workers=workers)
    building.require_iteration(solver, samples.steps, -(-batch // workers.size), full)

    def fetch(at: Tensor) -> tuple[Tensor, Tensor, None]:
        own = shard(len(at), workers.rank, workers.size)
        if not len(own):
            return torch.zeros(samples.steps, 0, inputs), torch.zeros(0, classes), None
        x, labels = samples.__getitems__(at[own.start : own.stop].tolist())
        return x.flatten(2), building.coded(p, labels, classes), None

    return ConsistentTraining(solver, fetch, len(samples), batch=batch, seed=experiment.seed)


def _paper(experiment: Experiment, samples: FrameDataset, workers: Workers) -> ADMM:
    """The paper's solver, which holds all samples, or one worker's part of them."""
    if workers.size > 1:
        samples = samples.subset(list(shard(len(samples), workers.rank, workers.size)))
    admm, inputs, classes = experiment.admm, math.prod(samples.frame_shape), len(samples.classes)
    copies = building.paper_copies(admm.multipliers, admm.anderson, saved=True)
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
