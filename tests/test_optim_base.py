"""Choice of the fast path, its fallback, and what a step costs in memory."""

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from bregma import AdaBreg, LinBreg, ProxSGD
from bregma.optim.base import aligned, batches, fast_path

CPU = [torch.zeros(1)]
ELSEWHERE = [torch.zeros(1, device="meta")]


@pytest.mark.parametrize(
    ("foreach", "fused", "tensors", "path"),
    [
        (None, None, CPU, "fused"),
        (None, None, ELSEWHERE, "foreach"),
        (None, None, CPU + ELSEWHERE, "foreach"),
        (False, None, CPU, "single"),
        (None, False, CPU, "single"),
        (True, None, CPU, "foreach"),
        (True, False, CPU, "foreach"),
        (None, True, CPU, "fused"),
        (False, True, CPU, "fused"),
    ],
)
def test_path(foreach, fused, tensors, path):
    assert fast_path({"foreach": foreach, "fused": fused}, tensors, "_fused_adam_") == path


def test_path_without_the_private_kernel():
    assert fast_path({"foreach": None, "fused": None}, CPU, "_no_such_kernel_") == "single"
    assert fast_path({"foreach": None, "fused": True}, CPU, "_no_such_kernel_") == "foreach"


@pytest.mark.parametrize("make", [AdaBreg, LinBreg, ProxSGD])
def test_trains_without_the_private_kernels(make, monkeypatch):
    def run():
        p = nn.Parameter(torch.tensor([1.0, -0.5, 0.01]))
        optimizer = make([p], lr=0.1)
        for _ in range(3):
            p.grad = torch.tensor([0.5, -0.1, 0.2])
            optimizer.step()
        return p.detach()

    with_kernels = run()
    monkeypatch.delattr(torch, "_fused_adam_")
    monkeypatch.delattr(torch, "_fused_sgd_")
    torch.testing.assert_close(run(), with_kernels)


def test_batches_split_by_dtype_and_keep_lists_parallel():
    a = [torch.zeros(1), torch.zeros(2, dtype=torch.float64), torch.zeros(3)]
    b = [torch.ones(n + 1) for n in range(3)]
    split = [[len(t) for tensors in batch for t in tensors] for batch in batches(a, b)]
    assert split == [[1, 3, 1, 3], [2, 2]]


def test_one_group_may_mix_precisions():
    params = [nn.Parameter(torch.ones(3, dtype=d)) for d in (torch.float32, torch.float64, torch.bfloat16)]
    optimizer = AdaBreg(params, lr=0.1)
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer.step()
    for p in params:
        torch.testing.assert_close(p.detach(), torch.full_like(p, 0.9))


def test_aligned_copies_only_what_differs():
    like = torch.empty(3, 4)
    same, turned, narrow = torch.randn(3, 4), torch.randn(4, 3).t(), torch.randn(3, 4).bfloat16()
    out = aligned([same, turned, narrow], [like] * 3)
    assert out[0] is same
    for made, given in zip(out, (same, turned, narrow), strict=True):
        assert made.stride() == like.stride()
        assert torch.equal(made, given.float())


@pytest.mark.filterwarnings("ignore")  # the profiler warns about what the machine lacks
@pytest.mark.parametrize(
    "make",
    [
        lambda p: AdaBreg(p),
        lambda p: AdaBreg(p, delta=0.5),
        lambda p: LinBreg(p, lr=0.1, momentum=0.9),
        lambda p: ProxSGD(p, lr=0.1, momentum=0.9),
    ],
)
def test_a_step_with_l1_allocates_no_tensor_of_the_weights_size(make):
    params = [nn.Parameter(torch.randn(64, 64)) for _ in range(3)]
    for p in params:
        p.grad = torch.randn(64, 64)
    optimizer = make(params)
    optimizer.step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        optimizer.step()
    allocated = sum(max(0, event.self_cpu_memory_usage) for event in record.events())
    assert allocated < 64  # a few wrapped scalars, against 16384 bytes per weight


def test_an_empty_parameter_is_no_trouble():
    p = nn.Parameter(torch.zeros(0, 3))
    optimizer = AdaBreg([p], init="sparse")
    p.grad = torch.zeros(0, 3)
    optimizer.step()
