"""The fully connected network and the recorder of its activity."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bregma import dynamics
from bregma.nn import LIF, Readout, Record, SpikingMLP


@settings(deadline=None, max_examples=25)
@given(
    steps=st.integers(1, 4),
    batch=st.integers(1, 3),
    inputs=st.integers(1, 5),
    hidden=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    classes=st.integers(1, 4),
    recurrent=st.booleans(),
)
def test_the_network_is_its_layers_one_after_the_other(steps, batch, inputs, hidden, classes, recurrent):
    net = SpikingMLP(inputs, hidden, classes, recurrent=recurrent, gain=5.0, decay=0.8, readout_decay=0.7).double()
    x = torch.rand(steps, batch, inputs, dtype=torch.float64)
    expected = x
    for layer in net.hidden:
        current = expected @ layer.linear.weight.T + layer.linear.bias
        decay, threshold = layer.neurons.decay, layer.neurons.threshold
        if recurrent:
            expected, _ = dynamics.recurrent_lif(current, layer.neurons.recurrent.weight, decay, threshold)
        else:
            expected, _ = dynamics.lif(current, decay, threshold)
    linear = net.readout.linear
    scores, _ = dynamics.integrate(expected @ linear.weight.T + linear.bias, net.readout.integrators.decay)
    torch.testing.assert_close(net(x), scores.mean(0))


def test_without_biases_and_scored_at_the_last_step():
    net = SpikingMLP(5, (4, 3), 2, bias=False, readout="last", gain=5.0)
    assert [name for name, _ in net.named_parameters()] == [
        "hidden.0.linear.weight", "hidden.1.linear.weight", "readout.linear.weight",
    ]  # fmt: skip
    x = torch.rand(6, 3, 5)
    spikes, _ = net.hidden[1](net.hidden[0](x)[0])
    scores, last = net.readout(spikes)
    assert torch.equal(net(x), scores[-1])
    assert torch.equal(net(x), last)


def test_an_unknown_readout_is_named():
    with pytest.raises(ValueError, match="readout must be one of mean, last, got 'sum'"):
        SpikingMLP(5, (4,), 2, readout="sum")


def test_frames_of_any_shape_are_flattened():
    net = SpikingMLP(12, (4,), 3)
    x = torch.rand(5, 2, 3, 2, 2)
    assert torch.equal(net(x), net(x.flatten(2)))


@pytest.mark.parametrize("shape", [(5, 12), (5, 2, 13), (0, 2, 12), (5, 0, 12)])
def test_frames_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"must be time-major \(T, B"):
        SpikingMLP(12, (4,), 3)(torch.rand(shape))


def test_frames_of_integers_are_refused():
    with pytest.raises(TypeError, match=r"must be floating-point frames, got torch\.uint8"):
        SpikingMLP(12, (4,), 3)(torch.zeros(5, 2, 12, dtype=torch.uint8))


@pytest.mark.parametrize(
    "sizes",
    [
        {"inputs": 0, "hidden": (4,), "classes": 3},
        {"inputs": 4, "hidden": (), "classes": 3},
        {"inputs": 4, "hidden": (0,), "classes": 3},
        {"inputs": 4, "hidden": (4,), "classes": 0},
    ],
)
def test_sizes_below_one_are_refused(sizes):
    with pytest.raises(ValueError, match="inputs, hidden and classes must be >= 1 and hidden not empty"):
        SpikingMLP(**sizes)


def test_hidden_is_a_sequence():
    with pytest.raises(TypeError, match=r"hidden must be a sequence of sizes, such as \(8,\), got 8"):
        SpikingMLP(4, 8, 2)


def test_gain_scales_the_first_weights():
    for gain in (0.5, 4.0):
        weight = SpikingMLP(100, (50,), 3, gain=gain).hidden[0].linear.weight
        assert 0.95 * gain / 10 < weight.abs().max() <= gain / 10
    with pytest.raises(ValueError, match="gain must be > 0, got 0"):
        SpikingMLP(4, (4,), 3, gain=0)


@pytest.mark.parametrize("recurrent", [False, True])
def test_state_dict_and_deepcopy_keep_the_function(recurrent):
    x = torch.rand(6, 2, 5)
    net = SpikingMLP(5, (4, 3), 2, recurrent=recurrent, gain=4.0)
    other = SpikingMLP(5, (4, 3), 2, recurrent=recurrent)
    assert not torch.equal(net(x), other(x))
    other.load_state_dict(net.state_dict())
    assert torch.equal(net(x), other(x))
    assert torch.equal(net(x), copy.deepcopy(net)(x))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_the_network_compiles_without_graph_breaks():
    net = SpikingMLP(5, (4, 3), 2, recurrent=True, gain=4.0)
    x = torch.rand(4, 2, 5)
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), net(x))


def test_record_sees_what_every_layer_gave_out():
    net = SpikingMLP(5, (4, 3), 2, gain=6.0)
    with torch.no_grad():
        net.hidden[0].linear.weight.abs_()  # every neuron of the first layer can fire
    x = torch.rand(6, 7, 5)
    with Record(net) as record:
        logits = net(x)
    assert {name: tuple(s.shape) for name, s in record.spikes.items()} == {
        "hidden.0.neurons": (6, 7, 4),
        "hidden.1.neurons": (6, 7, 3),
    }
    assert torch.equal(record.scores["readout.integrators"].mean(0), logits.detach())
    rates = record.firing_rates()
    assert rates["hidden.0.neurons"] == pytest.approx(record.spikes["hidden.0.neurons"].mean().item())
    assert rates["hidden.0.neurons"] > 0
    assert record.firing_rate() == pytest.approx((4 * rates["hidden.0.neurons"] + 3 * rates["hidden.1.neurons"]) / 7)


def test_record_leaves_no_trace():
    net = SpikingMLP(5, (4,), 2)
    with Record(net) as record:
        pass
    net(torch.rand(3, 1, 5))
    assert record.spikes == {}
    assert not any(module._forward_hooks for module in net.modules() if isinstance(module, LIF | Readout))
