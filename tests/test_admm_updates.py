"""Each closed form against the Lagrangian it minimises."""

from dataclasses import replace

import pytest
import torch
from admm_cases import random_point
from hypothesis import given, settings
from hypothesis import strategies as st

from bregma.admm import Constants, lagrangian, updates
from bregma.admm.losses import LOSSES
from bregma.admm.problem import one_step_sums, presynaptic

CASES = [{}, {"duals": True}, {"rho": 2.5, "sigma": 0.7, "decay": 0.8, "threshold": 0.6}]


def gradient(problem, variables, of):
    """Gradient of the Lagrangian with respect to one of its tensors."""
    of.requires_grad_()
    (result,) = torch.autograd.grad(lagrangian(problem, variables), of)
    of.requires_grad_(False)
    return result


def shift(problem, variables, layer):
    """d: the multiplier over rho."""
    multiplier = variables.multipliers[layer]
    return 0 if multiplier is None else multiplier / problem.constants.rho


def wish(problem, variables, layer):
    """m: the multiplier of the spikes over sigma."""
    given = variables.spike_multipliers
    return given[layer] / problem.constants.sigma if given else None


def drive(problem, variables, layer):
    inputs = presynaptic(problem, variables, layer)
    return inputs @ variables.weights[layer].T - shift(problem, variables, layer)


def sums(problem, variables, layer):
    a = variables.spikes[layer] if layer < len(variables.spikes) else None
    return one_step_sums(variables.membranes[layer], a, problem.constants) + shift(problem, variables, layer)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_weights_are_stationary(case, layer):
    problem, variables = random_point(ridge=0.3, **case)
    inputs = presynaptic(problem, variables, layer)
    new = updates.weights(sums(problem, variables, layer), inputs, problem.constants.ridge)
    variables.weights[layer] = new
    assert gradient(problem, variables, new).abs().max() <= 1e-12


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("t", range(7))
def test_readout_membranes_are_stationary(case, t):
    problem, variables = random_point(**case)
    z, steps = variables.membranes[-1], torch.tensor([t])
    p = drive(problem, variables, 2)
    z[steps] = updates.readout_membranes(z, p, problem.y, problem.loss, steps, problem.constants)
    assert gradient(problem, variables, z)[t].abs().max() <= 1e-12


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("steps", [7, 1])
@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_the_readout_trajectory_is_stationary_at_all_steps(case, steps, loss):
    problem, variables = random_point(steps=steps, **case)
    problem = replace(problem, loss=LOSSES[loss]())
    p, z = drive(problem, variables, 2), variables.membranes[-1]
    z.copy_(updates.readout_trajectory(p, problem.y, problem.loss, problem.constants))
    assert gradient(problem, variables, z).abs().max() <= 1e-12


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("t", range(7))
def test_hidden_membranes_are_stationary_or_at_the_threshold(case, layer, t):
    problem, variables = random_point(**case)
    z, a, steps, constants = variables.membranes[layer], variables.spikes[layer], torch.tensor([t]), problem.constants
    p, m = drive(problem, variables, layer), wish(problem, variables, layer)
    z[steps] = updates.membranes(z, a, p, steps, constants, m)
    edge = (z[t] == constants.threshold) | (z[t] == constants.threshold + constants.epsilon)
    assert edge.sum() > 0 or case  # Algorithm 1 had something to do in the paper's setting
    assert not edge.all()
    assert gradient(problem, variables, z)[t][~edge].abs().max() <= 1e-12


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("t", range(7))
def test_spikes_before_the_clip_are_stationary(case, layer, t):
    problem, variables = random_point(**case)
    z, a, steps, constants = variables.membranes[layer], variables.spikes[layer], torch.tensor([t]), problem.constants
    weight = variables.weights[layer + 1]
    feedback = constants.rho * sums(problem, variables, layer + 1) @ weight
    p, m = drive(problem, variables, layer), wish(problem, variables, layer)
    product = updates.spike_product(z, p, feedback, steps, constants, m)
    a[steps] = updates.spikes(product, weight, updates.spike_shift(t == 6, constants), constants.rho)
    assert gradient(problem, variables, a)[t].abs().max() <= 1e-12


number = st.floats(-4, 4)


@settings(max_examples=50, deadline=None)
@given(
    q=number,
    goal=number,
    now=st.floats(0, 1),
    rho=st.floats(0.1, 4),
    sigma=st.floats(0.01, 4),
    decay=st.floats(0, 1),
    threshold=st.floats(0.2, 2),
)
def test_algorithm_1_is_the_best_scalar(q, goal, now, rho, sigma, decay, threshold):
    """One neuron, three steps; the middle one is updated, against a fine grid of candidates."""
    constants = Constants(rho=rho, sigma=sigma, decay=decay, threshold=threshold, epsilon=1e-6)
    column = torch.tensor([0.0, 0.0, goal], dtype=torch.float64).view(3, 1, 1)
    a = torch.tensor([0.0, now, 0.0], dtype=torch.float64).view(3, 1, 1)
    p = torch.tensor([0.0, q, 0.0], dtype=torch.float64).view(3, 1, 1)
    new = updates.membranes(column, a, p, torch.tensor([1]), constants).item()

    def cost(value):
        ahead = goal - decay * value + threshold * now
        fires = (value > threshold).to(value.dtype)
        return rho / 2 * ((value - q) ** 2 + ahead**2) + sigma / 2 * (now - fires) ** 2

    grid = torch.cat([torch.linspace(-9, 9, 20001, dtype=torch.float64), torch.tensor([threshold, threshold + 1e-6])])
    slack = 1e-6 * 20 * rho  # epsilon times the steepest slope there is
    assert cost(torch.tensor(new, dtype=torch.float64)) <= cost(grid).min() + slack


def test_without_ridge_weights_have_minimum_norm():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(4, 2, 12, generator=generator, dtype=torch.float64)  # 8 rows, 12 inputs: singular
    sums = torch.randn(4, 2, 3, generator=generator, dtype=torch.float64)
    expected = torch.linalg.pinv(inputs.flatten(0, 1)) @ sums.flatten(0, 1)
    assert torch.allclose(updates.weights(sums, inputs, ridge=0.0), expected.T, rtol=0, atol=1e-9)


def test_a_ridge_too_small_is_named():
    gram = torch.tensor([[1.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    with pytest.raises(ValueError, match=r"ridge must be larger, got 1e-30: the Gram matrix of 2 inputs is singular"):
        updates.solve_gram(torch.ones(1, 2), gram, 1e-30)
