"""A smaller network, and an optimizer that goes on with it."""

import copy

import pytest
import torch
from compact_cases import assert_same_scores, frames, sizes

import bregma
from bregma.nn import SpikingMLP
from bregma.nn.chain import chain
from bregma.optim import baselines
from bregma.sparsity.liveness import liveness


def task(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    return frames(8, seed, steps=12), torch.tensor([0, 1, 2])


def train(net, optimizer, steps, held=()):
    """Steps of training; parameters in ``held`` (tensor, mask) are put back where the mask says so."""
    for seed in steps:
        x, labels = task(seed)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), labels).backward()
        values = [(p, mask, p.detach().clone()) for p, mask in held]
        optimizer.step()
        for p, mask, value in values:
            p.data[mask] = value[mask]


def masked(recurrent=True) -> SpikingMLP:
    torch.manual_seed(0)
    net = SpikingMLP(8, (10, 10), 3, recurrent=recurrent, gain=3.0).double()
    with torch.no_grad():
        net.readout.linear.weight[:, :4] = 0
        net.hidden[1].neurons.recurrent.weight[4:, :4] = 0  # four that nobody hears
        net.hidden[0].linear.weight[0] = 0
        net.hidden[0].neurons.recurrent.weight[0] = 0  # one that hears nobody
    return net


def what_goes(net) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """All parameters, each with a mask of the entries that belong to a neuron that goes."""
    alive = liveness(chain(net), training=True).alive
    held, inputs = [], torch.ones(8, dtype=torch.bool)
    for stage, kept in zip(chain(net).hidden, alive, strict=True):
        held += [(stage.linear.weight, ~(kept[:, None] & inputs)), (stage.linear.bias, ~kept)]
        if hasattr(stage.neurons, "recurrent"):
            held.append((stage.neurons.recurrent.weight, ~(kept[:, None] & kept)))
        inputs = kept
    return [*held, (chain(net).readout.weight, ~inputs.expand(3, -1))]


OPTIMIZERS = {
    "adam": lambda net: torch.optim.Adam(net.parameters(), lr=0.01, amsgrad=True),
    "sgd": lambda net: torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9),
    "adabreg": lambda net: bregma.AdaBreg(bregma.param_groups(net, lam=0.01), lr=0.01),
    "linbreg": lambda net: bregma.LinBreg(bregma.param_groups(net, lam=0.01), lr=0.3, momentum=0.9),
    "proxsgd": lambda net: bregma.ProxSGD(bregma.param_groups(net, lam=0.01), lr=0.05, momentum=0.9),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_exactly(name):
    net = masked()
    optimizer = OPTIMIZERS[name](net)
    held = what_goes(net)
    train(net, optimizer, range(3), held)
    assert sum(mask.sum() for _, mask in held) > 0
    small_optimizer = copy.deepcopy((net, optimizer))  # one memo: the copy moves the copy
    small = bregma.compact(*small_optimizer)
    assert sizes(small) == [9, 6]
    train(small, small_optimizer[1], range(3, 8))
    held = what_goes(net)
    before = net.hidden[0].linear.weight.detach().clone()
    train(net, optimizer, range(3, 8), held)
    assert not torch.equal(before, net.hidden[0].linear.weight)
    for (p, mask), q in zip(held, [q for n, q in small.named_parameters() if n != "readout.linear.bias"], strict=True):
        torch.testing.assert_close(q.flatten(), p[~mask], rtol=0, atol=1e-12)


def to_six_percent(steps: int):
    torch.manual_seed(0)
    net = SpikingMLP(8, (16, 16), 3, recurrent=True, gain=3.0).double()
    optimizer = torch.optim.Adam(bregma.param_groups(net), lr=0.02)
    sparsifier = bregma.TargetDensity(optimizer, 0.06, 20, ramp_end=0.5)
    train(net, optimizer, range(steps))
    return net, optimizer, sparsifier


def test_a_named_density_goes_on_exactly():
    net, optimizer, _ = to_six_percent(12)
    other, small_optimizer, sparsifier = to_six_percent(12)
    small = bregma.compact(other, small_optimizer)
    assert sum(sizes(small)) < 32
    train(net, optimizer, range(12, 16), [(p, mask) for p, mask in what_goes(net) if p.ndim == 1])
    train(small, small_optimizer, range(12, 16))
    assert_same_scores(net, small, task(99)[0])
    assert sparsifier.density == bregma.density(small)
    assert len(sparsifier.mask) == sum(w.numel() for w in small.parameters() if w.ndim > 1)


@pytest.mark.parametrize("make", [bregma.TargetDensity, baselines.MagnitudePruning])
def test_before_the_freeze_as_many_connections_are_reached(make):
    torch.manual_seed(0)
    net = SpikingMLP(8, (16, 16), 3, gain=3.0).double()
    optimizer = torch.optim.Adam(bregma.param_groups(net), lr=0.02)
    sparsifier = make(optimizer, 0.3, 20, allocation="uniform")
    train(net, optimizer, range(5))
    with torch.no_grad():
        net.readout.linear.weight[:, :4] = 0
    small = bregma.compact(net, optimizer)
    train(small, optimizer, range(5, 20))
    nonzero = sum(int(w.count_nonzero()) for w in sparsifier.weights)
    assert abs(nonzero - round(0.3 * (8 * 16 + 16 * 16 + 16 * 3))) <= 1


def test_an_optimizer_that_does_not_fit_is_refused():
    net = masked()
    with pytest.raises(TypeError, match=r"optimizer must be a torch.optim.Optimizer, got int"):
        bregma.compact(net, 3)
    with pytest.raises(ValueError, match="optimizer must hold parameters of net"):
        bregma.compact(net, torch.optim.SGD(masked().parameters(), lr=0.1))
    optimizer = torch.optim.Adafactor(net.parameters())
    train(net, optimizer, range(1))
    with pytest.raises(ValueError, match="optimizer must keep state in the shape of its parameters, got 'row_var'"):
        bregma.compact(net, optimizer)
