"""Compiled products with spikes: the work is that of the spikes that happened, not that of the zeros between them.

A spike train (rows, n) comes as bits, one 64-bit word for 64 neurons, beside the dense tensor. Rows are samples at one
time step. Where values other than one occur (``graded``), they are read from the dense tensor at the bits that are set.
Sums run over presynaptic neurons, or over rows, in ascending order whatever the tiling: results do not depend on it.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from bregma.dynamics.kernels import Array, inline, instruction, kernel


@instruction
def _lowest_bit(typing_context: Any, word: Any) -> Any:
    """Index of the lowest bit set; undefined for zero."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


@instruction
def _bits_set(typing_context: Any, word: Any) -> Any:
    """How many bits are set."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@kernel
def count_events(bits: Array) -> int:
    """How many bits of ``bits`` (rows, words) are set."""
    total = np.uint64(0)
    for r in range(bits.shape[0]):
        for w in range(bits.shape[1]):
            total += _bits_set(bits[r, w])
    return int(total)


@kernel
def unpack(bits: Array, out: Array, first: int, last: int) -> None:
    """Zeros and ones of rows ``first`` to ``last``."""
    one = np.uint64(1)
    for r in range(first, last):
        for j in range(out.shape[1]):
            out[r, j] = (bits[r, j // 64] >> np.uint64(j % 64)) & one


@inline
def list_row(bits: Array, index: Array) -> int:
    """Write the positions of the set bits of one row to ``index``; return how many."""
    count = 0
    for w in range(bits.shape[0]):
        word = bits[w]
        while word != np.uint64(0):
            index[count] = np.int64(64 * w) + np.int64(_lowest_bit(word))
            count += 1
            word &= word - np.uint64(1)
    return count


@inline
def add_rows(table: Array, index: Array, count: int, out: Array) -> None:
    """Add the rows of ``table`` that ``index`` lists to ``out``, one after the other."""
    k = 0
    while k + 4 <= count:  # four at a time: one load and store of the sum for four additions
        r0 = table[index[k]]
        r1 = table[index[k + 1]]
        r2 = table[index[k + 2]]
        r3 = table[index[k + 3]]
        for j in range(out.shape[0]):
            out[j] = out[j] + r0[j] + r1[j] + r2[j] + r3[j]
        k += 4
    while k < count:
        row = table[index[k]]
        for j in range(out.shape[0]):
            out[j] += row[j]
        k += 1


@inline
def add_scaled(row: Array, scale: float, out: Array) -> None:
    """Add ``scale`` times a row to ``out``."""
    for j in range(out.shape[0]):
        out[j] += scale * row[j]


@kernel
def pack(x: Array, bits: Array, graded: Array, first: int, last: int) -> None:
    """Bits of the non-zero values of rows ``first`` to ``last``; ``graded`` (rows,) counts those that are not one."""
    zero, one = x.dtype.type(0), x.dtype.type(1)
    n = x.shape[1]
    for r in range(first, last):
        row = x[r]
        graded[r] = 0
        for w in range(bits.shape[1]):
            word = np.uint64(0)
            stop = min(64, n - 64 * w)
            busy = 0
            for k in range(stop):
                busy += row[64 * w + k] != zero
            if busy:
                for k in range(stop):
                    value = row[64 * w + k]
                    word |= np.uint64(value != zero) << np.uint64(k)
                    graded[r] += (value != zero) & (value != one)
            bits[r, w] = word


@kernel
def event_product(
    x: Array, graded: bool, bits: Array, weight_t: Array, bias: Array, out: Array, first: int, last: int
) -> None:
    """``out = x @ weight_t + bias`` for rows ``first`` to ``last``; ``weight_t`` is (n_in, n_out)."""
    index = np.empty(weight_t.shape[0], np.int64)
    for r in range(first, last):
        total = out[r]
        for j in range(bias.shape[0]):
            total[j] = bias[j]
        count = list_row(bits[r], index)
        if graded:
            for k in range(count):
                add_scaled(weight_t[index[k]], x[r, index[k]], total)
        else:
            add_rows(weight_t, index, count, total)


@kernel
def event_weight_gradient(
    x: Array, graded: bool, bits: Array, grad: Array, out_t: Array, first: int, last: int
) -> None:
    """``out_t = x.T @ grad`` (n_in, n_out), columns ``first`` to ``last``: each spike adds its row of the gradient."""
    n_in = out_t.shape[0]
    index = np.empty(n_in, np.int64)
    for i in range(n_in):
        for j in range(first, last):
            out_t[i, j] = 0
    one = out_t.dtype.type(1)
    for r in range(bits.shape[0]):
        count = list_row(bits[r], index)
        for k in range(count):
            scale = x[r, index[k]] if graded else one
            add_scaled(grad[r, first:last], scale, out_t[index[k], first:last])
