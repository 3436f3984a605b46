"""Checks of optimiser options: one line that names the option, what came and what is allowed."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any, cast

import torch
from torch import Tensor

from bregma.dynamics.checks import is_number
from bregma.prox import get

INITS = ("anchored", "shrink", "sparse")


def plain(value: Any) -> Any:
    """A number of any library as one of Python, in a tuple too; anything else as it is.

    Example:
        >>> import numpy as np
        >>> plain((np.float32(0.5), np.int64(2), "a"))
        (0.5, 2, 'a')
    """
    if isinstance(value, tuple):
        return tuple(plain(item) for item in value)
    if isinstance(value, (int, float)) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def number(name: str, value: Any, *, low: float, high: float = math.inf, open_low: bool = False) -> float:
    """Return ``value`` as a number of Python; raise unless it is finite and in ``[low, high)``.

    With ``open_low`` it must be in ``(low, high)``.

    Raises:
        TypeError: not a real number.
        ValueError: outside the range, infinite or NaN.

    Example:
        >>> number("lr", -1.0, low=0.0)
        Traceback (most recent call last):
            ...
        ValueError: lr must be >= 0, got -1.0
    """
    if not is_number(value):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    inside = (value > low if open_low else value >= low) and value < high
    if not inside:
        upper = "" if high == math.inf else f" and < {high:g}"
        finite = " and finite" if high == math.inf and not value < math.inf else ""
        raise ValueError(f"{name} must be {'>' if open_low else '>='} {low:g}{upper}{finite}, got {value}")
    return cast(float, plain(value))


def learning_rate(lr: Any) -> None:
    """Raise unless ``lr`` is a finite number >= 0 or a tensor that holds one such number."""
    if isinstance(lr, Tensor):
        if lr.numel() != 1:
            raise ValueError(f"lr must be a number or a tensor of one element, got shape {tuple(lr.shape)}")
        if lr.is_cpu:  # elsewhere the look would wait for the device
            number("lr", float(lr), low=0.0)
    else:
        number("lr", lr, low=0.0)


def betas(value: Any) -> None:
    """Raise unless ``value`` is a pair of numbers in [0, 1)."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"betas must be a pair of numbers, got {value!r}")
    for index, beta in enumerate(value):
        number(f"betas[{index}]", beta, low=0.0, high=1.0)


def share(name: str, value: Any) -> float:
    """Return ``value`` as a number of Python; raise unless it is in (0, 1]."""
    if is_number(value) and not 0.0 < value <= 1.0:
        raise ValueError(f"{name} must be in (0, 1], got {value}")
    return number(name, value, low=0.0)


def start(init: Any, init_density: Any, seed: Any) -> None:
    """Raise unless the three options say how the dual starts: a name, a share in (0, 1], an integer >= 0 or None."""
    if init not in INITS:
        raise ValueError(f"init must be one of {', '.join(INITS)}, got {init!r}")
    share("init_density", init_density)
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, Integral)):
        raise TypeError(f"seed must be an integer or None, got {type(seed).__name__}")
    if seed is not None and seed < 0:
        raise ValueError(f"seed must be >= 0, got {seed}")


def switches(maximize: Any, foreach: Any, fused: Any) -> None:
    """Raise unless ``maximize`` is a bool, ``foreach`` and ``fused`` are bools or None, and not both are True."""
    if not isinstance(maximize, bool):
        raise TypeError(f"maximize must be a bool, got {type(maximize).__name__}")
    for name, value in (("foreach", foreach), ("fused", fused)):
        if value is not None and not isinstance(value, bool):
            raise TypeError(f"{name} must be a bool or None, got {type(value).__name__}")
    if foreach and fused:
        raise ValueError("foreach and fused must not both be True")


def parameters(params: list[Tensor], penalty: str) -> None:
    """Raise unless every parameter is real, floating-point and has the dimensions the penalty works on."""
    min_ndim = get(penalty).min_ndim
    for p in params:
        if not p.is_floating_point():
            raise TypeError(f"params must be real floating-point tensors, got {p.dtype} of shape {tuple(p.shape)}")
        if p.ndim < min_ndim:
            raise ValueError(
                f"penalty {penalty!r} needs parameters of {min_ndim} or more dimensions, got shape {tuple(p.shape)}; "
                "bregma.param_groups can give each layer its own penalty"
            )


def gradients(owner: str, params: list[Tensor]) -> None:
    """Raise if a gradient is sparse."""
    for p in params:
        if p.grad is not None and p.grad.layout != torch.strided:
            raise TypeError(f"{owner} needs dense gradients, got layout {p.grad.layout} of shape {tuple(p.shape)}")


def count(name: str, value: Any, *, low: int) -> int:
    """Return ``value`` as an integer of Python; raise unless it is one >= ``low``."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}")
    if value < low:
        raise ValueError(f"{name} must be >= {low}, got {value}")
    return int(value)
