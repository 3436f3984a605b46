"""Convolutional layers against the equivalent dense ones, and in a whole run."""

import numpy as np
import pytest
import torch
from admm_cases import spike_data

import bregma
from bregma.admm import ADMM, Constants, Convolution, Settings
from bregma.admm.convolution import ConvolutionInputs, ConvolutionSystem
from bregma.admm.synapses import Convolved
from bregma.admm.systems import SpikeSystem

SHAPE = (2, 7, 6)
CASES = [Convolution(3, 3), Convolution(2, 3, stride=2), Convolution(4, 2, stride=2, padding=1), Convolution(2, 4)]


def setting(layer, seed=0):
    """The map, its weights, and the dense matrix it equals, column by column."""
    correlation = layer.on(SHAPE)
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(correlation.weight_shape, generator=generator, dtype=torch.float64)
    dense = correlation.apply(torch.eye(84, dtype=torch.float64), weight).T
    rows = torch.rand(30, 84, generator=generator, dtype=torch.float64)
    maps = torch.randn(30, correlation.neurons, generator=generator, dtype=torch.float64)
    return correlation, weight, dense, rows, maps


@pytest.mark.parametrize("layer", CASES)
def test_drive_and_feedback_are_those_of_the_dense_layer(layer):
    correlation, weight, dense, rows, maps = setting(layer)
    inputs = ConvolutionInputs(rows.view(5, 6, -1), correlation)
    drive = inputs.drive(weight, torch.empty(5, 6, correlation.neurons, dtype=torch.float64))
    assert torch.allclose(drive.view(30, -1), rows @ dense.T, rtol=0, atol=1e-12)
    feedback = inputs.feedback(maps.view(5, 6, -1), weight, torch.empty(5, 6, 84, dtype=torch.float64))
    assert torch.allclose(feedback.view(30, -1), maps @ dense, rtol=0, atol=1e-12)


@pytest.mark.parametrize("layer", CASES)
def test_spikes_solve_the_dense_system(layer):
    correlation, weight, dense, rows, _ = setting(layer)
    ours, theirs = ConvolutionSystem(weight, 1.3, 0.2, correlation), SpikeSystem(dense, 1.3, 0.2)
    product = rows - 0.5
    found, expected = (system.solve(product, torch.empty_like(product)) for system in (ours, theirs))
    assert torch.allclose(found, expected, rtol=0, atol=1e-10)
    found, expected = (system.solve_in_box(3 * product, torch.zeros_like(product)) for system in (ours, theirs))
    assert torch.allclose(found, expected, rtol=0, atol=1e-5)
    single = ConvolutionSystem(weight.float(), 1.3, 0.2, correlation).solve(product.float(), product.float())
    exact = ConvolutionSystem(weight.float().double(), 1.3, 0.2, correlation)
    solution = exact.solve(product.float().double(), torch.empty_like(product))
    assert ((single - solution).norm(dim=1) < 1e-6 * solution.norm(dim=1)).all()


@pytest.mark.parametrize("layer", [*CASES, Convolution(3, 3, padding=2), Convolution(2, 7, padding=3)])
def test_the_normal_matrix_is_that_of_the_dense_layer(layer):
    correlation, weight, dense, _, _ = setting(layer)
    assert torch.allclose(correlation.normal_matrix(weight), dense.T @ dense, rtol=0, atol=1e-12)


@pytest.mark.parametrize("layer", CASES)
@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_weights_are_stationary(layer, ridge):
    correlation, _, _, rows, maps = setting(layer)
    inputs = ConvolutionInputs(rows.view(5, 6, -1), correlation, fixed=True)
    for _ in range(2):  # the second time with the kept Gram matrix
        weight = inputs.fit(maps.view(5, 6, -1), ridge).requires_grad_()
        cost = (maps - correlation.apply(rows, weight)).square().sum() / 2 + ridge / 2 * weight.square().sum()
        cost.backward()
        assert weight.grad.abs().max() < 1e-10


def test_kernels_as_large_as_the_frame_are_a_dense_layer():
    x, y = spike_data(steps=6, samples=8, inputs=9)
    settings = Settings(Constants(ridge=1e-2), warming=2, order="paper")
    dense = ADMM(x, y, (5, 4), settings, seed=3)
    conv = ADMM(x, y, (Convolution(5, kernel=3), 4), settings, seed=3, frame_shape=(1, 3, 3))
    for _ in range(4):
        dense.step()
        conv.step()
    for ours, theirs in zip(conv.variables.weights, dense.variables.weights, strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-8)


def test_two_convolutions_lower_the_lagrangian_with_exact_spikes():
    x, y = spike_data(steps=6, samples=8, inputs=49)
    hidden = (Convolution(3, 3), Convolution(2, 2, stride=2, padding=1), 5)
    settings = Settings(Constants(ridge=1e-3, epsilon=1e-9), warming=100, spike_update="exact")
    solver = ADMM(x, y, hidden, settings, frame_shape=(1, 7, 7))
    solver.step()
    values = [solver.measure()["lagrangian"]]
    for _ in range(8):
        solver.step()
        values.append(solver.measure()["lagrangian"])
        assert values[-1] <= values[-2] * (1 + 1e-6)
    assert values[-1] < 0.8 * values[0]


def test_the_classifier_takes_convolutions():
    rng = np.random.default_rng(0)
    y = np.arange(30) % 2
    bars = np.zeros((30, 6, 6))
    for k, label in enumerate(y):
        place = rng.integers(6)
        bars[k][(place, slice(None)) if label else (slice(None), place)] = 0.7
    X = (rng.random((12, 30, 36)) < bars.reshape(30, 36)).astype(np.float32)
    options = {"hidden": (Convolution(6, 3, stride=2), 16), "frame_shape": (1, 6, 6), "iterations": 60, "warming": 30}
    options["solver"] = "paper"
    model = bregma.ADMMClassifier(**options).fit(X, y)
    assert [weight.shape for weight in model.weights_] == [(6, 9), (16, 24), (2, 16)]
    assert model.history_[-1]["train_accuracy"] == model.score(X, y)
    assert bregma.ADMMClassifier(**options, init="forward").fit(X, y).partial_fit(X[:, ::-1], y[::-1]).n_iter_ == 61


@pytest.mark.parametrize(
    ("hidden", "frame_shape", "message"),
    [
        ((Convolution(2, 3),), None, "hidden: a convolution needs frame_shape, and no dense layer before it"),
        ((4, Convolution(2, 3)), (1, 3, 3), "hidden: a convolution needs frame_shape, and no dense layer before it"),
        ((Convolution(2, 4),), (1, 3, 3), r"kernel must be <= the padded frame, got 4 for frames \(1, 3, 3\)"),
        ((Convolution(2, 2),), (1, 3, 4), r"frame_shape must be \(channels, height, width\) of 9 inputs"),
    ],
)
def test_shapes_are_checked(hidden, frame_shape, message):
    x, y = spike_data(inputs=9)
    with pytest.raises(ValueError, match=message):
        ADMM(x, y, hidden, frame_shape=frame_shape)


def test_convolutions_are_checked():
    with pytest.raises(ValueError, match="stride must be >= 1, got 0"):
        Convolution(2, 3, stride=0)


def test_float32_sums_over_many_patches_are_exact_to_float32():
    layer, generator = Convolution(4, 5).on((2, 20, 20)), torch.Generator().manual_seed(0)
    spikes = torch.rand(8, 64, 800, generator=generator)  # real numbers: sums of zeros and ones would be exact
    maps = torch.randn(8, 64, layer.neurons, generator=generator)

    def error(of):
        single, exact = (of(spikes.to(dtype), maps.to(dtype)).double() for dtype in (torch.float32, torch.float64))
        return float((single - exact).norm() / exact.norm())

    assert error(lambda a, d: ConvolutionInputs(a, layer).fit(d, ridge=1.0)) < 2e-6
    assert error(lambda a, d: Convolved(layer).sums(d, a, d)) < 3e-6
    wide = Convolution(2, 5).on((8, 10, 10))
    assert error(lambda a, d: Convolved(wide).gram(a, d, 0.0)) < 1e-7


def test_a_gram_matrix_of_patches_is_whole():
    layer = Convolution(4, 5).on((2, 20, 20))
    gram = Convolved(layer).gram(torch.rand(2, 3, 800), torch.empty(0), 0.5)
    assert torch.equal(gram, gram.T)
    assert bool((gram > 0).all())
