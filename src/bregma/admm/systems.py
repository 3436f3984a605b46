"""The linear systems of the spikes' update: ``(rho W^T W + shift I) a = product`` for many right-hand sides."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from bregma.admm.products import times
from bregma.admm.updates import cholesky


class System(Protocol):
    """``(rho W^T W + shift I) a = product`` for rows of right-hand sides (R, n)."""

    def solve(self, product: Tensor, out: Tensor) -> Tensor:
        """Solutions (R, n), written to ``out``."""

    def solve_in_box(self, product: Tensor, start: Tensor) -> Tensor:
        """Minimisers within [0, 1]."""


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
        self.weight, self.rho, self.shift = weight, rho, shift
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

    def multiply(self, a: Tensor) -> Tensor:
        """The left-hand side of the system for rows (rows, n)."""
        return self.rho * ((a @ self.weight.T) @ self.weight) + self.shift * a

    def solve_in_box(self, product: Tensor, start: Tensor) -> Tensor:
        """Solutions (rows, n) with all entries in [0, 1], see `box_minimum`."""
        exact = self.weight.double()
        small = exact @ exact.T if self.thin else exact.T @ exact
        steepest = self.rho * float(torch.linalg.eigvalsh(small)[-1]) + self.shift
        return box_minimum(self.multiply, self.shift, steepest, product, start)


def box_minimum(
    multiply: Callable[[Tensor], Tensor],
    least: float,
    steepest: float,
    product: Tensor,
    start: Tensor,
    tolerance: float = 1e-6,
    most: int = 5000,
) -> Tensor:
    """The minimiser of ``<a, M a> / 2 - <a, product>`` over [0, 1], row by row: the Lagrangian over a box of spikes.

    Accelerated projected gradient with restarts (O'Donoghue and Candes 2015).

    Args:
        multiply: rows (R, n) times M, symmetric and positive definite.
        least: at most the smallest eigenvalue of M.
        steepest: at least the largest eigenvalue of M.
        product: (R, n).
        start: first guess within the box (R, n).
        tolerance: distance to the minimiser, as far as the dtype can tell.
        most: iterations at most.

    Example:
        >>> system = SpikeSystem(torch.tensor([[1.0, 1.0]]), rho=1.0, shift=1.0)
        >>> box_minimum(system.multiply, 1.0, 3.0, torch.tensor([[1.5, -0.5]]), torch.zeros(1, 2))
        tensor([[0.7500, 0.0000]])
    """
    if not start.numel():  # a worker without samples
        return start
    a = ahead = start
    momentum = 1.0
    stop = max(tolerance * least / steepest, torch.finfo(start.dtype).eps)
    for _ in range(most):
        new = (ahead - (multiply(ahead) - product) / steepest).clamp(0, 1)
        move = new - a
        if float(((ahead - new) * move).sum()) > 0:  # momentum works against the gradient
            momentum, ahead = 1.0, a
            continue
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        a, ahead, momentum = new, new + (momentum - 1) / following * move, following
        if float(move.abs().max()) <= stop:
            break
    return a
