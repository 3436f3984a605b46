"""The entry point: words in, one command run, one line of error out."""

import contextlib
import io
import re
import sys
from collections.abc import Sequence
from typing import Annotated, Protocol

import tyro

from bregma import __version__
from bregma.cli.compact import Compact
from bregma.cli.data import Data
from bregma.cli.evaluate import Evaluate
from bregma.cli.export import Export
from bregma.cli.options import refuse_beside_resume, refuse_empty, settings_of
from bregma.cli.report import Report
from bregma.cli.sweep import Sweep, usual_sweep
from bregma.cli.train import Train, usual


class Command(Protocol):
    """Options that were given, and what to do with them."""

    def __call__(self) -> int:
        """Do it; the exit code."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: run a command; bad input ends with one line and exit code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words == ["--version"]:
        print(__version__)
        return
    try:
        sys.exit(_parse(words)())
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


def _parse(words: list[str]) -> Command:
    """The command with its options; of what the parser says of a mistake, in a box of lines, the mistake is kept."""
    refuse_empty(words)
    refuse_beside_resume(words)
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            command = _parser(words)
    except SystemExit as end:
        if not end.code:
            raise
        lines = [line.strip("╭╮╰╯│─ ") for line in box.getvalue().splitlines()]
        title, *text = [line for line in lines if line.strip("-")]  # the frame is of dashes in an ASCII terminal
        said = _mistake(" ".join(" ".join(text).split()))
        whole = said.startswith("--") or said.lower().startswith(title.lower())
        raise ValueError(said if whole else f"{title}: {said}") from None
    if isinstance(command, Train):
        command.refuse_unused(settings_of(words))
    return command


def _mistake(said: str) -> str:
    """Without the texts of help that the parser quotes; of options like the one that was meant, the first is named.

    An option of another command is none like it. What is no number is told what --help shows of its option.

    Example:
        >>> _mistake("Unrecognized options: --ep Perhaps you meant: --epochs INT passes For full helptext, see ...")
        'Unrecognized options: --ep; perhaps you meant --epochs'
        >>> _mistake("Error parsing --lr: could not convert string to float: 'x' Argument helptext: --lr FLOAT the")
        "--lr must be FLOAT, got 'x'"
        >>> _mistake("Missing from bregma export: --to {nir,onnx} nir: a graph for ...")
        'bregma export needs --to {nir,onnx}'
    """
    if unread := re.search(r"Error parsing (--\S+): .*: ('.*'|\[.*\]) Argument helptext: \1 ([A-Z\[\],. ]+) ", said):
        return f"{unread[1]} must be {unread[3]}, got {unread[2]}"
    if missing := re.search(r"Missing from (bregma \w+): (\S+(?: \{\S+\})?)", said):
        return f"{missing[1]} needs {missing[2]}"
    if of_another := re.search(r"(--\S+) \(applied to (bregma \w+)\)", said):
        return f"Unrecognized options: {of_another[2]} has no {of_another[1]}"
    mistake, _, like = re.split(r" (?:Argument helptext:|For full helptext)", said)[0].partition(" Perhaps you meant: ")
    return f"{mistake}; perhaps you meant {like.split()[0]}" if like else mistake


def _parser(words: list[str]) -> Command:
    return tyro.cli(
        Annotated[Train, tyro.conf.subcommand("train", default=usual(words))]
        | Annotated[Sweep, tyro.conf.subcommand("sweep", default=usual_sweep(words))]
        | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
        | Annotated[Report, tyro.conf.subcommand("report")]
        | Annotated[Compact, tyro.conf.subcommand("compact")]
        | Annotated[Export, tyro.conf.subcommand("export")]
        | Annotated[Data, tyro.conf.subcommand("data")],
        prog="bregma",
        description="Train sparse spiking neural networks by mathematical optimisation.",
        args=words,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
