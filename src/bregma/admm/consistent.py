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

from collections.abc import Iterable, Sequence
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
from bregma.admm.workers import ALONE, Workers, whereabouts

_START_SAMPLES = 400
_HALVINGS = 3  # of a full-batch step
_GROWTH = 1.5


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
        workers: a group whose workers hold a part of the samples each; all must call the same methods, and each finds
            the same weights as one worker with all samples (with the window rule; the others cut by the entries of
            one worker's samples).

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
        workers: Workers = ALONE,
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
        self._workers = workers
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
        readout = self.readout_sums(activity, y, weight)
        self._sum([readout])
        self.take_readout(readout)
        layers = self.layer_sums(activity, y, weight)
        self._sum(layers)
        self.take_layers(layers)

    @torch.no_grad()
    def readout_sums(self, activity: Activity, y: Tensor, weight: Tensor | None = None) -> Statistics:
        """What a mini-batch says of the readout: the first of the two sums over samples that `step` needs.

        Args:
            activity: of `run`.
            y: coded labels (B, classes).
            weight: of the samples (B,); all 1 by default.
        """
        f = activity.features
        return Statistics.of(f, working_targets(self.loss, f @ self.weights[-1].T, y), weight)

    def take_readout(self, new: Statistics, fresh: bool = False) -> None:
        """Let the running statistics of the readout fade, or drop them, add sums over all samples, and solve."""
        self._readout.decay(0.0 if fresh else self.settings.readout_decay).merge(new)
        self._solve_readout()

    @torch.no_grad()
    def layer_sums(self, activity: Activity, y: Tensor, weight: Tensor | None = None) -> list[Statistics]:
        """What a mini-batch says of the hidden layers: the second of the sums that `step` needs.

        Args:
            activity: of `run`.
            y: coded labels (B, classes).
            weight: of the samples (B,); all 1 by default.

        Returns:
            Statistics of each hidden layer; with Gram matrices (0, 0) for the layers whose are not due.
        """
        residual = self.loss.residual(activity.features @ self.weights[-1].T, y)
        if weight is not None:
            residual = residual * weight[:, None].to(residual)
        return self._sweep(activity, residual, self._due())

    def take_layers(self, new: Sequence[Statistics]) -> None:
        """Move the hidden layers by sums over all samples of a mini-batch."""
        share = self.settings.share(self.iteration)
        for layer, move in enumerate(self._moves(new, self.settings.gram_decay)):
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
        layers = self._sweep(here.activity, here.fit.residual, self._due(full=True))
        self._sum(layers)
        moves = self._moves(layers, keep=0.0)
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
        self._sum([fresh])
        self.take_readout(fresh, fresh=True)

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
        x = pack(x.to(self.dtype)) if x.numel() else x.to(self.dtype)
        if not self.weights:
            first, _ = whereabouts(self._workers, x.shape[1])
            self.weights, a = [], x[:, : max(0, _START_SAMPLES - first)].contiguous()
            for synapses in self.synapses:
                w, a = random_layer(
                    a,
                    synapses.shape[0],
                    self.settings.constants,
                    self.generator,
                    self.settings.rate,
                    workers=self._workers,
                )
                self.weights.append(w)
            self.weights.append(x.new_zeros(self._classes, self._features))
        return x

    @torch.no_grad()
    def run(self, x: Tensor) -> Activity:
        """A true forward pass."""
        if not x.numel():  # a worker without samples
            empty = [x.new_zeros(len(x), 0, s.shape[0]) for s in self.synapses]
            return Activity([x, *empty], empty, x.new_zeros(0, self._features))
        spikes, membranes = [x], []
        for synapses, weight in zip(self.synapses, self.weights, strict=False):
            z, a = synapses.run(spikes[-1], weight, self.settings.constants)
            membranes.append(z)
            spikes.append(a)
        return Activity(spikes, membranes, read(spikes[-1], self._kappa(x)))

    def _kappa(self, x: Tensor) -> Tensor:
        return readout_kernel(self.settings.readout, len(x), self.settings.constants.decay, x)

    def _solve_readout(self) -> None:
        self.weights[-1] = self._readout.solve(self.settings.readout_ridge).to(self.dtype)

    def _sweep(self, activity: Activity, residual: Tensor, due: Sequence[bool]) -> list[Statistics]:
        """The sums of the weights' least squares of every hidden layer, all at the same point."""
        if not len(residual):  # a worker without samples
            return [_nothing(synapses.shape, now) for synapses, now in zip(self.synapses, due, strict=True)]
        s, rule = self.settings, self.settings.rule
        g, kappa = (residual @ self.weights[-1])[None], self._kappa(activity.spikes[0])
        ones = torch.ones_like(kappa)
        sums: list[Statistics] = []
        for layer in reversed(range(len(self.synapses))):
            synapses, weight, a, own = self.synapses[layer], self.weights[layer], *activity.spikes[layer : layer + 2]
            z = activity.membranes[layer]
            cuts = self._cuts(g, kappa, z) if rule.sampled else (0.0, 0.0)
            d = synapses.reverse(rule, g, kappa, z, weight, s.constants, cuts)
            cross = synapses.sums(d, a, own)
            gram = synapses.gram(a, own, s.constants.decay) if due[layer] else cross.new_empty(0, 0)
            sums.append(Statistics(gram, cross, cross.new_tensor(synapses.count(a))))
            if layer:
                g, kappa = synapses.back(d, weight), ones
        return sums[::-1]

    def _moves(self, sums: Sequence[Statistics], keep: float) -> list[Tensor]:
        """``(sum d phi^T / count) (gram / count + mu I)^-1`` of every hidden layer."""
        moves = []
        for layer, (preconditioner, new) in enumerate(zip(self._layers, sums, strict=True)):
            if len(new.gram):
                preconditioner.update(Statistics(new.gram, new.gram[:, :0], new.count), keep if layer else 1.0)
            moves.append(preconditioner.apply((new.cross / new.count).to(self.dtype)))
        return moves

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
        readout = fit(activity.features, y, self.loss, s.readout_ridge, weight, s.leave_one_out, self._workers)
        return _Point(data, activity, readout)

    def _sum(self, parts: Sequence[Statistics]) -> None:
        """Over all workers, in one message."""
        self._workers.sum([tensor for part in parts for tensor in part.tensors().values()])

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


def _nothing(shape: tuple[int, int], due: bool) -> Statistics:
    """The sums of a layer over no samples."""
    rows, features = shape
    zeros = Statistics.empty(features if due else 0, 0)
    return Statistics(zeros.gram, zeros.gram.new_zeros(rows, features), zeros.count)
