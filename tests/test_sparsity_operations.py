"""Synaptic operations, counted one by one."""

import pytest
import torch

from bregma.nn import Record, SpikingMLP
from bregma.sparsity import synaptic_operations


def test_operations_are_those_of_a_count_spike_by_spike():
    torch.manual_seed(0)
    net = SpikingMLP(6, (8, 7), 3, recurrent=True, gain=4.0)
    for p in net.parameters():
        p.data *= torch.rand_like(p) < 0.5
    x = torch.randint(0, 3, (5, 4, 2, 3)).float()
    with Record(net) as record:
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
        count = 0
        for _, _, neuron in spikes.nonzero().tolist():
            count += sum(w != 0 for w in weight[:, neuron].tolist())
        by_hand[name] = count / 4
    assert synaptic_operations(net, x) == pytest.approx(by_hand)
    assert all(by_hand.values())
