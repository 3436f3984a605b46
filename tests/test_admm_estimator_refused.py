"""`ADMMClassifier`: parameters, data and options that it refuses, and the words."""

import numpy as np
import pytest
from estimator_cases import SMALL, spike_task

import bregma
from bregma.admm import Flips, Window, checks


def test_what_does_not_fit_is_refused_with_numbers(monkeypatch):
    monkeypatch.setattr(checks, "available_bytes", lambda: 10_000)
    X, y = spike_task()
    with pytest.raises(MemoryError, match=r"hidden \(20,\) on 36 samples of 10 steps needs .* GB are free; use fewer"):
        bregma.ADMMClassifier(**SMALL).fit(X, y)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden": ()}, r"hidden must hold at least one layer of at least one neuron, got \(\)"),
        ({"iterations": 0}, "iterations must be >= 1, got 0"),
        ({"batch_size": 0}, "batch_size must be >= 1, got 0"),
        ({"solver": "adam"}, "solver must be one of consistent, paper, got 'adam'"),
        ({"rule": "soft"}, "rule must be one of window, dithered, flips or an object of bregma.admm, got 'soft'"),
        ({"rho": -1.0}, "rho must be > 0 and finite, got -1.0"),
        ({"decay": 1.5}, r"decay must be in \[0, 1\], got 1.5"),
        ({"coding": (1, 0)}, r"coding must be two numbers, the second larger, got \(1, 0\)"),
        ({"init": "ones"}, "init must be one of uniform, forward, got 'ones'"),
        ({"layout": "sideways"}, "layout must be one of time-major, batch-major, got 'sideways'"),
        ({"coding": 1}, "coding must be two numbers, the second larger, got 1"),
        ({"coding": (0, 1, 2)}, r"coding must be two numbers, the second larger, got \(0, 1, 2\)"),
        ({"random_state": 2**64}, "random_state must be an integer of 64 bits, got 18446744073709551616"),
        ({"solver": "consistent", "step": 0, "warming": 300}, "step must be > 0 and finite, got 0"),
        ({"class_weight": {"ant": -1}}, "class_weight must hold finite weights >= 0, got -1 for the class 'ant'"),
        ({"class_weight": "even"}, "class_weight must be None, 'balanced' or a dict, got 'even'"),
        ({"rule": "flips"}, "rule='flips' has no meaning with solver='paper'; leave it out"),
        (
            {"batch_size": 3, "rule": Flips(), "readout": "q", "step": -5, "readout_ridge": -4},
            r"batch_size=3, rule=Flips.*, readout='q', step=-5, readout_ridge=-4 have no meaning with solver='paper'; ",
        ),
        (
            {"solver": "consistent", "warming": 0, "order": "nonsense", "relaxation": 99, "penalties": "q"},
            "warming=0, order='nonsense', relaxation=99, penalties='q' have no meaning with solver='consistent'",
        ),
    ],
)
def test_parameters_are_checked_in_fit(change, message):
    X, y = spike_task()
    with pytest.raises(ValueError, match=message):
        bregma.ADMMClassifier(**{**SMALL, **change}).fit(X, y)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden": 8}, r"hidden must be a sequence of layers, such as \(8,\), got 8"),
        ({"hidden": (8, 1.5)}, "hidden must hold numbers of neurons, Convolution objects.*, got 1.5"),
        ({"random_state": None}, "random_state must be an integer, so that a fit can be repeated, got None"),
        ({"rule": 3}, "rule must be one of window, dithered, flips or an object of bregma.admm, got 3"),
        ({"rule": Window}, "rule must be one of window, .* or an object of bregma.admm, got <class"),
        ({"batch_size": 1.5}, "batch_size must be an integer >= 1, got 1.5"),
        ({"batch_size": "a"}, "batch_size must be an integer >= 1, got 'a'"),
        ({"anderson": None}, "anderson must be an integer >= 0, got None"),
        ({"decay": "a"}, "decay must be a number, got 'a'"),
        ({"frame_shape": 5}, r"frame_shape must be \(channels, height, width\) or None, got 5"),
        ({"class_weight": 3}, "class_weight must be None, 'balanced' or a dict, got 3"),
    ],
)
def test_types_of_parameters_are_checked_in_fit(change, message):
    X, y = spike_task()
    with pytest.raises(TypeError, match=message):
        bregma.ADMMClassifier(**{**SMALL, **change}).fit(X, y)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"validation": (1,)}, ValueError, r"validation must be a pair \(frames, labels\), got tuple of 1"),
        ({"validation": 3}, ValueError, r"validation must be a pair \(frames, labels\), got int"),
        ({"validation": (spike_task()[0], ["dog"] * 36)}, ValueError, "validation: y must hold labels among .*'dog'"),
        ({"validation": (np.zeros((3, 1, 5)), ["ant"])}, ValueError, "validation: X must have 12 inputs .*, got 5"),
        ({"checkpoint_every": 0}, ValueError, "checkpoint_every must be >= 1, got 0"),
        ({"checkpoint_every": 1.5}, TypeError, "checkpoint_every must be an integer >= 1, got 1.5"),
    ],
)
def test_options_of_fit_are_checked(options, error, message):
    with pytest.raises(error, match=message):
        bregma.ADMMClassifier(**SMALL).fit(*spike_task(), **options)


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (np.zeros((3, 4)), [0, 1, 0, 1], r"X must be time-major \(T, B, n\) without an empty axis, got shape \(3, 4\)"),
        (np.full((3, 4, 2), np.nan), [0, 1, 0, 1], "X must be finite"),
        (np.full((3, 4, 2), -1e39), [0, 1, 0, 1], r"X must be finite in float32, got 1e\+39"),
        (np.zeros((3, 4, 2)), [0, 1, 0], r"y must hold one label for each of 4 samples, got shape \(3,\)"),
        (np.zeros((3, 4, 2)), [1, 1, 1, 1], r"y must hold at least two classes, got \[1\]"),
        (np.zeros((3, 4, 2)), [0.5, 1, 1, 2], r"y must hold labels of classes, got the continuous number 0\.5"),
        (np.zeros((3, 4, 2)), [0, np.nan, 1, 1], r"y must hold labels of classes, got the continuous number nan"),
        (
            np.full((3, 4, 2), 1e20),
            [0, 1, 0, 1],
            "the Gram matrix of 2 inputs of a layer overflows: X or a weight is too large",
        ),
    ],
)
def test_data_are_checked(X, y, message):
    with pytest.raises(ValueError, match=message):
        bregma.ADMMClassifier(**SMALL).fit(X, y)


def test_inputs_must_match_those_of_fit():
    X, y = spike_task()
    model = bregma.ADMMClassifier(**SMALL).fit(X, y)
    with pytest.raises(ValueError, match="X must have 12 inputs as in fit, got 11"):
        model.predict(X[..., 1:])
