"""The Gram matrix of what a layer hears, formed now and then, and the least squares of the weights with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bregma.admm.statistics import Statistics, relative_shift

_ENTRIES = 1 << 22  # of the systems that are factorised at once
_HELD = 1 << 24  # of the factors that are kept until connections or Gram matrix change: 128 MB
_FEW = 0.25  # share of connections above which systems of their own cost more than they bring


@dataclass
class _Factors:
    """Cholesky factors of some neurons' systems, filled up with ones to the size of the largest.

    Args:
        rows: the neurons (k,).
        at: their connections (k, size), and any others where they have fewer.
        held: one for a connection, zero for filling (k, size).
        lower: the factors (k, size, size).
    """

    rows: Tensor
    at: Tensor
    held: Tensor
    lower: Tensor

    def solve(self, cross: Tensor, out: Tensor) -> None:
        """Write the least squares of these neurons, zero where they have no connection, to their rows of ``out``."""
        right = cross[self.rows].gather(1, self.at).to(self.lower) * self.held
        found = torch.cholesky_solve(right[:, :, None], self.lower)[:, :, 0] * self.held
        out[self.rows] = out[self.rows].scatter(1, self.at, found.to(out.dtype))


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
        self._factors: tuple[Tensor, list[_Factors]] | None = None  # and the connections they are of

    def update(self, new: Statistics, keep: float) -> None:
        """Count what was seen before as ``keep`` of what it did, and add ``new``."""
        self.statistics.decay(keep).merge(new)
        self._inverse = self._factors = None

    def apply(self, cross: Tensor, mask: Tensor | None = None) -> Tensor:
        """Weights (m, n) for a mean cross matrix ``d^T phi`` (m, n), in its dtype.

        Args:
            cross: see above.
            mask: connections that exist (m, n). If they are a quarter or less, their weights are the least squares of
                these alone, neuron by neuron. Each of the others is the least squares of it alone on what is left.
        """
        if mask is None:
            return cross @ self._whole(cross)
        gram = self.statistics.mean()
        gram.diagonal().add_(relative_shift(gram, self.ridge))
        few = float(mask.double().mean()) <= _FEW
        held = self._restricted(gram, cross, mask) if few else cross @ self._whole(cross) * mask
        left = cross - (held @ gram.to(cross.dtype))
        return torch.where(mask, held, left / gram.diagonal().to(cross.dtype))

    def _whole(self, cross: Tensor) -> Tensor:
        if self._inverse is None or self._inverse.dtype != cross.dtype:
            self._inverse = self.statistics.inverse(self.ridge).to(cross)
        return self._inverse

    def _restricted(self, gram: Tensor, cross: Tensor, mask: Tensor) -> Tensor:
        """Least squares of every neuron on its own connections; zero elsewhere."""
        out = torch.zeros_like(cross)
        if self._factors is not None and torch.equal(self._factors[0], mask):
            held: Iterable[_Factors] = self._factors[1]
        else:
            self._factors, held = None, _factorised(gram, mask)
            if len(mask) * int(mask.sum(1).max()) ** 2 <= _HELD:
                held = list(held)
                self._factors = mask.clone(), held
        for factors in held:
            factors.solve(cross, out)
        return out

    def load(self, statistics: Statistics) -> None:
        """Take over statistics of another."""
        self.statistics, self._inverse, self._factors = statistics, None, None


def factor_bytes(shape: tuple[int, int], density: float) -> int:
    """What the systems of a layer's neurons take at a density, those that are kept and those being made.

    Example:
        >>> factor_bytes((256, 256), 0.1)
        9395240
    """
    if density > _FEW:
        return 0
    entries = shape[0] * (shape[1] * density) ** 2
    return int(8 * (entries if entries <= _HELD else 0) + 6 * 8 * min(entries, _ENTRIES))


def _factorised(gram: Tensor, mask: Tensor) -> Iterator[_Factors]:
    """The systems of all neurons, as many at a time as `_ENTRIES` allows.

    Neurons with equally many connections are next to each other, so that little of the padded systems is padding.
    """
    counts = mask.sum(1)
    order = counts.argsort()
    rows = max(1, _ENTRIES // max(1, int(counts.max())) ** 2)
    for part in order.split(rows):
        held, at = mask[part].double().topk(max(1, int(counts[part[-1]])), dim=1)
        systems = gram[at[:, :, None], at[:, None, :]] * held[:, :, None] * held[:, None, :] + torch.diag_embed(
            1 - held
        )
        yield _Factors(part, at, held, torch.linalg.cholesky(systems))
