"""The recurrences against the neurons of snnTorch, spike for spike and gradient for gradient."""

import pytest
import torch
from lif_problems import F64, gradients, problem

from bregma.dynamics import ATan, FastSigmoid, lif, recurrent_lif


def in_float64(function):
    """A surrogate function of snnTorch that does not round the spikes, and with them their gradient, to float32."""

    class InDtype(function):
        @staticmethod
        def forward(ctx, x, constant):
            return function.forward(ctx, x, constant).to(x.dtype)

    return InDtype


def snntorch_surrogate(name, rounded):
    surrogate = pytest.importorskip("snntorch").surrogate
    function, constant = {"atan": (surrogate.ATan, 2.0), "fast_sigmoid": (surrogate.FastSigmoid, 25)}[name]
    function = function if rounded else in_float64(function)
    return lambda x: function.apply(x, constant)


snntorch_cases = [
    pytest.mark.parametrize(("surrogate", "name"), [(ATan(2.0), "atan"), (FastSigmoid(25.0), "fast_sigmoid")]),
    pytest.mark.parametrize(("steps", "batch", "n"), [(1, 1, 1), (2, 3, 1), (25, 2, 7), (60, 4, 16)]),
    pytest.mark.parametrize("seed", range(4)),
]


def cases(test):
    for mark in snntorch_cases:
        test = mark(test)
    return test


@cases
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
def test_equals_snntorch_leaky(seed, steps, batch, n, surrogate, name, reset):
    snntorch = pytest.importorskip("snntorch")
    given, upstream = problem(seed, steps, batch, n)
    del given["weight"]
    upstream = upstream[0].float().double(), upstream[1]  # snnTorch's spikes, and so their gradients, are float32
    peer = snntorch.Leaky(
        beta=given["decay"],
        threshold=given["threshold"],
        spike_grad=snntorch_surrogate(name, rounded=True),
        reset_mechanism=reset,
        reset_delay=True,
    )
    membrane, train = given["state"], []
    for current in given["current"].unbind(0):
        spikes, membrane = peer(current, membrane)
        train.append(spikes)
    theirs = torch.stack(train), membrane
    ours = lif(**given, reset=reset, detach_reset=True, surrogate=surrogate)
    compare(ours, theirs, upstream, given)


@cases
@pytest.mark.parametrize("reset", ["subtract", "none"])  # not "zero", see the test below
def test_equals_snntorch_rleaky(seed, steps, batch, n, surrogate, name, reset):
    given, upstream = problem(seed, steps, batch, n, with_state=False)
    theirs = rleaky(given, snntorch_surrogate(name, rounded=False), reset)
    ours = recurrent_lif(**given, reset=reset, detach_reset=True, surrogate=surrogate)
    compare(ours, theirs, upstream, given)


def test_snntorch_rleaky_zero_is_another_reset():
    """RLeaky throws away the input of the step after a spike too; Leaky and bregma only the membrane."""
    given = {
        "current": torch.full((2, 1, 1), 1.5, dtype=F64),
        "weight": torch.zeros(1, 1, dtype=F64),
        "decay": torch.tensor(0.5, dtype=F64),
        "threshold": torch.tensor(1.0, dtype=F64),
    }
    assert rleaky(given, snntorch_surrogate("atan", rounded=False), "zero")[1].item() == 0
    assert recurrent_lif(**given, reset="zero")[1].item() == 1.5


def rleaky(given, surrogate, reset):
    """Spikes and last membrane of snnTorch's RLeaky from rest."""
    snntorch = pytest.importorskip("snntorch")
    peer = snntorch.RLeaky(
        beta=given["decay"],
        linear_features=given["weight"].shape[0],
        threshold=given["threshold"],
        spike_grad=surrogate,
        reset_mechanism=reset,
        reset_delay=True,
    )
    del peer.recurrent
    peer.recurrent = lambda spikes: torch.nn.functional.linear(spikes, given["weight"])
    spikes = membrane = torch.zeros_like(given["current"][0])
    train = []
    for current in given["current"].unbind(0):
        spikes, membrane = peer(current, spikes, membrane)
        train.append(spikes)
    return torch.stack(train), membrane


def compare(ours, theirs, upstream, given):
    assert torch.equal(ours[0], theirs[0].to(F64))
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-12, atol=1e-12)
    inputs = list(given.values())
    for name, mine, peers in zip(
        given, gradients(ours, upstream, inputs), gradients(theirs, upstream, inputs), strict=True
    ):
        scale = 1 + peers.abs().max()
        torch.testing.assert_close(
            mine / scale, peers / scale, rtol=0, atol=1e-11, msg=lambda m, name=name: f"{name} {m}"
        )


def test_the_comparison_sees_spikes():
    given, _ = problem(0, 25, 2, 7)
    spikes, _ = recurrent_lif(**given)
    assert 0.1 < spikes.mean() < 0.9
