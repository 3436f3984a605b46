"""Weights and gradients laid out in memory in any way: the update meets the right entries, and no others."""

import pytest
import torch
from optim_cases import everyone, ours
from torch import nn


@ours
def test_a_tensor_of_one_element_moves_a_number(make):
    p = nn.Parameter(torch.tensor(1.0))
    p.grad = torch.tensor(1.0)
    make([p], lr=torch.tensor([0.1]), lam=0.0, foreach=False, fused=False).step()
    assert p.shape == ()
    assert p < 1


@everyone
@pytest.mark.parametrize("path", [{"foreach": False}, {"foreach": True}, {"fused": True}], ids=str)
def test_non_contiguous_weights_and_gradients(make, path):
    """Weights transposed, gradients laid out in three ways: the update must meet the right entries."""
    torch.manual_seed(0)
    base = torch.randn(5, 4)
    plain = nn.Parameter(base.clone())
    turned = nn.Parameter(base.t().contiguous().t())
    assert not turned.is_contiguous()
    optimizer, mirrored = make([plain], **path), make([turned], **path)
    if "fused" in path and type(optimizer).__module__.startswith("torch"):
        pytest.skip("torch's fused kernels walk raw memory and mix up entries whose gradient has other strides")
    for gradient_layout in (torch.clone, lambda g: g.t().contiguous().t(), lambda g: g.repeat(1, 2)[:, ::2] * 1):
        grad = torch.randn(5, 4)
        plain.grad, turned.grad = grad.clone(), gradient_layout(grad)
        turned.grad = turned.grad if torch.equal(turned.grad, grad) else grad.clone()
        optimizer.step()
        mirrored.step()
    torch.testing.assert_close(plain, turned)


@ours
def test_weights_with_gaps_between_them(make):
    wide = torch.ones(3, 8)
    strided, plain = nn.Parameter(wide[:, :5]), nn.Parameter(torch.ones(3, 5))
    for p in (strided, plain):
        optimizer = make([p])
        for k in range(3):
            p.grad = torch.arange(15.0).view(3, 5) - k
            optimizer.step()
    torch.testing.assert_close(strided, plain)
    assert torch.equal(wide[:, 5:], torch.ones(3, 3))
