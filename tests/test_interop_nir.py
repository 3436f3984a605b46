"""Networks as NIR graphs: exact round trips through the file, and what other readers make of them."""

import contextlib
import dataclasses
import itertools
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_interop_snntorch import frames
from torch import nn

from bregma.dynamics import ATan, Triangle
from bregma.nn import LIF, DelayedRecurrentLIF, DelRec, Readout, RecurrentLIF, SpikingMLP, SpikingSequential
from bregma.nn.delrec import ARCHITECTURES

nir = pytest.importorskip("nir")
from bregma.interop.nir import LostInTranslation, from_nir, to_nir  # noqa: E402


def delayed(size, spread=0.0, whole=True, **options):
    layer = DelayedRecurrentLIF(size, 0.5, max_delay=7, spread=spread, reset="zero", **options)
    if whole:
        layer.delays.data.round_()
    return layer


def conv_net():
    return SpikingSequential(
        nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=False),
        LIF(0.5, 0.25, reset="zero"),
        nn.AvgPool2d(2),
        nn.Linear(12, 8),
        LIF(torch.rand(8), 0.5, reset="subtract", strict=False, surrogate=Triangle(0.5)),
        nn.Linear(8, 2),
        Readout(torch.rand(2)),
    )


def delrec(name="shd", **changes):
    net = DelRec(dataclasses.replace(ARCHITECTURES[name], inputs=6, hidden=(8, 8), delayed=(False, True), **changes))
    net(frames(9, 4, 6))  # so that the running statistics of the norms are not the first ones
    return net.eval()


NETS = {
    "mlp": (lambda: SpikingMLP(6, hidden=(5, 4), classes=3, gain=9.0), (6,)),
    "recurrent": (lambda: SpikingMLP(6, hidden=(5, 4), classes=3, gain=9.0, recurrent=True, reset="zero"), (6,)),
    "convolution": (conv_net, (2, 8, 8)),
    "delays": (lambda: SpikingSequential(nn.Linear(6, 5, bias=False), delayed(5), nn.Linear(5, 2), Readout(1.0)), (6,)),
    "spread": (lambda: SpikingSequential(nn.Linear(6, 5), delayed(5, 1.5, whole=False, learn_spread=True)), (6,)),
    "integrate and fire": (lambda: SpikingSequential(nn.Linear(6, 5), LIF(1.0, torch.rand(5) + 0.5)), (6,)),
    "no leak to speak of": (lambda: SpikingSequential(nn.Linear(6, 5), LIF(1 - 2**-24)), (6,)),
    "no memory": (lambda: SpikingSequential(nn.Linear(6, 5), LIF(0.0)), (6,)),
    "detached": (lambda: SpikingSequential(nn.Linear(6, 5), LIF(0.3, detach_reset=True, surrogate=ATan(3.0))), (6,)),
    "sum pool": (lambda: SpikingSequential(nn.AvgPool2d(2, divisor_override=1), nn.Flatten(), LIF()), (2, 4, 4)),
    "delrec": (delrec, (6,)),
    "delrec ssc": (lambda: delrec("ssc"), (6,)),
}


@contextlib.contextmanager
def silently():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LostInTranslation)
        yield


def assert_same_graph(one, other):
    assert one.nodes.keys() == other.nodes.keys()
    assert set(one.edges) == set(other.edges)
    pairs = [(one.metadata, other.metadata)]
    for name, node in one.nodes.items():
        assert type(node) is type(other.nodes[name])
        pairs.append((node.to_dict(), other.nodes[name].to_dict()))
    for a, b in pairs:
        assert a.keys() == b.keys()
        for key in a:
            if isinstance(a[key], dict):
                pairs.append((a[key], b[key]))
            else:
                assert np.array_equal(a[key], b[key]), key


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dt", [1e-4, 0.0155, 1 / 3])
@pytest.mark.parametrize("name", NETS)
def test_the_round_trip_through_the_file_is_exact(name, dt, dtype, tmp_path):
    make, shape = NETS[name]
    torch.manual_seed(0)
    net = make().to(dtype)
    path = tmp_path / "net.nir"
    with silently():
        graph = to_nir(net, path, dt=dt, frame_shape=shape)
        back = from_nir(path)
        again = to_nir(back, dt=dt, frame_shape=shape)
    assert_same_graph(graph, nir.read(path))
    assert_same_graph(graph, again)
    x = 4 * frames(9, 4, *shape).to(dtype)
    ours, theirs = net(x), back(x)
    assert theirs.dtype == dtype
    if "delrec" in name:  # the norm is folded into the layer before, which rounds
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)
    else:
        assert ours.any()
        assert torch.equal(theirs, ours)


@given(decay=st.floats(0, 1, width=32), dt=st.floats(1e-6, 10))
@settings(max_examples=50, deadline=None)
def test_the_formula_alone_gives_float32_decays_back(decay, dt):
    if 0 < decay < 1e-6:
        decay = 0.0
    net = SpikingSequential(nn.Linear(1, 1), LIF(decay, reset="zero"))
    graph = to_nir(net, dt=dt)
    graph.nodes["1"].metadata = {}
    assert from_nir(graph).get_submodule("1").decay.item() == pytest.approx(decay, rel=1e-6, abs=1e-12)


def test_a_graph_edited_after_export_is_read_as_edited():
    graph = to_nir(SpikingSequential(nn.Linear(2, 2), LIF(0.9, reset="zero"), nn.Linear(2, 2), delayed(2)))
    graph.nodes["1"].tau = np.full(2, 4e-4)
    graph.nodes["1"].r = np.full(2, 4.0)
    graph.nodes["3.delay"].delay = np.array([1e-4, 3e-4])
    net = from_nir(graph)
    assert net.get_submodule("1").decay.item() == 0.75
    assert net.get_submodule("3").delays.tolist() == [1, 3]


def test_every_parameter_has_the_full_shape_and_the_graph_its_types():
    with silently():
        graph = to_nir(conv_net(), frame_shape=(2, 8, 8))
    node = graph.nodes["1"]
    assert {getattr(node, key).shape for key in ("tau", "r", "v_leak", "v_threshold", "v_reset")} == {(3, 4, 4)}
    assert graph.check_types()
    assert list(graph.nodes) == ["input", "0", "1", "2", "3_flatten", "3", "4", "5", "6", "output"]


def test_metadata_say_what_nir_does_not():
    with silently():
        graph = to_nir(SpikingMLP(6, hidden=(5,), classes=3), dt=0.01)
    assert (graph.metadata["dt"], graph.metadata["score"]) == (0.01, "mean")
    metadata = graph.nodes["hidden_0_neurons"].metadata
    assert (metadata["reset"], metadata["strict"]) == ("subtract", True)


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (lambda: SpikingSequential(nn.Linear(2, 2), LIF(reset="subtract")), "1: reset 'subtract'"),
        (lambda: SpikingSequential(nn.Linear(2, 2), LIF(reset="zero", strict=False)), "1: strict=False"),
        (lambda: SpikingSequential(nn.Linear(2, 2), delayed(2, 1.5)), "1: spread of the delays up to 1.5 steps"),
        (lambda: SpikingSequential(nn.Linear(2, 2), delayed(2, whole=False)), "1: delays between two steps"),
        (lambda: SpikingMLP(2, hidden=(2,), classes=2, reset="zero"), "class scores are the mean"),
    ],
)
def test_what_nir_does_not_hold_is_named(net, words):
    with pytest.warns(LostInTranslation, match=words):
        to_nir(net())


def test_what_nir_holds_gives_no_warning():
    to_nir(SpikingSequential(nn.Linear(2, 2), delayed(2), nn.Linear(2, 2), Readout(0.9)))


REFUSED = {
    "frame_shape must be given": lambda: to_nir(SpikingSequential(nn.Conv2d(1, 1, 3), LIF())),
    "0: GELU is not a layer": lambda: to_nir(SpikingSequential(nn.GELU()), frame_shape=(2,)),
    "0: NIR takes convolutions": lambda: to_nir(SpikingSequential(nn.Conv2d(2, 2, 3, groups=2)), frame_shape=(2, 8, 8)),
    "0: nir takes square": lambda: to_nir(SpikingSequential(nn.Conv2d(2, 2, (3, 5))), frame_shape=(2, 8, 8)),
    "do not fit": lambda: to_nir(SpikingSequential(nn.Conv2d(2, 2, 9)), frame_shape=(2, 8, 8)),
    "takes frames": lambda: to_nir(SpikingSequential(nn.Conv2d(2, 2, 3)), frame_shape=(8,)),
    "0: NIR takes mean": lambda: to_nir(SpikingSequential(nn.AvgPool2d(2, ceil_mode=True)), frame_shape=(2, 8, 8)),
    "no dense layer": lambda: to_nir(SpikingSequential(nn.BatchNorm1d(2)), frame_shape=(2,)),
    "need a Flatten": lambda: to_nir(SpikingSequential(nn.Conv2d(1, 1, 1), RecurrentLIF(4)), frame_shape=(1, 2, 2)),
    "a decay of 1": lambda: to_nir(SpikingSequential(nn.Linear(2, 2), LIF(torch.tensor([0.5, 1.0])))),
    "dt must be": lambda: to_nir(SpikingSequential(nn.Linear(2, 2)), dt=0.0),
    "is missing": lambda: from_nir("nowhere.nir"),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_go_is_named(words):
    with silently(), pytest.raises((ValueError, TypeError, FileNotFoundError), match=words):
        REFUSED[words]()


@pytest.mark.parametrize("content", [b"", b"no hdf5 at all", None])
def test_a_broken_file_is_one_line(content, tmp_path):
    path = tmp_path / "net.nir"
    to_nir(SpikingSequential(nn.Linear(200, 200)), path)
    path.write_bytes(path.read_bytes()[:2000] if content is None else content)
    with pytest.raises(ValueError, match="not a readable NIR file") as error:
        from_nir(path)
    assert "\n" not in str(error.value)


def test_a_file_that_does_not_fit_is_named(tmp_path):
    path = tmp_path / "net.nir"
    graph = to_nir(SpikingSequential(nn.Linear(4, 3)))
    graph.edges.append(("0", "nowhere"))
    nir.write(path, graph)
    with pytest.raises(ValueError, match=r"net.nir: edge 0 -> nowhere: there is no node nowhere"):
        from_nir(path)


def lif_node(n=2, **changes):
    values = {"tau": 1e-3, "r": 10.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0} | changes
    return nir.LIF(**{key: np.full(n, value) for key, value in values.items()})


def graph_of(*nodes, extra=(), type_check=True):
    names = ["input", *(f"n{i}" for i in range(len(nodes))), "output"]
    ends = [nir.Input({"input": np.array([2])}), *nodes, nir.Output({"output": np.array([2])})]
    return nir.NIRGraph(
        dict(zip(names, ends, strict=True)), [*itertools.pairwise(names), *extra], type_check=type_check
    )


WEIGHT = np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_convolutions_of_any_dtype_go_to_nir(dtype, bias):
    net = SpikingSequential(nn.Conv2d(2, 3, 3, padding=(2, 0), bias=bias), LIF(reset="zero")).to(dtype)
    x = 4 * frames(5, 2, 2, 4, 4).to(dtype)
    back = from_nir(to_nir(net, frame_shape=(2, 4, 4))).to(dtype)
    assert torch.equal(back(x), net(x))


def test_nodes_that_would_have_one_name_are_refused():
    nodes = {"input": nir.Input({"input": np.array([2])}), "a.b": nir.Linear(WEIGHT), "a_b": nir.Linear(WEIGHT)}
    nodes |= {"output": nir.Output({"output": np.array([2])})}
    with pytest.raises(ValueError, match="a_b: another node would be called a_b too"):
        from_nir(nir.NIRGraph(nodes, list(itertools.pairwise(nodes))))


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (lambda: graph_of(lif_node(v_leak=0.5)), "n0: membranes of bregma leak to 0, got v_leak=0.5"),
        (lambda: graph_of(lif_node(v_reset=0.5)), "n0: neurons of bregma are reset to 0, got v_reset=0.5"),
        (lambda: graph_of(lif_node(tau=1e-5)), "n0: tau must be >= dt = 0.0001, got 1e-05"),
        (lambda: graph_of(lif_node(r=0.0)), "n0: r must be > 0"),
        (lambda: graph_of(nir.Scale(scale=np.ones(2))), "n0: bregma has no layer like the node Scale"),
        (lambda: graph_of(nir.Delay(delay=np.ones(2))), "n0: bregma has no layer like the node Delay"),
        (lambda: graph_of(nir.Linear(WEIGHT), lif_node(), extra=[("input", "n1")]), "input.* goes to n0 and n1"),
        (lambda: graph_of(lif_node(), nir.Linear(WEIGHT), extra=[("n0", "output")]), "goes to n1 and output"),
    ],
)
def test_a_foreign_graph_without_equal_is_named(graph, words):
    with pytest.raises(ValueError, match=words):
        from_nir(graph())


def test_a_node_beside_the_way_is_named():
    graph = graph_of(lif_node(), type_check=False)
    graph.nodes["alone"] = lif_node()
    with pytest.raises(ValueError, match="alone: not on the way"):
        from_nir(graph)


def test_scales_and_recurrent_biases_of_foreign_graphs_are_moved():
    """Against the Euler method written out: v_{t+1} = v + dt/tau (R I - v), reset to zero."""
    tau, r, dt, threshold = 5e-4, 3.0, 1e-4, 0.5
    bias, back = np.array([0.5, -0.25]), np.array([0.25, 0.5])
    loop = nir.Affine(weight=-WEIGHT / 2, bias=back)
    graph = graph_of(nir.Affine(weight=WEIGHT, bias=bias), lif_node(tau=tau, r=r, v_threshold=threshold))
    graph.nodes["loop"] = loop
    graph.edges += [("n1", "loop"), ("loop", "n1")]
    net = from_nir(graph).double()
    x = frames(20, 3, 2).double()
    v, s, train = np.zeros((3, 2)), np.zeros((3, 2)), []
    for frame in x.numpy():
        current = frame @ WEIGHT.T + bias + s @ loop.weight.T + back
        v = v * (1 - s) + dt / tau * (r * current - v * (1 - s))
        s = (v > threshold).astype(float)
        train.append(s)
    assert 0.05 < np.mean(train) < 0.95
    assert np.array_equal(net(x).detach().numpy(), np.stack(train))
