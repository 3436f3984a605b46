"""The linear systems of the spikes' update: ``(rho W^T W + shift I) a = product`` for many right-hand sides."""

import torch
from torch import Tensor

from bregma.admm.products import times
from bregma.admm.updates import cholesky


class SpikeSystem:
    """Solves for the spikes of a layer that feeds the weights W; made once per layer, iteration and shift.

    Where W has at most half as many rows as columns (a readout), the matrix inversion lemma replaces the n x n system
    by one of the size of the rows. Otherwise the n x n inverse is formed from a Cholesky factor in float64 and rounded
    once: its smallest eigenvalue is at least ``shift``, so that is as accurate as two triangular solves in the dtype of
    the spikes, and takes half of their time.

    Args:
        weight: W of the next layer (m, n).
        rho: weight of the dynamics, > 0.
        shift: see `bregma.admm.updates.spike_shift`, > 0.

    Example:
        >>> system = SpikeSystem(torch.tensor([[1.0, 1.0]]), rho=1.0, shift=1.0)
        >>> system.solve(torch.tensor([[3.0, 0.0]]), torch.empty(1, 2))
        tensor([[ 2., -1.]])
    """

    def __init__(self, weight: Tensor, rho: float, shift: float) -> None:
        self.weight, self.shift = weight, shift
        exact = weight.double()
        self.thin = 2 * len(weight) <= weight.shape[1]
        if self.thin:
            inner = torch.cholesky_inverse(cholesky(exact @ exact.T, shift / rho))
            self.matrix = (inner @ exact).to(weight.dtype)
        else:
            self.matrix = torch.cholesky_inverse(cholesky(rho * (exact.T @ exact), shift)).to(weight.dtype)

    def solve(self, product: Tensor, out: Tensor) -> Tensor:
        """Solutions (rows, n) for right-hand sides (rows, n), written to ``out``."""
        if not self.thin:
            return times(product, self.matrix, out)
        torch.sub(product, (product @ self.weight.T) @ self.matrix, out=out)
        return out.div_(self.shift)
