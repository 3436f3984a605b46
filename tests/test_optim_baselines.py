"""The baselines: exact densities, masks that behave as each method says, resumption bit for bit."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optim_cases import loss_of, network, saved_and_loaded, train, weights
from torch import nn

import bregma
from bregma.optim import baselines

METHODS = {
    "magnitude": (baselines.MagnitudePruning, {}),
    "magnitude+metric": (baselines.MagnitudePruning, {"metric": "adam", "every": 2}),
    "one-shot": (baselines.OneShotPruning, {}),
    "l1": (baselines.L1Pruning, {"lam": 1e-2}),
    "prox": (baselines.ProxPruning, {"lam": 0.05}),
    "rigl": (baselines.RigL, {"every": 4}),
    "set": (baselines.SET, {"every": 4}),
    "str": (baselines.STR, {"start": -3.0}),
}
each = pytest.mark.parametrize("name", METHODS)
PRUNED_ONCE = ("one-shot", "l1", "prox")
REWIRED = ("rigl", "set")


def build(name, seed=0, steps=40, density=0.25, **options):
    net = network(seed=seed)
    optimizer = torch.optim.Adam(bregma.param_groups(net), lr=0.01)
    make, own = METHODS[name]
    return net, optimizer, make(optimizer, density, steps, **{**own, **options})


def matrices(net):
    return [net[0].weight, net[2].weight]


def nonzero(net):
    return sum(int(torch.count_nonzero(w)) for w in matrices(net))


@each
@given(st.floats(0.05, 1), st.integers(2, 25), st.sampled_from(["global", "uniform", "erk"]))
@settings(max_examples=12, deadline=None)
def test_reaches_the_density_exactly(name, density, steps, allocation):
    net, optimizer, sparsifier = build(name, steps=steps, density=density, allocation=allocation)
    train(net, optimizer, steps + 5)
    count = max(1, round(density * 72))
    assert sparsifier.frozen
    assert sparsifier.density == count / 72
    assert bregma.density(net) <= count / 72
    if name not in REWIRED and name != "prox":  # where new or revived connections may not have moved yet
        assert bregma.density(net) == count / 72


@each
def test_only_what_the_mask_allows_is_not_zero(name):
    net, optimizer, sparsifier = build(name)
    for _ in range(45):
        train(net, optimizer, 1)
        for mask, w in zip(sparsifier.masks, matrices(net), strict=True):
            assert (w[~mask] == 0).all()


@each
def test_the_mask_stays_after_the_freeze_while_survivors_move(name):
    net, optimizer, sparsifier = build(name)
    train(net, optimizer, 30)
    mask, before = sparsifier.mask.clone(), weights(net)
    train(net, optimizer, 10)
    assert torch.equal(mask, sparsifier.mask)
    assert not torch.equal(before, weights(net))
    if name not in REWIRED:  # a connection grown to where no gradient comes stays at zero
        assert nonzero(net) == 18


@each
@pytest.mark.parametrize("stop", [7, 28, 30, 35])
def test_resumes_bit_for_bit_through_a_safe_load(name, stop):
    net, optimizer, sparsifier = build(name)
    train(net, optimizer, stop)
    state = saved_and_loaded([net.state_dict(), optimizer.state_dict(), sparsifier.state_dict()])
    other, resumed, thinner = build(name, seed=5)
    for part, saved in zip((other, resumed, thinner), state, strict=True):
        part.load_state_dict(saved)
    train(net, optimizer, 40 - stop)
    train(other, resumed, 40 - stop)
    assert torch.equal(weights(net), weights(other))
    assert torch.equal(sparsifier.mask, thinner.mask)


@each
def test_floors_hold_at_the_end(name):
    net, optimizer, sparsifier = build(name, neuron_floor=1, layer_floor=0.2)
    train(net, optimizer, 40)
    for mask in sparsifier.masks:
        assert (mask.sum(1) >= 1).all()
        assert int(mask.sum()) >= math.ceil(0.2 * mask.numel())
    assert sparsifier.density == 0.25


@each
def test_learns(name):
    net, optimizer, _ = build(name, steps=200, density=0.5)
    losses = train(net, optimizer, 200)
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("name", ["magnitude", "magnitude+metric"])
def test_gradual_pruning_follows_the_ramp_and_never_takes_back(name):
    net, optimizer, sparsifier = build(name, density=0.1)
    every, end, before = sparsifier.every, sparsifier.freeze_step, sparsifier.mask.clone()
    for step in range(1, 41):
        train(net, optimizer, 1)
        last = end if step >= end else step - step % every
        assert nonzero(net) == round(72 * bregma.prox.thresholds.cubic_ramp(last / end, 0.1))
        assert not (sparsifier.mask & ~before).any()
        before = sparsifier.mask.clone()


def test_magnitude_takes_the_smallest_and_the_metric_the_least_used():
    survivors = {}
    for metric in ("none", "adam"):
        p = nn.Parameter(torch.tensor([[1.0, 0.9], [0.8, 0.7]]))
        optimizer = torch.optim.Adam([p], lr=1e-6)
        baselines.MagnitudePruning(optimizer, 0.5, 10, metric=metric)
        for step in range(10):
            p.grad = (-1.0) ** step * torch.tensor([[1e-4, 1.0], [1.0, 1e-4]])
            optimizer.step()
        survivors[metric] = (p != 0).int().tolist()
    assert survivors == {"none": [[1, 1], [0, 0]], "adam": [[0, 1], [1, 0]]}


@pytest.mark.parametrize("name", PRUNED_ONCE)
def test_nothing_is_cut_before_the_one_cut(name):
    net, optimizer, sparsifier = build(name)
    train(net, optimizer, 29)
    assert sparsifier.density == 1.0
    train(net, optimizer, 1)
    assert sparsifier.density == 0.25


def test_one_shot_is_adam_before_the_cut():
    net, optimizer, _ = build("one-shot")
    plain = network()
    train(net, optimizer, 29)
    train(plain, torch.optim.Adam(plain.parameters(), lr=0.01), 29)
    assert torch.equal(weights(net), weights(plain))


def test_l1_is_adam_on_the_penalised_loss():
    net, optimizer, _ = build("l1")
    plain = network()
    adam = torch.optim.Adam(plain.parameters(), lr=0.01)
    train(net, optimizer, 29)
    for _ in range(29):
        adam.zero_grad()
        (loss_of(plain) + 1e-2 * sum(w.abs().sum() for w in matrices(plain))).backward()
        adam.step()
    torch.testing.assert_close(weights(net), weights(plain), rtol=1e-4, atol=1e-6)


def test_proximal_steps_on_sgd_are_proxsgd():
    net, plain = network(), network()
    optimizer = torch.optim.SGD(bregma.param_groups(net), lr=0.1)
    baselines.ProxPruning(optimizer, 0.25, 40, lam=0.05)
    train(net, optimizer, 29)
    train(plain, bregma.ProxSGD(bregma.param_groups(plain, lam=0.05), lr=0.1), 29)
    torch.testing.assert_close(weights(net), weights(plain), rtol=1e-5, atol=1e-7)
    assert nonzero(net) < 72


@pytest.mark.parametrize("name", REWIRED)
def test_rewiring_keeps_the_count_of_each_tensor_and_changes_the_mask(name):
    net, optimizer, sparsifier = build(name, drop=0.5)
    counts = [int(mask.sum()) for mask in sparsifier.masks]
    assert nonzero(net) == sum(counts) == 18
    changed = 0
    for step in range(1, 41):
        before = sparsifier.mask.clone()
        train(net, optimizer, 1)
        assert [int(mask.sum()) for mask in sparsifier.masks] == counts
        moved = int((sparsifier.mask != before).sum())
        assert moved == 0 or (step % 4 == 0 and step < 30)
        changed += moved
    assert sparsifier.grown == changed / 2 > 0


def test_rigl_grows_the_largest_gradient_from_zero_with_fresh_moments():
    p = nn.Parameter(torch.full((2, 4), 0.5))
    optimizer = torch.optim.Adam([p], lr=0.01)
    sparsifier = baselines.RigL(optimizer, 0.5, 100, every=2, drop=0.3, allocation="global", seed=1)
    first = sparsifier.masks[0].clone()
    new = torch.nonzero(~first.flatten())[2].item()
    with torch.no_grad():  # the weakest connection is known
        weakest = torch.nonzero(first.flatten())[1].item()
        p.view(-1)[weakest] *= 0.1
    for _ in range(2):
        p.grad = torch.full_like(p, 0.01)
        p.grad.view(-1)[new] = 3.0
        optimizer.step()
    expected = first.flatten().clone()
    expected[weakest], expected[new] = False, True
    assert torch.equal(sparsifier.mask, expected)
    assert p.flatten()[new] == 0
    assert optimizer.state[p]["exp_avg_sq"].flatten()[new] == 0
    assert (p.flatten()[weakest]) == 0


def test_rewired_networks_start_at_the_density_with_the_same_variance():
    p = nn.Parameter(torch.randn(50, 80))
    variance = p.square().sum().item()
    sparsifier = baselines.SET(torch.optim.Adam([p]), 0.1, 100)
    assert int((p != 0).sum()) == 400
    assert p.square().sum().item() == pytest.approx(variance, rel=0.2)
    same = baselines.SET(torch.optim.Adam([nn.Parameter(torch.randn(50, 80))]), 0.1, 100)
    other = baselines.SET(torch.optim.Adam([nn.Parameter(torch.randn(50, 80))]), 0.1, 100, seed=1)
    assert torch.equal(sparsifier.mask, same.mask)
    assert not torch.equal(sparsifier.mask, other.mask)


def test_str_learns_its_thresholds_by_the_derivative():
    """One step against autograd through the reparameterisation."""
    net = network(torch.float64)
    optimizer = torch.optim.SGD(bregma.param_groups(net), lr=0.1)
    sparsifier = baselines.STR(optimizer, 0.25, 40, start=-2.0, decay=0.05, lr_s=0.3)
    train(net, optimizer, 1)  # puts the thresholds to work
    latent = [dual.clone().requires_grad_() for dual in sparsifier._views(sparsifier.dual)]
    s = sparsifier.s.double().clone().requires_grad_()
    sparse = [w.sign() * (w.abs() - torch.sigmoid(a)).clamp(min=0) for w, a in zip(latent, s, strict=True)]
    for have, want in zip(matrices(net), sparse, strict=True):
        torch.testing.assert_close(have.detach(), want.detach(), rtol=1e-6, atol=1e-8)
    named = {"0.weight": sparse[0], "2.weight": sparse[1], "0.bias": net[0].bias, "2.bias": net[2].bias}
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(16, 6, generator=generator)
    logits = torch.func.functional_call(net, named, x.double()).float()
    nn.functional.cross_entropy(logits, (x[:, 0] > 0).long()).backward()
    expected_s = s.detach() - 0.3 * (s.grad + 0.05 * s.detach())
    expected = [(w - 0.1 * w.grad).detach() for w in latent]
    train(net, optimizer, 1)
    torch.testing.assert_close(sparsifier.s.double(), expected_s, rtol=1e-5, atol=1e-6)
    for have, want in zip(sparsifier._views(sparsifier.dual), expected, strict=True):
        torch.testing.assert_close(have, want, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("rigl", {"drop": 0.0}, r"drop must be in \(0, 1\], got 0.0"),
        ("set", {"every": 0}, "every must be >= 1, got 0"),
        ("l1", {"lam": -1.0}, "lam must be >= 0, got -1.0"),
        ("prox", {"lam": math.inf}, "lam must be >= 0 and finite, got inf"),
        ("str", {"lr_s": 0.0}, "lr_s must be > 0, got 0.0"),
        ("str", {"decay": -0.1}, "decay must be >= 0, got -0.1"),
        ("magnitude", {"metric": "fisher"}, "metric must be one of adam, none, got 'fisher'"),
    ],
)
def test_says_what_is_wrong(name, options, message):
    with pytest.raises(ValueError, match=message):
        build(name, **options)
