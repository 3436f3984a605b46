"""Problems for the plain recurrences, in float64."""

import torch

F64 = torch.float64


def randn(generator, *shape):
    return torch.randn(*shape, dtype=F64, generator=generator)


def problem(seed, steps, batch, n, with_state=True):
    """Everything a recurrent layer takes, float64, lively enough to fire; leaves of the graph."""
    generator = torch.Generator().manual_seed(seed)
    given = {
        "current": randn(generator, steps, batch, n) + 0.5,
        "weight": randn(generator, n, n),
        "decay": torch.rand(n, dtype=F64, generator=generator),
        "threshold": 0.5 + torch.rand(n, dtype=F64, generator=generator),
    }
    if with_state:
        given["state"] = 2 * randn(generator, batch, n)
    upstream = randn(generator, steps, batch, n), randn(generator, batch, n)
    return {name: value.requires_grad_() for name, value in given.items()}, upstream


def gradients(outputs, upstream, inputs):
    total = sum((output * grad).sum() for output, grad in zip(outputs, upstream, strict=True))
    return torch.autograd.grad(total, inputs, allow_unused=True, materialize_grads=True)
