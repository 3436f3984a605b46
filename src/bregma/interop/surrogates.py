"""Surrogate derivatives of snnTorch and of this package, each in the terms of the other."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bregma.dynamics import ATan, FastSigmoid, Surrogate
from bregma.dynamics.surrogate import spike

Step = Callable[[Tensor], Tensor]

#: snnTorch's makers of steps whose derivative is one of ours, with the name of their constant.
_TWINS: dict[str, tuple[type[ATan] | type[FastSigmoid], str]] = {
    "atan": (ATan, "alpha"),
    "fast_sigmoid": (FastSigmoid, "slope"),
}


@dataclass(frozen=True)
class SpikeGrad:
    """A step of this package as what snnTorch calls ``spike_grad``.

    Args:
        surrogate: derivative of the step in the backward pass.
        strict: a membrane exactly at threshold gives no spike.

    Example:
        >>> SpikeGrad(ATan(), strict=False)(torch.tensor([-1.0, 0.0, 1.0]))
        tensor([0., 1., 1.])
    """

    surrogate: Surrogate
    strict: bool = True

    def __call__(self, x: Tensor) -> Tensor:
        """Spikes of ``x = membrane - threshold``, in its dtype."""
        return spike(x, self.surrogate, strict=self.strict)


@dataclass(frozen=True)
class Borrowed:
    """The derivative of a differentiable step function of another library, as a surrogate of this package.

    Args:
        step: maps ``membrane - threshold`` to spikes.

    Example:
        >>> Borrowed(SpikeGrad(ATan())).derivative(torch.zeros(1))
        tensor([1.])
    """

    step: Step

    def derivative(self, x: Tensor) -> Tensor:
        """Derivative at ``x``; zero where the step has none."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            spikes = self.step(leaf)
            if not spikes.requires_grad:
                return torch.zeros_like(x)
            return torch.autograd.grad(spikes.sum(), leaf)[0]


def to_step(surrogate: Surrogate, strict: bool, dtype: torch.dtype, peer: Any) -> Step:
    """What snnTorch takes as ``spike_grad`` for a surrogate: its own function where it has one, else a `SpikeGrad`.

    Args:
        surrogate: derivative of the step.
        strict: see `SpikeGrad`; snnTorch's own functions are strict.
        dtype: of the network; the spikes of snnTorch's own functions are float32.
        peer: the module ``snntorch.surrogate``.
    """
    if strict and dtype == torch.float32:
        for name, (kind, constant) in _TWINS.items():
            if type(surrogate) is kind:
                step: Step = getattr(peer, name)(getattr(surrogate, constant))
                return step
    return SpikeGrad(surrogate, strict)


def from_step(step: Step, name: str) -> tuple[Surrogate, bool]:
    """Surrogate and strictness of what snnTorch calls ``spike_grad``.

    Args:
        step: the function.
        name: of the layer, for the error.

    Raises:
        ValueError: the function is no step from zero to one at zero, for example a random one.
    """
    if isinstance(step, SpikeGrad):
        return step.surrogate, step.strict
    with torch.no_grad():
        values = [step(torch.tensor([x])).item() for x in (-1.0, -1e-6, 0.0, 1e-6, 1.0)]
    if values not in ([0, 0, 0, 1, 1], [0, 0, 1, 1, 1]):
        raise ValueError(f"{name}: spike_grad must step from 0 to 1 at threshold, got {values} around it")
    strict = values[2] == 0
    maker = getattr(step, "__qualname__", "").partition(".")[0]
    if maker in _TWINS and getattr(step, "__module__", "") == "snntorch.surrogate":
        kind, constant = _TWINS[maker]
        return kind(float(inspect.getclosurevars(step).nonlocals[constant])), strict
    return Borrowed(step), strict
