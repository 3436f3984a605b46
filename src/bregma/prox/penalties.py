r"""Convex penalties: value, proximal map, subgradient and the smallest weight that makes zero a solution.

A penalty is a convex function :math:`J` of one weight tensor, *without* its weight ``lam``; the optimisers minimise
``loss + lam * J``. Every penalty has

* ``value(w)``: :math:`J(w)`, a scalar tensor,
* ``prox(w, step)``: :math:`\operatorname{prox}_{step J}(w) = \arg\min_u \tfrac12\|u - w\|^2 + step\,J(u)`,
* ``subgradient(w)``: one element of :math:`\partial J(w)`, the one that is 0 wherever 0 is allowed and ``w`` is 0,
* ``lam_max(grad)``: the smallest ``lam`` for which ``w = 0`` minimises ``loss + lam * J``, from the gradient at 0.

Reference: N. Parikh, S. Boyd, "Proximal Algorithms", Foundations and Trends in Optimization 1(3), 2014.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F


class Penalty(ABC):
    """What every penalty can do; subclass it to bring your own and name it with :func:`bregma.prox.register`.

    ``min_ndim`` is the smallest number of dimensions a weight tensor must have for the penalty to make sense.
    """

    min_ndim: ClassVar[int] = 0

    @abstractmethod
    def value(self, w: Tensor) -> Tensor:
        """Return J(w) as a scalar tensor."""

    @abstractmethod
    def prox(self, w: Tensor, step: float | Tensor) -> Tensor:
        """Return the proximal point of ``step * J`` at ``w``, a new tensor of the same shape and dtype."""

    @abstractmethod
    def subgradient(self, w: Tensor) -> Tensor:
        """Return one subgradient of J at ``w``, zero wherever ``w`` is zero."""

    @abstractmethod
    def lam_max(self, grad: Tensor) -> Tensor:
        """Return the smallest ``lam`` for which ``-grad`` lies in ``lam * dJ(0)``, a scalar tensor."""

    def mirror(self, out: Tensor, dual: Tensor, lam: float | Tensor, delta: float) -> None:
        """Write ``prox_{delta lam J}(delta * dual)``, the weights that belong to ``dual``, into ``out``.

        The values are copied even where the prox is the identity, so weights and dual never come to share storage;
        ``out`` may be ``dual`` itself. Subclasses may override it to save temporaries.
        """
        out.copy_(self.prox(dual * delta, delta * lam))


@dataclass(frozen=True)
class NoPenalty(Penalty):
    """J(w) = 0: the weights are left alone.

    >>> NoPenalty().prox(torch.tensor([1.0, -2.0]), 0.5)
    tensor([ 1., -2.])
    """

    def value(self, w: Tensor) -> Tensor:
        """Return 0."""
        return w.new_zeros(())

    def prox(self, w: Tensor, step: float | Tensor) -> Tensor:
        """Return a copy of ``w``."""
        return w.clone()

    def subgradient(self, w: Tensor) -> Tensor:
        """Return zeros."""
        return torch.zeros_like(w)

    def lam_max(self, grad: Tensor) -> Tensor:
        """Return 0 if the gradient vanishes, otherwise infinity: no weight of this penalty holds the weights at 0."""
        return torch.where((grad == 0).all(), 0.0, math.inf).to(grad.dtype)

    def mirror(self, out: Tensor, dual: Tensor, lam: float | Tensor, delta: float) -> None:
        """Write ``delta * dual`` into ``out``."""
        out.copy_(dual)
        if delta != 1.0:
            out.mul_(delta)


@dataclass(frozen=True)
class L1(Penalty):
    """J(w) = sum of |w_i|: single weights become exactly zero.

    >>> L1().prox(torch.tensor([1.0, 0.25, -3.0]), 0.5)
    tensor([ 0.5000,  0.0000, -2.5000])
    """

    def value(self, w: Tensor) -> Tensor:
        """Return the sum of magnitudes."""
        return w.abs().sum()

    def prox(self, w: Tensor, step: float | Tensor) -> Tensor:
        """Return ``sign(w) * max(|w| - step, 0)``, the soft threshold."""
        if isinstance(step, Tensor):  # softshrink takes numbers only; this is the same arithmetic
            return w - torch.clamp(w, min=-step, max=step)
        return F.softshrink(w, step)

    def subgradient(self, w: Tensor) -> Tensor:
        """Return the sign, 0 at 0."""
        return w.sign()

    def lam_max(self, grad: Tensor) -> Tensor:
        """Return the largest gradient magnitude."""
        return grad.abs().amax()

    def mirror(self, out: Tensor, dual: Tensor, lam: float | Tensor, delta: float) -> None:
        """Write ``delta * soft(dual, lam)`` into ``out`` without a temporary: J is positively homogeneous."""
        if isinstance(lam, Tensor) or out.dtype != dual.dtype:
            out.copy_(self.prox(dual, lam) * delta)
            return
        torch.ops.aten.softshrink.out(dual, lam, out=out)
        if delta != 1.0:
            out.mul_(delta)


@dataclass(frozen=True)
class NonNegL1(Penalty):
    """J(w) = sum of w_i if all w_i >= 0, otherwise infinity: weights stay excitatory and become exactly zero.

    >>> NonNegL1().prox(torch.tensor([1.0, 0.25, -3.0]), 0.5)
    tensor([0.5000, 0.0000, 0.0000])
    """

    def value(self, w: Tensor) -> Tensor:
        """Return the sum, or infinity if a weight is negative."""
        return torch.where((w < 0).any(), math.inf, w.sum())

    def prox(self, w: Tensor, step: float | Tensor) -> Tensor:
        """Return ``max(w - step, 0)``."""
        return F.relu(w - step)

    def subgradient(self, w: Tensor) -> Tensor:
        """Return 1 where ``w > 0`` and 0 elsewhere (a negative weight has none; its proximal point is 0)."""
        return (w > 0).to(w.dtype)

    def lam_max(self, grad: Tensor) -> Tensor:
        """Return the largest negative gradient: only a loss that falls with a growing weight pulls it off zero."""
        return F.relu(-grad).amax()


@dataclass(frozen=True)
class ElasticNet(Penalty):
    """J(w) = sum of |w_i| + ridge / 2 * w_i^2: exact zeros, and the survivors are shrunk.

    Args:
        ridge: weight of the quadratic part relative to the L1 part, >= 0. Default: 1.

    >>> ElasticNet(ridge=2.0).prox(torch.tensor([1.0, 0.25, -3.0]), 0.5)
    tensor([ 0.2500,  0.0000, -1.2500])
    """

    ridge: float = 1.0

    def __post_init__(self) -> None:
        if not (self.ridge >= 0 and math.isfinite(self.ridge)):
            raise ValueError(f"ridge must be finite and >= 0, got {self.ridge}")

    def value(self, w: Tensor) -> Tensor:
        """Return the L1 norm plus half the squared L2 norm times ``ridge``."""
        return w.abs().sum() + 0.5 * self.ridge * w.square().sum()

    def prox(self, w: Tensor, step: float | Tensor) -> Tensor:
        """Return ``soft(w, step) / (1 + step * ridge)``."""
        return L1().prox(w, step) / (1.0 + step * self.ridge)

    def subgradient(self, w: Tensor) -> Tensor:
        """Return ``sign(w) + ridge * w``."""
        return w.sign() + self.ridge * w

    def lam_max(self, grad: Tensor) -> Tensor:
        """Return the largest gradient magnitude: the quadratic part is flat at zero."""
        return grad.abs().amax()


# The dimensions along which two entries must agree to share a group.
GROUP_AXES: dict[str, tuple[int, ...]] = {"rows": (0,), "columns": (1,), "kernels": (0, 1), "channels": (0,)}


@dataclass(frozen=True)
class GroupL1(Penalty):
    """J(w) = sum over groups of sqrt(group size) * ||w_group||_2: whole groups become exactly zero.

    Args:
        axis: what one group is in a weight of shape ``(out, in, ...)``:

            * ``"rows"``: everything that enters one output, ``w[i]`` (default),
            * ``"columns"``: everything that leaves one input, ``w[:, j]``,
            * ``"kernels"``: one convolution kernel, ``w[i, j]``,
            * ``"channels"``: one output channel of a convolution, ``w[i]``.

            The first two need 2 dimensions or more, the last two 3 or more.

    Reference: M. Yuan, Y. Lin, "Model selection and estimation in regression with grouped variables", JRSS-B 68, 2006.

    >>> GroupL1("rows").prox(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), 0.5)
    tensor([[2.5757, 3.4343],
            [0.0000, 0.0000]])
    """

    axis: str = "rows"

    def __post_init__(self) -> None:
        if self.axis not in GROUP_AXES:
            raise ValueError(f"axis must be one of {', '.join(GROUP_AXES)}, got {self.axis!r}")

    @property
    def min_ndim(self) -> int:  # type: ignore[override]
        """2 for rows and columns, 3 for kernels and channels of a convolution."""
        return 3 if self.axis in ("kernels", "channels") else 2

    def _norms(self, w: Tensor) -> tuple[Tensor, float]:
        """Return the norm of each group, broadcastable against ``w``, and the square root of the group size."""
        kept = GROUP_AXES[self.axis]
        within = [dim for dim in range(w.ndim) if dim not in kept]
        norms = torch.linalg.vector_norm(w, dim=within, keepdim=True)
        return norms, math.sqrt(w.numel() / max(norms.numel(), 1))

    def value(self, w: Tensor) -> Tensor:
        """Return the weighted sum of group norms."""
        norms, weight = self._norms(w)
        return weight * norms.sum()

    def prox(self, w: Tensor, step: float | Tensor) -> Tensor:
        """Return each group scaled by ``max(1 - step * sqrt(size) / norm, 0)``."""
        norms, weight = self._norms(w)
        tiny = torch.finfo(w.dtype).tiny  # an all-zero group stays zero instead of 0 / 0
        return w * (F.relu(norms - step * weight) / norms.clamp(min=tiny))

    def subgradient(self, w: Tensor) -> Tensor:
        """Return ``sqrt(size) * w_group / norm``, 0 for a group that is zero."""
        norms, weight = self._norms(w)
        return weight * w / torch.where(norms > 0, norms, 1.0)

    def lam_max(self, grad: Tensor) -> Tensor:
        """Return the largest gradient norm of a group over the square root of its size."""
        norms, weight = self._norms(grad)
        return norms.amax() / weight


@dataclass(frozen=True)
class Nuclear(Penalty):
    """J(w) = sum of singular values: the matrix gets low rank. More than 2 dimensions: flattened to ``(out, -1)``.

    One singular value decomposition per call.

    >>> Nuclear().prox(torch.diag(torch.tensor([2.0, 0.25])), 0.5)
    tensor([[1.5000, 0.0000],
            [0.0000, 0.0000]])
    """

    min_ndim: ClassVar[int] = 2

    def value(self, w: Tensor) -> Tensor:
        """Return the sum of singular values."""
        return _singular_values(w).sum()

    def prox(self, w: Tensor, step: float | Tensor) -> Tensor:
        """Return ``U max(S - step, 0) V^T``."""
        u, s, vh = _svd(w)
        return ((u * F.relu(s - step)) @ vh).view(w.shape)

    def subgradient(self, w: Tensor) -> Tensor:
        """Return ``U V^T`` over the singular values that are not zero up to rounding."""
        u, s, vh = _svd(w)
        if not w.numel():
            return w.clone()
        noise = s.amax() * max(u.shape[0], vh.shape[1]) * torch.finfo(w.dtype).eps
        return ((u * (s > noise)) @ vh).view(w.shape)

    def lam_max(self, grad: Tensor) -> Tensor:
        """Return the largest singular value of the gradient."""
        return _singular_values(grad).amax()


def _svd(w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    u, s, vh = torch.linalg.svd(w.flatten(1), full_matrices=False)
    return u, s, vh


def _singular_values(w: Tensor) -> Tensor:
    values: Tensor = torch.linalg.svdvals(w.flatten(1))
    return values
