"""Layers on compressed weights, sample by sample and 64 at a time, against the torch reference on dense weights."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bregma import dynamics
from bregma.dynamics import RESETS, compressed, use_backend
from bregma.dynamics.compressed import Connections, Population, bits_of
from bregma.dynamics.kernels import kernel, words_for
from bregma.dynamics.kernels_words import turn

ROWS, LANES = False, True  # one sample after the other, or 64 at a time


def run(layer, x, lanes, what="run"):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compressed, "_lanes_pay", lambda *_: lanes)
        bits, graded = bits_of(x)
        return layer.membranes(bits) if what == "membranes" else layer.run(bits, graded)


def unpacked(bits, n):
    assert bits.shape[2] == words_for(n)
    numbers = np.unpackbits(bits.view(np.uint8), axis=2, bitorder="little")
    assert not numbers[:, :, n:].any()
    return torch.from_numpy(numbers[:, :, :n])


@st.composite
def layers(draw, dtype=torch.float64):
    """A layer of any size and kind, its dense weights (the recurrent ones or None), and a generator to go on with."""
    n_in, n = draw(st.integers(1, 150)), draw(st.integers(1, 140))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    density = draw(st.sampled_from([0.0, 0.05, 0.4, 1.0]))

    def weights(rows, columns):
        kept = torch.rand(rows, columns, generator=generator) < density
        return torch.randn(rows, columns, generator=generator, dtype=dtype) * kept

    def constant(low, high):
        per_neuron = torch.rand(n, generator=generator, dtype=dtype)
        return low + (high - low) * (per_neuron if draw(st.booleans()) else per_neuron[:1].expand(n).clone())

    weight, own = weights(n, n_in), weights(n, n) if draw(st.booleans()) else None
    layer = Population(
        Connections.from_weight(weight),
        torch.randn(n, generator=generator, dtype=dtype),
        None if own is None else Connections.from_weight(own),
        None,
        constant(0.3, 1.0),
        constant(0.5, 2.0),
        draw(st.sampled_from(RESETS)),
        draw(st.booleans()),
    )
    return layer, weight, own, generator


BATCHES, ACTIVITIES = st.sampled_from([1, 9, 63, 64, 65, 130]), st.sampled_from([0.0, 0.02, 0.3, 1.0])


@settings(max_examples=60, deadline=None)
@given(layers(), BATCHES, ACTIVITIES, st.booleans(), st.sampled_from([ROWS, LANES]))
def test_spikes_are_those_of_the_reference(layer, batch, activity, graded, lanes):
    layer, weight, own, generator = layer
    x = (torch.rand(6, batch, weight.shape[1], generator=generator) < activity).double()
    if graded:
        x *= torch.randint(-1, 4, x.shape, generator=generator)
    current = x @ weight.t() + layer.bias
    options = {"reset": layer.reset, "strict": layer.strict}
    with use_backend("torch"):
        if own is None:
            expected, _ = dynamics.lif(current, layer.decay, layer.threshold, **options)
        else:
            expected, _ = dynamics.recurrent_lif(current, own, layer.decay, layer.threshold, **options)
    assert torch.equal(unpacked(run(layer, x, lanes), len(layer.bias)), expected.to(torch.uint8))


@settings(max_examples=30, deadline=None)
@given(layers(torch.float32), BATCHES, ACTIVITIES)
def test_float32_spikes_do_not_depend_on_the_way(layer, batch, activity):
    layer, weight, _, generator = layer
    x = (torch.rand(8, batch, weight.shape[1], generator=generator) < activity).float()
    assert np.array_equal(run(layer, x, ROWS), run(layer, x, LANES))
    assert np.array_equal(run(layer, x, ROWS), run(layer, x.to(torch.uint8), ROWS))
    assert torch.equal(run(layer, x, ROWS, "membranes"), run(layer, x, LANES, "membranes"))


@settings(max_examples=20, deadline=None)
@given(layers(), BATCHES, st.sampled_from([ROWS, LANES]))
def test_membranes_of_neurons_that_never_fire_integrate(layer, batch, lanes):
    layer, weight, _, generator = layer
    never = torch.full_like(layer.bias, torch.inf)
    layer = Population(layer.inputs, layer.bias, None, None, layer.decay, never, "none", True)
    x = (torch.rand(6, batch, weight.shape[1], generator=generator) < 0.3).double()
    expected, _ = dynamics.integrate(x @ weight.t() + layer.bias, layer.decay)
    torch.testing.assert_close(run(layer, x, lanes, "membranes"), expected, rtol=0, atol=1e-11)


def test_a_neuron_at_its_threshold_fires_unless_strict():
    ones, x = torch.ones(1), torch.ones(1, 1, 1)
    for strict in (True, False):
        layer = Population(Connections.from_weight(ones[None]), 0 * ones, None, None, ones, ones, "none", strict)
        for lanes in (ROWS, LANES):
            assert run(layer, x, lanes).item() == (not strict)


def test_many_spikes_are_taken_64_samples_at_a_time(monkeypatch):
    one = torch.ones(200)
    layer = Population(Connections.from_weight(torch.ones(200, 200)), one, None, None, one, one, "none", True)
    calls = []
    for name in ("lanes_lif", "compressed_lif"):
        monkeypatch.setattr(compressed, name, lambda *_, name=name: calls.append(name))
    few, many = torch.zeros(4, 64, 200), torch.zeros(4, 64, 200)
    few[..., 0], many[..., :20] = 1, 1
    for x in (few, many, 2 * many, many[:, :3]):
        layer.run(*bits_of(x))
    assert calls == ["compressed_lif", "lanes_lif", "compressed_lif", "compressed_lif"]


def test_more_neurons_than_two_bytes_count():
    """Columns are then four bytes wide; those past the last neuron, which fill chunks up, too."""
    for n in (2**16 - 2, 2**16 + 70):
        weight = torch.zeros(n, 2)
        weight[[0, 1, n - 2, n - 1], [0, 1, 1, 0]] = 2
        one = torch.ones(n)
        layer = Population(Connections.from_weight(weight), 0 * one, None, None, one, one, "zero", True)
        for lanes in (ROWS, LANES):
            spikes = unpacked(run(layer, torch.tensor([[[0.0, 1.0]]]), lanes), n)
            assert spikes.nonzero()[:, 2].tolist() == [1, n - 2]


@given(st.integers(1, 40), st.integers(1, 200), st.sampled_from([0, 1, 2]), st.integers(0, 10**6))
@settings(deadline=None)
def test_frames_are_packed_whatever_their_number_and_size(rows, n, other, seed):
    generator = torch.Generator().manual_seed(seed)
    x = (torch.rand(rows, 1, n, generator=generator) < 0.3).float()
    row = int(torch.randint(rows, (), generator=generator))
    x[row, 0, seed % n] = other
    for dtype in (torch.float32, torch.float64, torch.uint8):
        bits, graded = bits_of(x.to(dtype))
        assert torch.equal(unpacked(bits, n), (x != 0).to(torch.uint8))
        assert (graded is not None) == (other == 2)


def test_words_are_transposed():
    words = np.random.default_rng(0).integers(0, 2**64, 128, np.uint64)
    bits = np.unpackbits(words.view(np.uint8), bitorder="little").reshape(2, 64, 64)
    turned = words.copy()
    _turn_second(turned)
    assert np.array_equal(turned[:64], words[:64])
    assert np.array_equal(np.unpackbits(turned[64:].view(np.uint8), bitorder="little").reshape(64, 64), bits[1].T)


@kernel
def _turn_second(words):
    turn(words, 64)
