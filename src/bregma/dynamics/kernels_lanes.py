"""Compiled inference on compressed weights for 64 samples at a time, one per lane.

The spikes of a neuron in one step are then one word, a bit per sample, and a connection adds its weight to the lanes
whose bit is set: no spike is looked up, and sums stay in vector registers. The work is that of all connections whatever
the number of spikes: where these are few, `kernels_compressed` is faster.

Weights come by postsynaptic neuron: neuron j has the entries ``start[j]`` to ``start[j + 1]`` of ``column``, ascending
presynaptic neurons, and of ``values``.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from bregma.dynamics.kernels import Array, instruction, kernel
from bregma.dynamics.kernels_words import WORD, alike, load, memory, step, store, turn


@instruction
def _neuron(
    typing_context: Any, heard: Any, inputs: Any, bias: Any, before: Any, own: Any, z: Any, decay: Any, threshold: Any,
    reset: Any, strict: Any, fired: Any,
) -> Any:  # fmt: skip
    """One step of one neuron: its membranes ``z`` (64,) in place, and the word of its spikes.

    It hears the words ``heard`` through ``inputs`` and the words ``before`` through ``own``, each (column, values,
    first, last); ``fired`` is its own word of the step before.
    """
    item = z.dtype

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        real = context.get_data_type(item)
        _, _, bias, _, _, _, decay, threshold, reset, strict, fired = arguments
        words, words_before, membrane = memory(context, builder, signature, arguments, 0, 3, 5)

        def through(words: Any, which: int, start: Any) -> Any:
            """``start`` plus, in each lane, the values of the connections whose word has the lane's bit."""
            kinds = signature.args[which].types
            parts = cgutils.unpack_tuple(builder, arguments[which], 4)  # type: ignore[no-untyped-call]
            column, values = (context.make_array(kinds[i])(context, builder, parts[i]).data for i in (0, 1))
            total = cgutils.alloca_once_value(builder, alike(builder, start))  # type: ignore[no-untyped-call]
            with cgutils.for_range_slice(builder, parts[2], parts[3], ir.IntType(64)(1)) as (entry, _):
                place = builder.zext(builder.load(builder.gep(column, [entry])), ir.IntType(64))
                word = builder.load(builder.gep(words, [place]))
                heard = builder.bitcast(word, ir.VectorType(ir.IntType(1), WORD))
                sums = builder.load(total)
                more = builder.fadd(sums, alike(builder, builder.load(builder.gep(values, [entry]))))
                builder.store(builder.select(heard, more, sums), total)
            return builder.load(total)

        # Summed apart, as the dense kernels do: float32 spikes are the same.
        current = builder.fadd(through(words, 1, bias), through(words_before, 4, real(0)))
        z, place = load(builder, membrane, ir.IntType(64)(0))
        decay, threshold = alike(builder, decay), alike(builder, threshold)
        z, word = step(builder, z, current, decay, threshold, reset, strict, fired)
        store(builder, z, place)
        return word

    return types.uint64(heard, inputs, item, before, own, z, item, item, reset, strict, types.uint64), generate


@kernel
def lanes_lif(
    bits: Array, start: Array, column: Array, values: Array, bias: Array, own_start: Array, own_column: Array,
    own_values: Array, decay: Array, threshold: Array, reset: int, strict: bool, out: Array, trace: Array,
    first: int, last: int,
) -> None:  # fmt: skip
    """Dense layer and neurons for groups ``first`` to ``last`` of 64 samples, over all steps from rest.

    Input ``bits`` and output ``out`` are (T, B, words), as everywhere. ``own_start`` is empty without recurrence.
    Membranes are written to ``trace`` (T, B, n) unless it is empty.
    """
    n, recurrent = bias.shape[0], own_start.shape[0] > 0
    heard, block = np.empty(WORD * bits.shape[2], np.uint64), np.empty(WORD, np.uint64)
    for group in range(first, last):
        top, end = WORD * group, min(WORD * group + WORD, bits.shape[1])
        membrane = np.zeros((n, WORD), values.dtype)
        before, now = np.zeros(WORD * out.shape[2], np.uint64), np.zeros(WORD * out.shape[2], np.uint64)
        for t in range(bits.shape[0]):
            rows, spikes = bits[t, top:end], out[t, top:end]
            for w in range(rows.shape[1]):
                for i in range(WORD):
                    heard[WORD * w + i] = rows[i, w] if i < rows.shape[0] else np.uint64(0)
                turn(heard, WORD * w)
            for j in range(n):
                inputs = column, values, start[j], start[j + 1]
                own_first, own_last = (own_start[j], own_start[j + 1]) if recurrent else (0, 0)
                own = own_column, own_values, own_first, own_last
                z, d, c = membrane[j], decay[j], threshold[j]
                now[j] = _neuron(heard, inputs, bias[j], before, own, z, d, c, reset, strict, before[j])
            for w in range(spikes.shape[1]):
                for i in range(WORD):
                    block[i] = now[WORD * w + i]
                turn(block, 0)
                for i in range(spikes.shape[0]):
                    spikes[i, w] = block[i]
            if trace.shape[0] > 0:
                z_rows = trace[t, top:end]
                for i in range(z_rows.shape[0]):
                    for j in range(n):
                        z_rows[i, j] = membrane[j, i]
            before, now = now, before
