"""The backward sweep of the consistent solver: from what the readout misses to the weights' least squares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bregma.admm.consistent_settings import ConsistentSettings
from bregma.admm.preconditioner import Preconditioner
from bregma.admm.statistics import Statistics
from bregma.admm.synapses import Synapses
from bregma.admm.targets import Cuts, sample


@dataclass
class Activity:
    """What a true forward pass leaves.

    Args:
        spikes: the data and the spikes of each hidden layer (T, B, n).
        membranes: of each hidden layer (T, B, n).
        features: of the readout (B, n).
        kappa: what a spike of the last hidden layer adds to its feature at each step (T,).
    """

    spikes: list[Tensor]
    membranes: list[Tensor]
    features: Tensor
    kappa: Tensor


class Sweep:
    """The hidden layers' minimisations over z, a and W, from the last to the first, all at one feasible point.

    Args:
        synapses: of each hidden layer.
        settings: see `ConsistentSettings`.
        generator: of samples for quantiles.
        dtype: of the weights.
    """

    def __init__(
        self,
        synapses: Sequence[Synapses],
        settings: ConsistentSettings,
        generator: torch.Generator,
        dtype: torch.dtype,
    ) -> None:
        self._synapses, self._settings, self._generator, self._dtype = synapses, settings, generator, dtype
        self._layers = [Preconditioner(layer.shape[1], settings.ridge) for layer in synapses]
        self._of_data = [k == 0 and not layer.hears_itself for k, layer in enumerate(synapses)]

    @property
    def statistics(self) -> list[Statistics]:
        """Those of the Gram matrices."""
        return [layer.statistics for layer in self._layers]

    def load(self, statistics: Sequence[Statistics]) -> None:
        """Take over those of another."""
        for layer, value in zip(self._layers, statistics, strict=True):
            layer.load(value)

    def forget_data(self) -> None:
        """Other data come: the Gram matrix of the former ones is of no use."""
        for layer, synapses, of_data in zip(self._layers, self._synapses, self._of_data, strict=True):
            if of_data:
                layer.load(Statistics.empty(synapses.shape[1], 0))

    def sums(
        self, weights: Sequence[Tensor], activity: Activity, residual: Tensor, iteration: int | None
    ) -> list[Statistics]:
        """The sums over samples of the least squares of every hidden layer's weights.

        Args:
            weights: of all layers, the readout's last.
            activity: of the true network.
            residual: what the readout should change by (B, classes).
            iteration: number of mini-batches before this one; None where these are all samples.

        Returns:
            Statistics of each hidden layer; with Gram matrices (0, 0) for the layers whose are not due.
        """
        due, s = self._due(iteration), self._settings
        if not len(residual):  # a worker without samples
            return [_nothing(synapses.shape, now) for synapses, now in zip(self._synapses, due, strict=True)]
        found: list[Statistics] = []
        for layer, d in self.displacements(weights, activity, residual):
            synapses, a, own = self._synapses[layer], activity.spikes[layer], activity.spikes[layer + 1]
            cross = synapses.sums(d, a, own)
            gram = synapses.gram(a, own, s.constants.decay) if due[layer] else cross.new_empty(0, 0)
            found.append(Statistics(gram, cross.T, cross.new_tensor(synapses.count(a))))
        return found[::-1]

    def displacements(
        self, weights: Sequence[Tensor], activity: Activity, residual: Tensor
    ) -> Iterator[tuple[int, Tensor]]:
        """Number of each hidden layer, from the last to the first, and its filtered displacements (T, B, n).

        Args:
            weights: of all layers, the readout's last.
            activity: of the true network.
            residual: what the readout should change by (B, classes), B >= 1.
        """
        s = self._settings
        g, kappa = (residual @ weights[-1])[None], activity.kappa
        for layer in reversed(range(len(self._synapses))):
            synapses, weight, z = self._synapses[layer], weights[layer], activity.membranes[layer]
            cuts = self._cuts(g, kappa, z) if s.rule.sampled else (0.0, 0.0)
            d = synapses.reverse(s.rule, g, kappa, z, weight, s.constants, cuts)
            yield layer, d
            if layer:
                g, kappa = synapses.back(d, weight), torch.ones_like(kappa)

    def moves(self, sums: Sequence[Statistics], keep: float, masks: Sequence[Tensor] | None = None) -> list[Tensor]:
        """What each hidden layer's weights should change by, up to a factor.

        ``(cross^T / count) (gram / count + mu I)^-1``.

        Args:
            sums: over all samples.
            masks: connections of each layer that exist; all by default. See `Preconditioner.apply`.
            keep: what former Gram matrices of hidden spikes count when a new one is there; those of the data add up.
        """
        moves = []
        for k, (layer, new, of_data) in enumerate(zip(self._layers, sums, self._of_data, strict=True)):
            if len(new.gram):
                layer.update(Statistics(new.gram, new.gram[:, :0], new.count), 1.0 if of_data else keep)
            cross = (new.cross.T / new.count).to(self._dtype).contiguous()
            moves.append(layer.apply(cross, None if masks is None else masks[k]))
        return moves

    def _due(self, iteration: int | None) -> list[bool]:
        """Which layers' Gram matrices are formed in this iteration.

        That of the data is formed once for all samples, and after 0, 1, 2, 4, 8 ... mini-batches, which it adds up; a
        first layer that hears its own spikes is like those above it.
        """
        unseen = [float(layer.statistics.count) == 0 for layer in self._layers]
        every = self._settings.gram_every
        first = iteration is not None and iteration & (iteration - 1) == 0
        later = iteration is None or iteration % every == 0 or iteration < every
        return [new or (first if of_data else later) for new, of_data in zip(unseen, self._of_data, strict=True)]

    def _cuts(self, g: Tensor, kappa: Tensor, z: Tensor) -> Cuts:
        """Thresholds of the rule, from a sample of entries."""
        at = sample(z.numel(), self._generator)
        inner = z[0].numel()
        t, rest = at // inner, at % inner
        gains = g.reshape(len(g), -1)[t if len(g) > 1 else 0, rest] * kappa[t]
        return self._settings.rule.cuts(gains, z.reshape(-1)[at], self._settings.constants.threshold)


def _nothing(shape: tuple[int, int], due: bool) -> Statistics:
    """The sums of a layer over no samples."""
    rows, features = shape
    zeros = Statistics.empty(features if due else 0, 0)
    return Statistics(zeros.gram, zeros.gram.new_zeros(features, rows), zeros.count)
