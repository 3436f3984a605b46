"""Small problems for the tests of ADMM."""

import torch

from bregma.admm import Constants, Problem, Variables


def spike_data(steps=7, samples=5, inputs=9, classes=3, seed=0, dtype=torch.float64):
    """Sparse binary frames (T, B, n) and one-hot labels (B, C)."""
    generator = torch.Generator().manual_seed(seed)
    x = (torch.rand(steps, samples, inputs, generator=generator) < 0.14).to(dtype)
    y = torch.eye(classes, dtype=dtype)[torch.arange(samples) % classes]
    return x, y


def random_point(sizes=(8, 6, 3), steps=7, samples=5, inputs=9, seed=0, duals=False, **constants):
    """A problem and variables in general position."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x, y = spike_data(steps, samples, inputs, sizes[-1], seed)
    weights = [draw(n, m) / m**0.5 for n, m in zip(sizes, (inputs, *sizes), strict=False)]
    membranes = [1 + draw(steps, samples, n) for n in sizes]
    spikes = [torch.rand(steps, samples, n, generator=generator, dtype=torch.float64) for n in sizes[:-1]]
    multipliers = [draw(steps, samples, n) if duals else None for n in sizes]
    if not duals:
        multipliers[-1] = torch.zeros(steps, samples, sizes[-1], dtype=torch.float64)
        multipliers[-1][-1] = draw(samples, sizes[-1])
    spike_multipliers = [draw(steps, samples, n) / 10 for n in sizes[:-1]] if duals else []
    variables = Variables(weights, membranes, spikes, multipliers, spike_multipliers)
    return Problem(x, y, Constants(**constants)), variables
