"""The DelRec presets: exact sizes and parameter counts, the pieces each is made of, and that they train."""

import dataclasses

import pytest
import torch
from torch import nn

import bregma
from bregma.nn import models
from bregma.nn.delrec import ARCHITECTURES, DelRec
from bregma.nn.weights import split_parameters

COUNTS = {"shd": 173_844, "ssc": 374_819, "psmnist": 156_154}
MATRICES = {"shd": 172_032, "ssc": 372_480, "psmnist": 154_680}
SIZES = {"shd": (140, 256, 256, 20), "ssc": (140, 256, 256, 256, 35), "psmnist": (1, 64, 212, 212, 10)}
each = pytest.mark.parametrize("name", COUNTS)


def small(name, **changes):
    torch.manual_seed(0)
    hidden = (12,) * len(ARCHITECTURES[name].hidden)
    return DelRec(dataclasses.replace(ARCHITECTURES[name], **{"hidden": hidden, **changes}))


@each
def test_has_the_published_sizes_and_parameters(name):
    net = models.delrec(name)
    assert sum(p.numel() for p in net.parameters()) == COUNTS[name]
    weights, rest = split_parameters(net)
    assert sum(p.numel() for p in weights.values()) == MATRICES[name]
    assert not any("delay" in key or "spread" in key or "norm" in key for key in weights)
    assert any("delays" in key for key in rest)
    feed_forward = [layer.linear for layer in net.hidden] + [net.readout]
    assert (feed_forward[0].in_features, *[linear.out_features for linear in feed_forward]) == SIZES[name]
    assert all(linear.bias is not None for linear in feed_forward)
    assert len(net.delayed_layers()) == {"shd": 1, "ssc": 3, "psmnist": 3}[name]


@each
def test_starts_as_published(name):
    torch.manual_seed(1)
    net = models.delrec(name)
    for layer in net.delayed_layers():
        w = layer.recurrent.weight
        torch.testing.assert_close(w @ w.T, torch.eye(len(w)), atol=1e-5, rtol=0)
        if name == "shd":
            assert 10 <= layer.delays.min() < 12
            assert 28 < layer.delays.max() <= 30
            assert layer.p_spread is None
        else:
            assert (layer.delays >= 0).all()
            assert 12 * 0.5 < layer.delays.mean() < 12 * 1.1  # |N(0, 12)| has mean 9.6
            assert torch.equal(layer.p_spread, torch.zeros_like(layer.delays))
    assert net.hidden[0].neurons.reset == ("zero" if name == "shd" else "subtract_decayed")
    assert net.hidden[0].neurons.decay.item() == pytest.approx(1 - 1 / 1.05 if name == "shd" else 0.5)
    assert not net.hidden[0].neurons.strict


@each
def test_trains(name):
    net = small(name, dropout=0.0, recurrent_dropout=0.0)
    groups = bregma.param_groups(net, lam=0.01)
    optimizer = bregma.AdaBreg(groups, lr=1e-2)
    x = torch.rand(10, 8, net.architecture.inputs)
    x[:, 4:] = 2 * x[:, 4:]
    labels = torch.tensor([0] * 4 + [1] * 4)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), labels)
        loss.backward()
        optimizer.step()
        net.clamp_delays_()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert all(p.grad is not None for key, p in net.named_parameters() if "spread" not in key)


def test_shd_reads_out_what_integrators_say_and_the_others_a_sum():
    net = small("psmnist").eval()
    x = torch.rand(6, 3, 1)
    spikes = x
    for layer in net.hidden:
        spikes = layer(spikes)
    torch.testing.assert_close(net(x), sum(net.readout(s) for s in spikes))
    net = small("shd").eval()
    logits = net(torch.rand(6, 3, 140))
    torch.testing.assert_close(logits.sum(1), torch.full((3,), 6.0))  # six probabilities, added up


@each
def test_dropout_is_of_training_alone_and_alike_in_all_steps(name):
    net = small(name, dropout=0.5)
    x = torch.rand(9, 4, net.architecture.inputs)
    net.eval()
    assert torch.equal(net(x), net(x))
    net.train()
    assert not torch.equal(net(x), net(x))
    dropped = net.hidden[0]._drop(torch.ones(9, 4, 12))
    assert torch.equal(dropped, dropped[:1].expand_as(dropped))
    assert set(dropped.unique().tolist()) == {0.0, 2.0}


def test_recurrent_dropout_silences_the_layer_for_some_neurons_of_each_sample():
    torch.manual_seed(0)
    layer = bregma.nn.DelayedRecurrentLIF(40, decay=1.0, dropout=0.5, max_delay=0, spread=0.0, reset="none")
    with torch.no_grad():
        layer.recurrent.weight.copy_(torch.eye(40))
    kick = torch.zeros(3, 2, 40)
    kick[0] = 2.0
    _, state = layer(kick)
    heard = state[0] - 2.0  # each neuron hears its own spikes one step later, in both steps or in none
    assert set(heard.flatten().tolist()) == {0.0, 4.0}
    assert not torch.equal(heard[0], heard[1])
    layer.eval()
    assert (layer(kick)[1][0] == 4.0).all()


@each
def test_spread_is_saved_and_delays_are_rounded_for_inference(name):
    net = small(name)
    net.set_spread(0.7)
    other = small(name)
    other.load_state_dict(net.state_dict())
    assert all(layer.spread.item() == pytest.approx(0.7) for layer in other.delayed_layers())
    other.round_delays_()
    for layer in other.delayed_layers():
        assert torch.equal(layer.delays, layer.delays.round())
        assert layer.spread == 0
    assert other.eval()(torch.rand(5, 2, net.architecture.inputs)).isfinite().all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: models.delrec("mnist"), "name must be one of shd, ssc, psmnist, got 'mnist'"),
        (lambda: small("shd", delayed=(True,)), r"delayed must say as many layers as hidden, got \(True,\)"),
        (lambda: small("shd", hidden=(4, 0)), r"inputs, hidden and classes must be >= 1, got 140, \(4, 0\), 20"),
        (lambda: small("shd")(torch.rand(5, 2, 139)), r"x must be \(T, B, 140\)"),
        (lambda: bregma.nn.DelayedRecurrentLIF(4, dropout=1.0), r"dropout must be in \[0, 1\), got 1"),
    ],
)
def test_says_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_frames_of_integers_are_refused():
    with pytest.raises(TypeError, match=r"x must be floating-point frames, got torch.uint8"):
        small("shd")(torch.zeros(5, 2, 140, dtype=torch.uint8))
