"""A smaller network with the same scores."""

import copy

import pytest
import torch
from compact_cases import assert_same_scores, frames, sizes
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils import prune

import bregma
from bregma.dynamics import RESETS, ATan
from bregma.nn import DelRec, SpikingMLP
from bregma.nn.chain import chain
from bregma.nn.delrec import Architecture
from bregma.sparsity.liveness import liveness

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))


@torch.no_grad()
def thin_out(net: torch.nn.Module, density: float, seed: int, bias: float = 0.8) -> torch.nn.Module:
    """Few weights, some of them strong, and biases on both sides of the threshold."""
    torch.manual_seed(seed)
    for name, p in net.named_parameters():
        if p.ndim > 1:
            p.copy_(torch.randn_like(p) * (torch.rand_like(p) < density))
        elif name.endswith("bias"):
            p.copy_(bias * torch.randn_like(p))
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.3, 2.0)
            module.weight.normal_()
    return net.double().eval()


def delrec(hidden, delayed, reset, norm, leaky, learn_spread, decay=0.8) -> DelRec:
    return DelRec(
        Architecture(
            6, hidden, 3, delayed, decay, reset, False, ATan(), norm=norm, dropout=0.3, drop_spikes=norm,
            recurrent_dropout=0.2, learn_spread=learn_spread, delays=(0.0, 6.0), leaky_readout=leaky, kaiming=False,
        )
    )  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(SHAPES, st.booleans(), st.sampled_from(RESETS), st.sampled_from([0.5, 0.9, 1.0]), st.integers(0, 10**6),
       st.sampled_from([0.05, 0.15, 0.4]))  # fmt: skip
def test_scores_of_random_sparse_networks_stay(hidden, recurrent, reset, decay, seed, density):
    net = thin_out(SpikingMLP(6, hidden, 3, recurrent=recurrent, reset=reset, decay=decay), density, seed)
    assert_same_scores(net, bregma.compact(net), frames(6, seed))


@settings(max_examples=50, deadline=None)
@given(SHAPES, st.tuples(st.booleans(), st.booleans()), st.sampled_from(RESETS), st.booleans(), st.booleans(),
       st.booleans(), st.floats(0, 3), st.integers(0, 10**6), st.sampled_from([0.05, 0.15, 0.4]))  # fmt: skip
def test_scores_with_delays_and_norms_stay(hidden, delayed, reset, norm, leaky, learned, spread, seed, density):
    net = thin_out(delrec(hidden, delayed, reset, norm, leaky, learned), density, seed)
    net.set_spread(spread)
    small = bregma.compact(net)
    assert_same_scores(net, small, frames(6, seed))
    net.round_delays_()
    small.round_delays_()
    assert_same_scores(net, small, frames(6, seed))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 8), st.sampled_from(RESETS), st.sampled_from([0.0, 0.5, 0.9, 1.0]), st.booleans(),
       st.integers(0, 10**6))  # fmt: skip
def test_a_silent_neuron_never_fires_and_a_constant_one_always(size, reset, decay, norm, seed):
    torch.manual_seed(seed)
    net = delrec((size,), (False,), reset, norm, True, False, decay=decay)
    thin_out(net, 0.3, seed, bias=2.0)
    net.readout.weight.data.fill_(1.0)
    verdict = liveness(chain(net))
    spikes = []
    net.hidden[0].neurons.register_forward_hook(lambda module, inputs, output: spikes.append(output[0]))
    net(frames(6, seed, steps=200))
    fired = spikes[0].flatten(0, 1).mean(0)
    silent = ~verdict.alive[0] & ~verdict.constant[0]
    assert (fired[silent] == 0).all()
    assert (fired[verdict.constant[0]] == 1).all()


def two_layers(recurrent=False) -> SpikingMLP:
    """Inputs that go everywhere, neurons that hear one neighbour and are heard by it."""
    net = SpikingMLP(4, (5, 5), 2, recurrent=recurrent).double()
    with torch.no_grad():
        for p in net.parameters():
            p.zero_()
        net.hidden[0].linear.weight.fill_(0.6)
        net.hidden[1].linear.weight.copy_(torch.eye(5))
        net.readout.linear.weight.fill_(1.0)
    return net


def test_the_network_itself_is_not_changed_and_a_dense_one_stays_whole():
    net = two_layers()
    before = copy.deepcopy(net.state_dict())
    net.hidden[1].linear.weight.data[0, 0] = 0
    before["hidden.1.linear.weight"][0, 0] = 0
    bregma.compact(net)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name
    torch.manual_seed(0)  # of other random weights three in a hundred leave a neuron that cannot fire
    assert sizes(bregma.compact(SpikingMLP(4, (5, 5), 2, recurrent=True))) == [5, 5]


def test_what_only_dead_neurons_hear_is_dead():
    net = two_layers(recurrent=True)
    net.readout.linear.weight.data[:, 0] = 0  # neuron 0 of layer 1 is unheard, hence neuron 0 of layer 0
    net.hidden[1].neurons.recurrent.weight.data[0, 1] = 1.0  # hearing does not help it
    assert sizes(bregma.compact(net)) == [4, 4]
    net.hidden[1].neurons.recurrent.weight.data[1, 0] = 1.0  # being heard does
    assert sizes(bregma.compact(net)) == [5, 5]


def test_a_ring_that_nobody_starts_is_silent():
    net = two_layers(recurrent=True)
    net.hidden[1].linear.weight.data[:2] = 0
    net.hidden[1].neurons.recurrent.weight.data[0, 1] = 5.0
    net.hidden[1].neurons.recurrent.weight.data[1, 0] = 5.0
    assert sizes(bregma.compact(net)) == [3, 3]
    net.hidden[1].linear.bias.data[0] = 0.2  # 0.2 / (1 - 0.9) > 1: now it starts by itself
    assert sizes(bregma.compact(net)) == [3, 5]


@pytest.mark.parametrize(("bias", "left"), [(0.0999, 4), (0.1001, 5)])
def test_the_bound_is_that_of_the_leaky_recursion(bias, left):
    net = two_layers()
    net.hidden[1].linear.weight.data[0] = 0
    net.hidden[1].linear.bias.data[0] = bias  # the membrane goes to ten times that
    assert sizes(bregma.compact(net))[1] == left


def test_weak_inputs_count_with_all_that_they_can_bring():
    net = two_layers()
    net.hidden[1].linear.weight.data[0] = torch.tensor([0.03, 0.03, 0.03, -5.0, 0.0])  # 0.09 / (1 - 0.9) < 1
    assert sizes(bregma.compact(net)) == [4, 4]
    net.hidden[1].linear.weight.data[0, 4] = 0.02
    assert sizes(bregma.compact(net)) == [5, 5]


@pytest.mark.parametrize(
    ("reset", "bias", "folded"),
    [("subtract", 1.09, False), ("subtract", 1.11, True), ("subtract_decayed", 1.01, True), ("zero", 1.01, True),
     ("none", 1.01, True), ("zero", 0.99, False)],
)  # fmt: skip
def test_only_what_is_constant_from_the_first_step_is_folded(reset, bias, folded):
    net = two_layers()
    net.hidden[0].linear.weight.data[2] = 0
    net.hidden[0].linear.bias.data[2] = bias
    net.hidden[1].linear.weight.data[:, 2] = 0.1 * torch.arange(5.0)
    net.hidden[0].neurons.reset = net.hidden[1].neurons.reset = reset
    small = bregma.compact(net)
    assert sizes(small)[0] == 5 - folded
    assert torch.equal(small.hidden[1].linear.bias.data, (0.1 * torch.arange(5.0)).double() * folded)
    assert_same_scores(net, small, frames(4))


def test_a_constant_neuron_that_its_own_layer_hears_stays():
    net = two_layers(recurrent=True)
    net.hidden[0].linear.weight.data[2] = 0
    net.hidden[0].linear.bias.data[2] = 3.0
    net.hidden[0].neurons.recurrent.weight.data[1, 2] = 0.3
    assert sizes(bregma.compact(net))[0] == 5


def test_a_dead_network_keeps_one_neuron_per_layer():
    net = two_layers(recurrent=True)
    net.hidden[0].linear.weight.data.zero_()
    net.hidden[0].linear.bias.data.fill_(3.0)  # all constant, all folded
    net.readout.linear.bias.data.fill_(0.3)
    small = bregma.compact(net)
    assert sizes(small)[0] == 1
    assert_same_scores(net, small, frames(4))


def test_delrec_knows_its_new_sizes_and_neurons_keep_their_constants():
    net = thin_out(delrec((9, 9), (True, False), "zero", True, True, True), 0.2, seed=1)
    net.hidden[1].neurons.decay = torch.linspace(0.1, 0.9, 9).double()
    small = bregma.compact(net)
    assert small.architecture.hidden == tuple(sizes(small)) < (9, 9)
    assert small.hidden[1].neurons.decay.shape == (sizes(small)[1],)
    assert_same_scores(net, small, frames(6))
    DelRec(small.architecture).load_state_dict(
        {k: v for k, v in small.state_dict().items() if "decay" not in k}, strict=False
    )


def test_what_cannot_be_made_smaller_is_refused():
    with pytest.raises(TypeError, match=r"net must be a SpikingMLP or a DelRec, got SparseNetwork"):
        bregma.compact(bregma.compress(SpikingMLP(4, hidden=(3,), classes=2)))
    with pytest.raises(TypeError, match=r"net must be a SpikingMLP or a DelRec, got Linear"):
        bregma.compact(torch.nn.Linear(2, 2))
    net = two_layers()
    net.hidden[1].linear.weight = net.hidden[0].neurons.weight = torch.nn.Parameter(torch.eye(5).double())
    with pytest.raises(ValueError, match=r"net must not share parameters, got hidden.0.neurons.weight = hidden.1"):
        bregma.compact(net)
    net = two_layers()
    prune.l1_unstructured(net.hidden[0].linear, "weight", 0.5)
    with pytest.raises(ValueError, match=r"hidden.0.linear.weight is computed from others"):
        bregma.compact(net)
    net = two_layers()
    net.readout.linear.weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match="net must have finite weights"):
        bregma.compact(net)


@pytest.mark.parametrize("name", ["linear.bias", "norm.running_mean", "neurons.decay", "neurons.threshold"])
def test_a_neuron_that_is_nan_is_not_taken_for_a_silent_one(name):
    net = delrec((5,), (False,), "zero", norm=True, leaky=True, learn_spread=False).eval()
    net.hidden[0].state_dict()[name].view(-1)[0] = torch.nan
    with pytest.raises(ValueError, match="net must have finite weights"):
        bregma.compact(net)
