"""What `sparsity.py` measured against what the method is to show, per task and as the mean over tasks.

`python experiments/sparsity_bars.py` prints Markdown from results/sparsity.jsonl and trains nothing. Differences are in
percentage points of test accuracy: `TargetDensity` less plain magnitude pruning, less the best of all baselines (its
name in brackets), less the dense network. The spread beside a difference is the root of the mean of both variances
over the seeds.
"""

import json
import statistics
from typing import Any

from sparsity import RESULTS, TASKS, TUNING_SEED, is_chosen

DENSITIES = (0.5, 0.2, 0.1, 0.05, 0.02)
Cells = dict[tuple[str, str, float], list[float]]


def cells(rows: list[dict[str, Any]]) -> Cells:
    """Test accuracies in per cent by task, method and density, tuned runs only."""
    found: Cells = {}
    for row in {json.dumps(row["setting"]): row for row in rows}.values():  # what was trained anew counts once
        setting = row["setting"]
        if setting["seed"] != TUNING_SEED and is_chosen(setting, rows):
            found.setdefault((setting["task"], setting["method"], setting["density"]), []).append(100 * row["test"])
    return found


def difference(a: list[float], b: list[float]) -> tuple[float, float]:
    """Difference of the means and the spread beside it."""
    spread = [statistics.variance(values) if len(values) > 1 else 0.0 for values in (a, b)]
    return statistics.mean(a) - statistics.mean(b), statistics.mean(spread) ** 0.5


def best_rival(found: Cells, task: str, density: float) -> str | None:
    """The baseline with the highest mean; variants of TargetDensity are none."""
    rivals = {m: v for (t, m, d), v in found.items() if (t, d) == (task, density) and not m.startswith("target")}
    return max(rivals, key=lambda method: statistics.mean(rivals[method])) if rivals else None


def compared(found: Cells, task: str, density: float, kind: str) -> tuple[float, float, str] | None:
    """Difference, spread and name of the rival; None where a side is missing."""
    own = found.get((task, "target", density))
    rival = {"plain": "magnitude", "best": best_rival(found, task, density), "dense": "dense"}[kind]
    other = found.get((task, rival or "", 1.0 if kind == "dense" else density))
    return (*difference(own, other), rival or "") if own and other else None


def main() -> None:
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    found = cells(rows)
    titles = {"plain": "magnitude pruning", "best": "the best baseline", "dense": "the dense network"}
    for kind, title in titles.items():
        print(f"\nTargetDensity less {title}\n\n| task | {' | '.join(map(str, DENSITIES))} |\n| --- |{' --- |' * 5}")
        for task in TASKS:
            line = [compared(found, task, density, kind) for density in DENSITIES]
            name = (lambda rival: f" ({rival})") if kind == "best" else (lambda rival: "")
            print(f"| {task} | {' | '.join(f'{c[0]:+.1f} ± {c[1]:.1f}{name(c[2])}' if c else '' for c in line)} |")
        means = []
        for density in DENSITIES:
            here = [c[0] for task in TASKS if (c := compared(found, task, density, kind))]
            means.append(f"{statistics.mean(here):+.1f} ({len(here)})" if here else "")
        print(f"| mean (tasks) | {' | '.join(means)} |")
        low = [c[0] for task in TASKS for d in (0.1, 0.05, 0.02) if (c := compared(found, task, d, kind))]
        print(f"\nMean over tasks and densities <= 0.1: {statistics.mean(low):+.1f}")


if __name__ == "__main__":
    main()
