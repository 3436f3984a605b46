"""`ADMMClassifier` with its default solver: habits of scikit-learn, streams, checkpoints."""

import pickle

import numpy as np
import pytest
import torch
from estimator_cases import spike_task
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

import bregma
from bregma.admm import Convolution, Delayed, Dithered, Recurrent, checks
from bregma.admm.training import ConsistentTraining

SMALL = {"hidden": (20, 16), "iterations": 6}
BATCHES = {"hidden": (20, 16), "iterations": 12, "batch_size": 12}


def same_weights(ours, theirs):
    return all(map(np.array_equal, ours.weights_, theirs.weights_))


@pytest.mark.parametrize("options", [SMALL, BATCHES])
def test_learns_a_simple_task_and_generalises(options):
    X, y = spike_task(samples=90, steps=20)
    model = bregma.ADMMClassifier(**options).fit(X, y)
    assert model.score(X, y) >= 0.95
    assert model.score(*spike_task(samples=90, steps=20, seed=1)) >= 0.8  # chance is a third
    assert model.n_iter_ == options["iterations"]


def test_epochs_are_counted_if_iterations_are_not_named():
    X, y = spike_task()
    assert bregma.ADMMClassifier((8,)).fit(X, y).n_iter_ == 10
    model = bregma.ADMMClassifier((8,), batch_size=10).fit(X, y)
    assert model.n_iter_ == 40
    assert [point["iteration"] for point in model.history_] == list(range(4, 41, 4))


def test_layouts_and_types_give_the_same_model():
    X, y = spike_task()
    models = [
        bregma.ADMMClassifier(**options).fit(frames, y)
        for options, frames in [
            (BATCHES, X),
            (BATCHES, torch.from_numpy(X).double()),
            ({**BATCHES, "layout": "batch-major"}, X.swapaxes(0, 1).astype(np.uint8)),
        ]
    ]
    assert same_weights(models[0], models[1])
    assert same_weights(models[0], models[2])


def test_habits_of_scikit_learn():
    X, y = spike_task()
    model = bregma.ADMMClassifier((8,), iterations=2, layout="batch-major", rule=Dithered(margin=0.2))
    assert clone(model).get_params() == model.get_params()
    assert len(cross_val_score(model, X.swapaxes(0, 1), y, cv=3)) == 3
    assert bregma.ADMMClassifier((8,), iterations=2).fit(X, y == "ant").decision_function(X).shape == (36,)


@pytest.mark.parametrize("options", [SMALL, BATCHES])
def test_history_holds_true_accuracies_and_measuring_changes_nothing(options):
    X, y = spike_task()
    model = bregma.ADMMClassifier(**options, measure_every=2).fit(X, y, validation=spike_task(seed=1))
    last = model.history_[-1]
    assert last["train_accuracy"] == model.score(X, y)
    assert last["validation_accuracy"] == model.score(*spike_task(seed=1))
    assert same_weights(model, bregma.ADMMClassifier(**options, measure_every=100).fit(X, y))


@pytest.mark.parametrize("options", [SMALL, BATCHES])
@pytest.mark.parametrize("rule", ["window", "flips"])
def test_a_checkpoint_repeats_the_run_bit_by_bit(tmp_path, monkeypatch, options, rule):
    X, y = spike_task()
    options, path = {**options, "rule": rule}, tmp_path / "run.pt"
    whole = bregma.ADMMClassifier(**options, measure_every=3).fit(X, y)

    def interrupted(training):
        if training.iteration == 5:
            raise KeyboardInterrupt
        step(training)

    step = ConsistentTraining.step
    monkeypatch.setattr(ConsistentTraining, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bregma.ADMMClassifier(**options, measure_every=3).fit(X, y, checkpoint=path, checkpoint_every=4)
    monkeypatch.setattr(ConsistentTraining, "step", step)
    resumed = bregma.ADMMClassifier(**options, measure_every=3).fit(X, y, checkpoint=path)
    assert same_weights(resumed, whole)
    assert resumed.history_[-1] == whole.history_[-1]
    with pytest.raises(ValueError, match=r"run.pt is of other data or parameters"):
        bregma.ADMMClassifier(**options, step=0.2).fit(X, y, checkpoint=path)


def test_a_schedule_cannot_be_made_longer_by_a_checkpoint(tmp_path):
    X, y = spike_task()
    path = tmp_path / "run.pt"
    bregma.ADMMClassifier(**BATCHES).fit(X, y, checkpoint=path)
    with pytest.raises(ValueError, match=r"run.pt is of other data or parameters"):
        bregma.ADMMClassifier(**{**BATCHES, "iterations": 20}).fit(X, y, checkpoint=path)
    path.unlink()
    bregma.ADMMClassifier(**SMALL).fit(X, y, checkpoint=path)
    longer = {**SMALL, "iterations": 9}
    assert same_weights(
        bregma.ADMMClassifier(**longer).fit(X, y, checkpoint=path), bregma.ADMMClassifier(**longer).fit(X, y)
    )


def test_a_stream_is_learnt_by_partial_fit():
    model = bregma.ADMMClassifier((20,))
    for k in range(20):
        model.partial_fit(*spike_task(steps=20, seed=k), classes=["ant", "bee", "cat"])
    assert model.n_iter_ == 20
    assert model.score(*spike_task(samples=90, steps=20, seed=100)) >= 0.85
    with pytest.raises(ValueError, match="class_weight must be None or a dict in partial_fit, got 'balanced'"):
        bregma.ADMMClassifier(class_weight="balanced").partial_fit(*spike_task())


def test_partial_fit_goes_on_after_fit_and_after_a_pickle():
    X, y = spike_task(samples=90, steps=20)
    model = bregma.ADMMClassifier(**SMALL).fit(X, y)
    before = model.score(X, y)
    data = pickle.dumps(model)
    assert len(data) < 20_000  # the weights, neither data nor statistics
    copy = pickle.loads(data)
    assert np.array_equal(copy.decision_function(X), model.decision_function(X))
    for one in (model, copy):
        one.partial_fit(*spike_task(samples=90, steps=20, seed=2))
        assert one.n_iter_ == 7
        assert one.score(X, y) >= before - 0.2


def test_rare_classes_count_more_if_balanced():
    X, y = spike_task(samples=120, steps=3)
    rows = np.flatnonzero((y != "cat") | (np.arange(120) < 12))
    X, y = X[:, rows], y[rows]
    unseen, labels = spike_task(samples=120, steps=3, seed=1)
    found = []
    for weights in (None, "balanced", {"ant": 1.0, "bee": 1.0, "cat": 20.0}):
        model = bregma.ADMMClassifier((10,), iterations=3, class_weight=weights).fit(X, y)
        found.append((model.predict(unseen)[labels == "cat"] == "cat").mean())
    assert found[1] > found[0]
    assert found[2] > found[0]
    with pytest.raises(ValueError, match=r"class_weight must be > 0 for at least one class, got \{'ant': 0"):
        bregma.ADMMClassifier((10,), class_weight={"ant": 0, "bee": 0, "cat": 0}).fit(X, y)
    with pytest.raises(ValueError, match="class_weight='balanced' has no meaning with solver='paper'; leave it out"):
        bregma.ADMMClassifier(solver="paper", class_weight="balanced").fit(X, y)


@pytest.mark.parametrize(
    "hidden",
    [(Recurrent(12, delays=(1, 3)),), (Delayed(12, delays=(0, 2)), 10), (Convolution(4, 3), 10)],
)
def test_other_layers_are_trained_and_predict(hidden):
    X, y = spike_task(samples=90, steps=20)
    frame_shape = (1, 4, 3) if isinstance(hidden[0], Convolution) else None
    model = bregma.ADMMClassifier(hidden, frame_shape=frame_shape, iterations=6).fit(X, y)
    assert model.score(X, y) >= 0.9
    with pytest.raises(ValueError, match="hidden must hold numbers of neurons or convolutions with solver='paper'"):
        bregma.ADMMClassifier((Recurrent(4),), solver="paper").fit(X, y)


def test_what_does_not_fit_is_refused_with_numbers(monkeypatch):
    monkeypatch.setattr(checks, "available_bytes", lambda: 10_000)
    with pytest.raises(MemoryError, match=r"hidden \(20, 16\) on 36 samples of 10 steps needs .* smaller batch_size"):
        bregma.ADMMClassifier(**SMALL).fit(*spike_task())


def test_the_progress_bar_shows_measurements(capsys):
    bregma.ADMMClassifier(**SMALL, verbose=True).fit(*spike_task())
    shown = capsys.readouterr().err
    assert "6/6" in shown
    assert "train" in shown
