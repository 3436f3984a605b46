"""Which runs of `sparsity.py` count: what was chosen for each method, task and density, on the validation part."""

import json
import statistics
from typing import Any

TUNING_SEEDS, SEEDS = (100, 101, 105), 5  # of `voices` the first three have the splits 0 and 1 alone
#: Learning rate, options and weight decay.
Choice = tuple[float, dict[str, Any], float]


def tuned_at(method: str, density: float) -> float:
    """The density at which a method is tuned for another; 0.1, where it is held against the dense one, has its own."""
    return 1.0 if method == "dense" else 0.05 if density < 0.1 else 0.1 if density == 0.1 else 0.2


def is_final(setting: dict[str, Any], rows: list[dict[str, Any]]) -> bool:
    """Whether the test accuracy of a run counts: seeds from ``SEEDS`` on are for choices."""
    return bool(setting["seed"] < SEEDS) and is_chosen(setting, rows)


def is_chosen(setting: dict[str, Any], rows: list[dict[str, Any]]) -> bool:
    """Whether a run has the choice that leads in tuning; of a method never tuned for a task, over the seeds."""
    alike = {key: setting[key] for key in ("task", "method", "epochs")}
    own = (setting["lr"], setting["options"], setting.get("weight_decay", 0.0))
    for at in (tuned_at(setting["method"], setting["density"]), 0.05):  # variants were tuned at 0.05 for 0.1 too
        best = leader(rows, alike | {"density": at})
        if best or setting["density"] != 0.1:
            break
    return own == (best or leader(rows, alike | {"density": setting["density"]}, tuning=False))


def leader(rows: list[dict[str, Any]], of: dict[str, Any], tuning: bool = True) -> Choice | None:
    """The choice with the best mean validation accuracy, of those with the most tuning seeds, or of all runs."""
    found: dict[str, list[float]] = {}
    for row in sorted(rows, key=lambda row: row["setting"]["lr"]):  # the lower of equals
        setting = row["setting"]
        if of.items() <= setting.items() and (setting["seed"] in TUNING_SEEDS or not tuning):
            choice = [setting["lr"], setting["options"], setting.get("weight_decay", 0.0)]
            found.setdefault(json.dumps(choice), []).append(row["validation"])
    if not found:
        return None
    most = max(map(len, found.values())) if tuning else 0
    means = {choice: statistics.mean(values) for choice, values in found.items() if len(values) >= most}
    lr, options, decay = json.loads(max(means, key=lambda choice: means[choice]))
    return lr, options, decay
