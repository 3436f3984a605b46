"""``bregma train``."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from rich.console import Console

from bregma.cli.interrupt import StopOnInterrupt
from bregma.cli.options import MaybePath, MaybeText
from bregma.runs.admm_settings import SolverName
from bregma.runs.experiment import METHODS, Experiment, Init, Network
from bregma.runs.recipes import read_recipe
from bregma.runs.recommended import recommended
from bregma.runs.uses import Kind

if TYPE_CHECKING:
    from bregma.admm.workers import Workers
    from bregma.data import Splits
    from bregma.runs.folder import RunFolder
    from bregma.runs.record import Observer

_console = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Train(Experiment):
    """Train a network and leave a run folder with its report.

    Args:
        config: settings from a TOML file, over the recommended ones and under those of this command line; a path, or
            delrec_shd, delrec_ssc or delrec_psmnist.
        out: run folder to make; "runs/DATA-METHOD-SEED-TIME" if not given.
        resume: run folder to go on with, instead of all other options.
        root: folder of the data files; the environment variable BREGMA_DATA, else "~/.cache/bregma".
        tensorboard: write event files to the folder tensorboard of the run, for TensorBoard.
    """

    config: MaybeText = None
    out: MaybePath = None
    resume: MaybePath = None
    root: MaybePath = None
    tensorboard: bool = False

    def __post_init__(self) -> None:
        """Nothing: the settings are checked by `experiment`, since the parser would hide the one line in a box."""

    def experiment(self) -> Experiment:
        """The settings alone, checked."""
        return Experiment(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Experiment)})

    def __call__(self) -> int:
        """Train, or go on; 130 if stopped by Ctrl-C."""
        # Imported late: matplotlib, scikit-learn and numba take a second that `bregma --help` should not.
        from bregma.runs.group import any_of, joined
        from bregma.runs.loop import train

        if self.tensorboard:
            self._require_tensorboard()
        with joined() as workers:
            folder, splits = self._opened(workers)
            with StopOnInterrupt() as stop:
                try:
                    with self._watching(folder, workers) as observer:
                        summary = train(
                            folder,
                            splits,
                            resume=bool(self.resume),
                            observer=observer,
                            should_stop=any_of(workers, stop),
                            workers=workers,
                        )
                except (ValueError, TypeError, MemoryError):
                    if not self.resume and not workers.rank:
                        folder.forget_unstarted()
                    raise
                if workers.rank:
                    return 130 if summary is None else 0
                return _conclude(folder, summary)

    def _opened(self, workers: Workers) -> tuple[RunFolder, Splits]:
        """The run folder, made by the first worker if it is new, and the data."""
        from bregma.data import load
        from bregma.runs.folder import RunFolder, describe
        from bregma.runs.group import agreed, wait

        experiment = self.experiment()
        folder = RunFolder(agreed(str(self.resume or self.out or _new_folder(experiment)), workers))
        if self.resume:
            experiment = folder.config().experiment
        else:
            experiment = found_again(experiment)
            folder.require_new()
        splits = load(
            experiment.data,
            root=self.root,
            steps=experiment.steps or None,
            seed=experiment.seed,
            validation=experiment.validation,
        )
        wait(workers)  # all have found the folder new
        if self.resume:
            folder.config().require_fit(splits.test, experiment.data)
        elif not workers.rank:
            folder.create(describe(experiment, splits))
        wait(workers)
        return folder, splits

    @contextlib.contextmanager
    def _watching(self, folder: RunFolder, workers: Workers) -> Iterator[Observer | None]:
        """The progress bar and what writes for TensorBoard; nobody for all workers but the first."""
        from bregma.runs.progress import Together, progress_bar

        if workers.rank:
            yield None
            return
        with contextlib.ExitStack() as watching:
            bar = watching.enter_context(progress_bar(_console, folder.config().experiment))
            if self.tensorboard:
                from bregma.interop.tensorboard import TensorBoard

                yield Together([bar, watching.enter_context(TensorBoard(folder.path / "tensorboard"))])
            else:
                yield bar

    @staticmethod
    def _require_tensorboard() -> None:
        """Raise before anything is made if the library is not there."""
        from bregma.interop.libraries import library

        try:
            library("tensorboard", "tensorboard")
        except ImportError as error:
            raise ValueError(str(error)) from error


def _conclude(folder: RunFolder, summary: dict[str, Any] | None) -> int:
    """Say how it went; a report of a run that came to its end."""
    from bregma.report import write_report

    if summary is None:
        command = shlex.join(["bregma", "train", "--resume", str(folder.path)])
        _console.print(f"stopped; go on with: {command}", soft_wrap=True, markup=False)
        return 130
    report = write_report([folder])  # takes a second, so an interrupt lets it finish
    target, structure = summary["target_density"], folder.config().experiment.structure
    of = " of the neurons" if structure == "neurons" else ""
    _console.print(
        f"test accuracy {summary['test_accuracy']:.2%}, density {summary['density']:.3f}"
        f"{f' (target {target:g}{of})' if target else ''}, {summary['seconds']:.0f} s",
        soft_wrap=True,
    )
    print(report)
    return 0


def usual(words: Sequence[str]) -> Train:
    """The run recommended for what is on the command line; its settings are the defaults that --help shows.

    Of a config, what the method, density, network or start on the command line have no use for is left out. Nothing is
    checked: what does not fit together is said once all is read.

    Raises:
        FileNotFoundError: there is no such config.
        ValueError: it cannot be read.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    parser.add_argument("--config")
    parser.add_argument("--data")
    parser.add_argument("--method", choices=METHODS)
    parser.add_argument("--network", choices=get_args(Network))
    parser.add_argument("--init", choices=get_args(Init))
    parser.add_argument("--density", type=float)
    parser.add_argument("--admm.solver", dest="solver", choices=get_args(SolverName))
    parser.exit_on_error = False
    try:
        given = vars(parser.parse_known_args(words)[0])
    except argparse.ArgumentError:  # the parser proper will say what is wrong
        return Train(**recommended())
    of_file = read_recipe(given.pop("config")) if "config" in given else {}
    own = recommended(**{**of_file, **given})
    given.pop("solver", None)
    of_file = Kind.of({**own, **of_file, **given}).used(of_file)
    return Train(**{**own, **of_file, **given})


def found_again(experiment: Experiment) -> Experiment:
    """The same, its data by an absolute path if by path, so that --resume finds them from any folder."""
    from bregma.data import DATASETS

    if experiment.data in DATASETS:
        return experiment
    return dataclasses.replace(experiment, data=str(Path(experiment.data).expanduser().resolve()))


def _new_folder(experiment: Experiment) -> Path:
    name = Path(experiment.data).name.split(".")[0]
    return Path("runs") / f"{name}-{experiment.method}-seed{experiment.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
