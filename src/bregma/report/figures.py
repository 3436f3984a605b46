"""The figures of one run, drawn from its folder alone."""

from pathlib import Path

from bregma.files import write_text
from bregma.report import activity, curves, wiring
from bregma.report.results import Results, read_results
from bregma.report.solver import solver_figure
from bregma.report.style import Drawing, house_style
from bregma.runs.folder import RunFolder


def write_figures(folder: RunFolder) -> list[Path]:
    """Draw a run, finished or not, and leave the pictures in its ``figures/``.

    Args:
        folder: a run folder; ``config.toml``, ``metrics.jsonl``, ``summary.json`` and the safetensors files are read.

    Returns:
        SVG files: ``learning``, ``solver`` (of ADMM), ``sparsity``, ``sample`` (of a finished run), ``weights``,
        ``inputs`` (connections of each input, if there is more than one) and ``receptive_fields`` (if the input is an
        image). None before the first epoch has ended.

    Raises:
        FileNotFoundError: no run is there, or one of its files is missing.
        ValueError: a file is broken; the message names it.
    """
    return save(folder, draw(read_results(folder)))


def draw(results: Results) -> list[Drawing]:
    """All figures of a run, in the order of reading."""
    if not results.rows:
        return []
    with house_style():
        drawings = [
            curves.learning(results),
            solver_figure(results),
            curves.sparsity(results),
            activity.sample_figure(results.config, results.weights, results.sample) if results.sample else None,
            wiring.patterns(results),
            wiring.inputs_figure(results),
            wiring.receptive_fields(results),
        ]
    return [drawing for drawing in drawings if drawing is not None]


def save(folder: RunFolder, drawings: list[Drawing]) -> list[Path]:
    """Write figures as SVG files, each in one step."""
    if drawings:
        folder.figures.mkdir(exist_ok=True)
    paths = []
    for drawing in drawings:
        paths.append(folder.figures / f"{drawing.name}.svg")
        write_text(paths[-1], drawing.svg)
    return paths
