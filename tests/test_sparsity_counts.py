"""Counts against loops written out, and against neurobench where it is installed."""

import pytest
import torch
from torch import nn

from bregma.nn import LIF, DelayedRecurrentLIF, Readout, RecurrentLIF, SpikingMLP, SpikingSequential
from bregma.sparsity import (
    SynOps,
    activation_sparsity,
    connection_sparsity,
    density,
    footprint,
    operations,
    sparse_footprint,
    synops,
)


def frames(*shape, seed=0):
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < 0.4).float()


def thinned(net, share=0.6, seed=1):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if p.dim() > 1:
                p.mul_(torch.rand(p.shape, generator=generator) > share).mul_(4)
                assert (p == 0).any(), name
    return net


def recurrent_net():
    torch.manual_seed(0)
    return thinned(SpikingSequential(nn.Linear(6, 8), RecurrentLIF(8, 0.8), nn.Linear(8, 4), LIF(0.7)))


def test_operations_written_out():
    net, x = recurrent_net(), frames(7, 3, 6)
    spikes, _ = net[1](net[0](x))
    count = 0
    for t in range(7):
        for b in range(3):
            count += sum(int((net[0].weight[:, i] != 0).sum()) for i in range(6) if x[t, b, i])
            count += sum(int((net[2].weight[:, i] != 0).sum()) for i in range(8) if spikes[t, b, i])
            if t:
                back = net[1].recurrent.weight
                count += sum(int((back[:, i] != 0).sum()) for i in range(8) if spikes[t - 1, b, i])
    result = operations(net, x)
    assert result.accumulates == pytest.approx(count / 3)
    assert result.multiply_accumulates == 0
    assert result.dense == 7 * (6 * 8 + 8 * 8 + 8 * 4)


def test_values_other_than_spikes_need_products():
    net, x = recurrent_net(), frames(7, 3, 6)
    before, after = operations(net, x), operations(net, 2 * x)
    assert before.multiply_accumulates == 0
    assert after.multiply_accumulates == pytest.approx(operations(SpikingSequential(net[0]), x).accumulates)


def test_a_delayed_spike_counts_when_it_arrives():
    layer = DelayedRecurrentLIF(2, 0.0, spread=0.0)
    layer.delays.data = torch.tensor([0.0, 2.5])
    layer.recurrent.weight.data = torch.tensor([[0.0, 0.0], [0.0, 1e-3]])
    kick = torch.zeros(6, 1, 2)
    kick[1] = 2.0  # neuron 0 has no synapses; neuron 1 fires at 1 and is heard half at 4 and half at 5
    assert operations(SpikingSequential(layer), kick).accumulates == 2
    assert operations(SpikingSequential(layer), kick[:5]).accumulates == 1


def test_a_convolution_counts_what_the_padding_leaves():
    net = thinned(SpikingSequential(nn.Conv2d(2, 3, 3, padding=1), LIF(0.5)))
    x = frames(4, 2, 2, 5, 5)
    weight, padded = net[0].weight != 0, nn.functional.pad(x, (1, 1, 1, 1)).flatten(0, 1) != 0
    count = sum(
        int((weight & frame[None, :, i : i + 3, j : j + 3]).sum())
        for frame in padded
        for i in range(5)
        for j in range(5)
    )
    assert operations(net, x).accumulates == pytest.approx(count / 2)
    assert operations(net, x).dense == 4 * 2 * 3 * 13 * 13  # 13 = 3 places of 3, less one at each edge, per axis


@pytest.mark.parametrize(
    "layer", [nn.Conv1d(2, 3, 3, stride=2), nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular", groups=2)]
)
def test_both_counts_agree_on_any_convolution(layer):
    x = frames(2, 3, 2, *[5] * (layer.weight.dim() - 2))
    net = thinned(nn.Sequential(nn.Flatten(0, 1), layer))
    assert operations(net, x).accumulates == pytest.approx(synops(net, x))
    with pytest.raises(ValueError, match="no transposed convolution, got ConvTranspose1d"):
        operations(nn.Sequential(nn.Flatten(0, 1), nn.ConvTranspose1d(2, 1, 3)), frames(2, 3, 2, 5))


def test_a_computed_weight_goes_by_the_name_of_its_module():
    net = nn.Sequential(torch.nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)))
    with SynOps(net) as ops:
        net(torch.ones(1, 1, 3))
    assert ops.by_weight == {"0.weight": 6.0}


def test_sparsities():
    net, x = recurrent_net(), frames(7, 3, 6)
    hidden, _ = net[1](net[0](x))
    spikes = hidden.sum() + net(x).sum()
    assert activation_sparsity(net, x) == pytest.approx(1 - spikes.item() / (7 * 3 * 12))
    assert connection_sparsity(net) == 1 - density(net)


def test_footprints():
    net = SpikingMLP(300, hidden=(8,), classes=2)
    assert footprint(net) == 4 * (300 * 8 + 8 + 8 * 2 + 2 + 3)
    assert sparse_footprint(net) == footprint(net)  # no zeros: the dense form is the smallest
    with torch.no_grad():
        net.hidden[0].linear.weight[:, 1:] = 0
    assert sparse_footprint(net) == footprint(net) - 4 * 300 * 8 + 8 * (4 + 2) + 9


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
@pytest.mark.parametrize(("inputs", "outputs", "floats"), [(4, 0, 0), (0, 4, 4)])
def test_footprints_of_layers_without_weights(inputs, outputs, floats):
    layer = nn.Linear(inputs, outputs)
    assert footprint(layer) == sparse_footprint(layer) == 4 * floats


def test_as_neurobench_counts():
    pytest.importorskip("neurobench", exc_type=ImportError)
    pytest.importorskip("snntorch")
    from neurobench.benchmarks import Benchmark
    from neurobench.metrics.static import ConnectionSparsity, Footprint
    from neurobench.metrics.workload import ActivationSparsity, SynapticOperations
    from neurobench.models import SNNTorchModel

    from bregma.interop.snntorch import to_snntorch

    net, x = recurrent_net(), frames(7, 3, 6)
    peer = to_snntorch(net)
    size = footprint(peer)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x.transpose(0, 1), torch.zeros(3)), 3)
    metrics = [[Footprint, ConnectionSparsity], [ActivationSparsity, SynapticOperations]]
    theirs = Benchmark(SNNTorchModel(peer), loader, [], [], metrics).run(quiet=True)
    ours = operations(net, x)
    counted = theirs["SynapticOperations"]
    assert counted["Effective_ACs"] == pytest.approx(ours.accumulates)
    assert counted["Effective_MACs"] == ours.multiply_accumulates == 0
    assert counted["Dense"] == pytest.approx(ours.dense)
    assert theirs["ActivationSparsity"] == pytest.approx(activation_sparsity(net, x))
    assert theirs["ConnectionSparsity"] == pytest.approx(connection_sparsity(net), abs=1e-4)
    assert theirs["Footprint"] == size


def test_a_readout_is_no_activation():
    net = SpikingSequential(nn.Linear(6, 8), LIF(0.8), nn.Linear(8, 4), Readout(0.7))
    x = frames(7, 3, 6)
    assert activation_sparsity(net, x) == activation_sparsity(SpikingSequential(net[0], net[1]), x)
