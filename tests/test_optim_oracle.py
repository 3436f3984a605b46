"""Optimisers and baselines against line-by-line transcriptions of their equations, and against torch at lam = 0."""

import numpy as np
import pytest
import torch
from reference import bregman, pruning

from bregma import AdaBreg, LinBreg, ProxSGD
from bregma.optim import baselines

STEPS = 220
PATHS = {"single": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
MATRIX_PENALTIES = ["none", "l1", "nonneg_l1", "elastic_net", "group_l1:rows", "group_l1:columns", "nuclear"]
CONV_PENALTIES = ["l1", "group_l1:rows", "group_l1:columns", "group_l1:kernels", "group_l1:channels", "nuclear"]
# Every penalty on the default path, L1 on all paths (the paths differ before the proximal map, not in it).
CASES = [((6, 5), name, "fused") for name in MATRIX_PENALTIES]
CASES += [((4, 3, 3, 2), name, "fused") for name in CONV_PENALTIES]
CASES += [((6, 5), "l1", "single"), ((6, 5), "l1", "foreach")]
MOMENTUM_CASES = [(*case, 0.9) for case in CASES] + [((6, 5), "l1", path, 0.0) for path in PATHS]


def problem(shape, seed=0):
    """First weights with an empty row and an empty column, and gradients with a drift that turns."""
    random = np.random.default_rng(seed)
    theta = random.normal(size=shape) * 0.3
    theta[0] = 0.0
    theta[:, 1] = 0.0
    drift = random.normal(size=shape)
    return theta, [np.sin(t / 25.0) * drift + random.normal(size=shape) for t in range(STEPS)]


def trajectory(optimizer, p, gradients):
    history = []
    for g in gradients:
        p.grad = torch.from_numpy(g).to(p.dtype)
        optimizer.step()
        history.append(p.detach().numpy().copy())
    return history


def assert_same(ours, theirs, tolerance=1e-12):
    assert len(ours) == len(theirs) == STEPS
    assert max(np.abs(a - b).max() for a, b in zip(ours, theirs, strict=True)) < tolerance


def assert_exercised(penalty, history):
    """The comparison is worth something only if zeros came and went (or the rank did) on the way."""
    if penalty == "nuclear":
        ranks = [np.linalg.matrix_rank(w.reshape(w.shape[0], -1), tol=1e-9) for w in history]
        assert min(ranks) < max(ranks)
    elif penalty != "none":
        zero = np.stack(history) == 0
        assert (zero.any(axis=0) & ~zero.all(axis=0)).any()


@pytest.mark.parametrize(("shape", "penalty", "path"), CASES)
def test_adabreg_follows_the_paper(shape, penalty, path):
    theta, gradients = problem(shape)
    options = {"lr": 0.02, "betas": (0.9, 0.99), "eps": 1e-8, "lam": 0.15, "delta": 0.7, "penalty": penalty}
    expected = bregman.adabreg(theta, gradients, **options)
    p = torch.nn.Parameter(torch.from_numpy(theta.copy()))
    assert_same(trajectory(AdaBreg([p], **options, **PATHS[path]), p, gradients), expected)
    assert_exercised(penalty, expected)


@pytest.mark.parametrize(("shape", "penalty", "path", "momentum"), MOMENTUM_CASES)
def test_linbreg_follows_the_paper(shape, penalty, path, momentum):
    theta, gradients = problem(shape)
    options = {"lr": 0.02, "momentum": momentum, "lam": 0.15, "delta": 1.3, "penalty": penalty}
    expected = bregman.linbreg(theta, gradients, **options)
    p = torch.nn.Parameter(torch.from_numpy(theta.copy()))
    assert_same(trajectory(LinBreg([p], **options, **PATHS[path]), p, gradients), expected)
    assert_exercised(penalty, expected)


@pytest.mark.parametrize(("shape", "penalty", "path", "momentum"), MOMENTUM_CASES)
def test_proxsgd_follows_the_paper(shape, penalty, path, momentum):
    theta, gradients = problem(shape)
    options = {"lr": 0.02, "momentum": momentum, "lam": 12.0 if penalty == "nuclear" else 3.0, "penalty": penalty}
    expected = bregman.proxsgd(theta, gradients, **options)
    p = torch.nn.Parameter(torch.from_numpy(theta.copy()))
    assert_same(trajectory(ProxSGD([p], **options, **PATHS[path]), p, gradients), expected)
    assert_exercised(penalty, expected)


@pytest.mark.parametrize("make", [AdaBreg, LinBreg])
def test_shrinking_start_follows_the_paper(make):
    theta, gradients = problem((6, 5))
    options = {"lr": 0.02, "lam": 0.15, "delta": 0.7, "penalty": "l1", "init": "shrink"}
    own = {"betas": (0.9, 0.99), "eps": 1e-8} if make is AdaBreg else {"momentum": 0.9}
    expected = {AdaBreg: bregman.adabreg, LinBreg: bregman.linbreg}[make](theta, gradients, **options, **own)
    p = torch.nn.Parameter(torch.from_numpy(theta.copy()))
    assert_same(trajectory(make([p], **options, **own), p, gradients), expected)
    assert (expected[0] == 0).sum() > (theta == 0).sum()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("maximize", [False, True])
def test_without_penalty_adabreg_is_adam(maximize, path):
    theta, gradients = problem((6, 5))
    p, q = (torch.nn.Parameter(torch.from_numpy(theta.copy())) for _ in range(2))
    ours = AdaBreg([p], lr=0.01, lam=0.0, maximize=maximize, **PATHS[path])
    theirs = torch.optim.Adam([q], lr=0.01, maximize=maximize)
    assert_same(trajectory(ours, p, gradients), trajectory(theirs, q, gradients))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_without_penalty_linbreg_is_sgd_with_the_damping_in_its_rate(momentum, maximize, path):
    theta, gradients = problem((6, 5))
    p, q = (torch.nn.Parameter(torch.from_numpy(theta.copy())) for _ in range(2))
    ours = LinBreg([p], lr=0.1, momentum=momentum, lam=0.0, maximize=maximize, **PATHS[path])
    theirs = torch.optim.SGD([q], lr=0.1 * (1 - momentum), momentum=momentum, maximize=maximize)
    assert_same(trajectory(ours, p, gradients), trajectory(theirs, q, gradients))


def test_linbreg_is_sgd_with_dampening_once_the_first_gradient_is_zero():
    """Torch fills the buffer with the whole first gradient, dampening or not; from zero on the two agree."""
    theta, gradients = problem((6, 5))
    gradients[0] = np.zeros_like(theta)
    p, q = (torch.nn.Parameter(torch.from_numpy(theta.copy())) for _ in range(2))
    ours = LinBreg([p], lr=0.1, momentum=0.8, lam=0.0)
    theirs = torch.optim.SGD([q], lr=0.1, momentum=0.8, dampening=0.8)
    assert_same(trajectory(ours, p, gradients), trajectory(theirs, q, gradients))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_without_penalty_proxsgd_is_sgd(momentum, maximize, path):
    theta, gradients = problem((6, 5))
    p, q = (torch.nn.Parameter(torch.from_numpy(theta.copy())) for _ in range(2))
    ours = ProxSGD([p], lr=0.01, momentum=momentum, lam=0.0, maximize=maximize, **PATHS[path])
    theirs = torch.optim.SGD([q], lr=0.01, momentum=momentum, maximize=maximize)
    assert_same(trajectory(ours, p, gradients), trajectory(theirs, q, gradients))


@pytest.mark.parametrize("make", [AdaBreg, LinBreg, ProxSGD])
def test_float32_paths_agree(make):
    theta, gradients = problem((6, 5))
    histories = []
    for options in PATHS.values():
        p = torch.nn.Parameter(torch.from_numpy(theta).float())
        histories.append(trajectory(make([p], lr=0.02, lam=0.15, **options), p, gradients))
    assert_same(histories[0], histories[1], 2e-5)
    assert_same(histories[0], histories[2], 2e-5)


def test_the_step_of_linbreg_stops_with_its_learning_rate():
    """With the rate inside the buffer, as in the public code, old steps would keep moving the dual."""
    theta, gradients = problem((6, 5))
    p = torch.nn.Parameter(torch.from_numpy(theta.copy()))
    optimizer = LinBreg([p], lr=0.1, momentum=0.9)
    trajectory(optimizer, p, gradients[:5])
    before = p.detach().clone()
    optimizer.param_groups[0]["lr"] = 0.0
    trajectory(optimizer, p, gradients[5:10])
    torch.testing.assert_close(p.detach(), before, rtol=0, atol=1e-15)


def test_no_penalty_weight_keeps_the_memory_of_the_dual():
    """A spell with lam = 0 goes through the same dual: its weights are delta * dual, and lam can come back."""
    theta, gradients = problem((6, 5))
    p = torch.nn.Parameter(torch.from_numpy(theta.copy()))
    optimizer = AdaBreg([p], lr=0.02, lam=0.15, delta=0.7)
    trajectory(optimizer, p, gradients[:5])
    optimizer.param_groups[0]["lam"] = 0.0
    trajectory(optimizer, p, gradients[5:10])
    dual = optimizer.state[p]["dual"]
    torch.testing.assert_close(p.detach(), 0.7 * dual)
    optimizer.param_groups[0].update(lam=0.15, lr=0.0)
    trajectory(optimizer, p, gradients[10:11])
    torch.testing.assert_close(p.detach(), 0.7 * torch.nn.functional.softshrink(dual, 0.15))


BASELINES = {
    "magnitude": (baselines.MagnitudePruning, {}, pruning.magnitude, {"end": 54, "every": 5, "metric": False}),
    "magnitude+metric": (
        baselines.MagnitudePruning,
        {"metric": "adam", "every": 2},
        pruning.magnitude,
        {"end": 54, "every": 2, "metric": True},
    ),
    "one-shot": (baselines.OneShotPruning, {}, pruning.one_shot, {"end": 45}),
    "l1": (baselines.L1Pruning, {"lam": 1e-2}, pruning.one_shot, {"end": 45, "l1": 1e-2}),
    "prox": (baselines.ProxPruning, {"lam": 0.05}, pruning.one_shot, {"end": 45, "prox": 0.05}),
    "str": (baselines.STR, {"start": -3.0}, pruning.learned, {"end": 45, "start": -3.0, "decay": 1e-2, "lr_s": 0.1}),
}


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("lrs", [[0.02, 0.02, 0.02], [0.02, 0.1, 0.005]])
@pytest.mark.parametrize("name", BASELINES)
def test_baselines_follow_their_equations(name, lrs, maximize):
    """On a quadratic, with groups of different learning rates."""
    random = np.random.default_rng(len(name))
    first, best, scale = ([random.normal(size=shape) for shape in [(8, 6), (5, 8), (3, 5)]] for _ in range(3))

    def gradients(w):
        return [a**2 * (x - b) for a, x, b in zip(scale, w, best, strict=True)]

    make, own, oracle, options = BASELINES[name]
    expected = oracle(first, gradients, density=0.25, steps=60, lrs=lrs, **options)
    parameters = [torch.nn.Parameter(torch.from_numpy(x.copy())) for x in first]
    groups = [{"params": [p], "lr": lr} for p, lr in zip(parameters, lrs, strict=True)]
    optimizer = torch.optim.Adam(groups, maximize=maximize)
    make(optimizer, 0.25, 60, **own)
    for _ in range(60):
        for p, g in zip(parameters, gradients([p.detach().numpy() for p in parameters]), strict=True):
            p.grad = torch.from_numpy(-g if maximize else g)
        optimizer.step()
    for p, x in zip(parameters, expected, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), x, rtol=1e-9, atol=1e-11)
        assert (x == 0).any()
