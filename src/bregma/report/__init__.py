"""Pictures and pages of runs, made from their folders alone."""

from bregma.report.figures import write_figures
from bregma.report.report import repeat_command, write_report
from bregma.report.sweep import sweep_table, write_sweep

__all__ = ["repeat_command", "sweep_table", "write_figures", "write_report", "write_sweep"]
