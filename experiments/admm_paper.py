"""Section 5 of arXiv 2505.05527 on real N-MNIST: `python experiments/admm_paper.py --data FOLDER`.

Table 1's setting: T 150, 512 neurons per hidden layer, 200 training recordings, (rho, sigma, decay, threshold) =
(1, 0.1, 0.95, 1), 1000 iterations of which 300 warm up, random order of layers and time steps, and 1, 2 or 3 hidden
layers. All accuracies are those of true forward passes; "unseen" are recordings that no training saw. Beside each
network stands a control that tells learning from luck: random hidden weights (scaled so that 15 % of the spikes are
ones) with a readout solved in closed form.

Writes results/admm_paper.json, a row per network and seed; rows of other networks stay. A run in progress is kept in
``--out`` and goes on where it stopped.
`experiments/admm_figures.py` draws Figures 2 to 4 from the results.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bregma.admm import ADMM, Constants, Settings, forward
from bregma.admm.forward import random_layer
from bregma.data import load, stratified_cut
from bregma.runs.folder import environment

RESULTS = Path(__file__).parent / "results" / "admm_paper.json"
STEPS, NEURONS, SAMPLES, CLASSES = 150, 512, 200, 10
MEASURE_EVERY, UNSEEN_EVERY, SAVE_EVERY = 10, 50, 100

Part = tuple[Tensor, Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with N-MNIST; default: as bregma.data.load")
    parser.add_argument("--hidden", default="1,2,3", help="numbers of hidden layers; default: %(default)s")
    parser.add_argument("--iterations", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--warming", type=int, default=300, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of recordings and of ADMM; default: 0")
    parser.add_argument("--out", type=Path, default=Path("runs/admm-paper"), help="default: %(default)s")
    parser.add_argument("--json", type=Path, default=RESULTS, help="default: %(default)s")
    options = parser.parse_args()
    torch.set_num_threads(1)
    train, unseen, test = recordings(options.data, options.seed)
    for depth in map(int, options.hidden.split(",")):
        row = run(depth, options, train, unseen, test)
        row["control"] = control(depth, options.seed, train, unseen, test)
        print({key: value for key, value in row.items() if key != "curve"}, flush=True)
        record(row, options.json)


def record(row: dict[str, Any], path: Path) -> None:
    """Put a row among the results, in place of one of the same network and seed."""
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    rows = [other for other in rows if (other["hidden"], other["seed"]) != (row["hidden"], row["seed"])]
    rows = sorted([*rows, row], key=lambda row: (row["hidden"], row["seed"]))
    document = {"command": "python experiments/admm_paper.py", "environment": environment(), "rows": rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


def recordings(root: Path | None, seed: int, steps: int = STEPS) -> tuple[Part, Part, Part]:
    """200 recordings to train on, the same share of every class; all others; and the official test part among those."""
    splits = load("nmnist", root=root, steps=steps)
    rest, chosen = stratified_cut(splits.train.labels.numpy(), SAMPLES / len(splits.train), seed)
    train = _frames(splits.train, chosen)
    validation, test = (_frames(part, np.arange(len(part))) for part in (splits.validation, splits.test))
    others = (_frames(splits.train, rest), validation, test)
    return train, (torch.cat([x for x, _ in others], 1), torch.cat([y for _, y in others])), test


def _frames(data: Any, rows: Any) -> Part:
    frames, labels = data.__getitems__(rows.tolist())
    return frames.flatten(2).bool(), labels


def run(depth: int, options: Any, train: Part, unseen: Part, test: Part) -> dict[str, Any]:
    """Train one network and measure it on the way."""
    settings = Settings(Constants(ridge=1e-6), warming=options.warming, order="random")
    solver = ADMM(train[0].float(), torch.eye(CLASSES)[train[1]], (NEURONS,) * depth, settings, seed=options.seed)
    saved = options.out / f"hidden-{depth}-seed-{options.seed}.pt"
    curve: list[dict[str, Any]] = []
    seconds = 0.0
    if saved.exists():
        state = torch.load(saved, weights_only=True)
        solver.load_state_dict(state["solver"])
        curve, seconds = json.loads(state["curve"]), state["seconds"]
    while solver.iteration < options.iterations:
        begin = time.process_time()
        solver.step()
        seconds += time.process_time() - begin
        done = solver.iteration
        if done % MEASURE_EVERY == 0 or done <= 5:
            point = {"iteration": done, **solver.measure(), "train_accuracy": accuracy(solver, train)}
            if done % UNSEEN_EVERY == 0:
                point["unseen_accuracy"] = accuracy(solver, unseen)
                point["test_accuracy"] = accuracy(solver, test)
                print(depth, point, flush=True)
            curve.append(point)
        if done % SAVE_EVERY == 0 or done == options.iterations:
            options.out.mkdir(parents=True, exist_ok=True)
            torch.save({"solver": solver.state_dict(), "curve": json.dumps(curve), "seconds": seconds}, saved)
    scored = [point for point in curve if "unseen_accuracy" in point]
    command = f"--hidden {depth} --iterations {options.iterations} --warming {options.warming} --seed {options.seed}"
    return {
        "command": f"python experiments/admm_paper.py {command}",
        "hidden": [NEURONS] * depth,
        "steps": STEPS,
        "samples": SAMPLES,
        "unseen_samples": len(unseen[1]),
        "test_samples": len(test[1]),
        "iterations": options.iterations,
        "seed": options.seed,
        **asdict(settings),
        "train_accuracy": scored[-1]["train_accuracy"],
        "best_train_accuracy": max(point["train_accuracy"] for point in curve),
        "unseen_accuracy": scored[-1]["unseen_accuracy"],
        "test_accuracy": scored[-1]["test_accuracy"],
        "cpu_seconds": round(seconds, 1),
        "curve": curve,
    }


def accuracy(solver: ADMM, part: Part) -> float:
    """Share of recordings whose largest score is their class's."""
    scores = forward(part[0], solver.weights, solver.constants, solver.network.correlations)
    return float((scores.argmax(1) == part[1]).double().mean())


def control(depth: int, seed: int, train: Part, unseen: Part, test: Part) -> dict[str, float]:
    """Accuracies with random hidden weights and a readout by ridge regression on the true spikes' traces."""
    generator, constants = torch.Generator().manual_seed(seed), Constants()
    weights, spikes = [], train[0].float()
    for _ in range(depth):
        weight, spikes = random_layer(spikes, NEURONS, constants, generator)
        weights.append(weight)
    powers = constants.decay ** torch.arange(STEPS - 1, -1, -1, dtype=torch.float64)
    trace = torch.einsum("t,tbn->bn", powers, spikes.double())  # the readout's last membrane is W @ trace
    gram = trace.T @ trace
    ridge = 1e-2 * gram.diagonal().mean() * torch.eye(NEURONS, dtype=torch.float64)
    readout = torch.linalg.solve(gram + ridge, trace.T @ torch.eye(CLASSES, dtype=torch.float64)[train[1]]).T
    weights.append(readout.float())
    scored = {"train": train, "unseen": unseen, "test": test}
    return {
        f"{name}_accuracy": float((forward(x, weights, constants).argmax(1) == y).double().mean())
        for name, (x, y) in scored.items()
    }


if __name__ == "__main__":
    main()
