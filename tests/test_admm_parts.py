"""Losses, presynaptic products and linear systems against plain definitions."""

import pytest
import torch
from admm_cases import spike_data
from hypothesis import given, settings
from hypothesis import strategies as st

from bregma.admm.inputs import DenseInputs, EventInputs, data_inputs
from bregma.admm.losses import LOSSES
from bregma.admm.systems import SpikeSystem
from bregma.admm.updates import solve_gram, weights


@pytest.mark.parametrize("kind", [DenseInputs, EventInputs])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inputs_equal_dense_algebra(kind, dtype):
    x, _ = spike_data(steps=20, samples=30, inputs=23, dtype=dtype)
    x[..., 4] = 0  # an input that never fires
    generator = torch.Generator().manual_seed(0)
    sums = torch.randn(20, 30, 6, generator=generator, dtype=dtype)
    weight = torch.randn(6, 23, generator=generator, dtype=dtype)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-4
    inputs = kind(x)
    drive = inputs.drive(weight, torch.empty(20, 30, 6, dtype=dtype))
    assert torch.allclose(drive, x @ weight.T, rtol=0, atol=tolerance)
    for ridge in (0.5, 0.1, 0.1, 0.0):  # a changed ridge must not meet an old factor
        fit = inputs.fit(sums, ridge)
        assert fit.dtype == dtype
        assert torch.allclose(fit.double(), weights(sums.double(), x.double(), ridge), rtol=0, atol=tolerance)


def test_data_become_events_only_if_sparse_and_binary():
    x, _ = spike_data(dtype=torch.float32)
    assert isinstance(data_inputs(x), EventInputs)
    assert isinstance(data_inputs(2 * x), DenseInputs)
    assert isinstance(data_inputs(1 - x), DenseInputs)


@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_data_without_a_spike_get_weights_of_zero(ridge):
    inputs = data_inputs(torch.zeros(3, 4, 5))
    assert isinstance(inputs, EventInputs)
    assert torch.equal(inputs.fit(torch.ones(3, 4, 2), ridge), torch.zeros(2, 5))


@pytest.mark.parametrize("rows", [3, 12, 20])
@pytest.mark.parametrize("shift", [0.1, 1.1])
def test_spike_systems_equal_dense_algebra(rows, shift):
    generator = torch.Generator().manual_seed(rows)
    weight = torch.randn(rows, 12, generator=generator, dtype=torch.float64)
    product = torch.randn(15, 12, generator=generator, dtype=torch.float64)
    found = SpikeSystem(weight, rho=1.7, shift=shift).solve(product, torch.empty_like(product))
    assert torch.allclose(found, solve_gram(product, 1.7 * weight.T @ weight, shift), rtol=0, atol=1e-11)


@settings(max_examples=50, deadline=None)
@given(
    name=st.sampled_from(sorted(LOSSES)),
    rho=st.floats(0.01, 100),
    v=st.lists(st.floats(-30, 30), min_size=3, max_size=3),
    label=st.integers(0, 2),
)
def test_prox_is_stationary_for_every_loss(name, rho, v, label):
    loss, y = LOSSES[name](), torch.eye(3, dtype=torch.float64)[[label]]
    center = torch.tensor([v], dtype=torch.float64)
    z = loss.prox(center, y, rho).requires_grad_()
    (loss.value(z, y) + rho / 2 * (z - center).square().sum()).backward()
    assert z.grad.abs().max() <= 1e-10 * (1 + rho) * (1 + center.abs().max())


def test_cross_entropy_prox_in_float32_of_large_scores():
    y = torch.eye(10)[[0, 1]]
    z = LOSSES["cross_entropy"]().prox(torch.full((2, 10), 1e4), y, rho=1e-3)
    assert z.isfinite().all()
    assert torch.equal(z.argmax(1), y.argmax(1))
