"""The consistent solver on real N-MNIST in the paper's setting: `python experiments/admm_consistent_real.py`.

T 150, 512 neurons per hidden layer, 1, 2 or 3 of them, 200 or 1000 training recordings; the others of the 1,100 are
unseen (900, or 100) and used for no choice. Full-batch descent. A fifth of the training recordings is first kept for
validation: the ridge of the hidden layers and the number of iterations with the best accuracy there (of equals the
fewest iterations, then the largest ridge) are those of the run on all of them. The control is the network before the
first iteration: random hidden weights with a readout in closed form, with the same ridge of the readout, which was
chosen for it on the validation part of seed 0.

Adds to results/admm_consistent_real.jsonl the rows that are not there yet; `--table` prints them.
"""

import argparse
import json
import platform
import statistics
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
SETTINGS: dict[str, Any] = {"step": 0.3, "readout_ridge": 0.1, "leave_one_out": True}
RIDGES, ITERATIONS = (10.0, 100.0), 6
VALIDATION = 0.2
VALIDATION_SEED = 1000  # beside that of the split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with nmnist_subset.zip; default: as bregma.data.load")
    parser.add_argument("--samples", default="200,1000", help="default: %(default)s")
    parser.add_argument("--hidden", default="1,2,3", help="numbers of hidden layers; default: %(default)s")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="default: %(default)s")
    parser.add_argument("--results", type=Path, default=RESULTS, help="default: %(default)s")
    parser.add_argument("--table", action="store_true", help="print the rows that are there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.table:
        table([json.loads(line) for line in options.results.read_text().splitlines()])
        return
    data = [
        BinRecordings((options.data or default_root()) / "nmnist_subset.zip", part, STEPS) for part in ("Train", "Test")
    ]
    for seed, samples, depth in (
        (int(a), int(b), int(c))
        for a in options.seeds.split(",")
        for b in options.samples.split(",")
        for c in options.hidden.split(",")
    ):
        key = {"samples": samples, "hidden": [NEURONS] * depth, "seed": seed}
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
    """Choose on a part of the training recordings, descend on all, and measure on the unseen ones."""
    labels = np.concatenate([part.labels.numpy() for part in data])
    unseen, chosen = stratified_cut(labels, key["samples"] / len(labels), key["seed"])
    kept, validation = stratified_cut(labels[chosen], VALIDATION, VALIDATION_SEED + key["seed"])
    tried = [
        {"ridge": ridge, "curve": descend(key, data, labels, chosen[kept], chosen[validation], ridge, ITERATIONS)}
        for ridge in RIDGES
    ]
    ridge, iterations = choice(tried)
    curve = descend(key, data, labels, chosen, unseen, ridge, iterations)
    return {
        "unseen_samples": len(unseen),
        "ridge": ridge,
        "iterations": iterations,
        "control": curve[0],
        "last": curve[-1],
        "curve": curve,
        "validation": tried,
    }


def choice(tried: list[dict[str, Any]]) -> tuple[float, int]:
    """Ridge and number of iterations (at least one) of the best validation accuracy."""
    points = [(point["accuracy"], -point["iteration"], row["ridge"]) for row in tried for point in row["curve"][1:]]
    _, iterations, ridge = max(points)
    return ridge, -iterations


def descend(
    key: dict[str, Any],
    data: list[BinRecordings],
    labels: np.ndarray,
    training: np.ndarray,
    others: np.ndarray,
    ridge: float,
    iterations: int,
) -> list[dict[str, Any]]:
    """Train on some recordings; accuracy on them and on others before the first and after every iteration."""
    x, y = frames(data, training), torch.from_numpy(labels[training])
    coded = torch.eye(CLASSES)[y]
    settings = ConsistentSettings(ridge=ridge, **SETTINGS)
    solver = ConsistentADMM(key["hidden"], PIXELS, CLASSES, settings, seed=key["seed"])
    solver.begin(x)
    solver.weights[-1], _ = solver.refreshed([(x, coded, None)])
    curve, seconds = [], 0.0
    for iteration in range(iterations + 1):
        begin = time.process_time()
        moved = solver.descend(x, coded) if iteration else True
        seconds += time.process_time() - begin
        if not moved:
            break
        point = {
            "iteration": iteration,
            "seconds": round(seconds, 2),
            "train": accuracy(solver.scores(x), y),
            "accuracy": accuracy(scores(solver, data, others), torch.from_numpy(labels[others])),
            **solver.measure(),
        }
        curve.append(point)
        print(key, len(training), ridge, point, flush=True)
    return curve


def frames(data: list[BinRecordings], rows: np.ndarray) -> Tensor:
    """Frames (T, B, 2312) of recordings counted through both parts."""
    first = rows[rows < len(data[0])]
    second = rows[rows >= len(data[0])] - len(data[0])
    return torch.cat([part.frames(some).flatten(2) for part, some in zip(data, (first, second), strict=True)], dim=1)


def scores(solver: ConsistentADMM, data: list[BinRecordings], rows: np.ndarray) -> Tensor:
    return torch.cat([solver.scores(frames(data, part)) for part in np.array_split(rows, -(-len(rows) // 100))])


def accuracy(given: Tensor, labels: Tensor) -> float:
    return round(float((given.argmax(1) == labels).double().mean()), 5)


def table(rows: list[dict[str, Any]]) -> None:
    """Mean and standard deviation over the splits in per cent, as Markdown."""
    print("| M | hidden layers | splits | control, unseen | trained, unseen | gain | ridges | iterations | CPU s |")
    print("| --- |" + " --- |" * 8)
    for samples, depth in sorted({(row["samples"], len(row["hidden"])) for row in rows}):
        of = [row for row in rows if (row["samples"], len(row["hidden"])) == (samples, depth)]
        control, last = ([100 * row[name]["accuracy"] for row in of] for name in ("control", "last"))
        gains = [b - a for a, b in zip(control, last, strict=True)]
        spread = [f"{statistics.mean(v):.1f} ± {statistics.stdev(v):.1f}" for v in (control, last, gains)]
        chosen = [", ".join(f"{row[name]:g}" for row in of) for name in ("ridge", "iterations")]
        seconds = statistics.mean(row["last"]["seconds"] for row in of)
        print(f"| {samples} | {depth} | {len(of)} | {' | '.join([*spread, *chosen])} | {seconds:.0f} |")


if __name__ == "__main__":
    main()
