"""Checks of what goes into a recurrence, shared by every backend: one line that says what came and what is allowed."""

import math
from numbers import Real
from typing import Literal

import torch
from torch import Tensor

from bregma.dynamics.backend import transforming

_ALLOWED = {"decay": "in [0, 1]", "threshold": "a finite number > 0"}


def check_current(current: Tensor, state: Tensor | None) -> None:
    """Raise if ``current`` is no (T, B, n) floating tensor with T, B, n >= 1, or ``state`` no (B, n) of its dtype."""
    if not isinstance(current, Tensor) or not current.is_floating_point():
        came = str(current.dtype) if isinstance(current, Tensor) else type(current).__name__
        raise TypeError(f"current must be a floating-point tensor, got {came}")
    if current.dim() != 3 or 0 in current.shape:
        raise ValueError(f"current must be time-major (T, B, n) with T, B, n >= 1, got shape {tuple(current.shape)}")
    if state is not None:
        check_state("state", state, tuple(current.shape[1:]), "(B, n)", current)


def check_state(name: str, state: Tensor, shape: tuple[int, ...], axes: str, current: Tensor) -> None:
    """Raise if a tensor handed over from an earlier call does not fit the present one."""
    if not isinstance(state, Tensor):
        raise TypeError(f"{name} must be a tensor or None, got {type(state).__name__}")
    if state.shape != shape:
        raise ValueError(f"{name} must be {axes} = {shape}, got shape {tuple(state.shape)}")
    if state.dtype != current.dtype:
        raise TypeError(f"{name} must have the dtype of current, {current.dtype}, got {state.dtype}")


def check_weight(weight: Tensor, n: int) -> None:
    """Raise if recurrent weights are not a floating tensor (n, n)."""
    if not isinstance(weight, Tensor) or not weight.is_floating_point():
        came = str(weight.dtype) if isinstance(weight, Tensor) else type(weight).__name__
        raise TypeError(f"weight must be a floating-point tensor, got {came}")
    if weight.shape != (n, n):
        raise ValueError(f"weight must be ({n}, {n}) for a current of {n} neurons, got shape {tuple(weight.shape)}")


def check_constant(name: Literal["decay", "threshold"], value: Tensor | float, n: int) -> None:
    """Raise if a decay or threshold is no number in its range and no floating tensor () or (n,).

    The values of a tensor are not looked at here, that would wait for the device at each call; the layers of
    `bregma.nn` look once, when they are made.
    """
    if not isinstance(value, Tensor):
        check_range(name, value)
    elif not value.is_floating_point():
        raise TypeError(f"{name} must be a number or a floating-point tensor, got {value.dtype}")
    elif value.shape not in ((), (n,)):
        raise ValueError(f"{name} must be a number or ({n},) for {n} neurons, got shape {tuple(value.shape)}")


def check_range(name: Literal["decay", "threshold"], value: Tensor | float) -> None:
    """Raise if a decay lies outside [0, 1], or a threshold is not finite and > 0; tensors without data pass."""
    if not isinstance(value, Tensor):  # a look at a tensor made of the number would break a compiled graph
        if not is_number(value):
            raise TypeError(f"{name} must be a number or a tensor, got {type(value).__name__}")
        number = float(value)
        check_number(name, number, _ALLOWED[name], 0 <= number <= 1 if name == "decay" else 0 < number < math.inf)
    elif not value.is_meta:
        inside = (value >= 0) & (value <= 1) if name == "decay" else (value > 0) & (value < math.inf)
        if not bool(inside.all()):
            raise ValueError(f"{name} must be {_ALLOWED[name]}, got {value[~inside].flatten()[0].item():g}")


def is_number(value: object) -> bool:
    """Whether a value is a real number of any library, and not a bool."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_number(name: str, value: float, allowed: str, inside: bool) -> None:
    """Raise if a number is not what is allowed."""
    if not inside:
        raise ValueError(f"{name} must be {allowed}, got {value:g}")


def check_membrane(membrane: Tensor) -> None:
    """Raise if NaN or infinity got into the recurrence, judged from the last membrane (B, n).

    A NaN membrane compares as below threshold, so the neuron would fall silent and the loss stay finite. NaN never
    leaves a membrane (``decay * NaN`` is NaN for every decay and reset), so one look at the end, 1/T of the work of
    a look at the current, finds it whenever it came in. Done on the CPU only: elsewhere it would wait for the device,
    and neither a compiled graph nor ``vmap`` can branch on data.
    """
    if torch.compiler.is_compiling() or transforming() or membrane.device.type != "cpu":
        return
    broken = ~membrane.isfinite()
    if bool(broken.any()):
        neurons = int(broken.any(dim=0).sum())
        raise ValueError(
            f"membrane became NaN or infinite in {neurons} of {membrane.shape[1]} neurons: "
            "current, state, decay, threshold and weight must be finite"
        )
