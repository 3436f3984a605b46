"""A layer that stands at several places of a sequence goes to every other form at each of them."""

import pytest
import torch
from torch import nn

from bregma.interop.nir import LostInTranslation, from_nir, to_nir
from bregma.interop.snntorch import from_snntorch, to_snntorch
from bregma.interop.state import read_state, write_state
from bregma.nn import LIF, SpikingSequential


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
