"""Checks that all readers share: they say in one line what came and what is allowed."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def check_labels(labels: ArrayLike, n_classes: int, where: str = "labels") -> NDArray[np.int64]:
    """Labels as int64, shape (N,), every one in [0, n_classes).

    Args:
        labels: Integers, shape (N,).
        n_classes: Number of classes.
        where: What the message calls them, such as a file's path.

    Raises:
        TypeError: If they are not integers.
        ValueError: If there are none, they are not a vector, or one is out of range.

    Example:
        >>> check_labels([0, 2], 3)
        array([0, 2])
        >>> check_labels([0, 3], 3)
        Traceback (most recent call last):
        ValueError: labels must be in [0, 3), got 3 at sample 1
    """
    values = np.asarray(labels)
    if values.ndim != 1:
        raise ValueError(f"{where} must be of shape (N,), got {values.shape}")
    if len(values) == 0:
        raise ValueError(f"{where} must hold at least one sample, got none")
    if values.dtype.kind not in "iu":
        raise TypeError(f"{where} must be integers, got {values.dtype}")
    outside = np.flatnonzero((values < 0) | (values >= n_classes))
    if len(outside):
        raise ValueError(f"{where} must be in [0, {n_classes}), got {values[outside[0]]} at sample {outside[0]}")
    return values.astype(np.int64)


def check_rows(rows: ArrayLike, length: int) -> NDArray[np.int64]:
    """Sample indices as int64, negative ones counted from the end, every one within `length`.

    Raises:
        IndexError: If one is out of range (the error that ends iteration over a sequence).
        TypeError: If they are not integers; a mask would be read as samples 0 and 1.
    """
    values = np.asarray(rows)
    if values.size and values.dtype.kind not in "iu":
        raise TypeError(f"sample index must be an integer, got {values.dtype}")
    values = values.astype(np.int64)
    outside = np.flatnonzero((values < -length) | (values >= length))
    if len(outside):
        raise IndexError(f"sample index must be in [-{length}, {length}), got {values[outside[0]]}")
    return np.where(values < 0, values + length, values)
