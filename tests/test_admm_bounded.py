"""No sample changes a sum by more than its bound, whatever the network and the data."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bregma.admm import bounded
from bregma.admm.consistent import ConsistentADMM
from bregma.admm.consistent_settings import ConsistentSettings

T, INPUTS, CLASSES = 7, 9, 3


def case(seed, samples, density, dtype, loss="squared_error", scale=1.0):
    """A network in the middle of its training on a few samples, some of them silent."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(T, samples, INPUTS, generator=generator) < density * torch.arange(samples)[:, None] / samples
    x, y = x.to(dtype), torch.eye(CLASSES, dtype=dtype)[torch.arange(samples) % CLASSES]
    solver = ConsistentADMM(
        (8, 6), INPUTS, CLASSES, ConsistentSettings(loss=loss, readout="mean"), seed=seed, dtype=dtype
    )
    for _ in range(2):
        solver.step(x, y)
    solver.weights = [scale * weight for weight in solver.weights]
    return solver, x, y


def sums(solver, x, y, clip):
    return {
        **bounded.rates(x, clip, 0.15),
        **bounded.readout(solver, x, y, clip),
        **bounded.layers(solver, x, y, clip),
    }


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**20),
    samples=st.integers(2, 12),
    without=st.integers(0, 11),
    density=st.floats(0.1, 1.0),
    clip=st.sampled_from([1e-3, 0.3, 1.0, 10.0]),
    scale=st.sampled_from([0.5, 1.0, 1e4]),
    loss=st.sampled_from(["squared_error", "squared_hinge", "cross_entropy"]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_one_sample_changes_each_sum_by_its_bound_at_most(seed, samples, without, density, clip, scale, loss, dtype):
    solver, x, y = case(seed, samples, density, dtype, loss, scale)
    keep = torch.arange(samples) != without % samples
    with_it, without_it = sums(solver, x, y, clip), sums(solver, x[:, keep], y[keep], clip)
    assert with_it.keys() == without_it.keys()
    for name, part in with_it.items():
        assert part.bound < math.inf
        assert float((part.total - without_it[name].total).norm()) <= part.bound * (1 + 1e-9), name


def test_the_bound_is_reached():
    solver, x, y = case(0, 6, 0.5, torch.float64)
    with_it, without_it = sums(solver, x, y, 1e-3), sums(solver, x[:, :-1], y[:-1], 1e-3)
    for name, part in with_it.items():
        if name != "readout.cross":  # has the weights of the Gram matrix here
            assert float((part.total - without_it[name].total).norm()) == pytest.approx(part.bound, rel=1e-5), name


def test_without_bounds_sums_are_the_plain_ones():
    solver, x, y = case(0, 11, 0.5, torch.float64)
    found, activity = sums(solver, x, y, math.inf), solver.run(solver.begin(x))
    readout = solver.readout_sums(activity, y)
    assert torch.equal(found["readout.gram"].total, readout.gram)
    assert torch.equal(found["readout.cross"].total, readout.cross)
    assert torch.equal(found["spikes"].total, x.sum((0, 1)))
    assert found["samples"].total == 11
    for k, layer in enumerate(solver.layer_sums(activity, y)):
        torch.testing.assert_close(found[f"layer.{k}.gram"].total, layer.gram, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(found[f"layer.{k}.cross"].total, layer.cross, rtol=1e-12, atol=1e-12)


def test_scaling_keeps_the_direction_of_each_sample():
    solver, x, y = case(0, 6, 0.5, torch.float64)
    one, label = x[:, -1:], y[-1:]
    scaled, plain = sums(solver, one, label, 1e-3), sums(solver, one, label, math.inf)
    for name, part in scaled.items():
        direction = plain[name].total / plain[name].total.norm()
        torch.testing.assert_close(part.total / part.total.norm(), direction, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_a_sample_whose_parts_cancel_stays_below_its_bound(seed):
    generator = torch.Generator().manual_seed(seed)
    u, v = torch.ones(6, 1, 3), torch.randn(6, 1, 5, generator=generator)
    v[-1] = -v[:-1].double().sum(0)  # the sum of outer products is rounding alone
    other = torch.randn(6, 1, 3, generator=generator), torch.randn(6, 1, 5, generator=generator)
    assert bounded._scaled_sum(u, v, 1.0).norm() < 1.0
    both = bounded._scaled_sum(torch.cat([u, other[0]], 1), torch.cat([v, other[1]], 1), 1.0)
    assert (both - bounded._scaled_sum(*other, 1.0)).norm() < 1.0


def test_norms_are_those_of_the_sums(monkeypatch):
    monkeypatch.setattr(bounded, "_ENTRIES", 2 * 5 * 5)  # two samples at a time
    generator = torch.Generator().manual_seed(0)
    u, v = torch.randn(5, 3, 4, generator=generator), torch.randn(5, 3, 2, generator=generator)
    expected = torch.einsum("tbm,tbn->bmn", u.double(), v.double()).flatten(1).norm(dim=1)
    torch.testing.assert_close(bounded.outer_norms(u, v), expected)


def test_no_samples():
    solver, x, y = case(0, 4, 0.5, torch.float32)
    with_some = sums(solver, x, y, 1.0)
    for name, part in sums(solver, x[:, :0], y[:0], 1.0).items():
        assert part.total.shape == with_some[name].total.shape
        assert not part.total.any()
