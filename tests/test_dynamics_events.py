"""Products with spikes against the dense products of torch, and how bits travel with their tensor."""

import copy
import pickle
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bregma import dynamics
from bregma.dynamics import events, use_backend
from bregma.nn import LIF, SpikeLinear

F64 = torch.float64


def sparse_input(seed, shape, density, graded=False):
    generator = torch.Generator().manual_seed(seed)
    x = (torch.rand(shape, dtype=F64, generator=generator) < density).to(F64)
    return x * torch.randint(1, 4, shape, generator=generator) if graded else x


def both(x, weight, bias, upstream):
    """(output, gradients) of ours and of torch."""
    results = []
    for function in (dynamics.linear, torch.nn.functional.linear):
        inputs = [value.detach().clone().requires_grad_() for value in (x, weight, bias) if value is not None]
        out = function(*inputs)
        results.append((out, torch.autograd.grad(out, inputs, upstream)))
    return results


def assert_same(x, n_out, seed=0, biased=True, zeros=0.0, dtype=F64):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(n_out, x.shape[-1], dtype=F64, generator=generator)
    weight *= torch.rand(weight.shape, generator=generator) >= zeros
    bias = torch.randn(n_out, dtype=F64, generator=generator) if biased else None
    upstream = torch.randn(*x.shape[:-1], n_out, dtype=F64, generator=generator)
    cast = [None if value is None else value.to(dtype) for value in (x, weight, bias, upstream)]
    (out, gradients), (expected, target) = both(*cast)
    tolerance = 1e-12 if dtype == F64 else 5e-6
    for ours, theirs in zip((out, *gradients), (expected, *target), strict=True):
        assert ours.shape == theirs.shape
        assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max().clamp(min=1.0)


@settings(max_examples=50, deadline=None)
@given(
    steps=st.integers(1, 5),
    batch=st.integers(1, 5),
    n_in=st.integers(1, 140),
    n_out=st.integers(1, 70),
    density=st.sampled_from([0.0, 0.03, 0.5, 1.0]),
    graded=st.booleans(),
    biased=st.booleans(),
    zeros=st.sampled_from([0.0, 0.9, 1.0]),
    dtype=st.sampled_from([torch.float32, F64]),
)
def test_every_shape_and_activity(steps, batch, n_in, n_out, density, graded, biased, zeros, dtype):
    x = sparse_input(n_in, (steps, batch, n_in), density, graded)
    assert_same(x, n_out, biased=biased, zeros=zeros, dtype=dtype)


@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 3, 4, 7)])
def test_any_number_of_axes(shape):
    assert_same(sparse_input(1, shape, 0.2), 5)


def test_negative_and_tiny_values_count():
    x = torch.zeros(4, 70, dtype=F64)
    x[0, 3], x[1, 69], x[2, 0] = -1.0, 1e-300, -0.0
    assert_same(x, 5)


def test_inputs_in_any_layout():
    x = sparse_input(2, (6, 4, 9), 0.2).transpose(0, 1)
    assert not x.is_contiguous()
    assert_same(x, 5)


def test_gradient_is_exact_where_weights_are_zero():
    x = sparse_input(3, (6, 4, 9), 0.1)
    weight = torch.zeros(5, 9, dtype=F64, requires_grad=True)
    upstream = torch.randn(6, 4, 5, dtype=F64)
    (gradient,) = torch.autograd.grad(dynamics.linear(x, weight), weight, upstream)
    torch.testing.assert_close(gradient, torch.einsum("tbo,tbi->oi", upstream, x), rtol=1e-12, atol=1e-12)
    assert (gradient != 0).any()


@pytest.fixture
def packs(monkeypatch):
    """Counts the times a tensor is searched for spikes."""
    calls = []
    original = torch.ops.bregma.pack
    monkeypatch.setattr(torch.ops.bregma, "pack", lambda x: calls.append(x) or original(x))
    return calls


def test_bits_travel_with_the_spikes(packs):
    layer, dense = LIF(0.9), SpikeLinear(70, 3)
    spikes, _ = layer(3 * torch.rand(5, 2, 70, requires_grad=True))
    out = dense(spikes)
    assert not packs
    torch.testing.assert_close(out, torch.nn.functional.linear(spikes, dense.weight, dense.bias))
    dense(spikes.clone())
    assert len(packs) == 1


def test_bits_do_not_survive_a_change_in_place(packs):
    dense = SpikeLinear(7, 3, bias=False)
    spikes, _ = LIF(0.9)(torch.full((2, 1, 7), 2.0))
    spikes[:, :, 3] = 0
    torch.testing.assert_close(dense(spikes), torch.nn.functional.linear(spikes, dense.weight))
    assert len(packs) == 1


def test_copies_do_not_take_bits_along(packs):
    dense = SpikeLinear(7, 3)
    spikes, _ = LIF(0.9)(torch.full((2, 1, 7), 2.0))
    dense(copy.deepcopy(spikes))
    dense(pickle.loads(pickle.dumps(spikes)))
    assert len(packs) == 2


def test_bits_die_with_their_tensor():
    spikes, _ = LIF(0.9)(torch.full((2, 1, 7), 2.0))
    bits = weakref.ref(events.recall(spikes))
    assert bits() is not None
    del spikes
    assert bits() is None


def test_inference_mode():
    dense = SpikeLinear(7, 3)
    with torch.inference_mode():
        spikes, _ = LIF(0.9)(torch.full((2, 1, 7), 2.0))
        spikes[0] = 0
        torch.testing.assert_close(dense(spikes), torch.nn.functional.linear(spikes, dense.weight, dense.bias))


def test_spikes_are_not_kept_for_the_backward_pass():
    spikes, _ = LIF(0.9)(3 * torch.rand(5, 2, 70, requires_grad=True))
    out = SpikeLinear(70, 3)(spikes)
    shapes = [value.shape for value in out.grad_fn.saved_tensors if value is not None]
    assert torch.Size([3, 70]) in shapes
    assert spikes.shape not in shapes


def test_frozen_weights_take_no_gradient():
    dense = SpikeLinear(7, 3)
    dense.weight.requires_grad_(False)
    x = sparse_input(4, (2, 7), 0.3).float().requires_grad_()
    dense(x).sum().backward()
    assert dense.weight.grad is None
    torch.testing.assert_close(x.grad, dense.weight.sum(0).expand(2, 7))


def test_compile_traces_through():
    layer, dense = LIF(0.9), SpikeLinear(6, 4)

    def net(x):
        return layer(dense(x))[0]

    x = sparse_input(5, (5, 2, 6), 0.3).float()
    expected, out = net(x), torch.compile(net, fullgraph=True, backend="aot_eager")(x)
    assert torch.equal(out, expected)
    ours = torch.autograd.grad(out.sum(), dense.weight)[0]
    torch.testing.assert_close(ours, torch.autograd.grad(expected.sum(), dense.weight)[0])


def test_operator_keeps_its_promises():
    x = sparse_input(6, (3, 2, 6), 0.3).requires_grad_()
    weight = torch.randn(4, 6, dtype=F64, requires_grad=True)
    bits, graded = torch.ops.bregma.pack(x)
    for known in (graded, None):
        torch.library.opcheck(torch.ops.bregma.linear.default, (x, bits, known, weight, None))


def test_threads_do_not_change_results():
    before = torch.get_num_threads()
    x = sparse_input(7, (40, 13, 90), 0.1).float().requires_grad_()
    weight = torch.randn(170, 90, requires_grad=True)
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            out = dynamics.linear(x, weight)
            results.append((out, *torch.autograd.grad(out.square().sum(), (x, weight))))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_what_the_kernels_do_not_do_goes_to_torch(packs):
    weight = torch.randn(3, 4, dtype=torch.bfloat16)
    assert dynamics.linear(torch.ones(2, 4, dtype=torch.bfloat16), weight).dtype == torch.bfloat16
    assert dynamics.linear(torch.ones(0, 4), torch.randn(3, 4)).shape == (0, 3)
    with use_backend("torch"):
        dynamics.linear(torch.ones(2, 4), torch.randn(3, 4))
    assert not packs


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"weight must be \(n_out, 4\)"):
        dynamics.linear(torch.ones(2, 4), torch.randn(3, 5))
    with pytest.raises(ValueError, match=r"bias must be \(3,\) of torch.float32, got \(9,\)"):
        dynamics.linear(torch.ones(2, 4), torch.randn(3, 4), torch.randn(9))
    assert dynamics.linear(torch.ones(2, 4), torch.randn(0, 4)).shape == (2, 0)


@pytest.mark.parametrize("zeros", [0.0, 0.9, 0.98])
@pytest.mark.parametrize("density", [0.02, 0.6])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_every_kernel(zeros, density, dtype):
    """Sizes beyond a vector, a panel and a tile; shares on both sides of every switch."""
    assert_same(sparse_input(8, (300, 150), density, graded=True), 130, zeros=zeros, dtype=dtype)
    assert_same(sparse_input(9, (300, 150), density), 130, zeros=zeros, dtype=dtype)


def test_values_are_counted():
    bits, graded = torch.ops.bregma.pack(torch.tensor([[0.0, 1.0, 2.0, 0.0]]))
    assert bits.item() == 0b0110
    assert graded.item() == 1


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # of torch's own forward mode
def test_products_in_the_forward_mode_and_under_transforms():
    x, weight = sparse_input(0, (6, 5), 0.4), torch.randn(4, 5, dtype=F64)
    _, tangent = torch.func.jvp(lambda w: dynamics.linear(x, w), (weight,), (weight,))
    torch.testing.assert_close(tangent, x @ weight.t())
    gradient = torch.func.grad(lambda w: dynamics.linear(x, w).sum())(weight)
    torch.testing.assert_close(gradient, x.sum(0).expand(4, 5))
