"""The consistent solver on real N-MNIST in the paper's setting: `python experiments/admm_consistent_real.py`.

T 150, 512 neurons per hidden layer, 1, 2 or 3 of them, 200 or 1000 training recordings; the others of the 1,100 are
unseen (900, or 100). Full-batch descent: its steps are accepted by the leave-one-out loss of the training recordings,
so the unseen ones are used for no choice. The control is the network before the first iteration: random hidden weights
with a readout in closed form, which is also what `experiments/admm_paper.py` puts beside the paper's solver.

Adds to results/admm_consistent_real.jsonl the rows that are not there yet.
"""

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import bregma
from bregma.admm.consistent import ConsistentADMM
from bregma.admm.consistent_settings import ConsistentSettings
from bregma.data import BinRecordings, default_root, stratified_cut

RESULTS = Path(__file__).parent / "results" / "admm_consistent_real.jsonl"
STEPS, NEURONS, CLASSES, PIXELS = 150, 512, 10, 2312
SETTINGS: dict[str, Any] = {"step": 0.3, "ridge": 0.1, "readout_ridge": 0.01, "leave_one_out": True}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with nmnist_subset.zip; default: as bregma.data.load")
    parser.add_argument("--samples", default="200,1000", help="default: %(default)s")
    parser.add_argument("--hidden", default="1,2,3", help="numbers of hidden layers; default: %(default)s")
    parser.add_argument("--seeds", default="0,1,2", help="default: %(default)s")
    parser.add_argument("--iterations", type=int, default=4, help="default: %(default)s")
    parser.add_argument("--results", type=Path, default=RESULTS, help="default: %(default)s")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = [
        BinRecordings((options.data or default_root()) / "nmnist_subset.zip", part, STEPS) for part in ("Train", "Test")
    ]
    for seed, samples, depth in (
        (int(a), int(b), int(c))
        for a in options.seeds.split(",")
        for b in options.samples.split(",")
        for c in options.hidden.split(",")
    ):
        key = {"samples": samples, "hidden": [NEURONS] * depth, "seed": seed, "iterations": options.iterations}
        lines = options.results.read_text().splitlines() if options.results.exists() else []
        if any(key.items() <= json.loads(line).items() for line in lines):
            continue
        row = {**key, **SETTINGS, **run(key, data)}
        row["command"] = (
            f"python experiments/admm_consistent_real.py --samples {samples} --hidden {depth} --seeds {seed}"
        )
        row["versions"] = {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "bregma": bregma.__version__,
        }
        with options.results.open("a") as file:
            file.write(json.dumps(row) + "\n")


def run(key: dict[str, Any], data: list[BinRecordings]) -> dict[str, Any]:
    """Descend, and measure after every iteration."""
    labels = np.concatenate([part.labels.numpy() for part in data])
    unseen, chosen = stratified_cut(labels, key["samples"] / len(labels), key["seed"])
    x, y = frames(data, chosen), torch.from_numpy(labels[chosen])
    coded = torch.eye(CLASSES)[y]
    solver = ConsistentADMM(key["hidden"], PIXELS, CLASSES, ConsistentSettings(**SETTINGS), seed=key["seed"])
    solver.begin(x)
    solver.weights[-1] = solver.refreshed([(x, coded, None)])
    curve, seconds = [], 0.0
    for iteration in range(key["iterations"] + 1):
        begin = time.process_time()
        moved = solver.descend(x, coded) if iteration else True
        seconds += time.process_time() - begin
        point = {
            "iteration": iteration,
            "seconds": round(seconds, 2),
            "train": accuracy(solver.scores(x), y),
            "unseen": accuracy(scores(solver, data, unseen), torch.from_numpy(labels[unseen])),
            **solver.measure(),
        }
        curve.append(point)
        print(key, point, flush=True)
        if not moved:
            break
    return {"unseen_samples": len(unseen), "control": curve[0], "last": curve[-1], "curve": curve}


def frames(data: list[BinRecordings], rows: np.ndarray) -> Tensor:
    """Frames (T, B, 2312) of recordings counted through both parts."""
    first = rows[rows < len(data[0])]
    second = rows[rows >= len(data[0])] - len(data[0])
    return torch.cat([part.frames(some).flatten(2) for part, some in zip(data, (first, second), strict=True)], dim=1)


def scores(solver: ConsistentADMM, data: list[BinRecordings], rows: np.ndarray) -> Tensor:
    return torch.cat([solver.scores(frames(data, part)) for part in np.array_split(rows, -(-len(rows) // 100))])


def accuracy(given: Tensor, labels: Tensor) -> float:
    return round(float((given.argmax(1) == labels).double().mean()), 5)


if __name__ == "__main__":
    main()
