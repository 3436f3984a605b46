"""Which way to a sparse network is best: TargetDensity against what else there is, at equal epochs and equal tuning.

`BREGMA_DATA=data python experiments/sparsity.py run` adds rows to results/sparsity.jsonl, one per training run with
all its settings; what is there already is not run again, so an interrupted study goes on where it stopped.
`python experiments/sparsity.py table` puts the tables of those rows into docs/density_study.md and draws the figure.

Everyone gets the same network, epochs, order of samples, schedule (5 % warm-up, constant to 60 %, linear to zero),
gradient clip and grid of learning rates, which goes on by factors of two while the best is at its edge. The choice is
made on the validation part with three tuning seeds, at each density anew, at 0.05 for those below. First the learning
rate, along with lam, decay or l1 of the methods that have one: all of them with the first seed, those within a point of
the best with the other two as well, and the best mean counts. Then, at that rate, Adam's weight decay of the weight
matrices, 0, 1e-4, 1e-3 and on, in the same way. Variants of TargetDensity have no weight decay, and were tuned with the
first seed alone, at 0.05 and 0.2, or share a rate (`--lr`, with which nothing is tuned); they fix their mask after 0.75
of the steps at all densities, which was the default then, and were compared on the validation part, for `voices` at the
seeds 0, 1, 5 and 6, which are two splits of the voices. The seeds of the tables are in sparsity_choice.py.
Test accuracy is that of the last weights, by a forward pass with hard spikes on samples never used for a choice.
Density counts exact zeros of the weight matrices.
"""

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import Any

import sparsity_tables
import sparsity_variants as variants
import torch
import torch.nn.functional as F
from sparsity_choice import TUNING_SEEDS, Choice, leader, tuned_at
from sparsity_tasks import TASKS, Network, parts
from torch import Tensor, nn

import bregma
from bregma.optim import baselines
from bregma.sparsity import SynOps, layer_densities

RESULTS = Path(__file__).parent / "results" / "sparsity.jsonl"
RATES = (1e-2, 2e-2, 4e-2, 8e-2)
DECAYS = (0.0, 1e-4, 1e-3)
NEAR = 0.01  # validation accuracy below the best with the first tuning seed, up to which the others are run
CLIP = 1.0

PENALTIES = (0.0, 3e-5, 1e-4)
EARLY = {"ramp_end": 0.75}  # the default of all densities when most variants were tried
G = {"allocation": "global"} | EARLY  # and of most of these
METHODS: dict[str, Any] = {
    "target": (bregma.TargetDensity, {"l1": PENALTIES}),
    "target-early": (bregma.TargetDensity, {"l1": PENALTIES} | EARLY),
    "target-early-no-l1": (bregma.TargetDensity, EARLY),
    "target-global": (bregma.TargetDensity, G),
    "target-erk": (bregma.TargetDensity, {"allocation": "erk"} | EARLY),
    "target-tuned": (bregma.TargetDensity, {"allocation": ("global+erk", "erk", "global")} | EARLY),
    "target-floor-erk": (variants.FloorErk, {"share": 0.5} | EARLY),
    "target-uniform": (bregma.TargetDensity, {"allocation": "uniform"} | EARLY),
    "target-every1": (bregma.TargetDensity, {"every": 1} | G),
    "target-every5": (bregma.TargetDensity, {"every": 5} | G),
    "target-every10": (bregma.TargetDensity, {"every": 10} | G),
    "target-floor1": (bregma.TargetDensity, {"neuron_floor": 1} | G),
    "target-firm": (bregma.TargetDensity, {"prox": "firm"} | G),
    "target-hard": (bregma.TargetDensity, {"prox": "hard"} | G),
    "target-synops": (bregma.TargetDensity, {"cost": "synops"}),
    "target-synops-early": (bregma.TargetDensity, {"cost": "synops"} | EARLY),
    "target-global-synops": (bregma.TargetDensity, {"cost": "synops"} | G),
    "target-erk-firm": (bregma.TargetDensity, {"allocation": "erk", "prox": "firm"} | EARLY),
    "target-erk-synops": (bregma.TargetDensity, {"allocation": "erk", "cost": "synops"} | EARLY),
    "target-ramp0.6": (bregma.TargetDensity, G | {"ramp_end": 0.6}),
    "target-ramp0.85": (bregma.TargetDensity, G | {"ramp_end": 0.85}),
    "target-kept-scale": (variants.KeptScale, G),
    "target-kept-scale-mean": (variants.KeptScale, EARLY),
    "target-layer-scale": (variants.LayerScale, G),
    "target-decay": (variants.DeadZone, {"decay": 1.0} | G),
    "target-decay-alpha": (variants.DeadZone, {"decay": 1.0, "alpha": 0.1} | G),
    "sparse-start": (variants.SparseStart, {"allocation": "erk", "start": 0.4} | EARLY),
    "cycles": (variants.Cycles, {"cycles": 4} | G),
    "powerprop": (variants.PowerPropagation, {"power": 2.0} | G),
    "target-2:4": (bregma.TargetDensity, {"structure": "2:4", "prox": "soft"}),
    "target-1:4": (bregma.TargetDensity, {"structure": "1:4", "prox": "soft"}),
    "target-2:4-hard": (bregma.TargetDensity, {"structure": "2:4", "prox": "hard"}),
    "target-1:4-hard": (bregma.TargetDensity, {"structure": "1:4", "prox": "hard"}),
    "magnitude+metric-2:4": (baselines.MagnitudePruning, {"structure": "2:4", "metric": "adam"}),
    "magnitude+metric-1:4": (baselines.MagnitudePruning, {"structure": "1:4", "metric": "adam"}),
    "neurons-soft": (bregma.TargetDensity, {"structure": "neurons", "prox": "soft"}),
    "neurons-hard": (bregma.TargetDensity, {"structure": "neurons", "prox": "hard"}),
    "magnitude-neurons": (baselines.MagnitudePruning, {"structure": "neurons"}),
    "magnitude+metric-neurons": (baselines.MagnitudePruning, {"structure": "neurons", "metric": "adam"}),
    "magnitude": (baselines.MagnitudePruning, {}),
    "magnitude-early": (baselines.MagnitudePruning, EARLY),
    "magnitude+metric": (baselines.MagnitudePruning, {"metric": "adam"}),
    "magnitude+metric-early": (baselines.MagnitudePruning, {"metric": "adam"} | EARLY),
    "magnitude+metric+l1-early": (variants.PenalisedPruning, {"metric": "adam", "l1": PENALTIES} | EARLY),
    "one-shot": (baselines.OneShotPruning, {}),
    "rigl": (baselines.RigL, {}),
    "set": (baselines.SET, {}),
    "set-global": (baselines.SET, {"allocation": "global"}),
    "static-erk": (baselines.SET, {"every": 1_000_000}),
    "l1-adam": (baselines.L1Pruning, {"lam": (1e-4, 1e-3, 1e-2)}),
    "prox-adam": (baselines.ProxPruning, {"lam": (1e-2, 1e-1, 1.0)}),
    "str": (baselines.STR, {"decay": (5e-2, 1e-1, 2e-1, 4e-1)}),
    "dense": (None, {}),
}
#: With weight decay, and tuned with all seeds: what is compared in the end.
MAIN = (
    *("target", "target-early", "target-early-no-l1", "target-tuned", "target-synops", "target-synops-early"),
    *("magnitude", "magnitude-early", "magnitude+metric", "magnitude+metric-early", "magnitude+metric+l1-early"),
    *("one-shot", "rigl", "set", "l1-adam", "prox-adam", "str", "dense"),
)


def factor(done: float) -> float:
    return min(done / 0.05, 1.0, (1 - done) / 0.4)


def accuracy(net: nn.Module, x: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        right = [(net(a.float()).argmax(1) == b).sum() for a, b in zip(x.split(500, 1), labels.split(500), strict=True)]
    return int(sum(right)) / len(labels)


def operations(net: nn.Module, x: Tensor) -> float:
    """Synaptic operations per sample."""
    with torch.no_grad(), SynOps(net) as ops:
        for part in x.split(500, 1):
            net(part.float())
    return ops.total / x.shape[1]


def train(data: list[tuple[Tensor, Tensor]], setting: dict[str, Any]) -> dict[str, Any]:
    """One training run; what was measured."""
    task, seed, batch = TASKS[setting["task"]], setting["seed"], setting["batch"]
    (x, labels), validation, test = data
    torch.manual_seed(seed)
    network = Network(x[0, 0].numel(), int(labels.max()) + 1, **task["network"])
    net = network.net
    optimizer = torch.optim.Adam(network.groups(), lr=setting["lr"], fused=True)
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.0 if group["penalty"] == "none" else setting.get("weight_decay", 0.0)
    steps = setting["epochs"] * (len(labels) // batch)
    make, _ = METHODS[setting["method"]]
    options = setting["options"] | ({"net": net} if {"cost", "structure"} & set(setting["options"]) else {})
    sparsifier = make(optimizer, setting["density"], steps, **options) if make else None
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor((step + 1) / (steps + 1)))
    order = torch.Generator().manual_seed(seed)
    started = time.process_time()
    for epoch in range(setting["epochs"]):
        network.start_epoch(epoch / setting["epochs"])
        for rows in torch.randperm(len(labels), generator=order).split(batch)[: len(labels) // batch]:
            optimizer.zero_grad()
            F.cross_entropy(net(x[:, rows].float()), labels[rows]).backward()
            nn.utils.clip_grad_norm_(net.parameters(), setting["clip"])
            optimizer.step()
            schedule.step()
            network.stepped()
    network.finish()
    return {
        "validation": accuracy(net, *validation),
        "test": accuracy(net, *test),
        "synops": round(operations(net, test[0]), 1),
        "density_reached": bregma.density(net),
        "layer_density": {name: round(share, 4) for name, share in layer_densities(net).items()},
        "every": getattr(sparsifier, "every", None),
        "mask_density": sparsifier.density if sparsifier else 1.0,
        "delta": getattr(sparsifier, "delta", None),
        "seconds": round(time.process_time() - started, 1),
    }


class Study:
    """The rows so far, and the runs that add to them."""

    def __init__(self, path: Path, command: str, again: bool = False) -> None:
        self.path, self.command, self.again = path, command, again
        lines = path.read_text().splitlines() if path.exists() else []
        rows = [json.loads(line) for line in lines]
        self.rows = list({json.dumps(row["setting"]): row for row in rows}.values())  # the last of each setting
        self.data: dict[tuple[str, int], list[tuple[Tensor, Tensor]]] = {}

    def parts(self, task: str, seed: int) -> list[tuple[Tensor, Tensor]]:
        """Training, validation and test part."""
        key = (task, seed % 5 if task == "voices" else 0)
        if key not in self.data:
            self.data[key] = parts(task, seed)
        return self.data[key]

    def row(self, task: str, method: str, density: float, choice: Choice, seed: int) -> Any:
        """The row of one run, trained unless it is there."""
        lr, options, weight_decay = choice
        setting = {"task": task, "method": method, "density": density, "lr": lr, "seed": seed, "options": options}
        setting |= {"epochs": TASKS[task]["epochs"], "batch": TASKS[task]["batch"], "clip": CLIP}
        setting |= {"weight_decay": weight_decay} if weight_decay else {}
        for row in self.rows:
            if row["setting"] == setting and ("synops" in row or not self.again or seed in TUNING_SEEDS):
                return row
        measured = train(self.parts(task, seed), setting)
        row = {"setting": setting, **TASKS[task], **measured, "bregma": bregma.__version__, "torch": torch.__version__}
        row["command"] = self.command
        self.rows = [other for other in self.rows if other["setting"] != setting] + [row]
        self.path.parent.mkdir(exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{task} {method} {density} {choice} seed {seed}: {measured}", flush=True)
        return row

    def tuned(self, task: str, method: str, density: float) -> Choice:
        """What has the best validation accuracy, the learning rate at no edge of the grid."""
        density, rates, decays = tuned_at(density), list(RATES), list(DECAYS)
        while True:
            self._race(task, method, density, list(itertools.product(rates, grid(method), (0.0,))))
            lr, options, _ = best = self._leader(task, method, density)
            if lr == rates[0]:
                rates.insert(0, rates[0] / 2)
            elif lr == rates[-1]:
                rates.append(rates[-1] * 2)
            elif method not in MAIN:
                return best
            else:
                break
        while True:
            self._race(task, method, density, [(lr, options, decay) for decay in decays])
            best = self._leader(task, method, density)
            if best[2] < decays[-1]:
                return best
            decays.append(decays[-1] * 10)

    def _leader(self, task: str, method: str, density: float) -> Choice:
        of = {"task": task, "method": method, "epochs": TASKS[task]["epochs"]}
        best = leader([row for row in self.rows if of.items() <= row["setting"].items()], density)
        assert best is not None  # there are the rows of the race
        return best

    def _race(self, task: str, method: str, density: float, choices: list[Choice]) -> None:
        """Run all choices with the first tuning seed, and those that are near the best with the others."""
        first = [self.row(task, method, density, choice, TUNING_SEEDS[0])["validation"] for choice in choices]
        for choice, accuracy in zip(choices, first, strict=True):
            for seed in TUNING_SEEDS[1:] if method in MAIN and accuracy > max(first) - NEAR else ():
                self.row(task, method, density, choice, seed)


def grid(method: str) -> list[dict[str, Any]]:
    """All options that a method is tuned over."""
    fixed = METHODS[method][1]
    axes = [[(k, v) for v in (values if isinstance(values, tuple) else (values,))] for k, values in fixed.items()]
    return [dict(chosen) for chosen in itertools.product(*axes)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--tasks", default="row", help=f"of {', '.join(TASKS)}; default: %(default)s")
    parser.add_argument("--methods", default=",".join(MAIN), help="default: %(default)s")
    parser.add_argument("--densities", default="0.05,0.1,0.02,0.2,0.5")
    parser.add_argument("--seeds", default="5", help="seeds 0 to N-1, or a list as in 0,1,5; default: %(default)s")
    parser.add_argument("--lr", type=float, help="the learning rate of all runs; default: tuned")
    parser.add_argument("--again", action="store_true", help="train anew where synaptic operations were not counted")
    parser.add_argument("--results", type=Path, default=RESULTS, help="default: %(default)s")
    options = parser.parse_args()
    torch.set_num_threads(1)
    command = (
        f"python experiments/sparsity.py run --tasks {options.tasks} --methods {options.methods} "
        f"--densities {options.densities} --seeds {options.seeds}" + (f" --lr {options.lr}" if options.lr else "")
    )
    seeds = [int(seed) for seed in options.seeds.split(",")] if "," in options.seeds else range(int(options.seeds))
    study = Study(options.results, command, options.again)
    if options.what == "run":
        wanted = (options.densities.split(","), options.tasks.split(","), options.methods.split(","))
        for density, task, method in itertools.product(*wanted):
            at = 1.0 if method == "dense" else float(density)
            chosen = (options.lr, METHODS[method][1], 0.0) if options.lr else study.tuned(task, method, at)
            for seed in seeds:
                study.row(task, method, at, chosen, seed)
    else:
        sparsity_tables.write(study.rows)


if __name__ == "__main__":
    main()
