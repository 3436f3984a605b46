"""NIR graphs between libraries: what snnTorch and nirtorch write and read."""

import pytest
import torch
from test_interop_nir import silently
from test_interop_snntorch import frames, on_a_grid, peer_spikes
from torch import nn

from bregma.nn import LIF, Readout, Record, RecurrentLIF, SpikingMLP, SpikingSequential

nir = pytest.importorskip("nir")
from bregma.interop.nir import from_nir, to_nir  # noqa: E402
from bregma.interop.snntorch import run, to_snntorch  # noqa: E402


@pytest.mark.filterwarnings("ignore:nirtorch.extract_nir_graph:DeprecationWarning")
def test_what_snntorch_writes_is_read():
    snn = pytest.importorskip("snntorch")
    pytest.importorskip("nirtorch")
    from snntorch.export_nir import export_to_nir

    torch.manual_seed(0)
    peer = nn.Sequential(
        nn.Linear(6, 5),
        snn.RLeaky(torch.tensor(0.75), linear_features=5, init_hidden=True, reset_mechanism="zero", reset_delay=False),
        nn.Linear(5, 4),
        snn.Leaky(torch.full((4,), 0.5), torch.ones(4), init_hidden=True, reset_mechanism="zero", output=True),
    )
    with torch.no_grad():
        peer[0].weight.mul_(6)
        peer[2].weight.mul_(4)
    graph = export_to_nir(on_a_grid(peer), torch.ones(6))
    ours = from_nir(graph)
    x = frames(12, 3, 6)
    spikes, _ = peer_spikes(peer, x)
    assert 0.05 < spikes["3"].mean() < 0.95
    assert torch.equal(ours(x), spikes["3"])


def test_snntorch_reads_what_we_write(tmp_path):
    """It takes LIF for a reset to zero; with that reset, the spikes are the same."""
    pytest.importorskip("nirtorch")
    from snntorch.import_nir import import_from_nir

    torch.manual_seed(0)
    neurons = [LIF(0.75, reset="zero"), LIF(0.5, reset="zero")]
    net = on_a_grid(SpikingSequential(nn.Linear(6, 5), neurons[0], nn.Linear(5, 4), neurons[1]))
    net[0].weight.data.mul_(6)
    net[2].weight.data.mul_(4)
    to_nir(net, tmp_path / "net.nir")
    peer = import_from_nir(nir.read(tmp_path / "net.nir"))
    x, state, train = frames(12, 3, 6), None, []
    for frame in x:
        spikes, state = peer(frame, state)
        train.append(spikes)
    with Record(net) as record:
        net(x)
    assert all(0.05 < spikes.mean() < 0.95 for spikes in record.spikes.values())
    assert torch.equal(torch.stack(train).float(), net(x))


def test_recurrent_graphs_reach_snntorch_through_us(tmp_path):
    """The reader of snnTorch 1.0 sends the input of a recurrent layer through its recurrent weights."""
    net = on_a_grid(SpikingMLP(6, hidden=(5,), classes=3, gain=9.0, decay=0.5, readout_decay=0.5, recurrent=True))
    with silently():
        to_nir(net, tmp_path / "net.nir")
    x = frames(12, 3, 6)
    assert torch.equal(run(to_snntorch(from_nir(tmp_path / "net.nir")), x)[1].mean(0), net(x))


def test_nirtorch_runs_what_we_write(tmp_path):
    """Its own map of Affine loses the bias (2.6), and neurons have none: both are given."""
    nirtorch = pytest.importorskip("nirtorch")

    class Steps(nn.Module):
        """A layer of ours as a module of nirtorch: one frame and the state."""

        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def forward(self, x, state=None):
            output, state = self.layer(x[None], state)
            return output[0], state

    def affine(node):
        layer = nn.Linear(*node.weight.shape[::-1])
        layer.weight.data, layer.bias.data = torch.from_numpy(node.weight), torch.from_numpy(node.bias)
        return layer

    def neurons(node):
        return Steps(LIF(torch.tensor(1 - 1e-4 / node.tau).float(), torch.from_numpy(node.v_threshold), reset="zero"))

    def integrators(node):
        return Steps(Readout(torch.tensor(1 - 1e-4 / node.tau).float()))

    torch.manual_seed(0)
    net = on_a_grid(
        SpikingSequential(nn.Linear(6, 5), RecurrentLIF(5, 0.75, reset="zero"), nn.Linear(5, 4), Readout(0.5))
    )
    net[0].weight.data.mul_(6)
    to_nir(net, tmp_path / "net.nir")
    graph = nir.read(tmp_path / "net.nir")
    peer = nirtorch.nir_to_torch(graph, {nir.Affine: affine, nir.LIF: neurons, nir.LI: integrators})
    x, state, scores = frames(12, 3, 6), None, []
    for frame in x:
        score, state = peer(frame, state)
        scores.append(score)
    with Record(net) as record:
        ours = net(x)
    assert 0.05 < record.firing_rate() < 0.95
    torch.testing.assert_close(torch.stack(scores), ours)
