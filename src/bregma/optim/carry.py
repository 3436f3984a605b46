"""What thins out a network goes on with a smaller one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from bregma.optim.sparsifier import Sparsifier

#: Weight -> the one that takes its place, and which of its flat entries that one holds (None: all of them).
Moves = Mapping[Tensor, tuple[Tensor, Tensor | None]]


def carry_over(sparsifier: Sparsifier, moves: Moves) -> None:
    """Cut mask and flat tensors to what is left of the weights, and keep the number of connections to reach.

    Raises:
        ValueError: whole neurons, or n of m, are still being chosen, and the choice would not be the same; or firing
            rates of the former network count.
    """
    if not sparsifier.frozen and (sparsifier.structured or getattr(sparsifier, "rates", None) is not None):
        raise ValueError(f"net must not be compacted before step {sparsifier.freeze_step}, the end of the ramp")
    parts, start = [], 0
    for w in sparsifier.weights:
        kept = moves.get(w, (w, None))[1]
        parts.append(start + (torch.arange(w.numel()) if kept is None else kept.flatten().cpu()))
        start += w.numel()
    places = torch.cat(parts).to(sparsifier.mask.device)
    for name in ("mask", *sparsifier._kept):
        value = getattr(sparsifier, name)
        if isinstance(value, Tensor) and value.shape == (sparsifier.size,):
            setattr(sparsifier, name, value[places])
    frozen = int(torch.count_nonzero(sparsifier.mask))
    goal = frozen if sparsifier.frozen else sparsifier.structure.keep(sparsifier.target)
    sparsifier.weights = [moves.get(w, (w, None))[0] for w in sparsifier.weights]
    sparsifier.size = len(places)
    sparsifier.target = min(1.0, goal / sparsifier.size)
    sparsifier.arrange()
