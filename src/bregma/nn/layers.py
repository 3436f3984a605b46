"""Spiking layers: `torch.nn.Module`s over the recurrences of `bregma.dynamics`, time-major (T, B, n).

Layers hold no hidden state. What a call needs of the past goes in as ``state`` and comes back beside the output:

>>> lif = LIF(decay=0.9)
>>> spikes, state = lif(torch.rand(5, 2, 3))
>>> spikes, state = lif(torch.rand(5, 2, 3), state)  # goes on where the first call ended
"""

import math

import torch
from torch import Tensor, nn

from .. import dynamics
from ..dynamics import RESETS, ATan, Reset, Surrogate


class LIF(nn.Module):
    """A layer of leaky integrate-and-fire neurons; see `bregma.dynamics.lif` for the equations.

    Args:
        decay: what is left of the membrane after one step, in [0, 1]; a number, or one per neuron (n,).
        threshold: firing threshold, > 0; a number, or one per neuron (n,).
        reset: ``"subtract"``, ``"subtract_decayed"``, ``"zero"`` or ``"none"``.
        strict: a neuron exactly at threshold does not fire.
        detach_reset: no gradient through the reset (as snnTorch does).
        surrogate: derivative of the step in the backward pass.

    Shape:
        current (T, B, n), state (B, n) or None -> spikes (T, B, n), state (B, n).

    Example:
        >>> spikes, state = LIF(decay=0.5)(torch.full((3, 1, 1), 0.8))
        >>> spikes.flatten()
        tensor([0., 1., 0.])
    """

    decay: Tensor
    threshold: Tensor

    def __init__(
        self,
        decay: float | Tensor = 0.9,
        threshold: float | Tensor = 1.0,
        *,
        reset: Reset = "subtract",
        strict: bool = True,
        detach_reset: bool = False,
        surrogate: Surrogate = ATan(),  # noqa: B008  (frozen, no state)
    ) -> None:
        super().__init__()
        if reset not in RESETS:
            raise ValueError(f"reset must be one of {', '.join(RESETS)}, got {reset!r}")
        if not isinstance(surrogate, Surrogate):
            raise TypeError(f"surrogate must have a method derivative(x), got {type(surrogate).__name__}")
        self.register_buffer("decay", _constant("decay", decay, low=0.0, high=1.0))
        self.register_buffer("threshold", _constant("threshold", threshold, low=0.0, high=math.inf, open_low=True))
        self.reset: Reset = reset
        self.strict = strict
        self.detach_reset = detach_reset
        self.surrogate = surrogate

    def forward(self, current: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Spikes of the layer and the membrane to go on from."""
        return dynamics.lif(
            current,
            self.decay,
            self.threshold,
            state,
            reset=self.reset,
            strict=self.strict,
            detach_reset=self.detach_reset,
            surrogate=self.surrogate,
        )

    def extra_repr(self) -> str:
        """What `print` shows of the layer."""
        strict = "" if self.strict else ", strict=False"
        detach = ", detach_reset=True" if self.detach_reset else ""
        return (
            f"decay={_show(self.decay)}, threshold={_show(self.threshold)}, reset={self.reset!r}"
            f"{strict}{detach}, surrogate={self.surrogate}"
        )


class RecurrentLIF(LIF):
    """LIF neurons that also receive ``recurrent.weight @ s[t-1]``.

    Args:
        size: number of neurons n.
        decay: see `LIF`.
        threshold: see `LIF`.
        reset: see `LIF`.
        strict: see `LIF`.
        detach_reset: see `LIF`.
        surrogate: see `LIF`.

    Attributes:
        recurrent: `torch.nn.Linear` (n, n) without bias, orthogonal at the start; tools that walk modules see it.

    Shape:
        current (T, B, n), state (B, n) or None -> spikes (T, B, n), state (B, n).

    Example:
        >>> spikes, state = RecurrentLIF(4, decay=0.9)(torch.rand(5, 2, 4))
        >>> spikes.shape
        torch.Size([5, 2, 4])
    """

    def __init__(
        self,
        size: int,
        decay: float | Tensor = 0.9,
        threshold: float | Tensor = 1.0,
        *,
        reset: Reset = "subtract",
        strict: bool = True,
        detach_reset: bool = False,
        surrogate: Surrogate = ATan(),  # noqa: B008
    ) -> None:
        super().__init__(decay, threshold, reset=reset, strict=strict, detach_reset=detach_reset, surrogate=surrogate)
        if size < 1:
            raise ValueError(f"size must be >= 1, got {size}")
        self.recurrent = nn.Linear(size, size, bias=False)
        nn.init.orthogonal_(self.recurrent.weight)

    def forward(self, current: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Spikes of the layer and the membrane to go on from."""
        return dynamics.recurrent_lif(
            current,
            self.recurrent.weight,
            self.decay,
            self.threshold,
            state,
            reset=self.reset,
            strict=self.strict,
            detach_reset=self.detach_reset,
            surrogate=self.surrogate,
        )


class Readout(nn.Module):
    """Leaky integrators that do not spike; their membranes are the class scores over time.

    Args:
        decay: what is left of the membrane after one step, in [0, 1]; a number, or one per neuron (n,).

    Shape:
        current (T, B, n), state (B, n) or None -> membrane (T, B, n), state (B, n).

    Example:
        >>> Readout(decay=1.0)(torch.ones(3, 1, 1))[0].flatten()
        tensor([1., 2., 3.])
    """

    decay: Tensor

    def __init__(self, decay: float | Tensor = 0.9) -> None:
        super().__init__()
        self.register_buffer("decay", _constant("decay", decay, low=0.0, high=1.0))

    def forward(self, current: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Membrane at each step and the membrane to go on from."""
        return dynamics.integrate(current, self.decay, state)

    def extra_repr(self) -> str:
        """What `print` shows of the layer."""
        return f"decay={_show(self.decay)}"


def _constant(name: str, value: float | Tensor, *, low: float, high: float, open_low: bool = False) -> Tensor:
    """A neuron constant as a tensor, () or (n,), checked to lie in its interval."""
    tensor = torch.as_tensor(value, dtype=None if isinstance(value, Tensor) else torch.get_default_dtype())
    if tensor.dim() > 1 or not tensor.is_floating_point():
        raise ValueError(f"{name} must be a number or a floating tensor (n,), got {tensor.dtype} {tuple(tensor.shape)}")
    inside = (tensor > low if open_low else tensor >= low) & (tensor <= high) & tensor.isfinite()
    if not bool(inside.all()):
        allowed = f"> {low:g}" if open_low else f"in [{low:g}, {high:g}]"
        raise ValueError(f"{name} must be {allowed}, got {_show(tensor)}")
    return tensor.detach().clone()


def _show(constant: Tensor) -> str:
    return f"{constant.item():g}" if constant.dim() == 0 else f"({constant.numel()} values)"
