"""cost="synops": rates are measured, connections of busy neurons go first, operations are counted one by one."""

import copy
import pickle

import pytest
import torch
from optim_cases import saved_and_loaded, weights
from torch import nn

import bregma
from bregma import TargetDensity
from bregma.nn import DelayedRecurrentLIF, Record, SpikingMLP
from bregma.optim.cost import BASE, STRIDE, PresynapticRates
from bregma.sparsity import SynOps, synops


def sparse_net(seed=0):
    torch.manual_seed(seed)
    net = SpikingMLP(6, hidden=(5, 4), classes=3, recurrent=True, gain=4.0)
    with torch.no_grad():
        for p in net.parameters():
            if p.ndim == 2:
                p.mul_(torch.rand_like(p) < 0.5)
    return net


def frames(steps=4, batch=3, n=6, seed=0):
    return (torch.rand(steps, batch, n, generator=torch.Generator().manual_seed(seed)) < 0.4).float()


def test_counts_every_spike_and_every_connection_by_hand():
    net, x = sparse_net(), frames()
    with Record(net) as record:
        net(x)
    spikes = list(record.spikes.values())
    first, second = net.hidden
    pairs = [(x, first.linear), (spikes[0], first.neurons.recurrent), (spikes[0], second.linear)]
    pairs += [(spikes[1], second.neurons.recurrent), (spikes[1], net.readout.linear)]
    total = 0
    for sent, layer in pairs:
        for t, b, j in (sent != 0).nonzero().tolist():
            assert sent[t, b, j] == 1
            total += sum(1 for w in layer.weight[:, j].tolist() if w)
    assert total > 50
    assert synops(net, x) == pytest.approx(total / 3)


def test_counts_convolutions_at_their_borders_and_delayed_layers():
    conv = nn.Conv2d(1, 2, 3, padding=1, stride=2, bias=False)
    nn.init.ones_(conv.weight)
    conv.weight.data[1, 0, 0, 0] = 0.0
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 0, 0] = 0.5  # seen at the centre of one output's kernel, whatever its value
    with SynOps(conv) as ops:
        conv(x)
    assert ops.total == 2
    x[0, 0, 1, 1] = 1.0  # in 4 kernels of each of 2 channels, but for the corner that is 0
    with SynOps(conv) as ops:
        conv(x)
    assert ops.total == 2 + 8 - 1
    layer = DelayedRecurrentLIF(4, max_delay=3)
    with SynOps(layer) as ops:
        spikes, _ = layer(torch.full((5, 2, 4), 0.7))
    assert ops.total == 4 * int(spikes.sum()) > 0


def test_is_over_with_the_block():
    net, x = sparse_net(), frames()
    with SynOps(net) as ops:
        net(x)
    once = ops.total
    net(x)
    assert ops.total == once


def test_rates_are_the_running_mean_of_a_sample_in_training_mode_only():
    net, x = sparse_net(), frames(7, 14)
    matrices = [p for p in net.parameters() if p.ndim == 2]
    listener = PresynapticRates(net, matrices)
    listener.listen()
    net.eval()(x)
    assert not listener.rates.any()
    net.train()(x)
    seen = x.flatten(0, 1)[::STRIDE].mean(0)
    torch.testing.assert_close(listener.rates[:6], seen)
    other = frames(7, 14, seed=1)
    net(other)
    torch.testing.assert_close(listener.rates[:6], seen + 0.1 * (other.flatten(0, 1)[::STRIDE].mean(0) - seen))
    listener.close()
    before = listener.rates.clone()
    net(x)
    assert torch.equal(before, listener.rates)


@pytest.mark.parametrize("first", [0.0, 0.4])
def test_goes_on_from_the_rates_alone_after_silence_too(first):
    """A layer that has heard nothing but silence is in a state like one that has heard nothing."""
    net = nn.Linear(6, 3)
    listener = PresynapticRates(net, [net.weight])
    listener.listen()
    net(frames() * first)
    saved, other = listener.rates.clone(), PresynapticRates(net, [net.weight])
    other.load(saved)
    net(frames(seed=1))
    assert torch.equal(listener.rates, other.rates)
    assert listener.rates.any()


def test_channels_share_a_rate():
    conv = nn.Conv2d(2, 3, 1)
    listener = PresynapticRates(conv, [conv.weight])
    listener.listen()
    x = torch.zeros(1, 2, 4, 4)
    x[0, 1, :2] = 1.0
    conv(x)
    assert listener.rates.tolist() == [0.0, 0.5]
    assert listener.weighting().view(3, 2)[0].tolist() == pytest.approx([BASE**-0.5, (0.5 + BASE) ** -0.5])


def test_the_score_is_divided_by_the_root_of_the_rate_and_the_threshold_stays_proximal():
    """By hand: scores |v| / sqrt(r + 0.02), soft thresholds lam * sqrt(r + 0.02), norm restored."""
    net = nn.Linear(4, 2, bias=False)
    before = net.weight.detach().clone()
    optimizer = torch.optim.SGD(bregma.param_groups(net), lr=0.1)
    sparsifier = TargetDensity(optimizer, 0.5, 1, metric="none", ramp_end=1.0, cost="synops", net=net)
    net(torch.tensor([[1.0, 0.0, 1.0, 0.0]])).sum().backward()
    assert sparsifier.rates.tolist() == [1.0, 0.0, 1.0, 0.0]
    net.weight.grad.zero_()
    optimizer.step()
    root = torch.tensor([1.02, 0.02, 1.02, 0.02]).sqrt()
    score = before.abs() / root
    lam = score.flatten().sort().values[3]
    shrunk = before.sign() * (before.abs() - lam * root).clamp(min=0)
    kept = score > lam
    torch.testing.assert_close(net.weight, shrunk * before[kept].norm() / shrunk.norm())


def test_costs_fewer_operations_at_the_same_density():
    x = frames(8, 14)
    x[:, :, :3] = (x[:, :, :3] + frames(8, 14, 3, seed=2)).clamp(max=1.0)  # three busy inputs
    spent = {"none": 0.0, "synops": 0.0}
    for cost in spent:
        for seed in range(3):
            net = sparse_net()
            torch.manual_seed(seed)
            for p in net.parameters():
                if p.ndim == 2:
                    nn.init.normal_(p, std=0.5)
            optimizer = torch.optim.Adam(bregma.param_groups(net), lr=0.01)
            TargetDensity(optimizer, 0.2, 30, cost=cost, net=net)
            for _ in range(30):
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(x), torch.arange(14) % 3).backward()
                optimizer.step()
            with SynOps(net) as ops:
                net(x)
            spent[cost] += ops.total
            assert bregma.density(net) == pytest.approx(0.2, abs=0.01)
    assert spent["synops"] < 0.9 * spent["none"]


@pytest.mark.parametrize("stop", [3, 9, 13])
def test_resumes_bit_for_bit(stop):
    x, results = frames(), []
    for interrupted in (False, True):
        net, optimizer, sparsifier = both()
        go_on(net, optimizer, stop, x)
        if interrupted:
            state = saved_and_loaded([net.state_dict(), optimizer.state_dict(), sparsifier.state_dict()])
            net, optimizer, sparsifier = both(seed=3)
            for part, saved in zip((net, optimizer, sparsifier), state, strict=True):
                part.load_state_dict(saved)
        go_on(net, optimizer, 16 - stop, x)
        results.append(weights(net))
    assert torch.equal(*results)


def test_goes_back_to_before_the_freeze():
    x, (net, optimizer, sparsifier) = frames(), both()
    parts = (net, optimizer, sparsifier)
    go_on(net, optimizer, 7, x)
    state = saved_and_loaded([part.state_dict() for part in parts])
    results = []
    for _ in range(2):
        go_on(net, optimizer, 9, x)
        assert sparsifier.frozen
        assert sparsifier.rates is None
        results.append(weights(net))
        for part, saved in zip(parts, state, strict=True):
            part.load_state_dict(saved)
    assert torch.equal(*results)


def test_rates_of_a_larger_network_do_not_carry_over():
    net, optimizer, _ = both()
    with torch.no_grad():
        net.readout.linear.weight[:, :2] = 0
    with pytest.raises(ValueError, match="net must not be compacted before step 14, the end of the ramp"):
        bregma.compact(net, optimizer)
    go_on(net, optimizer, 14, frames())
    go_on(bregma.compact(net, optimizer), optimizer, 2, frames())


@pytest.mark.parametrize("layer", [nn.Conv2d(4, 4, 3, groups=2), nn.ConvTranspose2d(3, 4, 3)])
def test_convolutions_it_cannot_count_are_refused(layer):
    with pytest.raises(ValueError, match=r"one group|no transposed convolution"):
        TargetDensity(torch.optim.Adam(layer.parameters()), 0.5, 10, cost="synops", net=layer)


def both(seed=0):
    net = sparse_net(seed)
    optimizer = torch.optim.Adam(bregma.param_groups(net), lr=0.02)
    return net, optimizer, TargetDensity(optimizer, 0.5, 16, cost="synops", net=net, every=2)


def go_on(net, optimizer, steps, x):
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), torch.arange(3)).backward()
        optimizer.step()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cost": "energy"}, "cost must be one of none, synops, got 'energy'"),
        ({"cost": "synops"}, "net must be given for cost 'synops'"),
        ({"cost": "synops", "net": nn.Linear(2, 2)}, "net must hold all weights of the optimizer in layers"),
    ],
)
def test_says_what_is_wrong_with_a_cost(options, message):
    net = nn.Linear(4, 2)
    with pytest.raises(ValueError, match=message):
        TargetDensity(torch.optim.Adam(bregma.param_groups(net)), 0.5, 10, **options)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_network_under_measurement_is_copied_without_its_listener(duplicate):
    net = SpikingMLP(6, hidden=(5,), classes=2, recurrent=True)
    optimizer = torch.optim.Adam(bregma.param_groups(net), lr=1e-2)
    target = TargetDensity(optimizer, 0.5, 10, cost="synops", net=net)
    x = torch.ones(4, 3, 6)
    with SynOps(net) as ops:
        twin = duplicate(net)
        scores = net(x)
        counted, rates = ops.total, target.rates.clone()
        assert torch.equal(twin(x), scores)
        twin(torch.zeros(4, 3, 6))
    assert ops.total == counted > 0
    assert torch.equal(target.rates, rates)
