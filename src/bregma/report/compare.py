"""Several runs side by side: one table, their curves in the same axes, accuracy against density."""

import dataclasses
import os
import statistics
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from bregma.report import page, style
from bregma.report.curves import percent
from bregma.report.results import Results, as_text, flat_settings
from bregma.report.style import CYCLE, Drawing, Sheet

_HEIGHT, _PANEL = 3.1, 2.35


def comparison(results: Sequence[Results], out: Path) -> str:
    """The page of several runs.

    Args:
        results: the runs, in the order of their numbers.
        out: where the page will be; links to the reports of the runs are relative to it.
    """
    settings = [flat_settings(result.config.experiment) for result in results]
    names = list(dict.fromkeys(name for own in settings for name in own))
    held = {name: [own[name] for own in settings if name in own] for name in names}  # methods take other settings
    varying = [name for name in names if any(value != held[name][0] for value in held[name])]
    common = {name: as_text(held[name][0]) for name in names if name not in varying}
    colors = _colors(results)
    started = [k for k, r in enumerate(results) if r.rows]
    with style.house_style():
        drawings = [
            _curves(results, started, colors, "validation_accuracy", "validation accuracy"),
            _curves(results, started, colors, "density", "density (share of weights that are not zero)"),
            _scatter(results, started, colors),
        ]
    same = len({(r.config.experiment.data, r.config.title) for r in results}) == 1
    lede = f"{len(results)} runs on {results[0].config.title}." if same else f"{len(results)} runs on different data."
    return page.page(
        f"{len(results)} runs · bregma",
        [
            page.header("Comparison", f"{len(results)} runs side by side", lede, _notes(results, same)),
            page.section("Runs", _table(results, varying, colors, out)),
            _means(results),
            page.figures("Curves", [drawing for drawing in drawings if drawing]),
            page.section(
                "What the runs share", page.folded("Settings that are the same in all that take them", common)
            ),
        ],
    )


def _notes(results: Sequence[Results], same: bool) -> list[str]:
    notes = []
    if not same:
        notes.append("The runs are on different data: their accuracies say nothing about each other.")
    unfinished = [str(k) for k, r in enumerate(results, 1) if r.summary is None]
    if unfinished:
        notes.append(f"Not finished, without a test result: run {', '.join(unfinished)}.")
    if any(r.config.synthetic for r in results):
        which = "not measured" if same else "in some of the runs"
        notes.append(f"Recordings are simulated or synthesised, {which}.")
    return notes


def _table(results: Sequence[Results], varying: list[str], colors: list[str], out: Path) -> str:
    figures = [
        "test accuracy",
        "density",
        "validation accuracy",
        "weights not zero",
        "firing rate",
        "synops",
        "seconds",
    ]
    names = _names(results)
    rows = []
    for number, (result, color) in enumerate(zip(results, colors, strict=True), 1):
        settings = flat_settings(result.config.experiment)
        key = f'<span class="key" style="color: {page.css_color(color)}">{number}</span>'
        cells = [
            escape(cell) for cell in [*_figures_of(result), *(as_text(settings.get(name, "–")) for name in varying)]
        ]
        rows.append([key, _link(result, names[number - 1], out), *cells])
    return page.table("Summaries of the runs", ["", "run", *figures, *varying], rows, range(2, 2 + len(figures)))


def _figures_of(result: Results) -> list[str]:
    """What was measured, as text."""
    if not result.rows:
        return ["–"] * 7
    last = result.summary or result.best
    return [
        percent(last["test_accuracy"]) if result.summary else f"{result.unit} {result.done} of {result.planned}",
        f"{last['density']:.3f}",
        percent(result.best["validation_accuracy"]),
        f"{result.nonzero:,} of {result.connections:,}",
        f"{result.firing_rate:.3f}",
        f"{last['synops']:,.0f}" if "synops" in last else "–",
        f"{result.rows[-1]['seconds']:.0f}",
    ]


def _names(results: Sequence[Results]) -> list[str]:
    """The names of the folders, or their paths where names are the same."""
    names = [result.folder.path.resolve().name for result in results]
    return names if len(set(names)) == len(names) else [str(result.folder.path) for result in results]


def _link(result: Results, name: str, out: Path) -> str:
    """The run's name, leading to its own report where there is one."""
    report = result.folder.report
    if not report.is_file():
        return escape(name)
    target = os.path.relpath(report.resolve(), out.resolve().parent)
    return f'<a href="{escape(quote(Path(target).as_posix()))}">{escape(name)}</a>'


def _means(results: Sequence[Results]) -> str:
    """Mean and spread of runs that differ by their seed alone; empty where there are none."""
    groups: dict[object, dict[int, int]] = {}  # of runs with the same seed, which are the same run, the first
    for k, result in enumerate(results):
        if result.summary:
            experiment = result.config.experiment
            groups.setdefault(dataclasses.replace(experiment, seed=0), {}).setdefault(experiment.seed, k)
    rows = []
    for members in (list(group.values()) for group in groups.values()):
        if len(members) > 1:
            cells = [", ".join(str(k + 1) for k in members), str(len(members))]
            for name in ("test_accuracy", "density"):
                values = [results[k].summary[name] for k in members]  # type: ignore[index]
                mean, deviation = statistics.mean(values), statistics.stdev(values)
                as_text = percent if name == "test_accuracy" else "{:.3f}".format
                cells.append(f"{as_text(mean)} ± {as_text(deviation)}")
            rows.append([escape(cell) for cell in cells])
    if not rows:
        return ""
    head = ["runs", "seeds", "test accuracy", "density"]
    title = "Runs that differ by their seed alone"
    return page.section(title, page.table(title, head, rows, range(1, 4)), page.paragraph("Mean ± standard deviation."))


def _curves(results: Sequence[Results], started: list[int], colors: list[str], name: str, title: str) -> Drawing | None:
    if not started:
        return None
    sheet = Sheet(_HEIGHT)
    sheet.text(0.03, 0.16, title)
    axes = sheet.axes(0.28, _PANEL, width=style.WIDTH - style.LEFT - 0.35)
    ends: dict[float, list[tuple[float, str, str]]] = {}
    for k in started:
        epochs, values = results[k].column("epoch"), results[k].column(name)
        style.curve(axes, epochs, values, colors[k])
        ends.setdefault(epochs[-1], []).append((values[-1], str(k + 1), colors[k]))
    style.epochs_axis(axes, np.unique(np.concatenate([results[k].column("epoch") for k in started])))
    if name == "validation_accuracy":
        axes.set_ylim(0, 1.02)
        style.percent_axis(axes)
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel(" or ".join(dict.fromkeys(results[k].unit for k in started)), loc="right", fontsize=7.5)
    for epoch, labels in ends.items():
        style.label_ends(axes, labels, x=epoch)
    last = "; ".join(f"run {k + 1}: {results[k].rows[-1][name]:.3g}" for k in started)
    what = "Accuracy on the validation part" if name == "validation_accuracy" else "Density of all weights"
    caption = f"{what} after each pass over the data; the numbers are those of the table."
    return Drawing(name, sheet.svg(), what, caption, f"Curves over the passes. At their ends {last}.")


def _scatter(results: Sequence[Results], started: list[int], colors: list[str]) -> Drawing | None:
    """Accuracy against density, one point for each finished run."""
    finished = [k for k in started if results[k].summary]
    if not finished:
        return None
    points = [(results[k].summary["density"], results[k].summary["test_accuracy"]) for k in finished]  # type: ignore[index]
    sheet = Sheet(_HEIGHT)
    sheet.text(0.03, 0.16, "test accuracy")
    axes = sheet.axes(0.28, _PANEL, left=0.55, width=style.WIDTH - 0.55 - 0.35)
    densities = [density for density, _ in points]
    for k, (density, accuracy) in zip(finished, points, strict=True):
        axes.plot(density, accuracy, "o", color=colors[k], markersize=4.5, mew=0, clip_on=False)
    if min(densities) > 0 and max(densities) > 4 * min(densities):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.margins(0.12, 0.15)
    style.percent_axis(axes)
    axes.set_xlabel("density", loc="right", fontsize=7.5)
    _number_points(axes, finished, points)
    listed = "; ".join(f"run {k + 1}: {percent(a)} at {d:.3g}" for k, (d, a) in zip(finished, points, strict=True))
    return Drawing(
        "accuracy_density",
        sheet.svg(),
        "Accuracy against density",
        "Up is right more often, left is fewer connections: the best runs stand in the upper left corner.",
        f"One point for each finished run. {listed}.",
    )


def _number_points(axes: Axes, numbers: list[int], points: list[tuple[float, float]]) -> None:
    """Write each run's number beside its point, where no other point or number is if there is such a place."""
    scale = 72 / axes.figure.dpi
    places = [tuple(axes.transData.transform(point) * scale) for point in points]
    taken = list(places)
    for number, point, (x, y) in zip(numbers, points, places, strict=True):
        text = str(number + 1)
        width = 5.0 * len(text)
        corners = [(4 + width / 2, 5), (4 + width / 2, -6), (-4 - width / 2, 5), (-4 - width / 2, -6), (0, 9), (0, -10)]
        free = [
            (right, up)
            for right, up in corners
            if all(abs(x + right - a) >= width / 2 + 4 or abs(y + up - b) > 7 for a, b in taken)
        ]
        right, up = (free or corners)[0]
        taken.append((x + right, y + up))
        axes.annotate(text, point, (right, up), textcoords="offset points", ha="center", va="center", fontsize=7.5)


def _colors(results: Sequence[Results]) -> list[str]:
    """One colour for each run; where there are more runs than colours, one for each method."""
    methods = [result.config.experiment.method for result in results]
    if len(results) <= len(CYCLE):
        return list(CYCLE[: len(results)])
    order = list(dict.fromkeys(methods))
    return [CYCLE[order.index(method) % len(CYCLE)] for method in methods]
