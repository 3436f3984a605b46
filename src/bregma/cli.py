"""The command ``bregma``: train, evaluate, report, data."""

import argparse
import contextlib
import dataclasses
import io
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import tyro
from rich.console import Console

from bregma import __version__
from bregma.runs.experiment import METHODS, Experiment, recipe

_console = Console(stderr=True, highlight=False)

#: A path that need not be given; shown as PATH, without "default: None".
MaybePath = Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")]
Runs = Annotated[tuple[Path, ...], tyro.conf.arg(metavar="RUN [RUN ...]", help_behavior_hint="")]


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


@dataclass(frozen=True)
class Evaluate:
    """Score a finished run on unseen data.

    Args:
        run: run folder.
        data: a data set other than the run's own, with frames of the same shape.
        root: folder of the data files; the environment variable BREGMA_DATA, else "~/.cache/bregma".
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN", help_behavior_hint="")]
    data: Annotated[str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="")] = None
    root: MaybePath = None


@dataclass(frozen=True)
class Report:
    """Draw the report of a run anew, or lay several runs side by side.

    Args:
        runs: run folders.
        out: page to write; report.html in the run folder, or in the working directory for several runs.
    """

    runs: tyro.conf.Positional[Runs]
    out: MaybePath = None


@dataclass(frozen=True)
class Data:
    """List the data sets: what each is, where it comes from, its licence, and what is here of it.

    Args:
        name: tell all about one data set and check its files against their digests.
        fetch: download its files first.
        root: folder of the data files; the environment variable BREGMA_DATA, else "~/.cache/bregma".
    """

    name: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="[NAME]", help_behavior_hint="")] = None
    fetch: bool = False
    root: MaybePath = None


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: run a command; bad input ends with one line and exit code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words == ["--version"]:
        print(__version__)
        return
    try:
        sys.exit(_run(words))
    except BrokenPipeError:
        sys.exit(1)
    except KeyboardInterrupt:
        print("bregma: interrupted", file=sys.stderr)
        sys.exit(130)
    except (ValueError, TypeError, OSError, MemoryError) as error:
        print(f"bregma: {error}", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        print(f"bregma: {str(error).partition('DefaultCPUAllocator: ')[2] or error}", file=sys.stderr)
        sys.exit(2)


def _run(words: list[str]) -> int:
    command = _parse(words)
    runners: dict[type, Callable[[Any], int]] = {Train: _train, Evaluate: _evaluate, Report: _report, Data: _data}
    return runners[type(command)](command)


def _parse(words: list[str]) -> Any:
    """The command with its options; what the parser says of a mistake, in a box of lines, becomes one line."""
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return _parser(words)
    except SystemExit as end:
        if not end.code:
            raise
        title, *text = [line.strip("╭╮╰╯│─ ") for line in box.getvalue().splitlines()]
        raise ValueError(f"{title}: {' '.join(' '.join(text).split())}") from None


def _parser(words: list[str]) -> Any:
    return tyro.cli(
        Annotated[Train, tyro.conf.subcommand("train", default=Train(**vars(_recommended(words))))]
        | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
        | Annotated[Report, tyro.conf.subcommand("report")]
        | Annotated[Data, tyro.conf.subcommand("data")],
        prog="bregma",
        description="Train sparse spiking neural networks by mathematical optimisation.",
        args=words,
        config=(tyro.conf.FlagCreatePairsOff,),
    )


def _recommended(words: list[str]) -> Experiment:
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


def _train(command: Train) -> int:
    # Imported late: matplotlib, scikit-learn and numba take a second that `bregma --help` should not.
    from bregma.data import load
    from bregma.report import write_report
    from bregma.runs.folder import RunFolder, describe
    from bregma.runs.loop import train
    from bregma.runs.progress import ProgressBar

    experiment = command.experiment()
    folder = RunFolder(command.resume or command.out or _new_folder(experiment))
    if command.resume:
        if command.out or experiment != recipe():
            raise ValueError("resume goes on with the settings of the run; leave the other options out")
        experiment = folder.config().experiment
    else:
        experiment = _found_again(experiment)
        folder.require_new()
    splits = load(experiment.data, root=command.root, steps=experiment.steps or None, seed=experiment.seed)
    if command.resume:
        folder.config().require_fit(splits.test, experiment.data)
    else:
        folder.create(describe(experiment, splits))
    with _StopOnInterrupt() as stop:
        with ProgressBar(_console, experiment) as bar:
            summary = train(folder, splits, resume=bool(command.resume), observer=bar, should_stop=stop)
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


def _found_again(experiment: Experiment) -> Experiment:
    """The same, its data by an absolute path if by path, so that --resume finds them from any folder."""
    from bregma.data import DATASETS

    if experiment.data in DATASETS:
        return experiment
    return dataclasses.replace(experiment, data=str(Path(experiment.data).expanduser().resolve()))


def _new_folder(experiment: Experiment) -> Path:
    name = Path(experiment.data).name.split(".")[0]
    return Path("runs") / f"{name}-{experiment.method}-seed{experiment.seed}-{time.strftime('%Y%m%d-%H%M%S')}"


class _StopOnInterrupt:
    """True once Ctrl-C was pressed; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> "_StopOnInterrupt":
        self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        return self.requested

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


def _evaluate(command: Evaluate) -> int:
    import json

    import torch

    from bregma.data import load
    from bregma.runs.build import build_network, load_weights
    from bregma.runs.evaluate import evaluate
    from bregma.runs.folder import RunFolder

    folder = RunFolder(command.run)
    config = folder.config()
    name = command.data or config.experiment.data
    splits = load(name, root=command.root, steps=config.steps, seed=config.experiment.seed)
    config.require_fit(splits.test, name)
    torch.set_num_threads(config.experiment.threads)
    net = build_network(config)
    load_weights(net, folder.tensors("best"), splits.test)
    result = evaluate(net, splits.test)
    print(
        json.dumps(
            {
                "run": str(folder.path),
                "data": name,
                "test_accuracy": result.accuracy,
                "test_loss": result.loss,
                "firing_rate": result.firing_rate,
                "firing_rates": result.firing_rates,
            },
            indent=2,
        )
    )
    return 0


def _report(command: Report) -> int:
    from bregma.report import write_report
    from bregma.runs.folder import RunFolder

    if not command.runs:
        raise ValueError("runs: name at least one run folder")
    print(write_report([RunFolder(run) for run in command.runs], command.out))
    return 0


def _data(command: Data) -> int:
    from bregma.data import DATASETS
    from bregma.runs.datasets import download, show_all, show_one

    console = Console(highlight=False)
    if command.name is None:
        if command.fetch:
            raise ValueError("fetch: name the data set to download")
        show_all(console, command.root)
        return 0
    if command.name not in DATASETS:
        raise ValueError(f"name must be one of {', '.join(DATASETS)}, got {command.name!r}")
    if command.fetch:
        download(console, command.name, command.root)
    show_one(console, command.name, command.root)
    return 0


if __name__ == "__main__":
    main()
