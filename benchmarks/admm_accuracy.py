"""Accuracy against CPU seconds: the paper's solver, the consistent one, and gradient training in two libraries.

Part of `benchmarks/admm.py`. All train 578-128-128-128-10 (decay 0.95, threshold 1) on the same 2,000 recordings of
N-MNIST simulated from MNIST (T 30, 2 x 17 x 17 pixels) on one thread, taking turns, and are measured on 2,000 others
after the same CPU seconds of their own. All but the paper's solver, whose start is its own, begin with the same random
weights. snnTorch's network is the same to the last spike, with the same surrogate derivative, optimizer and loss as
bregma's. Accuracies are those of true forward passes.
"""

import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))
from camera import PIXELS, Recordings, simulated
from contestants import CONSTANTS, Architecture, Consistent, Gradient, kernel
from race import Batches, Runner, race

from bregma.admm import ADMM, Settings, forward
from bregma.data import default_root

NETWORK, SAMPLES, MARKS = Architecture((128, 128, 128), PIXELS), 2000, (1, 2, 5, 10, 20)


class Paper:
    """Algorithm 2 of arXiv 2505.05527, which iterates on all samples at once."""

    def __init__(self, data: Recordings) -> None:
        coded = torch.eye(NETWORK.classes)[data.labels]
        self.solver = ADMM(data.frames(slice(None)), coded, NETWORK.hidden, Settings(order="random"))

    def step(self, x: Tensor, labels: Tensor, share: float) -> None:
        """One iteration; the batch is not looked at."""
        self.solver.step()

    def scores(self, x: Tensor) -> Tensor:
        """Class scores (B, classes) of a true forward pass."""
        return forward(x, self.solver.variables.weights, self.solver.constants)


class SnnTorch(Gradient):
    """Gradient training with snnTorch's layers, else as `Gradient`."""

    def __init__(self, network: Architecture, weights: Sequence[Tensor], **options: Any) -> None:
        import snntorch
        from snntorch import surrogate

        super().__init__(network, weights, **options)
        self.layers = [
            snntorch.Leaky(
                beta=CONSTANTS.decay,
                threshold=CONSTANTS.threshold,
                spike_grad=surrogate.fast_sigmoid(slope=2),
                reset_mechanism="subtract",
                reset_delay=True,
            )
            for _ in weights
        ]

    def output(self, x: Tensor) -> Tensor:
        """Class scores (B, classes)."""
        factors = kernel(len(x), self.kind)
        membranes = [layer.init_leaky() for layer in self.layers]
        trace = torch.zeros(x.shape[1], len(self.weights[-1]))
        for t, frame in enumerate(x.unbind(0)):
            spikes = frame
            for at, (layer, weight) in enumerate(zip(self.layers, self.weights, strict=True)):
                spikes, membranes[at] = layer(F.linear(spikes, weight), membranes[at])
            trace = trace + factors[t] * spikes
        return trace @ self.readout.T


def accuracy_rows(root: Path | None, marks: Sequence[float] = MARKS) -> list[dict[str, Any]]:
    """One row per contestant, with its curve."""
    train, test = recordings(root)
    weights = NETWORK.start(train.frames(slice(0, 400)), 0)
    gradient: dict[str, Any] = {"lr": 4e-3, "loss": "cross-entropy"}
    made = {
        "the paper's solver": lambda: Paper(train),
        "consistent solver": lambda: Consistent(NETWORK, weights, step=0.05, readout_decay=0.9),
        "gradient, bregma's layers": lambda: Gradient(NETWORK, weights, **gradient),
        f"gradient, snnTorch {version('snntorch')}": lambda: SnnTorch(NETWORK, weights, **gradient),
    }
    runners = {}
    for name, make in made.items():
        make().step(*next(Batches(train, 200, 0)), 0.0)  # kernels compile off the clock
        runners[name] = Runner(make(), Batches(train, 200, 0), max(marks))
    race(runners, marks, {"test": test}, turn=2.0)
    return [
        {
            "work": f"accuracy against CPU seconds: {name}",
            "hidden": NETWORK.hidden,
            "samples": SAMPLES,
            "curve": runner.curve,
        }
        for name, runner in runners.items()
    ]


def recordings(root: Path | None) -> tuple[Recordings, Recordings]:
    """Simulated from the first 2,000 images of MNIST's training and test part."""
    parts = []
    for part, seed in (("train", 0), ("t10k", 60_000)):
        bits, labels = simulated(root or default_root(), part, seed, SAMPLES)
        parts.append(Recordings(bits, torch.from_numpy(labels.astype(np.int64))))
    return parts[0], parts[1]
