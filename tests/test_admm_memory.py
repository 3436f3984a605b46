"""What an iteration is said to take in memory, against what it takes."""

import gc
import os
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch.multiprocessing as mp

import bregma
from bregma.admm import Delayed, checks
from bregma.dynamics import memory

if not os.access("/proc/self/clear_refs", os.W_OK):
    pytest.skip("peaks are read from /proc, as Linux has it", allow_module_level=True)

PAPER = {"solver": "paper", "iterations": 2}
#: Arguments of the classifier, shape of X, type of X, whether there is a checkpoint.
CASES = {
    "paper, bytes": ({**PAPER, "hidden": (100,)}, (100, 200, 500), np.uint8, False),
    "paper, checkpoint": ({**PAPER, "hidden": (200, 200)}, (100, 200, 100), np.float32, True),
    "paper, anderson": (
        {**PAPER, "hidden": (200,), "iterations": 5, "anderson": 2, "order": "paper"},
        (100, 200, 50),
        np.float32,
        True,
    ),
    "full batch": ({"hidden": (200, 200), "iterations": 3}, (50, 800, 200), np.float32, True),
    "wide": ({"hidden": (1500,), "iterations": 3, "batch_size": 20}, (5, 60, 1500), np.float32, True),
    "delays": ({"hidden": (Delayed(50, tuple(range(8))),), "iterations": 2}, (50, 200, 200), np.float32, False),
    "density": ({"hidden": (700, 300), "density": 0.1, "iterations": 5, "batch_size": 20}, (5, 60, 700), bool, False),
}


def resident(field):
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"{field}:\s+(\d+)", status)[1])


def fit(options, X, checkpoint=None):
    labels = np.arange(X.shape[1]) % 10
    return bregma.ADMMClassifier(**options).fit(X, labels, checkpoint=checkpoint)


def measure(queue, folder):
    """For each case the bytes that a fit is said to need, and those that it takes at most besides what was there."""
    memory.RESERVE_BYTES = 0  # what is kept for the next tensor is given back when it is needed
    rng, found = np.random.default_rng(0), {}
    for name, (options, shape, kind, saved) in CASES.items():
        small = {key: value for key, value in options.items() if key not in ("hidden", "density")}
        fit({**small, "hidden": (30,)}, (rng.random((4, 40, 30)) < 0.3).astype(kind))  # compiles
        X = np.stack([(rng.random(shape[1:]) < 0.1).astype(kind) for _ in range(shape[0])])
        said = []
        checks.available_bytes = partial(Asked, said)
        gc.collect()
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        fit(options, X, folder / f"{name}.pt" if saved else None)
        found[name] = said[0], resident("VmHWM") - before
    queue.put(found)


class Asked:
    """As much memory as anyone wants, who is noted down."""

    def __init__(self, said):
        self.said = said

    def __lt__(self, total):
        self.said.append(total)
        return False


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    queue = mp.get_context("spawn").SimpleQueue()
    mp.start_processes(one, (queue, tmp_path_factory.mktemp("runs")), nprocs=1)
    return queue.get()


def one(rank, queue, folder):
    measure(queue, folder)


@pytest.mark.parametrize("name", CASES)
def test_what_is_said_is_no_less_than_what_is_taken(name, found):
    said, taken = found[name]
    assert said > 0.8 * taken  # pages are counted whole


def test_what_is_said_is_not_far_from_what_is_taken(found):
    """In all: a fit that finds room which the one before left takes less than it would alone."""
    said, taken = map(sum, zip(*found.values(), strict=True))
    assert said < 3 * taken
