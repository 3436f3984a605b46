"""Networks made of the layers of this package."""

import math
from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor, nn

from bregma.dynamics import ATan, Reset, Surrogate
from bregma.nn.delrec import DelRec as DelRec
from bregma.nn.delrec import delrec as delrec
from bregma.nn.layers import LIF, Readout, RecurrentLIF
from bregma.nn.linear import SpikeLinear

ReadoutScore = Literal["mean", "last"]


class SpikingLayer(nn.Module):
    """A dense layer and the spiking neurons it drives: ``linear`` (with its bias, if any) followed by ``neurons``."""

    def __init__(self, linear: nn.Linear, neurons: LIF) -> None:
        super().__init__()
        self.linear = linear
        self.neurons = neurons

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(T, B, inputs) -> spikes (T, B, n) and the state to go on from."""
        output: tuple[Tensor, Tensor] = self.neurons(self.linear(x), state)
        return output


class ReadoutLayer(nn.Module):
    """A dense layer and the leaky integrators it drives: ``linear`` (with its bias, if any), then ``integrators``."""

    def __init__(self, linear: nn.Linear, integrators: Readout) -> None:
        super().__init__()
        self.linear = linear
        self.integrators = integrators

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(T, B, inputs) -> class scores over time (T, B, classes) and the state to go on from."""
        output: tuple[Tensor, Tensor] = self.integrators(self.linear(x), state)
        return output


class SpikingMLP(nn.Module):
    """Fully connected spiking network with a leaky readout, whose mean over time or last value scores a sample.

    Args:
        inputs: values per frame; frames of any shape are flattened.
        hidden: neurons of each hidden layer.
        classes: number of classes.
        recurrent: hidden neurons also hear their own layer.
        decay: membrane decay of the hidden neurons.
        readout_decay: decay of the readout.
        threshold: firing threshold.
        gain: scale of the input weights at the start, in units of ``1 / sqrt(inputs)`` (uniform in +- gain times that).
            Event frames are mostly zeros, so it takes a gain above one for neurons to fire.
        reset: see `LIF`.
        detach_reset: see `LIF`.
        surrogate: see `LIF`.
        bias: linear layers add a bias.
        readout: a sample's score is the ``"mean"`` of its readout over time, or the ``"last"`` one.

    Shape:
        (T, B, ...) -> logits (B, classes).

    Raises:
        ValueError: sizes below one, an unknown readout, or an input that does not flatten to ``inputs`` values.
        TypeError: an input of integers, or ``hidden`` a number.

    Example:
        >>> import torch
        >>> net = SpikingMLP(12, hidden=(8,), classes=3)
        >>> net(torch.rand(5, 2, 3, 2, 2)).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int],
        classes: int,
        *,
        recurrent: bool = False,
        decay: float = 0.9,
        readout_decay: float = 0.9,
        threshold: float = 1.0,
        gain: float = 1.0,
        reset: Reset = "subtract",
        detach_reset: bool = False,
        surrogate: Surrogate = ATan(),  # noqa: B008  (frozen, no state)
        bias: bool = True,
        readout: ReadoutScore = "mean",
    ) -> None:
        super().__init__()
        if isinstance(hidden, int):
            raise TypeError(f"hidden must be a sequence of sizes, such as ({hidden},), got {hidden}")
        sizes = (inputs, *hidden)
        if min((*sizes, classes)) < 1 or not hidden:
            raise ValueError(
                "inputs, hidden and classes must be >= 1 and hidden not empty, "
                f"got {inputs}, {tuple(hidden)}, {classes}"
            )
        if not gain > 0:
            raise ValueError(f"gain must be > 0, got {gain}")
        if readout not in get_args(ReadoutScore):
            raise ValueError(f"readout must be one of {', '.join(get_args(ReadoutScore))}, got {readout!r}")

        def neurons(size: int) -> LIF:
            if recurrent:
                return RecurrentLIF(size, decay, threshold, reset=reset, detach_reset=detach_reset, surrogate=surrogate)
            return LIF(decay, threshold, reset=reset, detach_reset=detach_reset, surrogate=surrogate)

        def dense(fan_in: int, fan_out: int) -> nn.Linear:
            linear = SpikeLinear(fan_in, fan_out, bias=bias)
            nn.init.uniform_(linear.weight, -gain / fan_in**0.5, gain / fan_in**0.5)
            if bias:
                nn.init.zeros_(linear.bias)
            return linear

        self.inputs = inputs
        self.score: ReadoutScore = readout
        self.hidden = nn.ModuleList(
            SpikingLayer(dense(fan_in, size), neurons(size)) for fan_in, size in zip(sizes, hidden, strict=False)
        )
        self.readout = ReadoutLayer(SpikeLinear(sizes[-1], classes, bias=bias), Readout(readout_decay))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of frames (T, B, ...)."""
        if not x.is_floating_point():
            raise TypeError(f"x must be floating-point frames, got {x.dtype}")
        if x.dim() < 3 or 0 in x.shape or math.prod(x.shape[2:]) != self.inputs:
            raise ValueError(
                f"x must be time-major (T, B, ...) with T, B >= 1 and {self.inputs} values per frame, "
                f"got shape {tuple(x.shape)}"
            )
        x = x.flatten(2)
        for layer in self.hidden:
            x, _ = layer(x)
        scores: Tensor
        scores, _ = self.readout(x)
        return scores.mean(0) if self.score == "mean" else scores[-1]
