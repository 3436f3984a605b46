"""A sweep: methods, densities and seeds, each a run in its own folder inside the folder of the sweep.

What has ended is not run again, and what was interrupted goes on from its checkpoint, so a sweep can be stopped at any
time. Choices are made on the validation part, by the best epoch within a run and by the learning rate of
`Plan.rates` between runs; test accuracy is what is reported.
"""

import contextlib
import dataclasses
import math
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import tomlkit

from bregma.data import Splits, load
from bregma.files import locked, write_text
from bregma.runs.experiment import SWEPT, WITH_DENSITY, Experiment
from bregma.runs.folder import RunFolder, describe, require_new
from bregma.runs.loop import Diverged, train
from bregma.runs.plan import Plan, Point, tuning_name
from bregma.runs.record import Observer
from bregma.runs.texts import read_toml

FORMAT = 1


class SweepObserver(Observer, Protocol):
    """Who watches a sweep."""

    def begin(self, number: int, total: int, experiment: Experiment) -> None:
        """Called before each run, the first being number 1."""

    def end(self, summary: dict[str, Any] | None) -> None:
        """Called after each run, and for each that had ended before; None for a run with a rate that diverged."""


class SweepFolder:
    """Reads and writes the folder of a sweep: ``sweep.toml``, and a run folder for each run.

    Args:
        path: the folder; it need not exist before `create`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def require_new(self) -> None:
        """Refuse a folder that already holds a sweep, or a run."""
        require_new(self.path)

    def create(self, plan: Plan) -> None:
        """Make the folder and write down the plan; refuse a folder that already holds a sweep."""
        self.require_new()
        self.path.mkdir(parents=True, exist_ok=True)
        shared = {k: v for k, v in plan.base.to_dict().items() if k not in SWEPT}
        own = {name: list(getattr(plan, name)) for name in ("methods", "densities", "rates")}
        document = {"format": FORMAT, "sweep": {**own, "seeds": plan.seeds}, "experiment": shared}
        write_text(self.path / "sweep.toml", tomlkit.dumps(document))

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Keep every other process that runs the sweep out; see `bregma.files.locked`."""
        return locked(self.path / "sweep.toml")

    def plan(self) -> Plan:
        """Read ``sweep.toml``; one clear error if there is none, or a broken one."""
        path = self.path / "sweep.toml"
        if not path.is_file():
            raise FileNotFoundError(f"{self.path} holds no sweep: sweep.toml is missing")
        document = read_toml(path)
        try:
            if document["format"] != FORMAT:
                raise ValueError(f"sweep format {document['format']!r}, this version of bregma reads format {FORMAT}")
            sweep, shared = document["sweep"], document["experiment"]
            if any(name in shared and shared[name] != getattr(Experiment, name) for name in WITH_DENSITY):
                shared["density"] = (*sweep["densities"], 1.0)[0]  # which the others need; each run has its own
            return Plan(
                Experiment.from_dict(shared),
                methods=tuple(sweep["methods"]),
                densities=tuple(sweep["densities"]),
                seeds=sweep["seeds"],
                rates=tuple(sweep["rates"]),
            )
        except KeyError as error:
            raise ValueError(f"{path}: {error} is missing") from error
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error

    def run(self, name: str) -> RunFolder:
        """The folder of one run."""
        return RunFolder(self.path / name)

    def rate(self, plan: Plan, point: Point) -> float | None:
        """The learning rate with the best validation accuracy in the tuning runs; None before they have ended."""
        if not plan.tuned:
            return None
        found = {}
        for lr in plan.rates:
            run = self.run(tuning_name(point, lr))
            summary = run.summary()
            if summary is None and not _diverged(run).exists():
                return None
            found[lr] = self._figure(summary, "validation_accuracy", run) if summary else -1.0
        return max(found, key=found.__getitem__)

    def rows(self) -> list[dict[str, Any]]:
        """What each run that has ended came to, tuning left out, in the order of the plan.

        Raises:
            ValueError: a figure is missing in a ``summary.json``.
        """
        rows, plan = [], self.plan()
        for name, experiment in plan.runs(partial(self.rate, plan)):
            summary = None if name.startswith("tuning-") else self.run(name).summary()
            if summary is None:
                continue
            row = {"run": name, "method": experiment.method, "density": experiment.density or 1.0}
            row |= {"seed": experiment.seed, "lr": experiment.lr}
            row |= {key: self._figure(summary, own, self.run(name)) for key, own in _KEPT.items()}
            rows.append(row)
        return rows

    @staticmethod
    def _figure(summary: dict[str, Any], name: str, run: RunFolder) -> float:
        """One figure of a ``summary.json``; raise a `ValueError` that names the file if it is none."""
        value = summary.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not -math.inf < value < math.inf:
            raise ValueError(f"{run.path / 'summary.json'}: {name} must be a finite number, got {value!r}")
        return value


#: Figures of a row, and what ``summary.json`` calls them.
_KEPT = {
    "test_accuracy": "test_accuracy",
    "validation_accuracy": "validation_accuracy",
    "density_reached": "density",
    "firing_rate": "firing_rate",
    "seconds": "seconds",
}


class Mean(NamedTuple):
    """Mean and standard deviation over seeds, and how many they are; the deviation of one is 0."""

    mean: float
    deviation: float
    seeds: int


def mean_of(values: list[float]) -> Mean:
    """Mean, sample standard deviation and number of values.

    Example:
        >>> mean_of([1.0, 3.0]).mean, round(mean_of([1.0, 3.0]).deviation, 3), mean_of([2.0]).deviation
        (2.0, 1.414, 0.0)
    """
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return Mean(statistics.mean(values), deviation, len(values))


def means(rows: list[dict[str, Any]], name: str = "test_accuracy") -> dict[tuple[str, float], Mean]:
    """One figure of `SweepFolder.rows` by method and density, over the seeds."""
    values: dict[tuple[str, float], list[float]] = {}
    for row in rows:
        values.setdefault((row["method"], row["density"]), []).append(row[name])
    return {key: mean_of(found) for key, found in values.items()}


def run_sweep(
    folder: SweepFolder,
    plan: Plan | None = None,
    *,
    root: Path | None = None,
    observer: SweepObserver | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Run a sweep, or what is left of one.

    Args:
        folder: where it is, or will be.
        plan: of a new sweep, whose folder is made once its data are found; None to go on with the one in the folder.
        root: folder of the data files.
        observer: is told of every run, step and epoch.
        should_stop: asked after every step; when true the run under way is saved and the sweep ends early.

    Returns:
        Whether all runs have ended.

    Raises:
        FileNotFoundError: no sweep to go on with, or no data.
        ValueError: a new sweep in a folder that holds one, a run with other settings than the plan, or one that
            diverged, unless it was to choose a learning rate; what was done is kept.
        BlockingIOError: another process runs this sweep.
    """
    with contextlib.ExitStack() as held:
        if plan is not None:
            folder.require_new()
            return _run_sweep(folder, plan, held, True, root, observer, should_stop)
        plan = folder.plan()
        held.enter_context(folder.locked())
        return _run_sweep(folder, plan, held, False, root, observer, should_stop)


def _run_sweep(
    folder: SweepFolder,
    plan: Plan,
    held: contextlib.ExitStack,
    is_new: bool,
    root: Path | None,
    observer: SweepObserver | None,
    should_stop: Callable[[], bool],
) -> bool:
    """`run_sweep`; ``held`` keeps the folder of a new sweep, once there is one, for ourselves."""
    data: tuple[int, Splits] | None = None
    for number, (name, experiment) in enumerate(plan.runs(partial(folder.rate, plan)), 1):
        if observer:
            observer.begin(number, plan.total, experiment)
        run = folder.run(name)
        summary = _found(run, experiment)
        if summary is None and not _diverged(run).exists():
            if data is None or data[0] != experiment.seed:
                steps = experiment.steps or None
                data = (
                    experiment.seed,
                    load(
                        experiment.data, root=root, steps=steps, seed=experiment.seed, validation=experiment.validation
                    ),
                )
            config = describe(experiment, data[1])
            if is_new and number == 1:
                folder.create(plan)
                held.enter_context(folder.locked())
            if not (run.path / "config.toml").exists():
                run.create(config)
            try:
                summary = train(run, data[1], resume=True, observer=observer, should_stop=should_stop)
            except Diverged as error:
                if not name.startswith("tuning-"):
                    raise
                write_text(_diverged(run), f"{error}\n")  # a rate to choose from: the worst of them, no reason to stop
            else:
                if summary is None:
                    return False
        elif is_new and number == 1:  # a run that was there before the sweep
            folder.create(plan)
            held.enter_context(folder.locked())
        if observer:
            observer.end(summary)
        if should_stop():
            return number == plan.total
    return True


def _diverged(run: RunFolder) -> Path:
    """The file that says that a tuning run diverged."""
    return run.path / "diverged.txt"


def _found(run: RunFolder, experiment: Experiment) -> dict[str, Any] | None:
    """The summary of a run that has ended; raise if what is there is another run."""
    if not (run.path / "config.toml").exists():
        return None
    there = run.config().experiment
    for field in dataclasses.fields(experiment):
        if getattr(there, field.name) != getattr(experiment, field.name):
            raise ValueError(
                f"{run.path}: {field.name} is {getattr(there, field.name)!r}, the sweep has "
                f"{getattr(experiment, field.name)!r}; move the run away or make a new sweep"
            )
    return run.summary()
