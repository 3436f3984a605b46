r"""ADMM that starts every iteration at a feasible point: the true network.

In trace form (`bregma.admm.traces`) the augmented Lagrangian of the relaxed network is

    loss(W_L f, y) + sum_l rho/2 ||z_l - W_l F a_{l-1} + threshold S F a_l||^2 + sigma/2 ||a_l - H(z_l)||^2 .

One iteration runs the true network (all residuals are zero), then sweeps backward once:

1. readout: least squares on the features f (`bregma.admm.readout`), with the residual E;
2. from the last hidden layer to the first: the z-minimisation (`bregma.admm.targets`) moves the membranes by D_l for
   the gain g; the a-minimisation, to first order in rho / sigma, hands ``g <- W_l^T F^T D_l`` down;
3. weights: ``min_V ||D_l - V F a_{l-1}||^2 + mu ||V||^2``, one Gram matrix for all neurons of a layer, and a step
   towards it of a fixed share of the norm of the weights.

Then the true network runs again: nothing that was relaxed is carried over, so memory is that of a batch. With the
window rule step 2 and 3 are the direction of surrogate gradients (through membranes, not through resets), multiplied by
the inverse Gram matrix of the layer's input traces; with the two others no derivative is taken anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bregma.admm.consistent_settings import ConsistentSettings
from bregma.admm.forward import random_layer
from bregma.admm.losses import LOSSES
from bregma.admm.preconditioner import Preconditioner
from bregma.admm.readout import Fit, fit, working_targets
from bregma.admm.statistics import Statistics
from bregma.admm.synapses import Dense, Synapses
from bregma.admm.targets import sample
from bregma.admm.traces import pack, read, readout_kernel

_START_SAMPLES = 400
_HALVINGS = 3  # of a full-batch step
_GROWTH = 1.5

#: Sums tensors over workers, in place.
Reduce = Callable[[Sequence[Tensor]], None]


@dataclass
class Activity:
    """What a true forward pass leaves: spikes from the data to the last hidden layer, membranes, readout features."""

    spikes: list[Tensor]
    membranes: list[Tensor]
    features: Tensor


@dataclass
class _Point:
    """Where full-batch descent stands: the data, the network's activity and the readout that fits it."""

    data: tuple[Tensor, Tensor, Tensor | None]
    activity: Activity
    fit: Fit


class ConsistentADMM:
    """The weights of a network, and the iteration that moves them.

    Args:
        hidden: neurons of each hidden layer.
        inputs: n_0.
        classes: size of the readout.
        settings: see `ConsistentSettings`.
        seed: of the weights' start and of samples for quantiles.
        dtype: of weights and of all computations but sums and factorisations, which are float64.
        reduce: sums over workers, in place; every sum over samples goes through it. Default: one worker.

    Attributes:
        weights: W of each layer (rows, features), the readout's last; None before the first data.
        iteration: how many were done.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> codes = torch.arange(60) % 2
        >>> x = (torch.rand(12, 60, 10, generator=generator) < 0.1 + 0.2 * codes[:, None]).float()
        >>> solver = ConsistentADMM((16,), inputs=10, classes=2)
        >>> for _ in range(5):
        ...     solver.step(x, torch.eye(2)[codes])
        >>> solver.refresh([(x, torch.eye(2)[codes])])
        >>> bool((solver.scores(x).argmax(1) == codes).double().mean() > 0.8)
        True
    """

    def __init__(
        self,
        hidden: Sequence[int],
        inputs: int,
        classes: int,
        settings: ConsistentSettings | None = None,
        *,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        reduce: Reduce | None = None,
    ) -> None:
        self.settings = settings or ConsistentSettings()
        self.loss = LOSSES[self.settings.loss]()
        self.synapses: list[Synapses] = []
        size = inputs
        for neurons in hidden:
            self.synapses.append(Dense(neurons, size))
            size = neurons
        self.generator = torch.Generator().manual_seed(seed)
        self.dtype, self.iteration, self.step_size = dtype, 0, self.settings.step
        self.weights: list[Tensor] = []
        self._classes, self._features = classes, size
        self._reduce: Reduce = reduce or (lambda tensors: None)
        self._layers = [Preconditioner(s.shape[1], self.settings.ridge) for s in self.synapses]
        self._readout = Statistics.empty(size, classes)
        self._point: _Point | None = None

    def step(self, x: Tensor, y: Tensor, weight: Tensor | None = None) -> None:
        """One iteration on a mini-batch, with running statistics.

        Args:
            x: input spikes (T, B, n_0).
            y: coded labels (B, classes).
            weight: of the samples (B,); all 1 by default.
        """
        x, y = self.begin(x), y.to(self.dtype)
        activity = self.run(x)
        residual = self._track(activity.features, y, weight)
        moves = self._sweep(activity, residual, self._due(), self.settings.gram_decay)
        share = self.settings.share(self.iteration)
        for layer, move in enumerate(moves):
            self.weights[layer] = _moved(self.weights[layer], move, share)
        self.iteration += 1
        self._point = None

    def descend(self, x: Tensor, y: Tensor, weight: Tensor | None = None) -> bool:
        """One iteration on all samples: the first of steps s, s/2, s/4, s/8 that lowers the true loss is taken.

        Args:
            x: input spikes (T, B, n_0); calls with the same tensors go on from what the last one computed.
            y: coded labels (B, classes).
            weight: of the samples (B,); all 1 by default.

        Returns:
            Whether one of them did. If not, the weights stay, and the next call tries smaller steps.
        """
        here = self._at(x, y, weight)
        moves = self._sweep(here.activity, here.fit.residual, self._due(full=True), keep=0.0)
        start, size = list(self.weights), self.step_size
        for _ in range(_HALVINGS + 1):
            self.weights = [*(_moved(w, move, size) for w, move in zip(start, moves, strict=False)), start[-1]]
            there = self._evaluate(here.data, here.activity.spikes[0])
            if there.fit.value < here.fit.value:
                break
            size /= 2
        else:
            there, self.weights = here, start
        self._point = there
        self.weights[-1] = there.fit.weight
        self.step_size = size * (_GROWTH if there is not here else 1)
        self.iteration += 1
        return there is not here

    def refresh(self, batches: Iterable[tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]]) -> None:
        """Fit the readout anew to the hidden layers as they are now.

        Args:
            batches: data and coded labels, as for `step`.
        """
        fresh = Statistics.empty(self._features, self._classes)
        for x, y, *weight in batches:
            f, y = self.run(self.begin(x)).features, y.to(self.dtype)
            fresh.merge(Statistics.of(f, working_targets(self.loss, f @ self.weights[-1].T, y), *weight))
        self._sum(fresh)
        self._readout = fresh
        self._solve_readout()

    @torch.no_grad()
    def scores(self, x: Tensor, batch: int = 256) -> Tensor:
        """The readout of the true network (B, classes).

        Args:
            x: input spikes (T, B, n_0).
            batch: samples at a time, which bounds the memory.
        """
        parts = [self.run(pack(part.to(self.dtype))).features @ self.weights[-1].T for part in x.split(batch, dim=1)]
        return torch.cat(parts)

    def measure(self) -> dict[str, Any]:
        """What the last iteration left: ``loss`` of full-batch descent, ``rates`` of the hidden layers, ``step``."""
        loss = {} if self._point is None else {"loss": self._point.fit.value}
        return {**loss, "step": self.step_size if self._point else self.settings.share(self.iteration)}

    @torch.no_grad()
    def begin(self, x: Tensor) -> Tensor:
        """The data ready for products; the first ones start the weights, random with a firing rate of 15 %."""
        x = pack(x.to(self.dtype))
        if not self.weights:
            self.weights, a = [], x[:, :_START_SAMPLES].contiguous()
            for synapses in self.synapses:
                w, a = random_layer(a, synapses.shape[0], self.settings.constants, self.generator, self.settings.rate)
                self.weights.append(w)
            self.weights.append(x.new_zeros(self._classes, self._features))
        return x

    @torch.no_grad()
    def run(self, x: Tensor) -> Activity:
        """A true forward pass."""
        spikes, membranes = [x], []
        for synapses, weight in zip(self.synapses, self.weights, strict=False):
            z, a = synapses.run(spikes[-1], weight, self.settings.constants)
            membranes.append(z)
            spikes.append(a)
        return Activity(spikes, membranes, read(spikes[-1], self._kappa(x)))

    def _kappa(self, x: Tensor) -> Tensor:
        return readout_kernel(self.settings.readout, len(x), self.settings.constants.decay, x)

    def _track(self, f: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
        """The readout of running statistics, and what it leaves of the batch (B, classes)."""
        new = Statistics.of(f, working_targets(self.loss, f @ self.weights[-1].T, y), weight)
        self._sum(new)
        self._readout.decay(self.settings.readout_decay).merge(new)
        self._solve_readout()
        residual = self.loss.residual(f @ self.weights[-1].T, y)
        return residual if weight is None else residual * weight[:, None].to(residual)

    def _solve_readout(self) -> None:
        self.weights[-1] = self._readout.solve(self.settings.readout_ridge).to(self.dtype)

    def _sweep(self, activity: Activity, residual: Tensor, due: Sequence[bool], keep: float) -> list[Tensor]:
        """The weights' least squares of every hidden layer, all at the same point."""
        s, rule = self.settings, self.settings.rule
        g, kappa = (residual @ self.weights[-1])[None], self._kappa(activity.spikes[0])
        ones = torch.ones_like(kappa)
        moves: list[Tensor] = []
        for layer in reversed(range(len(self.synapses))):
            synapses, weight, a, own = self.synapses[layer], self.weights[layer], *activity.spikes[layer : layer + 2]
            z = activity.membranes[layer]
            cuts = self._cuts(g, kappa, z) if rule.sampled else (0.0, 0.0)
            d = synapses.reverse(rule, g, kappa, z, weight, s.constants, cuts)
            moves.append(self._move(layer, d, a, own, due[layer], keep if layer else 1.0))
            if layer:
                g, kappa = synapses.back(d, weight), ones
        return moves[::-1]

    def _move(self, layer: int, d: Tensor, a: Tensor, own: Tensor, due: bool, keep: float) -> Tensor:
        """``(sum d phi^T / count) (gram / count + mu I)^-1``."""
        synapses, preconditioner = self.synapses[layer], self._layers[layer]
        cross = synapses.sums(d, a, own)
        gram = synapses.gram(a, own, self.settings.constants.decay) if due else cross.new_empty(0, 0)
        new = Statistics(gram, cross, cross.new_tensor(synapses.count(a)))
        self._sum(new)
        if due:
            preconditioner.update(Statistics(new.gram, new.gram[:, :0], new.count), keep)
        return preconditioner.apply((new.cross / new.count).to(self.dtype))

    def _due(self, full: bool = False) -> list[bool]:
        """Which layers' Gram matrices are formed in this iteration.

        The data's is formed once in full-batch descent, and after 0, 1, 2, 4, 8 ... mini-batches, which it adds up.
        """
        k = self.iteration
        first = float(self._layers[0].statistics.count) == 0 if full else k & (k - 1) == 0
        later = full or k % self.settings.gram_every == 0 or k < self.settings.gram_every
        return [first, *[later] * (len(self.synapses) - 1)]

    def _cuts(self, g: Tensor, kappa: Tensor, z: Tensor) -> tuple[float, float]:
        """Thresholds of the rule, from a sample of entries."""
        at = sample(z.numel(), self.generator)
        inner = z[0].numel()
        t, rest = at // inner, at % inner
        gains = g.reshape(len(g), -1)[t if len(g) > 1 else 0, rest] * kappa[t]
        return self.settings.rule.cuts(gains, z.reshape(-1)[at], self.settings.constants.threshold)

    def _at(self, x: Tensor, y: Tensor, weight: Tensor | None) -> _Point:
        """The point of these data, computed anew unless the last iteration left it."""
        data = (x, y, weight)
        if self._point is None or any(a is not b for a, b in zip(self._point.data, data, strict=True)):
            self._point = self._evaluate(data, self.begin(x))
            self.weights[-1] = self._point.fit.weight
        return self._point

    def _evaluate(self, data: tuple[Tensor, Tensor, Tensor | None], x: Tensor) -> _Point:
        """A true forward pass, and the readout fitted to it."""
        activity, s = self.run(x), self.settings
        _, y, weight = data
        return _Point(data, activity, fit(activity.features, y, self.loss, s.readout_ridge, weight, s.leave_one_out))

    def _sum(self, statistics: Statistics) -> None:
        self._reduce(list(statistics.tensors().values()))

    def state_dict(self) -> dict[str, Any]:
        """All that a run needs to go on bit by bit, copied."""
        statistics = [*(layer.statistics for layer in self._layers), self._readout]
        return {
            "iteration": self.iteration,
            "step_size": self.step_size,
            "generator": self.generator.get_state(),
            "weights": [weight.clone() for weight in self.weights],
            "statistics": [{k: v.clone() for k, v in part.tensors().items()} for part in statistics],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of a solver of the same network and settings.

        Raises:
            ValueError: the state is of another network.
        """
        shapes = [*(s.shape for s in self.synapses), (self._classes, self._features)]
        found = [tuple(weight.shape) for weight in state["weights"]]
        if found and found != shapes:
            raise ValueError(f"state: weights must be of shapes {shapes}, got {found}")
        *layers, self._readout = map(Statistics.from_tensors, state["statistics"])
        for layer, statistics in zip(self._layers, layers, strict=True):
            layer.load(statistics)
        self.iteration, self.step_size = int(state["iteration"]), float(state["step_size"])
        self.weights = [weight.clone() for weight in state["weights"]]
        self.generator.set_state(state["generator"])
        self._point = None


def _moved(weight: Tensor, move: Tensor, share: float) -> Tensor:
    """``weight`` moved along ``move`` by a share of its norm; where there is nowhere to go, it stays."""
    length = float(move.norm())
    return weight + move * (share * float(weight.norm()) / length) if length > 0 else weight
