"""Dense products of the solver: tall matrices (rows of all samples and steps) with small ones, and sums over the rows.

On the CPU they run on the vector kernel of `bregma.dynamics`, measured to be twice as fast as torch's BLAS on machines
with AVX-512; elsewhere, and for thin matrices, they are torch's own. Sums over rows are collected in float64.
"""

from itertools import pairwise

import torch
from torch import Tensor

from bregma.dynamics.kernels_dense import dense_product, panels
from bregma.dynamics.threads import over_rows

_ROWS_AT_A_TIME = 256  # that many rows of a tall matrix stay in the cache for all columns of the result
_TERMS_AT_A_TIME = 512
_GRAM_BLOCKS = 4
_THIN = 48  # columns below which torch is faster
_LEAST = 64  # rows per thread


def times(rows: Tensor, matrix: Tensor, out: Tensor) -> Tensor:
    """``rows @ matrix`` (R, m), written to ``out``.

    Args:
        rows: (R, n), contiguous.
        matrix: (n, m).
        out: (R, m), contiguous, of the same dtype.

    Example:
        >>> times(torch.ones(1, 2), torch.tensor([[1.0], [2.0]]), torch.empty(1, 1))
        tensor([[3.]])
    """
    if rows.device.type != "cpu" or min(matrix.shape) < _THIN:
        return torch.mm(rows, matrix, out=out)
    x, cut, target = rows.numpy(), panels(matrix.numpy()), out.numpy()

    def part(first: int, last: int) -> None:
        for begin in range(first, last, _ROWS_AT_A_TIME):
            dense_product(x, cut, target, begin, min(begin + _ROWS_AT_A_TIME, last))

    over_rows(part, len(rows), _LEAST)
    return out


def correlate(left: Tensor, right: Tensor) -> Tensor:
    """``left.T @ right`` (m, n) of (R, m) and (R, n), summed in float64.

    Example:
        >>> correlate(torch.ones(2, 1), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        tensor([[4., 6.]], dtype=torch.float64)
    """
    total = left.new_zeros((left.shape[1], right.shape[1]), dtype=torch.float64)
    part = left.new_empty(total.shape)
    for a, b in zip(left.split(_TERMS_AT_A_TIME), right.split(_TERMS_AT_A_TIME), strict=True):
        total += times(a.T.contiguous(), b, part)
    return total


def gram(rows: Tensor) -> Tensor:
    """``rows.T @ rows`` (n, n) of (R, n), summed in float64; block by block, those above the diagonal left zero.

    A Cholesky factorisation reads the lower triangle only.

    Example:
        >>> gram(torch.tensor([[1.0, 2.0]])).tril()
        tensor([[1., 0.],
                [2., 4.]], dtype=torch.float64)
    """
    n = rows.shape[1]
    edges = [n * k // _GRAM_BLOCKS for k in range(_GRAM_BLOCKS + 1)]
    blocks = [(begin, end, rows.new_empty(n - begin, end - begin)) for begin, end in pairwise(edges) if begin < end]
    total = rows.new_zeros((n, n), dtype=torch.float64)
    for chunk in rows.split(_TERMS_AT_A_TIME):
        turned = chunk.T.contiguous()
        for begin, end, part in blocks:
            total[begin:, begin:end] += times(turned[begin:], chunk[:, begin:end], part)
    return total
