"""Convolutional layers, section 6 of the paper: ``W a`` becomes a correlation, which is as linear.

Weights are kept as matrices (channels, inputs per patch). The weight update is the least squares over all patches, the
feedback is the adjoint, and the spikes' system is factorised once for all rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bregma.admm.checks import whole
from bregma.admm.products import correlate, gram, times
from bregma.admm.statistics import SharedFit, Statistics
from bregma.admm.systems import box_minimum
from bregma.admm.updates import cholesky
from bregma.admm.workers import ALONE, Workers

_ROWS = 512  # frames unfolded at a time
_PLACES = 64  # places of a map whose products are summed at a time


@dataclass(frozen=True)
class Convolution:
    """A hidden layer whose neurons share square kernels.

    Args:
        channels: kernels, each with a map of neurons of its own, >= 1.
        kernel: side of a kernel, >= 1.
        stride: pixels between two neighbours, >= 1.
        padding: zeros around the frame, >= 0.

    Raises:
        TypeError: one of them is no integer.
        ValueError: one of them is too small.

    Example:
        >>> Convolution(8, kernel=5, stride=2).on((2, 34, 34)).out_shape
        (8, 15, 15)
    """

    channels: int
    kernel: int
    stride: int = 1
    padding: int = 0

    def __post_init__(self) -> None:
        for name, least in (("channels", 1), ("kernel", 1), ("stride", 1), ("padding", 0)):
            object.__setattr__(self, name, whole(name, getattr(self, name), least))  # torch takes no numpy integer

    def on(self, shape: Sequence[int]) -> Correlation:
        """The linear map on frames of a shape (channels, height, width)."""
        return Correlation(self, tuple(shape))


class Correlation:
    """The linear map of a `Convolution` on frames of one shape; frames and maps travel as flat rows.

    Args:
        layer: see `Convolution`.
        in_shape: (channels, height, width) of what it is applied to.

    Raises:
        ValueError: the frames have another number of axes, or are smaller than the kernel.
    """

    def __init__(self, layer: Convolution, in_shape: tuple[int, ...]) -> None:
        if len(in_shape) != 3:
            raise ValueError(f"frame_shape must be (channels, height, width) for a convolution, got {in_shape}")
        self.layer, self.in_shape = layer, in_shape
        sides = [(side + 2 * layer.padding - layer.kernel) for side in in_shape[1:]]
        if min(sides) < 0:
            raise ValueError(f"kernel must be <= the padded frame, got {layer.kernel} for frames {in_shape}")
        self.out_shape = (layer.channels, *(side // layer.stride + 1 for side in sides))
        self.left_over = tuple(side % layer.stride for side in sides)
        self.neurons = self.out_shape[0] * self.out_shape[1] * self.out_shape[2]
        self.weight_shape = (layer.channels, in_shape[0] * layer.kernel**2)

    def apply(self, rows: Tensor, weight: Tensor) -> Tensor:
        """``W a`` of frames (R, inputs): maps (R, neurons)."""
        frames = rows.view(-1, *self.in_shape)
        maps = F.conv2d(frames, self._kernels(weight), stride=self.layer.stride, padding=self.layer.padding)
        return maps.flatten(1)

    def adjoint(self, rows: Tensor, weight: Tensor) -> Tensor:
        """``W^T v`` of maps (R, neurons): frames (R, inputs)."""
        maps = rows.view(-1, *self.out_shape)
        frames = F.conv_transpose2d(
            maps,
            self._kernels(weight),
            stride=self.layer.stride,
            padding=self.layer.padding,
            output_padding=self.left_over,
        )
        return frames.flatten(1)

    def patches(self, rows: Tensor) -> Tensor:
        """What each neuron of a map sees of frames (R, inputs): (R * places, inputs per patch)."""
        frames = rows.view(-1, *self.in_shape)
        columns = F.unfold(frames, self.layer.kernel, stride=self.layer.stride, padding=self.layer.padding)
        return columns.transpose(1, 2).flatten(0, 1)

    def by_place(self, rows: Tensor) -> Tensor:
        """Maps (R, neurons) as (R * places, channels), in the order of `patches`."""
        places = self.out_shape[1] * self.out_shape[2]
        return rows.view(len(rows), self.layer.channels, places).transpose(1, 2).flatten(0, 1)

    def normal_matrix(self, weight: Tensor) -> Tensor:
        """``W^T W`` (inputs, inputs): at each place of a map, the products of the kernels' entries with each other."""
        channels, height, width = self.in_shape
        inputs = channels * height * width
        numbers = torch.arange(1, inputs + 1, dtype=torch.float64).view(1, -1)  # zero is the padding
        places = self.patches(numbers).long()
        products = (weight.T @ weight).flatten()
        matrix = weight.new_zeros((inputs + 1) ** 2)
        for part in places.split(_PLACES):
            entries = part[:, :, None] * (inputs + 1) + part[:, None, :]
            matrix.index_add_(0, entries.flatten(), products.repeat(len(part)))
        return matrix.view(inputs + 1, inputs + 1)[1:, 1:]

    def _kernels(self, weight: Tensor) -> Tensor:
        return weight.view(self.layer.channels, self.in_shape[0], self.layer.kernel, self.layer.kernel)


class ConvolutionInputs:
    """Presynaptic spikes (T, B, inputs) of a convolutional layer, see `bregma.admm.inputs.Inputs`.

    Args:
        a: the spikes, read anew at every call.
        correlation: the map of the layer.
        fixed: the spikes are data and never change.
        workers: whose samples the least squares is over.
    """

    def __init__(self, a: Tensor, correlation: Correlation, fixed: bool = False, workers: Workers = ALONE) -> None:
        self._rows, self._map = a.view(-1, a.shape[-1]), correlation
        self._shared = SharedFit(fixed, workers)

    def drive(self, weight: Tensor, out: Tensor) -> Tensor:
        """``W a`` (T, B, m), written to ``out``."""
        flat = out.view(-1, out.shape[-1])
        for rows, part in zip(self._rows.split(_ROWS), flat.split(_ROWS), strict=True):
            part.copy_(self._map.apply(rows, weight))
        return out

    def fit(self, sums: Tensor, ridge: float) -> Tensor:
        """Least squares of ``sums`` (T, B, m) on the patches, summed in float64."""
        channels, size = self._map.weight_shape
        own, due = Statistics.empty(size, channels, sums.device), self._shared.due
        if not due:
            own.gram = own.gram.new_empty(0, 0)
        flat = sums.view(-1, sums.shape[-1])
        for rows, wanted in zip(self._rows.split(_ROWS), flat.split(_ROWS), strict=True):
            patches = self._map.patches(rows)
            own.cross += correlate(patches, self._map.by_place(wanted))
            own.count += len(patches)
            if due:
                own.gram += gram(patches)
        return self._shared.weights(own, ridge, like=sums)

    def feedback(self, sums: Tensor, weight: Tensor, out: Tensor) -> Tensor:
        """``W^T sums`` (T, B, inputs), written to ``out``."""
        flat = out.view(-1, out.shape[-1])
        for rows, part in zip(sums.view(-1, sums.shape[-1]).split(_ROWS), flat.split(_ROWS), strict=True):
            part.copy_(self._map.adjoint(rows, weight))
        return out

    def system(self, weight: Tensor, rho: float, shift: float) -> ConvolutionSystem:
        """The system of the spikes that feed this layer."""
        return ConvolutionSystem(weight, rho, shift, self._map)


class ConvolutionSystem:
    """Solves ``(rho W^T W + shift I) a = product`` for a correlation W, see `bregma.admm.systems.SpikeSystem`.

    All rows share one symmetric matrix, so its inverse is formed from a Cholesky factor in float64 and rounded once, as
    in `bregma.admm.systems.SpikeSystem`. Conjugate gradients took fifty times as long per row; the Fourier transform
    solves another system, that of frames without an edge, and as a preconditioner it saved no round
    (`benchmarks/admm.py --only convolution`).

    Args:
        weight: kernels as a matrix (channels, inputs per patch).
        rho: weight of the dynamics, > 0.
        shift: see `bregma.admm.updates.spike_shift`, > 0.
        correlation: the map.
    """

    def __init__(self, weight: Tensor, rho: float, shift: float, correlation: Correlation) -> None:
        self.weight, self.rho, self.shift, self._map = weight, rho, shift, correlation
        factor = cholesky(rho * correlation.normal_matrix(weight.double()), shift)
        self.matrix = torch.cholesky_inverse(factor).to(weight.dtype)

    def multiply(self, a: Tensor) -> Tensor:
        """The left-hand side of the system for rows (R, inputs)."""
        return self.rho * self._map.adjoint(self._map.apply(a, self.weight), self.weight) + self.shift * a

    def solve(self, product: Tensor, out: Tensor) -> Tensor:
        """Solutions (R, inputs) for right-hand sides (R, inputs), written to ``out``."""
        return times(product, self.matrix, out)

    def solve_in_box(self, product: Tensor, start: Tensor) -> Tensor:
        """Solutions with all entries in [0, 1], see `bregma.admm.systems.box_minimum`."""
        kernels = self.weight.abs().view(self._map.layer.channels, self._map.in_shape[0], -1).sum(2)
        largest = float(kernels.sum(1).max()) * float(kernels.sum(0).max())  # of the eigenvalues of W^T W, at most
        return box_minimum(self.multiply, self.shift, self.rho * largest + self.shift, product, start)
