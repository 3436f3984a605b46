r"""Thresholds from a density: how many weights stay, which ones, and the lam that keeps exactly those.

Notation: a weight has a dual :math:`v` and, in a metric :math:`P = \operatorname{diag}(\omega^2)`, the score
:math:`q = \omega |v|`. The proximal map of :math:`\lambda \|P^{1/2} \theta\|_1` in this metric,

.. math::
    \arg\min_\theta \tfrac12 \|\theta - v\|_P^2 + \lambda \|P^{1/2}\theta\|_1
    = \operatorname{sign}(v) \max(|v| - \lambda / \omega, 0),

keeps the weights with :math:`q > \lambda`, so lam is a quantile of the scores. All functions here are pure; the maps
themselves are in :mod:`bregma.prox.maps`.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bregma.prox import kernels

#: How connections are shared out over the weight tensors.
ALLOCATIONS = ("global", "uniform", "erk", "global+erk")


def cubic_ramp(progress: float, density: float) -> float:
    r"""Return the density at a stage of the ramp, :math:`\rho + (1-\rho)(1-p)^3`, from 1 down to ``density``.

    Args:
        progress: share of the ramp that is done; what lies outside [0, 1] counts as its nearer end.
        density: where the ramp ends, in (0, 1].

    Reference: M. Zhu, S. Gupta, "To prune, or not to prune", arXiv 1710.01878, Eq. 1.

    Example:
        >>> [round(cubic_ramp(progress, 0.1), 4) for progress in (0.0, 0.5, 1.0)]
        [1.0, 0.2125, 0.1]
    """
    left = 1.0 - min(max(progress, 0.0), 1.0)
    return density + (1.0 - density) * left**3


def ramp_end(density: float) -> float:
    """Return after which share of the steps a mask is best fixed: 0.9 at densities from 0.1 on, 0.75 at 0.02 and less.

    Between these it follows the logarithm of the density. The later, the lower the learning rate at which connections
    are chosen; the fewer they are, the more steps they need together after that. Measured, not derived.

    Example:
        >>> [round(ramp_end(density), 3) for density in (0.5, 0.1, 0.05, 0.02)]
        [0.9, 0.9, 0.835, 0.75]
    """
    return min(max(0.9 + 0.15 * math.log(density / 0.1, 5), 0.75), 0.9)


def keep_count(size: int, density: float) -> int:
    """Return how many of ``size`` weights are ``density`` of them: rounded, at least one.

    Example:
        >>> keep_count(21248, 0.05)
        1062
    """
    return min(size, max(1, round(size * density)))


def floor_count(size: int, share: float) -> int:
    """Return the fewest of ``size`` that are ``share`` of them.

    Example:
        >>> floor_count(100, 0.07), math.ceil(100 * 0.07)  # the product is 7.000000000000001
        (7, 8)
    """
    return math.ceil(round(size * share, 6))


def allocate(
    shapes: Sequence[Sequence[int]], total: int, allocation: str, floors: Sequence[int] | None = None
) -> list[int]:
    r"""Share out ``total`` connections over weight tensors; the counts add up to ``total`` exactly.

    * ``"uniform"``: the same density everywhere,
    * ``"erk"``: density in proportion to :math:`(d_0 + d_1 + \dots) / (d_0 d_1 \cdots)` for a tensor of dimensions
      :math:`d_i` (Erdős-Rényi kernel), so that small tensors stay denser.

    No tensor gets more than it has or less than its floor; what that leaves over or takes away is shared by the
    others in the same proportion.

    Args:
        shapes: of the weight tensors.
        total: connections to share out.
        allocation: ``"uniform"`` or ``"erk"``.
        floors: fewest connections of each tensor. Default: none.

    Raises:
        ValueError: an unknown allocation, or a total that the floors or the sizes do not allow.

    Reference: U. Evci et al., "Rigging the lottery", ICML 2020, arXiv 1911.11134, Section 3.

    Example:
        >>> allocate([(256, 700), (256, 256), (20, 256)], 2000, "uniform")
        [1434, 525, 41]
        >>> allocate([(256, 700), (256, 256), (20, 256)], 2000, "erk")
        [1096, 587, 317]
    """
    if allocation not in ("uniform", "erk"):
        raise ValueError(f"allocation must be one of uniform, erk, got {allocation!r}")
    if not shapes:
        raise ValueError("shapes must be of at least one weight tensor, got none")
    sizes = tuple(math.prod(shape) for shape in shapes)
    lowest = tuple([0] * len(sizes) if floors is None else floors)
    if not sum(lowest) <= total <= sum(sizes):
        raise ValueError(f"total must be between {sum(lowest)} (the floors) and {sum(sizes)}, got {total}")
    if total == sum(sizes):
        return list(sizes)
    shares = sizes if allocation == "uniform" else tuple(sum(shape) for shape in shapes)
    points, sums = _bends(shares, lowest, sizes)
    k = min(max(1, bisect.bisect_left(sums, total)), len(points) - 1)
    (below, above), (less, more) = points[k - 1 : k + 1], sums[k - 1 : k + 1]
    share_of_way = (total - less) / (more - less) if more > less else 0.0
    return _whole(_scaled(below + share_of_way * (above - below), shares, lowest, sizes), total, sizes)


def _scaled(scale: float, shares: Sequence[int], lowest: Sequence[int], sizes: Sequence[int]) -> list[float]:
    """Connections in proportion to the shares, within the floors and the sizes."""
    return [min(max(scale * share, low), size) for share, low, size in zip(shares, lowest, sizes, strict=True)]


@functools.lru_cache(maxsize=8)  # the same in every step of a training
def _bends(shares: tuple[int, ...], lowest: tuple[int, ...], sizes: tuple[int, ...]) -> tuple[list[float], list[float]]:
    """Scales where a tensor leaves its floor or is full, and the sums there; from one to the next they are linear."""
    edges = [edge / share for share, *both in zip(shares, lowest, sizes, strict=True) if share for edge in both]
    points = sorted({0.0, *edges})
    return points, [math.fsum(_scaled(point, shares, lowest, sizes)) for point in points]


def halfway(a: Sequence[int], b: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """Return the mean of two ways to share out one number of connections, in whole numbers with the same sum.

    Example:
        >>> halfway([9, 1, 0], [2, 4, 4], sizes=[20, 4, 6])
        [6, 2, 2]
    """
    return _whole([(one + other) / 2 for one, other in zip(a, b, strict=True)], sum(a), sizes)


def _whole(counts: Sequence[float], total: int, sizes: Sequence[int]) -> list[int]:
    """Round to whole numbers with the sum ``total``: down, then one more where the most was cut off."""
    whole = [math.floor(count) for count in counts]
    order = sorted(range(len(counts)), key=lambda i: whole[i] - counts[i])
    while (missing := total - sum(whole)) > 0:
        for i in [i for i in order if whole[i] < sizes[i]][:missing]:
            whole[i] += 1
    return whole


def top_mask(score: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    """Mark the ``keep`` largest of a flat tensor and return the largest of the others with them.

    Among equals the first ones are marked, so the count is always exact.

    Args:
        score: scores >= 0, shape (n,), infinity allowed.
        keep: how many, 0 <= keep <= n.

    Returns:
        The mask, bool (n,), and lam: the largest score that is not marked, a scalar tensor; 0 if all are.

    Raises:
        ValueError: a count out of range, or NaN among the scores.

    Example:
        >>> mask, lam = top_mask(torch.tensor([3.0, 1.0, 2.0, 1.0, 0.5]), 3)
        >>> mask.tolist(), lam.item()
        ([True, True, True, False, False], 1.0)
    """
    mask, lams = top_masks(score, [keep], [score.numel()])
    return mask, lams[0]


def top_masks(score: Tensor, keeps: Sequence[int], sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """`top_mask` of each of the pieces that a flat tensor is made of.

    Args:
        score: see `top_mask`, (n,).
        keeps: how many of each piece, between 0 and its size.
        sizes: of the pieces, one after the other; they add up to n.

    Returns:
        The mask of all, bool (n,), and lam of each piece.

    Example:
        >>> mask, lams = top_masks(torch.tensor([3.0, 1.0, 2.0, 1.0, 0.5]), [1, 2], sizes=[2, 3])
        >>> mask.tolist(), lams.tolist()
        ([True, False, True, True, False], [1.0, 0.5])
    """
    _check_sizes(sizes, score)
    for keep, size in zip(keeps, sizes, strict=True):
        _check_count(keep, size)
    _check_finite(score)
    mask, lams = torch.empty_like(score, dtype=torch.bool), score.new_zeros(len(sizes))
    if kernels.fits(score):
        values, marks, found = kernels.array(score), kernels.array(mask), kernels.array(lams)
        kernels.mark_best(values, _bits(values), _edges(sizes), np.array(keeps), marks, found, _bits(found))
        return mask, lams
    for j, (q, marks) in enumerate(zip(score.split(list(sizes)), mask.split(list(sizes)), strict=True)):
        marks.fill_(True)
        if keeps[j] < len(q):
            lams[j] = q.kthvalue(len(q) - keeps[j]).values
            torch.gt(q, lams[j], out=marks)
            ties = (q == lams[j]).nonzero().flatten()
            marks[ties[: keeps[j] - int(torch.count_nonzero(marks))]] = True
    return mask, lams


def best_counts(score: Tensor, keep: int, sizes: Sequence[int]) -> list[int]:
    """Return how many of the ``keep`` largest of a flat tensor lie in each of the pieces it is made of.

    As `top_mask` marks them, without the mask.

    Args:
        score: see `top_mask`, (n,).
        keep: how many, 0 <= keep <= n.
        sizes: of the pieces, one after the other; they add up to n.

    Example:
        >>> best_counts(torch.tensor([3.0, 1.0, 2.0, 1.0, 0.5]), 3, sizes=[2, 3])
        [2, 1]
    """
    _check_sizes(sizes, score)
    _check_count(keep, score.numel())
    if keep == score.numel():
        return list(sizes)
    if not kernels.fits(score):
        return [int(torch.count_nonzero(part)) for part in top_mask(score, keep)[0].split(list(sizes))]
    _check_finite(score)
    values, counts = kernels.array(score), np.empty(len(sizes), np.int64)
    kernels.count_best(values, _bits(values), _edges(sizes), keep, counts)
    found: list[int] = counts.tolist()
    return found


def _bits(values: kernels.Array) -> kernels.Array:
    return values.view(np.int32 if values.itemsize == 4 else np.int64)


def _edges(sizes: Sequence[int]) -> kernels.Array:
    return np.array([0, *itertools.accumulate(sizes)])


def _check_sizes(sizes: Sequence[int], score: Tensor) -> None:
    if sum(sizes) != score.numel() or min(sizes, default=0) < 0:
        raise ValueError(f"sizes must be >= 0 and add up to {score.numel()}, got {list(sizes)}")


def _check_count(keep: int, size: int) -> None:
    if not 0 <= keep <= size:
        raise ValueError(f"keep must be between 0 and {size}, got {keep}")


def _check_finite(score: Tensor) -> None:
    if bool(score.sum().isnan()):
        raise ValueError("scores must not be NaN: the training diverged")
