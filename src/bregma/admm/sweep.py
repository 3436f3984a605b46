"""The backward sweep of the consistent solver: from what the readout misses to the weights' least squares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        total: sums statistics over workers, in place.
    """

    def __init__(
        self,
        synapses: Sequence[Synapses],
        settings: ConsistentSettings,
        generator: torch.Generator,
        total: Callable[[Statistics], None],
    ) -> None:
        self._synapses, self._settings, self._generator, self._total = synapses, settings, generator, total
        self._layers = [Preconditioner(layer.shape[1], settings.ridge) for layer in synapses]

    @property
    def statistics(self) -> list[Statistics]:
        """Those of the Gram matrices."""
        return [layer.statistics for layer in self._layers]

    def load(self, statistics: Sequence[Statistics]) -> None:
        """Take over those of another."""
        for layer, value in zip(self._layers, statistics, strict=True):
            layer.load(value)

    def moves(
        self, weights: Sequence[Tensor], activity: Activity, residual: Tensor, iteration: int | None
    ) -> list[Tensor]:
        """What each hidden layer's weights should change by, up to a factor.

        Args:
            weights: of all layers, the readout's last.
            activity: of the true network.
            residual: what the readout should change by (B, classes).
            iteration: number of mini-batches before this one; None where these are all samples.
        """
        due, keep = self._due(iteration), self._settings.gram_decay if iteration is not None else 0.0
        g, kappa = (residual @ weights[-1])[None], activity.kappa
        moves: list[Tensor] = []
        for layer in reversed(range(len(self._synapses))):
            synapses, weight = self._synapses[layer], weights[layer]
            z, constants, rule = activity.membranes[layer], self._settings.constants, self._settings.rule
            cuts = self._cuts(g, kappa, z) if rule.sampled else (0.0, 0.0)
            d = synapses.reverse(rule, g, kappa, z, weight, constants, cuts)
            a, own = activity.spikes[layer], activity.spikes[layer + 1]
            moves.append(self._move(layer, d, a, own, due[layer], keep if layer else 1.0))
            if layer:
                g, kappa = synapses.back(d, weight), torch.ones_like(kappa)
        return moves[::-1]

    def _move(self, layer: int, d: Tensor, a: Tensor, own: Tensor, due: bool, keep: float) -> Tensor:
        """``(sum d phi^T / count) (gram / count + mu I)^-1``."""
        synapses, preconditioner = self._synapses[layer], self._layers[layer]
        cross = synapses.sums(d, a, own)
        gram = synapses.gram(a, own, self._settings.constants.decay) if due else cross.new_empty(0, 0)
        new = Statistics(gram, cross, cross.new_tensor(synapses.count(a)))
        self._total(new)
        if due:
            preconditioner.update(Statistics(new.gram, new.gram[:, :0], new.count), keep)
        return preconditioner.apply((new.cross / new.count).to(d.dtype))

    def _due(self, iteration: int | None) -> list[bool]:
        """Which layers' Gram matrices are formed in this iteration.

        That of the data is formed once for all samples, and after 0, 1, 2, 4, 8 ... mini-batches, which it adds up.
        """
        unseen = [float(layer.statistics.count) == 0 for layer in self._layers]
        every = self._settings.gram_every
        first = iteration is not None and iteration & (iteration - 1) == 0
        later = iteration is None or iteration % every == 0 or iteration < every
        return [new or (later if layer else first) for layer, new in enumerate(unseen)]

    def _cuts(self, g: Tensor, kappa: Tensor, z: Tensor) -> Cuts:
        """Thresholds of the rule, from a sample of entries."""
        at = sample(z.numel(), self._generator)
        inner = z[0].numel()
        t, rest = at // inner, at % inner
        gains = g.reshape(len(g), -1)[t if len(g) > 1 else 0, rest] * kappa[t]
        return self._settings.rule.cuts(gains, z.reshape(-1)[at], self._settings.constants.threshold)
