"""Figure of what a solver without gradients did: its objectives and residuals over the iterations."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator

from bregma.report import style
from bregma.report.results import Array, Results
from bregma.report.style import CYCLE, Drawing, Sheet

_PANEL, _GAP = 1.62, 0.46
_CAPTIONS = {
    "consistent": "The loss of a sample in the true network, and how far the hidden weights move next.",
    "paper": "Of the solver's own variables, which only approach a true network; its accuracy is the figure before.",
}


def solver_figure(results: Results) -> Drawing | None:
    """Numbers in the upper panel, the step or numbers per layer in the lower one; None without figures of a solver."""
    if "solver" not in results.rows[0]:
        return None
    first = results.rows[0]["solver"]
    single = {_spaced(name): _column(results, name) for name in first if not isinstance(first[name], list)}
    step = {"step": single.pop("step")} if "step" in single else {}
    layered = {
        f"{_spaced(name)} {k + 1}": _column(results, name)[:, k]
        for name in first
        if isinstance(first[name], list)
        for k in range(len(first[name]))
    }
    titles = ("objective", "step, as a share of the norm of the weights", "residuals of the layers, norms")
    panels = [panel for panel in zip(titles, (single, step, layered), strict=True) if panel[1]]
    sheet = Sheet(0.28 + len(panels) * (_PANEL + _GAP))
    for number, (title, curves) in enumerate(panels):
        top = 0.28 + number * (_PANEL + _GAP)
        sheet.text(0.03, top - 0.12, title)
        axes = sheet.axes(top, _PANEL)
        _draw(axes, results, curves)
    axes.set_xlabel(results.unit, loc="right", fontsize=7.5)
    ends = "; ".join(f"{name} {values[-1]:.3g}" for name, values in {**single, **step, **layered}.items())
    return Drawing(
        "solver",
        sheet.svg(),
        "What the solver minimised",
        _CAPTIONS[results.config.experiment.admm.solver],
        f"Curves over {results.done} {results.unit}s. At their ends: {ends}.",
    )


def _column(results: Results, name: str) -> Array:
    return np.array([row["solver"][name] for row in results.rows], dtype=float)


def _spaced(name: str) -> str:
    """``membrane_residuals`` as people write one of them.

    Example:
        >>> _spaced("membrane_residuals"), _spaced("loss")
        ('membrane', 'loss')
    """
    return name.removesuffix("_residuals").replace("_", " ")


def _draw(axes: Axes, results: Results, curves: dict[str, Array]) -> None:
    """Curves of one panel; logarithmic if all values are positive."""
    iterations, ends = results.column("epoch"), []
    for number, (name, values) in enumerate(curves.items()):
        color = CYCLE[number % len(CYCLE)]
        style.curve(axes, iterations, values, color)
        ends.append((values[-1], f"{name}  {_short(values[-1])}", color))
    style.epochs_axis(axes, iterations)
    if min(values.min() for values in curves.values()) > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_minor_locator(NullLocator())
    style.label_ends(axes, ends)


def _short(value: float) -> str:
    """Two digits, or all before the point.

    Example:
        >>> _short(3684.4), _short(0.00822), _short(1.23)
        ('3684', '0.0082', '1.2')
    """
    return f"{value:.0f}" if 100 <= abs(value) < 1e5 else f"{value:.2g}"
