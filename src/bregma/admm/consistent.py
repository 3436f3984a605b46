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

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bregma.admm.consistent_settings import ConsistentSettings
from bregma.admm.layers import Layer
from bregma.admm.losses import LOSSES
from bregma.admm.readout import Fit, fit, refit, working_targets
from bregma.admm.statistics import Statistics, sum_over
from bregma.admm.steps import Hidden, Steps
from bregma.admm.sweep import Activity, Sweep
from bregma.admm.true_network import TrueNetwork
from bregma.admm.workers import ALONE, Workers

_HALVINGS = 3  # of a full-batch step
_GROWTH = 1.5


@dataclass
class _Point:
    """Where full-batch descent stands: the data, the network's activity and the readout that fits it."""

    data: tuple[Tensor, Tensor, Tensor | None]
    activity: Activity
    fit: Fit


class ConsistentADMM(TrueNetwork):
    """The weights of a network, and the iteration that moves them.

    Args:
        hidden: of each hidden layer its neurons, a `Convolution`, `Recurrent` or `Delayed`.
        inputs: n_0.
        classes: size of the readout.
        settings: see `ConsistentSettings`.
        frame_shape: (channels, height, width) of the inputs, if the first layer is a convolution.
        seed: of the weights' start and of samples for quantiles.
        dtype: of weights and of all computations but sums and factorisations, which are float64.
        workers: a group whose workers hold a part of the samples each; all must call the same methods, and each finds
            the same weights as one worker with all samples (but for rules other than the window, which cut by one
            worker's entries, and large convolutions, whose Gram matrices are estimated from some frames of each).

    Attributes:
        weights: W of each layer (rows, features), the readout's last; empty before the first data.
        duals: of the hidden weights, if there is a density.
        iteration: how many were done.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> codes = torch.arange(60) % 2
        >>> x = (torch.rand(12, 60, 10, generator=generator) < 0.1 + 0.2 * codes[:, None]).float()
        >>> solver = ConsistentADMM((16,), inputs=10, classes=2)
        >>> for _ in range(5):
        ...     solver.step(x, torch.eye(2)[codes])
        >>> solver.weights[-1], loss = solver.refreshed([(x, torch.eye(2)[codes], None)])
        >>> bool((solver.scores(x).argmax(1) == codes).double().mean() > 0.8)
        True
    """

    def __init__(
        self,
        hidden: Sequence[Layer],
        inputs: int,
        classes: int,
        settings: ConsistentSettings | None = None,
        *,
        frame_shape: Sequence[int] | None = None,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        workers: Workers = ALONE,
    ) -> None:
        super().__init__(hidden, inputs, classes, settings or ConsistentSettings(), frame_shape, seed, dtype, workers)
        self.loss = LOSSES[self.settings.loss]()
        self.iteration, self.step_size = 0, self.settings.step
        self.duals: list[Tensor] = []
        self._readout = Statistics.empty(self._features, classes)
        self._sweep = Sweep(self.synapses, self.settings, self.generator, dtype)
        shapes = [layer.shape for layer in self.synapses]
        s = self.settings
        self._steps = Steps(s.density, s.iterations, s.gram_every, shapes, classes * self._features)
        self._point: _Point | None = None

    def step(self, x: Tensor, y: Tensor, weight: Tensor | None = None, *, share: float | None = None) -> None:
        """One iteration on a mini-batch, with running statistics.

        Args:
            x: input spikes (T, B, n_0).
            y: coded labels (B, classes).
            weight: of the samples (B,); all 1 by default.
            share: by how much of their norm the hidden weights move; by default as the settings say.
        """
        self._require_labels(x, y)
        x, y = self.begin(x), y.to(self.dtype)
        if self._point is not None:
            self._adopt(self._point)
        activity = self.run(x)
        readout = self.readout_sums(activity, y, weight)
        sum_over(self._workers, [readout])
        self.take_readout(readout)
        layers = self.layer_sums(activity, y, weight)
        sum_over(self._workers, layers)
        self.take_layers(layers, share)

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
        return self._sweep.sums(self.weights, activity, residual, self.iteration)

    def displacements(self, activity: Activity, y: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Number of each hidden layer, from the last, and the filtered displacements (T, B, n) that its sums are of."""
        residual = self.loss.residual(activity.features @ self.weights[-1].T, y)
        return self._sweep.displacements(self.weights, activity, residual)

    def take_layers(self, new: Sequence[Statistics], share: float | None = None) -> None:
        """Move the hidden layers by sums over all samples of a mini-batch; ``share`` as for `step`."""
        share = self.settings.share(self.iteration) if share is None else share
        moves = self._sweep.moves(new, self.settings.gram_decay, self._masks())
        self._put(self._steps.stepped(self._hidden, moves, share, self.iteration))
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
        layers = self._sweep.sums(self.weights, here.activity, here.fit.residual, None)
        sum_over(self._workers, layers)
        moves = self._sweep.moves(layers, 0.0, self._masks())
        start, size = self._hidden, self.step_size
        for _ in range(_HALVINGS + 1):
            self._put(self._steps.stepped(start, moves, size, self.iteration))
            there = self._evaluate(here.data, here.activity.spikes[0])
            if there.fit.value < here.fit.value:
                break
            there, size = here, size / 2  # what was tried is gone before the next one comes
        else:
            self._put(start)
        self._point = there
        self.weights[-1] = there.fit.weight
        self.step_size = size * (_GROWTH if there is not here else 1)
        self.iteration += 1
        return there is not here

    def refreshed(self, batches: Iterable[tuple[Tensor, Tensor, Tensor | None]]) -> tuple[Tensor, float]:
        """The readout fitted to the hidden layers as they are now; the solver stays as it is.

        Args:
            batches: data, coded labels and weights of samples, as for `step`. The features of all are held at once.

        Returns:
            The readout (classes, n) and the mean loss of a sample with it.
        """
        parts = [(self.run(self.begin(x)).features, y.to(self.dtype), weight) for x, y, weight in batches]
        return refit(parts, self.weights[-1], self.loss, self.settings.readout_ridge, self._workers)

    def measure(self) -> dict[str, Any]:
        """The ``step`` that comes next, and after full-batch descent the mean ``loss`` of a sample."""
        loss = {} if self._point is None else {"loss": self._point.fit.value}
        return {**loss, "step": self.step_size if self._point else self.settings.share(self.iteration)}

    def resume(self, weights: list[Tensor], iteration: int) -> None:
        """Go on from weights alone; statistics start anew, and the weights are their own duals."""
        self.weights, self.iteration = [weight.clone() for weight in weights], iteration
        self.duals = [] if self.settings.density is None else list(self.weights[:-1])

    @property
    def _hidden(self) -> Hidden:
        return Hidden(self.weights[:-1], self.duals)

    def _masks(self) -> list[Tensor] | None:
        """Which hidden connections exist; None: all."""
        return self._steps.existing(self._hidden, self.iteration)

    def _started(self) -> None:
        self._put(self._steps.start(self.weights[:-1]))

    def _put(self, hidden: Hidden) -> None:
        self.weights[:-1], self.duals = hidden.weights, hidden.duals

    def _adopt(self, point: _Point) -> None:
        """Running statistics start with what full-batch descent saw last."""
        f, (_, y, weight) = point.activity.features, point.data
        self._readout = Statistics.of(f, working_targets(self.loss, f @ self.weights[-1].T, y), weight)
        sum_over(self._workers, [self._readout])

    def _solve_readout(self) -> None:
        self.weights[-1] = self._readout.solve(self.settings.readout_ridge).to(self.dtype)

    def _at(self, x: Tensor, y: Tensor, weight: Tensor | None) -> _Point:
        """The point of these data, computed anew unless the last iteration left it."""
        data = (x, y, weight)
        if self._point is None or any(a is not b for a, b in zip(self._point.data, data, strict=True)):
            self._require_labels(x, y)
            self._sweep.forget_data()
            self._point = self._evaluate(data, self.begin(x))
            self.weights[-1] = self._point.fit.weight
        return self._point

    def _evaluate(self, data: tuple[Tensor, Tensor, Tensor | None], x: Tensor) -> _Point:
        """A true forward pass, and the readout fitted to it."""
        activity, s = self.run(x), self.settings
        _, y, weight = data
        readout = fit(activity.features, y, self.loss, s.readout_ridge, weight, s.leave_one_out, self._workers)
        return _Point(data, activity, readout)

    def state_dict(self) -> dict[str, Any]:
        """All that a run needs to go on bit by bit, copied. With several workers all must call this."""
        if self._point is not None:
            self._adopt(self._point)
        statistics = [*self._sweep.statistics, self._readout]
        return {
            "iteration": self.iteration,
            "step_size": self.step_size,
            "generator": self.generator.get_state(),
            "weights": [weight.clone() for weight in self.weights],
            "duals": [dual.clone() for dual in self.duals],
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
        self._sweep.load(layers)
        self.iteration, self.step_size = int(state["iteration"]), float(state["step_size"])
        self.weights = [weight.clone() for weight in state["weights"]]
        self.duals = [dual.clone() for dual in state["duals"]]
        self.generator.set_state(state["generator"])
        self._point = None
