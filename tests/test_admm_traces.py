"""Trace form: its identities, the target rules as minimisers, and what the window rule is in other words."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import consistent as reference

from bregma.admm import Constants
from bregma.admm.losses import LOSSES
from bregma.admm.readout import fit, refit, working_targets
from bregma.admm.statistics import Statistics
from bregma.admm.targets import SOFTEN, Dithered, Flips, Window
from bregma.admm.traces import (
    membranes,
    pack,
    read,
    readout_kernel,
    reverse_displacement,
    reverse_trace,
    spike_sums,
    trace,
    trace_gram,
)
from bregma.dynamics import FastSigmoid, integrate, lif

DECAY, THRESHOLD = 0.9, 1.0
CONSTANTS = Constants(decay=DECAY, threshold=THRESHOLD)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spikes(*shape, rate=0.2, seed=0):
    return pack((torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < rate).double())


def test_trace_form_is_the_recursion():
    """z = W F a - threshold S F own, entry by entry."""
    a, w = spikes(11, 6, 20, rate=0.4), draw(8, 20) / 2
    z, own = membranes(a @ w.T, CONSTANTS)
    later = torch.cat([torch.zeros(1, 6, 8).double(), trace(own, DECAY)[:-1]])
    assert own.sum() > 20
    assert torch.allclose(z, trace(a, DECAY) @ w.T - THRESHOLD * later, rtol=0, atol=1e-12)
    expected, fired = reference.run_layer(a, w, DECAY, THRESHOLD)
    assert torch.allclose(z, expected, rtol=0, atol=1e-12)
    assert torch.equal(own, fired)
    assert torch.equal(own, lif(a @ w.T, DECAY, THRESHOLD)[0])


def test_filters_equal_their_matrices_and_are_adjoint():
    x, y, matrix = draw(9, 4, 5), draw(9, 4, 5, seed=1), reference.filter_matrix(9, DECAY)
    assert torch.allclose(trace(x, DECAY), reference.filtered(matrix, x), rtol=0, atol=1e-12)
    assert torch.allclose(reverse_trace(x, DECAY), reference.filtered(matrix.T, x), rtol=0, atol=1e-12)
    assert float((trace(x, DECAY) * y).sum()) == pytest.approx(float((x * reverse_trace(y, DECAY)).sum()))


@pytest.mark.parametrize("kind", ["last", "mean"])
def test_the_readout_is_that_of_its_membrane(kind):
    a, w = spikes(9, 4, 6), draw(3, 6)
    z = integrate(a @ w.T, DECAY)[0]
    kappa = readout_kernel(kind, 9, DECAY, a)
    assert torch.allclose(kappa, reference.kernel_of(kind, 9, DECAY), rtol=0, atol=1e-12)
    assert torch.allclose(read(a, kappa) @ w.T, z[-1] if kind == "last" else z.mean(0), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rate", [0.1, 0.6])
def test_sums_over_spikes_are_those_of_dense_traces(dtype, rate):
    a, d = pack(spikes(40, 120, 7, rate=rate).to(dtype)), draw(40, 120, 3).to(dtype)
    traces = trace(a, DECAY).double()
    tolerance = 1e-10 if dtype == torch.float64 else 2e-2  # of sums of some 10,000
    sums, gram = spike_sums(reverse_trace(d, DECAY), a), trace_gram(a, DECAY)
    assert torch.allclose(sums, torch.einsum("tbm,tbn->mn", d.double(), traces), rtol=0, atol=tolerance)
    assert torch.allclose(gram, torch.einsum("tbm,tbn->mn", traces, traces), rtol=1e-6, atol=tolerance)
    graded = 2 * a  # no spikes: the same by dense products
    assert torch.allclose(spike_sums(d, graded), 2 * spike_sums(d, a), rtol=1e-5, atol=tolerance)


RULES = [Window(0.3), *(kind(0.2, 0.3, mirrored) for kind in (Dithered, Flips) for mirrored in (False, True))]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("steps", [1, 7])
def test_fused_displacements_are_those_of_the_definition(rule, steps):
    z, g, kappa = draw(7, 6, 5), draw(steps, 6, 5, seed=1), 0.1 + torch.rand(7).double()
    full = kappa[:, None, None] * g.expand(7, -1, -1)
    cuts = rule.cuts(full.flatten(), z.flatten(), THRESHOLD)
    move = rule.displacement(full, z, THRESHOLD, cuts)
    if isinstance(rule, Window):
        expected = reference.window(full, z, THRESHOLD, rule.width)
    else:
        expected = reference.displaced(full, z, THRESHOLD, rule.margin, cuts, isinstance(rule, Dithered), rule.mirrored)
    assert torch.allclose(move, expected, rtol=0, atol=1e-12)
    found = reverse_displacement(rule, g, kappa, z, CONSTANTS, cuts)
    assert torch.allclose(found, reverse_trace(expected, DECAY), rtol=0, atol=1e-12)
    assert (move * full >= 0).all()


@settings(max_examples=50, deadline=None)
@given(g=st.floats(-3, 3), z=st.floats(-3, 3), cut=st.floats(0.01, 5))
def test_flips_minimise_the_membranes_subproblem(g, z, cut):
    """min -g H(x) + c/2 (x - z)^2 with c = 2 cut, by search over a fine grid on both sides of the threshold."""
    rule = Flips(margin=1e-9, mirrored=False)
    move = float(rule.displacement(*torch.tensor([[g], [z]], dtype=torch.float64), THRESHOLD, (cut, cut)))

    def cost(x):
        return -g * (x > THRESHOLD) + cut * (x - z) ** 2

    grid = torch.cat(
        [torch.linspace(-4, 4, 4001).double(), torch.tensor([THRESHOLD, THRESHOLD + 1e-9, z], dtype=torch.float64)]
    )
    best = float(cost(grid).min())
    # SOFTEN keeps the comparison finite at the threshold: it shifts the choice by at most cut * SOFTEN
    assert cost(torch.tensor(z + move, dtype=torch.float64)) <= best + cut * SOFTEN + 1e-6


@settings(max_examples=50, deadline=None)
@given(g=st.floats(-3, 3), x=st.floats(0.01, 3))
def test_mirrored_rules_do_not_ask_on_which_side_a_membrane_is(g, x):
    gain, z = torch.tensor([g, g]).double(), THRESHOLD + torch.tensor([x, -x]).double()
    for rule in (Dithered(), Flips(), Window()):
        above, below = rule.displacement(gain, z, THRESHOLD, (0.4, 0.4)).tolist()
        assert above == pytest.approx(below)
        assert above * g >= 0


@settings(max_examples=50, deadline=None)
@given(g=st.floats(0.05, 3), z=st.floats(-3, 3))
def test_dithering_is_the_mean_flip_over_penalties(g, z):
    """Over c uniform in (0, c_max), the mean of the hard prox is d min(1, u / u_max)."""
    most = 0.7
    value, gain = torch.tensor([z]).double(), torch.tensor([g]).double()
    cuts = (torch.arange(20_000).double() + 0.5) / 20_000 * most
    rule = Flips(margin=0.2, mirrored=False)
    flips = torch.stack([rule.displacement(gain, value, THRESHOLD, (float(c), 1.0)) for c in cuts[::20]])
    mean = Dithered(margin=0.2, mirrored=False).displacement(gain, value, THRESHOLD, (most, most))
    assert float(flips.mean()) == pytest.approx(float(mean), abs=5e-3)


def test_weights_step_has_zero_gradient():
    """min ||dz - V F a||^2 + mu ||V||^2, by autograd on the dense traces."""
    a, dz = spikes(9, 14, 7, rate=0.3), draw(9, 14, 5)
    cross, gram = spike_sums(reverse_trace(dz, DECAY), a), trace_gram(a, DECAY)
    v = Statistics(gram, cross.T, torch.tensor(126.0).double()).solve(0.1).requires_grad_()
    mu = 0.1 * float(gram.trace()) / 7
    ((dz - trace(a, DECAY) @ v.T).square().sum() + mu * v.square().sum()).backward()
    assert v.grad.abs().max() <= 1e-12 * float(gram.trace())


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("parts", [False, True])
def test_readout_has_zero_gradient(name, weighted, parts):
    f, loss = draw(40, 6), LOSSES[name]()
    y = torch.eye(3).double()[torch.arange(40) % 3]
    weight = 0.5 + torch.rand(40, generator=torch.Generator().manual_seed(2)).double() if weighted else None
    if parts:
        pieces = [None] * 2 if weight is None else weight.split(25)
        w, _ = refit(list(zip(f.split(25), y.split(25), pieces, strict=True)), torch.zeros(3, 6).double(), loss, 0.3)
    else:
        w = fit(f, y, loss, 0.3, weight, leave_one_out=False).weight
    w.requires_grad_()
    scale = torch.ones(40).double() if weight is None else weight
    mu = 0.3 * float((scale * f.square().sum(1)).sum()) / 6
    total = (scale * loss.each(f @ w.T, y)).sum() + loss.curvature / 2 * mu * w.square().sum()
    total.backward()
    assert w.grad.abs().max() <= (1e-12 if name == "squared_error" else 2e-2) * float((scale * f.square().sum(1)).sum())


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_residuals_are_scaled_gradients_and_majorise(name):
    loss, y = LOSSES[name](), torch.eye(3).double()[torch.arange(30) % 3]
    z = draw(30, 3).requires_grad_()
    loss.value(z, y).backward()
    residual = loss.residual(z.detach(), y)
    assert torch.allclose(residual, -z.grad / loss.curvature, rtol=0, atol=1e-12)
    assert torch.allclose(loss.each(z, y).sum(), loss.value(z, y))
    for scale in (0.3, 1.0, 1.9):  # below the parabola of that curvature
        x = z.detach() + scale * residual
        bound = loss.each(z, y) + loss.curvature * (scale**2 / 2 - scale) * residual.square().sum(1)
        assert (loss.each(x, y) <= bound + 1e-12).all()
    aim = working_targets(loss, z.detach(), y)
    assert torch.allclose(aim - z, residual)


def test_leave_one_out_is_that_of_refits():
    f, y = draw(25, 6), draw(25, 3, seed=1)
    gram = f.T @ f
    ridge = 0.05 * float(gram.trace()) / 6
    expected = reference.left_out_residual(f, y, ridge)
    found = fit(f, y, LOSSES["squared_error"](), 0.05, None, leave_one_out=True)
    assert torch.allclose(found.residual, expected, rtol=0, atol=1e-10)
    assert found.value == pytest.approx(float(expected.square().sum() / 25))


@pytest.mark.parametrize("kind", ["last", "mean"])
def test_window_is_the_surrogate_gradient_times_the_inverse_gram(kind):
    """The claim of the documentation, by autograd through bregma's own layers with a detached reset."""
    from test_admm_consistent import busy_data

    from bregma.admm import ConsistentADMM, ConsistentSettings

    x, y = busy_data()
    rule = Window(0.4)
    options = ConsistentSettings(rule=rule, readout=kind)
    solver = ConsistentADMM((12, 10), 14, 3, options, dtype=torch.float64)
    x = solver.begin(x)
    activity = solver.run(x)
    solver.take_readout(solver.readout_sums(activity, y))
    moves = solver._sweep.moves(solver.layer_sums(activity, y), keep=0.0)

    weights = [w.clone().requires_grad_() for w in solver.weights]
    a = x.clone()
    for w in weights[:-1]:
        a, _ = lif(a @ w.T, 0.95, 1.0, detach_reset=True, surrogate=FastSigmoid(slope=1 / 0.4))
    z = integrate(a @ weights[-1].T, 0.95)[0]
    (0.5 * (y - (z[-1] if kind == "last" else z.mean(0))).square().sum()).backward()
    rows = x.shape[0] * x.shape[1]
    for layer, move in enumerate(moves):
        gram = reference.trace_gram(solver.run(x).spikes[layer], 0.95)
        expected = -weights[layer].grad / rows @ reference.ridge_inverse(gram, options.ridge)
        assert torch.allclose(move, expected, rtol=1e-9, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 20), min_size=1, max_size=3))
def test_statistics_add_up_however_samples_are_cut(cuts):
    f, y = draw(20, 4), draw(20, 2, seed=1)
    weight = torch.rand(20, generator=torch.Generator().manual_seed(3)).double()
    total = Statistics.empty(4, 2)
    edges = [0, *sorted(cuts), 20]
    for first, last in itertools.pairwise(edges):
        total.merge(Statistics.of(f[first:last], y[first:last], weight[first:last]))
    whole = Statistics.of(f, y, weight)
    assert torch.allclose(total.solve(0.1), whole.solve(0.1), rtol=0, atol=1e-12)
    assert torch.allclose(total.decay(0.5).solve(0.1), whole.solve(0.1), rtol=0, atol=1e-12)
    assert float(total.count) == pytest.approx(float(weight.sum()) / 2)
