"""Whether a mask is better fixed late: pairs of runs of `sparsity.py` that differ in nothing but the end of the ramp.

`BREGMA_DATA=data python experiments/sparsity_ramp.py` adds the runs that are missing to results/sparsity_ramp.jsonl and
prints, on the validation part, what a later end gains over 0.75: mean and standard error over the seeds, which are in
no other table, and the means over the tasks. Learning rates, options and weight decays are those chosen for masks fixed
after 0.75; `voices` has the splits 0 and 1 alone, which serve choices anyhow. Test parts play no role.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

import torch
from sparsity import Study

RESULTS = Path(__file__).parent / "results" / "sparsity_ramp.jsonl"
SEEDS = (5, 6, 7, 8, 9, 12, 13, 14)
VOICES = (5, 6, 10, 11, 15, 16, 20, 21)
METRIC = {"metric": "adam"}

#: Method, task, density, learning rate, options, weight decay, later end, number of seeds.
CELLS: list[tuple[str, str, float, float, dict[str, Any], float, float, int]] = [
    ("target", "row", 0.5, 2e-2, {}, 1e-4, 0.9, 8),
    ("target", "permuted", 0.5, 4e-2, {}, 0.0, 0.9, 8),
    ("target", "nmnist-sim", 0.5, 1e-2, {"l1": 3e-5}, 0.0, 0.9, 5),
    ("target", "voices", 0.5, 2e-2, {}, 0.0, 0.9, 8),
    ("target", "row", 0.2, 2e-2, {}, 1e-4, 0.9, 8),
    ("target", "permuted", 0.2, 4e-2, {}, 0.0, 0.9, 8),
    ("target", "nmnist-sim", 0.2, 1e-2, {"l1": 3e-5}, 0.0, 0.9, 5),
    ("target", "voices", 0.2, 2e-2, {}, 0.0, 0.9, 8),
    ("target", "row", 0.1, 2e-2, {}, 0.0, 0.9, 8),
    ("target", "permuted", 0.1, 4e-2, {}, 1e-4, 0.9, 8),
    ("target", "nmnist-sim", 0.1, 1e-2, {"l1": 3e-5}, 0.0, 0.9, 5),
    ("target", "voices", 0.1, 1e-2, {}, 0.0, 0.9, 8),
    ("target", "row", 0.05, 2e-2, {}, 1e-4, 0.85, 8),
    ("target", "permuted", 0.05, 4e-2, {}, 0.0, 0.85, 8),
    ("target", "nmnist-sim", 0.05, 2e-2, {"l1": 1e-4}, 0.0, 0.85, 5),
    ("target", "voices", 0.05, 2e-2, {}, 0.0, 0.85, 8),
    ("target", "row", 0.02, 2e-2, {}, 1e-4, 0.9, 3),
    ("target", "permuted", 0.02, 4e-2, {}, 0.0, 0.9, 3),
    ("target", "nmnist-sim", 0.02, 1e-2, {}, 1e-4, 0.9, 3),
    ("target", "voices", 0.02, 2e-2, {}, 0.0, 0.9, 3),
    ("magnitude+metric", "row", 0.1, 2e-2, METRIC, 0.0, 0.9, 6),
    ("magnitude+metric", "permuted", 0.1, 4e-2, METRIC, 0.0, 0.9, 6),
    ("magnitude+metric", "nmnist-sim", 0.1, 1e-2, METRIC, 1e-3, 0.9, 4),
    ("magnitude+metric", "voices", 0.1, 1e-2, METRIC, 0.0, 0.9, 6),
    ("magnitude+metric", "row", 0.05, 4e-2, METRIC, 1e-3, 0.85, 6),
    ("magnitude+metric", "permuted", 0.05, 8e-2, METRIC, 0.0, 0.85, 6),
    ("magnitude+metric", "nmnist-sim", 0.05, 1e-2, METRIC, 1e-4, 0.85, 4),
    ("magnitude+metric", "voices", 0.05, 2e-2, METRIC, 0.0, 0.85, 6),
    ("set", "voices", 0.1, 2e-2, {}, 1e-4, 0.9, 6),
    ("set", "voices", 0.2, 2e-2, {}, 1e-4, 0.9, 6),
    ("l1-adam", "nmnist-sim", 0.1, 1e-2, {"lam": 1e-4}, 1e-3, 0.9, 6),
    ("l1-adam", "nmnist-sim", 0.2, 1e-2, {"lam": 1e-4}, 0.0, 0.9, 6),
    ("l1-adam", "permuted", 0.2, 4e-2, {"lam": 1e-4}, 1e-4, 0.9, 6),
    ("one-shot", "row", 0.1, 4e-2, {}, 1e-3, 0.9, 6),
    ("str", "row", 0.2, 2e-2, {"decay": 1e-1}, 1e-4, 0.9, 6),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="default: %(default)s")
    torch.set_num_threads(1)
    study = Study(parser.parse_args().results, "python experiments/sparsity_ramp.py")
    gains: dict[tuple[str, float], list[float]] = {}
    print("| method | task | density | end | gain | seeds |\n" + "| --- " * 6 + "|")
    for method, task, density, lr, options, weight_decay, end, count in CELLS:
        pairs = []
        for seed in (VOICES if task == "voices" else SEEDS)[:count]:
            early, late = (
                study.row(task, method, density, (lr, options | {"ramp_end": r}, weight_decay), seed)["validation"]
                for r in (0.75, end)
            )
            pairs.append(100 * (late - early))
        mean, error = statistics.mean(pairs), statistics.stdev(pairs) / len(pairs) ** 0.5
        print(f"| {method} | {task} | {density} | {end} | {mean:+.2f} ± {error:.2f} | {len(pairs)} |")
        gains.setdefault((method, density), []).append(mean)
    for (method, density), means in gains.items():
        print(f"{method} at {density}, mean of {len(means)} tasks: {statistics.mean(means):+.2f}")


if __name__ == "__main__":
    main()
