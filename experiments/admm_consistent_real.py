"""The consistent solver on real N-MNIST in the paper's setting: `python experiments/admm_consistent_real.py`.

T 150, 512 neurons per hidden layer, 1, 2 or 3 of them, 200 or 1000 training recordings; the others of the 1,100 are
unseen (900, or 100) and used for no choice. Two ways to train:

- ``shifted``: mini-batches of 50. In the first four fifths of the iterations each recording is moved by up to two
  pixels, anew every time; the readout (mean over time) is fitted to the recordings as they are in the end, with the
  largest of the ridges 0.1, 0.03 and 0.01 that leaves none of them wrong (0.1 where all do).
- ``descent``: full-batch descent with leave-one-out residuals, no shifts, readout at the last step.

A fifth of the training recordings is first kept for validation: the ridge of the hidden layers (and for ``descent`` the
number of iterations; of equals the fewest, then the largest ridge) with the best accuracy there is that of the run on
all of them. The control is the network before the first iteration: random hidden weights with a readout in closed form.
For ``shifted`` it has as much choice: a readout of either kind, any of those ridges, fitted to the recordings as they
are or to five times as many, shifted, whichever is best on the validation part.

Adds to results/admm_consistent_real.jsonl the rows that are not there yet; `--table` prints them.
"""

import argparse
import itertools
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
from bregma.admm.readout import refit
from bregma.data import BinRecordings, default_root, shift_frames, stratified_cut

RESULTS = Path(__file__).parent / "results" / "admm_consistent_real.jsonl"
STEPS, NEURONS, CLASSES, PIXELS = 150, 512, 10, 2312
SETTINGS: dict[str, dict[str, Any]] = {
    "shifted": {"step": 0.05, "readout_ridge": 0.1, "readout": "mean"},
    "descent": {"step": 0.3, "readout_ridge": 0.1, "leave_one_out": True},
}
RIDGES = {"shifted": (1.0, 10.0), "descent": (10.0, 100.0)}
READOUT_RIDGES = (0.1, 0.03, 0.01)  # of `shifted`, once the hidden layers are trained
ITERATIONS = 6  # of descent, at most
PASSES, BATCH, PIXELS_MOVED, SHIFTED_PART = {200: 40, 1000: 15}, 50, 2, 0.8
COPIES = 5  # of each recording for a control with shifts
VALIDATION = 0.2
VALIDATION_SEED = 1000  # beside that of the split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with nmnist_subset.zip; default: as bregma.data.load")
    parser.add_argument("--samples", default="200,1000", help="default: %(default)s")
    parser.add_argument("--hidden", default="1,2,3", help="numbers of hidden layers; default: %(default)s")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="default: %(default)s")
    parser.add_argument("--method", choices=tuple(SETTINGS), default="shifted", help="default: %(default)s")
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
        key = {"method": options.method, "samples": samples, "hidden": [NEURONS] * depth, "seed": seed}
        lines = options.results.read_text().splitlines() if options.results.exists() else []
        if any(key.items() <= json.loads(line).items() for line in lines):
            continue
        row = {**key, **SETTINGS[options.method], **run(key, data)}
        row["command"] = (
            f"python experiments/admm_consistent_real.py --method {options.method} --samples {samples} "
            f"--hidden {depth} --seeds {seed}"
        )
        row["versions"] = {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "bregma": bregma.__version__,
        }
        with options.results.open("a") as file:
            file.write(json.dumps(row) + "\n")


def run(key: dict[str, Any], data: list[BinRecordings]) -> dict[str, Any]:
    """Choose on a part of the training recordings, train on all, and measure on the unseen ones."""
    labels = np.concatenate([part.labels.numpy() for part in data])
    unseen, chosen = stratified_cut(labels, key["samples"] / len(labels), key["seed"])
    cut = stratified_cut(labels[chosen], VALIDATION, VALIDATION_SEED + key["seed"])
    kept, validation = (chosen[part] for part in cut)
    train = {"shifted": stream, "descent": descend}[key["method"]]
    tried = [
        {"ridge": ridge, "curve": train(key, data, labels, kept, validation, ridge, ITERATIONS)}
        for ridge in RIDGES[key["method"]]
    ]
    ridge, iterations = choice(tried)
    curve = train(key, data, labels, chosen, unseen, ridge, iterations)
    control = curve[0]
    if key["method"] == "shifted":
        ways = controls(key, data, labels, kept, validation)
        best = max(ways, key=lambda way: ways[way])
        control = {"accuracy": controls(key, data, labels, chosen, unseen)[best], "chosen": best, "validation": ways}
    return {
        "unseen_samples": len(unseen),
        "ridge": ridge,
        "iterations": curve[-1]["iteration"],
        "control": control,
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
    settings = ConsistentSettings(ridge=ridge, **SETTINGS["descent"])
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


def stream(
    key: dict[str, Any],
    data: list[BinRecordings],
    labels: np.ndarray,
    training: np.ndarray,
    others: np.ndarray,
    ridge: float,
    _: int,
) -> list[dict[str, Any]]:
    """Train on mini-batches of shifted recordings; accuracy before and after, with the readout fitted anew."""
    x, y = frames(data, training).to(torch.uint8), torch.from_numpy(labels[training])
    coded = torch.eye(CLASSES)[y]
    iterations = PASSES[key["samples"]] * (len(y) // BATCH)
    settings = ConsistentSettings(ridge=ridge, iterations=iterations, **SETTINGS["shifted"])
    solver = ConsistentADMM(key["hidden"], PIXELS, CLASSES, settings, seed=key["seed"])
    generator = torch.Generator().manual_seed(key["seed"])
    orders = [torch.randperm(len(y), generator=generator) for _ in range(PASSES[key["samples"]])]
    batches = [rows for order in orders for rows in order.split(BATCH) if len(rows) == BATCH]
    solver.begin(x[:, batches[0]].float())
    curve, seconds = [], 0.0
    for iteration in (0, len(batches)):
        for k, rows in enumerate(batches[:iteration]):
            near = shifted(x[:, rows], generator) if k < SHIFTED_PART * iterations else x[:, rows].float()
            begin = time.process_time()
            solver.step(near, coded[rows])
            seconds += time.process_time() - begin
        f = torch.cat([features(solver, part) for part in x.split(100, 1)])
        fitted = {r: refit([(f, coded, None)], solver.weights[-1], solver.loss, r) for r in READOUT_RIDGES}
        right = {r: accuracy(f @ w.T, y) for r, (w, _) in fitted.items()}
        last_ridge = next((r for r in READOUT_RIDGES if right[r] == 1), READOUT_RIDGES[0])
        solver.weights[-1], loss = fitted[last_ridge]
        point = {
            "iteration": iteration,
            "seconds": round(seconds, 2),
            "train": right[last_ridge],
            "accuracy": accuracy(scores(solver, data, others), torch.from_numpy(labels[others])),
            "loss": loss,
            "last_readout_ridge": last_ridge,
        }
        curve.append(point)
        print(key, len(training), ridge, point, flush=True)
    return curve


def controls(
    key: dict[str, Any], data: list[BinRecordings], labels: np.ndarray, training: np.ndarray, others: np.ndarray
) -> dict[str, float]:
    """Accuracy of random hidden layers on others, by kind of readout and what it is fitted to."""
    x, y = frames(data, training).to(torch.uint8), torch.from_numpy(labels[training])
    coded, found = torch.eye(CLASSES)[y], {}
    for kind in ("mean", "last"):
        settings = ConsistentSettings(readout=kind)
        solver = ConsistentADMM(key["hidden"], PIXELS, CLASSES, settings, seed=key["seed"])
        solver.begin(x[:, :BATCH].float())
        generator = torch.Generator().manual_seed(key["seed"])
        moved = itertools.chain([x], (shifted(x, generator) for _ in range(COPIES - 1)))
        parts = [(torch.cat([features(solver, part) for part in one.split(100, 1)]), coded, None) for one in moved]
        for copies, ridge in itertools.product((1, COPIES), READOUT_RIDGES):
            solver.weights[-1], _ = refit(parts[:copies], solver.weights[-1], solver.loss, ridge)
            found[f"{kind}, {copies} of each, {ridge}"] = accuracy(
                scores(solver, data, others), torch.from_numpy(labels[others])
            )
    print(key, len(training), found, flush=True)
    return found


def shifted(x: Tensor, generator: torch.Generator) -> Tensor:
    """Recordings (T, B, 2312), each moved by up to two pixels along both axes."""
    moves = torch.randint(-PIXELS_MOVED, PIXELS_MOVED + 1, (x.shape[1], 2), generator=generator)
    return shift_frames(x.unflatten(2, (2, 34, 34)).float(), moves).flatten(2)


def features(solver: ConsistentADMM, x: Tensor) -> Tensor:
    """What the readout reads of recordings (T, B, 2312)."""
    return solver.run(solver.begin(x.float())).features


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
    names = ("method", "M", "hidden layers", "splits", "control, unseen", "trained, unseen", "gain", "training")
    print(f"| {' | '.join([*names, 'ridges or rates', 'CPU s'])} |")
    print("| --- |" + " --- |" * 9)
    for cell in sorted({(row["method"], row["samples"], len(row["hidden"])) for row in rows}, reverse=True):
        of = [row for row in rows if (row["method"], row["samples"], len(row["hidden"])) == cell]
        control, last = ([100 * row[name]["accuracy"] for row in of] for name in ("control", "last"))
        gains = [b - a for a, b in zip(control, last, strict=True)]
        columns_of = (control, last, gains)
        spread = [f"{statistics.mean(v):.1f}" + (f" ± {statistics.stdev(v):.1f}" if v[1:] else "") for v in columns_of]
        training = " to ".join(f"{100 * pick(row['last']['train'] for row in of):.1f}" for pick in (min, max))
        ridges = ", ".join(f"{row['ridge']:g}" for row in of)
        seconds = statistics.mean(row["last"]["seconds"] for row in of)
        columns = [*map(str, cell), str(len(of)), *spread, training, ridges, f"{seconds:.0f}"]
        print(f"| {' | '.join(columns)} |")


if __name__ == "__main__":
    main()
