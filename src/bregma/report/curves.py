"""Figures of what changed from epoch to epoch."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from bregma.report import style
from bregma.report.results import Array, Results, layer_label
from bregma.report.style import BLUE, CYCLE, INK, MUTED, RULE, VERMILION, Drawing, Sheet

_HEIGHT = 4.4
_PANEL = 1.62
_TOPS = (0.28, 2.36)


def learning(results: Results) -> Drawing:
    """Accuracy and loss over the epochs, the best one marked."""
    sheet, (upper, lower) = _two_panels(results, "accuracy", "loss (cross-entropy)")
    epochs, best = results.column("epoch"), results.best
    for axes, kind in ((upper, "accuracy"), (lower, "loss")):
        ends = []
        for part, color in (("train", MUTED), ("validation", BLUE)):
            values = results.column(f"{part}_{kind}")
            style.curve(axes, epochs, values, color)
            text = f"{part}  {percent(values[-1])}" if kind == "accuracy" else f"{part}  {values[-1]:.3g}"
            ends.append((values[-1], text, color))
        axes.plot(best["epoch"], best[f"validation_{kind}"], "o", color=BLUE, mfc="none", markersize=6, mew=1)
        if kind == "accuracy":
            axes.set_ylim(0, 1.02)
            style.percent_axis(axes)
            if results.summary:
                test = results.summary["test_accuracy"]
                axes.plot(best["epoch"], test, "D", color=VERMILION, markersize=4, mew=0, clip_on=False)
                ends.append((test, f"test  {percent(test)}", VERMILION))
        else:
            _loss_axis(axes, np.concatenate([results.column("train_loss"), results.column("validation_loss")]))
        style.label_ends(axes, ends)
    test = f", test {percent(results.summary['test_accuracy'])}" if results.summary else ""
    validated = percent(best["validation_accuracy"])
    return Drawing(
        "learning",
        sheet.svg(),
        "Learning",
        f"The ring marks {results.unit} {best['epoch']}, whose weights were kept: best on the validation part"
        + (", and scored once on the test part (diamond)." if results.summary else ".")
        + (
            " All are true forward passes with hard spikes."
            if results.unit == "iteration"
            else " Training curves are means over an epoch, while the weights still change."
        ),
        f"Curves of accuracy and loss over {results.done} {results.unit}s. Best {results.unit} {best['epoch']}: "
        f"validation accuracy {validated}{test}.",
    )


def sparsity(results: Results) -> Drawing:
    """Density and firing rate of each layer over the epochs."""
    titles = "density (share of weights that are not zero)", "firing rate (spikes per neuron and step)"
    sheet, (upper, lower) = _two_panels(results, *titles)
    epochs, best = results.column("epoch"), results.best
    layers = _colors([*results.rows[0]["layer_density"]])
    densities, rates = results.columns("layer_density"), results.columns("firing_rates")
    total = results.column("density")
    style.curve(upper, epochs, total, INK, width=2.4)
    ends = []
    for name, values in densities.items():
        dashed = "recurrent" in name
        style.curve(upper, epochs, values, layers[layer_label(name).removesuffix(" recurrent")], dashed=dashed)
        ends.append((values[-1], layer_label(name), layers[layer_label(name).removesuffix(" recurrent")]))
    upper.set_ylim(bottom=0)
    style.label_ends(upper, [*ends, (total[-1], f"all  {total[-1]:.3f}", INK)])
    ends = []
    for name, values in rates.items():
        color = layers.get(layer_label(name), INK)
        style.curve(lower, epochs, values, color)
        ends.append((values[-1], f"{layer_label(name)}  {values[-1]:.2g}", color))
    lower.set_ylim(bottom=0)
    style.label_ends(lower, ends)
    return Drawing(
        "sparsity",
        sheet.svg(),
        "Density and activity",
        _density_sentence(total, best["density"], results)
        + " Below: how often the neurons fire on the validation part.",
        f"Curves over {results.done} {results.unit}s. Density of all weights in the best epoch {best['density']:.3g}; "
        + "firing rates in spikes per neuron and step: "
        + "; ".join(f"{layer_label(name)} {values[-1]:.2g}" for name, values in rates.items())
        + ".",
    )


def percent(share: float) -> str:
    r"""Per cent with one decimal.

    Example:
        >>> percent(0.97772)
        '97.8\xa0%'
    """
    return f"{share:.1%}".replace("%", "\N{NO-BREAK SPACE}%")


def _loss_axis(axes: Axes, losses: Array) -> None:
    """Logarithmic where losses differ by more than a factor of ten."""
    if losses.min() > 0 and losses.max() > 10 * losses.min():
        axes.set_yscale("log")
        decades = np.log10(losses.max() / losses.min())
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if decades > 2 else (1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axes.set_ylim(bottom=0)


def _density_sentence(total: Array, best: float, results: Results) -> str:
    experiment = results.config.experiment
    method = experiment.method
    if method == "admm" and not experiment.density:
        return f"ADMM has no penalty; only weights of inputs that never fire are zero: density {best:.3g}."
    if method in ("adam", "adamw"):
        return f"Adam{'W' * (method == 'adamw')} has no penalty, so nothing pulls weights to zero: density {best:.3g}."
    if method == "admm":
        return f"{percent(total[0])} of the connections when first measured, {percent(best)} in the best iteration."
    if len(total) == 1:
        return f"After its one epoch the network uses {percent(total[0])} of its connections."
    return f"From {percent(total[0])} of the connections after the first epoch to {percent(best)} in the best one."


def _two_panels(results: Results, *titles: str) -> tuple[Sheet, list[Axes]]:
    """Two panels over the epochs, a hairline through the best one."""
    sheet = Sheet(_HEIGHT)
    panels = []
    for top, title in zip(_TOPS, titles, strict=True):
        sheet.text(0.03, top - 0.12, title)
        axes = sheet.axes(top, _PANEL)
        style.epochs_axis(axes, results.column("epoch"))
        axes.axvline(results.best["epoch"], color=RULE, linewidth=0.8, zorder=0)
        panels.append(axes)
    panels[-1].set_xlabel(results.unit, loc="right", fontsize=7.5)
    return sheet, panels


def _colors(names: Sequence[str]) -> dict[str, str]:
    """A colour for each layer; recurrent weights share that of their layer, the readout is grey."""
    layers = list(dict.fromkeys(layer_label(name).removesuffix(" recurrent") for name in names))
    return {layer: CYCLE[k % len(CYCLE)] for k, layer in enumerate(layers[:-1])} | {layers[-1]: MUTED}
