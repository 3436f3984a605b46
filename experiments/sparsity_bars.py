"""What `sparsity.py` measured against what the method is to show, per task and as the mean over tasks.

`python experiments/sparsity_bars.py` prints Markdown from results/sparsity.jsonl and trains nothing. Differences are in
percentage points of test accuracy: `TargetDensity` less plain magnitude pruning, less the best of all baselines (its
name in brackets; gradual pruning counts twice, with its mask fixed when that of `TargetDensity` is, and early), less
the dense network. The early variants of `TargetDensity` have at 0.5 what was tuned at 0.2, the baselines their own. The
spread beside a difference is the root of the mean of both variances over the seeds; on `voices`, where each run tests
other voices, runs are compared in pairs and it is the standard deviation of their differences. In the means `voices`
stands for spoken digits and `speech`, the same recordings, is left out; there are two, with the narrower and with the
wider network for permuted MNIST. Then, on the validation part, where the default is chosen, its allocation and that by
ERK less the global one, and each variant less the global allocation in runs of the same learning rate and seed; last
accuracy and synaptic operations where these were counted.
"""

import itertools
import json
import statistics
from collections.abc import Sequence
from typing import Any

from sparsity import MAIN, METHODS, RESULTS, TASKS
from sparsity_choice import TUNING_SEEDS, finals

DENSITIES = (0.5, 0.2, 0.1, 0.05, 0.02)
#: The tasks of the means; the wider network of `permuted-wide` was run when the figures of `permuted` were known.
MEANS = {
    "mean": ("row", "voices", "permuted", "nmnist-sim"),
    "mean with permuted-wide": ("row", "voices", "permuted-wide", "nmnist-sim"),
}
BASELINES = [
    name
    for name, (make, options) in METHODS.items()
    if make and make.__module__.startswith("bregma.optim.baselines") and "structure" not in options
]
#: Without those that fix their mask later.
EARLY = [name for name in BASELINES if f"{name}-early" not in BASELINES]
#: Accuracy in per cent by seed of each task, method and density.
Cells = dict[tuple[str, str, float], dict[int, float]]


def cells(rows: list[dict[str, Any]], part: str = "test") -> Cells:
    """The accuracies on one part."""
    found: Cells = {}
    for row in rows:
        setting = row["setting"]
        place = (setting["task"], setting["method"], setting["density"])
        found.setdefault(place, {})[setting["seed"]] = 100 * row[part]
    return found


def difference(task: str, a: dict[int, float], b: dict[int, float]) -> tuple[float, float]:
    """Difference of the means and the spread beside it."""
    if task == "voices":
        pairs = [a[seed] - b[seed] for seed in a if seed in b]
        return statistics.mean(pairs), statistics.stdev(pairs) if len(pairs) > 1 else 0.0
    spread = [statistics.variance(values.values()) if len(values) > 1 else 0.0 for values in (a, b)]
    return statistics.mean(a.values()) - statistics.mean(b.values()), statistics.mean(spread) ** 0.5


def compared(
    found: Cells, task: str, density: float, method: str, rivals: Sequence[str]
) -> tuple[float, float, str] | None:
    """Difference to the best rival, spread and its name; None where a side is missing."""
    own = found.get((task, method, density), {})
    others = {name: found.get((task, name, 1.0 if name == "dense" else density), {}) for name in rivals}
    differences = [(*difference(task, own, other), name) for name, other in others.items() if own.keys() & other.keys()]
    return min(differences, default=None)


def differences(found: Cells, title: str, method: str, rivals: Sequence[str]) -> None:
    """One table: tasks, and the mean over them with how many are in it."""
    print(f"\n{title}\n\n| task | {' | '.join(map(str, DENSITIES))} |\n| --- |{' --- |' * len(DENSITIES)}")
    lines = {task: [compared(found, task, density, method, rivals) for density in DENSITIES] for task in TASKS}
    for task, line in lines.items():
        name = (lambda rival: f" ({rival})") if len(rivals) > 1 else (lambda rival: "")
        print(f"| {task} | {' | '.join(f'{c[0]:+.1f} ± {c[1]:.1f}{name(c[2])}' if c else '' for c in line)} |")
    for mean, tasks in MEANS.items():
        of_tasks = [[c[0] for task in tasks if (c := lines[task][i])] for i in range(len(DENSITIES))]
        print(f"| {mean} | {' | '.join(f'{statistics.mean(o):+.1f} ({len(o)})' if o else '' for o in of_tasks)} |")
    for mean, tasks in MEANS.items():
        low = [c[0] for task in tasks for c, d in zip(lines[task], DENSITIES, strict=True) if c and d <= 0.1]
        print(f"\nMean over tasks and densities <= 0.1, {mean}: {statistics.mean(low):+.2f}")


def variants(rows: list[dict[str, Any]]) -> None:
    """Validation accuracy less that of the global allocation at the same learning rate and seed."""
    print("\nVariants less the global allocation, same learning rate and seeds, validation part\n")
    print("| variant | task | density | lr | difference | seeds |\n" + "| --- " * 6 + "|")
    runs: dict[tuple[Any, ...], dict[int, float]] = {}
    for row in rows:
        s = row["setting"]
        if s["seed"] not in TUNING_SEEDS and "weight_decay" not in s:
            place = (s["method"], s["task"], s["density"], s["lr"])
            runs.setdefault(place, {})[s["seed"]] = 100 * row["validation"]
    for place in sorted(runs, key=lambda place: (list(METHODS).index(place[0]), place[1:])):
        method, task, density, lr = place
        rival = runs.get(("target-global", *place[1:]), {})
        pairs = [value - rival[seed] for seed, value in runs[place].items() if seed in rival]
        if pairs and method in METHODS and method not in (*MAIN, "target-global"):
            print(f"| {method} | {task} | {density} | {lr} | {statistics.mean(pairs):+.1f} | {len(pairs)} |")


def operations(rows: list[dict[str, Any]]) -> None:
    """Accuracy and synaptic operations per sample with and without a cost for operations."""
    print("\n| task | method | density | test accuracy | operations | seeds |\n" + "| --- " * 6 + "|")
    methods = ("magnitude", "target", "target-synops")
    for task, method in itertools.product(TASKS, methods):
        for density in sorted({row["setting"]["density"] for row in rows}, reverse=True):
            wanted = {"task": task, "method": method, "density": density}
            here = [row for row in rows if "synops" in row and wanted.items() <= row["setting"].items()]
            if here:
                test, cost = (statistics.mean(row[key] for row in here) for key in ("test", "synops"))
                print(f"| {task} | {method} | {density} | {100 * test:.1f} | {cost:,.0f} | {len(here)} |")


def main() -> None:
    read = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    every = list({json.dumps(row["setting"]): row for row in read}.values())  # what was trained anew counts once
    rows = finals(every)
    found, validation = cells(rows), cells(rows, "validation")
    differences(found, "TargetDensity less magnitude pruning", "target", ["magnitude", "magnitude-early"])
    differences(found, "TargetDensity less the best baseline", "target", BASELINES)
    differences(found, "TargetDensity less the dense network", "target", ["dense"])
    differences(found, "All masks fixed after 0.75 of the steps: less the best baseline", "target-early", EARLY)
    differences(found, "The same less the dense network", "target-early", ["dense"])
    differences(found, "The same without L1, less the best baseline", "target-early-no-l1", EARLY)
    for name, method in (("its default", "target-early-no-l1"), ("ERK", "target-erk")):
        title = f"TargetDensity, allocation by {name} less global"
        differences(validation, f"{title}, validation part", method, ["target-global"])
        differences(found, title, method, ["target-global"])
    variants(every)
    operations(rows)


if __name__ == "__main__":
    main()
