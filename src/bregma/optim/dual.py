r"""The dual variable: where it starts, in which precision it lives, and weights that begin sparse.

With :math:`J_\delta(\theta) = \lambda J(\theta) + \|\theta\|^2 / (2\delta)` the dual is a subgradient
:math:`v \in \partial J_\delta(\theta)` and the weights are a function of it,
:math:`\theta = \operatorname{prox}_{\delta\lambda J}(\delta v)` (Bungert et al., arXiv 2105.04319, Section 2).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from bregma.optim import checks
from bregma.prox import Penalty


def dual_dtype(p: Tensor) -> torch.dtype:
    """Return the dtype of the dual (and of the moments) of ``p``: never narrower than float32.

    A step of ``lr`` is lost in a float16 or bfloat16 dual, since most steps are below its spacing.

    Example:
        >>> dual_dtype(torch.zeros(2, dtype=torch.bfloat16)), dual_dtype(torch.zeros(2, dtype=torch.float64))
        (torch.float32, torch.float64)
    """
    return torch.promote_types(p.dtype, torch.float32)


def initial_dual(p: Tensor, *, lam: float, delta: float, penalty: Penalty, init: str) -> Tensor:
    r"""Return the dual that a training run with the weights ``p`` starts from, in new storage.

    * ``"anchored"`` and ``"sparse"``: :math:`v_0 = \theta_0/\delta + \lambda\,\partial J(\theta_0)`, so that the
      weights of :math:`v_0` are :math:`\theta_0`;
    * ``"shrink"``: :math:`v_0 = \theta_0/\delta`, so that the first proximal map shrinks the weights.

    A weight that starts at exactly 0 has a dual of exactly 0: the middle of the dead zone.

    Example:
        >>> from bregma.prox import get
        >>> initial_dual(torch.tensor([1.0, 0.0, -2.0]), lam=0.5, delta=1.0, penalty=get("l1"), init="anchored")
        tensor([ 1.5000,  0.0000, -2.5000])
    """
    weights = p.detach().to(dual_dtype(p))
    dual = weights / delta
    if init != "shrink":
        dual += lam * penalty.subgradient(weights)
    return dual


@torch.no_grad()
def sparsify_(params: Iterable[Tensor], density: float, generator: torch.Generator | None = None) -> None:
    """Zero all but a random share ``density`` of each weight tensor, in place, and scale the survivors up.

    Exactly ``round(density * size)`` entries survive, but at least one per row (per output of the layer), since a
    neuron without input never fires and hence never learns. The survivors are multiplied by ``sqrt(size / kept)``,
    which keeps the variance of the layer's output (Bungert et al., arXiv 2105.04319, Section 4.1).

    Args:
        params: weight tensors of two or more dimensions, outputs first.
        density: share of entries to keep, in (0, 1].
        generator: a CPU generator; default: torch's global one. The masks do not depend on the device. Do not seed it
            like the generator that drew the weights: the same numbers would keep the largest of them.

    Raises:
        ValueError: ``density`` is outside (0, 1] or a tensor has fewer than two dimensions; nothing has changed then.

    Example:
        >>> w = torch.ones(10, 40)
        >>> sparsify_([w], 0.25, torch.Generator().manual_seed(0))
        >>> int((w != 0).sum()), float(w.max())
        (100, 2.0)
    """
    checks.share("density", density)
    params = list(params)
    for p in params:
        if p.ndim < 2:
            raise ValueError(f"params must have 2 or more dimensions, got shape {tuple(p.shape)}")
    for p in params:
        if p.numel() == 0:
            continue
        scores = torch.rand(p.shape[0], p[0].numel(), generator=generator)
        scores.scatter_(1, scores.argmax(dim=1, keepdim=True), 2.0)  # the best of each row outranks all others
        kept = min(max(round(density * p.numel()), p.shape[0]), p.numel())
        mask = torch.zeros(p.numel(), dtype=torch.bool)
        mask[scores.flatten().topk(kept).indices] = True
        p.mul_(mask.view(p.shape).to(p.device)).mul_(math.sqrt(p.numel() / kept))
