"""Who watches a training run or a sweep: progress bars, and several as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from bregma.runs.experiment import Experiment

if TYPE_CHECKING:
    from bregma.runs.record import Observer


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

    def step(self, loss: float | None = None) -> None:
        """Advance by one step; the loss shown is a running mean."""
        if loss is not None:
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

    def step(self, loss: float | None = None) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.step(loss)

    def epoch(self, row: dict[str, Any]) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.epoch(row)


class SolverBar(ProgressBar):
    """The same for a solver: iteration, and what was measured last of its variables and of the true network.

    Args:
        console: see `ProgressBar`.
        experiment: one of the method admm.
    """

    def __init__(self, console: Console, experiment: Experiment) -> None:
        super().__init__(console, experiment)
        self._narrow = console.width < 100
        self._done, self._total = 0, experiment.admm.iterations
        if self._narrow:
            self._bar.columns = tuple(column for column in self._bar.columns if not isinstance(column, BarColumn))

    def start(self, done: int, total: int) -> None:
        """Draw the bar at iteration ``done`` of ``total``."""
        self._done, self._total = done, total
        self._bar.reset(self._task, completed=done, total=total)
        self._draw()

    def step(self, loss: float | None = None) -> None:
        """Advance by one iteration."""
        self._done += 1
        super().step(loss)

    def epoch(self, row: dict[str, Any]) -> None:
        """Show the figures of a measured iteration."""
        self._validated = solver_figures(row, brief=self._narrow)
        self._draw()
        if not self._console.is_terminal:
            text = f"iteration {row['epoch']}/{self._total}  {solver_figures(row)}"
            self._console.print(text, soft_wrap=True)

    def _draw(self) -> None:
        self._bar.update(self._task, description=f"it {self._done}/{self._total}", figures=self._validated)


_ROOM = 5  # figures in a line; the paper's solver has more without the firing rate
_SHORT = {"lagrangian": "L", "membrane_residuals": "z", "spike_residuals": "a"}


def solver_figures(row: dict[str, Any], *, brief: bool = False) -> str:
    """What a line of metrics says of a solver, for a list its largest number, and of the true network.

    Example:
        >>> row = {"solver": {"lagrangian": 6024.3, "loss": 0.0506, "primal": 1e-3, "spike_residuals": [286.0, 3.0]}}
        >>> solver_figures(row | {"train_accuracy": 0.93, "validation_accuracy": 0.4})
        'L 6e+03  loss 0.051  primal 0.001  a 2.9e+02  train 93.0%  val 40.0%'
        >>> solver_figures(row | {"train_accuracy": 0.93, "validation_accuracy": 0.4}, brief=True)
        'L 6e+03 loss 0.051 a 2.9e+02 train 93.0% val 40.0%'
    """
    words = []
    for name, value in row["solver"].items():
        if name != "step" and not (brief and name == "primal"):
            largest = max(value) if isinstance(value, list) else value
            words.append(f"{_SHORT.get(name, name)} {largest:.2g}")
    words += [f"train {row['train_accuracy']:.1%}", f"val {row['validation_accuracy']:.1%}"]
    if len(words) < _ROOM:
        words += [f"rate {row['firing_rate']:.3f}"]
    return (" " if brief else "  ").join(words)


def progress_bar(console: Console, experiment: Experiment) -> ProgressBar:
    """The bar that suits the method of an experiment."""
    return (SolverBar if experiment.method == "admm" else ProgressBar)(console, experiment)


class SweepBar:
    """One line while a sweep runs, and one that stays for each run that has ended.

    Args:
        console: where to draw; without a terminal only the lines of the runs are printed.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._number = self._total = self._epochs = 1
        self._reused = True
        self._name = ""
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=10 if console.width < 100 else 24),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("", total=None, figures="")

    def __enter__(self) -> SweepBar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def begin(self, number: int, total: int, experiment: Experiment) -> None:
        """Name the run that follows."""
        self._number, self._total, self._epochs = number, total, experiment.epochs
        self._name = f"{experiment.method} at {experiment.density or 1:g}, seed {experiment.seed}, lr {experiment.lr:g}"
        self._reused = True

    def start(self, done: int, total: int) -> None:
        """Draw the bar of the whole sweep, whose runs all have ``total`` steps."""
        self._reused = False
        self._bar.reset(self._task, completed=(self._number - 1) * total + done, total=self._total * total)
        self._draw(1 + done * self._epochs // total, "")

    def step(self, loss: float | None = None) -> None:
        """Advance by one step."""
        self._bar.advance(self._task)

    def epoch(self, row: dict[str, Any]) -> None:
        """Show the figures of a validated epoch."""
        self._draw(min(row["epoch"] + 1, self._epochs), f"val {row['validation_accuracy']:.1%}")

    def end(self, summary: dict[str, Any] | None) -> None:
        """Leave a line with what the run came to."""
        if summary is None:
            came = "diverged"
        else:
            ended = "was there" if self._reused else f"{summary['seconds']:.0f} s"
            came = f"test {summary['test_accuracy']:.2%}, density {summary['density']:.3f}, {ended}"
        self._console.print(f"{self._number}/{self._total}  {self._name}: {came}", soft_wrap=True)

    def _draw(self, epoch: int, figures: str) -> None:
        description = f"run {self._number}/{self._total}  epoch {epoch}/{self._epochs}"
        self._bar.update(self._task, description=description, figures=figures)
