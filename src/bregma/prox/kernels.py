"""Passes over flat tensors on the processor, each once over memory in place of several times.

The same arithmetic as the torch operations they stand for, to the last bit, but for the order of sums. Arrays are flat,
float32 or float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]

_njit: Any = numba.njit  # typed in some versions of numba only


def kernel(function: Callable[..., Any], fastmath: bool | set[str] = False) -> Callable[..., Any]:
    """Compile, with exact arithmetic by default, and keep the result on disk where there is a folder for it."""
    options = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}
    try:
        return _njit(function, cache=True, **options)  # type: ignore[no-any-return]
    except RuntimeError:  # numba finds no folder it may write: compile anew in each process
        return _njit(function, **options)  # type: ignore[no-any-return]


def fits(*tensors: Tensor) -> bool:
    """Return whether the kernels take these tensors: of one shape and dtype, contiguous, on the processor."""
    kinds, shapes = {t.dtype for t in tensors}, {t.shape for t in tensors}
    return len(kinds) == len(shapes) == 1 and kinds <= _DTYPES and all(t.is_cpu and t.is_contiguous() for t in tensors)


_DTYPES = {torch.float32, torch.float64}


def array(tensor: Tensor) -> Array:
    """Return a flat view of a tensor that `fits`."""
    return tensor.detach().view(-1).numpy()


@kernel
def fourth_root(s: Array, scale: float, out: Array) -> None:
    """``out = (s * scale) ** (1 / 4)``."""
    scale = s.dtype.type(scale)
    for i in range(s.size):
        out[i] = np.sqrt(np.sqrt(s[i] * scale))


@kernel
def soft(dual: Array, threshold: Array, out: Array) -> None:
    """See `bregma.prox.maps.soft`."""
    zero = dual.dtype.type(0)
    for i in range(dual.size):
        out[i] = np.copysign(max(abs(dual[i]) - threshold[i], zero), dual[i])


@kernel
def firm(dual: Array, threshold: Array, slope: float, out: Array) -> None:
    """See `bregma.prox.maps.firm`; ``slope`` is ``gamma / (gamma - 1)``."""
    zero, slope = dual.dtype.type(0), dual.dtype.type(slope)
    for i in range(dual.size):
        v = abs(dual[i])
        out[i] = np.copysign(min(v, max(v - threshold[i], zero) * slope), dual[i])


@kernel
def hard(dual: Array, threshold: Array, out: Array) -> None:
    """See `bregma.prox.maps.hard`."""
    zero = dual.dtype.type(0)
    for i in range(dual.size):
        out[i] = dual[i] if abs(dual[i]) > threshold[i] else zero


@kernel
def cuts(omega: Array, mask: Array, lam: float) -> None:
    """``lam / omega`` where the mask is true, infinity elsewhere, in place of omega; 0 / 0 is 0."""
    lam, zero, never = omega.dtype.type(lam), omega.dtype.type(0), omega.dtype.type(np.inf)
    for i in range(omega.size):
        kept = lam / omega[i] if lam > zero else zero
        omega[i] = kept if mask[i] else never


@kernel
def mark_above(score: Array, lam: float, mask: Array) -> int:
    """``mask = score > lam``; return how many are marked."""
    lam = score.dtype.type(lam)
    count = 0
    for i in range(score.size):
        above = score[i] > lam
        mask[i] = above
        count += above
    return count


@kernel
def mark_equal(score: Array, lam: float, missing: int, mask: Array) -> None:
    """Mark the first ``missing`` scores that equal lam."""
    lam = score.dtype.type(lam)
    for i in range(score.size):
        if missing == 0:
            return
        if score[i] == lam:
            mask[i] = True
            missing -= 1


@kernel
def _in_order(bits: int, sign: np.uint64) -> np.uint64:
    """Bits of a floating-point number as an unsigned integer that is larger for a larger number."""
    word = np.uint64(bits)
    return (sign << np.uint64(1)) - np.uint64(1) - word if word & sign else word | sign


@kernel
def kth_smallest(bits: Array, k: int, places: Array) -> int:
    """Where the k-th smallest (from 1) of numbers is: digit by digit from the highest, as radix sort does.

    Args:
        bits: of the numbers, unsigned, none of them NaN.
        k: see above.
        places: as long as ``bits``, for those that share the digits found so far.
    """
    count, shift = bits.size, 8 * bits.itemsize
    sign = np.uint64(1) << np.uint64(shift - 1)
    for i in range(count):
        places[i] = i
    while shift > 0 and count > 1:
        width = min(11, shift)
        shift -= width
        low, ones = np.uint64(shift), np.uint64((1 << width) - 1)
        histogram = np.zeros(1 << width, np.int64)
        for i in range(count):
            histogram[np.intp((_in_order(bits[places[i]], sign) >> low) & ones)] += 1
        digit = 0
        while histogram[digit] < k:
            k -= histogram[digit]
            digit += 1
        kept = 0
        for i in range(count):
            place = places[i]
            if np.intp((_in_order(bits[place], sign) >> low) & ones) == digit:
                places[kept] = place
                kept += 1
        count = kept
    return places[0]  # type: ignore[no-any-return]


@kernel
def keep(values: Array, mask: Array) -> None:
    """Set to zero what the mask does not mark, in place."""
    zero = values.dtype.type(0)
    for i in range(values.size):
        values[i] = values[i] if mask[i] else zero


def _squares(dual: Array, weights: Array) -> tuple[float, float]:
    """Sum of squares of the weights, and of the duals where there is a weight."""
    ours = theirs = 0.0
    for i in range(dual.size):
        x, v = np.float64(weights[i]), np.float64(dual[i])
        ours += x * x
        theirs += v * v if x != 0.0 else 0.0
    return ours, theirs


squares = kernel(_squares, fastmath={"reassoc"})
