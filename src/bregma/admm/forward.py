"""The true network: hard spikes, exact dynamics. Accuracy is measured on it and on nothing else."""

from collections.abc import Sequence

import torch
from torch import Tensor

from bregma.admm.convolution import Correlation
from bregma.admm.problem import Constants
from bregma.admm.workers import ALONE, Workers
from bregma.dynamics import integrate, lif, linear


@torch.no_grad()
def current(x: Tensor, weight: Tensor, correlation: Correlation | None = None) -> Tensor:
    """``W x`` (T, B, n) of ``x`` (T, B, inputs) for dense weights, or those of a convolution."""
    if not x.shape[1]:  # a worker without samples
        return x.new_zeros(*x.shape[:2], len(weight) if correlation is None else correlation.neurons)
    if correlation is None:
        return linear(x, weight)
    return correlation.apply(x.flatten(0, 1), weight).view(*x.shape[:2], -1)


@torch.no_grad()
def fire(x: Tensor, weight: Tensor, constants: Constants, correlation: Correlation | None = None) -> Tensor:
    """Spikes (T, B, n) of a layer that hears ``x`` (T, B, inputs) through its weights, Eq. (1)."""
    return lif(current(x, weight, correlation), constants.decay, constants.threshold)[0]


@torch.no_grad()
def forward(
    x: Tensor,
    weights: Sequence[Tensor],
    constants: Constants,
    correlations: Sequence[Correlation | None] = (),
    batch: int = 256,
) -> Tensor:
    """The readout's membrane at the last step, Eq. (1): class scores (B, classes).

    Args:
        x: input spikes (T, B, n_0), any dtype.
        weights: W of each layer, the readout's last.
        constants: decay and threshold.
        correlations: for each hidden layer that is a convolution its map, else None; all dense if empty.
        batch: samples at a time, which bounds the memory.

    Example:
        >>> x = torch.tensor([[[1.0]], [[1.0]]])
        >>> forward(x, [torch.tensor([[2.0]]), torch.tensor([[1.0], [-1.0]])], Constants(decay=0.5))
        tensor([[ 1.5000, -1.5000]])
    """
    scores = []
    for part in x.split(batch, dim=1):
        a = part.to(weights[0].dtype)
        for weight, correlation in zip(weights[:-1], correlations or [None] * len(weights), strict=False):
            a = fire(a, weight, constants, correlation)
        scores.append(integrate(linear(a, weights[-1]), constants.decay)[1])
    return torch.cat(scores)


@torch.no_grad()
def random_layer(
    x: Tensor,
    neurons: int,
    constants: Constants,
    generator: torch.Generator,
    rate: float = 0.15,
    correlation: Correlation | None = None,
    workers: Workers = ALONE,
) -> tuple[Tensor, Tensor]:
    """Gaussian weights scaled so that the layer fires at a given rate: what no training gives.

    Args:
        x: spikes the layer hears (T, B, inputs).
        neurons: n.
        constants: decay and threshold.
        generator: of the weights.
        rate: wanted mean of the spikes, in (0, 0.5); met to about one per cent of itself. If ``x`` is silent, weights
            have the variance 1 / inputs instead.
        correlation: the map of the layer if it is a convolution.
        workers: over whose samples the rate is a mean.

    Returns:
        Weights (n, inputs) and the spikes they cause (T, B, n).

    Example:
        >>> x = (torch.rand(50, 20, 30, generator=torch.Generator().manual_seed(0)) < 0.1).float()
        >>> _, spikes = random_layer(x, 40, Constants(), torch.Generator().manual_seed(1))
        >>> round(spikes.mean().item(), 2)
        0.15
    """
    shape = (neurons, x.shape[-1]) if correlation is None else correlation.weight_shape
    direction = torch.randn(shape, generator=generator, dtype=torch.float64).to(x.dtype) / shape[1] ** 0.5
    drive = current(x, direction, correlation)
    low, high = -12.0, 12.0  # of log2(scale)
    if _mean((drive != 0).to(drive.dtype), workers) == 0:  # silent: no scale would make a neuron fire
        low = high = 0.0
    for _ in range(20):
        middle = (low + high) / 2
        spikes = lif(drive * 2**middle, constants.decay, constants.threshold)[0] if drive.numel() else drive
        found = _mean(spikes, workers)
        if abs(found - rate) < 0.01 * rate:
            break
        low, high = (middle, high) if found < rate else (low, middle)
    return direction * 2**middle, spikes


def _mean(spikes: Tensor, workers: Workers) -> float:
    total = torch.tensor([float(spikes.sum(dtype=torch.float64)), spikes.numel()], dtype=torch.float64)
    workers.sum([total])
    return float(total[0] / total[1])
