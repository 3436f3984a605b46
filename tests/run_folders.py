"""Run folders of any kind of network, made without training."""

import math
from pathlib import Path

import numpy as np
import torch

from bregma.runs.admm_settings import ADMMSettings, SolverName
from bregma.runs.experiment import Experiment, recipe
from bregma.runs.folder import Config, RunFolder, environment


def make_run(
    path: Path,
    *,
    shape: tuple[int, ...] = (2, 6, 5),
    classes: tuple[str, ...] = ("left", "middle", "right"),
    epochs: int = 4,
    finished: bool = True,
    values: str = "events",
    density: float = 0.3,
    accuracy: float = 0.9,
    title: str = "made-up frames",
    steps: int = 7,
    solver: SolverName = "consistent",
    **settings: object,
) -> RunFolder:
    """A run whose numbers follow from the arguments; ``values`` of the input are ``events``, ``counts`` or ``grey``."""
    random = np.random.default_rng(0)
    planned = epochs if finished else epochs + 3
    length: dict[str, object] = {"epochs": planned}
    if settings.get("method") == "admm":
        length = {"admm": ADMMSettings(solver=solver, iterations=planned)}
    experiment = recipe(**{"data": "digits", "hidden": (8,), **length, **settings})
    folder = RunFolder(path)
    folder.create(Config(experiment, shape, steps, classes, title, True, environment()))
    weights = weights_of(experiment, shape, classes, 1.0 if experiment.method == "adam" else density, random)
    rates = {f"hidden.{k}.neurons": 0.1 * (k + 1) for k in range(len(experiment.hidden))}
    densities = {name: torch.count_nonzero(w).item() / w.numel() for name, w in weights.items() if "weight" in name}
    rows = [
        {
            "epoch": epoch,
            "lr": 0.01,
            "train_loss": 2.0 / epoch,
            "train_accuracy": accuracy * epoch / epochs,
            "validation_loss": 2.2 / epoch,
            "validation_accuracy": accuracy * epoch / epochs,
            "density": density,
            "layer_density": densities,
            "nonzero": 10,
            "firing_rate": 0.15,
            "firing_rates": rates,
            "seconds": 1.5 * epoch,
            **({"solver": figures_of(experiment, epoch)} if experiment.method == "admm" else {}),
        }
        for epoch in range(1, epochs + 1)
    ]
    if rows:
        folder.write_metrics(rows)
        folder.write_tensors("best", weights)
    if finished:
        folder.write_tensors("sample", sample_of(experiment, shape, classes, steps, values, random))
        folder.write_summary(
            {
                "method": experiment.method,
                "data": experiment.data,
                "seed": experiment.seed,
                "test_accuracy": accuracy,
                "validation_accuracy": accuracy,
                "best_epoch": epochs,
                "density": density,
                "firing_rate": 0.15,
                "firing_rates": rates,
                "synops": 1234.0,
                "seconds": 1.5 * epochs,
            }
        )
    return folder


def figures_of(experiment: Experiment, iteration: int) -> dict[str, object]:
    layers = len(experiment.hidden)
    if experiment.admm.solver == "consistent":
        return {"loss": 2.0 / iteration, "step": 0.05 - 0.01 * iteration}
    return {
        "lagrangian": 3000.0 / iteration,
        "loss": 2.0 / iteration,
        "primal": 0.1 / iteration,
        "membrane_residuals": [40.0 / iteration] * (layers + 1),
        "spike_residuals": [200.0 / iteration] * layers,
    }


def weights_of(
    experiment: Experiment,
    shape: tuple[int, ...],
    classes: tuple[str, ...],
    density: float,
    random: np.random.Generator,
) -> dict[str, torch.Tensor]:
    def matrix(rows: int, columns: int) -> torch.Tensor:
        kept = random.random((rows, columns)) < density
        return torch.from_numpy((random.normal(size=(rows, columns)) * kept).astype(np.float32))

    tensors, before = {}, math.prod(shape)
    for k, size in enumerate(experiment.hidden):
        tensors[f"hidden.{k}.linear.weight"] = matrix(size, before)
        tensors[f"hidden.{k}.linear.bias"] = torch.zeros(size)
        if experiment.recurrent:
            tensors[f"hidden.{k}.neurons.recurrent.weight"] = matrix(size, size)
        before = size
    return {**tensors, "readout.linear.weight": matrix(len(classes), before)}


def sample_of(
    experiment: Experiment,
    shape: tuple[int, ...],
    classes: tuple[str, ...],
    steps: int,
    values: str,
    random: np.random.Generator,
) -> dict[str, torch.Tensor]:
    """Two samples, the second of which is read rightly."""
    size = (2, steps, math.prod(shape))
    x = {"events": random.random(size) < 0.2, "counts": random.poisson(0.5, size), "grey": random.random(size)}[values]
    return {
        "input": torch.from_numpy(x.astype(np.float32)),
        "label": torch.tensor([0, len(classes) - 1]),
        "prediction": torch.tensor([len(classes) - 1] * 2),
        "scores": torch.from_numpy(random.normal(size=(2, steps, len(classes))).cumsum(1).astype(np.float32)),
        **{
            f"spikes/hidden.{k}.neurons": torch.from_numpy((random.random((2, steps, n)) < 0.3).astype(np.uint8))
            for k, n in enumerate(experiment.hidden)
        },
    }
