"""Surrogate derivatives: what replaces the derivative of the Heaviside step in the backward pass.

The forward pass of a spiking neuron is always the exact step, ``s = H(x)`` with ``x = membrane - threshold``. Its
derivative is zero almost everywhere, so the backward pass uses ``surrogate.derivative(x)`` in its place (Neftci,
Mostafa, Zenke 2019, arXiv 1901.09948). All built-in derivatives but `FastSigmoid` have area one; that one follows the
scale its authors published. A surrogate of your own is any object with a method ``derivative(x) -> Tensor`` made of
differentiable torch functions.
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from bregma.dynamics.backend import transforming


@runtime_checkable
class Surrogate(Protocol):
    """Anything that says what to use for the derivative of the step."""

    def derivative(self, x: Tensor) -> Tensor:
        """Derivative at ``x = membrane - threshold``, of the shape of ``x``."""
        ...


def _require_positive(owner: object, name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{type(owner).__name__}: {name} must be a finite number > 0, got {value}")


@dataclass(frozen=True)
class ATan:
    """Derivative of a scaled arctangent: ``alpha/2 / (1 + (pi/2 * alpha * x)^2)`` (Fang et al. 2021, arXiv 2007.05785).

    Args:
        alpha: steepness; the derivative at zero is ``alpha / 2``.

    Example:
        >>> ATan(alpha=2.0).derivative(torch.tensor([0.0]))
        tensor([1.])
    """

    alpha: float = 2.0

    def __post_init__(self) -> None:
        _require_positive(self, "alpha", self.alpha)

    def derivative(self, x: Tensor) -> Tensor:
        """See the class."""
        scaled = (math.pi / 2 * self.alpha) * x
        return (self.alpha / 2) / (1 + scaled * scaled)


@dataclass(frozen=True)
class Triangle:
    """Piecewise linear: ``max(0, width - |x|) / width^2`` (Esser et al. 2016, PNAS 113:11441; Bellec et al. 2018).

    Args:
        width: half of the base; the derivative at zero is ``1 / width``.

    Example:
        >>> Triangle().derivative(torch.tensor([0.0, 0.5, 2.0]))
        tensor([1.0000, 0.5000, 0.0000])
    """

    width: float = 1.0

    def __post_init__(self) -> None:
        _require_positive(self, "width", self.width)

    def derivative(self, x: Tensor) -> Tensor:
        """See the class."""
        return torch.relu(self.width - x.abs()) / self.width**2


@dataclass(frozen=True)
class FastSigmoid:
    """SuperSpike: ``1 / (1 + slope * |x|)^2`` (Zenke, Ganguli 2018, Neural Computation 30:1514).

    Args:
        slope: steepness; the derivative at zero is one whatever the slope.

    Example:
        >>> FastSigmoid(slope=1.0).derivative(torch.tensor([0.0, 1.0]))
        tensor([1.0000, 0.2500])
    """

    slope: float = 25.0

    def __post_init__(self) -> None:
        _require_positive(self, "slope", self.slope)

    def derivative(self, x: Tensor) -> Tensor:
        """See the class."""
        root = 1 + self.slope * x.abs()
        return 1 / (root * root)


@dataclass(frozen=True)
class Box:
    """Rectangle: ``1 / width`` where ``|x| < width / 2``, else zero (Wu et al. 2018, STBP, arXiv 1706.02609).

    Args:
        width: full width of the rectangle.

    Example:
        >>> Box(width=1.0).derivative(torch.tensor([0.0, 0.4, 0.6]))
        tensor([1., 1., 0.])
    """

    width: float = 1.0

    def __post_init__(self) -> None:
        _require_positive(self, "width", self.width)

    def derivative(self, x: Tensor) -> Tensor:
        """See the class."""
        return (x.abs() < self.width / 2).to(x.dtype) / self.width


class _Spike(torch.autograd.Function):
    """Exact step forward, surrogate backward; the backward is made of torch functions, so it can be derived again."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, surrogate: Surrogate, strict: bool) -> Tensor:
        return ((x > 0) if strict else (x >= 0)).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Surrogate, bool], output: Tensor) -> None:
        x, ctx.surrogate, _ = inputs
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return grad * ctx.surrogate.derivative(x), None, None


class _DualSpike(_Spike):
    """With the forward mode, whose mere presence keeps `torch.compile` from tracing a function."""

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        (x,) = ctx.saved_tensors
        slope: Tensor = ctx.surrogate.derivative(x)
        return tangent * slope


def spike(x: Tensor, surrogate: Surrogate, *, strict: bool = True) -> Tensor:
    """Heaviside step of ``x = membrane - threshold`` with a surrogate gradient.

    Args:
        x: distance of the membrane from its threshold, any shape, floating dtype.
        surrogate: what the backward pass uses for the derivative.
        strict: ``True`` spikes where ``x > 0``, ``False`` where ``x >= 0`` (a tie then fires).

    Returns:
        Zeros and ones in the shape and dtype of ``x``.

    Example:
        >>> spike(torch.tensor([-1.0, 0.0, 1.0]), ATan())
        tensor([0., 0., 1.])
    """
    if torch.compiler.is_compiling() and transforming():
        raise RuntimeError("torch.compile would lose the tangents of spikes; run the forward mode without it")
    step = _DualSpike if transforming() else _Spike
    return step.apply(x, surrogate, strict)  # type: ignore[no-any-return, no-untyped-call]
