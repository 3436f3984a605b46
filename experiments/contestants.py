"""What the study of the consistent solver compares: it, gradient training, and weights that nothing trained.

All train the same network from the same weights: hidden layers of LIF neurons (decay 0.95, threshold 1, reset by
subtraction) without bias, Gaussian weights scaled so that 15 % of the spikes are ones, and a readout of the spikes'
traces. A contestant takes batches and knows which share of its time has passed.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from bregma.admm import Constants
from bregma.admm.consistent import ConsistentADMM
from bregma.admm.consistent_settings import ConsistentSettings
from bregma.admm.forward import random_layer
from bregma.admm.targets import RULES
from bregma.dynamics import FastSigmoid, lif, linear

CLASSES = 10
CONSTANTS = Constants()
SURROGATE = FastSigmoid(slope=2.0)  # 1 / (1 + |z - theta| / w)^2 with w = 0.5, the solver's smooth window
RIDGE = 1e-2


class Contestant(Protocol):
    """Something that learns from batches."""

    def step(self, x: Tensor, labels: Tensor, share: float) -> None:
        """Learn from frames (T, B, n) and labels (B,), with the given share of the time behind."""

    def scores(self, x: Tensor) -> Tensor:
        """Class scores (B, classes) of a true forward pass."""


def random_weights(x: Tensor, hidden: Sequence[int], seed: int) -> list[Tensor]:
    """Weights of the hidden layers before training, scaled on the frames x."""
    generator, weights = torch.Generator().manual_seed(seed), []
    for neurons in hidden:
        weight, x = random_layer(x, neurons, CONSTANTS, generator)
        weights.append(weight)
    return weights


def kernel(steps: int, readout: str) -> Tensor:
    """Weight of each step's spikes in the readout: its last membrane, or its membrane averaged over time."""
    powers = CONSTANTS.decay ** torch.arange(steps, dtype=torch.float64)
    return (powers if readout == "last" else powers.cumsum(0) / steps).flip(0).float()


def features(x: Tensor, weights: Sequence[Tensor], readout: str) -> Tensor:
    """Traces (B, n) of the last hidden layer's spikes: the scores are linear in them."""
    for weight in weights:
        x, _ = lif(linear(x, weight), CONSTANTS.decay, CONSTANTS.threshold, detach_reset=True, surrogate=SURROGATE)
    return torch.einsum("t,tbn->bn", kernel(len(x), readout), x)


class Gradient:
    """Surrogate-gradient training with bregma's layers and Adam.

    Args:
        weights: of the hidden layers at the start.
        lr: at its peak; it rises over the first 2 % of the time and falls as half a cosine, or stays.
        loss: "cross-entropy" or "squared".
        schedule: "cosine", "linear" or "constant".
        readout: "last" or "mean".
    """

    def __init__(
        self, weights: Sequence[Tensor], *, lr: float, loss: str, schedule: str = "cosine", readout: str = "last"
    ) -> None:
        self.weights = [weight.clone().requires_grad_() for weight in weights]
        self.readout = torch.zeros(CLASSES, len(weights[-1]), requires_grad=True)
        self.optimizer = torch.optim.Adam([*self.weights, self.readout], lr=lr, fused=True)
        self.lr, self.loss, self.schedule, self.kind = lr, loss, schedule, readout

    def step(self, x: Tensor, labels: Tensor, share: float) -> None:
        """One step of Adam."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * min(1.0, (share + 1e-3) / 0.02) * falling(self.schedule, share)
        scores = self.output(x)
        if self.loss == "cross-entropy":
            loss = F.cross_entropy(scores, labels)
        else:
            loss = F.mse_loss(scores, F.one_hot(labels, CLASSES).float())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def output(self, x: Tensor) -> Tensor:
        """Class scores (B, classes)."""
        return features(x, self.weights, self.kind) @ self.readout.T

    @torch.no_grad()
    def scores(self, x: Tensor) -> Tensor:
        """Class scores (B, classes) of a true forward pass."""
        return self.output(x)


class Control:
    """Random hidden weights and a readout by ridge regression over all batches it saw."""

    def __init__(self, weights: Sequence[Tensor], readout: str = "last") -> None:
        n = len(weights[-1])
        self.weights, self.kind = list(weights), readout
        self.gram, self.moment = torch.zeros(n, n, dtype=torch.float64), torch.zeros(n, CLASSES, dtype=torch.float64)

    @torch.no_grad()
    def step(self, x: Tensor, labels: Tensor, share: float) -> None:
        """Add a batch to the statistics."""
        trace = features(x, self.weights, self.kind).double()
        self.gram += trace.T @ trace
        self.moment += trace.T @ F.one_hot(labels, CLASSES).double()

    @torch.no_grad()
    def scores(self, x: Tensor) -> Tensor:
        """Class scores (B, classes) of a true forward pass."""
        ridge = RIDGE * self.gram.diagonal().mean() * torch.eye(len(self.gram), dtype=torch.float64)
        readout = torch.linalg.solve(self.gram + ridge, self.moment).float()
        return features(x, self.weights, self.kind) @ readout


def falling(schedule: str, share: float) -> float:
    """Factor of a step size when a share of the time has passed."""
    factors = {"cosine": 0.5 + 0.5 * float(torch.cos(torch.tensor(torch.pi * share))), "linear": 1 - share}
    return {**factors, "constant": 1.0}[schedule]


class Consistent:
    """The consistent solver of ADMM on mini-batches.

    Args:
        weights: of the hidden layers at the start.
        schedule: of the steps, see `falling`.
        inputs: n_0.
        **settings: of `bregma.admm.ConsistentSettings`, with the rule by its name or as a rule.
    """

    def __init__(
        self, weights: Sequence[Tensor], *, schedule: str = "linear", classes: int = CLASSES, **settings: Any
    ) -> None:
        rule = settings.pop("rule", "window")
        rule = (
            RULES[rule["name"]](**{k: v for k, v in rule.items() if k != "name"})
            if isinstance(rule, dict)
            else RULES[rule]()
        )
        self.settings, self.schedule = ConsistentSettings(rule=rule, **settings), schedule
        hidden = [len(weight) for weight in weights]
        self.solver = ConsistentADMM(hidden, weights[0].shape[1], classes, self.settings)
        self.solver.weights = [*(weight.clone() for weight in weights), torch.zeros(classes, hidden[-1])]
        self.classes = classes

    @property
    def weights(self) -> list[Tensor]:
        """Of the hidden layers."""
        return self.solver.weights[:-1]

    def step(self, x: Tensor, labels: Tensor, share: float) -> None:
        """One iteration."""
        size = self.settings.step * min(1.0, (share + 1e-3) / 0.01) * falling(self.schedule, share)
        self.solver.settings = replace(self.settings, step=max(size, 1e-9))
        self.solver.step(x, F.one_hot(labels, self.classes).float())

    def scores(self, x: Tensor) -> Tensor:
        """Class scores (B, classes) of a true forward pass."""
        return self.solver.scores(x)
