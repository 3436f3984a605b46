"""A layer that stands at several places of a sequence goes to every other form at each of them."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from bregma.interop.chain import as_sequential
from bregma.interop.nir import LostInTranslation, from_nir, to_nir
from bregma.interop.snntorch import from_snntorch, to_snntorch
from bregma.interop.state import read_state, write_state
from bregma.nn import LIF, Recompute, SpikingLayer, SpikingSequential


@pytest.fixture
def net() -> SpikingSequential:
    torch.manual_seed(0)
    lif, dense = LIF(0.9, threshold=0.2), nn.Linear(12, 12)
    return SpikingSequential(dense, lif, nn.Linear(12, 12), lif, dense, lif)


@pytest.fixture
def x() -> torch.Tensor:
    return (torch.rand(20, 8, 12, generator=torch.Generator().manual_seed(1)) < 0.4).float()


def test_nir(net, x):
    pytest.importorskip("nir")
    with pytest.warns(LostInTranslation):  # surrogates
        graph = to_nir(net)
    assert torch.equal(from_nir(graph)(x), net(x))


def test_state(net, x, tmp_path):
    write_state(net, tmp_path / "net.safetensors")
    assert torch.equal(read_state(tmp_path / "net.safetensors")(x), net(x))


def test_snntorch_and_back(net, x):
    snn = pytest.importorskip("snntorch")
    there = to_snntorch(net)
    assert [type(layer).__name__ for layer in there][-6:] == ["Linear", "Leaky"] * 3
    assert torch.equal(from_snntorch(there)(x), net(x))
    leaky, dense = snn.Leaky(0.9, threshold=0.2, init_hidden=True), nn.Linear(12, 12)
    assert len(from_snntorch(nn.Sequential(dense, leaky, dense, leaky))) == 4


def test_onnx(net, x, tmp_path):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    from bregma.interop.onnx import to_onnx

    step = to_onnx(net, tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    names = [given.name for given in session.get_inputs()]
    assert names == ["frame", "state/1", "state/3", "state/5"]
    states, out = [state.numpy() for state in step.rest(8)], []
    for frame in x.numpy():
        output, *states = session.run(None, dict(zip(names, [frame, *states], strict=True)))
        out.append(torch.from_numpy(output))
    assert torch.equal(torch.stack(out), net(x))
    assert net(x).any()


def test_layers_of_layers_are_taken_apart(net, x):
    nested = SpikingSequential(nn.Sequential(*net[:2]), Recompute(SpikingLayer(net[2], net[3])), net[4:])
    flat = as_sequential(nested)
    assert list(flat._modules) == ["0_0", "0_1", "1_layer_linear", "1_layer_neurons", "2_4", "2_5"]
    assert torch.equal(flat(x), net(x))
    named = SpikingSequential(OrderedDict({"a_0": nn.Linear(2, 2), "a": nn.Sequential(nn.Linear(2, 2))}))
    with pytest.raises(ValueError, match="net must have layers of different names, got 'a_0' twice"):
        as_sequential(named)
