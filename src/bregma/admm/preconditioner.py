"""The Gram matrix of what a layer hears, formed now and then, and the least squares of the weights with it."""

from __future__ import annotations

from torch import Tensor

from bregma.admm.statistics import Statistics


class Preconditioner:
    """``argmin_W ||d - W F phi||^2 + mu ||W||^2`` from the cross matrix of d and the features phi.

    Args:
        features: n.
        ridge: mu, relative to the mean of the Gram matrix' diagonal, > 0.

    Example:
        >>> import torch
        >>> layer = Preconditioner(1, ridge=1.0)
        >>> layer.update(Statistics(torch.tensor([[8.0]]).double(), torch.zeros(1, 0), torch.tensor(2.0)), keep=0.0)
        >>> layer.apply(torch.tensor([[4.0]]).double())
        tensor([[0.5000]], dtype=torch.float64)
    """

    def __init__(self, features: int, ridge: float) -> None:
        self.ridge = ridge
        self.statistics = Statistics.empty(features, 0)
        self._inverse: Tensor | None = None

    def update(self, new: Statistics, keep: float) -> None:
        """Count what was seen before as ``keep`` of what it did, and add ``new``."""
        self.statistics.decay(keep).merge(new)
        self._inverse = None

    def apply(self, cross: Tensor) -> Tensor:
        """Weights (m, n) for a mean cross matrix ``d^T phi`` (m, n), in its dtype."""
        if self._inverse is None or self._inverse.dtype != cross.dtype:
            self._inverse = self.statistics.inverse(self.ridge).to(cross)
        return cross @ self._inverse

    def load(self, statistics: Statistics) -> None:
        """Take over statistics of another."""
        self.statistics, self._inverse = statistics, None
