"""In which order Algorithm 2 visits layers and time steps, and which steps it may take together.

A time step's update reads the steps just before and after it and no others. So steps visited one by one give the same
numbers as *waves* of steps taken at once, as long as of two neighbours the one visited first is in an earlier wave. The
paper's order needs T waves of one step, even and odd steps two large ones, and a random order about seven.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

Order = Literal["paper", "random", "red-black"]
ORDERS: tuple[Order, ...] = get_args(Order)


def time_order(order: Order, steps: int, generator: torch.Generator | None = None) -> list[int]:
    """The time steps in the order of their visits.

    Args:
        order: ``"paper"`` first to last, ``"random"`` a permutation, ``"red-black"`` even steps before odd ones.
        steps: T.
        generator: of the permutation.

    Example:
        >>> time_order("red-black", 5)
        [0, 2, 4, 1, 3]
    """
    if order == "random":
        return torch.randperm(steps, generator=generator).tolist()
    return list(range(steps)) if order == "paper" else [*range(0, steps, 2), *range(1, steps, 2)]


def layer_order(order: Order, hidden: int, generator: torch.Generator | None = None) -> list[int]:
    """The hidden layers in the order of their visits; the readout comes last, as in Algorithm 2.

    Example:
        >>> layer_order("red-black", 3)
        [0, 2, 1]
    """
    return time_order(order, hidden, generator)  # layers, too, read their neighbours only


def waves(order: Sequence[int]) -> list[Tensor]:
    """The steps of an order in waves that give the same result (module docstring).

    Args:
        order: a permutation of 0 ... T - 1.

    Returns:
        Indices of the steps of each wave, increasing. The last step, whose spikes solve another system, is alone.

    Example:
        >>> [wave.tolist() for wave in waves([0, 3, 4, 1, 2, 5])]
        [[0, 3], [1, 4], [2], [5]]
    """
    level: dict[int, int] = {}
    for t in order:
        level[t] = 1 + max(level.get(t - 1, 0), level.get(t + 1, 0))
    last = len(order) - 1
    groups: dict[tuple[int, bool], list[int]] = {}
    for t in range(len(order)):
        groups.setdefault((level[t], t == last), []).append(t)
    return [torch.tensor(groups[key]) for key in sorted(groups)]
