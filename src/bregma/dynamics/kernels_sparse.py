"""Compiled products with weights that are mostly zeros: the work is that of the connections that exist.

Weights come as compressed rows: ``values[start[i] : start[i + 1]]`` in the columns ``column[...]`` of row i.
"""

import numpy as np

from bregma.dynamics.kernels import Array, kernel, loose_kernel
from bregma.dynamics.kernels_events import list_row

LANES = 64  # rows taken at once, each connection loaded serves them all


@kernel
def compress(weight: Array, start: Array, column: Array, values: Array) -> None:
    """Non-zero entries of ``weight`` row by row; the arrays are large enough."""
    count = 0
    for i in range(weight.shape[0]):
        start[i] = count
        row = weight[i]
        for j in range(row.shape[0]):
            if row[j] != 0:
                column[count] = j
                values[count] = row[j]
                count += 1
    start[weight.shape[0]] = count


@kernel
def sparse_event_product(
    x: Array, graded: bool, bits: Array, start: Array, column: Array, values: Array, bias: Array, out: Array,
    first: int, last: int,
) -> None:  # fmt: skip
    """``out = x @ weight_t + bias`` from bits and compressed rows of ``weight_t``: the synaptic operations, no more."""
    index = np.empty(start.shape[0] - 1, np.int64)
    for r in range(first, last):
        total = out[r]
        for j in range(bias.shape[0]):
            total[j] = bias[j]
        for k in range(list_row(bits[r], index)):
            i = index[k]
            if graded:
                for c in range(start[i], start[i + 1]):
                    total[column[c]] += x[r, i] * values[c]
            else:
                for c in range(start[i], start[i + 1]):
                    total[column[c]] += values[c]


@loose_kernel
def sparse_product(x: Array, start: Array, column: Array, values: Array, out: Array, first: int, last: int) -> None:
    """``out = x @ weight`` from compressed rows of ``weight.T``, `LANES` rows at a time as the lanes of vectors."""
    n_in, n_out = x.shape[1], out.shape[1]
    turned, sums = np.zeros((n_in, LANES), x.dtype), np.empty((n_out, LANES), x.dtype)
    for top in range(first, last, LANES):
        rows = min(LANES, last - top)
        for i in range(rows):
            source = x[top + i]
            for k in range(n_in):
                turned[k, i] = source[k]
        for j in range(n_out):
            total = sums[j]
            c, end = start[j], start[j + 1]
            for lane in range(LANES):
                total[lane] = 0
            while c + 4 <= end:
                t0, t1, t2, t3 = turned[column[c]], turned[column[c + 1]], turned[column[c + 2]], turned[column[c + 3]]
                w0, w1, w2, w3 = values[c], values[c + 1], values[c + 2], values[c + 3]
                for lane in range(LANES):
                    total[lane] = total[lane] + w0 * t0[lane] + w1 * t1[lane] + w2 * t2[lane] + w3 * t3[lane]
                c += 4
            while c < end:
                t0, w0 = turned[column[c]], values[c]
                for lane in range(LANES):
                    total[lane] += w0 * t0[lane]
                c += 1
        for i in range(rows):
            target = out[top + i]
            for j in range(n_out):
                target[j] = sums[j, i]
