"""A run: what it leaves, that it resumes bit for bit, and that no failure loses what was there."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bregma.data import DenseFrames, Splits
from bregma.runs.build import build_network, load_weights
from bregma.runs.evaluate import evaluate
from bregma.runs.experiment import METHODS, SCHEDULES, Experiment, recipe
from bregma.runs.folder import Config, RunFolder, describe, environment
from bregma.runs.loop import train

CLASSES = ("left", "middle", "right")


def tiny_frames(samples: int, seed: int) -> DenseFrames:
    """Three classes, told apart by which third of twelve channels is busy."""
    random = np.random.default_rng(seed)
    labels = np.arange(samples) % 3
    rate = np.full((samples, 1, 12), 0.1)
    for third in range(3):
        rate[labels == third, 0, 4 * third : 4 * third + 4] = 0.6
    return DenseFrames((random.random((samples, 6, 12)) < rate).astype(np.uint8), labels, CLASSES)


@pytest.fixture(scope="module")
def splits() -> Splits:
    return Splits(tiny_frames(70, 0), tiny_frames(20, 1), tiny_frames(30, 2), "tiny", "tiny thirds", synthetic=True)


def tiny(**settings) -> Experiment:
    return recipe(
        "digits", **{"hidden": (8,), "epochs": 3, "batch_size": 16, "lr": 0.02, "lam": 0.05, "shift": 0} | settings
    )


def start(path: Path, splits: Splits, experiment: Experiment) -> RunFolder:
    folder = RunFolder(path)
    shape = splits.train.frame_shape
    folder.create(Config(experiment, shape, splits.train.steps, CLASSES, splits.title, True, environment()))
    return folder


def best_network(folder: RunFolder, splits: Splits) -> torch.nn.Module:
    net = build_network(folder.config())
    load_weights(net, folder.tensors("best"), splits.test)
    return net


def stop_after(steps: int):
    """True at the given number of optimizer steps."""
    taken = iter(range(1, 10_000))
    return lambda: next(taken) >= steps


def everything(folder: RunFolder) -> dict:
    """All that a run holds, but for how long it took."""
    state = folder.state()
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in folder.metrics()]
    for progress in (state["progress"], *state["progress"]["rows"]):
        progress.pop("seconds")
    summary = {k: v for k, v in folder.summary().items() if k != "seconds"}
    return {
        "state": state,
        "rows": rows,
        "summary": summary,
        **{name: folder.tensors(name) for name in ("best", "last", "sample")},
    }


def assert_same(one, other, where="run"):
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{where}[{index}]")
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, where
        assert torch.equal(one, other), where
    else:
        assert one == other, where


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
@pytest.mark.parametrize("method", METHODS)
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
    with pytest.raises(ValueError, match=f"training diverged in epoch 1 .{cause}.*an lr below 0\\.02 may help"):
        train(folder, splits, resume=True)
    assert (folder.path / "last.pt").read_bytes() == before


_FULL_DISK = """
import resource, signal, sys, torch
from pathlib import Path
from bregma.runs.folder import RunFolder
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))  # a disk that takes no file above 50 kB
folder = RunFolder(sys.argv[1])
big = torch.zeros(100_000)
for write in (lambda: folder.write_state({"weights": big}), lambda: folder.write_tensors("best", {"weight": big})):
    try:
        write()
    except OSError as error:
        print(error)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs a limit on file sizes")
def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_state({"weights": torch.ones(2)})
    folder.write_tensors("best", {"weight": torch.ones(2)})
    done = subprocess.run([sys.executable, "-c", _FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stdout + done.stderr
    assert "last.pt" in lines[0]
    assert "best.safetensors" in lines[1]
    assert all("disk" in line for line in lines)
    assert torch.equal(folder.state()["weights"], torch.ones(2))
    assert torch.equal(folder.tensors("best")["weight"], torch.ones(2))
    assert sorted(os.listdir(tmp_path)) == ["best.safetensors", "last.pt"]


def respell(run: Path, old: str, new: str) -> None:
    text = (run / "config.toml").read_text()
    assert old in text
    (run / "config.toml").write_text(text.replace(old, new))


class _Malicious:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def test_a_hostile_checkpoint_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weights": _Malicious()}, tmp_path / "last.pt")
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        RunFolder(tmp_path).state()
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: (run / "config.toml").unlink(), "holds no run: config.toml is missing"),
        (lambda run: (run / "config.toml").write_text("format = 99"), "run format 99, this version of bregma reads"),
        (lambda run: (run / "config.toml").write_text("format = ["), "not a readable TOML file"),
        (lambda run: (run / "config.toml").write_text("format = 1"), "'experiment' is missing"),
        (lambda run: respell(run, "lr = 0.02", 'lr = "fast"'), r"config\.toml: lr must be a number, got 'fast'"),
        (lambda run: respell(run, "hidden = [8]", "hidden = 8"), r"config\.toml: hidden must be a tuple of integers"),
        (lambda run: (run / "best.safetensors").unlink(), "best.safetensors is missing"),
        (lambda run: (run / "best.safetensors").write_bytes(b"\xff" * 20), "not a readable safetensors file"),
    ],
)
def test_a_broken_run_folder_says_what_is_wrong(tmp_path, splits, spoil, message):
    folder = start(tmp_path / "run", splits, tiny(epochs=1))
    train(folder, splits)
    spoil(folder.path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        best_network(folder, splits)


@pytest.mark.parametrize("state", [{"a": 1}, [1, 2], {"weights": {}}])
def test_a_checkpoint_of_something_else_is_refused(tmp_path, splits, state):
    folder = start(tmp_path / "run", splits, tiny(epochs=1))
    folder.write_state(state)
    with pytest.raises(ValueError, match=r"last\.pt: no checkpoint of this run"):
        train(folder, splits, resume=True)


def test_a_lost_line_of_metrics_is_restored_from_the_checkpoint(tmp_path, splits):
    folder = start(tmp_path / "run", splits, tiny(epochs=1))
    train(folder, splits)
    rows = folder.metrics()
    (folder.path / "metrics.jsonl").unlink()
    train(folder, splits, resume=True)
    assert folder.metrics() == rows


def test_a_run_without_its_checkpoint_is_not_begun_anew(tmp_path, splits):
    folder = start(tmp_path / "run", splits, tiny(epochs=1))
    train(folder, splits)
    (folder.path / "last.pt").unlink()
    best = (folder.path / "best.safetensors").read_bytes()
    with pytest.raises(FileNotFoundError, match=r"last\.pt is missing"):
        train(folder, splits, resume=True)
    assert (folder.path / "best.safetensors").read_bytes() == best


def test_weights_that_do_not_fit_or_saw_other_data_are_refused(tmp_path, splits):
    folder = start(tmp_path / "run", splits, tiny(epochs=1))
    train(folder, splits)
    net = build_network(folder.config())
    tensors = folder.tensors("best")
    with pytest.raises(ValueError, match=r"weights do not fit config\.toml.*readout\.linear\.bias"):
        load_weights(net, {name: t for name, t in tensors.items() if name != "readout.linear.bias"}, splits.test)
    with pytest.raises(ValueError, match="data/permutation: the network learned the data with another one"):
        load_weights(net, {**tensors, "data/permutation": torch.arange(12)}, splits.test)


def test_a_checkpoint_carries_what_repeats_the_input(tmp_path):
    def carrying(seed: int) -> DenseFrames:
        frames = tiny_frames(24, seed)
        frames.carried["permutation"] = torch.arange(12).flip(0)
        return frames

    splits = Splits(carrying(0), carrying(1), carrying(2), "tiny", "tiny thirds", synthetic=True)
    folder = start(tmp_path / "run", splits, tiny(epochs=1))
    train(folder, splits)
    assert torch.equal(folder.tensors("best")["data/permutation"], torch.arange(12).flip(0))
    assert torch.equal(folder.state()["weights"]["data/permutation"], torch.arange(12).flip(0))
    best_network(folder, splits)


@pytest.mark.parametrize("steps", [4, 9, 14])
def test_a_run_to_a_density_reaches_it_and_resumes(tmp_path, splits, steps):
    experiment = tiny(density=0.1, epochs=6)
    whole = start(tmp_path / "whole", splits, experiment)
    summary = train(whole, splits)
    assert summary["target_density"] == 0.1
    assert summary["density"] == pytest.approx(0.1, abs=0.003)  # of 128 weights
    assert [row["reached"] for row in whole.metrics()] == [False] * 4 + [True] * 2
    assert summary["best_epoch"] > 4
    cut = start(tmp_path / "cut", splits, experiment)
    assert train(cut, splits, should_stop=stop_after(steps)) is None
    train(cut, splits, resume=True)
    assert_same(everything(whole), everything(cut))


def test_a_density_changes_what_is_recommended_and_needs_adabreg():
    assert recipe("digits", density=0.1).lr > recipe("digits").lr
    assert recipe("digits", density=0.1, lr=0.5).lr == 0.5
    with pytest.raises(ValueError, match="density needs the method adabreg, got linbreg"):
        recipe("digits", "linbreg", density=0.1)


def test_a_folder_with_a_run_is_not_overwritten(tmp_path, splits):
    start(tmp_path / "run", splits, tiny())
    with pytest.raises(ValueError, match="already holds a run"):
        start(tmp_path / "run", splits, tiny())


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("method", "sgd", "one of adabreg"),
        ("schedule", "step", "one of cosine"),
        ("penalty", "l7", "one of"),
        ("init", "dense", "one of"),
        ("init_density", 0.0, r"\(0, 1\]"),
        ("penalty", "group_l1:kernels", "one for matrices"),
        ("threads", 100_000, r"in \[1, 1024\]"),
        ("epochs", 0, ">= 1"),
        ("batch_size", 0, ">= 1"),
        ("hidden", (), ">= 1"),
        ("hidden", (8, 0), ">= 1"),
        ("lr", -1.0, "> 0"),
        ("lr", float("nan"), "> 0"),
        ("clip", 0.0, "> 0"),
        ("lam", -0.1, ">= 0"),
        ("density", 1.5, r"in \[0, 1\], 0 for none"),
        ("decay", 1.5, r"in \[0, 1\]"),
        ("steps", -1, ">= 0"),
        ("seed", -1, ">= 0"),
    ],
)
def test_a_bad_setting_is_named_before_any_work(field, value, allowed):
    with pytest.raises(ValueError, match=f"{field} must be.*{allowed}"):
        Experiment(**{field: value})


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("epochs", 1.5, "an integer"),
        ("epochs", True, "an integer"),
        ("lr", "fast", "a number"),
        ("data", None, "a text"),
        ("recurrent", "yes", "true or false"),
        ("hidden", 8, "a tuple of integers"),
        ("hidden", (8, 2.5), "a tuple of integers"),
    ],
)
def test_a_setting_of_the_wrong_type_is_named(field, value, wanted):
    with pytest.raises(TypeError, match=f"{field} must be {wanted}, got"):
        Experiment(**{field: value})
