"""Which runs of `sparsity.py` count: what was chosen for each method, task and density, on the validation part."""

import json
import statistics
from collections.abc import Sequence
from typing import Any

TUNING_SEEDS = (100, 101, 105)  # of `voices` these have the splits 0 and 1 alone
#: What is tested; the second half at 0.5 and 0.2, where differences are small, and of `voices` the same splits again.
SEEDS = (0, 1, 2, 3, 4, 20, 21, 22, 23, 24)
Row = dict[str, Any]
#: Learning rate, options and weight decay.
Choice = tuple[float, dict[str, Any], float]


def tuned_at(density: float) -> float:
    """The density at which a method is tuned for one: its own, but 0.05 for those below, which spares a fifth."""
    return max(density, 0.05)


def finals(rows: Sequence[Row]) -> list[Row]:
    """The rows whose test accuracy counts: of ``SEEDS``, with the choice that leads in tuning."""
    alike: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        alike.setdefault(tuple(row["setting"][key] for key in ("task", "method", "epochs")), []).append(row)
    leaders = {
        (*key, density): chosen(group, density)
        for key, group in alike.items()
        for density in {row["setting"]["density"] for row in group}
    }
    return [
        row
        for row in rows
        if row["setting"]["seed"] in SEEDS
        and choice_of(row) == leaders[tuple(row["setting"][key] for key in ("task", "method", "epochs", "density"))]
    ]


def chosen(rows: Sequence[Row], density: float) -> Choice | None:
    """What leads in tuning; variants may share that of 0.05 or 0.2; of one never tuned for a task, over the seeds."""
    shared = 0.05 if density <= 0.1 else 0.2
    return leader(rows, tuned_at(density)) or leader(rows, shared) or leader(rows, density, tuning=False)


def choice_of(row: Row) -> Choice:
    return row["setting"]["lr"], row["setting"]["options"], row["setting"].get("weight_decay", 0.0)


def leader(rows: Sequence[Row], density: float, tuning: bool = True) -> Choice | None:
    """The choice with the best mean validation accuracy, of those with the most tuning seeds, or of all runs.

    ``rows`` are those of one task, method and number of epochs.
    """
    found: dict[str, list[float]] = {}
    for row in sorted(rows, key=lambda row: row["setting"]["lr"]):  # the lower of equals
        if row["setting"]["density"] == density and (row["setting"]["seed"] in TUNING_SEEDS or not tuning):
            found.setdefault(json.dumps(choice_of(row)), []).append(row["validation"])
    if not found:
        return None
    most = max(map(len, found.values())) if tuning else 0
    means = {choice: statistics.mean(values) for choice, values in found.items() if len(values) >= most}
    lr, options, decay = json.loads(max(means, key=lambda choice: means[choice]))
    return lr, options, decay
