"""Data sets of event recordings: read one by one when asked for, binned batch by batch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from bregma.data.binning import bin_events
from bregma.data.dataset import FrameDataset

#: Bytes of events that a data set keeps in memory after reading them, in each process.
CACHE_BYTES = 512 * 1024**2

Recording = tuple[NDArray[Any], NDArray[Any]]


class EventFrames(FrameDataset):
    """Recordings that become frames when a batch is asked for.

    A subclass reads one recording with `read`. What was read is kept, up to `CACHE_BYTES`, so small sets are read once.

    Args:
        labels: Class index of each recording, shape (N,).
        classes: Names of the classes.
        frame_shape: Shape of one frame; units count through it in C order.
        steps: Number of frames T, >= 1.
        window: Length of time that the frames divide, in the unit of the recordings' times. Later events are dropped.
        binary: Frames of zeros and ones instead of counts.
        legacy_float16: See `bregma.data.bin_events`.
    """

    def __init__(
        self,
        *,
        labels: ArrayLike,
        classes: Sequence[str],
        frame_shape: Sequence[int],
        steps: int,
        window: float,
        binary: bool,
        legacy_float16: bool = False,
    ) -> None:
        super().__init__(labels=labels, classes=classes, frame_shape=frame_shape, steps=steps)
        self.window = window
        self.binary = binary
        self.legacy_float16 = legacy_float16
        self._kept: dict[int, Recording] = {}
        self._kept_bytes = 0

    @abstractmethod
    def read(self, row: int) -> Recording:
        """Times and units of recording `row`, two arrays of shape (E,)."""

    def frames(self, rows: NDArray[np.int64]) -> Tensor:
        """Float32 frames of the recordings `rows`, shape (T, B, *frame_shape)."""
        recordings = [self._recording(int(row)) for row in rows]
        indptr = np.zeros(len(recordings) + 1, dtype=np.int64)
        np.cumsum([len(times) for times, _ in recordings], out=indptr[1:])
        binned = bin_events(
            np.concatenate([times for times, _ in recordings] or [np.empty(0)]),
            np.concatenate([units for _, units in recordings] or [np.empty(0, dtype=np.int64)]),
            int(np.prod(self.frame_shape)),
            steps=self.steps,
            window=self.window,
            indptr=indptr,
            binary=self.binary,
            legacy_float16=self.legacy_float16,
        )
        return torch.from_numpy(binned.reshape(self.steps, len(recordings), *self.frame_shape)).to(torch.float32)

    def _recording(self, row: int) -> Recording:
        kept = self._kept.get(row)
        if kept is None:
            kept = self.read(row)
            size = kept[0].nbytes + kept[1].nbytes
            if self._kept_bytes + size <= CACHE_BYTES:
                self._kept[row] = kept
                self._kept_bytes += size
        return kept

    def __getstate__(self) -> dict[str, Any]:
        """State without what was kept: a worker reads for itself."""
        return {**self.__dict__, "_kept": {}, "_kept_bytes": 0}
