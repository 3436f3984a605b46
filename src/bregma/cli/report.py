"""``bregma report``."""

from dataclasses import dataclass

import tyro

from bregma.cli.options import MaybePath, Runs


@dataclass(frozen=True)
class Report:
    """Draw the report of a run anew, or lay several runs side by side.

    Args:
        runs: run folders.
        out: page to write; report.html in the run folder, or in the working directory for several runs.
    """

    runs: tyro.conf.Positional[Runs]
    out: MaybePath = None

    def __call__(self) -> int:
        """Write the page and print its path."""
        from bregma.report import write_report
        from bregma.runs.folder import RunFolder

        if not self.runs:
            raise ValueError("runs: name at least one run folder")
        print(write_report([RunFolder(run) for run in self.runs], self.out))
        return 0
