"""Proximal maps with a threshold per weight, and what surrounds them: the metric, the thresholds, the scale.

On the processor each is one pass over memory (`bregma.prox.kernels`), elsewhere torch operations of that arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from bregma.prox import kernels

#: Over-relaxation of `firm`: a weight of this many thresholds or more is not shrunk.
FIRM_GAMMA = 2.0


def fourth_root(values: Tensor, scale: float, out: Tensor) -> None:
    """Write ``(scale * values) ** (1 / 4)`` into ``out``.

    >>> out = torch.empty(2)
    >>> fourth_root(torch.tensor([8.0, 0.0]), 2.0, out)
    >>> out
    tensor([2., 0.])
    """
    if kernels.fits(values, out):
        kernels.fourth_root(kernels.array(values), scale, kernels.array(out))
    else:
        torch.mul(values, scale, out=out).sqrt_().sqrt_()


def cuts_(omega: Tensor, mask: Tensor, lam: Tensor) -> Tensor:
    """Put thresholds in the place of omega: ``lam / omega`` of what the mask marks and infinity for the rest.

    A weight that never had a gradient has omega 0; if it stays, then because all do and lam is 0 too.

    >>> cuts_(torch.tensor([0.0, 2.0, 4.0]), torch.tensor([True, True, False]), torch.tensor(0.0))
    tensor([0., 0., inf])
    """
    if kernels.fits(omega) and lam.numel() == 1:
        kernels.cuts(kernels.array(omega), kernels.array(mask), float(lam))
        return omega
    torch.div(lam, omega, out=omega).nan_to_num_(nan=0.0, posinf=math.inf)
    return torch.where(mask, omega, omega.new_tensor(math.inf), out=omega)


def soft(dual: Tensor, threshold: Tensor, out: Tensor | None = None) -> Tensor:
    """Return ``sign(v) * max(|v| - threshold, 0)``; the threshold is one per weight and may be infinite.

    ``out``, here and in `firm` and `hard`, takes the result instead of new storage.

    >>> soft(torch.tensor([1.0, 0.25, -3.0]), torch.tensor([0.5, 0.5, 1.0]))
    tensor([ 0.5000,  0.0000, -2.0000])
    """
    out = torch.empty_like(dual) if out is None else out
    if kernels.fits(dual, threshold, out):
        kernels.soft(*map(kernels.array, (dual, threshold, out)))
        return out
    x = torch.abs(dual, out=out).sub_(threshold)
    return torch.copysign(x.clamp_(min=0.0), dual, out=x)


def firm(dual: Tensor, threshold: Tensor, out: Tensor | None = None) -> Tensor:
    """Return the proximal map of the minimax concave penalty: soft for small weights, the identity for large ones.

    Between one and ``FIRM_GAMMA`` thresholds it grows at ``gamma / (gamma - 1)`` times the speed of `soft`.

    Reference: C.-H. Zhang, "Nearly unbiased variable selection under minimax concave penalty", Ann. Stat. 38, 2010.

    >>> firm(torch.tensor([1.0, 0.25, -3.0]), torch.tensor([0.75, 0.5, 1.0]))
    tensor([ 0.5000,  0.0000, -3.0000])
    """
    slope = FIRM_GAMMA / (FIRM_GAMMA - 1.0)
    out = torch.empty_like(dual) if out is None else out
    if kernels.fits(dual, threshold, out):
        kernels.firm(*map(kernels.array, (dual, threshold)), slope, kernels.array(out))
        return out
    magnitude = dual.abs()
    x = torch.sub(magnitude, threshold, out=out).clamp_(min=0.0).mul_(slope)
    return torch.copysign(torch.minimum(magnitude, x, out=x), dual, out=x)


def hard(dual: Tensor, threshold: Tensor, out: Tensor | None = None) -> Tensor:
    """Return ``v`` where ``|v| > threshold`` and 0 elsewhere: no shrinkage.

    >>> hard(torch.tensor([1.0, 0.25, -3.0]), torch.tensor([0.5, 0.5, 1.0]))
    tensor([ 1.,  0., -3.])
    """
    out = torch.empty_like(dual) if out is None else out
    if kernels.fits(dual, threshold, out):
        kernels.hard(*map(kernels.array, (dual, threshold, out)))
        return out
    return torch.where(dual.abs() <= threshold, dual.new_zeros(()), dual, out=out)


#: Proximal maps by name.
PROXES: dict[str, Callable[[Tensor, Tensor, Tensor | None], Tensor]] = {"soft": soft, "firm": firm, "hard": hard}


def norm_ratio(dual: Tensor, weights: Tensor) -> Tensor:
    r"""Return delta, the scale that gives the survivors their norm back: :math:`\|v_S\|_2 / \|x\|_2`.

    S are the weights x that are not zero; 1 if there are none.

    >>> norm_ratio(torch.tensor([4.0, 1.0]), torch.tensor([2.0, 0.0]))
    tensor(2.)
    """
    if kernels.fits(dual, weights):
        ours, theirs = kernels.squares(kernels.array(dual), kernels.array(weights))
        return dual.new_tensor(math.sqrt(theirs / ours) if ours > 0 else 1.0)
    norm = torch.linalg.vector_norm(weights)
    ratio = torch.linalg.vector_norm((weights != 0).to(dual.dtype).mul_(dual)) / norm
    return torch.where(norm > 0, ratio, 1.0)
