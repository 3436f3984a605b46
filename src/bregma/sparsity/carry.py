"""Let an optimizer go on with smaller parameters: their places in its groups, and their state."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import Tensor
from torch.optim import Optimizer

#: Parameter -> the one that takes its place, and which of its flat entries that one holds (None: all of them).
Moves = dict[Tensor, tuple[Tensor, Tensor | None]]


@runtime_checkable
class Rider(Protocol):
    """What hooks into an optimizer and keeps tensors of its own for the weights: a `bregma.TargetDensity`."""

    def carry_over(self, moves: Moves) -> None:
        """Go on with smaller weights."""


def check_optimizer(optimizer: Optimizer, moves: Moves) -> None:
    """Raise if `carry_over` would fail.

    Raises:
        TypeError: no optimizer.
        ValueError: one that holds none of the parameters, or keeps state in a shape that is not the parameter's.
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}")
    ours = [p for group in optimizer.param_groups for p in group["params"] if p in moves]
    if not ours:
        raise ValueError("optimizer must hold parameters of net, got none of them")
    for p in ours:
        for name, value in optimizer.state.get(p, {}).items():
            if isinstance(value, Tensor) and value.numel() != 1 and value.shape != p.shape:
                shapes = f"{tuple(value.shape)} for a parameter of shape {tuple(p.shape)}"
                raise ValueError(f"optimizer must keep state in the shape of its parameters, got {name!r} of {shapes}")


def carry_over(optimizer: Optimizer, moves: Moves) -> None:
    """Put smaller parameters in the place of the present ones, in place, and cut their state alike."""
    for hook in tuple(optimizer._optimizer_step_pre_hooks.values()):  # first: they may refuse
        rider = getattr(hook, "__self__", None)
        if isinstance(rider, Rider):
            rider.carry_over(moves)
    for group in optimizer.param_groups:
        group["params"] = [moves[p][0] if p in moves else p for p in group["params"]]
    for old, (new, kept) in moves.items():
        if old in optimizer.state:
            state: dict[str, Any] = optimizer.state.pop(old)
            if kept is not None:
                state = {name: _cut(value, old, kept) for name, value in state.items()}
            optimizer.state[new] = state


def _cut(value: Any, like: Tensor, kept: Tensor) -> Any:
    if isinstance(value, Tensor) and value.shape == like.shape:
        return value.flatten()[kept]
    return value
