"""What the solver can do beyond the paper's defaults."""

from itertools import pairwise

import pytest
import torch
from admm_cases import spike_data

from bregma.admm import ADMM, Constants, Problem, Settings, lagrangian
from bregma.admm.acceleration import adapt
from bregma.admm.problem import dynamics_residual, spike_residual
from bregma.admm.systems import SpikeSystem, box_minimum

OPTIONS = {
    "exact spikes": {"spike_update": "exact"},
    "relaxed": {"relaxation": 1.6},
    "all multipliers": {"multipliers": "all"},
    "exact readout": {"readout_update": "exact"},
    "balanced": {"penalties": "balanced"},
    "growing": {"penalties": "growing"},
    "anderson": {"anderson": 3, "order": "red-black"},
    "cross-entropy": {"loss": "cross_entropy"},
    "hinge": {"loss": "squared_hinge"},
}


def solver(seed=1, dtype=torch.float64, fused=True, constants=None, **options):
    x, y = spike_data(steps=9, samples=6, dtype=dtype)
    options = {"warming": 2, **options}
    made = ADMM(x, y, (8, 6), Settings(constants or Constants(ridge=1e-4), **options), seed=seed)
    made._fused = fused
    return made


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_torch_and_fused_sweeps_agree(options):
    ours, theirs = solver(**options), solver(fused=False, **options)
    for _ in range(5):
        ours.step()
        theirs.step()
    for name, tensor in ours.variables.tensors().items():
        assert torch.allclose(tensor, theirs.variables.tensors()[name], rtol=0, atol=1e-6), name


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_resumes_bit_by_bit(options):
    whole, first, second = (solver(seed, torch.float32, **options) for seed in (1, 1, 9))
    for _ in range(9):
        whole.step()
    for _ in range(6):
        first.step()
    second.load_state_dict(first.state_dict())
    for _ in range(3):
        second.step()
    assert second.constants == whole.constants
    for name, tensor in whole.variables.tensors().items():
        assert torch.equal(tensor, second.variables.tensors()[name]), name


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_changes_the_run_and_measures_the_right_lagrangian(options):
    plain, other = solver(order=options.get("order", "random")), solver(**options)
    for _ in range(16):
        plain.step()
        other.step()
    different = [not torch.equal(a, b) for a, b in zip(plain.variables.weights, other.variables.weights, strict=True)]
    assert any(different)
    x, y = spike_data(steps=9, samples=6)
    expected = lagrangian(Problem(x, y, other.constants, other.loss), other.variables)
    assert other.measure()["lagrangian"] == pytest.approx(float(expected), rel=1e-10)


@pytest.mark.parametrize("rows", [3, 12])
def test_box_solutions_satisfy_the_optimality_conditions(rows):
    generator = torch.Generator().manual_seed(rows)
    weight = torch.randn(rows, 12, generator=generator, dtype=torch.float64)
    product = 3 * torch.randn(40, 12, generator=generator, dtype=torch.float64)
    system = SpikeSystem(weight, rho=1.5, shift=0.2)
    steepest = 1.5 * float(torch.linalg.matrix_norm(weight, 2)) ** 2 + 0.2
    a = box_minimum(system.multiply, 0.2, steepest, product, torch.zeros_like(product), tolerance=1e-12)
    gradient = a @ (1.5 * weight.T @ weight + 0.2 * torch.eye(12, dtype=torch.float64)) - product
    inside = (a > 0) & (a < 1)
    assert 0.05 < inside.double().mean() < 0.95
    assert gradient[inside].abs().max() < 1e-9
    assert gradient[a == 0].min() > -1e-9
    assert gradient[a == 1].max() < 1e-9


def test_with_exact_spikes_no_iteration_raises_the_lagrangian():
    made = solver(constants=Constants(ridge=1e-3, epsilon=1e-9), spike_update="exact", warming=100)
    made.step()
    values = []
    for _ in range(25):
        made.step()
        values.append(made.measure()["lagrangian"])
    assert all(after <= before + 1e-6 * abs(before) for before, after in pairwise(values))


def test_the_exact_readout_is_where_sweeps_end():
    exact, sweeping = solver(readout_update="exact"), solver()
    for made in (exact, sweeping):
        made._fit(2)
    exact._fit = sweeping._fit = lambda layer: None  # the same weights throughout
    order = [torch.tensor([t]) for t in range(9)]
    exact._update_readout(order)
    for _ in range(2000):
        sweeping._update_readout(order)
    assert torch.allclose(exact.variables.membranes[2], sweeping.variables.membranes[2], rtol=0, atol=1e-9)


def test_anderson_goes_back_unless_the_lagrangian_falls(monkeypatch):
    made = solver(anderson=3, order="red-black", warming=100)
    values = []
    measure, take = made.measure, made._take
    monkeypatch.setattr(made, "measure", lambda: values.append(measure()) or values[-1])
    taken = []
    monkeypatch.setattr(made, "_take", lambda tensors: taken.append(tensors) or take(tensors))
    accepted = 0
    for _ in range(30):
        values.clear()
        taken.clear()
        made.step()
        if values:
            plain, proposed = (value["lagrangian"] for value in values)
            accepted += proposed < plain
            assert len(taken) == (1 if proposed < plain else 2)
            assert measure()["lagrangian"] == min(plain, proposed)
    assert accepted > 0


def test_growing_penalties_stop_at_a_hundredfold():
    made = solver(penalties="growing")
    made.iteration = 5000
    made.step()
    assert made.constants.rho == pytest.approx(100 * made._first.rho)
    assert made.constants.sigma == pytest.approx(100 * made._first.sigma)


def test_all_multipliers_ascend_along_their_residuals():
    made = solver(multipliers="all", warming=0)
    made.step()
    x, y = spike_data(steps=9, samples=6)
    point = made.variables
    problem = Problem(x, y, made.constants)
    for layer, value in enumerate(point.multipliers):  # from zero by one step
        assert torch.allclose(value, made.constants.rho * dynamics_residual(problem, point, layer), rtol=0, atol=1e-12)
    for layer, value in enumerate(point.spike_multipliers):
        assert torch.allclose(value, made.constants.sigma * spike_residual(problem, point, layer), rtol=0, atol=1e-12)


def test_penalties_grow_for_as_long_as_one_likes():
    constants = Constants(rho=2.0)
    assert adapt("growing", constants, constants, 80_000, (0.0, 0.0)).rho == 200
