"""Where the variables start."""

from collections.abc import Sequence

import torch
from torch import Tensor

from bregma.admm.convolution import Correlation
from bregma.admm.forward import current, fire, random_layer
from bregma.admm.problem import Constants, Variables
from bregma.admm.workers import ALONE, Workers
from bregma.dynamics import integrate, linear


def uniform_start(
    x: Tensor,
    sizes: Sequence[int],
    shapes: Sequence[tuple[int, int]],
    generator: torch.Generator,
    first: int = 0,
    samples: int | None = None,
) -> Variables:
    """Membranes and spikes uniform in [0, 1), weights and multiplier zero.

    A worker draws those of all samples, step by step, and keeps its own: the start does not depend on how many share
    the work.

    Args:
        x: input spikes (T, B, n_0).
        sizes: neurons of each layer, the readout's last.
        shapes: of the weights of each layer.
        generator: of the numbers.
        first: of the samples in ``x`` among all.
        samples: how many there are in all; those of ``x`` by default.
    """
    all_samples, last = x.shape[1] if samples is None else samples, first + x.shape[1]

    def draw(neurons: int) -> Tensor:
        drawn = torch.empty(len(x), x.shape[1], neurons, dtype=x.dtype)
        for step in drawn:
            step.copy_(torch.rand(all_samples, neurons, generator=generator, dtype=x.dtype)[first:last])
        return drawn.to(x.device)

    membranes = [draw(neurons) for neurons in sizes]
    spikes = [draw(neurons) for neurons in sizes[:-1]]
    weights = [x.new_zeros(shape) for shape in shapes]
    return Variables(weights, membranes, spikes, _no_multiplier(membranes))


@torch.no_grad()
def forward_start(
    x: Tensor, weights: Sequence[Tensor], constants: Constants, correlations: Sequence[Correlation | None] = ()
) -> Variables:
    """Membranes and spikes of a true forward pass, so that all residuals are zero; multiplier zero.

    Args:
        x: input spikes (T, B, n_0).
        weights: W of each layer, the readout's last.
        constants: decay and threshold.
        correlations: see `bregma.admm.forward.forward`.

    Example:
        >>> start = forward_start(torch.ones(2, 1, 1), [torch.tensor([[1.5]]), torch.ones(1, 1)], Constants(decay=0.5))
        >>> start.membranes[0].flatten(), start.spikes[0].flatten()
        (tensor([1.5000, 1.2500]), tensor([1., 1.]))
    """
    membranes, spikes, a = [], [], x
    for weight, correlation in zip(weights[:-1], correlations or [None] * len(weights), strict=False):
        drive = current(a, weight, correlation)
        a = fire(a, weight, constants, correlation)
        drive[1:] -= constants.threshold * a[:-1]
        membranes.append(integrate(drive, constants.decay)[0])
        spikes.append(a)
    membranes.append(integrate(linear(a, weights[-1]), constants.decay)[0])
    return Variables([weight.clone() for weight in weights], membranes, spikes, _no_multiplier(membranes))


def random_start(
    x: Tensor,
    sizes: Sequence[int],
    constants: Constants,
    generator: torch.Generator,
    correlations: Sequence[Correlation | None] = (),
    workers: Workers = ALONE,
) -> Variables:
    """The true forward pass of random hidden weights that fire at 15 %, with readout weights of zero.

    Args:
        x: input spikes (T, B, n_0).
        sizes: neurons of each layer, the readout's last.
        constants: decay and threshold.
        generator: of the weights.
        correlations: see `bregma.admm.forward.forward`.
        workers: over whose samples the firing rate is a mean.
    """
    weights, a = [], x
    for neurons, correlation in zip(sizes[:-1], correlations or [None] * len(sizes), strict=False):
        weight, a = random_layer(a, neurons, constants, generator, correlation=correlation, workers=workers)
        weights.append(weight)
    return forward_start(x, [*weights, x.new_zeros(sizes[-1], sizes[-2])], constants, correlations)


def _no_multiplier(membranes: Sequence[Tensor]) -> list[Tensor | None]:
    return [*(None for _ in membranes[:-1]), torch.zeros_like(membranes[-1])]
