"""Figure of one sample on its way through the network: events, spikes, class scores."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from bregma.nn.delrec import ARCHITECTURES
from bregma.report import style
from bregma.report.results import Array, Sample, layer_label
from bregma.report.style import BLUE, GREEN, INK, LEFT, MUTED, PURPLE, RIGHT, RULE, VERMILION, WIDTH, Drawing, Sheet
from bregma.runs.experiment import Experiment
from bregma.runs.folder import Config

_INPUT_HEIGHT, _SCORES_HEIGHT, _GAP = 0.85, 0.95, 0.3
#: More rows than this run together in a panel of this size; of larger layers, this many neurons are shown.
_NEURONS = 300
_THUMBNAILS = 6


def sample_figure(config: Config, weights: dict[str, Array], sample: Sample) -> Drawing:
    """Input, spikes of each hidden layer and class scores of one test sample over time."""
    shape, classes = config.frame_shape, config.classes
    strip = _thumbnails(sample.input, shape)
    width = WIDTH - LEFT - RIGHT
    strip_height = 0.0 if strip is None else width * strip.shape[0] / strip.shape[1] + 0.1
    hidden_height = float(np.clip(2.2 / len(sample.spikes), 0.5, 1.2))
    height = 0.28 + strip_height + _INPUT_HEIGHT + len(sample.spikes) * (hidden_height + _GAP)
    sheet = Sheet(height + _GAP + _SCORES_HEIGHT + 0.42)
    top = 0.28
    inputs = sample.input.shape[1]
    kind = "channel" if len(shape) == 1 else "pixel"
    sheet.text(0.03, top - 0.12, f"input, {inputs:,} {kind}{'s' * (inputs > 1)}")
    if strip is not None:
        _picture(sheet.axes(top, strip_height - 0.1), strip)
        top += strip_height
    axes = sheet.axes(top, _INPUT_HEIGHT)
    _input(axes, sample.input, shape)
    _time_axis(axes, len(sample.input), labelled=False)
    top += _INPUT_HEIGHT + _GAP
    votes = list(weights.values())[-1][sample.label]
    for number, (name, spikes) in enumerate(sample.spikes.items(), 1):
        last = number == len(sample.spikes) and len(votes) == spikes.shape[1]
        axes = sheet.axes(top, hidden_height)
        shown = _hidden(axes, spikes, votes if last else None)
        sheet.text(0.03, top - 0.08, f"{layer_label(name)}, {shown}")
        if last:
            middle = (votes > 0).mean() * min(len(votes), _NEURONS) / 2
            style.label_ends(axes, [(middle, f"vote for “{short(classes[sample.label])}”", GREEN)])
        _time_axis(axes, len(spikes), labelled=False)
        top += hidden_height + _GAP
    sheet.text(0.03, top - 0.1, "class scores (readout membranes)")
    axes = sheet.axes(top, _SCORES_HEIGHT)
    _time_axis(axes, len(sample.scores), labelled=True)
    decisive, wins = _decisive(config.experiment, sample.scores)
    _scores(axes, sample, classes, decisive)
    caption, alt = _words(sample, classes, strip is not None, shape, wins)
    return Drawing("sample", sheet.svg(), "One sample, step by step", caption, alt)


def _decisive(experiment: Experiment, scores: Array) -> tuple[Array, str]:
    """What the network compares of scores (T, classes), and how it is called."""
    admm = experiment.method == "admm"
    leaks = experiment.network == "mlp" or ARCHITECTURES[experiment.network.removeprefix("delrec_")].leaky_readout
    if not leaks or (admm and experiment.admm.readout == "last"):
        return scores[-1], "at the last step"
    if experiment.network == "mlp":
        return scores.mean(0), "on average"
    shares = np.exp(scores - scores.max(1, keepdims=True))
    return (shares / shares.sum(1, keepdims=True)).mean(0), "after a softmax, on average,"


def _words(sample: Sample, classes: tuple[str, ...], strip: bool, shape: tuple[int, ...], wins: str) -> tuple[str, str]:
    """Caption and alternative text."""
    label, prediction = classes[sample.label], classes[sample.prediction]
    verdict = "classified correctly" if sample.label == sample.prediction else f"mistaken for “{prediction}”"
    polarity = " ON events are vermilion, OFF events blue." if len(shape) == 3 and shape[0] == 2 else ""
    rates = "; ".join(f"{layer_label(name)} {spikes.sum():,} spikes" for name, spikes in sample.spikes.items())
    caption = (
        f"A test sample of class “{label}”, {verdict}.{polarity} Neurons of the last hidden layer are ordered by their "
        f"weight to this class, those that vote for it in green. The score that is highest {wins} wins: that of "
        "the class is green, that of its strongest rival purple."
    )
    start = "Pictures of the input and rasters" if strip else "Rasters"
    return caption, f"{start} over {len(sample.input)} time steps: input, then {rates}, then class scores; {verdict}."


def _thumbnails(x: Array, shape: tuple[int, ...]) -> Array | None:
    """Frames that are images, summed over consecutive steps, side by side; None where frames are no images."""
    if len(shape) < 2 or min(shape[-2:]) < 4:
        return None
    frames = x.reshape(len(x), -1, *shape[-2:])
    parts = [part.sum(0) for part in np.array_split(frames, min(_THUMBNAILS, len(x)))]
    if frames.shape[1] == 2:
        images = np.stack([part[0] - part[1] for part in parts])
        tiles = style.signed(images, float(np.abs(images).max()))
    else:
        images = np.stack([part.sum(0) for part in parts])
        tiles = style.tinted(images / max(float(images.max()), 1e-12), MUTED, ground=0.07)
    return mosaic(tiles, len(tiles))


def mosaic(tiles: Array, columns: int, gap: int = 1) -> Array:
    """Lay images (N, H, W, 4) out in rows of ``columns``, ``gap`` transparent pixels between them."""
    count, height, width, _ = tiles.shape
    rows = -(-count // columns)
    canvas = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, 4))
    for number, tile in enumerate(tiles):
        top, left = (number // columns) * (height + gap), (number % columns) * (width + gap)
        canvas[top : top + height, left : left + width] = tile
    return canvas


def _picture(axes: Axes, image: Array) -> None:
    axes.imshow(image, interpolation="none", aspect="auto")
    axes.set_axis_off()


def _input(axes: Axes, x: Array, shape: tuple[int, ...]) -> None:
    """Events as dots, grey values as an image, a single channel as steps."""
    steps, features = x.shape
    if features == 1:
        axes.step(np.arange(steps), x[:, 0], where="mid", color=INK, linewidth=0.8)
        axes.set_yticks([])
        return
    if np.isin(x, (0, 1)).all():
        if len(shape) == 3 and shape[0] == 2:
            pixels = features // 2
            for polarity, color in enumerate((VERMILION, BLUE)):
                _dots(axes, x[:, polarity * pixels : (polarity + 1) * pixels], color, shift=0.3 * polarity - 0.15)
            _rows(axes, pixels)
            style.label_ends(axes, [(0.2 * pixels, "ON", VERMILION), (0.45 * pixels, "OFF", BLUE)])
            return
        _dots(axes, x, MUTED)
    else:
        full = float(np.quantile(x[x > 0], 0.95)) if (x > 0).any() else 1.0  # a few high values leave the rest visible
        axes.imshow(
            style.tinted(x.T / full, MUTED),
            interpolation="none",
            aspect="auto",
            extent=(-0.5, steps - 0.5, features - 0.5, -0.5),
        )
    _rows(axes, features)


def _hidden(axes: Axes, spikes: Array, votes: Array | None) -> str:
    """Spikes (T, n); with ``votes`` (n,) ordered by them and coloured. Returns what is shown."""
    neurons = spikes.shape[1]
    order = np.arange(neurons) if votes is None else np.argsort(-votes, kind="stable")
    shown = order[np.linspace(0, neurons - 1, min(neurons, _NEURONS)).round().astype(int)]
    for_class = np.zeros(neurons, dtype=bool) if votes is None else votes > 0
    _dots(axes, spikes[:, shown] * ~for_class[shown], MUTED)
    _dots(axes, spikes[:, shown] * for_class[shown], GREEN)
    _rows(axes, len(shown))
    return f"{neurons:,} neurons" if len(shown) == neurons else f"{len(shown)} of {neurons:,} neurons"


def _dots(axes: Axes, spikes: Array, color: str, shift: float = 0.0) -> None:
    """One dot for each non-zero entry of (T, n), drawn as pixels: there may be very many."""
    time, neuron = np.nonzero(spikes)
    width, height = style.size_in_points(axes)
    points = float(np.clip(min(0.7 * width / len(spikes), 2 * height / spikes.shape[1]), 1.1, 2.6))
    (dots,) = axes.plot(time + shift, neuron, "o", color=color, markersize=points, mew=0)
    dots.set_rasterized(True)


def _rows(axes: Axes, rows: int) -> None:
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_yticks([])


def _time_axis(axes: Axes, steps: int, *, labelled: bool) -> None:
    axes.set_xlim(-0.5, steps - 0.5)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    if labelled:
        axes.set_xlabel("time step", loc="right", fontsize=7.5)
    else:
        axes.tick_params(labelbottom=False)


def _scores(axes: Axes, sample: Sample, classes: tuple[str, ...], decisive: Array) -> None:
    """One line per class: the right one in green, a wrong winner or else the runner-up in purple."""
    time = np.arange(len(sample.scores))
    others = [k for k in np.argsort(-decisive) if k != sample.label]
    for k in others:
        axes.plot(time, sample.scores[:, k], color=RULE, linewidth=0.8)
    ends = []
    for k, color in ((others[0] if others else None, PURPLE), (sample.label, GREEN)):
        if k is not None:
            axes.plot(time, sample.scores[:, k], color=color, linewidth=1.6)
            ends.append((float(sample.scores[-1, k]), short(classes[k]), color))
    axes.tick_params(left=False)
    style.label_ends(axes, ends)


def short(name: str, length: int = 16) -> str:
    """Names come from outside: they may be long, or hold what cannot be printed."""
    name = "".join(letter if letter.isprintable() else " " for letter in name)
    return name if len(name) <= length else name[: length - 1] + "…"
