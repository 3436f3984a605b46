"""How every figure of a run looks, and the few helpers that all of them share.

Figures are one column wide, so that they keep their size on a phone and stand side by side on a wide screen. The names
of curves stand at their ends. Colours are those of Okabe and Ito (2008), told apart with any colour vision; they follow
the same meaning everywhere: vermilion is ON and positive, blue is OFF and negative.
"""

import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from bregma.report.results import Array

INK, MUTED, RULE = "#1f2328", "#68717b", "#c9ced4"
BLUE, VERMILION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#b65c94"
ORANGE, SKY = "#d18f00", "#3f9fd6"
#: For what comes in any number: layers, runs.
CYCLE = (BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION)

#: Inches.
WIDTH = 4.2
LEFT, RIGHT = 0.42, 1.05

_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so text is laid out the same everywhere
    "font.size": 8,
    "axes.linewidth": 0.6,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.3,
    "lines.solid_capstyle": "round",
    "text.color": INK,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "bregma",
}


@dataclass(frozen=True)
class Drawing:
    """A finished figure.

    Args:
        name: of its file, without suffix.
        svg: the file's content.
        title: a few words.
        caption: one sentence that says what to see.
        alt: what it shows, for those who cannot see it.
    """

    name: str
    svg: str
    title: str
    caption: str
    alt: str


@contextmanager
def house_style() -> Iterator[None]:
    """Draw with the settings of this module, whatever the user's own ``matplotlibrc`` says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


class Sheet:
    """A figure whose axes are placed in inches from the top left corner.

    Args:
        height: inches.
    """

    def __init__(self, height: float) -> None:
        self.height = height
        self.figure = Figure(figsize=(WIDTH, height))

    def axes(self, top: float, height: float, *, left: float = LEFT, width: float = WIDTH - LEFT - RIGHT) -> Axes:
        """Axes whose upper edge is ``top`` below that of the figure."""
        bottom = self.height - top - height
        return self.figure.add_axes(
            (left / WIDTH, bottom / self.height, width / WIDTH, height / self.height), facecolor="none"
        )

    def text(self, left: float, top: float, text: str, *, color: str = INK, size: float = 8) -> None:
        """Text whose baseline is ``top`` below the upper edge of the figure. Not read as mathematics."""
        self.figure.text(
            left / WIDTH,
            1 - top / self.height,
            text,
            color=color,
            fontsize=size,
            parse_math=False,
        )

    def svg(self) -> str:
        """The figure as text; the same figure gives the same text."""
        buffer = io.BytesIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        with warnings.catch_warnings():
            # Names in any script: text stays text in SVG, so the viewer's fonts show what DejaVu does not have.
            warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
            self.figure.savefig(buffer, format="svg", dpi=220, transparent=True, metadata=nothing)
        return buffer.getvalue().decode("utf-8")


def epochs_axis(axes: Axes, epochs: Array) -> None:
    """Whole numbers below; a single epoch stands in the middle."""
    first, last = epochs[0], epochs[-1]
    margin = 0.5 if first == last else 0.02 * (last - first)
    axes.set_xlim(first - margin, last + margin)
    axes.xaxis.set_major_locator(FixedLocator([first]) if first == last else MaxNLocator(nbins=6, integer=True))


def percent_axis(axes: Axes) -> None:
    """Shares, written as per cent."""
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.6g}\N{NO-BREAK SPACE}%"))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))


def curve(axes: Axes, x: Array, y: Array, color: str, *, width: float = 1.3, dashed: bool = False) -> None:
    """A line; a few points are marked, so that a single one is seen too."""
    style = (0, (3.2, 1.6)) if dashed else "-"
    axes.plot(x, y, color=color, linewidth=width, linestyle=style, marker="o" if len(x) <= 3 else "", markersize=3)


def size_in_points(axes: Axes) -> tuple[float, float]:
    """Width and height of axes."""
    box = axes.get_window_extent()
    return box.width * 72 / axes.figure.dpi, box.height * 72 / axes.figure.dpi


def label_ends(axes: Axes, labels: Iterable[tuple[float, str, str]], *, x: float | None = None) -> None:
    """Write the name of each curve to the right of its last value, moved apart where they would overlap.

    Args:
        axes: their limits are final.
        labels: height in data, text, colour.
        x: where the curves end, in data; by default the right edge.
    """
    size = 7.5
    to_axes = axes.transData - axes.transAxes
    start = axes.get_xlim()[0]
    kept = [(float(to_axes.transform((start, y))[1]), text, color) for y, text, color in labels if np.isfinite(y)]
    kept.sort(key=lambda label: label[0])
    height = size_in_points(axes)[1]
    end = 1.0 if x is None else float(to_axes.transform((x, axes.get_ylim()[0]))[0])
    places = spread([label[0] for label in kept], 1.25 * size / height)
    for place, (_, text, color) in zip(places, kept, strict=True):
        axes.annotate(
            text,
            (end, place),
            xycoords="axes fraction",
            xytext=(5, 0),
            textcoords="offset points",
            color=color,
            fontsize=size,
            va="center",
            annotation_clip=False,
            parse_math=False,
        )


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Move sorted places in [0, 1] apart to at least ``gap``; groups stay centred, within [0, 1] if there is room.

    Example:
        >>> spread([0.0, 0.5, 0.5], 0.2)
        [0.0, 0.4, 0.6]
        >>> spread([1.0, 1.0], 0.25)
        [0.75, 1.0]
    """
    groups: list[tuple[float, int]] = []  # centre, size
    for place in places:
        centre, size = place, 1
        while groups and centre - (size - 1) * gap / 2 - (groups[-1][0] + (groups[-1][1] - 1) * gap / 2) < gap:
            other, count = groups.pop()
            centre, size = (centre * size + other * count) / (size + count), size + count
        groups.append((centre, size))
    moved = [centre + (k - (size - 1) / 2) * gap for centre, size in groups for k in range(size)]
    inside = [max(place, k * gap) for k, place in enumerate(moved)]
    return [min(place, 1 - (len(moved) - 1 - k) * gap) for k, place in enumerate(inside)]


def tinted(share: Array, color: str, ground: float = 0.0) -> Array:
    """An image (H, W, 4) of one colour on any background: 0 is transparent (or ``ground``), 1 is opaque."""
    image = np.empty((*share.shape, 4))
    image[..., :3] = to_rgb(color)
    image[..., 3] = ground + (1 - ground) * np.clip(share, 0, 1)
    return image


def signed(values: Array, scale: float, ground: float = 0.07) -> Array:
    """An image (H, W, 4): positive values in vermilion, negative in blue, as opaque as they are large; zero is grey."""
    share = np.clip(np.abs(values) / scale, 0, 1)[..., None] if scale > 0 else np.zeros((*values.shape, 1))
    hue = np.where(values[..., None] > 0, to_rgb(VERMILION), to_rgb(BLUE))
    alpha = ground + (1 - ground) * share
    rgb = (share * hue + (alpha - share) * np.array(to_rgb(MUTED))) / alpha
    return np.concatenate([rgb, alpha], axis=-1)
