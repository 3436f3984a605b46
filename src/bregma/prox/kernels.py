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


def fits(first: Tensor, *others: Tensor) -> bool:
    """Return whether the kernels take these tensors: of one shape and dtype, contiguous, on the processor."""
    dtype, shape = first.dtype, first.shape
    if dtype not in _DTYPES or not (first.is_cpu and first.is_contiguous()):
        return False
    for tensor in others:  # a loop, as this is called a dozen times in a step of a small network
        if tensor.dtype is not dtype or tensor.shape != shape or not (tensor.is_cpu and tensor.is_contiguous()):
            return False
    return True


_DTYPES = {torch.float32, torch.float64}


def array(tensor: Tensor) -> Array:
    """Return a flat view of a tensor that `fits`."""
    return tensor.detach().numpy().reshape(-1)


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
        out[i] = zero if abs(dual[i]) <= threshold[i] else dual[i]  # NaN stays NaN


@kernel
def cuts(omega: Array, mask: Array, lam: float) -> None:
    """``lam / omega`` where the mask is true, infinity elsewhere, in place of omega; 0 / 0 is 0."""
    lam, zero, never = omega.dtype.type(lam), omega.dtype.type(0), omega.dtype.type(np.inf)
    for i in range(omega.size):
        kept = lam / omega[i] if lam > zero else zero
        omega[i] = kept if mask[i] else never


@kernel
def _digit(bits: int, places: int, shift: int, width: int) -> int:
    """Some binary places of a floating-point number: of larger numbers, as far as these tell, they are larger."""
    word = np.int64(bits)
    ordered = (word ^ ((word >> places) & ((1 << places) - 1))) + (1 << places)  # negative numbers backwards, below
    return (ordered >> shift) & ((1 << width) - 1)  # type: ignore[return-value]


@kernel
def kth_smallest(bits: Array, k: int) -> int:
    """Bits of the k-th smallest (from 1) of numbers: digit by digit from the highest, as radix sort does.

    Args:
        bits: of float32 or float64 as signed integers, none of them NaN.
        k: see above.
    """
    places = 8 * bits.itemsize - 1  # without the sign
    shift = places + 1
    while shift > 0:
        width = min(11, shift)
        shift -= width
        counts = np.zeros((2, 1 << width), np.int64)  # two, as neighbours often have the same digit
        for i in range(bits.size):
            counts[i & 1, _digit(bits[i], places, shift, width)] += 1
        digit, count = 0, counts[0, 0] + counts[1, 0]
        while count < k:
            k -= count
            digit += 1
            count = counts[0, digit] + counts[1, digit]
        left = np.empty(count + 1, bits.dtype)  # with room for one that is written and not counted
        found = 0
        for i in range(bits.size):
            left[found] = bits[i]
            found += _digit(bits[i], places, shift, width) == digit
            if found == count:
                break
        bits = left[:count]
    return bits[0]  # type: ignore[no-any-return]


@kernel
def mark_best(score: Array, bits: Array, edges: Array, keeps: Array, mask: Array, lams: Array, lam_bits: Array) -> None:
    """Mark the ``keeps[j]`` largest between edge j and the next, of equals the first ones.

    Args:
        score: none of them NaN.
        bits: the same memory as integers, see `kth_smallest`.
        edges: where pieces begin, and where the last one ends.
        keeps: how many of each piece.
        mask: gets the marks.
        lams: gets the largest that is not marked of each piece, 0 if all are.
        lam_bits: the same memory as integers.
    """
    for j in range(keeps.size):
        first, last = edges[j], edges[j + 1]
        missing = keeps[j]
        if missing == last - first:
            mask[first:last] = True
            lams[j] = 0
            continue
        lam_bits[j] = kth_smallest(bits[first:last], last - first - missing)
        lam = lams[j]
        for i in range(first, last):
            mask[i] = score[i] > lam
            missing -= mask[i]
        for i in range(first, last):  # ties
            if missing == 0:
                break
            if score[i] == lam:
                mask[i] = True
                missing -= 1


@kernel
def count_best(score: Array, bits: Array, edges: Array, keep: int, counts: Array) -> None:
    """How many of the ``keep`` largest of all lie between each edge and the next; see `mark_best`."""
    one = np.empty(1, bits.dtype)
    one[0] = kth_smallest(bits, bits.size - keep)
    lam = one.view(score.dtype)[0]
    missing = keep
    for j in range(counts.size):
        counts[j] = 0
        for i in range(edges[j], edges[j + 1]):
            counts[j] += score[i] > lam
        missing -= counts[j]
    for j in range(counts.size):
        for i in range(edges[j], edges[j + 1]):
            if missing == 0:
                return
            if score[i] == lam:
                counts[j] += 1
                missing -= 1


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
