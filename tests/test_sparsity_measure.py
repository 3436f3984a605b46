"""Counts of exact zeros."""

import copy

import pytest
import torch
from torch import nn

from bregma import AdaBreg, density, param_groups, synops
from bregma.nn import LIF, Record, SpikingMLP, SpikingSequential
from bregma.sparsity import SynOps, activation_sparsity, compress, layer_densities, nonzero, operations, parameters


def network():
    net = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(1.0)
        net[0].weight[:, 1:] = 0.0
        net[0].bias.zero_()
        net[2].weight[0] = -0.0
    return net


def test_only_weights_count_for_the_density():
    assert density(network()) == pytest.approx((5 + 5) / (20 + 10))
    assert layer_densities(network()) == {"0.weight": 0.25, "2.weight": 0.5}


def test_all_parameters_count_for_the_size():
    net = network()
    assert parameters(net) == 20 + 5 + 5 + 5 + 10 + 2
    assert nonzero(net) == parameters(net) - 15 - 5 - 5


def test_tied_weights_count_once():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    assert parameters(net) == 9 + 3 + 3
    assert list(layer_densities(net)) == ["0.weight"]


def test_patterns_as_in_param_groups():
    net = network()
    assert density(net, dense=["0.weight"]) == 0.5
    assert list(layer_densities(net, sparse=["1.weight"])) == ["0.weight", "1.weight", "2.weight"]


def test_tiny_weights_are_not_zero():
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.fill_(1e-30)
    assert density(layer) == 1.0


def test_the_density_of_a_sparse_start():
    net = nn.Sequential(nn.Linear(40, 50), nn.Linear(50, 10))
    AdaBreg(param_groups(net, lam=0.1), init="sparse", init_density=0.3)
    assert density(net) == pytest.approx(0.3)


def test_a_model_without_weights_is_named():
    with pytest.raises(ValueError, match="model must have weights, got a BatchNorm1d without any"):
        density(nn.BatchNorm1d(3))


def test_synaptic_operations_are_those_of_a_count_spike_by_spike():
    torch.manual_seed(0)
    net = SpikingMLP(6, (8, 7), 3, recurrent=True, gain=4.0)
    for p in net.parameters():
        p.data *= torch.rand_like(p) < 0.5
    x = torch.randint(0, 3, (5, 4, 2, 3)).float()
    with Record(net) as record, SynOps(net) as ops:
        net(x)
    first, second = record.spikes.values()
    by_hand = {}
    for name, spikes, weight in (
        ("hidden.0.linear.weight", x.flatten(2), net.hidden[0].linear.weight),
        ("hidden.0.neurons.recurrent.weight", first, net.hidden[0].neurons.recurrent.weight),
        ("hidden.1.linear.weight", first, net.hidden[1].linear.weight),
        ("hidden.1.neurons.recurrent.weight", second, net.hidden[1].neurons.recurrent.weight),
        ("readout.linear.weight", second, net.readout.linear.weight),
    ):
        by_hand[name] = 0
        for _, _, neuron in spikes.nonzero().tolist():
            by_hand[name] += sum(w != 0 for w in weight[:, neuron].tolist())
    assert ops.by_weight == by_hand
    assert ops.total == sum(by_hand.values())
    assert all(by_hand.values())


@pytest.mark.parametrize("measure", [synops, operations, activation_sparsity])
def test_measuring_leaves_a_network_in_training_as_it_was(measure):
    net = SpikingSequential(nn.Linear(6, 8), nn.BatchNorm1d(8), LIF(), nn.Dropout(0.5).eval())
    before = copy.deepcopy(net.state_dict())
    x = torch.ones(5, 4, 6)
    assert measure(net, x) == measure(net, x)  # no dropout either
    assert [module.training for module in net] == [True, True, True, False]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_empty_weights_have_no_density():
    with pytest.warns(UserWarning, match="zero-element"):
        empty = nn.Linear(0, 2)
    assert layer_densities(nn.Sequential(empty, nn.Linear(2, 2))) == {"1.weight": 1.0}
    with pytest.raises(ValueError, match="model must have weights, got a Linear without any"):
        density(empty)


def test_operations_of_what_is_no_network_or_no_sequence_are_refused():
    with pytest.raises(TypeError, match=r"net must be a torch.nn.Module, got SparseNetwork"):
        synops(compress(SpikingMLP(4, hidden=(3,), classes=2)), torch.zeros(5, 2, 4))
    with pytest.raises(ValueError, match=r"x must be time-major \(T, B, ...\), got shape \(2, 4\)"):
        synops(nn.Linear(4, 3), torch.ones(2, 4))
