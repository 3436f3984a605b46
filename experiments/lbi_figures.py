"""Figures 1 to 5 and Tables 1 and 2 of arXiv 2603.16462 from the rows of lbi_paper.py, which calls `draw`."""

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "bregma"
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.ticker import MaxNLocator  # noqa: E402

from bregma.nn.delrec import ARCHITECTURES  # noqa: E402

Row = dict[str, Any]

COLORS = ("#c9ced4", "#9ecae1", "#4a98c9", "#1c5fa5", "#0b3572", "#3b0f4f")  # lam, from 0 up
ADAM = "#d55e00"
SCHEDULES = {"onecycle": "with schedule", "constant": "without schedule"}
CLASSES = {"shd_synth": 20, "shd_synth80": 20, "fsdd": 10, "psmnist98": 10, "psmnist98x8": 10, "psmnist784": 10}
#: Parameters of the published networks, asserted in tests/test_nn_delrec.py.
PUBLISHED = {"shd": 173_844, "ssc": 374_819, "psmnist": 156_154}


def draw(rows: Sequence[Row], folder: Path) -> None:
    """Write the figures and print the tables, of the seeds whose grid of lam is complete."""
    rows = complete(rows)
    for schedule, numbers in (("onecycle", ("1", "2", "3")), ("constant", ("4", "2_constant", "5"))):
        here = pick(rows, schedule=schedule)
        tasks = tasks_of(here)
        paths = [folder / f"lbi_figure_{number}.svg" for number in numbers]
        save(curves(here, tasks, "loss", schedule), paths[0])
        save(curves(here, tasks, "density", schedule), paths[1])
        save(best(here, tasks, schedule), paths[2])
    table_1(rows)
    table_2(rows)
    by_lam(rows)


def complete(rows: Sequence[Row]) -> list[Row]:
    """The rows of the seeds and schedules for which the whole grid is there; those of tuning are none of them."""
    final = [row for row in rows if row["setting"]["seed"] < 100]
    lams = lams_of(final)

    def cell(row: Row) -> list[Row]:
        return pick(final, **{key: row["setting"][key] for key in ("task", "seed", "schedule")})

    return [row for row in final if len(cell(row)) == len(lams) + 1]


def tasks_of(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["setting"]["task"] for row in rows))


def pick(rows: Sequence[Row], **wanted: Any) -> list[Row]:
    return [row for row in rows if wanted.items() <= row["setting"].items()]


def lams_of(rows: Sequence[Row]) -> list[float]:
    return sorted({row["setting"]["lam"] for row in rows if row["setting"]["method"] == "adabreg"})


def lines(rows: Sequence[Row], task: str, schedule: str) -> list[tuple[str, str, str, list[Row]]]:
    """Label, colour, style and rows of Adam and of each lam."""
    found = [("Adam", ADAM, "--", pick(rows, task=task, schedule=schedule, method="adam"))]
    for lam, color in zip(lams_of(rows), COLORS, strict=False):
        found.append((f"λ = {lam:g}", color, "-", pick(rows, task=task, schedule=schedule, method="adabreg", lam=lam)))
    return found


def curves(rows: Sequence[Row], tasks: list[str], name: str, schedule: str) -> Any:
    """Validation loss, or share of weights that are not zero, at each mark; mean over seeds."""
    figure, panels = axes_for(tasks)
    for axis, task in zip(panels, tasks, strict=True):
        for label, color, style, runs in lines(rows, task, schedule):
            runs = [run for run in runs if not run["diverged"]]
            if not runs or (name == "density" and label == "Adam"):
                continue
            x = [point["epoch"] for point in runs[0]["curve"]]
            axis.plot(x, means(runs, name), color=color, linestyle=style, linewidth=1.4, label=label)
        if name == "density":
            adam = pick(rows, task=task, schedule=schedule, method="adam")
            x = [point["epoch"] for point in adam[0]["curve"]]
            label = "Adam: weights that\nkeep their first sign"
            axis.plot(x, means(adam, "same_sign"), color=ADAM, linestyle=":", linewidth=1.6, label=label)
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    figure.supylabel("validation loss" if name == "loss" else "share of weights that are not zero", fontsize=9)
    return finished(figure, panels, rows, tasks, SCHEDULES[schedule])


def means(runs: Sequence[Row], name: str) -> list[float]:
    return [statistics.mean(values) for values in zip(*([p[name] for p in run["curve"]] for run in runs), strict=True)]


def best(rows: Sequence[Row], tasks: list[str], schedule: str) -> Any:
    """Best validation accuracy against lam: each seed a dot, their mean a line; Adam beside it."""
    figure, panels = axes_for(tasks)
    for axis, task in zip(panels, tasks, strict=True):
        lams = lams_of(rows)
        places = range(len(lams))
        values = [
            [100 * best_validation(run) for run in pick(rows, task=task, schedule=schedule, method="adabreg", lam=lam)]
            for lam in lams
        ]
        for place, found in zip(places, values, strict=True):
            axis.plot([place] * len(found), found, "o", color=COLORS[2], markersize=3.5, alpha=0.6)
        axis.plot(places, [statistics.mean(v) for v in values], color=COLORS[3], linewidth=1.4, label="AdaBreg")
        adam = [100 * best_validation(run) for run in pick(rows, task=task, schedule=schedule, method="adam")]
        axis.axhline(statistics.mean(adam), color=ADAM, linestyle="--", linewidth=1.2, label="Adam")
        axis.set_xticks(list(places), [f"{lam:g}" for lam in lams])
        axis.set_xlabel("λ")
    figure.supylabel("best validation accuracy, %", fontsize=9)
    return finished(figure, panels, rows, tasks, SCHEDULES[schedule])


def best_validation(run: Row) -> float:
    return float(max((point["whole_accuracy"] for point in run["curve"]), default=math.nan))


def axes_for(tasks: list[str]) -> tuple[Any, list[Axes]]:
    """Panels side by side, three in a row at most; the last row may have fewer."""
    columns = 2 if len(tasks) == 4 else min(len(tasks), 3)
    rows = -(-len(tasks) // columns)
    figure = plt.figure(figsize=(3.1 * columns + 1.5, 2.9 * rows), layout="constrained")
    return figure, [figure.add_subplot(rows, columns, k + 1) for k in range(len(tasks))]


def finished(figure: Any, panels: list[Axes], rows: Sequence[Row], tasks: list[str], what: str) -> Any:
    for axis, task in zip(panels, tasks, strict=True):
        seeds = len({row["setting"]["seed"] for row in pick(rows, task=task)})
        axis.set_title(f"{task}, {what}, {seeds} seed{'s' if seeds > 1 else ''}", fontsize=8.5)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.tick_params(labelsize=8)
    figure.legend(*panels[-1].get_legend_handles_labels(), loc="outside right center", fontsize=8, frameon=False)
    return figure


def save(figure: Any, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def table_1(rows: Sequence[Row]) -> None:
    """Sizes and parameters: the published networks, and those of the study."""
    print("\n| network | sizes | parameters |\n| --- | --- | --- |")
    for name, a in ARCHITECTURES.items():
        print(f"| DelRec {name} | {sizes(a.inputs, a.hidden, a.delayed, a.classes)} | {PUBLISHED[name]:,} |")
    for task in tasks_of(rows):
        run = pick(rows, task=task)[0]
        setting = run["setting"]
        inputs = 784 // setting["steps"] if setting["data"] == "psmnist" else 140
        layers = sizes(inputs, setting["hidden"], ARCHITECTURES[setting["architecture"]].delayed, CLASSES[task])
        print(f"| {task} here | {layers} | {run['parameters']:,} |")


def sizes(inputs: int, hidden: Sequence[int], delayed: Sequence[bool], classes: int) -> str:
    """Neurons of each layer; r: recurrent with delays."""
    middle = [f"{size}r" if is_delayed else str(size) for size, is_delayed in zip(hidden, delayed, strict=True)]
    return " – ".join([str(inputs), *middle, str(classes)])


def table_2(rows: Sequence[Row]) -> None:
    """Test accuracy of Adam and of AdaBreg at the lam > 0 of the best validation accuracy, and its density."""
    tasks = tasks_of(rows)
    print("\n| | " + " | ".join(tasks) + " |\n| --- |" + " --- |" * len(tasks))
    for schedule, where in SCHEDULES.items():
        cells = [
            spread(pick(rows, task=t, schedule=schedule, method="adam"), lambda run: 100 * run["test"]) for t in tasks
        ]
        print(f"| Adam, {where} | " + " | ".join(cells) + " |")
        cells = []
        for task in tasks:
            runs = pick(rows, task=task, schedule=schedule, method="adabreg", lam=chosen(rows, task, schedule))
            if not runs:
                cells.append("")
                continue
            accuracy, density = spread(runs, lambda run: 100 * run["test"]), spread(runs, at_best, "{:.2f}")
            cells.append(f"{accuracy} (λ {runs[0]['setting']['lam']:g}, density {density})")
        print(f"| AdaBreg, {where} | " + " | ".join(cells) + " |")


def chosen(rows: Sequence[Row], task: str, schedule: str) -> float:
    """The lam > 0 with the best validation accuracy, mean over seeds; of equals the larger one."""

    def validation(lam: float) -> tuple[float, float]:
        runs = pick(rows, task=task, schedule=schedule, method="adabreg", lam=lam)
        return statistics.mean([best_validation(run) for run in runs] or [0.0]), lam

    return max((lam for lam in lams_of(rows) if lam > 0), key=validation)


def by_lam(rows: Sequence[Row]) -> None:
    """What each lam gives: test accuracy, density, and the share of weights that keep their first sign."""
    print("\n| data, schedule | λ | test accuracy | density at the end | same sign | spikes |\n" + "| --- " * 6 + "|")
    for task, (schedule, where) in itertools.product(tasks_of(rows), SCHEDULES.items()):
        for label, _, _, runs in (line for line in lines(rows, task, schedule) if line[3]):
            cells = [
                spread(runs, lambda run: 100 * run["test"]),
                spread(runs, lambda run: run["curve"][-1]["density"], "{:.3f}"),
                spread(runs, lambda run: run["curve"][-1]["same_sign"], "{:.3f}"),
                spread(runs, lambda run: run["curve"][-1]["rate"], "{:.3f}"),
            ]
            print(f"| {task}, {where} | {label.removeprefix('λ = ')} | " + " | ".join(cells) + " |")


def at_best(run: Row) -> float:
    return float(run["curve"][run["best"]]["density"])


def spread(runs: Sequence[Row], value: Callable[[Row], float], form: str = "{:.1f}") -> str:
    """Mean and standard deviation over seeds."""
    found = [value(run) for run in runs if not run["diverged"]]
    if not found:
        return "diverged" if runs else ""
    text = form.format(statistics.mean(found))
    return text + (f" ± {form.format(statistics.stdev(found))}" if len(found) > 1 else "")
