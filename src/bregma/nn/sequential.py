"""Any layers one after another over whole sequences: the form in which networks of other libraries come and go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

from torch import Tensor, nn

from bregma.nn.layers import LIF, Readout
from bregma.nn.models import ReadoutLayer, SpikingLayer
from bregma.nn.recompute import Recompute

Score = Literal["mean", "sum", "last", "softmax"]
SCORES: tuple[Score, ...] = get_args(Score)

_SCORES: dict[Score | None, Callable[[Tensor], Tensor]] = {
    None: lambda x: x,
    "mean": lambda x: x.mean(0),
    "sum": lambda x: x.sum(0),
    "last": lambda x: x[-1],
    "softmax": lambda x: x.softmax(-1).sum(0),
}


class SpikingSequential(nn.Sequential):
    """Modules that run one after another, time-major.

    `LIF` layers (recurrent and delayed ones too) and `Readout` see whole sequences and keep the shape of a frame, so
    they may follow a convolution; their constants are then one number, or one per neuron of the flattened frame. Frames
    are flattened before an ``nn.Linear``, a `SpikingLayer` and a `ReadoutLayer`. A sequence in the sequence stands for
    its modules, a `Recompute` for its layer. Every other module sees the frames of all steps as one batch.

    Args:
        *modules: as of ``nn.Sequential``: modules, or one ordered dict from name to module.
        score: what becomes of the last module's output over time: ``"mean"``, ``"sum"`` or ``"last"`` over the steps,
            ``"softmax"`` for the sum of its softmax, or None to return all steps.

    Shape:
        (T, B, ...) -> (T, B, ...), or (B, ...) with a score.

    Raises:
        ValueError: an unknown score, a score of a sequence within the sequence, or an input that is not time-major.
        TypeError: an input of integers.

    Example:
        >>> import torch
        >>> net = SpikingSequential(nn.Conv2d(2, 4, 3), LIF(), nn.Linear(4 * 6 * 6, 3), Readout(), score="mean")
        >>> net(torch.rand(5, 7, 2, 8, 8)).shape
        torch.Size([7, 3])
    """

    def __init__(self, *modules: Any, score: Score | None = None) -> None:
        if score not in _SCORES:
            raise ValueError(f"score must be None or one of {', '.join(SCORES)}, got {score!r}")
        super().__init__(*modules)
        if any(getattr(module, "score", None) for module in self if isinstance(module, nn.Sequential)):
            raise ValueError("score must be that of the outer SpikingSequential, got one within the sequence")
        self.score: Score | None = score

    def forward(self, x: Tensor) -> Tensor:
        """Output of the last module over time, or its score."""
        if not x.is_floating_point():
            raise TypeError(f"x must be floating-point frames, got {x.dtype}")
        if x.dim() < 3 or 0 in x.shape:
            raise ValueError(f"x must be time-major (T, B, ...) with T, B >= 1, got shape {tuple(x.shape)}")
        for module in self:
            x = over_time(module, x)
        return _SCORES[self.score](x)

    def extra_repr(self) -> str:
        """What `print` shows beside the modules."""
        return f"score={self.score!r}" if self.score else ""


def over_time(module: nn.Module, x: Tensor) -> Tensor:
    """Output of one module of a `SpikingSequential` for (T, B, ...)."""
    if isinstance(module, nn.Sequential):
        for inner in module:
            x = over_time(inner, x)
        return x
    if isinstance(module, LIF | Readout | SpikingLayer | ReadoutLayer | Recompute):
        output: Tensor = module(x.flatten(2))[0]
        layer = module.layer if isinstance(module, Recompute) else module
        return output.view_as(x) if isinstance(layer, LIF | Readout) else output
    if isinstance(module, nn.Linear):
        flat: Tensor = module(x.flatten(2))
        return flat
    frames: Tensor = module(x.flatten(0, 1))
    return frames.view(*x.shape[:2], *frames.shape[1:])
