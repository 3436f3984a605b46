"""From the parameters of `ADMMClassifier` to a solver that holds its data."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from bregma.admm.arguments import Parameters, normalised
from bregma.admm.checks import require_batch_memory, require_memory
from bregma.admm.consistent import ConsistentADMM
from bregma.admm.consistent_settings import ConsistentSettings
from bregma.admm.fitting import Data
from bregma.admm.forward import forward
from bregma.admm.layers import build
from bregma.admm.network import Network
from bregma.admm.paper import PaperTraining
from bregma.admm.preconditioner import factor_bytes
from bregma.admm.problem import Constants
from bregma.admm.settings import Settings
from bregma.admm.solver import ADMM
from bregma.admm.start import forward_start, random_start
from bregma.admm.targets import RULES
from bregma.admm.training import ConsistentTraining

_FULL_BATCH = 2000  # samples up to which all are taken at once
_BATCH = 200
_RIDGE = {"consistent": 10.0, "paper": 1e-6}
_FULL_STEP, _STEP = 0.3, 0.05


def checked(p: Parameters) -> Parameters:
    """The parameters as `normalised` gives them, if all of them are allowed.

    Raises:
        TypeError: naming the parameter, its value and what is allowed, before any work.
        ValueError: likewise.
    """
    found = normalised(p)
    if found["solver"] == "paper":
        paper_settings(found)
    else:
        consistent_settings(found, full=True, iterations=None)
    return found


def batch_of(p: Parameters, samples: int) -> int:
    """How many samples an iteration sees."""
    if p["solver"] == "paper":
        return samples
    wanted: int = p["batch_size"] or (samples if samples <= _FULL_BATCH else _BATCH)
    return min(wanted, samples)


def iterations_of(p: Parameters, samples: int) -> tuple[int, int]:
    """How many iterations there will be, and after how many of them the network is measured.

    By default the paper's 1,000 and 10, else 10 epochs and one.
    """
    epoch = -(-samples // batch_of(p, samples))
    total, every = (1000, 10) if p["solver"] == "paper" else (10 * epoch, epoch)
    return p["iterations"] or total, p["measure_every"] or every


def step_of(p: Parameters, full: bool) -> float:
    """By how much of their norm hidden weights move, with all samples at once or on mini-batches."""
    usual = _FULL_STEP if full else _STEP
    step: float = usual if p["step"] is None else p["step"]
    return step


def lasting(p: Parameters, samples: int) -> Parameters:
    """The parameters that a fit must share with the checkpoint it goes on from.

    How long it is and what it shows may differ, but for the length that a schedule of steps depends on.
    """
    scheduled = p["solver"] == "consistent" and batch_of(p, samples) < samples
    free = ("measure_every", "verbose", *(() if scheduled else ("iterations",)))
    kept = {name: value for name, value in p.items() if name not in free}
    if isinstance(p["class_weight"], dict):  # JSON takes no label of numpy
        kept["class_weight"] = {str(label): weight for label, weight in p["class_weight"].items()}
    return kept


def require_iteration(solver: ConsistentADMM, steps: int, samples: int, full: bool = False) -> None:
    """Refuse an iteration of the consistent solver that would not fit, see `require_batch_memory`."""
    features, density = [layer.shape[1] for layer in solver.synapses], solver.settings.density
    factors = 0 if density is None else sum(factor_bytes(layer.shape, density) for layer in solver.synapses)
    neurons = [solver.inputs, *solver.neurons]
    require_batch_memory(steps, samples, neurons, [*features, neurons[-1]], full, held=factors)


def shapes(p: Parameters, inputs: int, classes: int) -> list[tuple[int, int]]:
    """Those of the weights of each layer, the readout's last."""
    synapses = build(p["hidden"], inputs, p["frame_shape"])
    return [*(layer.shape for layer in synapses), (classes, synapses[-1].neurons)]


def constants(p: Parameters) -> Constants:
    """Those of the dynamics, and of the paper's Lagrangian."""
    values = {field.name: p[field.name] for field in fields(Constants) if field.name != "ridge"}
    return Constants(ridge=_RIDGE[p["solver"]] if p["ridge"] is None else p["ridge"], **values)


def paper_settings(p: Parameters) -> Settings:
    """How to run Algorithm 2."""
    return Settings(constants(p), **{f.name: p[f.name] for f in fields(Settings) if f.name != "constants"})


def consistent_settings(p: Parameters, full: bool, iterations: int | None) -> ConsistentSettings:
    """How to run the consistent solver."""
    rule = RULES[p["rule"]]() if isinstance(p["rule"], str) else p["rule"]
    own = constants(p)
    return ConsistentSettings(
        constants=Constants(decay=own.decay, threshold=own.threshold),
        rule=rule,
        loss=p["loss"],
        readout=p["readout"],
        step=step_of(p, full),
        iterations=iterations,
        ridge=own.ridge,
        readout_ridge=p["readout_ridge"],
        density=p["density"],
    )


def consistent_solver(p: Parameters, inputs: int, classes: int, settings: ConsistentSettings) -> ConsistentADMM:
    """The consistent solver, before its first data."""
    return ConsistentADMM(p["hidden"], inputs, classes, settings, frame_shape=p["frame_shape"], seed=p["random_state"])


def consistent_training(p: Parameters, data: Data, classes: NDArray[Any]) -> ConsistentTraining:
    """The consistent solver on all samples or on mini-batches of them."""
    x, codes = data
    samples, batch = len(codes), batch_of(p, len(codes))
    full = batch == samples
    settings = consistent_settings(p, full, None if full else iterations_of(p, samples)[0])
    solver = consistent_solver(p, x.shape[2], len(classes), settings)
    y, weight = coded(p, codes, len(classes)), sample_weights(p, codes, classes)
    require_iteration(solver, len(x), batch, full)

    def fetch(at: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        part = x if len(at) == samples else x[:, at]
        return part.to(torch.float32), y[at], None if weight is None else weight[at]

    return ConsistentTraining(solver, fetch, samples, batch=batch, seed=p["random_state"])


def online_solver(p: Parameters, inputs: int, classes: int) -> ConsistentADMM:
    """The consistent solver for a stream of mini-batches without end."""
    return consistent_solver(p, inputs, classes, consistent_settings(p, full=False, iterations=None))


def batch(
    p: Parameters, solver: ConsistentADMM, data: Data, classes: NDArray[Any]
) -> tuple[Tensor, Tensor, Tensor | None]:
    """A mini-batch of a stream as the consistent solver takes it: frames, coded labels, weights of samples.

    Raises:
        MemoryError: an iteration on it would not fit.
    """
    x, codes = data
    require_iteration(solver, len(x), len(codes))
    return x.to(torch.float32), coded(p, codes, len(classes)), sample_weights(p, codes, classes)


def scores(p: Parameters, x: Tensor, weights: list[Tensor]) -> Tensor:
    """The readout of the true network (B, classes)."""
    if p["solver"] == "consistent":
        settings = consistent_settings(p, full=True, iterations=None)
        found: Tensor = consistent_solver(p, x.shape[2], len(weights[-1]), settings).scores(x, weights)
    else:
        network = Network.build(p["hidden"], x.shape[2], len(weights[-1]), p["frame_shape"])
        found = forward(x, weights, constants(p), network.correlations)
    return found


def paper_copies(multipliers: str, anderson: int, saved: bool) -> int:
    """How many tensors of the size of a membrane or spike variable the paper's solver holds for it.

    Args:
        multipliers: see `Settings`.
        anderson: see `Settings`.
        saved: there are checkpoints: copies, and their bytes before they are written, pairs of Anderson included.
    """
    pairs = 2 * (anderson + 1) if anderson else 0
    passing = max(3 if anderson else 0, 2 + pairs if saved else 0)  # before, after, and what is proposed
    return (1 + (multipliers == "all")) * (1 + pairs + passing)


def paper_training(
    p: Parameters, data: Data, classes: NDArray[Any], weights: list[Tensor] | None = None, saved: bool = False
) -> PaperTraining:
    """The paper's solver on all samples.

    Args:
        p: parameters.
        data: frames and label codes.
        classes: the labels.
        weights: to start from the true forward pass of.
        saved: memory must be enough for checkpoints.
    """
    x, codes = data
    network = Network.build(p["hidden"], x.shape[2], len(classes), p["frame_shape"])
    frames = 0 if x.dtype == torch.float32 and x.is_contiguous() else 4 * x.numel()
    copies = paper_copies(p["multipliers"], p["anderson"], saved)
    require_memory(x.shape[0], x.shape[1], (x.shape[2], *network.sizes), copies, held=frames)
    x, start, seed = x.to(torch.float32).contiguous(), None, p["random_state"]
    if weights is not None:
        start = forward_start(x, weights, constants(p), network.correlations)
    elif p["init"] == "forward":
        generator = torch.Generator().manual_seed(seed)
        start = random_start(x, network.sizes, constants(p), generator, network.correlations)
    y = coded(p, codes, len(classes))
    frame_shape, settings = p["frame_shape"], paper_settings(p)
    return PaperTraining(ADMM(x, y, p["hidden"], settings, frame_shape=frame_shape, seed=seed, start=start))


def coded(p: Parameters, codes: Tensor, classes: int) -> Tensor:
    """What the readout of a squared error should be (B, classes)."""
    off, on = p["coding"]
    y: Tensor = off + (on - off) * torch.nn.functional.one_hot(codes, classes).to(torch.float32)
    return y


def sample_weights(p: Parameters, codes: Tensor, classes: NDArray[Any]) -> Tensor | None:
    """By the weight of their classes (B,); None if all are 1.

    Raises:
        ValueError: weights of unknown classes, or none above 0.
    """
    if p["class_weight"] is None:
        return None
    weights = compute_class_weight(p["class_weight"], classes=classes, y=classes[codes.numpy()])
    by_class: Tensor = torch.from_numpy(np.asarray(weights, dtype=np.float32))
    if not bool(by_class.any()):
        raise ValueError(f"class_weight must be > 0 for at least one class, got {p['class_weight']}")
    return by_class[codes]
