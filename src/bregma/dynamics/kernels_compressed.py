"""Compiled inference on compressed weights: a spike costs as many additions as it has connections.

Weights come by presynaptic neuron as chunks of `CHUNK` connections: neuron i has the chunks ``start[i]`` to
``start[i + 1]``, chunk q the entries ``CHUNK * q`` to ``CHUNK * (q + 1)`` of ``column`` and ``values``. The last chunk
of a neuron is filled up with zeros to ``column`` n_out, a sum that nobody reads: the loop over all chunks of all spikes
of a step then runs without a branch that depends on the data.

Between layers there are bits alone. Arithmetic of the neurons is that of `bregma.dynamics.lif`, operation by operation.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from bregma.dynamics.kernels import Array, instruction, kernel
from bregma.dynamics.kernels_lif import step_row

CHUNK = 4
_SLACK = 8  # entries that lists are written ahead


@instruction
def _word(typing_context: Any, row: Any, first: Any) -> Any:
    """Bits of the 64 values of ``row`` from ``first`` on that are not zero."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        item = signature.args[0].dtype
        vector = ir.VectorType(context.get_data_type(item), 64)
        row = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = builder.bitcast(builder.gep(row.data, [arguments[1]]), vector.as_pointer())
        values = builder.load(place, align=item.bitwidth // 8)
        differ = builder.fcmp_unordered if isinstance(item, types.Float) else builder.icmp_unsigned
        return builder.bitcast(differ("!=", values, vector(None)), ir.IntType(64))

    return types.uint64(row, types.intp), generate


@instruction
def _zeros_below(typing_context: Any, word: Any) -> Any:
    """How many bits below the lowest one set are zero; 64 for zero."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@instruction
def _ones(typing_context: Any, word: Any) -> Any:
    """How many bits are set."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


@kernel
def _pack(row: Array, bits: Array) -> None:
    """Bits of the values that are not zero."""
    whole = row.shape[0] // 64
    for w in range(whole):
        bits[w] = _word(row, 64 * w)
    if whole < bits.shape[0]:
        last = np.uint64(0)
        for k in range(row.shape[0] - 64 * whole):
            last |= np.uint64(row[64 * whole + k] != 0) << np.uint64(k)
        bits[whole] = last


@kernel
def _list(bits: Array, index: Array) -> int:
    """Positions of the set bits, in order; two are written per word whether they are there or not."""
    count, one = 0, np.uint64(1)
    for w in range(bits.shape[0]):
        word, base = bits[w], 64 * w
        end = count + _ones(word)
        while True:
            index[count] = base + _zeros_below(word)
            word &= word - one
            index[count + 1] = base + _zeros_below(word)
            word &= word - one
            count += 2
            if count >= end:
                break
        count = end
    return count


@kernel
def _add(index: Array, count: int, start: Array, column: Array, values: Array, queue: Array, drive: Array) -> None:
    """Add the connections of the neurons that ``index`` lists to ``drive``."""
    length = 0
    for k in range(count):
        q, end = start[index[k]], start[index[k] + 1]
        while True:
            for ahead in range(_SLACK):
                queue[length + ahead] = q + ahead
            if q + _SLACK >= end:
                break
            q += _SLACK
            length += _SLACK
        length += end - q
    for k in range(length):
        c = CHUNK * np.int64(queue[k])
        drive[column[c]] += values[c]
        drive[column[c + 1]] += values[c + 1]
        drive[column[c + 2]] += values[c + 2]
        drive[column[c + 3]] += values[c + 3]


@kernel
def _add_scaled(x: Array, index: Array, count: int, start: Array, column: Array, values: Array, drive: Array) -> None:
    """Add the connections of the neurons that ``index`` lists, times their values in ``x``, to ``drive``."""
    for k in range(count):
        scale = drive.dtype.type(x[index[k]])
        for c in range(CHUNK * start[index[k]], CHUNK * start[index[k] + 1]):
            drive[column[c]] += scale * values[c]


@kernel
def pack_frames(x: Array, bits: Array, first: int, last: int) -> int:
    """Bits of the non-zeros of rows ``first`` to ``last`` of numbers of any type; return how many are not one."""
    index, others = np.empty(64 * bits.shape[1] + _SLACK, np.uint32), 0
    for r in range(first, last):
        _pack(x[r], bits[r])
        for k in range(_list(bits[r], index)):
            others += x[r, index[k]] != 1
    return others


@kernel
def compressed_lif(
    x: Array, graded: bool, bits: Array, start: Array, column: Array, values: Array, bias: Array, own_start: Array,
    own_column: Array, own_values: Array, shape: Array, decay: Array, threshold: Array, reset: int, strict: bool,
    membrane: Array, arrivals: Array, out: Array, first: int, last: int,
) -> None:  # fmt: skip
    """Dense layer and neurons, samples ``first`` to ``last`` over all steps.

    Input is ``bits`` (T, B, words) and, where ``graded``, the values ``x`` (T, B, n_in) at the bits that are set.
    ``own_start`` is empty without recurrence, the delay kernel ``shape`` (slots, n) without delays. ``membrane`` (B, n)
    and ``arrivals`` (B, slots, n) start as zeros; spikes leave as ``out`` (T, B, words).
    """
    n, slots = decay.shape[0], shape.shape[0]
    index = np.empty(64 * max(bits.shape[2], out.shape[2]) + _SLACK, np.uint32)
    queue = np.empty(max(values.shape[0], own_values.shape[0]) // CHUNK + 2 * _SLACK, np.uint32)
    drive, own, spikes = np.zeros(n + 1, membrane.dtype), np.zeros(n + 1, membrane.dtype), np.empty(n, membrane.dtype)
    heard = np.empty(out.shape[2], np.uint64)
    for b in range(first, last):
        for t in range(bits.shape[0]):
            for j in range(n):
                drive[j] = bias[j]
            count = _list(bits[t, b], index)
            if graded:
                _add_scaled(x[t, b], index, count, start, column, values, drive)
            else:
                _add(index, count, start, column, values, queue, drive)
            if slots > 0:
                now = arrivals[b, t % slots]
                _pack(now, heard)
                _add_scaled(now, index, _list(heard, index), own_start, own_column, own_values, own)
                for j in range(n):
                    now[j] = 0
            elif own_start.shape[0] > 0 and t > 0:
                _add(index, _list(out[t - 1, b], index), own_start, own_column, own_values, queue, own)
            if own_start.shape[0] > 0:  # summed apart, as the dense kernels do: float32 spikes are the same
                for j in range(n):
                    drive[j] += own[j]
                    own[j] = 0
            step_row(membrane[b], drive[:n], decay, threshold, reset, strict, spikes)
            _pack(spikes, out[t, b])
            if slots > 0:
                for k in range(_list(out[t, b], index)):
                    for slot in range(slots):
                        arrivals[b, (t + 1 + slot) % slots, index[k]] += shape[slot, index[k]]


@kernel
def compressed_linear(
    bits: Array, start: Array, column: Array, values: Array, bias: Array, out: Array, first: int, last: int
) -> None:
    """``out = spikes @ weight.T + bias`` (rows, n_out) for rows ``first`` to ``last`` of ``bits`` (rows, words)."""
    n = bias.shape[0]
    index = np.empty(64 * bits.shape[1] + _SLACK, np.uint32)
    queue = np.empty(values.shape[0] // CHUNK + 2 * _SLACK, np.uint32)
    drive = np.zeros(n + 1, out.dtype)
    for r in range(first, last):
        for j in range(n):
            drive[j] = bias[j]
        _add(index, _list(bits[r], index), start, column, values, queue, drive)
        for j in range(n):
            out[r, j] = drive[j]
