"""A run that TensorBoard shows while it trains: ``bregma train --tensorboard``, then ``tensorboard --logdir runs``."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

from bregma.interop.libraries import library


class TensorBoard:
    """Writes the loss of every step, and what every epoch measures, to event files.

    Args:
        folder: where the files go; a run that is resumed adds to them.

    Raises:
        ImportError: tensorboard is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        library("tensorboard", "tensorboard")
        self._folder = Path(folder)
        self._writer: Any = None
        self._step = 0

    def __enter__(self) -> TensorBoard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def start(self, done: int, total: int) -> None:
        """Open the files; steps that a run went beyond its last checkpoint are shown once."""
        writer = library("torch.utils.tensorboard", "tensorboard").SummaryWriter
        self._writer = writer(str(self._folder), purge_step=done + 1)
        self._step = done

    def step(self, loss: float | None = None) -> None:
        """Write the loss of an optimizer step; a solver has none."""
        self._step += 1
        if loss is not None:
            self._writer.add_scalar("loss/step", loss, self._step)

    def epoch(self, row: dict[str, Any]) -> None:
        """Write a line of ``metrics.jsonl`` at the step that ended the epoch."""
        for name, value in row.items():
            if isinstance(value, dict):
                for part, own in value.items():
                    self._add(f"{name}/{part}", own)
            elif name != "epoch":
                group = "accuracy" if "accuracy" in name else "loss" if "loss" in name else "run"
                self._writer.add_scalar(f"{group}/{name}", float(value), self._step)
        self._writer.flush()

    def _add(self, tag: str, value: Any) -> None:
        """Write a number, or the numbers of a list, one per layer."""
        if isinstance(value, list):
            for index, own in enumerate(value):
                self._writer.add_scalar(f"{tag}/{index}", own, self._step)
        elif isinstance(value, (int, float)):
            self._writer.add_scalar(tag, value, self._step)
