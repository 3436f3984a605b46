r"""Thresholds for weights that stay or go together: groups of weights, and n of each m consecutive inputs.

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
