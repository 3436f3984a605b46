"""Dense products of a tall matrix with a small one, four rows at a time.

Four rows by four steps of the sum is what the vector registers hold: a weight loaded serves four rows, a sum loaded
and stored takes four terms. Written out like this the compiler reaches the speed of a BLAS call, without its threads.
"""

import numpy as np

from bregma.dynamics.kernels import Array, inline, loose_kernel

ROWS = 4
WIDTH = 32  # columns the compiled loop takes at a time; what is left would be done one by one


def padded(weight: Array) -> Array:
    """The matrix with zero rows added up to a multiple of `ROWS` and zero columns up to a multiple of `WIDTH`."""
    n_in, n_out = weight.shape
    out = np.zeros((-(-n_in // ROWS) * ROWS, -(-n_out // WIDTH) * WIDTH), weight.dtype)
    out[:n_in, :n_out] = weight
    return out


@inline
def four_rows(x: Array, weight: Array, out: Array) -> None:
    """``out = x @ weight`` for x (4, n_in) and a padded weight (n_in, n_out)."""
    out[:] = 0
    for k in range(0, weight.shape[0], 4):
        w0, w1, w2, w3 = weight[k], weight[k + 1], weight[k + 2], weight[k + 3]
        a0, a1, a2, a3 = x[0, k], x[0, k + 1], x[0, k + 2], x[0, k + 3]
        b0, b1, b2, b3 = x[1, k], x[1, k + 1], x[1, k + 2], x[1, k + 3]
        c0, c1, c2, c3 = x[2, k], x[2, k + 1], x[2, k + 2], x[2, k + 3]
        d0, d1, d2, d3 = x[3, k], x[3, k + 1], x[3, k + 2], x[3, k + 3]
        for j in range(weight.shape[1]):
            out[0, j] = out[0, j] + a0 * w0[j] + a1 * w1[j] + a2 * w2[j] + a3 * w3[j]
            out[1, j] = out[1, j] + b0 * w0[j] + b1 * w1[j] + b2 * w2[j] + b3 * w3[j]
            out[2, j] = out[2, j] + c0 * w0[j] + c1 * w1[j] + c2 * w2[j] + c3 * w3[j]
            out[3, j] = out[3, j] + d0 * w0[j] + d1 * w1[j] + d2 * w2[j] + d3 * w3[j]


@loose_kernel
def dense_product(x: Array, weight: Array, out: Array, first: int, last: int) -> None:
    """``out = x @ weight`` for rows ``first`` to ``last`` and a padded weight that fits the second-level cache."""
    four = np.zeros((ROWS, weight.shape[0]), x.dtype)
    result = np.empty((ROWS, weight.shape[1]), x.dtype)
    for top in range(first, last, ROWS):
        rows = min(ROWS, last - top)
        for i in range(rows):
            for k in range(x.shape[1]):
                four[i, k] = x[top + i, k]
        four_rows(four, weight, result)
        for i in range(rows):
            for j in range(out.shape[1]):
                out[top + i, j] = result[i, j]
