"""``bregma train``."""

import argparse
import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bregma.cli.interrupt import StopOnInterrupt
from bregma.cli.options import MaybePath
from bregma.runs.experiment import METHODS, Experiment, recipe

_console = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Train(Experiment):
    """Train a network and leave a run folder with its report.

    Args:
        out: run folder to make; "runs/DATA-METHOD-SEED-TIME" if not given.
        resume: run folder to go on with, instead of all other options.
        root: folder of the data files; the environment variable BREGMA_DATA, else "~/.cache/bregma".
    """

    out: MaybePath = None
    resume: MaybePath = None
    root: MaybePath = None

    def __post_init__(self) -> None:
        """Nothing: the settings are checked by `experiment`, since the parser would hide the one line in a box."""

    def experiment(self) -> Experiment:
        """The settings alone, checked."""
        return Experiment(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Experiment)})

    def __call__(self) -> int:
        """Train, or go on; 130 if stopped by Ctrl-C."""
        # Imported late: matplotlib, scikit-learn and numba take a second that `bregma --help` should not.
        from bregma.data import load
        from bregma.report import write_report
        from bregma.runs.folder import RunFolder, describe
        from bregma.runs.loop import train
        from bregma.runs.progress import progress_bar

        experiment = self.experiment()
        folder = RunFolder(self.resume or self.out or _new_folder(experiment))
        if self.resume:
            if self.out or experiment != recipe():
                raise ValueError("resume goes on with the settings of the run; leave the other options out")
            experiment = folder.config().experiment
        else:
            experiment = _found_again(experiment)
            folder.require_new()
        splits = load(experiment.data, root=self.root, steps=experiment.steps or None, seed=experiment.seed)
        if self.resume:
            folder.config().require_fit(splits.test, experiment.data)
        else:
            folder.create(describe(experiment, splits))
        with StopOnInterrupt() as stop:
            with progress_bar(_console, experiment) as bar:
                summary = train(folder, splits, resume=bool(self.resume), observer=bar, should_stop=stop)
            if summary is None:
                _console.print(f"stopped; go on with: bregma train --resume {folder.path}", soft_wrap=True)
                return 130
            report = write_report([folder])  # takes a second, so an interrupt lets it finish
        _console.print(
            f"test accuracy {summary['test_accuracy']:.2%}, density {summary['density']:.3f}"
            f"{f' (target {experiment.density:g})' if experiment.density else ''}, {summary['seconds']:.0f} s",
            soft_wrap=True,
        )
        print(report)
        return 0


def recommended(words: Sequence[str]) -> Experiment:
    """Settings recommended for the data and method on the command line; they are the defaults that --help shows."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--method", choices=METHODS, default="adabreg")
    parser.add_argument("--density", type=float, default=0.0)
    parser.exit_on_error = False
    try:
        given, _ = parser.parse_known_args(words)
    except argparse.ArgumentError:  # the parser proper will say what is wrong
        return recipe()
    if not 0 <= given.density <= 1 or given.method != "adabreg":  # the checks proper will say what is wrong
        return recipe(given.data, given.method)
    return recipe(given.data, given.method, density=given.density)


def _found_again(experiment: Experiment) -> Experiment:
    """The same, its data by an absolute path if by path, so that --resume finds them from any folder."""
    from bregma.data import DATASETS

    if experiment.data in DATASETS:
        return experiment
    return dataclasses.replace(experiment, data=str(Path(experiment.data).expanduser().resolve()))


def _new_folder(experiment: Experiment) -> Path:
    name = Path(experiment.data).name.split(".")[0]
    return Path("runs") / f"{name}-{experiment.method}-seed{experiment.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
