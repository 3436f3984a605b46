"""Kinds of options that several commands share."""

from pathlib import Path
from typing import Annotated

import tyro

#: A path that need not be given; shown as PATH, without "default: None".
MaybePath = Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")]

#: Text that need not be given.
MaybeText = Annotated[str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="")]

#: The folder of one run, or of several.
Run = Annotated[Path, tyro.conf.arg(metavar="RUN", help_behavior_hint="")]
Runs = Annotated[tuple[Path, ...], tyro.conf.arg(metavar="RUN [RUN ...]", help_behavior_hint="")]
