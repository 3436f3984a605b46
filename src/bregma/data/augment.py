"""Augmentation of training batches: the same recording, seen from a little beside."""

from __future__ import annotations

import torch
from torch import Tensor


def shift_frames(frames: Tensor, moves: Tensor) -> Tensor:
    """Move each sample's image by a whole number of pixels, the same in all of its frames.

    What leaves the sensor is lost, what enters is dark. Small random moves, drawn anew in every epoch, stand in for
    more recordings of a small training set; only for training batches.

    Args:
        frames: Frames of shape (T, B, ..., H, W).
        moves: How far down and how far right each sample moves, integers, shape (B, 2).

    Returns:
        The moved frames, a new tensor of the same shape and dtype.

    Raises:
        TypeError: If the moves are not integers.
        ValueError: If the frames have fewer than four axes, or the moves are not of shape (B, 2).

    Example:
        >>> frames = torch.zeros(1, 1, 3, 3)
        >>> frames[..., 1, 1] = 1
        >>> shift_frames(frames, torch.tensor([[1, -1]]))[0, 0]
        tensor([[0., 0., 0.],
                [0., 0., 0.],
                [1., 0., 0.]])
    """
    if frames.ndim < 4:
        raise ValueError(f"frames must be of shape (T, B, ..., H, W), got {tuple(frames.shape)}")
    if moves.is_floating_point() or moves.dtype == torch.bool:
        raise TypeError(f"moves must be integers, got {moves.dtype}")
    if moves.shape != (frames.shape[1], 2):
        raise ValueError(f"moves must be of shape ({frames.shape[1]}, 2), got {tuple(moves.shape)}")
    moved = torch.zeros_like(frames)
    # Samples that move alike move at once: as many copies as there are different moves, however large the batch.
    for down, right in torch.unique(moves, dim=0).tolist():
        (alike,) = ((moves[:, 0] == down) & (moves[:, 1] == right)).nonzero(as_tuple=True)
        (top, to_top), (left, to_left) = _overlap(frames.shape[-2], down), _overlap(frames.shape[-1], right)
        moved[:, alike, ..., to_top, to_left] = frames[:, alike, ..., top, left]
    return moved


def _overlap(size: int, move: int) -> tuple[slice, slice]:
    """Where the part that stays on the sensor comes from and goes to, along one axis."""
    kept = max(0, size - abs(move))
    return slice(max(0, -move), max(0, -move) + kept), slice(max(0, move), max(0, move) + kept)
