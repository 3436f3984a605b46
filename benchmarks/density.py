"""What TargetDensity adds to a training step, while the ramp is under way and after it.

    python benchmarks/density.py [--json PATH] [--rounds N]

Three networks, batch 125, one thread. Each contestant trains on its own copy of the network, round by round in turn;
times are those of the processor, medians over rounds. ``overhead`` is the time that ``optimizer.step()`` takes longer
with TargetDensity, over the whole training step (forward, backward and step) without it. By default thresholds come
every second step in trainings of up to 1,200 steps, every tenth in 4,000, and so on.
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

import bregma
from bregma.nn import SpikingMLP

RESULTS = Path(__file__).parent / "results" / "density.json"
#: Inputs, hidden layers and time steps.
NETWORKS = {"row MNIST": (28, (128,), 28), "SHD": (140, (256, 256), 100), "N-MNIST": (2312, (512,), 31)}
CONTESTANTS = {"dense": None, "every 1": 1, "every 2": 2, "every 10": 10, "frozen": 0}


class Contestant:
    """A network in training; ``every`` is None without TargetDensity and 0 after its ramp."""

    def __init__(self, network: tuple[int, tuple[int, ...], int], every: int | None) -> None:
        inputs, hidden, steps = network
        torch.manual_seed(0)
        self.net = SpikingMLP(inputs, hidden, 10, recurrent=True)
        self.optimizer = torch.optim.Adam(bregma.param_groups(self.net), lr=1e-4, fused=True)
        self.sparsifier = None
        if every is not None:
            total = 1_000_000 if every else 1
            self.sparsifier = bregma.TargetDensity(self.optimizer, 0.05, total, every=every or 1)
        self.x = (torch.rand(steps, 125, inputs) < 0.05).float()
        self.labels = torch.randint(10, (125,))

    def step(self) -> tuple[float, float]:
        """Milliseconds of forward and backward, and of the optimiser."""
        self.optimizer.zero_grad()
        start = time.process_time()
        F.cross_entropy(self.net(self.x), self.labels).backward()
        middle = time.process_time()
        self.optimizer.step()
        return 1e3 * (middle - start), 1e3 * (time.process_time() - middle)


def measure(network: str, rounds: int) -> list[dict[str, Any]]:
    runners = {name: Contestant(NETWORKS[network], every) for name, every in CONTESTANTS.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runners}
    for index in range(rounds + 2):
        for name, runner in runners.items():
            # ten steps in a row, so that a threshold every tenth step counts with a tenth of its time
            steps = [runner.step() for _ in range(10)]
            if index >= 2:
                times[name].append((statistics.mean(a for a, _ in steps), statistics.mean(b for _, b in steps)))
    gradient = statistics.median(a for rows in times.values() for a, _ in rows)
    update = {name: statistics.median(b for _, b in rows) for name, rows in times.items()}
    weights = sum(p.numel() for p in runners["dense"].net.parameters() if p.ndim > 1)
    return [
        {
            "network": network,
            "weights": weights,
            "method": name,
            "forward_backward_ms": round(gradient, 3),
            "step_ms": round(value, 3),
            "overhead": round((value - update["dense"]) / (gradient + update["dense"]), 4),
        }
        for name, value in update.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for network in NETWORKS:
        for row in measure(network, args.rounds):
            rows.append({**row, "rounds": args.rounds, "torch": torch.__version__, "machine": platform.processor()})
            print(
                f"{network:10} {row['method']:8} step {row['step_ms']:8.3f} ms  overhead {100 * row['overhead']:5.1f} %"
            )
    args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
