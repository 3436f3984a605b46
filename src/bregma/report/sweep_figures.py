"""Figures of a sweep: what there is at each density, mean and spread over the seeds."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from bregma.report import style
from bregma.report.report import METHOD_NAMES
from bregma.report.style import BLUE, GREEN, INK, MUTED, ORANGE, PURPLE, VERMILION, Drawing, Sheet
from bregma.runs.sweep import mean_of

_HEIGHT, _PANEL = 3.1, 2.35
_LEFT, _RIGHT = 0.5, 1.35
_COLORS = {"adabreg": BLUE, "gmp": VERMILION, "gmp-metric": ORANGE, "rigl": GREEN, "set": PURPLE, "adam": INK}

_CAPTION = (
    "Fewer connections to the right. Circles are means over the seeds, bars one standard deviation each way, dots the "
    "single runs"
)


class _Series(NamedTuple):
    """Values of one method by density, one for each seed."""

    name: str
    color: str
    values: dict[float, list[float]]


def draw_sweep(methods: Sequence[str], rows: list[dict[str, Any]]) -> list[Drawing]:
    """Accuracy and activity against density, and how far the first method is ahead, seed by seed.

    Args:
        methods: in the order of their curves.
        rows: of `bregma.runs.sweep.SweepFolder.rows`, at least one.
    """
    dense = any(row["method"] == "adam" for row in rows)
    caption = f"{_CAPTION}{', the dashed line in its band the dense network' * dense}."
    with style.house_style():
        drawings = [
            _figure(
                "accuracy_density",
                "Accuracy against density",
                "test accuracy",
                _series(methods, rows, "test_accuracy"),
                caption,
            ),
            _ahead(methods, rows),
            _figure(
                "activity_density",
                "Activity against density",
                "spikes per hidden neuron and time step",
                _series(methods, rows, "firing_rate"),
                caption,
            ),
        ]
    return [drawing for drawing in drawings if drawing is not None]


def in_order(methods: Iterable[str]) -> list[str]:
    """Methods in the order given, the dense network last."""
    return sorted(methods, key=lambda method: method == "adam")


def name_of(method: str) -> str:
    """How a method is called in a sweep, where Adam is the dense network."""
    return "dense (Adam)" if method == "adam" else METHOD_NAMES[method]


def _series(methods: Sequence[str], rows: list[dict[str, Any]], figure: str) -> list[_Series]:
    series = []
    for method in in_order(methods):
        values: dict[float, list[float]] = {}
        for row in rows:
            if row["method"] == method:
                values.setdefault(row["density"], []).append(row[figure])
        if values:
            series.append(_Series(name_of(method), _COLORS[method], dict(sorted(values.items(), reverse=True))))
    return series


def _ahead(methods: Sequence[str], rows: list[dict[str, Any]]) -> Drawing | None:
    """Test accuracy of the first method less that of each other, with the same seed; None where there is no other."""
    first, *others = in_order(methods)
    accuracy = {(row["method"], row["density"], row["seed"]): row["test_accuracy"] for row in rows}
    series = []
    for other in others:
        values: dict[float, list[float]] = {}
        for (method, density, seed), value in accuracy.items():
            rival = accuracy.get((other, 1.0 if other == "adam" else density, seed))
            if method == first and rival is not None:
                values.setdefault(density, []).append(100 * (value - rival))
        if values:
            name = "dense" if other == "adam" else name_of(other)  # a curve here, no band
            series.append(_Series(name, _COLORS[other], dict(sorted(values.items(), reverse=True))))
    if not series:
        return None
    caption = (
        f"Test accuracy of {name_of(first)} less that of the others with the same seed, in percentage points: above "
        "zero it is ahead. Circles are means, bars one standard deviation, dots the single seeds."
    )
    return _figure("ahead", f"{name_of(first)} against the others", "percentage points ahead", series, caption)


def _figure(name: str, title: str, unit: str, series: list[_Series], caption: str) -> Drawing:
    """A curve with error bars for each series; one that has density 1 alone is a band."""
    sheet = Sheet(_HEIGHT)
    sheet.text(0.03, 0.16, unit)
    axes = sheet.axes(0.28, _PANEL, left=_LEFT, width=style.WIDTH - _LEFT - _RIGHT)
    bands = [own for own in series if own.name == name_of("adam")]
    curves = [own for own in series if own not in bands]
    _density_axis(axes, sorted({share for own in curves for share in own.values}, reverse=True) or [1.0])
    ends = []
    for own in bands:
        mean, deviation, _ = mean_of(own.values[1.0])
        axes.axhspan(mean - deviation, mean + deviation, color=MUTED, alpha=0.18, linewidth=0)
        axes.axhline(mean, color=MUTED, linewidth=1.0, linestyle=(0, (3.2, 1.6)))
        ends.append((mean, "dense", INK))
    for number, own in enumerate(curves):
        aside = 1.03 ** (number - (len(curves) - 1) / 2)  # bars of several methods at one density stay apart
        ends.append((_curve(axes, own, aside), own.name, own.color))
    if name == "accuracy_density":
        style.percent_axis(axes)
    elif name == "ahead":
        axes.axhline(0, color=style.RULE, linewidth=0.8, zorder=0)
    else:
        axes.set_ylim(bottom=0)
    style.label_ends(axes, ends)
    said = "; ".join(
        f"{own.name} at {share:g}: {mean_of(values).mean:.3g}" for own in series for share, values in own.values.items()
    )
    return Drawing(name, sheet.svg(), title, caption, f"Means by density. {said}.")


def _curve(axes: Axes, own: _Series, aside: float) -> float:
    """Draw one series, moved by a factor; its mean at the lowest density."""
    means = [mean_of(values) for values in own.values.values()]
    axes.errorbar(
        [aside * share for share in own.values],
        [value.mean for value in means],
        yerr=[value.deviation for value in means],
        color=own.color,
        linewidth=1.3,
        elinewidth=1.0,
        capsize=2.5,
        capthick=1.0,
        marker="o",
        markersize=3.5,
    )
    for share, values in own.values.items():
        axes.plot(
            [aside * share] * len(values), values, "o", color=own.color, alpha=0.4, markersize=2.4, mew=0, clip_on=False
        )
    return means[-1].mean


def _density_axis(axes: Axes, shares: list[float]) -> None:
    """Logarithmic, falling to the right, the densities of the sweep named."""
    axes.set_xscale("log")
    axes.set_xlim(max(shares) * 1.2, min(shares) / 1.2)
    axes.xaxis.set_major_locator(FixedLocator(shares))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("density", loc="right", fontsize=7.5)
