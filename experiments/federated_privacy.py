"""What differential privacy costs: `python experiments/federated_privacy.py` writes results/federated_privacy.json.

The digits at five clients, two classes each, trained by `bregma.interop.federated` without a network between,
800-64-64-10 neurons. The number of iterations is chosen for each promise by the mean validation accuracy of the seeds;
no iteration means random hidden weights. "Each alone" is ``together`` 1, every message with all of the noise; the other
rows are ``together`` 5, messages that are seen in their sum only. Split, first weights and noise depend on the seed.
"""

import argparse
import json
import math
import statistics
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bregma.admm.consistent_settings import ConsistentSettings
from bregma.data import FrameDataset, collate, load
from bregma.files import write_text
from bregma.interop.federated import Plan, Server, local_sums
from bregma.interop.privacy import Privacy
from bregma.runs.folder import environment

RESULTS = Path(__file__).parent / "results" / "federated_privacy.json"
DELTA, CLIENTS = 1e-5, 5
ITERATIONS = (0, 5, 20)
PROMISES: dict[str, Privacy | None] = {
    "none": None,
    "bounds, no noise": Privacy(math.inf, DELTA),
    **{f"epsilon {epsilon}": Privacy(epsilon, DELTA, together=CLIENTS) for epsilon in (100, 30, 8, 3, 1)},
    "epsilon 100, each alone": Privacy(100, DELTA),
    "epsilon 8, each alone": Privacy(8, DELTA),
}


def everything(dataset: FrameDataset) -> tuple[Tensor, Tensor]:
    """All samples of a data set at once."""
    x, labels = collate([dataset[k] for k in range(len(dataset))])
    return x.flatten(2), labels


def train(plan: Plan, x: Tensor, labels: Tensor) -> Server:
    server, noise = Server(plan), torch.Generator().manual_seed(1000 + plan.seed)
    owners = [labels // 2 == client for client in range(CLIENTS)]
    for phase in map(plan.phase, range(1, plan.rounds + 1)):
        client, total = plan.solver(server.solver.weights, server.solver.iteration), {}
        for mine in owners:
            sums = local_sums(plan, client, phase, x[:, mine], labels[mine], noise)
            total = {name: total.get(name, 0) + tensor for name, tensor in sums.items()}
        server.take(phase, total)
    return server


def rows(seeds: int) -> list[dict[str, Any]]:
    found = []
    for seed in range(seeds):
        splits = load("digits", seed=seed)
        parts = {name: everything(getattr(splits, name)) for name in ("train", "validation", "test")}
        for promise, privacy in PROMISES.items():
            for iterations in ITERATIONS:
                settings = ConsistentSettings(iterations=max(1, iterations))
                plan = Plan(800, 10, (64, 64), iterations, settings, seed=seed, privacy=privacy)
                solver = train(plan, *parts["train"]).solver
                accuracy = {
                    name: float((solver.scores(x).argmax(1) == labels).double().mean())
                    for name, (x, labels) in parts.items()
                }
                found.append({"promise": promise, "iterations": iterations, "seed": seed} | accuracy)
                print(found[-1], flush=True)
    return found


def show(found: list[dict[str, Any]]) -> None:
    print("\n| promise | iterations | test accuracy |\n| --- | --- | --- |")
    for promise in PROMISES:
        best = max(ITERATIONS, key=lambda n: statistics.mean(_column(found, promise, n, "validation")))
        test = [100 * value for value in _column(found, promise, best, "test")]
        print(f"| {promise} | {best} | {statistics.mean(test):.1f} ± {statistics.stdev(test):.1f} % |")


def _column(found: list[dict[str, Any]], promise: str, iterations: int, name: str) -> list[float]:
    return [row[name] for row in found if (row["promise"], row["iterations"]) == (promise, iterations)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to N-1; default: %(default)s")
    parser.add_argument("--json", type=Path, default=RESULTS, help="default: %(default)s")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = rows(options.seeds)
    command = f"python experiments/federated_privacy.py --seeds {options.seeds}"
    write_text(options.json, json.dumps({"command": command, "environment": environment(), "rows": found}, indent=1))
    show(found)


if __name__ == "__main__":
    main()
