"""Networks with learned delays in a run: two learning rates, the spread, rounding, recipes, resuming."""

import dataclasses
import gzip

import numpy as np
import pytest
import torch
from shared_data import FIXTURES
from tiny_runs import assert_same, everything, start, stop_after, tiny

from bregma.cli import main
from bregma.data import DenseFrames, Splits
from bregma.dynamics import spread_at
from bregma.nn.delrec import ARCHITECTURES, DelRec
from bregma.runs import build, delays, loop
from bregma.runs.evaluate import evaluate
from bregma.runs.experiment import Experiment
from bregma.runs.folder import RunFolder, describe
from bregma.runs.loop import Session, train
from bregma.runs.recipes import read_recipe, recipe_names
from bregma.runs.smaller import compact_run

NETWORKS = {"delrec_shd": (8, 8), "delrec_ssc": (8, 8, 8), "delrec_psmnist": (6, 8, 8)}


def small(network="delrec_psmnist", **settings) -> Experiment:
    start = {} if settings.get("density") or settings.get("method") in ("adam", "adamw") else {"init": "anchored"}
    return tiny(**{"network": network, "hidden": NETWORKS[network], "clip": 0.0} | start | settings)


def session(tmp_path, splits, **settings) -> Session:
    return Session(start(tmp_path / "run", splits, small(**settings)), splits)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, splits, network):
    """Dropout draws from torch's generator, the spread follows from the step: both must come back."""
    whole = start(tmp_path / "whole", splits, small(network))
    train(whole, splits)
    cut = start(tmp_path / "cut", splits, small(network))
    assert train(cut, splits, should_stop=stop_after(2)) is None
    torch.manual_seed(99)
    assert train(cut, splits, resume=True) is not None
    assert_same(everything(whole), everything(cut))


def test_weights_and_delays_are_two_families_of_one_optimizer(tmp_path, splits):
    made = session(tmp_path, splits, delay_lr=0.5, lr=0.02, schedule="constant", delay_schedule="cosine")
    names = {id(p): name for name, p in made.net.named_parameters()}
    rates = {names[id(p)]: group["initial_lr"] for group in made.optimizer.param_groups for p in group["params"]}
    assert rates.keys() == set(names.values())
    assert {name for name, lr in rates.items() if lr == 0.5} == {
        f"hidden.{k}.neurons.{what}" for k in range(3) for what in ("delays", "p_spread")
    }
    assert {lr for lr in rates.values()} == {0.5, 0.02}
    matrices = {names[id(p)] for group in made.optimizer.param_groups if group["lam"] for p in group["params"]}
    assert matrices == {name for name, p in made.net.named_parameters() if p.ndim == 2}
    for _ in range(10**4):
        made.optimizer.step()
        made.schedule.step()
    ends = {group["initial_lr"]: group["lr"] for group in made.optimizer.param_groups}
    assert ends[0.02] == 0.02
    assert ends[0.5] == pytest.approx(5e-4)


@pytest.mark.parametrize(
    ("method", "density", "shrinks"),
    [("adamw", 0.0, True), ("adam", 0.0, False), ("adabreg", 0.1, False), ("gmp", 0.1, False)],
)
def test_weight_decay_is_of_the_matrices_alone(tmp_path, splits, method, density, shrinks):
    made = session(tmp_path, splits, method=method, density=density, weight_decay=0.5, lr=0.1, schedule="constant")
    before = {name: p.detach().clone() for name, p in made.net.named_parameters()}
    for p in made.net.parameters():
        p.grad = torch.zeros_like(p)
    made.optimizer.step()
    for name, p in made.net.named_parameters():
        if p.ndim < 2:
            assert torch.equal(p, before[name]), name
        elif shrinks:
            torch.testing.assert_close(p.detach(), 0.95 * before[name])
        else:  # added to the gradient, which the method then scales to steps of lr
            torch.testing.assert_close((before[name] - p.detach()).abs().median(), torch.tensor(0.1))


def test_the_spread_shrinks_and_the_checkpoint_holds_it(tmp_path, splits, monkeypatch):
    seen = []
    monkeypatch.setattr(loop, "begin_step", lambda net, done: (seen.append(done), delays.begin_step(net, done)))
    folder = start(tmp_path / "run", splits, small(epochs=2))
    train(folder, splits)
    steps = len(seen)
    assert seen == pytest.approx([k / steps for k in range(steps)])
    assert folder.tensors("last")["hidden.0.neurons.spread"].item() == pytest.approx(spread_at(seen[-1]))


def test_what_is_made_smaller_is_the_network_that_is_evaluated(tmp_path, splits):
    folder = start(tmp_path / "run", splits, small(epochs=1, lr=0.1))
    summary = train(folder, splits)
    found = RunFolder(folder.path).tensors("best")
    assert any((delay != delay.round()).any() for name, delay in found.items() if name.endswith("delays"))
    figures = compact_run(folder, splits.test, tmp_path / "small")
    assert figures["test_accuracy"]["before"] == summary["test_accuracy"]
    delay = RunFolder(tmp_path / "small").tensors("compact")["hidden.0.neurons.delays"]
    assert torch.equal(delay, delay.round())


def test_delays_stay_in_their_range(tmp_path, splits):
    made = session(tmp_path, splits, delay_lr=50.0, delay_schedule="constant")
    x, labels = splits.train.__getitems__(list(range(6)))
    for _ in range(3):
        loop._step(made, x, labels, 1.0)
    found = torch.cat([layer.delays for layer in made.net.delayed_layers()])
    assert found.min() >= 0
    assert found.max() <= 60
    assert ((found == 0) | (found == 60)).any()


def test_scores_are_those_of_whole_delays_and_both_are_told(tmp_path, splits):
    folder = start(tmp_path / "run", splits, small())
    summary = train(folder, splits)
    net = build.build_network(folder.config())
    build.load_weights(net, folder.tensors("best"), splits.test)
    fractional = torch.cat([layer.delays for layer in net.delayed_layers()])
    assert not torch.equal(fractional, fractional.round())  # what is saved can be trained on
    trained = evaluate(net, splits.test, inference=False)
    assert summary["test_loss_with_spread"] == pytest.approx(trained.loss)
    net.round_delays_()
    whole = evaluate(net, splits.test, inference=False)
    assert summary["test_loss"] == pytest.approx(whole.loss)
    assert all({"validation_loss_with_spread", "validation_accuracy_with_spread"} <= r.keys() for r in folder.metrics())


def test_whole_delays_and_a_spread_are_told_apart(tmp_path, splits):
    net = session(tmp_path, splits).net
    for layer in net.hidden:
        torch.nn.init.constant_(layer.linear.weight, 0.5)  # lively enough to hear each other in six steps
        torch.nn.init.constant_(layer.neurons.recurrent.weight, 0.3)
        torch.nn.init.constant_(layer.neurons.delays, 0.4)
    whole, smeared = evaluate(net, splits.test), evaluate(net, splits.test, inference=False)
    assert whole.firing_rates != smeared.firing_rates
    assert (net.hidden[0].neurons.delays == 0.4).all()


def test_rounding_while_training_is_that_of_the_published_code(tmp_path, splits):
    folder = start(tmp_path / "run", splits, small(rounding="training", epochs=2))
    train(folder, splits)
    last = folder.tensors("last")
    assert all(torch.equal(t, t.round()) for name, t in last.items() if name.endswith("delays"))
    assert last["hidden.0.neurons.spread"] > 0


def test_a_density_is_met(tmp_path, splits):
    folder = start(tmp_path / "run", splits, small(density=0.2, epochs=4))
    assert train(folder, splits)["density"] == pytest.approx(0.2, abs=0.005)


# --- recipes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_name_the_published_network(name):
    experiment = Experiment(**read_recipe(name))
    published = ARCHITECTURES[name.removeprefix("delrec_")]
    assert experiment.network == name
    assert experiment.hidden == published.hidden
    frames = DenseFrames(
        np.zeros((3, 2, published.inputs), np.uint8), [0, 1, 2], list(map(str, range(published.classes)))
    )
    splits = Splits(frames, frames, frames, "x", "x", False)
    net = build.build_network(describe(experiment, splits))
    assert isinstance(net, DelRec)
    assert sum(p.numel() for p in net.parameters()) == {"shd": 173_844, "ssc": 374_819, "psmnist": 156_154}[name[7:]]


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(words))
    return end.value.code or 0


def official(folder, name, parts):
    """Files named and laid out as the official ones; the recordings are those of a tiny file of spoken digits."""
    (folder / name).mkdir()
    for part, source in parts.items():
        packed = (FIXTURES / f"spoken_tiny_{source}.h5.gz").read_bytes()
        (folder / name / f"{name}_{part}.h5").write_bytes(gzip.decompress(packed))


def test_the_command_line_overrides_a_recipe_and_a_run_is_one(tmp_path):
    official(tmp_path, "shd", {"train": "train", "test": "test"})
    words = ["--hidden", "8", "8", "--steps", "20", "--epochs", "1", "--batch-size", "8"]
    first, second = tmp_path / "first", tmp_path / "second"
    assert run("train", "--config", "delrec_shd", "--root", str(tmp_path), *words, "--out", str(first)) == 0
    made = RunFolder(first).config().experiment
    assert (made.network, made.hidden, made.steps, made.lr) == ("delrec_shd", (8, 8), 20, 5e-3)
    assert "A recurrent spiking network with delays (140 → 8 → 8 → " in (first / "report.html").read_text()
    again = ["train", "--config", str(first / "config.toml"), "--root", str(tmp_path), "--seed", "1"]
    assert run(*again, "--out", str(second)) == 0
    assert RunFolder(second).config().experiment == dataclasses.replace(made, seed=1)
    assert run("evaluate", str(second), "--root", str(tmp_path)) == 0


def test_a_config_of_a_former_version_may_hold_what_its_run_did_not_look_at(tmp_path, splits):
    folder = start(tmp_path / "run", splits, small(method="adam"))
    made, path = folder.config().experiment, tmp_path / "run" / "config.toml"
    path.write_text(path.read_text().replace("[experiment]\n", "[experiment]\nlam = 0.1\nrecurrent = true\n"))
    assert folder.config().experiment == made
    assert {"lam", "recurrent"}.isdisjoint(read_recipe(path))


def test_ssc_with_its_own_validation_part(tmp_path):
    official(tmp_path, "ssc", {"train": "train", "valid": "test", "test": "test"})
    words = ["--hidden", "6", "6", "6", "--steps", "20", "--epochs", "1", "--batch-size", "8", "--method", "adabreg"]
    out = tmp_path / "run"
    assert run("train", "--config", "delrec_ssc", "--root", str(tmp_path), *words, "--out", str(out)) == 0
    made = RunFolder(out).config().experiment
    assert made.weight_decay == 0.0  # of adam, which the recipe names
    assert (made.init, made.lam) == ("anchored", 0.1)  # dense at first, as in the paper


def test_psmnist_in_fewer_steps(tmp_path):
    words = ["--hidden", "4", "6", "6", "--epochs", "1", "--batch-size", "16", "--steps", "14"]
    out = tmp_path / "run"
    assert run("train", "--config", "delrec_psmnist", "--root", str(FIXTURES), *words, "--out", str(out)) == 0
    assert RunFolder(out).config().frame_shape == (56,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "config must be one of delrec_psmnist, delrec_shd, delrec_ssc or a TOML file, got"),
        ("lr = ", "not a readable TOML file"),
        ("lx = 3", "experiment has no field 'lx'"),
        ("lr = -1.0", "lr must be a finite number > 0, got -1.0"),
        ('lr = "fast"', "lr must be a number, got 'fast'"),
        ("weight_decay = 0.1", "weight_decay has no meaning for the method adabreg without a density, got 0.1; leave"),
        (
            '[experiment]\nmethod = "adam"\n[admm]\nstep = 1',
            "'admm' stands beside [experiment]",
        ),
    ],
)
def test_a_bad_config_is_one_line(tmp_path, content, message, capsys):
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_text(content)
    assert run("train", "--config", str(path)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error


def test_resuming_takes_no_config(tmp_path, capsys):
    assert run("train", "--resume", str(tmp_path), "--config", "delrec_shd") == 2
    assert "resume goes on with the settings of the run" in capsys.readouterr().err
