r"""Thresholds for weights that stay or go together: floors, groups of weights, n of each m consecutive inputs.

In the notation of :mod:`bregma.prox.thresholds`: a group g has the norm :math:`Q_g = \|\omega v\|_g`, and

.. math::
    \arg\min_\theta \tfrac12 \|\theta - v\|_P^2 + \lambda \sum_g \|P^{1/2} \theta_g\|_2
    \quad\Rightarrow\quad \theta_g = \max(1 - \lambda / Q_g, 0)\, v_g

for groups that share no weight. A weight between two neurons is in the group of each and takes both factors: the two
proximal maps one after the other.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from bregma.prox import maps


def group_factors(norms: Tensor, lam: Tensor, prox: str) -> Tensor:
    """Return what the proximal map of the group penalty multiplies each group by: ``prox(Q) / Q``, in [0, 1].

    Args:
        norms: Q of each group, >= 0, (n,).
        lam: threshold, () or (n,).
        prox: ``"soft"``, ``"firm"`` or ``"hard"``.

    Example:
        >>> group_factors(torch.tensor([4.0, 2.0, 1.0]), torch.tensor(2.0), "soft")
        tensor([0.5000, 0.0000, 0.0000])
    """
    shrunk = maps.PROXES[prox](norms, lam.expand_as(norms), None)
    return torch.where(norms > 0, shrunk / norms, 0.0)


def floor_mask(score: Tensor, neuron_floor: int, layer_floor: int) -> Tensor:
    """Mark what must stay of one weight tensor: the best inputs of every neuron, the best of the whole.

    Args:
        score: scores of one tensor, outputs first, (n_out, ...).
        neuron_floor: inputs that every output keeps (all it has if those are fewer).
        layer_floor: weights that the tensor keeps.

    Returns:
        The mask, bool, of the same shape, with ``max(n_out * neuron_floor, layer_floor)`` marks.

    Example:
        >>> floor_mask(torch.tensor([[1.0, 2.0, 3.0], [0.1, 0.3, 0.2]]), 1, 3).int().tolist()
        [[0, 1, 1], [0, 1, 0]]
    """
    rows = score.reshape(score.shape[0], -1)
    mask = torch.zeros_like(rows, dtype=torch.bool)
    mask.scatter_(1, rows.topk(min(neuron_floor, rows.shape[1]), dim=1).indices, True)
    more = layer_floor - int(torch.count_nonzero(mask))
    if more > 0:
        others = rows.masked_fill(mask, -math.inf).flatten()
        mask.view(-1)[others.topk(more).indices] = True
    return mask.view(score.shape)


def row_lams(score: Tensor, mask: Tensor, lam: Tensor) -> Tensor:
    """Return lam for each output of one weight tensor, lowered where a floor keeps scores below it.

    A row that holds a marked score <= ``lam`` has its largest unmarked score as a lam of its own, so that the
    proximal map leaves the marked one alive; a row without unmarked scores has 0.

    Args:
        score: (n_out, ...).
        mask: what stays, bool, of the same shape.
        lam: of all rows, a scalar tensor.

    Returns:
        (n_out, 1, ...), to be broadcast against ``score``.

    Example:
        >>> score = torch.tensor([[3.0, 2.0], [0.5, 0.25]])
        >>> row_lams(score, torch.tensor([[True, False], [True, False]]), torch.tensor(2.0)).flatten()
        tensor([2.0000, 0.2500])
    """
    rows, kept = score.reshape(score.shape[0], -1), mask.reshape(score.shape[0], -1)
    lifted = (kept & (rows <= lam)).any(dim=1)
    own = (rows * ~kept).amax(dim=1)
    return torch.where(lifted, own, lam).view(-1, *[1] * (score.ndim - 1))


def block_mask(score: Tensor, n: int, m: int) -> Tensor:
    """Mark the n best of each m consecutive inputs of every output; the last block of a row may be shorter.

    Among equals some n are marked. Inputs of a convolution are its channels, at each place of the kernel.

    Args:
        score: of one weight tensor, ``(out, in, ...)``, >= 0.
        n: how many of a block are marked.
        m: size of a block.

    Returns:
        The mask, bool, of the same shape.

    Example:
        >>> block_mask(torch.tensor([[3.0, 1.0, 2.0, 0.0, 5.0]]), 2, 4).int()
        tensor([[1, 0, 1, 0, 1]], dtype=torch.int32)
    """
    blocks = _blocks(score, m)
    best = blocks.topk(n, dim=1).indices
    return _unblocked(torch.zeros_like(blocks, dtype=torch.bool).scatter_(1, best, True), score, m)


def block_lams(score: Tensor, mask: Tensor, lam: Tensor, m: int) -> Tensor:
    """Return lam for each weight, which lies between what its block keeps and what it does not.

    It is ``lam`` where that does, and the largest score of the block that is not marked elsewhere.

    Args:
        score: of one weight tensor, ``(out, in, ...)``, >= 0.
        mask: what stays, bool, of the same shape.
        lam: of all blocks, a scalar tensor.
        m: size of a block.

    Returns:
        lam, of the shape of ``score``.

    Example:
        >>> score, mask = torch.tensor([[3.0, 2.0, 0.5, 0.25]]), torch.tensor([[True, False, True, False]])
        >>> block_lams(score, mask, torch.tensor(1.0), 2)
        tensor([[2.0000, 2.0000, 0.2500, 0.2500]])
    """
    q, kept = _blocks(score, m), _blocks(mask.to(score.dtype), m) > 0
    own = (q * ~kept).amax(dim=1, keepdim=True).clamp(min=0.0)
    takes_own = (kept & (q <= lam)).any(dim=1, keepdim=True) | (own > lam)
    return _unblocked(torch.where(takes_own, own, lam).expand_as(q), score, m)


def _blocks(score: Tensor, m: int) -> Tensor:
    """Return the blocks as rows, (blocks, m), padded with -1."""
    rows = score.movedim(1, -1)
    return F.pad(rows, (0, -rows.shape[-1] % m), value=-1.0).reshape(-1, m)


def _unblocked(blocks: Tensor, like: Tensor, m: int) -> Tensor:
    inputs = like.shape[1]
    rows = blocks.reshape(like.shape[0], *like.shape[2:], math.ceil(inputs / m) * m)
    return rows[..., :inputs].movedim(-1, 1)
