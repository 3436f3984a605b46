"""MNIST from its idx files: row by row, or pixel by pixel in one fixed shuffled order (PSMNIST)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bregma.data.checks import check_labels
from bregma.data.dataset import VALIDATION_SHARE, FrameDataset, Splits, split_off
from bregma.data.files import AGAIN, find_file, read_packed

CLASSES = tuple("0123456789")
PIXELS = 28 * 28

#: Seed of PSMNIST's order of the pixels, see `psmnist_permutation`.
PERMUTATION_SEED = 0

_UINT8 = 0x08


def read_idx(path: Path | str) -> NDArray[np.uint8]:
    """Read an idx file of unsigned bytes, plain or gzipped.

    The file starts with two zero bytes, the code 8 of the type, the number of axes and their lengths (big endian, 4
    bytes each); the values follow.

    Args:
        path: The file.

    Returns:
        The array, uint8.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no idx file of unsigned bytes, or its length is not what its header says.
    """
    data = read_packed(Path(path))
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != _UINT8 or not 1 <= data[3] <= 4:
        raise ValueError(f"{path}: not an idx file of unsigned bytes (first bytes {data[:4].hex(' ') or 'none'})")
    start = 4 + 4 * data[3]
    shape = tuple(int.from_bytes(data[at : at + 4], "big") for at in range(4, start, 4))
    if len(data) != start + math.prod(shape):
        raise ValueError(
            f"{path}: truncated or damaged idx file (header says {start + math.prod(shape)} bytes, "
            f"got {len(data)}); {AGAIN}"
        )
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(shape)


def psmnist_permutation() -> Tensor:
    """The order of the pixels in PSMNIST: int64, shape (784,); step t shows pixel `permutation[t]`.

    Public code uses many orders, most of them unrecorded. Ours is
    `numpy.random.RandomState(0).permutation(784)`, from a generator that numpy has frozen, and each checkpoint carries
    it.

    Example:
        >>> psmnist_permutation()[:5]
        tensor([693,  85, 647, 392, 765])
    """
    generator = np.random.RandomState(PERMUTATION_SEED)  # frozen by numpy: the order must never change
    return torch.from_numpy(generator.permutation(PIXELS).astype(np.int64))


class PixelSequences(FrameDataset):
    """Images whose pixels come one piece per step, as grey values in [0, 1].

    Args:
        images: The images, uint8, shape (N, 28, 28).
        labels: The digits, shape (N,).
        steps: Number of pieces, a divisor of 784.
        permutation: Order of the pixels; row by row if None.

    Raises:
        ValueError: If the images are of another shape or dtype, or `steps` does not divide 784.
    """

    def __init__(
        self, images: NDArray[np.uint8], labels: NDArray[np.uint8], steps: int, permutation: Tensor | None = None
    ) -> None:
        if images.ndim != 3 or images.shape[1:] != (28, 28) or images.dtype != np.uint8:
            raise ValueError(f"images must be uint8 of shape (N, 28, 28), got {images.dtype} of shape {images.shape}")
        if len(images) != len(labels):
            raise ValueError(f"images and labels must be of one length, got {len(images)} and {len(labels)}")
        if steps < 1 or PIXELS % steps:
            raise ValueError(f"steps must be a divisor of {PIXELS}, got {steps}")
        super().__init__(
            labels=labels,
            classes=CLASSES,
            frame_shape=(PIXELS // steps,),
            steps=steps,
            carried={} if permutation is None else {"permutation": permutation},
        )
        pixels = images.reshape(len(images), PIXELS)
        self._pixels = torch.from_numpy(pixels.copy() if permutation is None else pixels[:, permutation.numpy()])

    def frames(self, rows: NDArray[np.int64]) -> Tensor:
        """Float32 frames of the samples `rows`, shape (T, B, 784 / T)."""
        batch = self._pixels[torch.from_numpy(rows)].reshape(len(rows), self.steps, -1)
        return batch.transpose(0, 1).to(torch.float32, memory_format=torch.contiguous_format) / 255


def load_mnist(
    *,
    root: Path | None = None,
    path: Path | None = None,
    steps: int | None = None,
    seed: int = 0,
    permuted: bool = False,
    validation: float = VALIDATION_SHARE,
) -> Splits:
    """MNIST in its official split; the validation part is cut from the training part by `seed`.

    Args:
        root: Data folder: the four idx files, plain or gzipped, are looked for in `root/mnist` and in `root`.
        path: The folder that holds them, instead of `root`.
        steps: Number of steps, a divisor of 784; default 28 (rows), or 784 if `permuted`.
        seed: Seed of the cut between training and validation.
        validation: Share of every class of the training part that becomes the validation part.
        permuted: PSMNIST: pixels in the order of `psmnist_permutation`.

    Raises:
        FileNotFoundError: If a file is missing; the message says what to put where.
        ValueError: If a file is damaged or `steps` does not divide 784.
    """
    steps = (PIXELS if permuted else 28) if steps is None else steps
    permutation = psmnist_permutation() if permuted else None
    train = _part("train", root, path, steps, permutation)
    test = _part("t10k", root, path, steps, permutation)
    rest, held_out = split_off(train, validation, seed, "validation", path or root or "mnist")
    how = "pixels in one fixed shuffled order" if permuted else "pixels in rows"
    return Splits(
        train=rest,
        validation=held_out,
        test=test,
        name="psmnist" if permuted else "mnist",
        title=f"MNIST, {how}, {len(train)} training and {len(test)} test images",
        synthetic=False,
    )


def _part(part: str, root: Path | None, path: Path | None, steps: int, permutation: Tensor | None) -> PixelSequences:
    images, labels = (_file(f"{part}-{kind}-ubyte", root, path) for kind in ("images-idx3", "labels-idx1"))
    pixels, digits = read_idx(images), read_idx(labels)
    check_labels(digits, len(CLASSES), f"{labels}: labels")
    return PixelSequences(pixels, digits, steps, permutation)


def _file(name: str, root: Path | None, path: Path | None) -> Path:
    names = [f"{name}.gz", name]
    if path is None:
        return find_file("mnist", names, root)
    for place in (path / own for own in names):
        if place.exists():
            return place
    raise FileNotFoundError(f"{path}: neither {names[0]} nor {name} found in it")
