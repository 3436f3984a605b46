"""Which kernel computes a product: over spikes, over connections, over both, or a dense one, as their numbers say.

The shares below were measured on a machine with AVX-512, where dense products are at their best. Elsewhere they send
some products to the dense kernel that the others would do a little faster.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bregma.dynamics import memory
from bregma.dynamics.kernels import Array, Kernel
from bregma.dynamics.kernels_dense import dense_product, dense_weight_gradient, panels
from bregma.dynamics.kernels_events import count_events, event_product, event_weight_gradient, unpack
from bregma.dynamics.kernels_sparse import compress, sparse_event_product, sparse_product
from bregma.dynamics.ops import array
from bregma.dynamics.threads import over_rows

EVENT_SHARE = 0.25  # of entries of the input not zero, up to which going over them beats a dense product
EVENT_CONNECTION_SHARE = 0.03  # of weights not zero, up to which each spike should look for its connections
CONNECTION_SHARE = 0.12  # of weights not zero, up to which going over them beats a dense product
LEAST_ROWS = 64  # per thread


@dataclass(frozen=True)
class Train:
    """Rows of spikes: ``bits`` (rows, words) of ``n`` neurons, ``values`` (rows, n) where some may not be one."""

    bits: Array
    n: int
    values: Tensor | None = None
    graded: bool = False

    def is_sparse(self) -> bool:
        """Few enough spikes to go over them."""
        return bool(count_events(self.bits) <= EVENT_SHARE * self.bits.shape[0] * self.n)

    def dense(self, dtype: torch.dtype) -> Array:
        """The rows as numbers."""
        if self.values is not None:
            return array(self.values)
        out = memory.empty((self.bits.shape[0], self.n), dtype)
        rows = array(out)
        over_rows(lambda first, last: unpack(self.bits, rows, first, last), len(rows), LEAST_ROWS)
        return rows

    def kernel_arguments(self, unread: Array) -> tuple[Array, bool, Array]:
        """Values, whether to read them, bits; ``unread`` is handed over where all are ones."""
        if self.graded and self.values is not None:
            return array(self.values), True, self.bits
        return unread, False, self.bits


def forward(train: Train, weight: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """``out = train @ weight.T + bias`` (rows, n_out)."""
    if not train.is_sparse():
        multiply(train.dense(out.dtype), weight.t(), array(out))
        if bias is not None:
            out += bias
        return
    few = _share(weight)
    kernel: Kernel = sparse_event_product if few <= EVENT_CONNECTION_SHARE else event_product
    weight_t = array(weight.t())
    weights = _compressed(weight_t, few) if few <= EVENT_CONNECTION_SHARE else (weight_t,)
    rows, start = array(out), array(weight.new_zeros(len(weight)) if bias is None else bias)
    arguments = *train.kernel_arguments(rows), *weights, start, rows
    over_rows(lambda first, last: kernel(*arguments, first, last), len(rows), LEAST_ROWS)


def multiply(x: Array, weight: Tensor, out: Array) -> None:
    """``out = x @ weight`` for x (rows, n_in) that is no spike train, and weight (n_in, n_out)."""
    few = _share(weight)
    kernel: Kernel = sparse_product if few <= CONNECTION_SHARE else dense_product
    weights = _compressed(array(weight.t()), few) if few <= CONNECTION_SHARE else (panels(array(weight)),)
    over_rows(lambda first, last: kernel(x, *weights, out, first, last), len(out), LEAST_ROWS)


def weight_gradient(train: Train, grad: Tensor) -> Tensor:
    """``grad.T @ train`` (n_out, n_in), dense and exact whatever the weights."""
    rows, n_out = array(grad), grad.shape[1]
    if not train.is_sparse():
        out = memory.empty((n_out, train.n), grad.dtype)
        arrays = train.dense(grad.dtype), rows, array(out)
        over_rows(lambda first, last: dense_weight_gradient(*arrays, first, last), n_out, LEAST_ROWS)
        return out
    out_t = memory.empty((train.n, n_out), grad.dtype)
    arguments = *train.kernel_arguments(rows), rows, array(out_t)
    over_rows(lambda first, last: event_weight_gradient(*arguments, first, last), n_out, LEAST_ROWS)
    return out_t.t().contiguous()


def _share(weight: Tensor) -> float:
    """Share of weights that are not zero."""
    return int(weight.count_nonzero()) / weight.numel()


def _compressed(weight: Array, share: float) -> tuple[Array, Array, Array]:
    """Row starts, columns and values of the non-zero weights."""
    count = round(share * weight.size)
    start, column = np.empty(len(weight) + 1, np.int64), np.empty(count, np.int64)
    values = np.empty(count, weight.dtype)
    compress(weight, start, column, values)
    return start, column, values
