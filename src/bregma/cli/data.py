"""``bregma data``."""

from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console

from bregma.cli.options import MaybePath


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

    def __call__(self) -> int:
        """List, check or download."""
        from bregma.data import DATASETS
        from bregma.runs.datasets import download, show_all, show_one

        console = Console(highlight=False)
        if self.name is None:
            if self.fetch:
                raise ValueError("fetch: name the data set to download")
            show_all(console, self.root)
            return 0
        if self.name not in DATASETS:
            raise ValueError(f"name must be one of {', '.join(DATASETS)}, got {self.name!r}")
        if self.fetch:
            download(console, self.name, self.root)
        show_one(console, self.name, self.root)
        return 0
