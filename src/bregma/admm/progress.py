"""What a fit shows while it runs."""

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class ProgressBar:
    """Iterations done, and the last measurements: Lagrangian, loss, residuals, true accuracies.

    Args:
        iterations: how many there will be in all.
        console: where to draw; stderr by default.
    """

    def __init__(self, iterations: int, console: Console | None = None) -> None:
        columns = (BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
        self._progress = Progress(*columns, console=console or Console(stderr=True))
        self._progress.start()
        self._task = self._progress.add_task("", total=iterations)

    def show(self, iteration: int, point: dict[str, Any] | None) -> None:
        """Move the bar; a new measurement replaces the text."""
        self._progress.update(self._task, completed=iteration)
        if point is not None:
            self._progress.update(self._task, description=describe(point))

    def stop(self) -> None:
        """Leave the last state on the screen."""
        self._progress.stop()


def describe(point: dict[str, Any]) -> str:
    """One line about a measurement.

    Example:
        >>> describe({"lagrangian": 6024.3, "loss": 0.0506, "primal": 0.001, "membrane_residuals": [56.4, 1.5],
        ...           "spike_residuals": [286.0], "train_accuracy": 0.93})
        'L 6.02e+03  loss 0.051  primal 1.0e-03  z 56.4  a 286  train 93.0%'
        >>> describe({"loss": 0.0506, "step": 0.3, "train_accuracy": 0.93})
        'loss 0.051  step 0.3  train 93.0%'
    """
    words = []
    if "lagrangian" in point:
        words.append(f"L {point['lagrangian']:.3g}")
    if "loss" in point:
        words.append(f"loss {point['loss']:.2g}")
    if "primal" in point:
        words.append(f"primal {point['primal']:.1e}")
    for letter, name in (("z", "membrane_residuals"), ("a", "spike_residuals")):
        if name in point:
            words.append(f"{letter} {max(point[name]):.3g}")
    if "step" in point:
        words.append(f"step {point['step']:.2g}")
    for part in ("train", "validation"):
        if f"{part}_accuracy" in point:
            words.append(f"{part} {point[f'{part}_accuracy']:.1%}")
    return "  ".join(words)
