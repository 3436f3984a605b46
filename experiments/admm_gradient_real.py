"""Gradient training on the splits of `admm_consistent_real.py`: `python experiments/admm_gradient_real.py`.

The same networks from the same weights, recordings, shifts, batches and readout as its method ``shifted``, bregma's
compiled layers with Adam and cross-entropy, for the CPU seconds that the solver took on the split, whose row must be
there. Validation picks the learning rate, in runs of four fifths of that time on four fifths of the recordings. Adds
rows of the method ``gradient`` to the same file, with the control of the solver's row.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import admm_consistent_real as real
import numpy as np
import torch
from contestants import Architecture, Gradient
from torch import Tensor

from bregma.data import BinRecordings, default_root, stratified_cut

RATES = (2e-3, 4e-3, 8e-3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with nmnist_subset.zip; default: as bregma.data.load")
    parser.add_argument("--hidden", default="3", help="numbers of hidden layers; default: %(default)s")
    parser.add_argument("--seeds", default="0,1,2", help="default: %(default)s")
    parser.add_argument("--results", type=Path, default=real.RESULTS, help="default: %(default)s")
    options = parser.parse_args()
    torch.set_num_threads(1)
    root = options.data or default_root()
    data = [BinRecordings(root / "nmnist_subset.zip", part, real.STEPS) for part in ("Train", "Test")]
    for seed in map(int, options.seeds.split(",")):
        for depth in map(int, options.hidden.split(",")):
            rows = [json.loads(line) for line in options.results.read_text().splitlines()]
            key = {"samples": 1000, "hidden": [real.NEURONS] * depth, "seed": seed}
            of_split = {row["method"]: row for row in rows if key.items() <= row.items()}
            if "gradient" in of_split:
                continue
            row = {"method": "gradient", **key, **run(key, data, of_split["shifted"])}
            row["command"] = f"python experiments/admm_gradient_real.py --hidden {depth} --seeds {seed}"
            with options.results.open("a") as file:
                file.write(json.dumps(row) + "\n")


def run(key: dict[str, Any], data: list[BinRecordings], solver: dict[str, Any]) -> dict[str, Any]:
    """Choose the rate on a part of the training recordings, train on all, and measure on the unseen ones."""
    labels = np.concatenate([part.labels.numpy() for part in data])
    unseen, chosen = stratified_cut(labels, key["samples"] / len(labels), key["seed"])
    cut = stratified_cut(labels[chosen], real.VALIDATION, real.VALIDATION_SEED + key["seed"])
    kept, validation = (chosen[part] for part in cut)
    budget = solver["last"]["seconds"]
    tried = [
        {"lr": lr, "last": train(key, data, labels, kept, validation, lr, (1 - real.VALIDATION) * budget)}
        for lr in RATES
    ]
    best = max(tried, key=lambda row: row["last"]["accuracy"])["lr"]
    last = train(key, data, labels, chosen, unseen, best, budget)
    return {"ridge": best, "control": solver["control"], "last": last, "validation": tried}


def train(
    key: dict[str, Any],
    data: list[BinRecordings],
    labels: np.ndarray,
    training: np.ndarray,
    others: np.ndarray,
    lr: float,
    budget: float,
) -> dict[str, Any]:
    """Accuracy on the training recordings and on others after some CPU seconds."""
    x, y = real.frames(data, training).to(torch.uint8), torch.from_numpy(labels[training])
    network = Architecture(tuple(key["hidden"]), real.PIXELS)
    generator = torch.Generator().manual_seed(key["seed"])
    order = torch.randperm(len(y), generator=generator)
    weights = network.start(x[:, order[: real.BATCH]].float(), key["seed"])
    contestant = Gradient(network, weights, lr=lr, loss="cross-entropy", schedule="cosine", readout="mean")
    seconds, steps = 0.0, 0
    while seconds < budget:
        rows, order = order[: real.BATCH], order[real.BATCH :]
        if len(order) < real.BATCH:
            order = torch.randperm(len(y), generator=generator)
        moved = seconds < real.SHIFTED_PART * budget
        near = real.shifted(x[:, rows], generator) if moved else x[:, rows].float()
        begin = time.process_time()
        contestant.step(near, y[rows], seconds / budget)
        seconds, steps = seconds + time.process_time() - begin, steps + 1
    point = {
        "iteration": steps,
        "seconds": round(seconds, 2),
        "train": real.accuracy(scores(contestant, x), y),
        "accuracy": real.accuracy(scores(contestant, real.frames(data, others)), torch.from_numpy(labels[others])),
    }
    print(key, len(training), lr, point, flush=True)
    return point


def scores(contestant: Gradient, x: Tensor) -> Tensor:
    return torch.cat([contestant.scores(part.float()) for part in x.split(100, 1)])


if __name__ == "__main__":
    main()
