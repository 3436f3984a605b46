"""`ADMMClassifier` with the paper's solver: habits of scikit-learn, true accuracy, checkpoints."""

import ast
import inspect
import pickle
import re

import numpy as np
import pytest
import torch
from estimator_cases import SMALL, spike_task
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.utils import get_tags

import bregma
from bregma.admm import Convolution, Delayed, Recurrent
from bregma.nn import SpikingMLP


def test_learns_a_simple_task_and_generalises():
    X, y = spike_task()
    model = bregma.ADMMClassifier(**{**SMALL, "iterations": 200}).fit(X, y)
    assert model.score(X, y) >= 0.7  # chance is a third
    assert model.score(*spike_task(seed=1)) >= 0.6
    assert model.classes_.tolist() == ["ant", "bee", "cat"]
    assert model.n_iter_ == 200


def test_scores_are_those_of_the_same_network_in_torch():
    X, y = spike_task()
    model = bregma.ADMMClassifier(solver="paper", hidden=(20, 15), iterations=5).fit(X, y)
    net = SpikingMLP(12, (20, 15), 3, decay=model.decay, readout_decay=model.decay, threshold=model.threshold)
    with torch.no_grad():
        for layer, weight in zip([*net.hidden, net.readout], model.weights_, strict=True):
            layer.linear.weight.copy_(torch.from_numpy(weight))
            layer.linear.bias.zero_()
        x = torch.from_numpy(X).float()
        for layer in net.hidden:
            x, _ = layer(x)
        last = net.readout(x)[0][-1]
    assert np.allclose(model.decision_function(X), last.numpy(), rtol=0, atol=1e-4)


def test_layouts_and_types_give_the_same_model():
    X, y = spike_task()
    codes = np.array([{"ant": 7, "bee": -1, "cat": 3}[label] for label in y])
    models = [
        bregma.ADMMClassifier(**SMALL).fit(X, y),
        bregma.ADMMClassifier(**SMALL).fit(torch.from_numpy(X).double(), list(y)),
        bregma.ADMMClassifier(**SMALL, layout="batch-major").fit(X.swapaxes(0, 1).astype(np.uint8), y),
    ]
    for model in models[1:]:
        for ours, theirs in zip(model.weights_, models[0].weights_, strict=True):
            assert np.array_equal(ours, theirs)
    assert set(bregma.ADMMClassifier(**SMALL).fit(X, codes).predict(X)) <= {7, -1, 3}


def test_habits_of_scikit_learn():
    X, y = spike_task()
    hidden = [20]
    model = bregma.ADMMClassifier(hidden, solver="paper", iterations=10, layout="batch-major")
    assert model.hidden is hidden
    assert clone(model).get_params() == model.get_params()
    tags = get_tags(model).input_tags
    assert (tags.three_d_array, tags.two_d_array) == (True, False)
    assert model.set_params(sigma=0.3, hidden=(8,)).sigma == 0.3
    assert len(cross_val_score(model, X.swapaxes(0, 1), y, cv=3)) == 3
    with pytest.raises(NotFittedError):
        model.predict(X)


def test_every_default_is_said():
    said = bregma.ADMMClassifier.__doc__.partition("Args:")[2].partition("Attributes:")[0]
    entries = dict(re.findall(r"^        (\w+): (.*?)(?=^        \w|\Z)", said, re.DOTALL | re.MULTILINE))
    parameters = inspect.signature(bregma.ADMMClassifier).parameters
    assert list(entries) == list(parameters)
    for name, parameter in parameters.items():
        default = re.search(r"Default:\s+(\(.*?\)|[^\s,]+?)[.,]?(\s|$)", entries[name])[1]
        written = default if isinstance(parameter.default, str) else ast.literal_eval(default)
        assert written == (f'"{parameter.default}"' if isinstance(parameter.default, str) else parameter.default), name


def test_two_classes_have_one_score():
    X, y = spike_task()
    model = bregma.ADMMClassifier(**SMALL).fit(X, y == "ant")
    scores = model.decision_function(X)
    assert scores.shape == (36,)
    assert np.array_equal(model.predict(X), scores > 0)


def test_a_forward_start_is_that_of_random_weights():
    X, y = spike_task(samples=60, steps=20)
    options = {"solver": "paper", "hidden": (30, 30), "iterations": 1, "order": "paper"}
    fractions = {}
    for init in ("uniform", "forward"):
        model = bregma.ADMMClassifier(**options, init=init).fit(X, y)
        residuals = model.history_[-1]["membrane_residuals"]
        fractions[init] = residuals[0] + residuals[1]
    assert fractions["forward"] < 0.2 * fractions["uniform"]


def test_all_settings_reach_the_solver():
    X, y = spike_task()
    options = {"order": "paper", "loss": "squared_hinge", "relaxation": 1.2, "multipliers": "all", "anderson": 2}
    options |= {"readout_update": "exact", "penalties": "balanced", "sigma": 0.3, "warming": 3}
    model = bregma.ADMMClassifier((8,), solver="paper", iterations=6, **options).fit(X, y)
    for name, value in options.items():
        settings = model._running.solver.solver.settings
        assert getattr(settings.constants if name == "sigma" else settings, name) == value


def test_history_holds_true_accuracies():
    X, y = spike_task()
    model = bregma.ADMMClassifier(**SMALL).fit(X, y, validation=spike_task(seed=1))
    assert [point["iteration"] for point in model.history_] == [20, 40]
    last = model.history_[-1]
    assert last["train_accuracy"] == model.score(X, y)
    assert last["validation_accuracy"] == model.score(*spike_task(seed=1))
    assert {"lagrangian", "loss", "primal", "membrane_residuals", "spike_residuals"} <= set(last)


def test_a_checkpoint_repeats_the_run_bit_by_bit(tmp_path):
    X, y = spike_task()
    path = tmp_path / "new" / "run.pt"
    whole = bregma.ADMMClassifier(**SMALL).fit(X, y)
    bregma.ADMMClassifier(**{**SMALL, "iterations": 23}).fit(X, y, checkpoint=path, checkpoint_every=7)
    resumed = bregma.ADMMClassifier(**SMALL).fit(X, y, checkpoint=path)
    for ours, theirs in zip(resumed.weights_, whole.weights_, strict=True):
        assert np.array_equal(ours, theirs)
    assert [point for point in resumed.history_ if point["iteration"] != 23] == whole.history_
    with pytest.raises(ValueError, match=r"run.pt is of other data or parameters; give another path or remove it"):
        bregma.ADMMClassifier(**SMALL, sigma=0.2).fit(X, y, checkpoint=path)
    with pytest.raises(ValueError, match=r"run.pt is of other data"):
        bregma.ADMMClassifier(**SMALL).fit(X, y[::-1], checkpoint=path)
    path.write_bytes(b"torn")
    with pytest.raises(ValueError, match=r"run.pt: not a readable checkpoint"):
        bregma.ADMMClassifier(**SMALL).fit(X, y, checkpoint=path)


def test_partial_fit_goes_on_where_it_stopped():
    X, y = spike_task()
    whole = bregma.ADMMClassifier(**{**SMALL, "iterations": 3}).fit(X, y)
    steps = bregma.ADMMClassifier(**SMALL)
    for _ in range(3):
        steps.partial_fit(X, y)
    assert steps.n_iter_ == 3
    for ours, theirs in zip(steps.weights_, whole.weights_, strict=True):
        assert np.array_equal(ours, theirs)


def test_partial_fit_carries_weights_to_other_data():
    X, y = spike_task()
    model = bregma.ADMMClassifier(**{**SMALL, "iterations": 100}).fit(X, y)
    before = model.score(X, y)
    model.partial_fit(*spike_task(seed=2))
    assert model.n_iter_ == 101
    assert model.score(X, y) >= before - 0.3  # and not the 1/3 of a fresh start
    with pytest.raises(ValueError, match="y must hold labels among the classes"):
        model.partial_fit(X, np.where(y == "ant", "dog", y))


def test_a_pickled_model_predicts_the_same_and_can_go_on():
    X, y = spike_task()
    model = bregma.ADMMClassifier(**SMALL).fit(X, y)
    data = pickle.dumps(model)
    assert len(data) < 20_000  # the weights, not the membranes and spikes of all samples
    copy = pickle.loads(data)
    assert np.array_equal(copy.decision_function(X), model.decision_function(X))
    assert copy.partial_fit(X, y).n_iter_ == 41


@pytest.mark.parametrize("solver", ["paper", "consistent"])
def test_integers_of_numpy_are_integers(tmp_path, solver):
    X, y = spike_task()
    ours, theirs = (
        bregma.ADMMClassifier(
            hidden, solver=solver, iterations=kind(2), random_state=kind(3), frame_shape=(1, kind(4), 3)
        ).fit(X, y, checkpoint=tmp_path / "run.pt")  # the second one finds its checkpoint
        for kind, hidden in ((int, (8, 4)), (np.int64, np.array([8, 4])))
    )
    assert all(map(np.array_equal, ours.weights_, theirs.weights_))
    assert Convolution(np.int64(2), np.int64(3)) == Convolution(2, 3)
    assert type(Recurrent(np.int64(2), [np.int64(3)]).delays[0]) is int
    for make, name in ((lambda: Convolution(2, 1.5), "kernel"), (lambda: Delayed(1.5), "neurons")):
        with pytest.raises(TypeError, match=f"{name} must be an integer >= 1, got 1.5"):
            make()
    with pytest.raises(TypeError, match="delays must be a sequence of integers, got 2"):
        Delayed(3, 2)


def test_numbers_of_any_kind_are_data():
    X, y = spike_task()
    models = [
        bregma.ADMMClassifier(**SMALL).fit(x, y)
        for x in (X, X.astype(">f4"), torch.tensor(X, dtype=torch.float32, requires_grad=True), X.astype(bool))
    ]
    assert all(np.array_equal(models[0].weights_[0], model.weights_[0]) for model in models)
    for x, message in [
        (torch.tensor(X).to(torch.complex64), r"X must hold real numbers, got torch\.complex64"),
        (torch.tensor(X).float().to_sparse(), r"X must be a dense tensor, got torch\.sparse_coo"),
        (X.astype(str), "X must hold real numbers, got <U5"),
        (X.astype(np.longdouble), "X must hold numbers of at most 64 bits, got float128"),
    ]:
        with pytest.raises(TypeError, match=message):
            bregma.ADMMClassifier(**SMALL).fit(x, y)


def test_the_progress_bar_shows_measurements(capsys):
    X, y = spike_task()
    bregma.ADMMClassifier(**SMALL, verbose=True).fit(X, y)
    shown = capsys.readouterr().err
    assert "40/40" in shown
    assert "train" in shown
