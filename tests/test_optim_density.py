"""TargetDensity: the density named is the density got; the method is the one written down."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optim_cases import adam, both, loss_of, network, train, weights
from reference.density import target_density
from torch import nn

import bregma
from bregma import AdaBreg, LinBreg, TargetDensity


def nonzero(net):
    return sum(int((p != 0).sum()) for p in net.parameters() if p.ndim > 1)


@given(
    st.floats(0.05, 1),
    st.integers(1, 30),
    st.sampled_from(["global", "uniform", "erk", "global+erk"]),
    st.sampled_from(["soft", "firm", "hard"]),
    st.sampled_from([1, 3]),
)
@settings(max_examples=40, deadline=None)
def test_reaches_the_density_exactly_and_keeps_it(density, steps, allocation, prox, every):
    net, optimizer, sparsifier = both(steps=steps, density=density, allocation=allocation, prox=prox, every=every)
    train(net, optimizer, steps + 3)
    target = max(1, round(density * 72)) / 72
    assert sparsifier.frozen
    assert sparsifier.density == pytest.approx(target)
    assert bregma.density(net) == pytest.approx(target)


@pytest.mark.parametrize("every", [1, 4])
def test_density_falls_monotonically_along_the_ramp(every):
    net, optimizer, sparsifier = both(steps=40, density=0.1, every=every)
    end, seen = sparsifier.freeze_step, []
    for step in range(1, 41):
        train(net, optimizer, 1)
        seen.append(nonzero(net))
        if every == 1 and step <= end:
            assert seen[-1] == round(72 * bregma.prox.thresholds.cubic_ramp(step / end, 0.1))
    assert seen == sorted(seen, reverse=True)
    assert end == 36
    assert seen[end - 1 :] == [7] * 5


@pytest.mark.parametrize(("density", "end"), [(1.0, 90), (0.1, 90), (0.02, 75), (0.01, 75)])
def test_the_mask_of_few_weights_is_fixed_earlier(density, end):
    assert both(steps=100, density=density)[2].freeze_step == end
    assert 75 < both(steps=100, density=0.05)[2].freeze_step < 90
    assert both(steps=100, density=0.5, structure="2:4")[2].freeze_step == 75
    assert both(steps=100, density=density, ramp_end=0.6)[2].freeze_step == 60


def test_makes_some_hundred_thresholds_unless_told_otherwise():
    assert both(steps=40)[2].every == both(steps=400)[2].every == 2
    assert both(steps=8000, ramp_end=0.75)[2].every == 20
    assert both(steps=8000, every=3)[2].every == 3


@pytest.mark.parametrize("shapes", [[(6, 10)], [(5, 6), (3, 8), (2, 3)]])
@pytest.mark.parametrize("l1", [0.0, 0.05])
def test_is_the_method_written_down(shapes, l1):
    """Against a float64 transcription with a full sort, on a quadratic with a stable order of scores."""
    n, steps = 60, 80
    generator = torch.Generator().manual_seed(3)
    theta0, optimum = (torch.randn(n, generator=generator, dtype=torch.float64) for _ in range(2))
    scale = torch.rand(n, generator=generator, dtype=torch.float64) + 0.1
    sizes = [math.prod(shape) for shape in shapes]

    def cut(flat):
        return [piece.view(shape).clone() for piece, shape in zip(flat.split(sizes), shapes, strict=True)]

    parameters = [nn.Parameter(piece) for piece in cut(theta0)]
    optimizer = torch.optim.Adam(parameters, lr=0.02)
    sparsifier = TargetDensity(optimizer, 0.25, steps, every=1, ramp_end=0.75, l1=l1)
    oracle = target_density(theta0, lambda w: scale * (w - optimum), shapes, density=0.25, steps=steps, lr=0.02, l1=l1)
    for t, (theta, kept, lam, delta) in enumerate(oracle, 1):
        now = torch.cat([p.detach().flatten() for p in parameters])
        for p, gradient in zip(parameters, cut(scale * (now - optimum)), strict=True):
            p.grad = gradient
        optimizer.step()
        assert torch.equal(sparsifier.mask, kept), t
        now = torch.cat([p.detach().flatten() for p in parameters])
        torch.testing.assert_close(now, theta, rtol=1e-10, atol=1e-12)
        if t <= 60:
            assert sparsifier.lam == pytest.approx(lam, rel=1e-10, abs=1e-14)
            assert sparsifier.delta == pytest.approx(delta, rel=1e-10)


@pytest.mark.parametrize("prox", ["soft", "firm", "hard"])
def test_at_density_one_it_is_adam(prox):
    net, optimizer, sparsifier = both(density=1.0, prox=prox)
    plain = network()
    train(net, optimizer, 40)
    train(plain, torch.optim.Adam(plain.parameters(), lr=0.01), 40)
    assert torch.equal(weights(net), weights(plain))
    assert sparsifier.delta == 1.0


def test_pruned_weights_keep_their_dual_and_come_back():
    p = nn.Parameter(torch.tensor([[1.0, 0.9, 0.8, 0.7]]))
    optimizer = torch.optim.SGD([p], lr=0.1)
    sparsifier = TargetDensity(optimizer, 0.5, 8, ramp_end=1.0, metric="none", prox="hard")
    for _ in range(5):
        p.grad = torch.zeros_like(p)
        optimizer.step()
    assert sparsifier.mask.tolist() == [True, True, False, False]
    assert p.tolist() == [[1.0, pytest.approx(0.9), 0.0, 0.0]]
    p.grad = torch.tensor([[5.0, 0.0, 9.0, 0.0]])  # the first falls to 0.5; the third, pruned, must not feel its own
    optimizer.step()
    assert sparsifier.mask.tolist() == [False, True, True, False]
    assert p.tolist() == [[0.0, pytest.approx(0.9), pytest.approx(0.8), 0.0]]


def test_after_the_ramp_only_survivors_move_and_no_dual_is_kept():
    net, optimizer, sparsifier = both()
    train(net, optimizer, sparsifier.freeze_step)
    assert sparsifier.dual is None
    masks = [m.clone() for m in sparsifier.masks]
    before = weights(net)
    train(net, optimizer, 4)
    assert not torch.equal(before, weights(net))
    for mask, p in zip(masks, [net[0].weight, net[2].weight], strict=True):
        assert torch.equal(mask, p != 0)
        assert (p.grad[~mask] == 0).all()


def test_soft_keeps_the_norm_of_the_survivors():
    net, optimizer, sparsifier = both()
    train(net, optimizer, 20)
    sparse = torch.cat([net[0].weight.flatten(), net[2].weight.flatten()]).detach()
    assert sparse.norm().item() == pytest.approx(sparsifier.dual[sparsifier.mask].norm().item(), rel=1e-5)
    assert sparsifier.delta > 1


@pytest.mark.parametrize("allocation", ["global", "uniform", "erk", "global+erk"])
@pytest.mark.parametrize("prox", ["soft", "hard"])
def test_floors_hold_in_the_weights_themselves(allocation, prox):
    net = network()
    with torch.no_grad():
        net[0].weight[3] *= 1e-3  # without a floor this neuron would lose all inputs
        net[2].weight *= 1e-3
    optimizer = adam(net, lr=1e-4)
    options = {"prox": prox, "allocation": allocation, "neuron_floor": 1, "layer_floor": 0.2, "every": 1}
    sparsifier = TargetDensity(optimizer, 0.3, 40, **options)
    for _ in range(40):
        train(net, optimizer, 1)
        for w in (net[0].weight, net[2].weight):
            assert ((w != 0).sum(1) >= 1).all()
    assert int((net[2].weight != 0).sum()) >= 5
    assert bregma.density(net) == sparsifier.density == round(0.3 * 72) / 72


def test_allocations_do_what_they_say():
    counts = {}
    for allocation in ("uniform", "erk"):
        net, optimizer, _ = both(allocation=allocation, density=0.25)
        train(net, optimizer, 40)
        counts[allocation] = [int((net[i].weight != 0).sum()) for i in (0, 2)]
    assert counts["uniform"] == [12, 6]
    assert counts["erk"] == bregma.prox.thresholds.allocate([(8, 6), (3, 8)], 18, "erk")


def test_by_default_each_tensor_has_the_mean_of_a_global_choice_and_of_erk():
    net = network()
    optimizer = adam(net, lr=0.0)
    sparsifier = TargetDensity(optimizer, 0.25, 1, metric="none")  # the score is |weight|, one step makes the mask
    with torch.no_grad():
        net[0].weight.copy_(torch.arange(1.0, 49.0).view(8, 6))
        net[2].weight.copy_(torch.arange(0.5, 24.5).view(3, 8))
    train(net, optimizer, 1)
    # the 18 best are 31 to 48 of the first; ERK gives it 14 / 25 of 18, so 10.08, and rounds to 10
    first, second = sparsifier.masks
    assert first.flatten().nonzero().flatten().tolist() == list(range(34, 48))
    assert second.flatten().nonzero().flatten().tolist() == list(range(20, 24))
    x = torch.arange(35.0, 49.0) - 34.0  # soft, each tensor at a threshold of its own
    y = torch.arange(20.5, 24.5) - 19.5
    dual = torch.cat([torch.arange(35.0, 49.0), torch.arange(20.5, 24.5)])
    expected = torch.cat([x, y]) * dual.norm() / torch.cat([x, y]).norm()
    found = torch.cat([net[0].weight[first], net[2].weight[second]]).detach()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda groups: torch.optim.AdamW(groups, lr=0.01),
        lambda groups: torch.optim.Adam(groups, lr=0.01, fused=True),
        lambda groups: AdaBreg(groups, lr=0.01, lam=0.5),
        lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9),
        lambda groups: LinBreg(groups, lr=0.1),
    ],
)
def test_rides_on_any_optimiser(make):
    net = network()
    optimizer = make(bregma.param_groups(net, lam=0.5))
    metric = "adam" if "betas" in optimizer.defaults else "none"
    TargetDensity(optimizer, 0.5, 200, metric=metric)
    losses = train(net, optimizer, 200)
    assert bregma.density(net) == 0.5
    assert losses[-1] < 0.5 * losses[0]


def test_adabreg_underneath_is_adam_underneath():
    results = []
    for make in (torch.optim.Adam, AdaBreg):
        net = network(torch.float64)
        optimizer = make(bregma.param_groups(net, lam=0.3), lr=0.01)
        TargetDensity(optimizer, 0.3, 40)
        train(net, optimizer, 40)
        results.append(weights(net))
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-11)


def test_works_with_closures_schedulers_and_narrow_weights():
    net = network(torch.bfloat16)
    optimizer = adam(net)
    sparsifier = TargetDensity(optimizer, 0.25, 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 40)
    sparse_at_evaluation = []

    def closure():
        sparse_at_evaluation.append(nonzero(net))
        optimizer.zero_grad()
        loss = loss_of(net)
        loss.backward()
        return loss

    for _ in range(20):
        assert optimizer.step(closure).item() > 0
        schedule.step()
    assert bregma.density(net) == 0.25
    assert len(sparse_at_evaluation) == 20
    assert sparse_at_evaluation[-1] == 18
    assert sparsifier.step_count == 20


def test_channels_last_convolutions_and_frozen_biases():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2)).to(memory_format=torch.channels_last)
    optimizer = adam(net)
    TargetDensity(optimizer, 0.1, 10, allocation="erk")
    for _ in range(10):
        optimizer.zero_grad()
        net(torch.randn(2, 3, 4, 4)).square().sum().backward()
        optimizer.step()
    assert bregma.density(net) == 14 / 140
    assert (net[0].bias != 0).all()


def test_groups_without_penalty_stay_dense_and_lam_is_taken_over():
    net = network()
    optimizer = AdaBreg(bregma.param_groups(net, lam=0.5, dense=["2.weight"]), lr=0.01)
    sparsifier = TargetDensity(optimizer, 0.5, 10)
    assert [w.shape for w in sparsifier.weights] == [(8, 6)]
    train(net, optimizer, 10)
    assert [group["lam"] for group in optimizer.param_groups] == [0.0, 0.0]
    assert (net[2].weight != 0).all()
    assert int((net[0].weight != 0).sum()) == 24


def test_weights_without_any_gradient_are_the_first_to_go():
    p = nn.Parameter(torch.ones(2, 4))
    optimizer = torch.optim.Adam([p], lr=0.01)
    TargetDensity(optimizer, 0.5, 4)
    for _ in range(4):
        p.grad = torch.tensor([[0.0, 1.0, 0.0, 1.0]] * 2)
        optimizer.step()
    assert ((p != 0).int() == torch.tensor([0, 1, 0, 1])).all()
    assert p.isfinite().all()
