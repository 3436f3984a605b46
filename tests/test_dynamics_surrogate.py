import math
from dataclasses import dataclass

import pytest
import torch
from reference import lif as oracle
from scipy.integrate import quad

from bregma.dynamics import ATan, Box, FastSigmoid, Surrogate, Triangle, spike

BUILT_IN = [
    (ATan(), oracle.atan, ()),
    (ATan(5.0), oracle.atan, (5.0,)),
    (Triangle(), oracle.triangle, ()),
    (Triangle(0.4), oracle.triangle, (0.4,)),
    (FastSigmoid(), oracle.fast_sigmoid, ()),
    (FastSigmoid(3.0), oracle.fast_sigmoid, (3.0,)),
    (Box(), oracle.box, ()),
    (Box(0.7), oracle.box, (0.7,)),
]
surrogates = pytest.mark.parametrize("surrogate", [s for s, _, _ in BUILT_IN], ids=repr)


def at(surrogate, x):
    return surrogate.derivative(torch.tensor(x, dtype=torch.float64)).item()


@pytest.mark.parametrize(("surrogate", "formula", "constants"), BUILT_IN, ids=lambda v: repr(v))
def test_derivative_is_its_formula(surrogate, formula, constants):
    for x in (-3.0, -1.0, -0.31, -1e-9, 0.0, 1e-9, 0.2, 0.999, 4.0):
        assert at(surrogate, x) == pytest.approx(formula(x, *constants), rel=1e-14, abs=1e-300)


@surrogates
def test_backward_of_spike_is_the_derivative(surrogate):
    x = torch.linspace(-2, 2, 41, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(41, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (grad,) = torch.autograd.grad(spike(x, surrogate), x, upstream)
    torch.testing.assert_close(grad, upstream * surrogate.derivative(x.detach()), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("surrogate", "area"),
    [
        (ATan(2.0), 1),
        (ATan(0.5), 1),
        (Triangle(0.4), 1),
        (Triangle(2.0), 1),
        (Box(0.7), 1),
        (FastSigmoid(25.0), 2 / 25),
    ],
    ids=repr,
)
def test_area(surrogate, area):
    support = getattr(surrogate, "width", math.inf)
    inside, _ = quad(lambda x: at(surrogate, x), 0, min(support, 1.0), points=[support / 2] if support < 2 else None)
    outside, _ = quad(lambda x: at(surrogate, x), min(support, 1.0), support)
    assert 2 * (inside + outside) == pytest.approx(area, rel=1e-9)


@pytest.mark.parametrize(
    ("surrogate", "peak"), [(ATan(5.0), 2.5), (Triangle(0.4), 2.5), (FastSigmoid(25.0), 1.0), (Box(0.5), 2.0)], ids=repr
)
def test_peak_at_zero(surrogate, peak):
    assert at(surrogate, 0.0) == pytest.approx(peak)


@pytest.mark.parametrize(("strict", "expected"), [(True, [0.0, 0.0, 1.0]), (False, [0.0, 1.0, 1.0])])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_step_and_its_tie(strict, expected, dtype):
    tiny = torch.finfo(dtype).tiny
    spikes = spike(torch.tensor([-tiny, 0.0, tiny], dtype=dtype), ATan(), strict=strict)
    assert spikes.dtype == dtype
    assert spikes.tolist() == expected


@dataclass(frozen=True)
class Logistic:
    """A smooth surrogate of a user's own."""

    def derivative(self, x):
        return torch.sigmoid(x) * torch.sigmoid(-x)


@pytest.mark.parametrize("surrogate", [ATan(), FastSigmoid(2.0), Logistic()], ids=repr)
def test_double_backward(surrogate):
    """The gradient of ``spike``, a function of (x, upstream) in its own right, passes gradcheck and gradgradcheck."""
    assert isinstance(surrogate, Surrogate)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(7, dtype=torch.float64, generator=generator, requires_grad=True)  # no point at a kink
    upstream = torch.randn(7, dtype=torch.float64, generator=generator, requires_grad=True)

    def gradient(x, upstream):
        return torch.autograd.grad(spike(x, surrogate), x, upstream, create_graph=True)[0]

    assert torch.autograd.gradcheck(gradient, (x, upstream))
    assert torch.autograd.gradgradcheck(gradient, (x, upstream))


@surrogates
def test_second_derivative_of_every_surrogate_can_be_asked_for(surrogate):
    x = torch.tensor([0.1, -0.2], dtype=torch.float64, requires_grad=True)
    upstream = torch.ones(2, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(spike(x, surrogate), x, upstream, create_graph=True)
    (again,) = torch.autograd.grad(grad.sum(), upstream)
    torch.testing.assert_close(again, surrogate.derivative(x.detach()))


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize(
    ("kind", "name"), [(ATan, "alpha"), (Triangle, "width"), (FastSigmoid, "slope"), (Box, "width")]
)
def test_constant_out_of_range(kind, name, value):
    with pytest.raises(ValueError, match=rf"^{kind.__name__}: {name} must be a finite number > 0, got {value}$"):
        kind(value)
