"""A run small enough for tests: its data, its start, and all that it holds."""

from pathlib import Path

import numpy as np
import torch

from bregma.data import DenseFrames, Splits
from bregma.runs.build import build_network, load_best
from bregma.runs.experiment import Experiment, recipe
from bregma.runs.folder import Config, RunFolder, environment
from bregma.runs.uses import Kind

CLASSES = ("left", "middle", "right")


def tiny_frames(samples: int, seed: int) -> DenseFrames:
    """Three classes, told apart by which third of twelve channels is busy."""
    random = np.random.default_rng(seed)
    labels = np.arange(samples) % 3
    rate = np.full((samples, 1, 12), 0.1)
    for third in range(3):
        rate[labels == third, 0, 4 * third : 4 * third + 4] = 0.6
    return DenseFrames((random.random((samples, 6, 12)) < rate).astype(np.uint8), labels, CLASSES)


def tiny(**settings) -> Experiment:
    usual = {"hidden": (8,), "epochs": 3, "batch_size": 16, "lr": 0.02, "lam": 0.05, "shift": 0}
    return recipe("digits", **Kind.of(settings).used(usual) | settings)


def start(path: Path, splits: Splits, experiment: Experiment) -> RunFolder:
    folder = RunFolder(path)
    shape = splits.train.frame_shape
    folder.create(Config(experiment, shape, splits.train.steps, CLASSES, splits.title, True, environment()))
    return folder


def best_network(folder: RunFolder, splits: Splits) -> torch.nn.Module:
    net = build_network(folder.config())
    load_best(net, folder, splits.test)
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
