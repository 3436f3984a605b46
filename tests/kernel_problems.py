"""Problems on which the compiled kernels are held against the torch reference."""

import itertools

import torch

from bregma import dynamics
from bregma.dynamics import RESETS, ATan, Box, FastSigmoid, Triangle, use_backend

SURROGATES = [ATan(), Triangle(), FastSigmoid(slope=5.0), Box()]
TOLERANCE = {torch.float32: 5e-6, torch.float64: 1e-12}
OPTIONS = [
    {"reset": reset, "strict": strict, "detach_reset": detach, "surrogate": surrogate}
    for reset, strict, detach, surrogate in itertools.product(RESETS, (True, False), (True, False), SURROGATES)
]


def grid(generator, *shape, scale=8.0):
    """Random multiples of 1/scale: sums of them are exact, so that the order of summation cannot flip a spike."""
    return torch.randint(-12, 17, shape, generator=generator) / scale


def problem(seed, steps, batch, n, dtype, stateful, kind):
    """Arguments by name, all that take a gradient as leaves, and upstream gradients."""
    generator = torch.Generator().manual_seed(seed)
    leaves = {"current": grid(generator, steps, batch, n)}
    delayed = kind in ("delayed", "gated")
    if kind == "recurrent" or delayed:
        leaves["weight"] = (grid(generator, n, n) - 0.375) / 4
    if delayed:
        leaves["delays"] = torch.randint(0, 13, (n,), generator=generator) / 4
    if stateful:
        leaves["state"] = grid(generator, *([4] if delayed else []), batch, n)
    leaves = {name: value.to(dtype).requires_grad_() for name, value in leaves.items()}
    choices = torch.tensor([0.5, 0.75, 1.0], dtype=dtype)
    constants = {"decay": choices[torch.randint(3, (n,), generator=generator)]}
    if kind != "readout":
        constants["threshold"] = choices[torch.randint(3, (n,), generator=generator)]
    if delayed:
        constants |= {"spread": 1.0, "slots": 5}  # a spread of one keeps the kernel on the grid
    if kind == "gated":
        constants["gate"] = 2 * torch.randint(0, 2, (batch, n), generator=generator).to(dtype)
    end = (6, batch, n) if delayed else (batch, n)
    upstream = torch.randn(steps, batch, n, generator=generator), torch.randn(end, generator=generator)
    return leaves, constants, [grad.to(dtype) for grad in upstream]


FUNCTIONS = {"lif": dynamics.lif, "recurrent": dynamics.recurrent_lif, "readout": dynamics.integrate}
FUNCTIONS["delayed"] = FUNCTIONS["gated"] = dynamics.delayed_recurrent_lif
KINDS = list(FUNCTIONS)


def run(name, kind, leaves, constants, upstream, options):
    with use_backend(name):
        outputs = FUNCTIONS[kind](**leaves, **constants, **options)
        gradients = torch.autograd.grad(outputs, list(leaves.values()), upstream)
    return outputs, dict(zip(leaves, gradients, strict=True))


def assert_same(kind, leaves, constants, upstream, options):
    outputs, gradients = run("numba", kind, leaves, constants, upstream, options)
    expected, expected_gradients = run("torch", kind, leaves, constants, upstream, options)
    for output, target in zip(outputs, expected, strict=True):
        assert torch.equal(output, target)
    # Of all gradients: a small one may be the difference of large terms.
    largest = max(float(target.abs().max()) for target in expected_gradients.values())
    for name, gradient in gradients.items():
        target = expected_gradients[name]
        bound = TOLERANCE[target.dtype] * max(largest, 1e-3)
        assert (gradient - target).abs().max() <= bound, name
    return expected[0]
