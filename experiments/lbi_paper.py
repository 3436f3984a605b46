"""The study of arXiv 2603.16462: DelRec networks trained by AdaBreg over a grid of lam, with and without a schedule.

`BREGMA_DATA=data python experiments/lbi_paper.py run` adds rows to results/lbi_paper.jsonl, one per training run with
all its settings; what is there already is not run again, so an interrupted study goes on where it stopped.
`python experiments/lbi_paper.py draw` draws Figures 1 to 5 and prints Tables 1 and 2 from those rows.

The networks are those of DelRec (arXiv 2509.24852) with narrower layers, trained as there: delays with a learning rate
of their own, a spread that shrinks, AdamW with weight decay as the baseline. AdaBreg starts dense and anchored, its
penalty on the weight matrices alone, at the learning rate of the baseline. That rate is the one with the best
validation loss of Adam (tuning seed 100); the grid goes on while the best is at its edge. A run is measured at equal
marks; the best mark is the one with the best validation accuracy, and its weights are tested once, delays rounded, on
samples never used for a choice.
"""

import argparse
import copy
import dataclasses
import itertools
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lbi_figures import draw
from torch import Tensor

import bregma
from bregma.data import FrameDataset, default_root, load, stratified_cut
from bregma.dynamics import spread_at
from bregma.nn import Record
from bregma.nn.delrec import ARCHITECTURES, DelRec
from bregma.nn.weights import split_parameters
from bregma.sparsity import layer_densities, nonzero, parameters

RESULTS = Path(__file__).parent / "results" / "lbi_paper.jsonl"
LAMS = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)
RATES = (2e-3, 5e-3, 1e-2)
TUNING_SEED = 100
DELAY_LR = 5e-2

#: Data, steps, samples for training, validation and test (None: all), network, passes over the training samples, marks
#: per pass, batch, weight decay of Adam. `psmnist98`: eight pixels a step. `shd_synth`: synthetic voices. `fsdd`: real
#: voices, real digits, spikes from a simulated cochlea. None is SHD or SSC. `shd_synth80` is four times as
#: long, `psmnist98x8` eight times.
TASKS: dict[str, dict[str, Any]] = {
    "shd_synth": {
        "data": "shd_synth_train.h5.gz", "steps": 100, "samples": [None, None, None],
        "architecture": "shd", "hidden": [64, 64], "epochs": 20, "marks": 1, "batch": 32, "decay": 1e-5,
    },
    "fsdd": {
        "data": "fsdd_spikes_train.h5.gz", "steps": 100, "samples": [None, None, None],
        "architecture": "shd", "hidden": [64, 64], "epochs": 15, "marks": 1, "batch": 32, "decay": 1e-5,
    },
    "shd_synth80": {
        "data": "shd_synth_train.h5.gz", "steps": 100, "samples": [None, None, None],
        "architecture": "shd", "hidden": [64, 64], "epochs": 80, "marks": 1, "batch": 32, "decay": 1e-5,
    },
    "psmnist98": {
        "data": "psmnist", "steps": 98, "samples": [None, 2000, None],
        "architecture": "psmnist", "hidden": [24, 48, 48], "epochs": 1, "marks": 8, "batch": 64, "decay": 1e-2,
    },
    "psmnist98x8": {
        "data": "psmnist", "steps": 98, "samples": [None, 2000, None],
        "architecture": "psmnist", "hidden": [24, 48, 48], "epochs": 8, "marks": 2, "batch": 64, "decay": 1e-2,
    },
    "psmnist784": {
        "data": "psmnist", "steps": 784, "samples": [None, 1000, 2000],
        "architecture": "psmnist", "hidden": [24, 48, 48], "epochs": 8, "marks": 2, "batch": 64, "decay": 1e-2,
    },
}  # fmt: skip

#: Long tasks, run when they are named, and the ones whose learning rate they take.
LONG = {"shd_synth80": "shd_synth", "psmnist98x8": "psmnist98x8", "psmnist784": "psmnist98"}


def samples(dataset: FrameDataset, count: int | None) -> tuple[Tensor, Tensor]:
    """Frames (T, N, ...) and labels of all samples, or of the first of a stratified, fixed order."""
    rows = range(len(dataset))
    if count is not None:
        _, rows = stratified_cut(dataset.labels.numpy(), count / len(dataset), seed=0)
    return dataset.__getitems__(list(rows))


def parts(task: dict[str, Any]) -> list[tuple[Tensor, Tensor]]:
    name = task["data"]
    splits = load(default_root() / name if name.endswith(".gz") else name, steps=task["steps"], seed=0)
    three = (splits.train, splits.validation, splits.test)
    return [samples(part, count) for part, count in zip(three, task["samples"], strict=True)]


def network(task: dict[str, Any], inputs: int, classes: int) -> DelRec:
    base = ARCHITECTURES[task["architecture"]]
    return DelRec(dataclasses.replace(base, inputs=inputs, hidden=tuple(task["hidden"]), classes=classes))


def make_optimizer(net: DelRec, setting: dict[str, Any], decay: float) -> torch.optim.Optimizer:
    """AdamW or AdaBreg; weight decay and penalty are of the weight matrices alone, delays have their own rate."""
    rates = {name: DELAY_LR for name, _ in net.named_parameters() if name.endswith(("delays", "p_spread"))}
    groups = bregma.param_groups(net, lam=setting["lam"], rates=rates)
    if setting["method"] == "adabreg":
        return bregma.AdaBreg(groups, lr=setting["lr"])
    for group in groups:
        group["weight_decay"] = decay if group["penalty"] != "none" else 0.0
    return torch.optim.AdamW(groups, lr=setting["lr"], fused=True)


def onecycle(done: float) -> float:
    """Up to one at 30 % of the steps, from a 25th, and down to a ten-thousandth; each a half cosine."""
    low, share = (0.04, 1 - done / 0.3) if done < 0.3 else (1e-4, (done - 0.3) / 0.7)
    return low + (1 - low) * (1 + math.cos(math.pi * share)) / 2


@torch.no_grad()
def score(net: DelRec, x: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy, loss and spikes per neuron and step, by hard spikes."""
    net.eval()
    right = loss = rate = 0.0
    for a, b in zip(x.split(250, 1), labels.split(250), strict=True):
        with Record(net) as record:
            logits = net(a)
        right += (logits.argmax(1) == b).sum().item()
        loss += F.cross_entropy(logits, b, reduction="sum").item()
        rate += record.firing_rate() * len(b)
    net.train()
    return {"accuracy": right / len(labels), "loss": loss / len(labels), "rate": rate / len(labels)}


def rounded(net: DelRec) -> DelRec:
    """A copy for inference: whole delays, no spread."""
    other = copy.deepcopy(net)
    other.round_delays_()
    return other


def same_sign(net: DelRec, start: dict[str, Tensor]) -> float:
    """Share of the weights that have the sign they started with."""
    weights, _ = split_parameters(net)
    kept = sum(int((w.detach() * start[name] > 0).sum()) for name, w in weights.items())
    return kept / sum(w.numel() for w in weights.values())


def train(data: list[tuple[Tensor, Tensor]], task: dict[str, Any], setting: dict[str, Any]) -> dict[str, Any]:
    """One training run; what was measured."""
    (x, labels), validation, test = data
    torch.manual_seed(setting["seed"])
    net = network(task, x.shape[2], int(labels.max()) + 1)
    start = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer = make_optimizer(net, setting, task["decay"])
    batches = len(labels) // task["batch"]
    total = task["epochs"] * batches
    marks = {round(total * k / (task["epochs"] * task["marks"])) for k in range(1, task["epochs"] * task["marks"] + 1)}
    factor = onecycle if setting["schedule"] == "onecycle" else lambda done: 1.0
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(step / total))
    order = torch.Generator().manual_seed(setting["seed"])
    curve: list[dict[str, Any]] = []
    best: tuple[tuple[float, float], int, DelRec] | None = None
    diverged, sums, step = None, [0.0, 0], 0
    started = time.process_time()
    try:
        for rows in (rows for _ in range(task["epochs"]) for rows in shuffled(len(labels), task["batch"], order)):
            net.set_spread(spread_at(step / total))
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x[:, rows]), labels[rows])
            loss.backward()
            optimizer.step()
            schedule.step()
            net.clamp_delays_()
            step += 1
            sums = [sums[0] + loss.item(), sums[1] + 1]
            if step in marks:
                curve.append(
                    measure(net, start, validation) | {"epoch": step / batches, "train_loss": sums[0] / sums[1]}
                )
                key = (curve[-1]["whole_accuracy"], -curve[-1]["whole_loss"])
                if best is None or key > best[0]:
                    best = (key, len(curve) - 1, rounded(net))
                sums = [0.0, 0]
    except ValueError as error:  # a membrane is no longer finite
        diverged = str(error)
    result: dict[str, Any] = {"curve": curve, "diverged": diverged, "parameters": parameters(net)}
    if best is not None:
        tested, last = score(best[2], *test), rounded(net)
        result |= {
            "best": best[1],
            "test": tested["accuracy"],
            "test_last": score(last, *test)["accuracy"],
            "test_smeared_last": score(net, *test)["accuracy"],
            "layers": layer_densities(best[2]),
        }
    return result | {"cpu_seconds": round(time.process_time() - started, 1)}


def shuffled(count: int, batch: int, order: torch.Generator) -> Any:
    """The whole batches of one pass."""
    return torch.randperm(count, generator=order).split(batch)[: count // batch]


def measure(net: DelRec, start: dict[str, Tensor], validation: tuple[Tensor, Tensor]) -> dict[str, Any]:
    """One point of the curves: the network as it is trained, and with whole delays as it would be used."""
    smeared, whole = score(net, *validation), score(rounded(net), *validation)
    return {
        "loss": smeared["loss"],
        "accuracy": smeared["accuracy"],
        "whole_loss": whole["loss"],
        "whole_accuracy": whole["accuracy"],
        "rate": whole["rate"],
        "nonzero": nonzero(net),
        "density": bregma.density(net),
        "same_sign": same_sign(net, start),
    }


class Study:
    """The rows so far, and the runs that add to them."""

    def __init__(self, path: Path, command: str) -> None:
        self.path, self.command = path, command
        self.rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        self.data: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def row(self, name: str, method: str, lam: float, lr: float, schedule: str, seed: int) -> dict[str, Any]:
        """The row of one run, trained unless it is there."""
        setting = {"task": name, "method": method, "lam": lam, "lr": lr, "schedule": schedule, "seed": seed}
        setting |= {"delay_lr": DELAY_LR, **TASKS[name]}
        for row in self.rows:
            if row["setting"] == setting:
                return row
        if name not in self.data:
            self.data = {name: parts(TASKS[name])}  # of one task at a time: they are large
        row = {"setting": setting, **train(self.data[name], TASKS[name], setting)}
        row |= {"bregma": bregma.__version__, "torch": torch.__version__, "command": self.command}
        self.rows.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        last = row["curve"][-1] if row["curve"] else dict.fromkeys(("accuracy", "density", "same_sign"), math.nan)
        print(
            f"{name} {method} lam {lam} lr {lr} {schedule} seed {seed}: validation {last['accuracy']:.4f} "
            f"test {row.get('test', math.nan):.4f} density {last['density']:.3f} same sign {last['same_sign']:.3f} "
            f"{row['diverged'] or ''} {row['cpu_seconds']} s",
            flush=True,
        )
        return row

    def rate(self, name: str) -> float:
        """Learning rate of the lowest validation loss of Adam with the tuning seed, at no edge of the grid."""
        name, rates, losses = LONG.get(name, name), list(RATES), {}
        while True:
            for lr in rates:
                row = self.row(name, "adam", 0.0, lr, "onecycle", TUNING_SEED)
                losses[lr] = math.inf if row["diverged"] else row["curve"][-1]["loss"]
            best = min(losses, key=lambda lr: losses[lr])
            if best == rates[0]:
                rates.insert(0, best / 2)
            elif best == rates[-1]:
                rates.append(best * 2)
            else:
                return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "draw"))
    short = [name for name in TASKS if name not in LONG]
    parser.add_argument("--tasks", default=",".join(short), help=f"also {', '.join(LONG)}; default: %(default)s")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to N-1; default: %(default)s")
    parser.add_argument("--lams", default=",".join(map(str, LAMS)), help="of AdaBreg; default: %(default)s")
    parser.add_argument("--schedules", default="onecycle,constant", help="default: %(default)s")
    parser.add_argument("--results", type=Path, default=RESULTS, help="default: %(default)s")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = options.tasks.split(",")
    command = (
        f"python experiments/lbi_paper.py run --tasks {options.tasks} --seeds {options.seeds} "
        f"--lams {options.lams} --schedules {options.schedules}"
    )
    study = Study(options.results, command)
    if options.what == "draw":
        draw(study.rows, options.results.parent)
        return
    for seed, name in itertools.product(range(options.seeds), names):  # a whole study of one seed first
        lr = study.rate(name)
        for schedule in options.schedules.split(","):
            study.row(name, "adam", 0.0, lr, schedule, seed)
            for lam in options.lams.split(","):
                study.row(name, "adabreg", float(lam), lr, schedule, seed)


if __name__ == "__main__":
    main()
