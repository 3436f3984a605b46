import gc

import pytest
import torch

from bregma import dynamics
from bregma.dynamics import memory
from bregma.nn import DelayedRecurrentLIF

SHAPE = (64, 64, 64)  # a megabyte: above what the pool leaves to torch


@pytest.fixture(autouse=True)
def _empty_reserve():
    memory.release()
    yield
    memory.release()


def test_a_block_is_used_again_when_its_tensor_has_died():
    first = memory.empty(SHAPE, torch.float32)
    address = first.data_ptr()
    view = first[3]
    del first
    second = memory.empty(SHAPE, torch.float32)
    assert second.data_ptr() != address  # a view is alive
    del view
    again = memory.empty(SHAPE, torch.int32)  # of the same size, whatever the type
    assert again.data_ptr() == address
    assert again.shape == SHAPE
    assert again.is_contiguous()


def test_saved_tensors_keep_their_block():
    current = torch.randn(SHAPE, requires_grad=True)
    spikes, _ = dynamics.lif(current, 0.9, 1.0)
    expected = torch.autograd.grad(spikes.sum(), current, retain_graph=True)[0]
    for _ in range(3):
        dynamics.lif(torch.randn(SHAPE), 0.9, 1.0)
    assert torch.equal(torch.autograd.grad(spikes.sum(), current)[0], expected)


def test_the_reserve_is_bounded(monkeypatch):
    monkeypatch.setattr(memory, "RESERVE_BYTES", 3 * 2**20)
    tensors = [memory.empty(SHAPE, torch.float32) for _ in range(5)]
    del tensors
    gc.collect()
    assert sum(block.nbytes for block in memory._reserve) <= 3 * 2**20


def test_what_cannot_fit_is_refused_before_any_work(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 10**8)
    current = torch.zeros(1).expand(1000, 100, 1000)  # 0.4 GB, did it exist
    with pytest.raises(MemoryError, match=r"a layer of 1000 neurons .* needs 0.40 GB, but 0.10 GB are free"):
        dynamics.lif(current, 0.9, 1.0)
    with pytest.raises(MemoryError, match="a readout of 1000 neurons"):
        dynamics.integrate(current, 0.9)


def test_delays_that_reach_too_far_are_refused_before_any_work():
    far = torch.tensor([0.0, 1e12])
    current, weight = torch.zeros(3, 2, 2), torch.eye(2)
    for delays, spread in ((far, 0.0), (torch.zeros(2), 1e12), (torch.zeros(2), torch.tensor(1e12))):
        with pytest.raises(MemoryError, match=r"reach \d{12,} steps ahead: what is under way needs .*; clamp them"):
            dynamics.delayed_recurrent_lif(current, weight, delays, spread, 0.9, 1.0)
    layer = DelayedRecurrentLIF(2)
    with torch.no_grad():
        layer.delays.copy_(far)
    with pytest.raises(MemoryError, match="steps ahead"):
        layer(current)


def test_the_machine_says_what_is_free():
    assert 0 < memory.available_bytes() <= 1 << 62
