"""Populations: which slices of which parameters belong to one neuron, and networks that cannot be read."""

import pytest
from torch import nn

import bregma
from bregma.nn import LIF, Part, Population, Recompute, RecurrentLIF, SpikingLayer, SpikingMLP, populations


def test_reads_a_spiking_mlp():
    net = SpikingMLP(7, hidden=(8, 6), classes=3, recurrent=True)
    first, second = populations(net)
    layer, after = net.hidden
    assert (first.size, second.size) == (8, 6)
    found = [(id(p.parameter), p.dim, p.block) for p in first.parts]
    recurrent = layer.neurons.recurrent.weight
    wanted = [
        (layer.linear.weight, 0),
        (layer.linear.bias, 0),
        (recurrent, 0),
        (recurrent, 1),
        (after.linear.weight, 1),
    ]
    assert found == [(id(p), dim, 1) for p, dim in wanted]


def test_reads_a_delrec_network_with_norms_and_delays():
    net = bregma.nn.delrec("shd")
    plain, delayed = populations(net)
    ids = [{id(part.parameter) for part in p.parts} for p in (plain, delayed)]
    assert {id(net.hidden[0].norm.weight), id(net.hidden[0].norm.bias)} <= ids[0]
    assert id(net.hidden[1].neurons.delays) in ids[1]
    assert id(net.readout.weight) in ids[1]
    assert id(net.readout.bias) not in ids[0] | ids[1]


def test_reads_channels_through_pooling_and_flattening():
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 2)
    )
    (channels,) = populations(net)
    assert [(part.dim, part.block) for part in channels.parts] == [(0, 1), (0, 1), (0, 1), (0, 1), (1, 9)]


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(3, 2)


@pytest.mark.parametrize(
    ("net", "error", "message"),
    [
        (3, TypeError, "net must be a torch.nn.Module, got int"),
        (Odd(), ValueError, r"what is connected to what in 'net' \(Odd\) cannot be seen"),
        (nn.Sequential(nn.Conv2d(2, 4, 3, groups=2)), ValueError, "no transposed convolution and none in groups"),
        (nn.Sequential(nn.Linear(4, 3), nn.Linear(5, 2)), ValueError, "no multiple of the 3 neurons"),
        (nn.Sequential(nn.Linear(4, 3), nn.Bilinear(3, 3, 2)), ValueError, "weights in Linear and Conv"),
    ],
)
def test_refuses_networks_it_cannot_see_through(net, error, message):
    with pytest.raises(error, match=message):
        populations(net)


def test_a_part_has_entries_for_each_neuron():
    wanted = r"parts of population 'a' must have 4 \* 1 entries along dimension 1, got shape \(4, 8\)"
    with pytest.raises(ValueError, match=wanted):
        Population("a", 4, (Part(nn.Linear(8, 4).weight, 1),))


def test_recomputed_layers_are_those_they_hold():
    first, second = SpikingLayer(nn.Linear(4, 8), LIF()), SpikingLayer(nn.Linear(8, 6), RecurrentLIF(6))
    last = nn.Linear(6, 2)
    plain = populations(nn.Sequential(first, second, last))
    wrapped = populations(nn.Sequential(Recompute(first), Recompute(second), last))
    assert [population.size for population in wrapped] == [8, 6]
    for one, other in zip(plain, wrapped, strict=True):
        assert [id(part.parameter) for part in one.parts] == [id(part.parameter) for part in other.parts]
