"""Sums over samples from which a layer's least squares follows: all that workers need to exchange.

With features ``phi`` (R, n) and targets ``t`` (R, m) the weights of

    min_W  sum_r  w_r ||t_r - W phi_r||^2 + c ||W||^2

depend on the data through the Gram matrix, the cross matrix and the count alone. These add up over batches and over
workers, which is Eq. (10) of arXiv 2505.05527, and fade by a common factor for running statistics. A Gram matrix that
is known already is left out, (0, 0), of what is summed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bregma.admm.updates import cholesky, solve_gram
from bregma.admm.workers import ALONE, Workers


@dataclass
class Statistics:
    """Sums over samples, in float64.

    Args:
        gram: ``sum_r w_r phi_r phi_r^T`` (n, n), symmetric; of `solve` and `SharedFit` the lower triangle is enough.
        cross: ``sum_r w_r phi_r t_r^T`` (n, m).
        count: ``sum_r w_r``, a tensor (), so that workers can sum it in place like the others.

    Example:
        >>> one = Statistics.of(torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0]]))
        >>> two = Statistics.of(torch.tensor([[1.0, 1.0]]), torch.tensor([[5.0]]))
        >>> one.merge(two).solve(ridge=0.0).round(decimals=6)
        tensor([[2., 3.]], dtype=torch.float64)
    """

    gram: Tensor
    cross: Tensor
    count: Tensor

    @classmethod
    def empty(cls, features: int, targets: int, device: torch.device | None = None) -> Statistics:
        """Nothing seen yet."""
        gram, cross = (torch.zeros(features, k, dtype=torch.float64, device=device) for k in (features, targets))
        return cls(gram, cross, torch.zeros((), dtype=torch.float64, device=device))

    @classmethod
    def of(cls, features: Tensor, targets: Tensor, weight: Tensor | None = None) -> Statistics:
        """Those of rows of features (R, n) and targets (R, m), weighted by ``weight`` (R,) if given."""
        phi = features.double()
        weighted = phi if weight is None else phi * weight.double()[:, None]
        count = phi.new_tensor(len(phi)) if weight is None else weight.double().sum()
        return cls(weighted.T @ phi, weighted.T @ targets.double(), count)

    def merge(self, other: Statistics) -> Statistics:
        """Add those of other samples, in place."""
        self.gram += other.gram
        self.cross += other.cross
        self.count += other.count
        return self

    def decay(self, factor: float) -> Statistics:
        """Let what was seen count ``factor`` of what it did, in place: before a `merge`, running statistics."""
        self.gram *= factor
        self.cross *= factor
        self.count *= factor
        return self

    def shift(self, ridge: float) -> float:
        """``ridge`` times the mean of the Gram matrix' diagonal: what is added to the diagonal."""
        return relative_shift(self.gram, ridge)

    def solve(self, ridge: float) -> Tensor:
        """The weights (m, n) by a Cholesky factor.

        Args:
            ridge: relative to the mean of the Gram matrix' diagonal, >= 0.

        Raises:
            ValueError: the ridge is too small for a singular Gram matrix.
        """
        weights: Tensor = torch.cholesky_solve(self.cross, cholesky(self.gram, self.shift(ridge))).T
        return weights

    def mean(self) -> Tensor:
        """``gram / count`` (n, n), a new tensor."""
        return self.gram / self.count.clamp(min=1e-300)

    def inverse(self, ridge: float) -> Tensor:
        """``(gram / count + ridge * its mean diagonal * I)^-1`` (n, n), from a Cholesky factor.

        Against the general rule an explicit inverse: with a ridge of a hundredth its condition is harmless, and it
        serves the many products until the Gram matrix is formed anew.
        """
        mean = self.mean()
        inverse: Tensor = torch.cholesky_inverse(cholesky(mean, relative_shift(mean, ridge)))
        return inverse

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name: for checkpoints, and to be summed over workers."""
        return {"gram": self.gram, "cross": self.cross, "count": self.count}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> Statistics:
        """The inverse of `tensors`."""
        return cls(*(tensors[name].clone() for name in ("gram", "cross", "count")))


def sum_over(workers: Workers, parts: Sequence[Statistics]) -> None:
    """Replace each by that of all workers' samples, in place; all of them in one message."""
    workers.sum([tensor for part in parts for tensor in part.tensors().values()])


class SharedFit:
    """Least squares over all workers' samples, the paper's Eq. (4); the Gram matrix of fixed data is summed once.

    Args:
        fixed: the features never change.
        workers: whose samples they are.

    Example:
        >>> one = Statistics.of(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[2.0], [6.0]]))
        >>> SharedFit().weights(one, ridge=0.0, like=torch.empty(0)).round(decimals=5)
        tensor([[2., 3.]])
    """

    def __init__(self, fixed: bool = False, workers: Workers = ALONE) -> None:
        self._fixed, self._workers = fixed, workers
        self._gram: Tensor | None = None

    @property
    def due(self) -> bool:
        """Whether the next statistics must have a Gram matrix."""
        return self._gram is None

    def weights(self, own: Statistics, ridge: float, like: Tensor) -> Tensor:
        """The weights (m, n) in the dtype of ``like``, from statistics of the own samples.

        Args:
            own: without a Gram matrix unless it is `due`; changed in place.
            ridge: absolute, >= 0; zero gives the solution of minimum norm, as the pseudo-inverse does.
            like: tensor in whose dtype the sums were formed.
        """
        sum_over(self._workers, [own])
        gram = own.gram if self._gram is None else self._gram
        if self._fixed:
            self._gram = gram
        return solve_gram(own.cross.T, gram, ridge, like=like)


def relative_shift(gram: Tensor, ridge: float) -> float:
    """``ridge`` times the mean of the diagonal, and one if nothing was ever seen."""
    size = float(gram.diagonal().mean())
    return ridge * size if size > 0 else 1.0
