"""The paper's ADMM in a run folder: the same solver as `ADMMClassifier`, and a run that resumes bit for bit."""

import json
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from tiny_runs import assert_same, best_network, everything, start, stop_after

from bregma.admm import ADMMClassifier, Settings, checks, forward
from bregma.admm.solver import ADMM
from bregma.runs import admm_settings
from bregma.runs.admm_settings import ADMMSettings
from bregma.runs.evaluate import evaluate
from bregma.runs.experiment import Experiment, recipe
from bregma.runs.loop import train


def tiny(hidden=(8,), seed=0, decay=0.9, **settings) -> Experiment:
    admm = ADMMSettings("paper", **{"iterations": 10, "warming": 4, "measure_every": 3} | settings)
    return recipe("digits", "admm", hidden=hidden, seed=seed, decay=decay, admm=admm)


def frames(dataset):
    x, labels = dataset.__getitems__(list(range(len(dataset))))
    return x.flatten(2), labels


def test_a_run_leaves_what_a_script_wants(tmp_path, splits):
    folder = start(tmp_path / "run", splits, tiny(hidden=(32,), iterations=40, warming=15, start="forward"))
    summary = train(folder, splits)
    assert summary == json.loads((folder.path / "summary.json").read_text())
    assert summary["method"] == "admm"
    assert "lam" not in summary
    assert summary["epochs"] == 40
    assert summary["parameters"] == 12 * 32 + 32 * 3  # no biases
    assert summary["test_accuracy"] > 0.9
    rows = folder.metrics()
    assert [row["epoch"] for row in rows] == [*range(3, 40, 3), 40]
    assert summary["validation_accuracy"] == max(row["validation_accuracy"] for row in rows)
    assert rows[-1]["solver"]["lagrangian"] < rows[0]["solver"]["lagrangian"]
    assert folder.config().experiment == tiny(hidden=(32,), iterations=40, warming=15, start="forward")
    assert "lr" not in (folder.path / "config.toml").read_text()


def test_the_run_is_that_of_the_estimator(tmp_path, splits):
    folder = start(tmp_path / "run", splits, tiny(hidden=(8, 6), seed=3))
    train(folder, splits)
    x, labels = frames(splits.train)
    model = ADMMClassifier((8, 6), solver="paper", iterations=10, warming=4, decay=0.9, random_state=3).fit(x, labels)
    last = folder.tensors("last")
    names = ("hidden.0.linear.weight", "hidden.1.linear.weight", "readout.linear.weight")
    for name, weight in zip(names, model.weights_, strict=True):
        np.testing.assert_array_equal(last[name].numpy(), weight)
    assert folder.metrics()[-1]["train_accuracy"] == model.score(x, labels)


def test_the_network_of_the_folder_scores_as_admm_does(tmp_path, splits):
    experiment = tiny(hidden=(8, 6), decay=0.8)
    folder = start(tmp_path / "run", splits, experiment)
    summary = train(folder, splits)
    net, best = best_network(folder, splits), folder.tensors("best")
    weights = [best[name] for name in best if name.endswith("weight")]
    x, labels = frames(splits.test)
    scores = forward(x, weights, experiment.admm.solver_settings(experiment.decay).constants)
    torch.testing.assert_close(net(x), scores)
    assert summary["test_accuracy"] == (scores.argmax(1) == labels).double().mean().item()
    assert summary["test_accuracy"] == evaluate(net, splits.test, batch_size=7).accuracy


@pytest.mark.parametrize("steps", [2, 3, 7, 10])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"multipliers": "all", "order": "red-black", "penalties": "balanced", "start": "forward"},
        {"anderson": 2, "order": "paper"},
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


def test_the_seed_decides_the_run(tmp_path, splits):
    folders = [start(tmp_path / name, splits, tiny(seed=seed)) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    for folder in folders:
        train(folder, splits)
    first, same, other = map(everything, folders)
    assert_same(first, same)
    assert not torch.equal(first["last"]["readout.linear.weight"], other["last"]["readout.linear.weight"])


def test_samples_are_a_share_of_every_class(tmp_path, splits):
    seen = {}

    def spied(self, x, y, *rest, **named):
        seen["classes"] = y.sum(0).tolist()
        original(self, x, y, *rest, **named)

    original = ADMM.__init__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ADMM, "__init__", spied)
        train(start(tmp_path / "run", splits, tiny(samples=12)), splits)
    assert seen["classes"] == [4.0, 4.0, 4.0]
    with pytest.raises(ValueError, match=r"admm.samples must be <= 70, .* got 71"):
        train(start(tmp_path / "more", splits, tiny(samples=71)), splits)


def test_what_cannot_fit_is_refused_with_the_numbers(tmp_path, splits, monkeypatch):
    monkeypatch.setattr(checks, "available_bytes", lambda: 10_000)
    with pytest.raises(MemoryError, match=r"hidden \(8,\) on 70 samples of 6 steps needs .* GB are free"):
        train(start(tmp_path / "run", splits, tiny()), splits)


def test_a_diverging_run_says_so_and_keeps_its_checkpoint(tmp_path, splits):
    folder = start(tmp_path / "run", splits, tiny())
    train(folder, splits, should_stop=stop_after(3))
    state = folder.state()
    state["solver"]["membranes.0"][0] = float("inf")
    folder.write_state(state)
    before = (folder.path / "last.pt").read_bytes()
    with pytest.raises(
        ValueError, match=r"training diverged in iteration 4 \(the Gram matrix of 8 .*the last checkpoint in .* is kept"
    ):
        train(folder, splits, resume=True)
    assert (folder.path / "last.pt").read_bytes() == before


def test_the_checkpoint_of_another_run_is_refused(tmp_path, splits):
    folder, other = (start(tmp_path / str(n), splits, tiny(hidden=(n,))) for n in (8, 9))
    train(other, splits, should_stop=stop_after(2))
    folder.write_state(other.state())
    with pytest.raises(ValueError, match=r"last.pt: no checkpoint of this run .*weights.0 must be .*\(8, 12\)"):
        train(folder, splits, resume=True)


def test_a_lost_checkpoint_is_named(tmp_path, splits):
    folder = start(tmp_path / "run", splits, tiny())
    train(folder, splits, should_stop=stop_after(4))
    (folder.path / "last.pt").unlink()
    with pytest.raises(FileNotFoundError, match=r"last.pt is missing; without it the run cannot go on"):
        train(folder, splits, resume=True)


@pytest.mark.parametrize(
    "field",
    [
        {"lr": 0.1},
        {"lam": 0.2},
        {"recurrent": True},
        {"density": 0.1},
        {"epochs": 5},
        {"readout_decay": 0.5},
        {"shift": 1},
    ],
)
def test_settings_without_meaning_are_refused(field):
    (name,) = field
    paper = " with the solver paper" if name in ("recurrent", "density") else ""
    with pytest.raises(ValueError, match=f"{name} has no meaning for the method admm{paper}, got .*; leave it out"):
        recipe("digits", "admm", "paper", **field)


def test_other_methods_refuse_the_settings_of_admm():
    with pytest.raises(ValueError, match=r"admm.rho has no meaning for the method adabreg, got 2.0"):
        Experiment(admm=ADMMSettings(rho=2.0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"iterations": 0}, "admm.iterations must be >= 1, got 0"),
        ({"measure_every": -1}, "admm.measure_every must be >= 0, 0 for an epoch or 10, got -1"),
        ({"step": 0.1}, "admm.step has no meaning for the solver paper, got 0.1; leave it out"),
        ({"samples": -1}, "admm.samples must be >= 0, 0 for all, got -1"),
        ({"rho": 0.0}, "admm.rho must be > 0 and finite, got 0.0"),
        ({"warming": -1}, "admm.warming must be >= 0, got -1"),
        ({"order": "fast"}, "admm.order must be one of .*, got 'fast'"),
        ({"start": "zero"}, "admm.start must be one of uniform, forward, got 'zero'"),
    ],
)
def test_a_bad_setting_is_named_before_any_work(settings, message):
    with pytest.raises(ValueError, match=message):
        tiny(**settings)


@pytest.mark.parametrize(("name", "value", "wanted"), [("rho", "much", "a number"), ("iterations", 2.5, "an integer")])
def test_a_setting_of_the_wrong_type_is_named(name, value, wanted):
    with pytest.raises(TypeError, match=f"admm.{name} must be {wanted}, got"):
        tiny(**{name: value})


def test_unknown_settings_in_a_config_are_named():
    values = tiny().to_dict()
    assert Experiment.from_dict(values) == tiny()
    with pytest.raises(ValueError, match="admm has no field 'rhoo'"):
        Experiment.from_dict(values | {"admm": {"rhoo": 1.0}})
    with pytest.raises(TypeError, match="admm must be an ADMMSettings, got 3"):
        Experiment.from_dict(values | {"admm": 3})


def test_the_choices_are_those_of_the_solver():
    """Written twice, since the command line's settings import no torch."""
    own, solvers = get_type_hints(ADMMSettings, vars(admm_settings) | {"Settings": Settings}), get_type_hints(Settings)
    shared = own.keys() & solvers.keys()
    assert {name for name in shared if get_args(own[name])} == {
        "order", "loss", "spike_update", "multipliers", "readout_update", "penalties",
    }  # fmt: skip
    for name in shared:
        assert sorted(get_args(own[name])) == sorted(get_args(solvers[name])), name


def test_the_defaults_are_those_of_the_solver():
    settings = ADMMSettings("paper").solver_settings(0.95)
    assert settings == Settings()
