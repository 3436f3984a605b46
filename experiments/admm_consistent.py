"""The consistent ADMM solver against gradient training: `BREGMA_DATA=data python experiments/admm_consistent.py run`.

`run --rows NAME,...` adds the rows of results/admm_consistent.jsonl that are not there yet, one per method and seed,
each with all settings, its curve and the CPU seconds; `table` prints what they say; `figure` draws the curves.

What is trained: networks of `experiments/contestants.py` on the small setting of `experiments/camera.py` (T 30, 578
inputs), simulated from MNIST. Real recordings exist of MNIST's first 1,000 training images, so these are left out of
the training, and the 1,100 real recordings, none of whose digits was seen, are a test of their own. While settings were
chosen, the last 4,000 training images were kept for validation; final runs train on them too: 59,000 images. Methods of
one row start from the same weights and take turns on one thread; the clock is that of their own CPU seconds, making of
batches included, measuring excluded. Accuracy is that of true forward passes.
"""

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from camera import Camera, Recordings, load_camera
from contestants import Consistent, Contestant, Control, Gradient, random_weights
from race import Batches, Runner, race

import bregma

RESULTS = Path(__file__).parent / "results" / "admm_consistent.jsonl"
REAL = 1000  # first training images, of which real recordings exist
VALIDATION = 4000  # last training images, kept out while tuning
SCALING_SAMPLES = 400

#: The methods' settings, each tuned on validation: see the rows whose name starts with "tune".
METHODS: dict[str, dict[str, Any]] = {
    "consistent": {"kind": "consistent", "batch": 256, "step": 0.05, "schedule": "linear", "readout_decay": 0.99},
    "gradient": {"kind": "gradient", "batch": 256, "lr": 4e-3, "loss": "cross-entropy", "schedule": "cosine"},
    "control": {"kind": "control", "batch": 256},
}
KINDS = {"consistent": Consistent, "gradient": Gradient, "control": Control}

#: Name of a row: hidden layers, CPU seconds of each method, marks at which it is measured, methods.
ROWS: dict[str, dict[str, Any]] = {
    "depth3": {
        "hidden": [256] * 3,
        "seconds": 80,
        "marks": [2.5, 5, 10, 20, 40, 80],
        "methods": ["consistent", "gradient"],
    },
    "control3": {"hidden": [256] * 3, "seconds": 4, "marks": [4], "methods": ["control"]},
    "depth6": {"hidden": [256] * 6, "seconds": 160, "marks": [20, 40, 80, 160], "methods": ["consistent", "gradient"]},
    "control6": {"hidden": [256] * 6, "seconds": 8, "marks": [8], "methods": ["control"]},
}


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), "torch": torch.__version__, "bregma": bregma.__version__}


def contestant(setting: dict[str, Any], weights: list[torch.Tensor]) -> Contestant:
    options = {key: value for key, value in setting.items() if key not in ("kind", "batch", "shift")}
    made: Contestant = KINDS[setting["kind"]](weights, **options)
    return made


def run_row(
    name: str, row: dict[str, Any], seed: int, camera: Camera, done: set[tuple[Any, ...]]
) -> list[dict[str, Any]]:
    """Race the methods of a row that are not done; their results."""
    methods = {m: {**METHODS[m.split("+")[0]], **row.get("override", {}).get(m, {})} for m in row["methods"]}
    methods = {m: setting for m, setting in methods.items() if (name, m, seed) not in done}
    if not methods:
        return []
    tuning = name.startswith("tune")
    last = len(camera.train) - (VALIDATION if tuning else 0)
    train = camera.train.part(np.arange(REAL, last))
    weights = random_weights(train.frames(slice(0, SCALING_SAMPLES)), row["hidden"], seed)
    runners = {}
    for method, setting in methods.items():
        warm = contestant(setting, weights)  # kernels compile off the clock
        warm.step(*next(Batches(train, setting["batch"], 0)), 0.0)
        batches = Batches(train, setting["batch"], seed, setting.get("shift", 0))
        runners[method] = Runner(contestant(setting, weights), batches, row["seconds"])
    parts = {"validation": camera.train.part(np.arange(last, len(camera.train)))} if tuning else {"test": camera.test}
    race(runners, row["marks"], parts)
    real = Recordings(
        np.concatenate([camera.real_train.bits, camera.real_test.bits]),
        torch.cat([camera.real_train.labels, camera.real_test.labels]),
    )
    return [
        {
            "row": name,
            "method": method,
            "seed": seed,
            "hidden": row["hidden"],
            "setting": methods[method],
            "training_samples": len(train),
            "budget_seconds": row["seconds"],
            "seconds": round(runner.seconds, 1),
            "steps": runner.steps,
            "curve": runner.curve,
            **({} if tuning else {"real": round(accuracy(runner.contestant, real), 5)}),
            "command": f"python experiments/admm_consistent.py run --rows {name} --seeds {seed}",
            "versions": versions(),
        }
        for method, runner in runners.items()
    ]
