"""``bregma report``."""

from dataclasses import dataclass

import tyro

from bregma.cli.options import MaybePath, Runs


@dataclass(frozen=True)
class Report:
    """Draw the report of a run or a sweep anew, or lay several runs side by side.

    Args:
        runs: run folders, or the folder of one sweep.
        out: page to write; report.html in the run folder, or in the working directory for several runs.
    """

    runs: tyro.conf.Positional[Runs]
    out: MaybePath = None

    def __call__(self) -> int:
        """Write the page and print its path."""
        from bregma.report import write_report, write_sweep
        from bregma.runs.folder import RunFolder
        from bregma.runs.sweep import SweepFolder

        if not self.runs:
            raise ValueError("runs: name at least one run folder")
        if len(self.runs) == 1 and (self.runs[0] / "sweep.toml").is_file():
            if self.out:
                raise ValueError("out: the page of a sweep stays in its folder; leave the option out")
            print(write_sweep(SweepFolder(self.runs[0])))
            return 0
        print(write_report([RunFolder(run) for run in self.runs], self.out))
        return 0
