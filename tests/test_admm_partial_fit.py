"""`ADMMClassifier.partial_fit` after parameters changed, after another fit, and after a call that was refused."""

import numpy as np
import pytest
from estimator_cases import spike_task

import bregma
from bregma.admm import ConsistentADMM, checks
from bregma.admm.solver import ADMM

TINY = {"solver": "consistent", "hidden": (20,), "iterations": 6, "warming": 300}  # warming: its default
PAPER = {"solver": "paper", "hidden": (20,), "iterations": 20, "warming": 10}


def constants(model):
    """Those that the solver now runs with."""
    solver = model._running.solver
    return (solver.settings if model.solver == "consistent" else solver.solver.settings).constants


@pytest.mark.parametrize("options", [TINY, PAPER])
def test_changed_parameters_reach_the_solver_and_the_weights_stay(options):
    X, y = spike_task(samples=90, steps=20)
    model = bregma.ADMMClassifier(**options).fit(X, y)
    before = [weight.copy() for weight in model.weights_]
    model.set_params(decay=0.9).partial_fit(X, y)
    assert constants(model).decay == 0.9
    assert model.n_iter_ == options["iterations"] + 1
    moved = np.linalg.norm(model.weights_[0] - before[0]) / np.linalg.norm(before[0])
    assert 0 < moved < 0.5  # a start anew would move it by more than its norm


@pytest.mark.parametrize("options", [TINY, PAPER])
def test_another_network_starts_anew(options):
    X, y = spike_task()
    model = bregma.ADMMClassifier(**options).fit(X, y).set_params(hidden=(4, 4))
    with pytest.raises(ValueError, match=r"hidden must be as in fit, which learnt .*\(20, 12\).*, got \(4, 4\)"):
        model.predict(X)
    model.partial_fit(X, y)
    assert [weight.shape for weight in model.weights_] == [(4, 12), (4, 4), (3, 4)]
    assert (model.n_iter_, model.history_) == (1, [])
    fresh = bregma.ADMMClassifier(**{**options, "hidden": (4, 4)}).partial_fit(X, y)
    assert all(map(np.array_equal, model.weights_, fresh.weights_))


@pytest.mark.parametrize(("first", "then"), [(TINY, PAPER), (PAPER, TINY)])
def test_the_last_fit_is_what_a_stream_goes_on_from(first, then):
    X, y = spike_task(samples=90, steps=20)
    model = bregma.ADMMClassifier(**first).fit(X, y).set_params(**then).fit(X, y)
    weights = [weight.copy() for weight in model.weights_]
    model.set_params(**first).partial_fit(X, y)
    assert model.n_iter_ == then["iterations"] + 1
    assert np.linalg.norm(model.weights_[0] - weights[0]) < 0.7 * np.linalg.norm(weights[0])


def test_a_stream_keeps_its_sums_while_nothing_that_they_depend_on_changes():
    X, y = spike_task()
    model = bregma.ADMMClassifier(**TINY).fit(X, y)
    solver = model._running.solver
    assert isinstance(solver, ConsistentADMM)
    model.set_params(step=0.01, iterations=9, batch_size=7, verbose=True).partial_fit(X, y)
    assert model._running.solver is solver
    assert model.set_params(coding=(-1, 1)).partial_fit(X, y)._running.solver is not solver


def test_a_buffer_that_is_filled_anew_is_other_data():
    X, y = spike_task()
    buffer = X.astype(np.float32)
    model = bregma.ADMMClassifier(**PAPER).partial_fit(buffer, y)
    solver = model._running.solver
    assert isinstance(solver.solver, ADMM)
    assert model.partial_fit(buffer, y)._running.solver is solver
    buffer[:] = spike_task(seed=2)[0]
    assert model.partial_fit(buffer, y)._running.solver is not solver


@pytest.mark.parametrize("options", [TINY, PAPER])
def test_a_refused_call_changes_nothing(options, monkeypatch):
    X, y = spike_task()
    model = bregma.ADMMClassifier(**options).fit(X, y)
    before, scores = dict(vars(model)), model.decision_function(X)

    def refused(call, error=ValueError):
        with pytest.raises(error):
            call()
        assert vars(model).keys() == before.keys()
        assert all(value is before[name] for name, value in vars(model).items())

    refused(lambda: model.partial_fit(X[..., 1:], y))
    refused(lambda: model.partial_fit(X, np.where(y == "ant", "dog", y)))
    refused(lambda: model.partial_fit(X, y, classes=["ant", "bee", "dog", "eel"]))
    refused(lambda: model.fit(X[..., 1:], np.zeros(36)))
    refused(lambda: model.fit(X.astype(str), y), TypeError)
    refused(lambda: model.partial_fit(X + 0j, y), TypeError)
    refused(lambda: model.fit(X[..., 1:], y == "ant", validation=(X, y == "ant")))
    monkeypatch.setattr(checks, "available_bytes", lambda: 10_000)
    refused(lambda: model.fit(X[..., 1:], y == "ant"), MemoryError)
    refused(lambda: model.partial_fit(X[:, ::-1], y), MemoryError)
    monkeypatch.undo()
    assert np.array_equal(model.decision_function(X), scores)
    with pytest.raises(ValueError, match="X must have 12 inputs as in fit, got 11"):
        model.partial_fit(X[..., 1:], y)
    with pytest.raises(ValueError, match=r"classes must be those of the first call, \['ant'"):
        model.partial_fit(X, y, classes=["ant"])
    fresh = bregma.ADMMClassifier(**options)
    with pytest.raises(ValueError, match="y must hold one label"):
        fresh.partial_fit(X, y[1:])
    assert not [name for name in vars(fresh) if name.endswith("_")]


def test_a_stream_may_begin_with_silence():
    X, y = spike_task(samples=90, steps=20)
    model = bregma.ADMMClassifier((30,)).partial_fit(0 * X, y)
    assert max(np.abs(weight).max() for weight in model.weights_[:-1]) < 5
    for _ in range(20):
        model.partial_fit(X, y)
    assert model.score(X, y) >= 0.9


def test_an_iteration_that_fails_midway_leaves_the_weights_to_go_on_from(monkeypatch):
    X, y = spike_task()
    model = bregma.ADMMClassifier(**TINY).fit(X, y)
    weights, broken = [weight.copy() for weight in model.weights_], model._running.solver

    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ConsistentADMM, "take_layers", fail)
        with pytest.raises(KeyboardInterrupt):
            model.partial_fit(X[:, ::2], y[::2])
    assert all(map(np.array_equal, model.weights_, weights))
    assert model.partial_fit(X, y).n_iter_ == 7
    assert model._running.solver is not broken


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"classes": 5}, ValueError, r"classes must be a list of labels, got shape \(\)"),
        ({"classes": ["a", None, 3]}, TypeError, "classes must hold labels that can be sorted, got"),
        ({"y": [None, "a"]}, TypeError, "y must hold labels that can be sorted, got"),
        ({"X": np.full((4, 2, 3), "a")}, TypeError, "X must hold real numbers, got <U1"),
    ],
)
def test_labels_and_frames_of_the_wrong_kind_are_named(given, kind, message):
    model = bregma.ADMMClassifier(**TINY)
    with pytest.raises(kind, match=message):
        model.partial_fit(**{"X": np.ones((4, 2, 3)), "y": [0, 1]} | given)
