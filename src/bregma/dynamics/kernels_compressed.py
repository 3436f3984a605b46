"""Compiled inference on compressed weights: a spike costs as many additions as it has connections.

Weights come by presynaptic neuron as chunks of `CHUNK` connections: neuron i has the chunks ``start[i]`` to
``start[i + 1]``, chunk q the entries ``CHUNK * q`` to ``CHUNK * (q + 1)`` of ``column`` and ``values``. The last chunk
of a neuron is filled up with zeros to columns past the last, sums that nobody reads: the loop over all chunks of all
spikes of a step then runs without a branch that depends on the data.

Between layers there are bits alone.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from bregma.dynamics.kernels import Array, instruction, kernel, part
from bregma.dynamics.kernels_lif import copy_row
from bregma.dynamics.kernels_words import WORD, alike, differ, load, memory, ones, step, store, zeros_below

CHUNK = 4
_BITS = 2  # positions and chunks that lists are written ahead
_CHUNKS = 8
_SIDE_BY_SIDE = 8
_STREAMS = 7  # places read in turn: memory gives more than to one; eight could share sets of the cache


@part
def _pack(row: Array, bits: Array) -> np.uint64:
    """Bits of the values that are not zero; return bits of some that are not one either, zero if there are none."""
    others: np.uint64 = _pack_rest(row, bits)
    for w in range(row.shape[0] // WORD):
        others |= _pack_word(row, bits, w)
    return others


@part
def _pack_word(row: Array, bits: Array, w: int) -> np.uint64:
    bits[w] = differ(row, WORD * w, row.dtype.type(0))
    others: np.uint64 = bits[w] & differ(row, WORD * w, row.dtype.type(1))
    return others


@part
def _pack_rest(row: Array, bits: Array) -> np.uint64:
    """Of the values after the last whole word."""
    zero, one, others, last = row.dtype.type(0), row.dtype.type(1), np.uint64(0), np.uint64(0)
    n = row.shape[0]
    rest = n % WORD
    if rest > 0:
        if n > WORD:  # the last 64 values, some of which are in the word before too
            high = np.uint64(WORD - rest)
            last = differ(row, n - WORD, zero) >> high
            others = last & (differ(row, n - WORD, one) >> high)
        else:
            for k in range(rest):
                last |= np.uint64(row[k] != zero) << np.uint64(k)
                others |= np.uint64((row[k] != zero) & (row[k] != one))
        bits[n // WORD] = last
    return others


@part
def _list(bits: Array, index: Array) -> int:
    """Positions of the set bits, in order; `_BITS` are written per word whether they are there or not."""
    count, one = 0, np.uint64(1)
    for w in range(bits.shape[0]):
        word, base = bits[w], WORD * w
        end = count + ones(word)
        while True:
            for ahead in range(_BITS):
                index[count + ahead] = base + zeros_below(word)
                word &= word - one
            count += _BITS
            if count >= end:
                break
        count = end
    return count


@instruction
def _count_on(typing_context: Any, queue: Any, place: Any, first: Any) -> Any:
    """Write `_CHUNKS` numbers from ``first`` on to ``queue``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        numbers, place = load(builder, memory(context, builder, signature, arguments, 0)[0], arguments[1], _CHUNKS)
        first = builder.trunc(arguments[2], ir.IntType(32))
        steps = numbers.type(list(range(_CHUNKS)))
        store(builder, builder.add(alike(builder, first, _CHUNKS), steps), place)
        return context.get_dummy_value()

    return types.void(queue, types.intp, types.intp), generate


@instruction
def _add_chunk(typing_context: Any, scale: Any, column: Any, values: Any, first: Any, sums: Any) -> Any:
    """Add ``scale`` times the `CHUNK` connections from ``first`` on to ``sums``.

    Loads and stores are what limits this: values are loaded as a vector, and columns eight bytes at a time.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        column, values, sums = memory(context, builder, signature, arguments, 1, 2, 4)
        first, long = arguments[3], ir.IntType(64)
        scaled = builder.fmul(alike(builder, arguments[0], CHUNK), load(builder, values, first, CHUNK)[0])
        width = column.type.pointee.width
        words, _ = load(builder, column, first, CHUNK)
        words = builder.bitcast(words, ir.VectorType(long, CHUNK * width // 64))
        for k in range(CHUNK):
            word = builder.extract_element(words, ir.IntType(32)(k * width // 64))
            place = builder.and_(builder.lshr(word, long(k * width % 64)), long(2**width - 1))
            target = builder.gep(sums, [place])
            more = builder.extract_element(scaled, ir.IntType(32)(k))
            builder.store(builder.fadd(builder.load(target), more), target)
        return context.get_dummy_value()

    return types.void(sums.dtype, column, values, types.intp, sums), generate


@part
def _add(
    one: float, index: Array, count: int, start: Array, column: Array, values: Array, queue: Array, drive: Array
) -> None:
    """Add the connections of the neurons that ``index`` lists to ``drive``; ``one`` is 1."""
    length = 0
    for k in range(count):
        q, end = start[index[k]], start[index[k] + 1]
        while True:
            _count_on(queue, length, q)
            if q + _CHUNKS >= end:
                break
            q += _CHUNKS
            length += _CHUNKS
        length += end - q
    for k in range(length):
        _add_chunk(one, column, values, CHUNK * np.int64(queue[k]), drive)


@part
def _add_scaled(x: Array, index: Array, count: int, start: Array, column: Array, values: Array, drive: Array) -> None:
    """Add the connections of the neurons that ``index`` lists, times their values in ``x``, to ``drive``."""
    for k in range(count):
        scale = drive.dtype.type(x[index[k]])
        for q in range(start[index[k]], start[index[k] + 1]):
            _add_chunk(scale, column, values, CHUNK * q, drive)


@instruction
def _neurons(
    typing_context: Any, z: Any, drive: Any, own: Any, decay: Any, threshold: Any, first: Any, reset: Any, strict: Any,
    fired: Any,
) -> Any:  # fmt: skip
    """One step of the 64 neurons from ``first`` on, ``z`` in place: the word of their spikes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        arrays, (first, reset, strict, fired) = memory(context, builder, signature, arguments, *range(5)), arguments[5:]
        (z, place), (drive, _), (own, _), (decay, _), (threshold, _) = (load(builder, row, first) for row in arrays)
        z, word = step(builder, z, builder.fadd(drive, own), decay, threshold, reset, strict, fired)
        store(builder, z, place)
        return word

    return types.uint64(z, drive, own, decay, threshold, types.intp, reset, strict, types.uint64), generate


@part
def _filled_up(row: Array, size: int, rest: float) -> Array:
    """The row with as many copies of ``rest`` as make it ``size`` long."""
    out = np.empty(size, row.dtype)
    for j in range(size):
        out[j] = row[j] if j < row.shape[0] else rest
    return out


@kernel
def pack_frames(x: Array, bits: Array, first: int, last: int) -> bool:
    """Bits of the non-zeros of rows ``first`` to ``last`` of numbers of any type; return whether some are not one."""
    others, each = np.uint64(0), (last - first) // _STREAMS
    for r in range(first, first + each):
        for w in range(x.shape[1] // WORD):
            for s in range(_STREAMS):
                others |= _pack_word(x[r + s * each], bits[r + s * each], w)
        for s in range(_STREAMS):
            others |= _pack_rest(x[r + s * each], bits[r + s * each])
    for r in range(first + _STREAMS * each, last):
        others |= _pack(x[r], bits[r])
    return bool(others != 0)


@kernel
def compressed_lif(
    x: Array, graded: bool, bits: Array, start: Array, column: Array, values: Array, bias: Array, own_start: Array,
    own_column: Array, own_values: Array, shape: Array, decay: Array, threshold: Array, reset: int, strict: bool,
    out: Array, trace: Array, one: float, first: int, last: int,
) -> None:  # fmt: skip
    """Dense layer and neurons, samples ``first`` to ``last`` over all steps from rest.

    Input is ``bits`` (T, B, words) and, where ``graded``, the values ``x`` (T, B, n_in) at the bits that are set.
    ``own_start`` is empty without recurrence, the delay kernel ``shape`` (slots, n) without delays. Spikes leave as
    ``out`` (T, B, words), and membranes as ``trace`` (T, B, n) unless that is empty. ``one`` is 1: were it a constant,
    the compiler would take the vectors of `_add_chunk` apart.
    """
    slots, size = shape.shape[0], WORD * out.shape[2]
    index = np.empty(WORD * max(bits.shape[2], out.shape[2]) + _BITS, np.uint32)
    queue = np.empty(max(values.shape[0], own_values.shape[0]) // CHUNK + 2 * _CHUNKS, np.uint32)
    drive, own = np.zeros((2, size + CHUNK), values.dtype)
    decay, threshold = _filled_up(decay, size, 0), _filled_up(threshold, size, np.inf)
    heard, pending = np.empty(out.shape[2], np.uint64), np.zeros((_SIDE_BY_SIDE, *shape.shape), values.dtype)
    membranes = np.zeros((_SIDE_BY_SIDE, size), values.dtype)
    for top in range(first, last, _SIDE_BY_SIDE):
        membranes[:] = 0
        pending[:] = 0
        for t in range(bits.shape[0]):
            for b in range(top, min(top + _SIDE_BY_SIDE, last)):
                membrane, arrivals = membranes[b - top], pending[b - top]
                for j in range(bias.shape[0]):
                    drive[j] = bias[j]
                count = _list(bits[t, b], index)
                if graded:
                    _add_scaled(x[t, b], index, count, start, column, values, drive)
                else:
                    _add(one, index, count, start, column, values, queue, drive)
                if slots > 0:
                    now = arrivals[t % slots]
                    _pack(now, heard)
                    _add_scaled(now, index, _list(heard, index), own_start, own_column, own_values, own)
                    now[:] = 0
                elif own_start.shape[0] > 0 and t > 0:
                    _add(one, index, _list(out[t - 1, b], index), own_start, own_column, own_values, queue, own)
                for w in range(out.shape[2]):  # summed apart, as the dense kernels do: float32 spikes are the same
                    fired = out[t - 1, b, w] if t > 0 else np.uint64(0)
                    out[t, b, w] = _neurons(membrane, drive, own, decay, threshold, WORD * w, reset, strict, fired)
                if trace.shape[0] > 0:
                    copy_row(membrane[: bias.shape[0]], trace[t, b])
                if own_start.shape[0] > 0:
                    own[:] = 0
                if slots > 0:
                    for k in range(_list(out[t, b], index)):
                        for slot in range(slots):
                            arrivals[(t + 1 + slot) % slots, index[k]] += shape[slot, index[k]]
