"""Figures of the connections that are left: sparsity patterns, pixels, receptive fields."""

import numpy as np
from matplotlib.axes import Axes

from bregma.report import style
from bregma.report.activity import mosaic, short
from bregma.report.curves import percent
from bregma.report.results import Array, Results, layer_label
from bregma.report.style import BLUE, INK, MUTED, VERMILION, WIDTH, Drawing, Sheet

_MARGIN = 0.03
#: Rows and columns of a pattern at most: about as many as a panel has pixels on a screen.
_CELLS = (300, 480)
_GAP = 0.36


def patterns(results: Results) -> Drawing:
    """Which entries of each weight matrix are not zero, the best-connected neurons first."""
    weights = results.weights
    columns = 1 if len(weights) <= 3 else 2
    width = (WIDTH - 2 * _MARGIN - (columns - 1) * 0.2) / columns
    heights = [float(np.clip(width * len(w) / w.shape[1], 0.3, 1.6 / columns + 0.3)) for w in weights.values()]
    heights = [height * max(1.0, 2.4 / sum(heights)) for height in heights]  # a lone matrix need not be a thin strip
    rows = [max(heights[k : k + columns]) for k in range(0, len(heights), columns)]
    sheet = Sheet(sum(rows) + _GAP * len(rows) + 0.05)
    orders = _orders(weights)
    for number, (name, weight) in enumerate(weights.items()):
        row, column = divmod(number, columns)
        top = _GAP * (row + 1) + sum(rows[:row])
        left = _MARGIN + column * (width + 0.2)
        size = f"{len(weight):,} × {weight.shape[1]:,}"
        share = percent(np.count_nonzero(weight) / weight.size)
        sheet.text(left, top - 0.08, f"{layer_label(name)}" + (f", {size}" if columns == 1 else ""))
        sheet.figure.text(
            (left + width) / WIDTH, 1 - (top - 0.08) / sheet.height, share, ha="right", color=MUTED, fontsize=8
        )
        axes = sheet.axes(top, heights[number], left=left, width=width)
        output, source = orders[name]
        axes.imshow(_pattern(weight[output][:, source]), interpolation="none", aspect="auto")
        axes.set_xticks([])
        axes.set_yticks([])
    layers = "; ".join(f"{layer_label(name)} {np.count_nonzero(w):,} of {w.size:,}" for name, w in weights.items())
    return Drawing(
        "weights",
        sheet.svg(),
        "Weight matrices",
        "Every weight that is not zero: vermilion excites, blue inhibits. Rows are the neurons that receive, the best "
        "connected above; an empty row is a neuron that hears nothing."
        + (" Large matrices are averaged over blocks." if any(_blocks(w) != [1, 1] for w in weights.values()) else ""),
        f"Sparsity patterns of {len(weights)} weight matrices. Non-zero weights: {layers}.",
    )


def inputs_figure(results: Results) -> Drawing | None:
    """How many connections each input keeps: a map of pixels, or a profile of channels; None for a single channel."""
    weight, shape = next(iter(results.weights.values())), results.config.frame_shape
    if weight.shape[1] != int(np.prod(shape)) or weight.shape[1] < 2:
        return None
    counts = np.count_nonzero(weight, axis=0)
    if not is_image(shape):
        return _channels(results, counts, len(weight))
    maps = counts.reshape(-1, *shape[-2:])
    names = _map_names(len(maps))
    columns = min(len(maps), 2)
    width = (WIDTH - 2 * _MARGIN - 0.2) / 2
    height = width * shape[-2] / shape[-1]
    rows = -(-len(maps) // columns)
    sheet = Sheet(rows * (height + 0.3) + 0.5)
    most = max(int(counts.max()), 1)
    for number, (image, (name, color)) in enumerate(zip(maps, names, strict=True)):
        left, top = _MARGIN + (number % columns) * (width + 0.2), 0.3 + (number // columns) * (height + 0.3)
        sheet.text(left, top - 0.08, name, color=color)
        axes = sheet.axes(top, height, left=left, width=width)
        axes.imshow(_enlarged(style.tinted(image / most, color, ground=0.04)), interpolation="none", aspect="auto")
        axes.set_axis_off()
    _scale(sheet, names, most, len(weight))
    silent = int((counts == 0).sum())
    return Drawing(
        "inputs",
        sheet.svg(),
        "Connections that each pixel keeps",
        f"Out of {len(weight)} possible ones. {_without(results, silent, f'{len(counts)} pixels')}",
        f"Maps of {shape[-2]} by {shape[-1]} pixels: connections kept per pixel, {counts.min()} to {counts.max()}, "
        f"on average {counts.mean():.1f} of {len(weight)}.",
    )


def receptive_fields(results: Results) -> Drawing | None:
    """Input weights of some hidden neurons as images; None where the input is no image."""
    weight, shape = next(iter(results.weights.values())), results.config.frame_shape
    if not is_image(shape) or weight.shape[1] != int(np.prod(shape)):
        return None
    chosen, titles, caption = _loudest(results)
    fields = weight[chosen].reshape(len(chosen), -1, *shape[-2:])
    kinds = fields.shape[1]
    columns = min(5, len(chosen))
    left = 0.36 if kinds == 2 else _MARGIN
    cell = (WIDTH - left - _MARGIN) / 5
    height = cell * shape[-2] / shape[-1] * kinds
    rows = -(-len(chosen) // columns)
    sheet = Sheet(rows * (height + 0.3) + 0.1)
    scale = float(np.quantile(np.abs(fields[fields != 0]), 0.98)) if fields.any() else 1.0
    for row in range(rows):
        part = slice(row * columns, (row + 1) * columns)
        tiles = style.signed(fields[part].swapaxes(0, 1).reshape(-1, *shape[-2:]), scale)
        count = len(titles[part])
        top = 0.3 + row * (height + 0.3)
        axes = sheet.axes(top, height, left=left, width=cell * count)
        axes.imshow(_enlarged(mosaic(tiles, count), 3), interpolation="none", aspect="auto")
        axes.set_axis_off()
        for column, title in enumerate(titles[part]):
            sheet.text(left + column * cell, top - 0.07, title)
        if kinds == 2:
            for polarity, (name, color) in enumerate(_map_names(2)):
                sheet.text(_MARGIN, top + height * (0.27 + 0.5 * polarity), name.split()[0], color=color, size=7.5)
    return Drawing(
        "receptive_fields",
        sheet.svg(),
        "Receptive fields",
        caption + " Vermilion weights excite, blue ones inhibit, grey is no connection.",
        f"Input weights of {len(chosen)} hidden neurons, drawn as images of {shape[-2]} by {shape[-1]} pixels.",
    )


def is_image(shape: tuple[int, ...]) -> bool:
    """Whether frames of this shape are worth drawing as pictures.

    Example:
        >>> is_image((2, 20, 20)), is_image((140,)), is_image((28, 1))
        (True, False, False)
    """
    return len(shape) in (2, 3) and min(shape[-2:]) >= 4 and (len(shape) == 2 or shape[0] <= 4)


def _loudest(results: Results) -> tuple[list[int], list[str], str]:
    """Hidden neurons worth a look, what to write above each, and a sentence."""
    matrices, classes = list(results.weights.values()), results.config.classes
    first, last = matrices[0], matrices[-1]
    if last.shape[1] == len(first) and len(results.sample.spikes if results.sample else matrices[:-1]) == 1:
        votes = last[: min(len(classes), 10)]
        titles = [f"“{short(name, 6)}”" for name in classes[: len(votes)]]
        return votes.argmax(1).tolist(), titles, "The hidden neuron with the largest weight to each class."
    strongest = np.argsort(-np.linalg.norm(first, axis=1), kind="stable")[:10].tolist()
    caption = f"The {len(strongest)} neurons of the first layer with the strongest weights."
    return strongest, [f"neuron {k}" for k in strongest], caption


def _orders(weights: dict[str, Array]) -> dict[str, tuple[Array, Array]]:
    """Order of rows and columns of each matrix: neurons by the connections they keep, inputs and classes as given."""
    orders, before, names = {}, np.arange(next(iter(weights.values())).shape[1]), list(weights)
    for name in names:
        weight = weights[name]
        if "recurrent" in name and weight.shape == (len(before), len(before)):
            orders[name] = (before, before)
            continue
        output = np.argsort(-np.count_nonzero(weight, axis=1), kind="stable")
        if name == names[-1]:
            output = np.arange(len(weight))
        source = before if len(before) == weight.shape[1] else np.arange(weight.shape[1])
        orders[name] = (output, source)
        before = output
    return orders


def _pattern(weight: Array) -> Array:
    """Image of where entries are positive or negative; a large matrix is averaged in blocks."""
    blocks = _blocks(weight)
    plus, minus = (_block_mean(part, blocks) for part in (weight > 0, weight < 0))
    share = plus + minus
    if blocks != [1, 1]:  # means over blocks are pale
        share = share / max(float(np.quantile(share, 0.99)), 1e-12)
    mixed = ((plus - minus) / np.maximum(plus + minus, 1e-12))[..., None]
    share, mixed = np.round(share * 16) / 16, np.round(mixed * 4) / 4  # few different colours make a small file
    red, blue = (style.tinted(share, color)[..., :3] for color in (VERMILION, BLUE))
    image = style.tinted(share, INK, ground=0.03)
    image[..., :3] = (red * (1 + mixed) + blue * (1 - mixed)) / 2
    return image


def _blocks(weight: Array) -> list[int]:
    """Rows and columns of a matrix that share one cell of its picture."""
    return [-(-size // most) for size, most in zip(weight.shape, _CELLS, strict=True)]


def _block_mean(mask: Array, blocks: list[int]) -> Array:
    """Mean over blocks of (rows, columns); the last ones may be smaller."""
    rows, columns = (np.arange(0, size, block) for size, block in zip(mask.shape, blocks, strict=True))
    sums = np.add.reduceat(np.add.reduceat(mask.astype(float), rows, axis=0), columns, axis=1)
    sizes = np.outer(np.diff([*rows, mask.shape[0]]), np.diff([*columns, mask.shape[1]]))
    means: Array = sums / sizes
    return means


def _enlarged(image: Array, times: int = 4) -> Array:
    """Every pixel as a square of pixels, so that no viewer smooths it away."""
    return image.repeat(times, axis=0).repeat(times, axis=1)


def _map_names(maps: int) -> list[tuple[str, str]]:
    if maps == 2:
        return [("ON pixels", VERMILION), ("OFF pixels", BLUE)]
    return [("pixels" if maps == 1 else f"channel {k + 1}", BLUE) for k in range(maps)]


def _scale(sheet: Sheet, names: list[tuple[str, str]], most: int, possible: int) -> None:
    """A strip from none to the most connections, below the maps."""
    top, width = sheet.height - 0.22, 1.2
    for row, (_, color) in enumerate(names[:2]):
        axes = sheet.axes(top - 0.02 + 0.07 * row, 0.06, left=_MARGIN + 0.12, width=width)
        axes.imshow(style.tinted(np.linspace(0, 1, 64)[None], color, ground=0.04), interpolation="none", aspect="auto")
        axes.set_axis_off()
    sheet.text(_MARGIN, top + 0.08, "0", color=MUTED, size=7.5)
    sheet.text(_MARGIN + 0.17 + width, top + 0.08, f"{most} connections", color=MUTED, size=7.5)


def _channels(results: Results, counts: Array, possible: int) -> Drawing:
    sheet = Sheet(2.2)
    axes: Axes = sheet.axes(0.28, 1.5, width=WIDTH - 0.42 - 0.1)
    channels = np.arange(len(counts))
    axes.fill_between(channels, counts, step="mid", color=BLUE, alpha=0.25, linewidth=0)
    axes.step(channels, counts, where="mid", color=BLUE, linewidth=1)
    axes.set_xlim(-0.5, len(counts) - 0.5)
    axes.set_ylim(0, max(int(counts.max()), 1) * 1.05)
    axes.set_xlabel("channel", loc="right", fontsize=7.5)
    sheet.text(0.03, 0.16, f"connections of each input channel (of {possible})")
    silent = int((counts == 0).sum())
    return Drawing(
        "inputs",
        sheet.svg(),
        "Connections that each channel keeps",
        f"Out of {possible} possible ones. {_without(results, silent, f'{len(counts)} channels')}",
        f"Connections per channel: {counts.min()} to {counts.max()}, on average {counts.mean():.1f} of {possible}.",
    )


def _without(results: Results, silent: int, inputs: str) -> str:
    if not silent:
        return f"None of the {inputs} has lost all of its connections."
    if results.unit == "iteration":
        return f"{silent} of {inputs} never fire in training, and have no connection."
    return f"The network has cut off {silent} of {inputs}; they need no wire at all."
