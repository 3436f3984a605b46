"""The consistent ADMM in a run folder: that of `ADMMClassifier`, scored as it scores, resumed bit for bit."""

from typing import get_args

import numpy as np
import pytest
import torch
from tiny_runs import assert_same, best_network, everything, start, stop_after

from bregma import sparsity
from bregma.admm import ADMMClassifier, building, checks, layers
from bregma.admm.losses import LossName
from bregma.admm.targets import RULES
from bregma.admm.traces import ReadoutKind
from bregma.data import FrameDataset
from bregma.runs import admm_loop, admm_settings
from bregma.runs.admm_settings import ADMMSettings
from bregma.runs.evaluate import evaluate
from bregma.runs.experiment import Experiment, recipe
from bregma.runs.loop import train
from bregma.runs.smaller import compact_run
from bregma.runs.solvers import build_solver
from bregma.sparsity import nonzero

NAMES = ("hidden.0.linear.weight", "hidden.1.linear.weight", "readout.linear.weight")


def tiny(hidden=(8, 6), seed=0, decay=0.9, density=0.0, recurrent=False, **settings) -> Experiment:
    admm = ADMMSettings(**{"iterations": 10, "measure_every": 3} | settings)
    return recipe(
        "digits", "admm", hidden=hidden, seed=seed, decay=decay, density=density, recurrent=recurrent, admm=admm
    )


def frames(dataset):
    x, labels = dataset.__getitems__(list(range(len(dataset))))
    return x.flatten(2), labels


MINI, FULL = {"batch_size": 16}, {"batch_size": 70}


@pytest.mark.parametrize("settings", [MINI, FULL, {}, MINI | {"loss": "cross_entropy", "readout": "mean"}])
def test_the_run_is_that_of_the_estimator(tmp_path, splits, settings):
    folder = start(tmp_path / "run", splits, tiny(seed=3, **settings))
    summary = train(folder, splits)
    x, labels = frames(splits.train)
    model = ADMMClassifier((8, 6), iterations=10, decay=0.9, random_state=3, **settings).fit(x, labels)
    last, rows = folder.tensors("last"), folder.metrics()
    for name, weight in zip(NAMES, model.weights_, strict=True):
        np.testing.assert_array_equal(last[name].numpy(), weight)
    assert [row["epoch"] for row in rows] == [3, 6, 9, 10]
    assert rows[-1]["train_accuracy"] == model.score(x, labels)
    assert rows[-1]["solver"].keys() == {"loss", "step"}
    assert rows[-1]["solver"]["loss"] == pytest.approx(model.history_[-1]["loss"])
    assert summary["parameters"] == 12 * 8 + 8 * 6 + 6 * 3  # no biases
    assert summary["validation_accuracy"] == max(row["validation_accuracy"] for row in rows)


@pytest.mark.parametrize("readout", ["last", "mean"])
@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("settings", [MINI, FULL])
def test_the_network_of_the_folder_scores_as_the_solver_does(tmp_path, splits, readout, recurrent, settings):
    experiment = tiny(decay=0.8, readout=readout, recurrent=recurrent, **settings)
    folder = start(tmp_path / "run", splits, experiment)
    summary = train(folder, splits)
    solver = build_solver(experiment, splits.train)
    for _ in range(10):
        solver.step()
    x, labels = frames(splits.test)
    net, last = best_network(folder, splits), folder.tensors("last")
    net.load_state_dict(last)
    assert recurrent == bool(last.get("hidden.0.neurons.recurrent.weight", torch.zeros(1)).any())
    torch.testing.assert_close(net(x), solver.scores(x), rtol=1e-4, atol=1e-5)
    assert evaluate(net, splits.test, batch_size=7).accuracy == (net(x).argmax(1) == labels).double().mean().item()
    assert summary["test_accuracy"] == evaluate(best_network(folder, splits), splits.test).accuracy


def test_it_learns(tmp_path, splits):
    summary = train(start(tmp_path / "run", splits, tiny(hidden=(32,), iterations=30)), splits)
    assert summary["test_accuracy"] > 0.9


@pytest.mark.parametrize("steps", [2, 3, 7, 10])
@pytest.mark.parametrize(
    "settings",
    [
        MINI,
        FULL,
        MINI | {"rule": "flips", "readout": "mean", "recurrent": True},
        MINI | {"density": 0.4, "loss": "squared_hinge"},
        FULL | {"density": 0.4, "rule": "dithered"},
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, splits, steps, settings):
    experiment = tiny(**settings)
    whole, cut = (start(tmp_path / name, splits, experiment) for name in ("whole", "cut"))
    train(whole, splits)
    assert train(cut, splits, should_stop=stop_after(steps)) is None
    torch.rand(3)
    assert train(cut, splits, resume=True) is not None
    assert_same(everything(whole), everything(cut))


@pytest.mark.parametrize("settings", [MINI, FULL, MINI | {"iterations": 11}])
def test_a_density_is_met_and_no_denser_network_is_kept(tmp_path, splits, settings):
    folder = start(tmp_path / "run", splits, tiny(hidden=(16,), density=0.3, **{"measure_every": 2} | settings))
    summary = train(folder, splits)
    total = 12 * 16 + 16 * 3
    assert summary["target_density"] == 0.3
    assert nonzero(best_network(folder, splits)) <= round(0.3 * total)
    rows = folder.metrics()
    assert [row["reached"] for row in rows] == [row["nonzero"] <= round(0.3 * total) for row in rows]
    assert all(row["reached"] for row in rows) == (settings == FULL)
    kept = round(0.3 * total) - 16 * 3  # beside the whole readout, of which neurons that are silent have nothing
    assert folder.tensors("last")[NAMES[0]].count_nonzero() == kept


def test_a_sparse_run_becomes_a_smaller_network(tmp_path, splits):
    folder = start(tmp_path / "run", splits, tiny(hidden=(16,), density=0.3, **FULL))
    train(folder, splits)
    figures = compact_run(folder, splits.test, tmp_path / "small")
    assert figures["test_accuracy"]["before"] == figures["test_accuracy"]["after"]
    assert sparsity.density(best_network(folder, splits)) <= 0.3 + 1e-9


def test_mini_batches_are_fetched_one_at_a_time(tmp_path, splits, monkeypatch):
    asked = []
    original = FrameDataset.__getitems__
    monkeypatch.setattr(
        FrameDataset, "__getitems__", lambda self, rows: asked.append(len(rows)) or original(self, rows)
    )
    solver = build_solver(tiny(batch_size=16), splits.train)
    for _ in range(9):
        solver.step()
    assert asked == [16] * 9


def test_an_epoch_lies_between_two_measurements_and_accuracy_is_of_a_part(tmp_path, splits, monkeypatch):
    monkeypatch.setattr(admm_loop, "_MEASURED", 30)
    folder = start(tmp_path / "run", splits, tiny(measure_every=0, iterations=11, **MINI))
    session = admm_loop.ADMMSession(folder, splits)
    assert session.every == 5  # 70 samples
    assert session.measured.labels.bincount().tolist() == [10, 10, 10]
    train(folder, splits)
    assert [row["epoch"] for row in folder.metrics()] == [5, 10, 11]


def test_what_cannot_fit_is_refused_with_the_numbers(tmp_path, splits, monkeypatch):
    monkeypatch.setattr(checks, "available_bytes", lambda: 10_000)
    with pytest.raises(MemoryError, match=r"hidden \(8, 6\) on 16 samples of 6 steps needs .*smaller batch_size"):
        train(start(tmp_path / "run", splits, tiny(**MINI)), splits)


def test_a_diverging_run_says_so_and_keeps_its_checkpoint(tmp_path, splits):
    folder = start(tmp_path / "run", splits, tiny(**MINI))
    train(folder, splits, should_stop=stop_after(3))
    state = folder.state()
    state["solver"]["solver"]["weights"][0][0] = float("inf")
    folder.write_state(state)
    before = (folder.path / "last.pt").read_bytes()
    with pytest.raises(ValueError, match=r"training diverged in iteration 4 \(.*the last checkpoint in .* is kept"):
        train(folder, splits, resume=True)
    assert (folder.path / "last.pt").read_bytes() == before


def test_the_checkpoint_of_another_run_is_refused(tmp_path, splits):
    folder, other = (start(tmp_path / str(n), splits, tiny(hidden=(n,))) for n in (8, 9))
    train(other, splits, should_stop=stop_after(2))
    folder.write_state(other.state())
    with pytest.raises(ValueError, match=r"last.pt: no checkpoint of this run .*weights must be of shapes"):
        train(folder, splits, resume=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"solver": "fast"}, "admm.solver must be one of consistent, paper, got 'fast'"),
        ({"rho": 2.0}, "admm.rho has no meaning for the solver consistent, got 2.0; leave it out"),
        ({"iterations": 0}, "admm.iterations must be >= 1, got 0"),
        ({"batch_size": -1}, "admm.batch_size must be >= 0, 0 for the default, got -1"),
        ({"samples": -1}, "admm.samples must be >= 0, 0 for all, got -1"),
        ({"rule": "jumps"}, "admm.rule must be one of window, dithered, flips"),
        ({"readout": "first"}, "admm.readout must be one of last, mean, got 'first'"),
        ({"loss": "l1"}, "admm.loss must be one of .*, got 'l1'"),
        ({"step": -0.1}, "admm.step must be > 0 and finite, got -0.1"),
        ({"readout_ridge": 0.0}, "admm.readout_ridge must be > 0 and finite, got 0.0"),
    ],
)
def test_a_bad_setting_is_named_before_any_work(settings, message):
    with pytest.raises(ValueError, match=message):
        tiny(**settings)


def test_unset_settings_are_the_defaults_of_the_estimator():
    p, usual = ADMMSettings().parameters(), ADMMClassifier().get_params(deep=False)
    assert p == usual | {"iterations": 1000}
    assert ADMMSettings(solver="paper").parameters() == usual | {"iterations": 1000, "solver": "paper"}
    assert building.batch_of(p, 70_000) == 200


def test_the_choices_are_those_of_the_solver():
    """Written twice, since the command line's settings import no torch."""
    assert set(get_args(admm_settings.Rule)) == set(RULES)
    assert set(get_args(admm_settings.ReadoutKind)) == set(get_args(ReadoutKind))
    assert set(get_args(admm_settings.Loss)) == set(get_args(LossName))


def test_config_holds_what_the_solver_takes(tmp_path, splits):
    experiment = tiny(density=0.5, recurrent=True, rule="dithered")
    folder = start(tmp_path / "run", splits, experiment)
    assert folder.config().experiment == experiment
    assert "rho" not in experiment.to_dict()["admm"]
    assert "warming" in tiny(solver="paper").to_dict()["admm"]


def test_recurrent_layers_are_those_of_the_estimator(tmp_path, splits):
    folder = start(tmp_path / "run", splits, tiny(hidden=(8,), recurrent=True, **FULL))
    train(folder, splits)
    x, labels = frames(splits.train)
    hidden = (layers.Recurrent(8),)
    model = ADMMClassifier(hidden, iterations=10, decay=0.9, **FULL).fit(x, labels)
    last = folder.tensors("last")
    found = torch.cat([last["hidden.0.linear.weight"], last["hidden.0.neurons.recurrent.weight"]], 1)
    np.testing.assert_array_equal(found.numpy(), model.weights_[0])
