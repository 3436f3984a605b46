"""What every data set of bregma is: samples that become time-major frames, one batch at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from bregma.data.checks import check_labels, check_rows

Batch = tuple[Tensor, Tensor]

#: The test part of data without an official one: this share of every class, cut by `stratified_cut` with this seed.
TEST_SHARE = 0.2
TEST_SEED = 0

#: The validation part of data without an official one, unless another share is asked for.
VALIDATION_SHARE = 0.1


class FrameDataset(torch.utils.data.Dataset[tuple[Tensor, int]], ABC):
    """Labelled samples, each of `steps` frames of shape `frame_shape`.

    A subclass stores its samples as compactly as it likes and writes one method, `frames`, that turns some of them into
    a time-major float32 tensor. Use it with `torch.utils.data.DataLoader(data, batch_size=..., collate_fn=collate)`,
    which then asks for a whole batch at once.

    Args:
        labels: Class index of each sample, integers in [0, len(classes)), shape (N,), N >= 1.
        classes: Names of the classes.
        frame_shape: Shape of one frame, such as (2, 20, 20) or (140,).
        steps: Number of frames T of a sample, >= 1.
        carried: What a checkpoint must carry to repeat the input, by name; empty by default.

    Raises:
        ValueError: If there is no sample, a label lies outside the classes, or `steps` < 1.
    """

    def __init__(
        self,
        *,
        labels: ArrayLike,
        classes: Sequence[str],
        frame_shape: Sequence[int],
        steps: int,
        carried: dict[str, Tensor] | None = None,
    ) -> None:
        if steps < 1:
            raise ValueError(f"steps must be >= 1, got {steps}")
        self.classes = tuple(classes)
        self.frame_shape = tuple(frame_shape)
        self.steps = steps
        self.labels = torch.from_numpy(check_labels(labels, len(self.classes)))
        self.carried = dict(carried or {})

    @abstractmethod
    def frames(self, rows: NDArray[np.int64]) -> Tensor:
        """Float32 frames of the samples `rows`, shape (T, B, *frame_shape)."""

    def subset(self, rows: ArrayLike) -> FrameDataset:
        """The samples `rows`, in that order, as a data set that shares this one's storage."""
        return _Subset(self, check_rows(rows, len(self)))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Sample `index`: frames (T, *frame_shape) and its label."""
        rows = check_rows([index], len(self))
        return self.frames(rows)[:, 0], int(self.labels[int(rows[0])])

    def __getitems__(self, indices: list[int]) -> Batch:
        """Samples `indices` at once: frames (T, B, *frame_shape) and labels (B,)."""
        rows = check_rows(indices, len(self))
        return self.frames(rows), self.labels[torch.from_numpy(rows)]


class _Subset(FrameDataset):
    """Some samples of another data set."""

    def __init__(self, whole: FrameDataset, rows: NDArray[np.int64]) -> None:
        super().__init__(
            labels=whole.labels.numpy()[rows],
            classes=whole.classes,
            frame_shape=whole.frame_shape,
            steps=whole.steps,
            carried=whole.carried,
        )
        self._whole, self._rows = whole, rows

    def frames(self, rows: NDArray[np.int64]) -> Tensor:
        return self._whole.frames(self._rows[rows])


class DenseFrames(FrameDataset):
    """Frames held in memory as uint8, of shape (N, T, *frame_shape).

    Args:
        counts: The frames, uint8, shape (N, T, *frame_shape).
        labels: Class index of each sample, shape (N,).
        classes: Names of the classes.

    Raises:
        ValueError: If the frames are not uint8, or their number is not that of the labels.

    Example:
        >>> data = DenseFrames(np.ones((3, 5, 4), dtype=np.uint8), [0, 1, 1], ["a", "b"])
        >>> frames, labels = data.__getitems__([2, 0])
        >>> frames.shape, frames.dtype, labels
        (torch.Size([5, 2, 4]), torch.float32, tensor([1, 0]))
    """

    def __init__(self, counts: NDArray[np.uint8], labels: ArrayLike, classes: Sequence[str]) -> None:
        if counts.dtype != np.uint8 or counts.ndim < 3:
            raise ValueError(f"counts must be uint8 of shape (N, T, ...), got {counts.dtype} of shape {counts.shape}")
        super().__init__(labels=labels, classes=classes, frame_shape=counts.shape[2:], steps=counts.shape[1])
        if len(counts) != len(self):
            raise ValueError(f"counts and labels must be of one length, got {len(counts)} and {len(self)}")
        self._counts = torch.from_numpy(counts)

    def frames(self, rows: NDArray[np.int64]) -> Tensor:
        """Float32 frames of the samples `rows`, shape (T, B, *frame_shape)."""
        batch = self._counts[torch.from_numpy(rows)]
        return batch.transpose(0, 1).to(torch.float32, memory_format=torch.contiguous_format)


@dataclass(frozen=True)
class Splits:
    """A data set cut in three: the test part is never used for any choice.

    Attributes:
        train: What a network learns from.
        validation: What epochs, densities and thresholds are chosen by; cut from the training part by a fixed rule
            where the data come without one.
        test: What is reported. It does not depend on any seed.
        name: Short name, as on the command line.
        title: One line for reports: what the samples are and how they were cut.
        synthetic: Whether the recordings were simulated or synthesised rather than measured.
    """

    train: FrameDataset
    validation: FrameDataset
    test: FrameDataset
    name: str
    title: str
    synthetic: bool


def collate(batch: Batch | list[tuple[Tensor, int]]) -> Batch:
    """Make a time-major batch for a `DataLoader`: passes on what `FrameDataset.__getitems__` gives.

    Args:
        batch: A pair (frames (T, B, ...), labels (B,)), returned as it is, or a list of B single samples.

    Returns:
        Frames (T, B, ...) and labels (B,), int64.

    Example:
        >>> frames, labels = collate([(torch.zeros(5, 4), 1), (torch.ones(5, 4), 0)])
        >>> frames.shape, labels
        (torch.Size([5, 2, 4]), tensor([1, 0]))
    """
    if isinstance(batch, tuple):
        return batch
    frames: list[Any] = [sample for sample, _ in batch]
    return torch.stack(frames, dim=1), torch.tensor([label for _, label in batch], dtype=torch.int64)


def stratified_cut(labels: ArrayLike, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut samples in two with the same share of every class: the fixed rule behind each split of bregma.

    For each class in increasing order, the positions of its samples are permuted by one
    `numpy.random.RandomState(seed)`, a generator that numpy has frozen. In the resulting sequence of all samples,
    number k (from 0) is cut off where `floor((k + 1) * share + 1/2)` exceeds `floor(k * share + 1/2)`: every class
    gives its share to within one sample, and all together `round(share * N)`. Both parts come back in increasing order.

    Args:
        labels: Class index of each sample, shape (N,).
        share: Part to cut off, in (0, 1).
        seed: Seed of the permutations, in [0, 2**32).

    Returns:
        (kept, cut): positions of the samples in the two parts.

    Example:
        >>> kept, cut = stratified_cut([0, 0, 0, 0, 1, 1, 1, 1], 0.25, seed=0)
        >>> len(kept), np.asarray([0, 0, 0, 0, 1, 1, 1, 1])[cut].tolist()
        (6, [0, 1])
    """
    if not 0 < share < 1:
        raise ValueError(f"share must be in (0, 1), got {share}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be in [0, 2**32), got {seed}")
    values = np.asarray(labels)
    generator = np.random.RandomState(seed)  # frozen by numpy: the cut must never change
    order = np.concatenate([generator.permutation(np.flatnonzero(values == label)) for label in np.unique(values)])
    is_cut = np.zeros(len(values), dtype=bool)
    is_cut[order] = np.diff(np.floor(np.arange(len(values) + 1) * share + 0.5)) > 0
    return np.flatnonzero(~is_cut), np.flatnonzero(is_cut)


def split_off(
    whole: FrameDataset, share: float, seed: int, purpose: str, where: str | Path
) -> tuple[FrameDataset, FrameDataset]:
    """Cut a part from another by `stratified_cut`: (rest, part).

    Raises:
        ValueError: If one of the two would be empty; the message calls the whole `where` and the part `purpose`.
    """
    kept, cut = stratified_cut(whole.labels.numpy(), share, seed)
    if len(kept) == 0 or len(cut) == 0:
        of = f"{share:g} of {len(whole)} samples"
        raise ValueError(f"{where}: {purpose} must be a share that leaves samples in both parts, got {of}")
    return whole.subset(kept), whole.subset(cut)
