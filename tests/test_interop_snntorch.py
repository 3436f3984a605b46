"""Networks that go to snnTorch and come back: the same spikes."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from bregma import ADMMClassifier
from bregma.admm import ConsistentADMM, ConsistentSettings, Convolution
from bregma.dynamics import ATan, Box, FastSigmoid, Triangle, use_backend
from bregma.interop.chain import as_sequential
from bregma.nn import LIF, DelayedRecurrentLIF, DelRec, Readout, Record, RecurrentLIF, SpikingMLP, SpikingSequential
from bregma.nn.delrec import ARCHITECTURES

snn = pytest.importorskip("snntorch")
from bregma.interop.snntorch import from_snntorch, run, to_snntorch  # noqa: E402


def on_a_grid(net):
    """Weights that are multiples of 1/64, so that every sum is exact and its order does not matter."""
    with torch.no_grad():
        for p in net.parameters():
            p.copy_((p * 64).round() / 64)
    return net


def frames(*shape, seed=0):
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < 0.4).float()


def peer_spikes(net, x):
    """Spikes of every snnTorch neuron, as (T, B, n) each, and the last membrane."""
    trains = {}

    def keep(name):
        def hook(module, inputs, output):
            trains.setdefault(name, []).append(output[0] if isinstance(output, tuple) else output)

        return hook

    handles = [
        module.register_forward_hook(keep(name))
        for name, module in net.named_modules()
        if isinstance(module, snn.SpikingNeuron)
    ]
    _, membranes = run(net, x)
    for handle in handles:
        handle.remove()
    return {name: torch.stack(train).flatten(2) for name, train in trains.items()}, membranes


def chain(recurrent, reset="subtract", strict=True, surrogate=ATan(), decay=0.875, threshold=1.0, detach=True):  # noqa: B008
    options = {"reset": reset, "strict": strict, "surrogate": surrogate, "detach_reset": detach}

    def neurons():
        return RecurrentLIF(16, decay, threshold, **options) if recurrent else LIF(decay, threshold, **options)

    torch.manual_seed(0)
    net = SpikingSequential(
        nn.Linear(12, 16), neurons(), nn.Linear(16, 16, bias=False), neurons(), nn.Linear(16, 3), Readout(0.75)
    )
    with torch.no_grad():
        for index in (0, 2):
            net[index].weight.mul_(5)
    return on_a_grid(net)


def assert_same_spikes(ours, peer, x):
    with Record(ours) as record:
        scores = ours(x)
    spikes, membranes = peer_spikes(peer, x)
    for name, train in record.spikes.items():
        assert 0.02 < train.mean() < 0.98, name  # a comparison of silence would prove nothing
        assert torch.equal(train, spikes[name].to(train.dtype)), name
    assert torch.equal(scores, membranes)


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("detach", [True, False])
def test_spikes_and_scores_are_equal(recurrent, reset, strict, detach):
    net = chain(recurrent, reset, strict, detach=detach)
    assert_same_spikes(net, to_snntorch(net), frames(12, 5, 12))


@pytest.mark.parametrize("recurrent", [False, True])
def test_a_constant_for_each_neuron(recurrent):
    decay, threshold = torch.arange(16) / 16, 0.5 + torch.arange(16) / 16
    net = chain(recurrent, decay=decay, threshold=threshold)
    assert_same_spikes(net, to_snntorch(net), frames(12, 5, 12))


def test_ties_tell_strict_from_not():
    def fired(strict):
        net = SpikingSequential(nn.Linear(1, 1, bias=False), LIF(0.5, 1.0, strict=strict))
        nn.init.ones_(net[0].weight)
        return run(to_snntorch(net), torch.ones(1, 1, 1))[0].item()

    assert (fired(True), fired(False)) == (0, 1)


@pytest.mark.parametrize("surrogate", [ATan(3.0), FastSigmoid(10.0), Triangle(0.5), Box(0.5)])
@pytest.mark.parametrize(
    ("recurrent", "reset", "detach"),
    [
        *((recurrent, reset, True) for recurrent in (False, True) for reset in ("subtract", "none")),
        (False, "zero", True),  # RLeaky has no detached reset to zero that keeps the input
        (False, "zero", False),
        (True, "zero", False),
    ],
)
def test_gradients_are_equal(surrogate, recurrent, reset, detach):
    net = chain(recurrent, reset, surrogate=surrogate, detach=detach).double()
    peer = to_snntorch(net, share=True)
    x = frames(8, 4, 12).double()
    net(x).square().sum().backward()
    ours = {name: p.grad.clone() for name, p in net.named_parameters()}
    net.zero_grad()
    run(peer, x)[1].square().sum().backward()
    for name, p in net.named_parameters():
        torch.testing.assert_close(p.grad, ours[name], rtol=1e-9, atol=1e-9)


def test_float64_networks_run():
    net = chain(True).double()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.01 * torch.randn_like(p))
    assert_same = run(to_snntorch(net), frames(12, 5, 12).double())[1]
    torch.testing.assert_close(assert_same, net(frames(12, 5, 12).double()), rtol=0, atol=1e-12)


@pytest.mark.parametrize("share", [True, False])
def test_weights_are_shared_or_copied(share):
    net = SpikingMLP(6, hidden=(4,), classes=2, recurrent=True)
    peer = to_snntorch(net, share=share)
    pairs = [
        (net.hidden[0].linear.weight, peer.hidden_0_linear.weight),
        (net.hidden[0].linear.bias, peer.hidden_0_linear.bias),
        (net.hidden[0].neurons.recurrent.weight, peer.hidden_0_neurons.recurrent.weight),
        (net.hidden[0].neurons.decay, peer.hidden_0_neurons.beta),
    ]
    for ours, theirs in pairs:
        assert torch.equal(ours, theirs)
        assert (ours.data_ptr() == theirs.data_ptr()) is share
    back = from_snntorch(peer, share=share)
    assert (back.hidden_0_linear.weight is peer.hidden_0_linear.weight) is share
    assert (back.hidden_0_neurons.recurrent.weight is peer.hidden_0_neurons.recurrent.weight) is share


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
def test_there_and_back_again(recurrent, reset):
    net = chain(recurrent, reset, strict=False, surrogate=Triangle(0.5))
    back = from_snntorch(to_snntorch(net), score="mean")
    assert [type(layer) for layer in back] == [nn.Flatten, *(type(layer) for layer in net)]
    layer = back.get_submodule("1")
    assert (layer.reset, layer.strict, layer.surrogate) == (reset, False, Triangle(0.5))
    x = frames(12, 5, 12)
    assert torch.equal(back(x), net(x).mean(0))


def test_networks_of_the_package():
    x = frames(7, 3, 2, 3, 2)
    net = on_a_grid(SpikingMLP(12, hidden=(8, 8), classes=3, recurrent=True, gain=9.0, decay=0.5, readout_decay=0.5))
    torch.testing.assert_close(run(to_snntorch(net), x)[1].mean(0), net(x))
    assert torch.equal(as_sequential(net)(x), net(x))


def test_delrec_without_delays_goes_and_with_delays_is_refused():
    plain = dataclasses.replace(ARCHITECTURES["shd"], inputs=6, hidden=(8, 8), classes=3, delayed=(False, False))
    net = DelRec(plain).double()
    x = frames(9, 4, 6).double()
    net(x)  # so that the running statistics of the norms are not the first ones
    net.eval()
    torch.testing.assert_close(as_sequential(net)(x), net(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(run(to_snntorch(net), x)[1].softmax(-1).sum(0), net(x), rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match=r"hidden_1_neurons: snnTorch 1\.0 has no axonal delays"):
        to_snntorch(DelRec(dataclasses.replace(plain, delayed=(False, True))))


def test_delays_of_zero_are_no_delays():
    layer = DelayedRecurrentLIF(6, 0.5, spread=0.0)
    nn.init.zeros_(layer.delays)
    net = on_a_grid(SpikingSequential(nn.Linear(6, 6), layer, nn.Linear(6, 2), Readout(0.5)))
    x = frames(9, 4, 6)
    assert torch.equal(run(to_snntorch(net), x)[1], net(x))


def test_convolutions():
    net = on_a_grid(
        SpikingSequential(
            nn.Conv2d(2, 3, 3), LIF(0.5, 0.25), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12, 2), Readout(0.5)
        )
    )
    x = frames(6, 3, 2, 6, 6)
    assert torch.equal(run(to_snntorch(net), x)[1], net(x))
    flattened_by_us = SpikingSequential(net[0], net[1], nn.Linear(48, 2), Readout(0.5))
    assert "2_flatten" in dict(to_snntorch(flattened_by_us).named_children())
    assert torch.equal(run(to_snntorch(flattened_by_us, share=True), x)[1], flattened_by_us(x))


@pytest.mark.parametrize("hidden", [(10,), (Convolution(3, kernel=3, stride=2), 10)])
def test_what_admm_trained_runs_in_snntorch(hidden):
    random = np.random.default_rng(0)
    y = np.arange(20) % 3
    x = (random.random((8, 20, 2 * 6 * 6)) < 0.1 + 0.2 * y[:, None]).astype(np.float32)
    model = ADMMClassifier(hidden=hidden, frame_shape=(2, 6, 6), iterations=5).fit(x, y)
    given = torch.from_numpy(x).view(8, 20, 2, 6, 6)
    with torch.no_grad():
        scores = run(to_snntorch(model), given)[1][-1].numpy()
    np.testing.assert_allclose(scores, model.decision_function(x), rtol=1e-4, atol=1e-5)
    assert np.array_equal(scores.argmax(1), model.predict(x))


@pytest.mark.parametrize("readout", ["last", "mean"])
def test_what_the_consistent_solver_trained_runs_in_snntorch(readout):
    y = torch.arange(30) % 3
    x = (torch.rand(8, 30, 12, generator=torch.Generator().manual_seed(0)) < 0.1 + 0.2 * y[:, None]).float()
    solver = ConsistentADMM((10, 8), 12, 3, ConsistentSettings(readout=readout))
    with pytest.raises(ValueError, match="without weights"):
        as_sequential(solver)
    for _ in range(3):
        solver.step(x, torch.eye(3)[y])
    with torch.no_grad():
        torch.testing.assert_close(as_sequential(solver)(x), solver.scores(x), rtol=1e-4, atol=1e-4)
        _, membranes = run(to_snntorch(solver), x)
    scores = membranes[-1] if readout == "last" else membranes.mean(0)
    torch.testing.assert_close(scores, solver.scores(x), rtol=1e-4, atol=1e-4)


class Tutorial(nn.Module):
    """A network as the tutorials of snnTorch write them."""

    def __init__(self, **recurrent):
        super().__init__()
        self.fc1 = nn.Linear(12, 16)
        self.lif1 = snn.RLeaky(beta=0.875, **recurrent)
        self.fc2 = nn.Linear(16, 3)
        self.lif2 = snn.Leaky(beta=0.75, learn_beta=True, spike_grad=snn.surrogate.fast_sigmoid(slope=20))

    def forward(self, x):
        spk1, mem1 = self.lif1.reset_mem()
        mem2 = self.lif2.reset_mem()
        train = []
        for frame in x:
            spk1, mem1 = self.lif1(self.fc1(frame), spk1, mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            train.append(spk2)
        return torch.stack(train)


@pytest.mark.parametrize(
    "recurrent",
    [{"linear_features": 16}, {"all_to_all": False, "V": 0.5}, {"all_to_all": False, "V": torch.arange(16) / 16}],
)
def test_a_network_with_a_forward_of_its_own(recurrent):
    torch.manual_seed(1)
    peer = Tutorial(**recurrent)
    with torch.no_grad():
        peer.fc1.weight.mul_(4)
        peer.fc2.weight.mul_(4)
    on_a_grid(peer)
    ours = from_snntorch(peer, order=("fc1", "lif1", "fc2", "lif2"))
    assert list(dict(ours.named_children())) == ["fc1", "lif1", "fc2", "lif2"]
    assert ours.lif2.surrogate == FastSigmoid(20.0)
    x = frames(15, 4, 12)
    spikes = peer(x)
    assert 0.02 < spikes.mean() < 0.98
    assert torch.equal(ours(x), spikes)


def test_a_surrogate_unknown_here_is_borrowed():
    peer = nn.Sequential(nn.Linear(4, 4), snn.Leaky(0.5, spike_grad=snn.surrogate.sigmoid(slope=5)))
    ours = from_snntorch(peer, share=True)
    x = torch.randn(1, 3, 4)
    with use_backend("torch"):  # no kernel for it, which would be told once
        ours(x).sum().backward()
    mine = peer[0].weight.grad.clone()
    peer.zero_grad()
    peer(x[0])[0].sum().backward()
    torch.testing.assert_close(mine, peer[0].weight.grad)
