"""What `sparsity.py` measured against what the method is to show, per task and as the mean over tasks.

`python experiments/sparsity_bars.py` prints Markdown from results/sparsity.jsonl and trains nothing. Differences are in
percentage points of test accuracy: `TargetDensity` less plain magnitude pruning, less the best of all baselines (its
name in brackets), less the dense network. The spread beside a difference is the root of the mean of both variances
over the seeds. Then the same for its allocation by ERK less the global one, on the validation part, where the default
is chosen, and on the test part; and accuracy and synaptic operations where these were counted.
"""

import json
import statistics
from typing import Any

from sparsity import METHODS, RESULTS, TASKS, TUNING_SEED, is_chosen

DENSITIES = (0.5, 0.2, 0.1, 0.05, 0.02)
BASELINES = {
    name
    for name, (make, options) in METHODS.items()
    if make and make.__module__.startswith("bregma.optim.baselines") and "structure" not in options
}
Cells = dict[tuple[str, str, float], list[float]]


def final(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The tuned runs; what was trained anew counts once."""
    latest = {json.dumps(row["setting"]): row for row in rows}.values()
    return [row for row in latest if row["setting"]["seed"] != TUNING_SEED and is_chosen(row["setting"], rows)]


def cells(rows: list[dict[str, Any]], part: str = "test") -> Cells:
    """Accuracies in per cent by task, method and density."""
    found: Cells = {}
    for row in rows:
        setting = row["setting"]
        found.setdefault((setting["task"], setting["method"], setting["density"]), []).append(100 * row[part])
    return found


def difference(a: list[float], b: list[float]) -> tuple[float, float]:
    """Difference of the means and the spread beside it."""
    spread = [statistics.variance(values) if len(values) > 1 else 0.0 for values in (a, b)]
    return statistics.mean(a) - statistics.mean(b), statistics.mean(spread) ** 0.5


def best_rival(found: Cells, task: str, density: float) -> str | None:
    """The baseline with the highest mean."""
    rivals = {m: v for (t, m, d), v in found.items() if (t, d) == (task, density) and m in BASELINES}
    return max(rivals, key=lambda method: statistics.mean(rivals[method])) if rivals else None


def compared(found: Cells, task: str, density: float, kind: str) -> tuple[float, float, str] | None:
    """Difference, spread and name of the rival; None where a side is missing."""
    method = "target-erk" if kind == "allocation" else "target"
    rivals = {"plain": "magnitude", "dense": "dense", "allocation": "target"}
    rival = best_rival(found, task, density) if kind == "best" else rivals[kind]
    own = found.get((task, method, density))
    other = found.get((task, rival or "", 1.0 if kind == "dense" else density))
    return (*difference(own, other), rival or "") if own and other else None


def differences(found: Cells, kind: str, title: str) -> None:
    """One table: tasks, their mean (`voices` are the recordings of `speech` and not in it) and how many are in it."""
    print(f"\n{title}\n\n| task | {' | '.join(map(str, DENSITIES))} |\n| --- |{' --- |' * len(DENSITIES)}")
    for task in TASKS:
        line = [compared(found, task, density, kind) for density in DENSITIES]
        name = (lambda rival: f" ({rival})") if kind == "best" else (lambda rival: "")
        print(f"| {task} | {' | '.join(f'{c[0]:+.1f} ± {c[1]:.1f}{name(c[2])}' if c else '' for c in line)} |")
    tasks = [task for task in TASKS if task != "voices"]
    means = []
    for density in DENSITIES:
        here = [c[0] for task in tasks if (c := compared(found, task, density, kind))]
        means.append(f"{statistics.mean(here):+.1f} ({len(here)})" if here else "")
    print(f"| mean (tasks) | {' | '.join(means)} |")
    low = [c[0] for task in tasks for d in (0.1, 0.05, 0.02) if (c := compared(found, task, d, kind))]
    print(f"\nMean over tasks and densities <= 0.1: {statistics.mean(low):+.2f}")


def operations(rows: list[dict[str, Any]]) -> None:
    """Accuracy and synaptic operations per sample with and without a cost for operations."""
    print("\n| task | method | density | test accuracy | operations | seeds |\n" + "| --- " * 6 + "|")
    for task, method in ((t, m) for t in TASKS for m in ("magnitude", "target", "target-synops")):
        for density in sorted({row["setting"]["density"] for row in rows}, reverse=True):
            wanted = {"task": task, "method": method, "density": density}
            here = [row for row in rows if "synops" in row and wanted.items() <= row["setting"].items()]
            if here:
                test, cost = (statistics.mean(row[key] for row in here) for key in ("test", "synops"))
                print(f"| {task} | {method} | {density} | {100 * test:.1f} | {cost:,.0f} | {len(here)} |")


def main() -> None:
    rows = final([json.loads(line) for line in RESULTS.read_text().splitlines()])
    found = cells(rows)
    differences(found, "plain", "TargetDensity less magnitude pruning")
    differences(found, "best", "TargetDensity less the best baseline")
    differences(found, "dense", "TargetDensity less the dense network")
    differences(cells(rows, "validation"), "allocation", "Allocation by ERK less global, validation part")
    differences(found, "allocation", "Allocation by ERK less global")
    operations(rows)


if __name__ == "__main__":
    main()
