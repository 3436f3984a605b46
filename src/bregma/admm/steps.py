r"""Steps of the hidden weights: plain ones, or linearized Bregman steps that leave an exact number of connections.

With a density every hidden layer has a dual variable v. An iteration moves it along the weights' least squares, and the
weights follow by a proximal map whose threshold is a quantile (`bregma.prox.thresholds`):

    v <- v + s ||W|| / ||dW|| dW,      W = v where |v| > lam, else 0,      lam: as many survive as the density says.

That is the linearized Bregman iteration of Yin et al. 2008 on the weights' subproblem, with the hard threshold (the
proximal map of a multiple of the number of connections). Connections that exist move along the least squares on these
alone. One that was cut keeps its dual, and comes back when others fall behind it; where the density is the same from
the start, its dual also moves, along the least squares of it alone on what the others leave.
Every layer has the same density; the readout, a small ridge regression, stays whole and counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bregma.prox.thresholds import allocate, cubic_ramp, keep_count, top_mask

_RAMP = 0.5  # share of a schedule after which the connections are chosen and stay


@dataclass
class Hidden:
    """Weights of the hidden layers, and their dual variables; none without a density."""

    weights: list[Tensor]
    duals: list[Tensor]


class Steps:
    """Where the weights of the hidden layers go.

    Args:
        density: share of all weights, those of the readout included, that are not zero; None: all.
        iterations: of a schedule: the density falls to its value over the first half of them (`cubic_ramp`), then the
            connections stay as they are. None: it is kept from the start, and connections change to the end.
        every: iterations of a schedule from one choice of connections to the next.
        shapes: of the hidden weights.
        readout: number of weights of the readout.

    Raises:
        ValueError: a density that leaves no hidden weights beside the readout.

    Example:
        >>> import torch
        >>> steps = Steps(0.5, None, 1, [(2, 4)], readout=2)
        >>> steps.start([torch.tensor([[4.0, 1.0, 1.0, 0.0], [3.0, 0.0, 1.0, 2.0]])]).weights[0].count_nonzero()
        tensor(3)
    """

    def __init__(
        self,
        density: float | None,
        iterations: int | None,
        every: int,
        shapes: Sequence[tuple[int, int]],
        readout: int,
    ) -> None:
        self._density, self._iterations, self._every = density, iterations, every
        self._shapes, self._readout = list(shapes), readout
        self._last = 0 if iterations is None else max(1, math.floor(_RAMP * iterations))  # then connections stay
        self._total = sum(math.prod(shape) for shape in shapes) + readout
        if density is not None and keep_count(self._total, density) < readout + len(self._shapes):
            least = (readout + len(self._shapes)) / self._total
            raise ValueError(f"density must be >= {least:.4f} for a whole readout of {readout} weights, got {density}")

    def start(self, weights: list[Tensor]) -> Hidden:
        """The first weights and duals from random weights; without a schedule, as sparse as they will be."""
        if self._density is None or self._iterations is not None:
            return Hidden(weights, [] if self._density is None else [weight.clone() for weight in weights])
        sparse = self._thresholded(weights, self._density)
        scaled = [v * (float(v.norm()) / float(w.norm())) for v, w in zip(weights, sparse, strict=True)]
        return Hidden(self._thresholded(scaled, self._density), scaled)  # survivors have the norm of all

    def existing(self, hidden: Hidden, iteration: int) -> list[Tensor] | None:
        """Which connections there are before an iteration; None: all.

        While the density falls, those whose weight is their dual. Recurrent weights start at zero, and stay there as
        long as the neuron that they come from is silent; they are no less connections for that.
        """
        if self._density in (None, 1):
            return None
        if iteration < self._last:
            return [w == v for w, v in zip(hidden.weights, hidden.duals, strict=True)]
        return [w != 0 for w in hidden.weights]

    def stepped(self, hidden: Hidden, moves: Sequence[Tensor], share: float, iteration: int) -> Hidden:
        """Weights and duals moved by a share of the weights' norm; nothing is changed in place."""
        if self._density is None:
            return Hidden([_moved(w, w, move, share) for w, move in zip(hidden.weights, moves, strict=True)], [])
        if self._iterations is None:
            duals = [_moved(v, w, m, share) for v, w, m in zip(hidden.duals, hidden.weights, moves, strict=True)]
            return Hidden(self._thresholded(duals, self._density), duals)
        # Measured: what cut connections would do alone brings back the wrong ones while the density falls.
        masks = self.existing(hidden, iteration) or [torch.ones_like(m, dtype=torch.bool) for m in moves]
        moves = [move * mask for move, mask in zip(moves, masks, strict=True)]
        weights = [_moved(w, w, move, share) for w, move in zip(hidden.weights, moves, strict=True)]
        done = iteration + 1
        if done > self._last:  # the connections are chosen
            return Hidden(weights, weights)
        duals = [torch.where(m, w, v) for m, w, v in zip(masks, weights, hidden.duals, strict=True)]
        if done == self._last or done % self._every == 0:
            weights = self._thresholded(duals, cubic_ramp(done / self._last, self._density))
        return Hidden(weights, duals)

    def _thresholded(self, duals: Sequence[Tensor], density: float) -> list[Tensor]:
        """The largest entries of each layer, as many as the density says."""
        kept = allocate(self._shapes, keep_count(self._total, density) - self._readout, "uniform", [1] * len(duals))
        masks = [top_mask(v.abs().flatten(), keep)[0].view_as(v) for v, keep in zip(duals, kept, strict=True)]
        return [v * mask for v, mask in zip(duals, masks, strict=True)]


def _moved(position: Tensor, weight: Tensor, move: Tensor, share: float) -> Tensor:
    """``position`` moved along ``move`` by a share of the norm of ``weight``; nowhere if there is nowhere to go."""
    length = float(move.norm())
    return position + move * (share * float(weight.norm()) / length) if length > 0 else position
