"""Inference on compressed weights: the scores of the network, in any order of events, and a small file."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_sparsity_compact import SHAPES, delrec, frames, thin_out

import bregma
from bregma.dynamics import RESETS
from bregma.dynamics.compressed import Connections, bits_of
from bregma.nn import SpikingMLP
from bregma.sparsity.storage import decode, encode


def assert_same(net, sparse, x):
    with torch.no_grad():
        torch.testing.assert_close(sparse(x), net(x), rtol=0, atol=1e-11)


@settings(max_examples=50, deadline=None)
@given(SHAPES, st.booleans(), st.sampled_from(RESETS), st.integers(0, 10**6), st.sampled_from([0.05, 0.4, 1.0]))
def test_scores_are_those_of_the_network(hidden, recurrent, reset, seed, density):
    net = thin_out(SpikingMLP(70, hidden, 3, recurrent=recurrent, reset=reset), density, seed)
    x = frames(70, seed)
    assert_same(net, bregma.compress(net), x)
    graded = x * torch.randint(1, 4, x.shape)
    assert_same(net, bregma.compress(bregma.compact(net)), graded)


@settings(max_examples=50, deadline=None)
@given(SHAPES, st.tuples(st.booleans(), st.booleans()), st.sampled_from(RESETS), st.booleans(), st.booleans(),
       st.booleans(), st.floats(0, 3), st.integers(0, 10**6), st.sampled_from([0.05, 0.4, 1.0]))  # fmt: skip
def test_scores_with_delays_and_norms(hidden, delayed, reset, norm, leaky, learned, spread, seed, density):
    net = thin_out(delrec(hidden, delayed, reset, norm, leaky, learned), density, seed)
    net.set_spread(spread)
    assert_same(net, bregma.compress(net), frames(6, seed))
    net.round_delays_()
    assert_same(net, bregma.compress(net), frames(6, seed))


@pytest.mark.parametrize("readout", ["mean", "last"])
def test_networks_without_bias_and_with_either_readout(tmp_path, readout):
    net = thin_out(SpikingMLP(6, (9, 9), 3, bias=False, readout=readout), 0.3, 5)
    x = frames(6, 5)
    assert net(x).abs().max() > 0
    assert_same(net, bregma.compact(net), x)
    sparse = bregma.compress(bregma.compact(net))
    assert_same(net, sparse, x)
    sparse.save(tmp_path / "net.safetensors")
    assert_same(net, bregma.SparseNetwork.load(tmp_path / "net.safetensors"), x)


def wide(dtype=torch.float32) -> SpikingMLP:
    """Layers wider than a word and than a chunk."""
    torch.manual_seed(0)
    net = SpikingMLP(200, (150, 130), 10, recurrent=True, gain=4.0)
    with torch.no_grad():
        for p in net.parameters():
            if p.ndim > 1:
                p.mul_(torch.rand_like(p) < 0.2)
    return net.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_frames_come_in_any_dtype_and_shape(dtype):
    net = wide(dtype)
    sparse = bregma.compress(net)
    x = (torch.rand(20, 3, 2, 10, 10) < 0.1).to(torch.uint8)
    expected = net(x.to(dtype)).detach()
    for kind in (torch.uint8, torch.bool, torch.float32, torch.float64):
        torch.testing.assert_close(sparse(x.to(kind)), expected, rtol=0, atol=1e-6)
    counts = 3 * x
    torch.testing.assert_close(sparse(counts), net(counts.to(dtype)).detach(), rtol=0, atol=1e-6)
    strided = x.float().transpose(0, 1).contiguous().transpose(0, 1)
    torch.testing.assert_close(sparse(strided), expected, rtol=0, atol=1e-6)


def test_float32_spikes_are_those_of_the_fast_path():
    net = wide()
    x = (torch.rand(100, 16, 200) < 0.1).float()
    assert torch.equal(bregma.compress(net)(x), net(x).detach())
    assert torch.equal(bregma.compact(net)(x), net(x))


def test_threads_do_not_matter():
    sparse = bregma.compress(wide())
    x = (torch.rand(10, 9, 200) < 0.1).float()
    one = sparse(x)
    torch.set_num_threads(2)
    try:
        assert torch.equal(sparse(x), one)
    finally:
        torch.set_num_threads(1)


def test_the_network_may_change_afterwards():
    net = wide()
    sparse = bregma.compress(net)
    x = (torch.rand(10, 2, 200) < 0.1).float()
    before = sparse(x)
    for p in net.parameters():
        p.data.zero_()
    assert torch.equal(sparse(x), before)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 10**6))
def test_connections_are_the_weights(n_out, n_in, density, seed):
    torch.manual_seed(seed)
    weight = torch.randn(n_out, n_in) * (torch.rand(n_out, n_in) < density)
    connections = Connections.from_weight(weight)
    assert torch.equal(connections.dense(), weight)
    assert connections.count == int(weight.count_nonzero())
    assert (connections.n_in, connections.n_out) == (n_in, n_out)


@given(st.lists(st.integers(0, 5000), unique=True))
def test_gaps_are_read_back(places):
    position = np.array(sorted(places), np.int64)
    assert np.array_equal(decode(encode(position)), position)


def test_bits_know_values_that_are_not_one():
    x = torch.zeros(2, 1, 70)
    x[0, 0, [0, 64, 69]] = 1
    bits, graded = bits_of(x)
    assert graded is None
    assert bits[:, 0].tolist() == [[1, 1 | 1 << 5], [0, 0]]
    x[1, 0, 69] = -0.5
    assert bits_of(x)[1] is not None


# -- the file ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delayed", [False, True])
def test_a_file_brings_the_network_back_bit_for_bit(tmp_path, delayed):
    if delayed:
        net, x = thin_out(delrec((9, 8), (True, False), "zero", True, False, True), 0.3, 3), frames(6)
    else:
        net, x = wide(), (torch.rand(20, 3, 200) < 0.1).float()
    sparse = bregma.compress(net)
    sparse.save(tmp_path / "net.safetensors")
    again = bregma.SparseNetwork.load(tmp_path / "net.safetensors")
    assert torch.equal(again(x), sparse(x))
    assert repr(again) == repr(sparse)
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]


@pytest.mark.parametrize(("density", "share"), [(0.05, 0.08), (0.5, 0.6), (1.0, 1.06)])
def test_the_file_is_small(tmp_path, density, share):
    net = SpikingMLP(700, (256, 256), 20, recurrent=True)
    torch.manual_seed(0)
    for p in net.parameters():
        if p.ndim > 1:
            p.data *= torch.rand_like(p) < density
    bregma.compress(net).save(tmp_path / "net.safetensors")
    dense = len(safetensors.torch.save(net.state_dict()))
    assert (tmp_path / "net.safetensors").stat().st_size <= share * dense


def test_what_is_no_such_file_is_refused(tmp_path):
    load, path = bregma.SparseNetwork.load, tmp_path / "net.safetensors"
    with pytest.raises(FileNotFoundError, match=r"net.safetensors is missing; SparseNetwork.save or bregma compact"):
        load(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"net.safetensors: not a readable safetensors file"):
        load(path)
    safetensors.torch.save_file(wide().state_dict(), path)
    with pytest.raises(ValueError, match=r"net.safetensors: not the file of a SparseNetwork"):
        load(path)


def _as_gaps(tensors, name):
    """One weight, past the last place."""
    del tensors[f"{name}.mask"]
    gaps = torch.tensor([255] * 5 + [25], dtype=torch.uint8)
    tensors.update({f"{name}.gaps": gaps, f"{name}.values": torch.ones(1)})


BROKEN = {
    "a missing tensor": (lambda t, f: t.pop("hidden.0.bias"), "'hidden.0.bias' is missing"),
    "a future format": (lambda t, f: f.update(format=2), "reads format 1"),
    "fewer inputs": (lambda t, f: f.update(inputs=2), "must have 38 bytes for 2 x 150"),
    "places outside": (lambda t, f: _as_gaps(t, "readout.weight"), "places in 130 x 10"),
    "too few places": (lambda t, f: t.update({"readout.weight.values": torch.ones(3)}), "must have 3 places"),
    "values of another type": (lambda t, f: t.update({"readout.weight.values": torch.ones(3).double()}), "float64"),
    "constants of another size": (lambda t, f: t.update({"hidden.1.decay": torch.ones(3)}), r"\(130,\)"),
    "an unknown reset": (lambda t, f: f["hidden"][0].update(reset="sideways"), "sideways"),
    "no layers": (lambda t, f: f.update(hidden=[]), "hidden layers"),
    "no facts": (lambda t, f: f.clear(), "'format' is missing"),
    "a decay out of range": (lambda t, f: t["hidden.1.decay"].fill_(2), r"decay must be in \[0, 1\], got 2"),
    "a threshold that all exceed": (lambda t, f: t["hidden.0.threshold"].fill_(-1), "threshold must be a finite"),
    "a bias that is none": (lambda t, f: t["hidden.0.bias"].fill_(torch.nan), "must be finite"),
    "an infinite weight": (lambda t, f: t["readout.weight.values"].fill_(torch.inf), "must be finite"),
    "nonsense for layers": (lambda t, f: f.update(hidden=3), "broken"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_file_is_refused_in_one_line(tmp_path, how):
    path = tmp_path / "net.safetensors"
    bregma.compress(wide()).save(path)
    with safetensors.safe_open(path, "pt") as file:
        facts = json.loads(file.metadata()["bregma.SparseNetwork"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    damage, message = BROKEN[how]
    damage(tensors, facts)
    safetensors.torch.save_file(tensors, path, {"bregma.SparseNetwork": json.dumps(facts)})
    with pytest.raises(ValueError, match=message) as error:
        bregma.SparseNetwork.load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_changes_later_changes_no_network(tmp_path):
    path, x = tmp_path / "net.safetensors", frames(200).float()
    bregma.compress(wide()).save(path)
    sparse = bregma.SparseNetwork.load(path)
    before = sparse(x)
    with path.open("r+b") as file:  # as a copy over it would do, or a download in its place
        file.write(b"\x40" * path.stat().st_size)
    assert torch.equal(sparse(x), before)


@pytest.mark.parametrize("name", ["linear.bias", "linear.weight", "neurons.decay"])
def test_what_is_not_finite_is_not_compressed(name):
    net = SpikingMLP(6, (5,), 3)
    net.hidden[0].state_dict()[name].fill_(torch.nan)
    with pytest.raises(ValueError, match=r"must be finite|decay must be in \[0, 1\], got nan"):
        bregma.compress(net)


def test_what_cannot_be_run_is_refused():
    sparse = bregma.compress(wide())
    with pytest.raises(ValueError, match="x must be finite, got NaN or infinity"):
        sparse(torch.full((2, 2, 200), torch.inf))
    with pytest.raises(TypeError, match=r"x must be frames of float32, float64, uint8 or bool, got torch.int64"):
        sparse(torch.ones(2, 2, 200, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"x must be time-major .* 200 values per frame, got shape \(2, 2, 3\)"):
        sparse(torch.ones(2, 2, 3))
    with pytest.raises(TypeError, match=r"net must have weights of float32 or float64, got torch.float16"):
        bregma.compress(wide().half())
    with pytest.raises(TypeError, match="net must be a SpikingMLP or a DelRec, got Linear"):
        bregma.compress(torch.nn.Linear(2, 2))
