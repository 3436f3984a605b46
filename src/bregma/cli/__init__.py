"""The command ``bregma``: one file per command, each a dataclass of its options that is called to run it."""

from bregma.cli.entry import main

__all__ = ["main"]
