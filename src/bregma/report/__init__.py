"""Pictures and pages of runs, made from their folders alone."""

from bregma.report.figures import write_figures
from bregma.report.report import repeat_command, write_report

__all__ = ["repeat_command", "write_figures", "write_report"]
