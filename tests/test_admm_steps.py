"""Sparse networks by linearized Bregman steps on the weights' subproblem."""

import numpy as np
import pytest
import torch
from estimator_cases import spike_task
from test_admm_consistent import busy_data

import bregma
from bregma.admm import ConsistentADMM, ConsistentSettings, Recurrent, preconditioner
from bregma.admm.statistics import Statistics
from bregma.admm.steps import Hidden, Steps
from bregma.prox.thresholds import cubic_ramp, keep_count


def hidden_left(weights):
    return sum(int(np.count_nonzero(weight)) for weight in weights[:-1])


@pytest.mark.parametrize("batch_size", [None, 12])
@pytest.mark.parametrize("share", [0.2, 0.5])
def test_the_density_is_met_exactly_and_the_network_learns(batch_size, share):
    X, y = spike_task(samples=90, steps=20)
    model = bregma.ADMMClassifier((30, 20), density=share, batch_size=batch_size, iterations=24).fit(X, y)
    left = keep_count(sum(weight.size for weight in model.weights_), share) - 3 * 20  # beside a whole readout
    assert hidden_left(model.weights_) == left
    assert model.score(X, y) >= 0.9
    model.partial_fit(X, y)
    assert hidden_left(model.weights_) == left


def test_weights_are_the_thresholded_dual_and_come_back():
    generator = torch.Generator().manual_seed(0)
    steps = Steps(0.5, None, 1, [(6, 8)], readout=4)
    hidden = steps.start([torch.randn(6, 8, generator=generator)])
    first = hidden.weights[0] != 0
    for k in range(30):
        move = torch.randn(6, 8, generator=generator)
        before = hidden
        hidden = steps.stepped(before, [move], 0.1, k)
        expected = before.duals[0] + 0.1 * move * before.weights[0].norm() / move.norm()
        assert torch.allclose(hidden.duals[0], expected)
        alive = hidden.weights[0] != 0
        assert int(alive.sum()) == keep_count(52, 0.5) - 4
        assert torch.equal(hidden.weights[0][alive], hidden.duals[0][alive])
        assert hidden.duals[0][alive].abs().min() >= hidden.duals[0][~alive].abs().max()
    assert bool((~first & (hidden.weights[0] != 0)).any())


@pytest.mark.parametrize("every", [1, 4])
def test_connections_stay_after_the_ramp(every):
    steps = Steps(0.25, 20, every, [(6, 8)], readout=4)
    generator = torch.Generator().manual_seed(0)
    hidden, masks = steps.start([torch.randn(6, 8, generator=generator)]), []
    for k in range(20):
        before = hidden.duals[0]
        hidden = steps.stepped(hidden, [torch.randn(6, 8, generator=generator)], 0.1, k)
        masks.append(hidden.weights[0] != 0)
        if k == 4:  # what was cut keeps its dual
            cut = ~masks[3] & ~masks[4]
            assert torch.equal(hidden.duals[0][cut], before[cut])
    counts = [int(mask.sum()) for mask in masks]
    assert counts == sorted(counts, reverse=True)
    due = [0 if k < every else 10 if k >= 10 else k - k % every for k in range(1, 21)]
    assert counts == [keep_count(52, cubic_ramp(k / 10, 0.25)) - 4 for k in due]
    assert counts[9] == keep_count(52, 0.25) - 4
    assert all(torch.equal(mask, masks[9]) for mask in masks[9:])


@pytest.mark.parametrize("every", [1, 3])
def test_a_weight_that_is_still_zero_is_a_connection_while_the_density_falls(every):
    """What a neuron says that was silent at first, and is heard by others through recurrent weights."""
    generator = torch.Generator().manual_seed(0)
    steps, weight = Steps(0.9, 20, every, [(6, 8)], readout=4), torch.randn(6, 8, generator=generator)
    weight[:, 7] = 0.0
    hidden = steps.start([weight])
    for k in range(20):
        move = torch.randn(6, 8, generator=generator)
        move[:, 7] *= k > 4
        hidden = steps.stepped(hidden, [move], 0.2, k)
        if k in (4, 7):
            assert bool(hidden.weights[0][:, 7].any()) == (k == 7)
    assert int(hidden.weights[0].count_nonzero()) == keep_count(52, 0.9) - 4


def test_a_density_of_one_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    weight, move = torch.randn(6, 8, generator=generator), torch.randn(6, 8, generator=generator)
    dense = Steps(None, 10, 1, [(6, 8)], 4).stepped(Hidden([weight], []), [move], 0.1, 3).weights[0]
    steps = Steps(1.0, 10, 1, [(6, 8)], 4)
    assert torch.equal(steps.stepped(steps.start([weight]), [move], 0.1, 3).weights[0], dense)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_recurrent_weights_that_start_at_zero_are_connections_too(share):
    X, y = spike_task(samples=90, steps=20)
    model = bregma.ADMMClassifier((Recurrent(20),), density=share, batch_size=10, iterations=24).fit(X, y)
    if share < 1:
        assert hidden_left(model.weights_) == keep_count(sum(w.size for w in model.weights_), share) - 3 * 20
    assert np.count_nonzero(model.weights_[0][:, 12:]) > 20


def test_sparse_runs_resume_bit_by_bit():
    x, y = busy_data()
    settings = ConsistentSettings(density=0.4, iterations=12)
    whole, part, resumed = (ConsistentADMM((12, 10), 14, 3, settings) for _ in range(3))
    for k in range(10):
        whole.step(x, y)
        if k < 3:
            part.step(x, y)
    resumed.load_state_dict(part.state_dict())
    for _ in range(7):
        resumed.step(x, y)
    assert all(map(torch.equal, whole.weights, resumed.weights))


def test_a_density_that_leaves_no_hidden_weights_is_refused():
    with pytest.raises(ValueError, match=r"density must be >= 0.\d+ for a whole readout of 30 weights, got 0.01"):
        ConsistentADMM((12, 10), 14, 3, ConsistentSettings(density=0.01))
    with pytest.raises(ValueError, match=r"density must be in \(0, 1\], got 1.5"):
        ConsistentSettings(density=1.5)
    with pytest.raises(ValueError, match=r"density=0\.5 has no meaning with solver='paper'"):
        bregma.ADMMClassifier(solver="paper", density=0.5).fit(*spike_task())


@pytest.mark.parametrize(("entries", "held"), [(1, 1 << 24), (1 << 22, 1 << 24), (1, 0)])
def test_connections_solve_their_own_least_squares(monkeypatch, entries, held):
    """Zero gradient of ``||d - V phi||^2 + mu ||V||^2`` on the connections, neuron by neuron."""
    monkeypatch.setattr(preconditioner, "_ENTRIES", entries)
    monkeypatch.setattr(preconditioner, "_HELD", held)
    monkeypatch.setattr(preconditioner, "_FEW", 1.0)
    generator = torch.Generator().manual_seed(0)
    phi, d = (torch.randn(60, n, generator=generator, dtype=torch.float64) for n in (9, 5))
    mask = torch.rand(5, 9, generator=generator) < 0.4
    mask[2], mask[3] = False, True
    layer = preconditioner.Preconditioner(9, ridge=0.1)
    layer.update(Statistics.of(phi, phi[:, :0]), keep=0.0)
    layer.apply(torch.randn(5, 9, generator=generator, dtype=torch.float64), mask)  # leaves factors, or none
    found = layer.apply(d.T @ phi / 60, mask)
    mu = 0.1 * float((phi.square().sum() / 60) / 9)

    def gradient(v):
        v = v.requires_grad_()
        ((d - phi @ v.T).square().sum() / 60 + mu * v.square().sum()).backward()
        return v.grad

    assert gradient(found * mask)[mask].abs().max() < 1e-12
    for i, j in (~mask).nonzero().tolist():  # any other connection, added alone
        more = found * mask
        more[i, j] = found[i, j]
        assert gradient(more)[i, j].abs() < 1e-12


def test_factors_are_made_anew_when_connections_or_the_gram_matrix_change():
    generator = torch.Generator().manual_seed(0)
    phi, other, cross = (torch.randn(n, 9, generator=generator, dtype=torch.float64) for n in (60, 40, 5))
    masks = [torch.rand(5, 9, generator=generator) < 0.2 for _ in range(2)]
    layer = preconditioner.Preconditioner(9, ridge=0.1)
    for features, mask in ((phi, masks[0]), (None, masks[1]), (other, masks[1])):
        if features is not None:
            layer.update(Statistics.of(features, features[:, :0]), keep=0.5)
        fresh = preconditioner.Preconditioner(9, ridge=0.1)
        fresh.load(Statistics.from_tensors(layer.statistics.tensors()))
        assert torch.equal(layer.apply(cross, mask), fresh.apply(cross, mask))


def test_a_layer_of_few_weights_keeps_one():
    shapes = [(1, 2), (50, 50)]
    steps = Steps(0.01, None, 1, shapes, readout=10)
    weights = steps.start([torch.randn(shape) for shape in shapes]).weights
    assert [int(weight.count_nonzero()) for weight in weights] == [1, 14]
