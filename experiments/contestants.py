"""What the study of the consistent solver compares: it, gradient training, and weights that nothing trained.

All train the same network from the same weights: hidden layers of LIF neurons (decay 0.95, threshold 1, reset by
subtraction) without bias, Gaussian weights scaled so that 15 % of the spikes are ones, and a readout of the spikes'
traces. A contestant takes batches and knows which share of its time has passed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from bregma.admm import Constants
from bregma.admm.consistent import ConsistentADMM
from bregma.admm.consistent_settings import ConsistentSettings
from bregma.admm.convolution import Convolution
from bregma.admm.layers import Layer, Recurrent
from bregma.admm.targets import RULES
from bregma.dynamics import FastSigmoid, lif, linear, recurrent_lif

CONSTANTS = Constants()
SURROGATE = FastSigmoid(slope=2.0)  # 1 / (1 + |z - theta| / w)^2 with w = 0.5, the solver's smooth window
RIDGE = 1e-2


class Contestant(Protocol):
    """Something that learns from batches."""

    def step(self, x: Tensor, labels: Tensor, share: float) -> None:
        """Learn from frames (T, B, n) and labels (B,), with the given share of the time behind."""

    def scores(self, x: Tensor) -> Tensor:
        """Class scores (B, classes) of a true forward pass."""


@dataclass(frozen=True)
class Architecture:
    """A network.

    Args:
        hidden: layers as `ConsistentADMM` takes them; dense, `Convolution` or `Recurrent` without further delays.
        inputs: n_0.
        classes: size of the readout.
        frame_shape: of the inputs, for convolutions.
    """

    hidden: tuple[Layer, ...]
    inputs: int
    classes: int = 10
    frame_shape: tuple[int, int, int] | None = None

    def solver(self, settings: ConsistentSettings, seed: int = 0) -> ConsistentADMM:
        """The consistent solver of this network, before its first data."""
        return ConsistentADMM(self.hidden, self.inputs, self.classes, settings, frame_shape=self.frame_shape, seed=seed)

    def start(self, x: Tensor, seed: int) -> list[Tensor]:
        """Weights of the hidden layers before training, scaled on the frames x."""
        solver = self.solver(ConsistentSettings(), seed)
        solver.begin(x)
        return solver.weights[:-1]

    def spikes(self, x: Tensor, weights: Sequence[Tensor], surrogate: FastSigmoid = SURROGATE) -> Tensor:
        """Those of the last hidden layer (T, B, n), through bregma's layers; differentiable."""
        dynamics: Any = (CONSTANTS.decay, CONSTANTS.threshold)
        options: Any = {"detach_reset": True, "surrogate": surrogate}
        shape = self.frame_shape
        for layer, weight in zip(self.hidden, weights, strict=True):
            if isinstance(layer, Convolution):
                assert shape is not None
                kernels = weight.view(layer.channels, shape[0], layer.kernel, layer.kernel)
                frames = x.reshape(-1, *shape)
                maps = F.conv2d(frames, kernels, stride=layer.stride, padding=layer.padding)
                shape = (maps.shape[1], maps.shape[2], maps.shape[3])
                x, _ = lif(maps.view(*x.shape[:2], -1), *dynamics, **options)
            elif isinstance(layer, Recurrent):
                heard = x.shape[-1]
                drive = linear(x, weight[:, :heard].contiguous())
                x, _ = recurrent_lif(drive, weight[:, heard:].contiguous(), *dynamics, **options)
            else:
                x, _ = lif(linear(x, weight), *dynamics, **options)
        return x


def kernel(steps: int, readout: str) -> Tensor:
    """Weight of each step's spikes in the readout: its last membrane, or its membrane averaged over time."""
    powers = CONSTANTS.decay ** torch.arange(steps, dtype=torch.float64)
    return (powers if readout == "last" else powers.cumsum(0) / steps).flip(0).float()


def read(spikes: Tensor, readout: str) -> Tensor:
    """Traces (B, n) of spikes (T, B, n): the scores are linear in them."""
    return torch.einsum("t,tbn->bn", kernel(len(spikes), readout), spikes)


class Gradient:
    """Surrogate-gradient training with bregma's layers and Adam.

    Args:
        network: to train.
        weights: of the hidden layers at the start.
        lr: at its peak; it rises over the first 2 % of the time and falls as half a cosine, or stays.
        loss: "cross-entropy" or "squared".
        schedule: "cosine", "linear" or "constant".
        readout: "last" or "mean".
        clip: largest norm of the gradient.
        slope: of the surrogate derivative; that of the solver's window by default.
    """

    def __init__(
        self,
        network: Architecture,
        weights: Sequence[Tensor],
        *,
        lr: float,
        loss: str,
        schedule: str = "cosine",
        readout: str = "last",
        clip: float = float("inf"),
        slope: float = SURROGATE.slope,
    ) -> None:
        self.network = network
        self.weights = [weight.clone().requires_grad_() for weight in weights]
        features = read(network.spikes(torch.zeros(1, 1, network.inputs), weights), readout).shape[1]
        self.readout = torch.zeros(network.classes, features, requires_grad=True)
        self.optimizer = torch.optim.Adam([*self.weights, self.readout], lr=lr, fused=True)
        self.surrogate = FastSigmoid(slope)
        self.lr, self.loss, self.schedule, self.kind, self.clip = lr, loss, schedule, readout, clip

    def step(self, x: Tensor, labels: Tensor, share: float) -> None:
        """One step of Adam."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * min(1.0, (share + 1e-3) / 0.02) * falling(self.schedule, share)
        scores = self.output(x)
        if self.loss == "cross-entropy":
            loss = F.cross_entropy(scores, labels)
        else:
            loss = F.mse_loss(scores, F.one_hot(labels, self.network.classes).float())
        self.optimizer.zero_grad()
        loss.backward()
        if self.clip < float("inf"):
            torch.nn.utils.clip_grad_norm_([*self.weights, self.readout], self.clip)
        self.optimizer.step()

    def output(self, x: Tensor) -> Tensor:
        """Class scores (B, classes)."""
        return read(self.network.spikes(x, self.weights, self.surrogate), self.kind) @ self.readout.T

    @torch.no_grad()
    def scores(self, x: Tensor) -> Tensor:
        """Class scores (B, classes) of a true forward pass."""
        return self.output(x)


class Control:
    """Random hidden weights and a readout by ridge regression over all batches it saw."""

    def __init__(self, network: Architecture, weights: Sequence[Tensor], readout: str = "last") -> None:
        self.network, self.weights, self.kind = network, list(weights), readout
        self.gram: Tensor | float = 0.0
        self.moment: Tensor | float = 0.0

    @torch.no_grad()
    def step(self, x: Tensor, labels: Tensor, share: float) -> None:
        """Add a batch to the statistics."""
        trace = read(self.network.spikes(x, self.weights), self.kind).double()
        self.gram = self.gram + trace.T @ trace
        self.moment = self.moment + trace.T @ F.one_hot(labels, self.network.classes).double()

    @torch.no_grad()
    def scores(self, x: Tensor) -> Tensor:
        """Class scores (B, classes) of a true forward pass."""
        assert isinstance(self.gram, Tensor)
        assert isinstance(self.moment, Tensor)
        ridge = RIDGE * self.gram.diagonal().mean() * torch.eye(len(self.gram), dtype=torch.float64)
        readout = torch.linalg.solve(self.gram + ridge, self.moment).float()
        return read(self.network.spikes(x, self.weights), self.kind) @ readout


class Consistent:
    """The consistent solver of ADMM on mini-batches.

    Args:
        network: to train.
        weights: of the hidden layers at the start.
        schedule: of the steps, see `falling`.
        rule: name of the rule for the membranes, and its options.
        **settings: of `ConsistentSettings`.
    """

    def __init__(
        self,
        network: Architecture,
        weights: Sequence[Tensor],
        *,
        schedule: str = "linear",
        rule: tuple[str, dict[str, Any]] = ("window", {}),
        **settings: Any,
    ) -> None:
        self.settings = ConsistentSettings(rule=RULES[rule[0]](**rule[1]), **settings)
        self.solver, self.schedule, self.classes = network.solver(self.settings), schedule, network.classes
        features = self.solver.neurons[-1]
        self.solver.resume([*weights, torch.zeros(network.classes, features)], 0)

    def step(self, x: Tensor, labels: Tensor, share: float) -> None:
        """One iteration."""
        size = self.settings.step * min(1.0, (share + 1e-3) / 0.01) * falling(self.schedule, share)
        self.solver.step(x, F.one_hot(labels, self.classes).float(), share=size)

    def scores(self, x: Tensor) -> Tensor:
        """Class scores (B, classes) of a true forward pass."""
        return self.solver.scores(x)


def falling(schedule: str, share: float) -> float:
    """Factor of a step size when a share of the time has passed."""
    factors = {"cosine": 0.5 + 0.5 * float(torch.cos(torch.tensor(torch.pi * share))), "linear": 1 - share}
    return {**factors, "constant": 1.0}[schedule]
