"""Who watches a training run: the progress bar, and several as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from bregma.runs.experiment import Experiment

if TYPE_CHECKING:
    from bregma.runs.loop import Observer


class ProgressBar:
    """One line while training: epoch, loss, and the figures of the last validation.

    Args:
        console: where to draw; without a terminal one plain line per epoch is printed instead.
        experiment: what is trained.
    """

    def __init__(self, console: Console, experiment: Experiment) -> None:
        self._console = console
        self._epochs = experiment.epochs
        self._epoch = 1
        self._validated = ""
        self._loss: float | None = None
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=10 if console.width < 100 else 24),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, figures="")

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def start(self, done: int, total: int) -> None:
        """Draw the bar at step ``done`` of ``total``."""
        self._epoch = 1 + done * self._epochs // total
        self._bar.reset(self._task, completed=done, total=total)
        self._draw()

    def step(self, loss: float) -> None:
        """Advance by one step; the loss shown is a running mean."""
        self._loss = loss if self._loss is None else 0.9 * self._loss + 0.1 * loss
        self._bar.advance(self._task)
        self._draw()

    def epoch(self, row: dict[str, Any]) -> None:
        """Show the figures of a validated epoch."""
        self._validated = (
            f"  val {row['validation_accuracy']:.1%}  density {row['density']:.3f}  rate {row['firing_rate']:.3f}"
        )
        self._epoch = min(row["epoch"] + 1, self._epochs)
        self._draw()
        if not self._console.is_terminal:
            self._console.print(f"epoch {row['epoch']}/{self._epochs}  loss {row['train_loss']:.3f}{self._validated}")

    def _draw(self) -> None:
        loss = "" if self._loss is None else f"loss {self._loss:.3f}"
        description = f"epoch {self._epoch}/{self._epochs}"
        self._bar.update(self._task, description=description, figures=f"{loss}{self._validated}")


class Together:
    """Several observers of a run as one.

    Args:
        observers: told in this order.
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def start(self, done: int, total: int) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.start(done, total)

    def step(self, loss: float) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.step(loss)

    def epoch(self, row: dict[str, Any]) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.epoch(row)
