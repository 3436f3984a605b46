"""The tables and the figure of docs/density_study.md from the rows of sparsity.py: `sparsity.py table` calls `write`.

A table stands in the page after a line `<!-- sparsity.py: task kind -->` and is replaced where it stands.
"""

import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "bregma"
import matplotlib.pyplot as plt  # noqa: E402
from sparsity_choice import finals  # noqa: E402

Row = dict[str, Any]
#: Accuracies in per cent of each task, method and density.
Cells = dict[tuple[str, str, float], list[float]]

PAGE = Path(__file__).parent.parent / "docs" / "density_study.md"
FIGURE = Path(__file__).parent / "results" / "sparsity.svg"
LEAST = 3  # seeds that a cell of a table needs
DENSITIES = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02)

CONTESTANTS = {
    "target": "**TargetDensity**",
    "magnitude": "gradual magnitude pruning",
    "magnitude-early": "gradual magnitude pruning, mask fixed after 0.75",
    "magnitude+metric": "pruning by the score of TargetDensity",
    "magnitude+metric-early": "pruning by the score, mask fixed after 0.75",
    "one-shot": "one shot and fine-tuning",
    "rigl": "RigL",
    "set": "SET",
    "l1-adam": "L1 + Adam, then a threshold",
    "prox-adam": "ProxAdam",
    "str": "STR",
    "dense": "dense",
}
VARIANTS = {
    "target-early": "early: mask fixed after 0.75 of the steps",
    "target-early-no-l1": "early, no L1",
    "target-global": "early, no L1, allocated globally",
    "target-erk": "early, no L1, allocated by ERK",
    "target-tuned": "early, no L1, allocation tuned",
    "target-floor-erk": "global, but half of ERK at least",
    "target-every5": "global, threshold every 5 steps",
    "target-every10": "global, threshold every 10 steps",
    "target-floor1": "global, one input per neuron at least",
    "target-firm": "global, firm threshold",
    "target-hard": "global, hard threshold",
    "target-erk-firm": "ERK, firm threshold",
    "target-ramp0.6": "global, mask fixed after 0.6 of the steps",
    "target-ramp0.85": "global, mask fixed after 0.85 of the steps",
    "target-kept-scale": "global, the scale stays when the mask is fixed",
    "target-kept-scale-mean": "early, no L1, the scale stays when the mask is fixed",
    "target-layer-scale": "global, a scale for each tensor",
    "target-decay": "global, duals of pruned weights decay",
    "target-decay-alpha": "global, they decay and move by a tenth of the gradient",
    "sparse-start": "ERK, sparse start of 0.4",
    "cycles": "global, AC/DC, 4 cycles",
    "powerprop": "global, powerpropagation, power 2",
    "magnitude+metric+l1-early": "pruning by the score with L1, mask fixed after 0.75",
    "set-global": "SET, allocated globally",
    "static-erk": "a random mask by ERK, never changed",
}
KINDS = {"contestants": CONTESTANTS, "variants": VARIANTS, "all": VARIANTS | CONTESTANTS}
COSTS = {
    "magnitude": "pruning by magnitude",
    "magnitude-early": "mask fixed after 0.75",
    "target": "TargetDensity",
    "target-synops": 'with `cost="synops"`',
}

#: Title of each task in the figure, and colour and line of the methods that are drawn.
PANELS = {
    "row": "rows of MNIST, 21,248 weights",
    "voices": "spoken digits, synthetic",
    "permuted": "permuted MNIST, 5,248 weights",
    "permuted-wide": "permuted MNIST, 18,688 weights",
    "nmnist-sim": "N-MNIST, simulated",
}
LINES = {
    "target": ("TargetDensity", "#0b3572", "-"),
    "magnitude+metric": ("pruning by its score", "#4a98c9", "-"),
    "magnitude": ("magnitude pruning", "#d55e00", "-"),
    "l1-adam": ("L1 + Adam", "#7b3294", "--"),
    "set": ("SET", "#009e73", "--"),
    "rigl": ("RigL", "#a6761d", "--"),
}


def write(rows: Sequence[Row]) -> None:
    """Put the tables into the page and draw the figure."""
    final = finals(rows)
    cells: Cells = {}
    for row in final:
        place = (row["setting"]["task"], row["setting"]["method"], row["setting"]["density"])
        cells.setdefault(place, []).append(100 * row["test"])

    def replaced(found: re.Match[str]) -> str:
        task, kind = found["task"], found["kind"]
        lines = costs(final, task.split(",")) if kind == "operations" else table(cells, task, KINDS[kind])
        return found["head"] + "\n".join(lines) + "\n"

    mark = r"(?P<head><!-- sparsity\.py: (?P<task>\S+) (?P<kind>\w+) -->\n\n)(?:\|.*\n)*"
    PAGE.write_text(re.sub(mark, replaced, PAGE.read_text()))
    draw(cells)


def table(cells: Cells, task: str, methods: dict[str, str]) -> list[str]:
    """Mean and standard deviation of the test accuracy by density; in brackets the seeds, where not all have run."""
    columns = [d for d in DENSITIES if any(len(cells.get((task, method, d), ())) >= LEAST for method in methods)]
    lines = [cut_line(["method", *map(str, columns)]), "| --- |" + " --- |" * len(columns)]
    for method, label in methods.items():
        shown = [summary(cells.get((task, method, density), []), density) for density in columns]
        lines += [cut_line([label, *shown])] if any(shown) else []
    return lines


def cut_line(cells: Sequence[str]) -> str:
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


def summary(values: Sequence[float], density: float) -> str:
    if len(values) < LEAST:
        return ""
    seeds = f" ({len(values)})" if len(values) != (10 if density in (0.5, 0.2) else 5) else ""
    shown = f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}{seeds}"
    return shown.replace(" ", "\N{NO-BREAK SPACE}")


def costs(rows: Sequence[Row], tasks: Sequence[str]) -> list[str]:
    """Test accuracy and synaptic operations per sample of what is compared at equal operations."""
    lines = [cut_line(["task", "density", *COSTS.values()]), "| --- |" + " --- |" * (1 + len(COSTS))]
    for task in tasks:
        for density in (0.1, 0.05, 0.02):
            cells = [PANELS[task] if density == 0.1 else "", str(density)]
            for method in COSTS:
                wanted = {"task": task, "method": method, "density": density}
                here = [row for row in rows if wanted.items() <= row["setting"].items()]
                test, operations = (statistics.mean(row[key] for row in here) for key in ("test", "synops"))
                cells.append(f"{100 * test:.1f} at {operations:,.0f}")
            lines.append(cut_line(cells))
    return lines


def draw(cells: Cells) -> None:
    """Test accuracy against density, a panel for each task: means with error bars of one standard deviation."""
    figure, axes = plt.subplots(2, 3, figsize=(9.6, 5.6), layout="constrained")
    for axis, (task, title) in zip(axes.flat, PANELS.items(), strict=False):
        for method, (label, color, style) in LINES.items():
            points = [(d, cells[task, method, d]) for d in DENSITIES if len(cells.get((task, method, d), ())) >= LEAST]
            if points:
                x, values = zip(*points, strict=True)
                spread = [statistics.stdev(v) for v in values] if task != "voices" else None
                means = [statistics.mean(v) for v in values]
                axis.errorbar(x, means, spread, color=color, linestyle=style, linewidth=1.4, capsize=2, label=label)
        dense = statistics.mean(cells[task, "dense", 1.0])
        axis.axhline(dense, color="#888888", linestyle=":", linewidth=1.2, label="dense")
        axis.set_xscale("log")
        axis.set_xticks([0.5, 0.2, 0.1, 0.05, 0.02], ["0.5", "0.2", "0.1", "0.05", "0.02"])
        axis.minorticks_off()
        axis.invert_xaxis()
        axis.set_title(title, fontsize=9)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    axes.flat[-1].axis("off")
    axes.flat[-1].legend(*axes.flat[0].get_legend_handles_labels(), loc="center", frameon=False, fontsize=9)
    figure.supxlabel("density", fontsize=9)
    figure.supylabel("test accuracy, %", fontsize=9)
    figure.savefig(FIGURE, metadata={"Date": None})
    plt.close(figure)
