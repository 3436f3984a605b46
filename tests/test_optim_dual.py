"""Where the dual starts, what it does in the dead zone, and weights that begin sparse."""

import math

import pytest
import torch
from torch import nn

from bregma import AdaBreg, LinBreg, param_groups
from bregma.optim import sparsify_
from bregma.optim.dual import initial_dual
from bregma.prox import get, names

PENALTIES = [name for name in names() if name not in ("nonneg_l1", "nuclear")]


def weights(seed=0):
    w = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    w[0] = 0.0
    w[1, 0, 0] = 0.0
    return w


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("delta", [1.0, 0.3])
def test_anchored_start_gives_the_weights_back(penalty, delta):
    w = weights()
    dual = initial_dual(w, lam=0.4, delta=delta, penalty=get(penalty), init="anchored")
    out = torch.empty_like(w)
    get(penalty).mirror(out, dual, 0.4, delta)
    torch.testing.assert_close(out, w)
    assert (dual[w == 0] == 0).all()


def test_shrinking_start_takes_delta_times_lam_off():
    w = weights()
    dual = initial_dual(w, lam=0.4, delta=0.5, penalty=get("l1"), init="shrink")
    out = torch.empty_like(w)
    get("l1").mirror(out, dual, 0.4, 0.5)
    torch.testing.assert_close(out, nn.functional.softshrink(w, 0.2))
    assert (out == 0).sum() > (w == 0).sum()


@pytest.mark.parametrize("init", ["anchored", "shrink", "sparse"])
def test_the_dual_of_a_weight_that_starts_at_zero_is_zero(init):
    assert initial_dual(torch.zeros(3), lam=1.0, delta=1.0, penalty=get("l1"), init=init).tolist() == [0.0, 0.0, 0.0]


def test_dead_zone_takes_lam_over_lr_steps_to_leave_and_does_not_depend_on_delta():
    """A constant gradient moves AdaBreg's dual by lr per step (Adam's sign limit)."""
    for delta in (1.0, 3.0):
        p = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        optimizer = AdaBreg([p], lr=0.01, lam=0.105, delta=delta, eps=0.0)
        born = 0
        while p.item() == 0:
            p.grad = torch.full_like(p, -2.0)
            optimizer.step()
            born += 1
        assert born == 11
        assert p.item() == pytest.approx(delta * 0.005)


def test_survivors_are_not_shrunk():
    """Inside one sign the penalty cancels: a live weight moves as under Adam, whatever lam is."""
    p, q = (nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64)) for _ in range(2))
    ours, adam = AdaBreg([p], lr=0.01, lam=0.5), torch.optim.Adam([q], lr=0.01)
    for step in range(50):
        p.grad = torch.tensor([math.sin(step), math.cos(step)], dtype=torch.float64)
        q.grad = p.grad.clone()
        ours.step()
        adam.step()
    torch.testing.assert_close(p, q)


def test_a_change_of_lam_moves_live_weights_by_delta_times_the_change():
    p = nn.Parameter(torch.tensor([1.0, -2.0, 0.01], dtype=torch.float64))
    optimizer = LinBreg([p], lr=0.0, lam=0.1, delta=2.0)
    p.grad = torch.zeros_like(p)
    optimizer.step()
    torch.testing.assert_close(p.detach(), torch.tensor([1.0, -2.0, 0.01], dtype=torch.float64))
    optimizer.param_groups[0]["lam"] = 0.15
    optimizer.step()
    torch.testing.assert_close(p.detach(), torch.tensor([0.9, -1.9, 0.0], dtype=torch.float64))


def test_the_dual_is_anchored_to_the_weights_of_the_first_step():
    """Weights loaded or moved to another precision after the optimiser was built are not lost."""
    layer = nn.Linear(3, 2)
    optimizer = AdaBreg(layer.parameters(), lr=0.0, lam=0.3)
    layer.double()
    loaded = {"weight": torch.ones(2, 3, dtype=torch.float64), "bias": torch.zeros(2, dtype=torch.float64)}
    layer.load_state_dict(loaded)
    layer(torch.ones(1, 3, dtype=torch.float64)).sum().backward()
    optimizer.step()
    torch.testing.assert_close(layer.weight.detach(), loaded["weight"])
    assert optimizer.state[layer.weight]["dual"].dtype == torch.float64


@pytest.mark.parametrize("shape", [(40, 30), (20, 6, 3, 3), (50, 3), (1, 7)])
@pytest.mark.parametrize("density", [0.01, 0.1, 0.5, 1.0])
def test_sparse_weights_have_the_density_the_variance_and_an_input_per_row(shape, density):
    w = torch.ones(shape)
    sparsify_([w], density, torch.Generator().manual_seed(0))
    kept = int((w != 0).sum())
    assert kept == max(round(density * w.numel()), shape[0])
    assert (w.flatten(1) != 0).any(dim=1).all()
    torch.testing.assert_close(w.square().sum(), torch.tensor(float(w.numel())))


def test_sparse_masks_are_uniform():
    """Each entry is kept equally often: no bias by position, in spite of the one input that every row keeps."""
    generator = torch.Generator().manual_seed(0)
    times = torch.zeros(5, 8)
    for _ in range(2000):
        w = torch.ones(5, 8)
        sparsify_([w], 0.25, generator)
        times += w != 0
    expected, sigma = 2000 * 0.25, math.sqrt(2000 * 0.25 * 0.75)
    assert (times - expected).abs().max() < 5 * sigma


def test_a_sparse_start_happens_when_the_optimiser_is_built_and_stays_anchored():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(50, 40), nn.Linear(40, 10))
    optimizer = AdaBreg(param_groups(net, lam=0.1), lr=0.0, init="sparse", init_density=0.2, seed=3)
    first = [p.detach().clone() for p in net.parameters()]
    assert [float((p != 0).float().mean()) for p in first] == pytest.approx([0.2, 1.0, 0.2, 1.0])
    net(torch.ones(1, 50)).sum().backward()
    optimizer.step()
    for p, q in zip(net.parameters(), first, strict=True):
        torch.testing.assert_close(p.detach(), q)
        assert ((p == 0) == (q == 0)).all()


def test_a_sparse_start_leaves_what_has_no_penalty_or_is_frozen():
    net = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3), nn.Linear(3, 2))
    net[2].weight.requires_grad_(False)
    before = [p.detach().clone() for p in net.parameters()]
    AdaBreg(
        [{"params": net[0].parameters(), "lam": 0.0}, {"params": [net[1].bias, *net[2].parameters()]}], init="sparse"
    )
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))


def masks(seed, count=2):
    layers = [nn.Linear(30, 20, bias=False) for _ in range(count)]
    AdaBreg([{"params": layer.parameters()} for layer in layers], init="sparse", seed=seed)
    return [layer.weight.detach() != 0 for layer in layers]


def test_the_seed_decides_the_sparse_start():
    assert torch.equal(masks(1)[0], masks(1)[0])
    assert not torch.equal(masks(1)[0], masks(2)[0])
    assert not torch.equal(*masks(1))
    torch.manual_seed(5)
    first = masks(None)[0]
    assert not torch.equal(first, masks(None)[0])
    torch.manual_seed(5)
    assert torch.equal(first, masks(None)[0])


def test_the_mask_is_independent_of_weights_drawn_with_the_same_seed():
    """Were the mask drawn from the very numbers of the weights, it would keep the largest of them."""
    torch.manual_seed(11)
    layer = nn.Linear(300, 200, bias=False)
    dense = layer.weight.detach().clone()
    AdaBreg(layer.parameters(), init="sparse", seed=11)
    kept = dense[layer.weight != 0]
    assert abs(float(kept.mean())) < 5 * float(dense.std()) / math.sqrt(kept.numel())


def test_sparsify_names_what_is_wrong_before_any_work():
    w = torch.ones(3, 4)
    with pytest.raises(ValueError, match=r"density must be in \(0, 1\], got 1.5"):
        sparsify_([w], 1.5)
    with pytest.raises(ValueError, match=r"params must have 2 or more dimensions, got shape \(3,\)"):
        sparsify_([w, torch.ones(3)], 0.1)
    assert (w == 1).all()
    sparsify_([torch.ones(0, 4), torch.ones(4, 0)], 0.1)
