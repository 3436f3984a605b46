"""The consistent ADMM solver against gradient training: `BREGMA_DATA=data python experiments/admm_consistent.py run`.

`run --rows NAME,...` adds the rows of results/admm_consistent.jsonl that are not there yet, one per method and seed,
each with all settings, its curve and the CPU seconds; `table` prints what they say.

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
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch
from camera import FRAME, PIXELS, Camera, Recordings, load_camera
from contestants import Architecture, Consistent, Contestant, Control, Gradient
from race import Batches, Runner, accuracy, race

import bregma
from bregma.admm.convolution import Convolution

RESULTS = Path(__file__).parent / "results" / "admm_consistent.jsonl"
REAL = 1000  # first training images, of which real recordings exist
VALIDATION = 4000  # last training images, kept out while tuning
SCALING_SAMPLES = 400

#: The methods' settings, each tuned on validation: see the rows whose name starts with "tune".
METHODS: dict[str, dict[str, Any]] = {
    "consistent": {
        "kind": "consistent",
        "batch": 256,
        "step": 0.05,
        "schedule": "linear",
        "readout": "mean",
        "readout_decay": 0.99,
    },
    "gradient": {
        "kind": "gradient",
        "batch": 128,
        "lr": 4e-3,
        "loss": "cross-entropy",
        "schedule": "cosine",
        "readout": "mean",
    },
    "control": {"kind": "control", "batch": 256, "readout": "mean"},
}
KINDS = {"consistent": Consistent, "gradient": Gradient, "control": Control}

#: Name of a row: hidden layers, CPU seconds of each method, marks at which it is measured, and methods, each with what
#: differs from its settings above.
ROWS: dict[str, dict[str, Any]] = {
    "tune-consistent": {
        "hidden": [256] * 3,
        "seconds": 20,
        "marks": [5, 20],
        "methods": {
            "consistent": {"readout": "last"},
            "consistent batch 128": {"readout": "last", "batch": 128},
            "consistent ridge 0.03": {"readout": "last", "ridge": 0.03},
            "consistent cross-entropy": {"readout": "last", "loss": "cross_entropy"},
            "consistent mean": {"readout": "mean"},
        },
    },
    "tune-both": {
        "hidden": [256] * 3,
        "seconds": 20,
        "marks": [5, 20],
        "methods": {
            "gradient mean": {"batch": 256},
            "gradient mean batch 128": {},
            "gradient mean squared": {"batch": 256, "loss": "squared"},
            "consistent mean batch 128": {"batch": 128},
            "consistent mean hinge": {"loss": "squared_hinge"},
            "consistent mean dithered": {"rule": ("dithered", {})},
        },
    },
    "tune-gradient": {
        "hidden": [256] * 3,
        "seconds": 20,
        "marks": [5, 20],
        "methods": {
            "gradient lr 0.002": {"lr": 2e-3},
            "gradient lr 0.008": {"lr": 8e-3, "batch": 256},
        },
    },
    "depth3": {
        "hidden": [256] * 3,
        "seconds": 32,
        "marks": [2, 4, 8, 16, 32],
        "methods": {"consistent": {}, "gradient": {}, "consistent dithered": {"rule": ("dithered", {})}},
    },
    "control3": {"hidden": [256] * 3, "seconds": 4, "marks": [4], "methods": {"control": {}}},
    "depth6": {
        "hidden": [256] * 6,
        "seconds": 64,
        "marks": [4, 8, 16, 32, 64],
        "methods": {"consistent": {}, "gradient": {}},
    },
    "control6": {"hidden": [256] * 6, "seconds": 8, "marks": [8], "methods": {"control": {}}},
}


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), "torch": torch.__version__, "bregma": bregma.__version__}


def architecture(row: dict[str, Any]) -> Architecture:
    layers = tuple(Convolution(**layer) if isinstance(layer, dict) else layer for layer in row["hidden"])
    return Architecture(layers, PIXELS, frame_shape=FRAME)


def contestant(setting: dict[str, Any], network: Architecture, weights: list[torch.Tensor]) -> Contestant:
    options = {key: value for key, value in setting.items() if key not in ("kind", "batch", "shift")}
    made: Contestant = KINDS[setting["kind"]](network, weights, **options)
    return made


def run_row(name: str, seed: int, camera: Camera, done: set[str]) -> list[dict[str, Any]]:
    """Race the methods of a row but those that are done; their results."""
    row, tuning = ROWS[name], name.startswith("tune")
    methods = {
        method: {**METHODS[method.split()[0]], **other}
        for method, other in row["methods"].items()
        if method not in done
    }
    last = len(camera.train) - (VALIDATION if tuning else 0)
    train = camera.train.part(np.arange(REAL, last))
    network = architecture(row)
    weights = network.start(train.frames(slice(0, SCALING_SAMPLES)), seed)
    runners = {}
    for method, setting in methods.items():
        warm = contestant(setting, network, weights)  # kernels compile off the clock
        warm.step(*next(Batches(train, setting["batch"], 0)), 0.0)
        batches = Batches(train, setting["batch"], seed, setting.get("shift", 0))
        runners[method] = Runner(contestant(setting, network, weights), batches, row["seconds"])
    held_out = {"validation": camera.train.part(np.arange(last, len(camera.train)))}
    race(runners, row["marks"], held_out if tuning else {"test": camera.test})
    shared = {"hidden": row["hidden"], "training_samples": len(train), "budget_seconds": row["seconds"]}
    shared |= {"command": f"python experiments/admm_consistent.py run --rows {name}", "versions": versions()}
    return [
        {
            **{"row": name, "method": method, "seed": seed, "setting": methods[method], **shared},
            **{"seconds": round(runner.seconds, 1), "steps": runner.steps, "curve": runner.curve},
            **({} if tuning else {"real": round(accuracy(runner.contestant, real_recordings(camera)), 5)}),
        }
        for method, runner in runners.items()
    ]


def real_recordings(camera: Camera) -> Recordings:
    """All 1,100."""
    both = camera.real_train, camera.real_test
    return Recordings(np.concatenate([part.bits for part in both]), torch.cat([part.labels for part in both]))


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def run(options: Any) -> None:
    """Add the rows that are not there yet."""
    camera = load_camera(options.cache, options.data)
    for name, seed in ((name, seed) for name in options.rows.split(",") for seed in map(int, options.seeds.split(","))):
        there = {row["method"] for row in read(options.results) if (row["row"], row["seed"]) == (name, seed)}
        if there >= set(ROWS[name]["methods"]):
            continue
        results = run_row(name, seed, camera, there)
        with options.results.open("a") as file:
            file.writelines(json.dumps(result) + "\n" for result in results)


def table(rows: list[dict[str, Any]]) -> None:
    """Mean and standard deviation over the seeds in per cent at each mark, as Markdown."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["row"], row["method"]), []).append(row)
    print("| row | method | seeds | CPU s: accuracy | real recordings |\n| --- | --- | --- | --- | --- |")
    for (name, method), of in groups.items():
        key = "validation" if name.startswith("tune") else "test"
        points = zip(*(row["curve"] for row in of), strict=True)
        curve = ", ".join(f"{point[0]['seconds']:.0f}: {spread([p[key] for p in point])}" for point in points)
        real = spread([row["real"] for row in of]) if key == "test" else ""
        print(f"| {name} | {method} | {len(of)} | {curve} | {real} |")


def spread(values: list[float]) -> str:
    """Mean, and standard deviation of several."""
    wide = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.2f}{wide}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--rows", default=",".join(ROWS), help="default: all")
    parser.add_argument("--seeds", default="0,1,2", help="default: %(default)s")
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="of frames; default: %(default)s")
    parser.add_argument("--data", type=Path, help="folder with MNIST and N-MNIST; default: as bregma.data.load")
    parser.add_argument("--results", type=Path, default=RESULTS, help="default: %(default)s")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "run":
        run(options)
    table(read(options.results))


if __name__ == "__main__":
    main()
