"""The Gram matrix of what a layer hears, formed now and then, and the least squares of the weights with it."""

from __future__ import annotations

import torch
from torch import Tensor

from bregma.admm.statistics import Statistics, relative_shift

_ENTRIES = 1 << 22  # of the systems that are solved at once
_FEW = 0.25  # share of connections above which systems of their own cost more than they bring


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

    def apply(self, cross: Tensor, mask: Tensor | None = None) -> Tensor:
        """Weights (m, n) for a mean cross matrix ``d^T phi`` (m, n), in its dtype.

        Args:
            cross: see above.
            mask: connections that exist (m, n). If they are a quarter or less, their weights are the least squares of
                these alone, neuron by neuron. Each of the others is the least squares of it alone on what is left.
        """
        if self._inverse is None or self._inverse.dtype != cross.dtype:
            self._inverse = self.statistics.inverse(self.ridge).to(cross)
        whole = cross @ self._inverse
        if mask is None:
            return whole
        gram = self.statistics.mean()
        gram.diagonal().add_(relative_shift(gram, self.ridge))
        few = float(mask.double().mean()) <= _FEW
        held = self._restricted(gram, cross, mask) if few else whole * mask
        left = cross - (held @ gram.to(cross.dtype))
        return torch.where(mask, held, left / gram.diagonal().to(cross.dtype))

    @staticmethod
    def _restricted(gram: Tensor, cross: Tensor, mask: Tensor) -> Tensor:
        """Least squares of every neuron on its own connections; zero elsewhere.

        Neurons with equally many connections are next to each other, so that little of the padded systems is padding.
        """
        counts = mask.sum(1)
        order = counts.argsort()
        rows = max(1, _ENTRIES // max(1, int(counts.max())) ** 2)
        out = torch.zeros_like(cross)
        for part in order.split(rows):
            size = max(1, int(counts[part[-1]]))
            held, at = mask[part].double().topk(size, dim=1)
            pad = torch.diag_embed(1 - held)
            systems = gram[at[:, :, None], at[:, None, :]] * held[:, :, None] * held[:, None, :] + pad
            right = cross[part].gather(1, at).double() * held
            found = torch.cholesky_solve(right[:, :, None], torch.linalg.cholesky(systems))[:, :, 0]
            out[part] = out[part].scatter(1, at, (found * held).to(cross.dtype))
        return out

    def load(self, statistics: Statistics) -> None:
        """Take over statistics of another."""
        self.statistics, self._inverse = statistics, None
