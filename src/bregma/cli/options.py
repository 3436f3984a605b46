"""Kinds of options that several commands share."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from bregma.runs.experiment import Experiment

_BESIDE_RESUME = ("--resume", "--root", "--tensorboard", "--help")

#: A path that need not be given; shown as PATH, without "default: None".
MaybePath = Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")]

#: Text that need not be given.
MaybeText = Annotated[str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="")]

#: The folder of one run, or of several.
Run = Annotated[Path, tyro.conf.arg(metavar="RUN", help_behavior_hint="")]
Runs = Annotated[tuple[Path, ...], tyro.conf.arg(metavar="RUN [RUN ...]", help_behavior_hint="")]


def refuse_empty(words: Sequence[str]) -> None:
    """Raise if a word is empty, as that of an unset variable is: a path of no letters would be the working directory.

    Example:
        >>> refuse_empty(["train", "--out", ""])
        Traceback (most recent call last):
        ValueError: out must not be empty
    """
    for before, word in zip(["run", *words], words, strict=False):
        option, is_given, value = word.partition("=")
        if not word or (is_given and not value and option.startswith("--")):
            name = option if word else before if before.startswith("--") else "run"
            raise ValueError(f"{name.removeprefix('--')} must not be empty")


def refuse_beside_resume(words: Sequence[str]) -> None:
    """Raise if a run or sweep is to go on and settings are given too, whatever they are: it has its own."""
    options = [word.partition("=")[0] for word in words if word.startswith("--")]
    if "--resume" in options and not set(options) <= set(_BESIDE_RESUME):
        what = "sweep" if words[0] == "sweep" else "run"
        raise ValueError(f"resume goes on with the settings of the {what}; leave the other options out")


def settings_of(words: Sequence[str]) -> list[str]:
    """Names of the settings of a run that are on a command line.

    Example:
        >>> settings_of(["train", "--init-density=0.2", "--out", "x", "--admm.batch-size", "9"])
        ['init_density', 'admm.batch_size']
    """
    names = [word[2:].partition("=")[0].replace("-", "_") for word in words if word.startswith("--")]
    known = {field.name for field in dataclasses.fields(Experiment)}
    return [name for name in names if name.partition(".")[0] in known]
