"""Figures 2, 3 and 4 of arXiv 2505.05527 from results/admm_paper.json: `python experiments/admm_figures.py`."""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "bregma"
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

RESULTS = Path(__file__).parent / "results"
COLORS = ("#0072b2", "#d55e00", "#009e73")  # of one, two, three hidden layers
PAPER = {1: 0.95, 2: 0.70}  # what the text says of training accuracy; "progressively lower" beyond


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=RESULTS / "admm_paper.json", help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the pictures; default: %(default)s")
    options = parser.parse_args()
    rows = [row for row in json.loads(options.json.read_text())["rows"] if row["seed"] == 0]
    two = next((row for row in rows if len(row["hidden"]) == 2), rows[-1])
    for name, draw, given in (("2", accuracies, rows), ("3", objectives, two), ("4", residuals, two)):
        figure = draw(given)
        figure.savefig(options.out / f"admm_figure_{name}.svg", metadata={"Date": None})
        plt.close(figure)


def accuracies(rows: list[dict[str, Any]]) -> Any:
    """Figure 2, and beside it what the paper does not show: unseen recordings and the control."""
    figure, (seen, unseen) = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True, layout="constrained")
    for row in rows:
        depth = len(row["hidden"])
        color, label = COLORS[depth - 1], f"{depth} hidden"
        seen.plot(*_curve(row, "train_accuracy"), color=color, label=label)
        unseen.plot(*_curve(row, "unseen_accuracy"), color=color, label=label)
        unseen.axhline(row["control"]["unseen_accuracy"], color=color, linestyle=":", linewidth=1)
        if depth in PAPER:
            seen.axhline(PAPER[depth], color=color, linestyle="--", linewidth=1)
    seen.set_title("training recordings (dashed: the paper's text)", fontsize=9)
    unseen.set_title("unseen recordings (dotted: random hidden weights)", fontsize=9)
    seen.set_ylabel("accuracy of the true forward pass")
    seen.set_ylim(0, 1.02)
    return _finish(figure, (seen, unseen), rows[0])


def objectives(row: dict[str, Any]) -> Any:
    """Figure 3: the relaxed Lagrangian and the loss."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.0), layout="constrained")
    for axis, name in zip(axes, ("lagrangian", "loss"), strict=True):
        axis.semilogy(*_curve(row, name), color=COLORS[len(row["hidden"]) - 1])
        axis.set_title(f"{name}, {len(row['hidden'])} hidden layers", fontsize=9)
    return _finish(figure, axes, row)


def residuals(row: dict[str, Any]) -> Any:
    """Figure 4: the exact constraint, the dynamics per layer, the spikes per layer."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.0), layout="constrained")
    axes[0].semilogy(*_curve(row, "primal"), color="#333333")
    axes[0].set_title("primal residual of the last membrane", fontsize=9)
    for axis, name, title in (
        (axes[1], "membrane_residuals", "residual of the dynamics, norm"),
        (axes[2], "spike_residuals", "residual of the spikes, norm"),
    ):
        for layer in range(len(row["curve"][0][name])):
            iterations, values = _curve(row, name)
            axis.semilogy(iterations, [value[layer] for value in values], label=f"layer {layer + 1}")
        axis.set_title(title, fontsize=9)
    return _finish(figure, axes, row)


def _curve(row: dict[str, Any], name: str) -> tuple[list[int], list[Any]]:
    points = [point for point in row["curve"] if name in point]
    return [point["iteration"] for point in points], [point[name] for point in points]


def _finish(figure: Any, axes: Any, row: dict[str, Any]) -> Any:
    axis: Axes
    for axis in axes:
        axis.set_xlabel("iteration")
        axis.axvline(row["warming"], color="#999999", linewidth=0.8)
        axis.grid(alpha=0.3)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=8, frameon=False)
    return figure


if __name__ == "__main__":
    main()
