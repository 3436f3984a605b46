"""The solver against the line-by-line Algorithm 2, and what must hold of any run."""

import pytest
import torch
from admm_cases import spike_data
from reference.admm import from_solver

from bregma.admm import ADMM, Constants, Problem, Settings, lagrangian, updates
from bregma.admm.order import layer_order, time_order, waves


def oracle(solver, x, y):
    constants = {name: getattr(solver.constants, name) for name in ("rho", "sigma", "epsilon", "ridge")}
    return from_solver(
        solver.variables, x, y, delta=solver.constants.decay, theta=solver.constants.threshold, **constants
    )


def orders(solver, hidden, steps):
    """The orders of the next iteration, in the paper's numbering, drawn from a copy of the generator."""
    generator = torch.Generator()
    generator.set_state(solver.generator.get_state())
    order = solver.settings.order
    layers = [layer + 1 for layer in layer_order(order, hidden, generator)]
    return layers, {layer: [t + 1 for t in time_order(order, steps, generator)] for layer in (*layers, hidden + 1)}


@pytest.mark.parametrize("order", ["paper", "random", "red-black"])
@pytest.mark.parametrize("hidden", [(8,), (8, 6), (8, 3, 6)])
@pytest.mark.parametrize("steps", [7, 1])
def test_follows_the_paper(order, hidden, steps):
    x, y = spike_data(steps=steps)
    constants = Constants(rho=1.5, sigma=0.2, decay=0.9, threshold=0.8, ridge=0.05)
    solver = ADMM(x, y, hidden, Settings(constants, warming=2, order=order), seed=1)
    paper = oracle(solver, x, y)
    for iteration in range(4):
        layers, times = orders(solver, len(hidden), steps)
        solver.step()
        paper.algorithm2(iteration < 2, layers, times)
    for layer in range(len(hidden) + 1):
        assert torch.allclose(solver.variables.weights[layer], paper.W[layer + 1], rtol=0, atol=1e-9)
        for t in range(steps):
            assert torch.allclose(solver.variables.membranes[layer][t].T, paper.z[layer + 1, t + 1], rtol=0, atol=1e-9)
            if layer < len(hidden):
                assert torch.allclose(solver.variables.spikes[layer][t].T, paper.a[layer + 1, t + 1], rtol=0, atol=1e-9)
    assert paper.lam.abs().max() > 0
    assert torch.allclose(solver.variables.multipliers[-1][-1].T, paper.lam, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dense", [False, True])
def test_torch_and_fused_sweeps_agree(dense):
    x, y = spike_data(steps=9, samples=6)
    x = x * 0.5 if dense else x  # not binary: no events
    solvers = [ADMM(x, y, (8, 6), seed=3) for _ in range(2)]
    solvers[1]._fused = False
    for _ in range(3):
        for solver in solvers:
            solver.step()
    ours, theirs = (solver.variables.tensors() for solver in solvers)
    for name in ours:
        assert torch.allclose(ours[name], theirs[name], rtol=0, atol=1e-10), name


@pytest.mark.parametrize("order", ["paper", "red-black", "random"])
def test_only_the_clip_and_the_multiplier_raise_the_lagrangian(order, monkeypatch):
    x, y = spike_data(steps=9, samples=6)
    constants = Constants(ridge=1e-3, epsilon=1e-9)
    solver = ADMM(x, y, (8, 6), Settings(constants, warming=0, order=order), seed=2)
    solver._fused = False
    problem = Problem(x, y, solver.constants)
    seen = {"weights": 0, "membranes": 0, "spikes": 0, "readout": 0}
    last = [float(lagrangian(problem, solver.variables))]

    def look(kind):
        value = float(lagrangian(problem, solver.variables))
        assert value <= last[0] + 1e-7 * abs(last[0]), kind
        last[0] = value
        seen[kind] += 1

    fit, wave, readout = solver._fit, solver._update_wave, solver._update_readout

    def watched_fit(layer):
        fit(layer)
        look("weights")

    def unclipped(a):
        return a

    def watched_wave(layer, steps, p, feedback, system):
        z, a, c = solver.variables.membranes[layer], solver.variables.spikes[layer], solver.constants
        z[steps] = updates.membranes(z, a, p, steps, c)
        look("membranes")
        monkeypatch.setattr(updates, "clip", unclipped)
        wave(layer, steps, p, feedback, system)
        look("spikes")
        a[steps] = a[steps].clamp(0, 1)
        last[0] = float(lagrangian(problem, solver.variables))

    def watched_readout(order):
        readout(order)
        solver.variables.multipliers[-1].copy_(before)
        look("readout")

    solver._fit, solver._update_wave, solver._update_readout = watched_fit, watched_wave, watched_readout
    for _ in range(3):
        before = solver.variables.multipliers[-1].clone()
        solver.step()
    assert min(seen.values()) >= 3


def test_measures_are_those_of_the_definitions():
    x, y = spike_data()
    solver = ADMM(x, y, (8, 6), Settings(warming=0), seed=5)
    for _ in range(3):
        solver.step()
    found = solver.measure()
    expected = float(lagrangian(Problem(x, y, solver.constants), solver.variables))
    assert found["lagrangian"] == pytest.approx(expected, rel=1e-12)
    paper = oracle(solver, x, y)
    assert found["primal"] == pytest.approx(float(paper.w(3, 7).norm()), rel=1e-9)
    residual = sum(float((paper.w(1, t) + paper.v(1, t) - paper.u(1, t)).square().sum()) for t in range(1, 8)) ** 0.5
    assert found["membrane_residuals"][0] == pytest.approx(residual, rel=1e-9)
    gap = sum(float((paper.a[2, t] - paper.H(paper.z[2, t])).square().sum()) for t in range(1, 8)) ** 0.5
    assert found["spike_residuals"][1] == pytest.approx(gap, rel=1e-9)


def test_resumes_bit_by_bit():
    x, y = spike_data(dtype=torch.float32)
    whole, first, second = (ADMM(x, y, (8, 6), Settings(warming=2), seed=seed) for seed in (1, 1, 99))
    for _ in range(5):
        whole.step()
    for _ in range(3):
        first.step()
    second.load_state_dict(first.state_dict())
    for _ in range(2):
        first.step()
        second.step()
    for name, tensor in whole.variables.tensors().items():
        assert torch.equal(tensor, first.variables.tensors()[name])
        assert torch.equal(tensor, second.variables.tensors()[name])


def test_a_state_of_another_network_is_refused():
    x, y = spike_data()
    with pytest.raises(ValueError, match=r"state: weights.0 must be torch.float64 of shape \(8, 9\)"):
        ADMM(x, y, (8,)).load_state_dict(ADMM(x, y, (7,)).state_dict())


@pytest.mark.parametrize("seed", range(5))
def test_waves_keep_the_order_of_neighbours(seed):
    order = time_order("random", 40, torch.Generator().manual_seed(seed))
    found = {t: number for number, wave in enumerate(waves(order)) for t in wave.tolist()}
    assert sorted(found) == list(range(40))
    for t in range(39):
        assert (found[t] < found[t + 1]) == (order.index(t) < order.index(t + 1))
        assert found[t] != found[t + 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"warming": -1}, "warming must be >= 0, got -1"),
        ({"order": "sorted"}, "order must be one of paper, random, red-black, got 'sorted'"),
        ({"loss": "l1"}, "loss must be one of squared_error, squared_hinge, cross_entropy, got 'l1'"),
        ({"anderson": -2}, "anderson must be >= 0, got -2"),
        ({"anderson": 2, "order": "random"}, "anderson must be 0 with the random order, got 2"),
        ({"relaxation": 2.0}, r"relaxation must be in \(0, 2\), got 2.0"),
        ({"relaxation": 1.5, "spike_update": "exact"}, "relaxation must be 1 with the exact spike update, got 1.5"),
    ],
)
def test_settings_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        Settings(**arguments)


@pytest.mark.parametrize("name", ["rho", "sigma", "threshold", "epsilon"])
def test_constants_are_checked(name):
    with pytest.raises(ValueError, match=f"{name} must be > 0 and finite, got 0"):
        Constants(**{name: 0})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"y": torch.eye(3)[[0, 1, 2, 0, 1]].long()},
            TypeError,
            "x and y must both be float32 or both float64, got .*64",
        ),
        ({"x": torch.zeros(7, 5, 9).bool()}, TypeError, "x and y must both be float32 .*, got torch.bool and .*32"),
        ({"y": torch.eye(3)}, ValueError, r"x must be .* got shapes \(7, 5, 9\) and \(3, 3\)"),
        ({"y": torch.zeros(5)}, ValueError, r"y \(B, classes\), got shapes \(7, 5, 9\) and \(5,\)"),
        ({"epsilon": 1e-8}, ValueError, "epsilon must be large enough for .* in torch.float32, got 1e-08"),
        ({"threshold": 1e5}, ValueError, "epsilon must be large enough .* threshold = 100000.0 in .*, got 0.001"),
    ],
)
def test_data_are_checked(change, error, message):
    x, y = spike_data(dtype=torch.float32)
    data = {name: change.pop(name, value) for name, value in (("x", x), ("y", y))}
    with pytest.raises(error, match=message):
        ADMM(**data, hidden=(4,), settings=Settings(Constants(**change)))
