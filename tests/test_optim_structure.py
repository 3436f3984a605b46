"""Whole neurons and n of m: the counts are exact, what goes is gone altogether, the thresholds are proximal maps."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optim_cases import saved_and_loaded, weights
from torch import nn

import bregma
from bregma import TargetDensity
from bregma.nn import LIF, DelayedRecurrentLIF, Part, Population, Record, RecurrentLIF, SpikingMLP
from bregma.optim.baselines import MagnitudePruning


def run(model, steps, density, x, classes, lr=0.02, **options):
    optimizer = torch.optim.Adam(bregma.param_groups(model), lr=lr)
    sparsifier = TargetDensity(optimizer, density, steps, **options)
    go_on(model, optimizer, steps, x, classes)
    return optimizer, sparsifier


def go_on(net, optimizer, steps, x, classes):
    labels = torch.arange(x.shape[1]) % classes
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), labels).backward()
        optimizer.step()


def frames(steps=5, batch=6, n=7, seed=0):
    return (torch.rand(steps, batch, n, generator=torch.Generator().manual_seed(seed)) < 0.4).float()


def spiking(seed=0):
    torch.manual_seed(seed)
    return SpikingMLP(7, hidden=(8, 6), classes=3, recurrent=True, gain=3.0)


@given(
    st.floats(0.15, 1),
    st.sampled_from(["soft", "firm", "hard"]),
    st.sampled_from(["global", "uniform"]),
    st.integers(1, 3),
)
@settings(max_examples=25, deadline=None)
def test_leaves_exactly_that_share_of_the_neurons(density, prox, allocation, every):
    net, x = spiking(), frames()
    options = {"prox": prox, "allocation": allocation, "every": every}
    _, sparsifier = run(net, 8, density, x, 3, structure="neurons", net=net, **options)
    want = max(1, round(density * 14))
    assert sparsifier.density == pytest.approx(want / 14)
    alive = 0
    for layer, after in ((net.hidden[0], net.hidden[1].linear), (net.hidden[1], net.readout.linear)):
        rows = (layer.linear.weight != 0).any(1)
        assert torch.equal(rows, (after.weight != 0).any(0))
        gone = ~rows
        recurrent = layer.neurons.recurrent.weight
        assert not recurrent[gone].any()
        assert not recurrent[:, gone].any()
        assert not layer.linear.bias[gone].any()
        assert (recurrent[rows][:, rows] != 0).all()
        alive += int(rows.sum())
        assert rows.any()
    assert alive == want


def test_neurons_that_are_gone_are_silent_and_change_nothing():
    net, x = spiking(), frames()
    run(net, 40, 0.5, x, 3, structure="neurons", net=net)
    with Record(net) as record:
        net(x)
    gone = ~(net.hidden[0].linear.weight != 0).any(1)
    assert gone.any()
    assert not record.spikes["hidden.0.neurons"][..., gone].any()


def test_delays_norms_and_biases_of_neurons_that_are_gone_are_zero():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(7, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    layer = DelayedRecurrentLIF(8, max_delay=4)
    parts = [Part(p) for p in (net[0].weight, net[0].bias, net[1].weight, net[1].bias, layer.delays)]
    parts += [Part(layer.recurrent.weight, 0), Part(layer.recurrent.weight, 1), Part(net[2].weight, 1)]
    both = nn.ModuleList([net, layer])
    optimizer = torch.optim.Adam(bregma.param_groups(both), lr=0.1)
    TargetDensity(optimizer, 0.25, 6, structure=[Population("hidden", 8, tuple(parts))])
    x = frames()
    for _ in range(8):
        optimizer.zero_grad()
        current = net[1](net[0](x).flatten(0, 1)).view(5, 6, 8)
        net[2](layer(current)[0]).mean(0).logsumexp(1).sum().backward()
        optimizer.step()
    gone = ~(net[0].weight != 0).any(1)
    assert int(gone.sum()) == 6
    for p in (net[0].bias, net[1].weight, net[1].bias, layer.delays):
        assert not p[gone].any()
        assert p[~gone].any()


def test_channels_go_with_the_inputs_they_reach():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 9, 3))
    optimizer = torch.optim.Adam(bregma.param_groups(net), lr=0.02)
    TargetDensity(optimizer, 0.5, 8, structure="neurons", net=net)
    for _ in range(9):
        optimizer.zero_grad()
        net(torch.rand(6, 1, 5, 5)).logsumexp(1).sum().backward()
        optimizer.step()
    alive = (net[0].weight != 0).flatten(1).any(1)
    assert int(alive.sum()) == 2
    assert torch.equal((net[3].weight.view(3, 4, 9) != 0).all(2).all(0), alive)


def test_magnitude_pruning_takes_the_same_structures():
    net, x = spiking(), frames()
    optimizer = torch.optim.Adam(bregma.param_groups(net), lr=0.02)
    MagnitudePruning(optimizer, 0.5, 8, structure="neurons", net=net)
    go_on(net, optimizer, 8, x, 3)
    assert sum(int((layer.linear.weight != 0).any(1).sum()) for layer in net.hidden) == 7


@pytest.mark.parametrize("structure", ["neurons", "2:4"])
@pytest.mark.parametrize("stop", [5, 12])
def test_resumes_bit_for_bit(structure, stop):
    x, results = frames(), []
    for interrupted in (False, True):
        net = spiking()
        options = {"structure": structure, "net": net, "every": 2}
        optimizer = torch.optim.Adam(bregma.param_groups(net), lr=0.02)
        sparsifier = TargetDensity(optimizer, 0.5, 16, **options)
        go_on(net, optimizer, stop, x, 3)
        if interrupted:
            state = saved_and_loaded([net.state_dict(), optimizer.state_dict(), sparsifier.state_dict()])
            net = spiking(seed=4)
            optimizer = torch.optim.Adam(bregma.param_groups(net), lr=0.02)
            sparsifier = TargetDensity(optimizer, 0.5, 16, **options | {"net": net})
            for part, saved in zip((net, optimizer, sparsifier), state, strict=True):
                part.load_state_dict(saved)
        go_on(net, optimizer, 16 - stop, x, 3)
        results.append(weights(net))
    assert torch.equal(*results)


# -- n of m -----------------------------------------------------------------------------------------------------------


@given(
    st.integers(1, 4), st.integers(0, 3), st.integers(1, 9), st.sampled_from(["soft", "firm", "hard"]), st.booleans()
)
@settings(max_examples=30, deadline=None)
def test_n_of_m_holds_in_every_block(n, more, inputs, prox, ragged):
    m = n + more
    torch.manual_seed(0)
    net = nn.Linear(inputs * m + (1 if ragged else 0), 3)
    optimizer = torch.optim.Adam(bregma.param_groups(net), lr=0.02)
    sparsifier = TargetDensity(optimizer, n / m, 8, structure=f"{n}:{m}", prox=prox)
    for _ in range(10):
        optimizer.zero_grad()
        net(torch.randn(4, net.in_features)).square().sum().backward()
        optimizer.step()
    blocks = [row[i : i + m] for row in net.weight for i in range(0, net.in_features, m)]
    assert all(int((block != 0).sum()) <= n for block in blocks)
    wanted = min(max(1, round(n / m * net.weight.numel())), sum(min(n, len(block)) for block in blocks))
    assert int((net.weight != 0).sum()) == wanted == round(sparsifier.density * net.weight.numel())


def test_n_of_m_below_n_of_m_holds_both_numbers():
    net, x = spiking(), frames()
    run(net, 20, 0.2, x, 3, structure="2:4")
    assert bregma.density(net) == pytest.approx(0.2, abs=0.003)
    for w in (p for p in net.parameters() if p.ndim == 2):
        assert all(int((row[i : i + 4] != 0).sum()) <= 2 for row in w for i in range(0, w.shape[1], 4))


# -- groups -----------------------------------------------------------------------------------------------------------


def test_the_threshold_of_neurons_is_the_quantile_of_their_root_mean_square():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 6), LIF(), nn.Linear(6, 2))
    optimizer = torch.optim.SGD(bregma.param_groups(net), lr=0.1)
    options = {"metric": "none", "ramp_end": 1.0, "prox": "soft", "structure": "neurons", "net": net}
    sparsifier = TargetDensity(optimizer, 0.5, 1, **options)
    before = [net[0].weight.clone(), net[2].weight.clone()]
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    norms = ((before[0].square().sum(1) + before[1].square().sum(0)) / 7).sqrt()
    lam = norms.sort().values[2]
    factors = (1 - lam / norms).clamp(min=0)
    shrunk = [before[0] * factors[:, None], before[1] * factors]
    kept = norms > lam
    delta = (before[0][kept].square().sum() + before[1][:, kept].square().sum()).sqrt() / torch.cat(
        [s.flatten() for s in shrunk]
    ).norm()
    assert sparsifier.lam == pytest.approx(lam.item())
    torch.testing.assert_close(net[0].weight, shrunk[0] * delta)
    torch.testing.assert_close(net[2].weight, shrunk[1] * delta)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"structure": "rows"},
            ValueError,
            "structure must be weights, neurons, n:m as in 2:4, or populations, got 'rows'",
        ),
        ({"structure": "neurons"}, ValueError, "net must be given for structure 'neurons'"),
        ({"structure": "4:2"}, ValueError, "m of structure 'n:m' must be >= 4, got 2"),
        ({"structure": "1:4"}, ValueError, r"density must be <= 1/4 = 0.25 for structure '1:4', got 0.5"),
        ({"structure": "2:4", "allocation": "erk"}, ValueError, "allocation must be global"),
        ({"structure": "2:4", "neuron_floor": 1}, ValueError, "neuron_floor must be 0 unless structure is 'weights'"),
        ({"structure": []}, ValueError, "at least one population"),
        ({"structure": [3]}, TypeError, "a sequence of bregma.nn.Population"),
        ({"structure": 3}, TypeError, "a sequence of bregma.nn.Population"),
    ],
)
def test_says_what_is_wrong_with_a_structure(options, error, message):
    net = nn.Sequential(nn.Linear(8, 4), RecurrentLIF(4), nn.Linear(4, 2))
    with pytest.raises(error, match=message):
        TargetDensity(torch.optim.Adam(bregma.param_groups(net)), 0.5, 10, **options)


def population(name, size, *parts):
    return Population(name, size, tuple(Part(*part) for part in parts))


def test_says_what_is_wrong_with_populations():
    net = nn.Linear(8, 4)
    optimizer = torch.optim.Adam(bregma.param_groups(net))
    with pytest.raises(ValueError, match="no weight of population 'a' is in the optimizer"):
        TargetDensity(optimizer, 0.5, 10, structure=[population("a", 4, (net.bias,))])
    a, finer = population("a", 4, (net.weight,), (net.bias,)), population("b", 2, (net.weight, 0, 2))
    for groups in ([a, a], [a, finer]):
        where = rf"got dimension 0 of a parameter of shape \(4, 8\) in 'a' and '{groups[1].name}'"
        with pytest.raises(ValueError, match=f"structure must give each neuron entries of its own, {where}"):
            TargetDensity(optimizer, 0.5, 10, structure=groups)


@pytest.mark.parametrize("shared", ["weight", "layer", "norm"])
def test_neurons_that_share_weights_or_norms_are_refused(shared):
    """Each would take what the other has along: fewer were left than asked for, or norms of living ones were zero."""
    a, b, norm = nn.Linear(6, 6), nn.Linear(6, 6), nn.LayerNorm(6)
    if shared == "weight":
        b.weight = a.weight
    second = {"weight": [b, nn.ReLU()], "layer": [a, nn.ReLU()], "norm": [b, norm, nn.ReLU()]}[shared]
    net = nn.Sequential(a, norm, relu := nn.ReLU(), *second, nn.Linear(6, 2))
    optimizer = torch.optim.Adam(bregma.param_groups(net))
    with pytest.raises(ValueError, match="structure must give each neuron entries of its own"):
        TargetDensity(optimizer, 0.5, 10, structure="neurons", net=net)
    harmless = nn.Sequential(nn.Linear(6, 6), relu, nn.Linear(6, 6), relu, nn.Linear(6, 2))
    TargetDensity(torch.optim.Adam(bregma.param_groups(harmless)), 0.5, 10, structure="neurons", net=harmless)


@pytest.mark.parametrize(("structure", "prox"), [("weights", "soft"), ("2:4", "hard"), ("neurons", "hard")])
def test_what_is_cut_by_a_near_rival_is_not_shrunk_by_it_unless_told(structure, prox):
    net = bregma.nn.SpikingMLP(8, [8], 3)
    optimizer = torch.optim.Adam(bregma.param_groups(net), lr=0.01)
    assert TargetDensity(optimizer, 0.5, 10, structure=structure, net=net).prox == prox
