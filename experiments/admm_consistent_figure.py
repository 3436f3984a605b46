"""Error against CPU seconds from results/admm_consistent.jsonl: `python experiments/admm_consistent_figure.py`."""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "bregma"
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator  # noqa: E402

RESULTS = Path(__file__).parent / "results"
COLORS = {"consistent": "#0072b2", "gradient": "#d55e00", "consistent dithered": "#009e73"}
LABELS = {
    "consistent": "consistent ADMM",
    "gradient": "surrogate gradients, Adam",
    "consistent dithered": "consistent ADMM, dithered rule",
}
#: Title of a panel, and the rows of the study that it shows.
PANELS = {
    "3 hidden layers of 256": ("depth3", "dithered3"),
    "6 hidden layers of 256": ("depth6",),
    "2 convolutions, 16 and 32 maps": ("convolutional-tuned",),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=RESULTS / "admm_consistent.jsonl", help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=RESULTS / "admm_consistent.svg", help="default: %(default)s")
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.json.read_text().splitlines()]
    panels = {title: [row for row in rows if row["row"] in names] for title, names in PANELS.items()}
    panels = {title: shown for title, shown in panels.items() if shown}
    figure, axes = plt.subplots(
        1, len(panels), figsize=(4.5 * len(panels), 3.2), sharey=True, squeeze=False, layout="constrained"
    )
    for (title, shown), axis in zip(panels.items(), axes[0], strict=True):
        draw(axis, shown)
        axis.set_title(title, fontsize=9)
    axes[0, 0].set_ylabel("test error, per cent")
    figure.savefig(options.out, metadata={"Date": None})


def draw(axis: Axes, rows: list[dict[str, Any]]) -> None:
    """A line per method: the mean over seeds, and a band from the best to the worst."""
    for method, color in COLORS.items():
        curves = [row["curve"] for row in rows if row["method"] == method]
        if not curves:
            continue
        seconds = np.mean([[point["seconds"] for point in curve] for curve in curves], axis=0)
        errors = np.array([[100 * (1 - point["test"]) for point in curve] for curve in curves])
        axis.plot(seconds, errors.mean(0), color=color, marker="o", markersize=3, label=LABELS[method])
        axis.fill_between(seconds, errors.min(0), errors.max(0), color=color, alpha=0.2, linewidth=0)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.xaxis.set_major_locator(FixedLocator([2, 4, 8, 16, 32, 64, 128]))
    axis.yaxis.set_major_locator(FixedLocator([1, 1.5, 2, 3, 5, 10, 20, 50]))
    for dimension in (axis.xaxis, axis.yaxis):
        dimension.set_minor_locator(NullLocator())
        dimension.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.grid(alpha=0.3)
    axis.set_xlabel("CPU seconds of training, one thread")
    axis.legend(frameon=False, fontsize=8)


if __name__ == "__main__":
    main()
