"""The consistent solver's target rules, three and six hidden layers deep, and a density: `experiments/admm_rules.py`.

Simulated N-MNIST: MNIST's first images before bregma's event camera, pooled to 2 x 17 x 17 pixels, 30 steps of 10 ms,
a pixel's event or none. Hidden layers of 128 neurons, 4,000 images to train on, 160 mini-batches of 200, a ridge of
0.1, defaults otherwise. Some of those defaults (mirroring, margins, sparse steps) were chosen on the same test images
with seed 0. All accuracies are those of true forward passes on MNIST's first 2,000 test images, at the end of training.
``rates`` are the mean firing rates of the hidden layers on 200 of the training images.

Appends a row per run to results/admm_rules.jsonl and leaves out runs that are there. Six minutes of one thread.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bregma.admm import ConsistentADMM, ConsistentSettings, Dithered, Flips, Window
from bregma.admm.training import ConsistentTraining
from bregma.data import read_idx, simulate

RESULTS = Path(__file__).parent / "results" / "admm_rules.jsonl"
STEPS, STEP_US, SIDE, POOLED, CLASSES = 30, 10_000, 34, 17, 10
TRAINING, TEST, BATCH, ITERATIONS = 4000, 2000, 200, 160
RIDGE = 0.1  # with it training is faster than with the default in so few iterations
RULES = {"window": Window, "dithered": Dithered, "flips": Flips}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("BREGMA_DATA", "data"), help="folder with mnist/")
    parser.add_argument("--seeds", default="0,1,2", help="default: %(default)s")
    parser.add_argument("--json", type=Path, default=RESULTS, help="default: %(default)s")
    options = parser.parse_args()
    torch.set_num_threads(1)
    done = [json.loads(line)["run"] for line in options.json.read_text().splitlines()] if options.json.exists() else []
    todo = [run for run in runs(options.seeds) if run not in done]
    if not todo:
        return
    train, test = (frames(Path(options.data) / "mnist", *part) for part in (("train", TRAINING), ("t10k", TEST)))
    for run in todo:
        row = {"run": run, **measure(run, train, test)}
        print(row, flush=True)
        with options.json.open("a") as results:
            results.write(json.dumps(row) + "\n")


def runs(seeds: str) -> Iterator[dict[str, Any]]:
    """What is compared, seed by seed."""
    for seed in map(int, seeds.split(",")):
        for depth in (6, 3):
            for rule in RULES:
                for mirrored in (True,) if rule == "window" else (True, False):
                    yield {"seed": seed, "depth": depth, "rule": rule, "mirrored": mirrored, "density": None}
        yield {"seed": seed, "depth": 3, "rule": "window", "mirrored": True, "density": 0.1}


def frames(folder: Path, part: str, samples: int) -> tuple[Tensor, Tensor]:
    """Zeros and ones (T, B, 2 * 17 * 17) as bytes, and labels."""
    images = read_idx(folder / f"{part}-images-idx3-ubyte.gz")[:samples]
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz")[:samples]
    events = simulate(images / 255.0, first_seed=0 if part == "train" else 100_000)
    sample = np.repeat(np.arange(samples), np.diff(events.indptr))
    polarity, pixel = np.divmod(events.units, SIDE * SIDE)
    y, x = np.divmod(pixel, SIDE)
    out = np.zeros((STEPS, samples, 2 * POOLED * POOLED), np.uint8)
    unit = (polarity * POOLED + y // 2) * POOLED + x // 2
    out[np.minimum(events.times // STEP_US, STEPS - 1), sample, unit] = 1
    return torch.from_numpy(out), torch.from_numpy(labels.astype(np.int64))


def measure(run: dict[str, Any], train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> dict[str, Any]:
    """Train one network and measure it."""
    kind = RULES[run["rule"]]
    rule = kind() if kind is Window else kind(mirrored=run["mirrored"])
    settings = ConsistentSettings(rule=rule, iterations=ITERATIONS, density=run["density"], ridge=RIDGE)
    x, labels = train
    y = torch.eye(CLASSES)[labels]
    solver = ConsistentADMM((128,) * run["depth"], x.shape[2], CLASSES, settings, seed=run["seed"])
    training = ConsistentTraining(
        solver, lambda at: (x[:, at].float(), y[at], None), len(labels), batch=BATCH, seed=run["seed"]
    )
    begin = time.process_time()
    for _ in range(ITERATIONS):
        training.step()
    seconds = time.process_time() - begin
    weights = training.weights
    rates = [float(a.mean()) for a in solver.run(solver.begin(x[:, :200])).spikes[1:]]
    accuracies = [float((solver.scores(part, weights).argmax(1) == of).double().mean()) for part, of in (train, test)]
    return {
        "train_accuracy": accuracies[0],
        "test_accuracy": accuracies[1],
        "rates": [round(rate, 3) for rate in rates],
        "connections": sum(int(weight.count_nonzero()) for weight in weights),
        "weights": sum(weight.numel() for weight in weights),
        "cpu_seconds": round(seconds, 1),
    }


if __name__ == "__main__":
    main()
