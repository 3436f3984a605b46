"""What thins out a network goes on with a smaller one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

#: Weight -> the one that takes its place, and which of its flat entries that one holds (None: all of them).
Moves = Mapping[Tensor, tuple[Tensor, Tensor | None]]


def carried(weights: list[Tensor], kept: dict[str, Any], moves: Moves) -> tuple[list[Tensor], dict[str, Any]]:
    """Return what takes the place of the weights, and of flat tensors over all of them what is left.

    Args:
        weights: the former ones, in the order in which they lie in the flat tensors.
        kept: flat tensors by name; anything else comes back as it is.
        moves: see `Moves`.

    Example:
        >>> w, smaller = torch.zeros(2, 2), torch.zeros(1, 2)
        >>> _, kept = carried([w], {"mask": torch.tensor([1, 2, 3, 4])}, {w: (smaller, torch.tensor([2, 3]))})
        >>> kept
        {'mask': tensor([3, 4])}
    """
    parts, start = [], 0
    for w in weights:
        left = moves.get(w, (w, None))[1]
        parts.append(start + (torch.arange(w.numel()) if left is None else left.flatten().cpu()))
        start += w.numel()
    places = torch.cat(parts)
    for name, value in kept.items():
        if isinstance(value, Tensor) and value.shape == (start,):
            kept = kept | {name: value[places.to(value.device)]}
    return [moves.get(w, (w, None))[0] for w in weights], kept
