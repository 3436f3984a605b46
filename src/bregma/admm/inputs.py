"""What the updates need of a layer's presynaptic spikes: ``W a``, ``sum x a^T`` and ``sum a a^T``.

Hidden spikes are dense, real and new in every iteration. The data are binary, mostly zero and fixed: their products go
over events, and their Gram matrix and its factor are made once.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from bregma.admm import kernels
from bregma.admm.convolution import ConvolutionInputs, Correlation
from bregma.admm.products import correlate, gram, times
from bregma.admm.statistics import SharedFit, Statistics, sum_over
from bregma.admm.systems import SpikeSystem, System
from bregma.admm.updates import cholesky, pseudo_inverse
from bregma.admm.workers import ALONE, Workers

#: Share of non-zero entries up to which products over events were measured to be faster than dense ones.
EVENT_SHARE = 0.15


class Inputs(Protocol):
    """Presynaptic spikes (T, B, n) of a layer of m neurons."""

    def drive(self, weight: Tensor, out: Tensor) -> Tensor:
        """``a @ weight.T`` (T, B, m), written to ``out``."""

    def fit(self, sums: Tensor, ridge: float) -> Tensor:
        """Weights (m, n) of Eq. (4): least squares of ``sums`` (T, B, m) on the spikes."""

    def feedback(self, sums: Tensor, weight: Tensor, out: Tensor) -> Tensor:
        """``sums @ weight`` (T, B, n), written to ``out``."""

    def system(self, weight: Tensor, rho: float, shift: float) -> System:
        """The system that the spikes solve, Eq. (8)."""


class DenseInputs:
    """Real-valued spikes, those of a hidden layer or data that are no events.

    Args:
        a: the spikes (T, B, n); read anew at every call.
        fixed: they are data and never change, nor does their Gram matrix.
        workers: whose samples the least squares is over.

    Example:
        >>> spikes = torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]]])
        >>> DenseInputs(spikes).fit(torch.tensor([[[2.0]], [[5.0]]]), ridge=0.0)
        tensor([[2., 3.]])
    """

    def __init__(self, a: Tensor, fixed: bool = False, workers: Workers = ALONE) -> None:
        self._rows, self._workers = a.view(-1, a.shape[-1]), workers
        self._shared = SharedFit(fixed, workers)

    def drive(self, weight: Tensor, out: Tensor) -> Tensor:
        """``a @ weight.T`` (T, B, m), written to ``out``."""
        times(self._rows, weight.T, out.view(-1, len(weight)))
        return out

    def fit(self, sums: Tensor, ridge: float) -> Tensor:
        """Least squares; the sums and the factor in float64."""
        cross = correlate(self._rows, sums.view(-1, sums.shape[-1]))
        own = gram(self._rows) if self._shared.due else cross.new_empty(0, 0)
        return self._shared.weights(Statistics(own, cross, cross.new_tensor(len(self._rows))), ridge, like=sums)

    def feedback(self, sums: Tensor, weight: Tensor, out: Tensor) -> Tensor:
        """``sums @ weight`` (T, B, n), written to ``out``."""
        times(sums.view(-1, len(weight)), weight, out.view(-1, weight.shape[1]))
        return out

    def system(self, weight: Tensor, rho: float, shift: float) -> System:
        """The system that the spikes solve, Eq. (8)."""
        return SpikeSystem(weight, rho, shift)


class EventInputs(DenseInputs):
    """The data as events: binary, sparse, the same in every iteration.

    Inputs that never fire are left out: least squares gives them the weight zero.

    Args:
        x: zeros and ones (T, B, n).
        workers: see `DenseInputs`.

    Example:
        >>> x = torch.tensor([[[1.0, 0.0, 0.0]], [[1.0, 0.0, 1.0]]])
        >>> EventInputs(x).fit(torch.tensor([[[2.0]], [[5.0]]]), ridge=0.0)
        tensor([[2., 0., 3.]])
    """

    def __init__(self, x: Tensor, workers: Workers = ALONE) -> None:
        super().__init__(x.contiguous(), fixed=True, workers=workers)
        rows = self._rows
        self._size = rows.shape[1]
        fired = rows.any(0).double()
        workers.sum([fired])
        self._active = fired.nonzero().squeeze(1)
        self._indptr = np.zeros(len(rows) + 1, dtype=np.int64)
        self._index = kernels.event_lists(rows[:, self._active].contiguous().numpy(), self._indptr)
        self._inverse: tuple[float, Tensor] | None = None

    def drive(self, weight: Tensor, out: Tensor) -> Tensor:
        """``x @ weight.T`` (T, B, m), written to ``out``."""
        columns = weight[:, self._active].T.contiguous()
        kernels.event_drive(self._indptr, self._index, columns.numpy(), out.view(-1, len(weight)).numpy())
        return out

    def fit(self, sums: Tensor, ridge: float) -> Tensor:
        """Least squares."""
        m = sums.shape[-1]
        product = torch.zeros((len(self._active), m), dtype=sums.dtype)
        kernels.event_correlation(self._indptr, self._index, sums.view(-1, m).numpy(), product.numpy())
        cross = self._over_all(product.new_empty(0, 0, dtype=torch.float64), product.double()).cross
        weight = sums.new_zeros((m, self._size))
        exact = product.new_empty((m, len(self._active)), dtype=torch.float64)
        times(cross.T.contiguous(), self._gram_inverse(ridge), exact)
        weight[:, self._active] = exact.to(sums.dtype)
        return weight

    def _gram_inverse(self, ridge: float) -> Tensor:
        """Inverse of the Gram matrix from its float64 Cholesky factor, kept.

        Against the general rule an explicit inverse: it serves every iteration, a product with it takes a third of the
        time of the two triangular solves, and in float64 its error is far below the rounding of float32 weights.
        """
        if self._inverse is None or self._inverse[0] != ridge:
            gram = np.zeros((len(self._active), len(self._active)))
            kernels.event_gram(self._indptr, self._index, gram)
            exact = self._over_all(torch.from_numpy(gram), torch.empty(len(gram), 0, dtype=torch.float64)).gram
            inverse = torch.cholesky_inverse(cholesky(exact, ridge)) if ridge > 0 else pseudo_inverse(exact)
            self._inverse = ridge, inverse
        return self._inverse[1]

    def _over_all(self, gram: Tensor, cross: Tensor) -> Statistics:
        """Of all workers' samples; the two are never due together."""
        statistics = Statistics(gram, cross, gram.new_tensor(len(self._rows)))
        sum_over(self._workers, [statistics])
        return statistics


def data_inputs(x: Tensor, workers: Workers = ALONE) -> Inputs:
    """The data as events if they are sparse, binary and on the CPU, dense otherwise; the same on all workers."""
    facts = x.new_tensor([float(((x != 0) & (x != 1)).sum()), float(x.sum()), x.numel()], dtype=torch.float64)
    workers.sum([facts])
    other, ones, entries = facts.tolist()
    if x.device.type == "cpu" and not other and ones <= EVENT_SHARE * entries:
        return EventInputs(x, workers)
    return DenseInputs(x.contiguous(), fixed=True, workers=workers)


def presynaptic_inputs(
    x: Tensor, spikes: Sequence[Tensor], correlations: Sequence[Correlation | None], workers: Workers = ALONE
) -> list[Inputs]:
    """What each layer listens to, the readout included.

    Args:
        x: the data (T, B, n_0).
        spikes: of each hidden layer (T, B, n).
        correlations: for each hidden layer that is a convolution its map, else None.
        workers: whose samples the least squares are over.
    """
    inputs: list[Inputs] = []
    for k, (a, correlation) in enumerate(zip((x, *spikes), (*correlations, None), strict=True)):
        if correlation is not None:
            inputs.append(ConvolutionInputs(a.contiguous(), correlation, fixed=k == 0, workers=workers))
        else:
            inputs.append(data_inputs(a, workers) if k == 0 else DenseInputs(a, workers=workers))
    return inputs
