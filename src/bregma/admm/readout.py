r"""The readout solved exactly: a least squares on the features ``f = sum_t kappa_t a_t``.

For the squared error that is the whole answer. Squared hinge and cross-entropy are majorised at the present scores o by
a squared error to the working targets ``o + residual``, whose minimiser lowers the loss (Boehning and Lindsay 1988);
the Gram matrix stays the same, so every further round costs two thin products.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bregma.admm.losses import Loss, SquaredError
from bregma.admm.statistics import Statistics, relative_shift, sum_over
from bregma.admm.updates import cholesky
from bregma.admm.workers import ALONE, Workers

_ROUNDS = 60  # of majorisation
_SETTLED = 1e-4  # relative change of the weights at which it ends
_REFIT_ROUNDS = 30
_LEAST_LEFT = 0.05  # of 1 - h, below which a sample counts as explained by itself alone


def working_targets(loss: Loss, scores: Tensor, y: Tensor) -> Tensor:
    """What a squared error should aim at (B, classes) to lower the loss: ``scores + residual``."""
    return scores + loss.residual(scores, y)


@dataclass(frozen=True)
class Fit:
    """A readout fitted to all samples at once.

    Args:
        weight: (classes, n).
        residual: what the readout should change by, sample by sample (B, classes); weighted like the samples.
        value: mean of the loss over the (weighted) samples.
    """

    weight: Tensor
    residual: Tensor
    value: float


def fit(
    f: Tensor,
    y: Tensor,
    loss: Loss,
    ridge: float,
    weight: Tensor | None,
    leave_one_out: bool,
    workers: Workers = ALONE,
) -> Fit:
    """The minimiser over W of the loss of ``f W^T``, with a ridge.

    Args:
        f: features (B, n).
        y: coded labels (B, classes).
        loss: see `bregma.admm.losses`.
        ridge: relative to the mean of the Gram matrix' diagonal, > 0.
        weight: of the samples (B,); all 1 by default.
        leave_one_out: residual and value are those of each sample under the readout fitted to all others: exact for
            the squared error (``residual / (1 - h)`` with the leverage h), one majorised step for the other losses.
        workers: whose samples the readout is fitted to; residuals are those of the own samples.

    Example:
        >>> f, y = torch.eye(2), torch.eye(2)
        >>> fit(f, y, SquaredError(), 1.0, None, leave_one_out=False).weight
        tensor([[0.5000, 0.0000],
                [0.0000, 0.5000]])
    """
    phi, aim = f.double(), y.double()
    weights = phi.new_ones(len(phi)) if weight is None else weight.double()
    weighted = phi * weights[:, None]
    gram = weighted.T @ phi
    workers.sum([gram])
    factor = cholesky(gram, relative_shift(gram, ridge))
    projection = torch.cholesky_solve(weighted.T, factor)  # (n, B)

    def solve(scores: Tensor) -> Tensor:
        found = (projection @ working_targets(loss, scores, aim)).T.contiguous()
        workers.sum([found])
        return found

    w = solve(torch.zeros_like(aim))
    for _ in range(0 if isinstance(loss, SquaredError) else _ROUNDS):
        new = solve(phi @ w.T)
        settled = float((new - w).norm()) <= _SETTLED * float(new.norm())
        w = new
        if settled:
            break
    scores = phi @ w.T
    if leave_one_out:
        h = (projection.T * phi).sum(1, keepdim=True)
        scores = scores - h / (1 - h).clamp(min=_LEAST_LEFT) * loss.residual(scores, aim)
    value = torch.stack([(weights * loss.each(scores, aim)).sum(), weights.sum()])
    workers.sum([value])
    residual = weights[:, None] * loss.residual(scores, aim)
    return Fit(w.to(f.dtype), residual.to(f.dtype), float(value[0] / value[1]))


def refit(
    parts: Sequence[tuple[Tensor, Tensor, Tensor | None]],
    start: Tensor,
    loss: Loss,
    ridge: float,
    workers: Workers = ALONE,
) -> tuple[Tensor, float]:
    """The minimiser over W of the loss of ``f W^T`` on features that come in parts; only sums over them are formed.

    Args:
        parts: features (B, n), coded labels (B, classes), weights of samples (B,) or None for 1.
        start: the readout to go on from (classes, n); the squared error needs none.
        loss: see `bregma.admm.losses`.
        ridge: see `fit`.
        workers: see `fit`.

    Returns:
        The readout (classes, n) and the mean loss of a sample with it.

    Example:
        >>> f, y = torch.eye(2), torch.eye(2)
        >>> refit([(f[:1], y[:1], None), (f[1:], y[1:], None)], torch.zeros(2, 2), SquaredError(), 1.0)
        (tensor([[0.5000, 0.0000],
                [0.0000, 0.5000]]), 0.25)
    """
    total = Statistics.empty(start.shape[1], len(start))
    for f, y, weight in parts:
        total.merge(Statistics.of(f, working_targets(loss, f @ start.T, y), weight))
    sum_over(workers, [total])
    factor = cholesky(total.gram, total.shift(ridge))
    readout = torch.cholesky_solve(total.cross, factor).T.to(start.dtype)
    for _ in range(0 if isinstance(loss, SquaredError) else _REFIT_ROUNDS - 1):
        cross = torch.zeros_like(total.cross)
        for f, y, weight in parts:
            aim = working_targets(loss, f @ readout.T, y).double()
            cross += f.double().T @ (aim if weight is None else aim * weight.double()[:, None])
        workers.sum([cross])
        readout = torch.cholesky_solve(cross, factor).T.to(start.dtype)
    value = torch.zeros(2, dtype=torch.float64)
    for f, y, weight in parts:
        weights = f.new_ones(len(f)) if weight is None else weight
        each = loss.each(f.double() @ readout.T.double(), y.double())
        value += torch.stack([(weights.double() * each).sum(), weights.double().sum()])
    workers.sum([value])
    return readout, float(value[0] / value[1])
