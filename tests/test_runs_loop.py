"""A run: what it leaves, and that it resumes bit for bit."""

import json

import numpy as np
import pytest
import torch
from tiny_runs import CLASSES, assert_same, best_network, everything, start, stop_after, tiny

import bregma
from bregma.data import DenseFrames, Splits
from bregma.runs.evaluate import evaluate
from bregma.runs.experiment import METHODS, PRUNING, SCHEDULES
from bregma.runs.folder import describe
from bregma.runs.loop import Diverged, train


def test_a_run_leaves_what_a_script_wants(tmp_path, splits):
    folder = start(tmp_path / "run", splits, tiny(epochs=8))
    summary = train(folder, splits)
    assert summary == json.loads((folder.path / "summary.json").read_text())
    assert {
        "method", "data", "seed", "test_accuracy", "validation_accuracy", "density",
        "parameters", "nonzero", "firing_rates", "seconds",
    } <= summary.keys()  # fmt: skip
    assert summary["test_accuracy"] > 0.9
    assert summary["parameters"] == 12 * 8 + 8 + 8 * 3 + 3
    rows = folder.metrics()
    assert [row["epoch"] for row in rows] == list(range(1, 9))
    assert summary["validation_accuracy"] == max(row["validation_accuracy"] for row in rows)
    assert folder.config().experiment == tiny(epochs=8)


def test_the_summary_is_that_of_the_best_weights(tmp_path, splits):
    folder = start(tmp_path / "run", splits, tiny())
    summary = train(folder, splits)
    again = evaluate(best_network(folder, splits), splits.test, batch_size=7)
    assert again.accuracy == summary["test_accuracy"]
    assert again.loss == pytest.approx(summary["test_loss"], rel=1e-5)
    best = folder.metrics()[summary["best_epoch"] - 1]
    assert best["density"] == summary["density"]
    assert best["validation_accuracy"] == summary["validation_accuracy"]


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("method", [method for method in METHODS if method not in (*PRUNING, "admm")])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, splits, method, recurrent):
    experiment = tiny(method=method, recurrent=recurrent)
    whole = start(tmp_path / "whole", splits, experiment)
    train(whole, splits)
    cut = start(tmp_path / "cut", splits, experiment)
    assert train(cut, splits, should_stop=stop_after(2)) is None
    torch.manual_seed(99)  # another process would start from other random numbers
    assert train(cut, splits, resume=True, should_stop=stop_after(5)) is None  # the second stop is in another epoch
    torch.rand(3)
    assert train(cut, splits, resume=True) is not None
    assert_same(everything(whole), everything(cut))


def test_a_resumed_run_moves_its_images_alike(tmp_path):
    def images(seed: int) -> DenseFrames:
        counts = np.random.default_rng(seed).integers(0, 2, (40, 4, 5, 5)).astype(np.uint8)
        return DenseFrames(counts, np.arange(40) % 3, CLASSES)

    splits = Splits(images(0), images(1), images(2), "tiny", "noise", synthetic=True)
    whole, cut, still = (
        start(tmp_path / name, splits, tiny(shift=shift)) for name, shift in (("whole", 2), ("cut", 2), ("still", 0))
    )
    train(whole, splits)
    train(cut, splits, should_stop=stop_after(4))
    train(cut, splits, resume=True)
    assert_same(everything(whole), everything(cut))
    train(still, splits)
    assert whole.metrics()[0]["train_loss"] != still.metrics()[0]["train_loss"]


def test_only_images_can_be_moved(splits):
    with pytest.raises(ValueError, match=r"shift must be 0 for frames of shape \(12,\)"):
        describe(tiny(shift=1), splits)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_run_stopped_at_the_end_of_an_epoch_resumes(tmp_path, splits, schedule):
    experiment = tiny(schedule=schedule)
    whole, cut = (start(tmp_path / name, splits, experiment) for name in ("whole", "cut"))
    train(whole, splits)
    train(cut, splits, should_stop=stop_after(5))  # 70 samples in batches of 16: five steps
    train(cut, splits, resume=True)
    assert_same(everything(whole), everything(cut))


def test_the_seed_decides_the_run(tmp_path, splits):
    first, same, other = (
        start(tmp_path / name, splits, tiny(seed=seed)) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    for folder in (first, same, other):
        train(folder, splits)
    assert_same(everything(first), everything(same))
    assert not torch.equal(
        first.tensors("best")["readout.linear.weight"], other.tensors("best")["readout.linear.weight"]
    )


@pytest.mark.parametrize(("bias", "cause"), [(float("inf"), "membrane became"), (6e37, "loss is")])
def test_a_diverging_run_says_so_and_keeps_its_checkpoint(tmp_path, splits, bias, cause):
    folder = start(tmp_path / "run", splits, tiny(method="adam"))
    train(folder, splits, should_stop=stop_after(3))
    state = folder.state()
    state["weights"]["readout.linear.bias"][0] = bias
    folder.write_state(state)
    before = (folder.path / "last.pt").read_bytes()
    with pytest.raises(ValueError, match=f"diverged in epoch 1 .{cause}.*an lr below 0\\.02 may help; the last"):
        train(folder, splits, resume=True)
    assert (folder.path / "last.pt").read_bytes() == before


def test_a_run_that_diverges_before_its_first_checkpoint_promises_none(tmp_path, splits):
    folder = start(tmp_path / "run", splits, tiny(method="adam", lr=3e37, clip=0.0, schedule="constant"))
    with pytest.raises(Diverged, match=r"training diverged in epoch 1 .*an lr below 3e\+37 may help$"):
        train(folder, splits)


def test_a_run_that_diverges_in_the_last_step_of_an_epoch_says_so(tmp_path, splits):
    """Validation is the first to see it."""
    batches = -(-len(splits.train) // 16)
    folder = start(tmp_path / "run", splits, tiny(method="adam", schedule="constant"))
    train(folder, splits, should_stop=stop_after(2 * batches - 1))
    state = folder.state()
    state["optimizer"]["param_groups"][0]["lr"] = 3e37
    folder.write_state(state)
    before = (folder.path / "last.pt").read_bytes()
    with pytest.raises(Diverged, match=r"training diverged in epoch 2 .membrane became.*an lr below 0\.02 may help"):
        train(folder, splits, resume=True)
    assert (folder.path / "last.pt").read_bytes() == before


@pytest.mark.parametrize(
    ("method", "steps"),
    [("adabreg", 4), ("adabreg", 9), ("adabreg", 14), ("gmp", 9), ("gmp-metric", 9), ("rigl", 21), ("set", 21)],
)
def test_a_run_to_a_density_reaches_it_and_resumes(tmp_path, splits, method, steps):
    experiment = tiny(density=0.1, epochs=6, method=method)
    whole = start(tmp_path / "whole", splits, experiment)
    summary = train(whole, splits)
    assert summary["target_density"] == 0.1
    assert summary["synops"] > 0
    assert summary["density"] == pytest.approx(0.1, abs=0.003)  # of 128 weights
    before = 4 if method in ("rigl", "set") else 5
    assert [row["reached"] for row in whole.metrics()] == [False] * before + [True] * (6 - before)
    assert summary["best_epoch"] > before
    cut = start(tmp_path / "cut", splits, experiment)
    assert train(cut, splits, should_stop=stop_after(steps)) is None
    train(cut, splits, resume=True)
    assert_same(everything(whole), everything(cut))


def test_an_l1_norm_in_the_loss_makes_the_weights_of_a_run_smaller(tmp_path, splits):
    norms = []
    for l1 in (0.0, 1.0):
        folder = start(tmp_path / str(l1), splits, tiny(density=0.5, epochs=6, l1=l1))
        assert train(folder, splits)["density"] == 0.5
        norms.append(sum(w.detach().abs().sum() for w in best_network(folder, splits).parameters() if w.ndim == 2))
    assert norms[1] < 0.8 * norms[0]


def test_a_run_to_a_share_of_the_neurons_at_the_cost_of_spikes(tmp_path, splits):
    experiment = tiny(density=0.5, epochs=6, structure="neurons", cost="synops")
    folder = start(tmp_path / "run", splits, experiment)
    summary = train(folder, splits)
    net = best_network(folder, splits)
    assert int((net.hidden[0].linear.weight != 0).any(1).sum()) == 4
    assert summary["density"] == 0.5
    assert summary["synops"] == pytest.approx(
        bregma.synops(net, splits.test.__getitems__([*range(len(splits.test))])[0]), abs=0.1
    )
