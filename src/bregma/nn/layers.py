"""Spiking layers: `torch.nn.Module`s over the recurrences of `bregma.dynamics`, time-major (T, B, n).

Decays and thresholds are constants, saved with the weights; the functions of `bregma.dynamics` also differentiate them.
Layers hold no hidden state. What a call needs of the past goes in as ``state`` and comes back beside the output:

>>> lif = LIF(decay=0.9)
>>> spikes, state = lif(torch.rand(5, 2, 3))
>>> spikes, state = lif(torch.rand(5, 2, 3), state)  # goes on where the first call ended
"""

from typing import Literal

import torch
from torch import Tensor, nn

from bregma import dynamics
from bregma.dynamics import RESETS, ATan, Reset, Surrogate
from bregma.dynamics.checks import check_range


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
        if isinstance(surrogate, type):
            raise TypeError(
                f"surrogate must be an instance, not the class {surrogate.__name__}: write {surrogate.__name__}()"
            )
        if not isinstance(surrogate, Surrogate):
            raise TypeError(f"surrogate must have a method derivative(x), got {type(surrogate).__name__}")
        self.register_buffer("decay", _constant("decay", decay))
        self.register_buffer("threshold", _constant("threshold", threshold))
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
        if size < 1:
            raise ValueError(f"size must be >= 1, got {size}")
        super().__init__(decay, threshold, reset=reset, strict=strict, detach_reset=detach_reset, surrogate=surrogate)
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
        self.register_buffer("decay", _constant("decay", decay))

    def forward(self, current: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Membrane at each step and the membrane to go on from."""
        return dynamics.integrate(current, self.decay, state)

    def extra_repr(self) -> str:
        """What `print` shows of the layer."""
        return f"decay={_show(self.decay)}"


def _constant(name: Literal["decay", "threshold"], value: float | Tensor) -> Tensor:
    """A neuron constant as a tensor, () or (n,), checked to lie in its range."""
    check_range(name, value)
    if isinstance(value, Tensor) and value.requires_grad:
        raise TypeError(
            f"{name} must be a constant, got a tensor that requires a gradient: layers do not learn it; to learn it, "
            f"hand it to a function of bregma.dynamics in a module of your own, or else {name}.detach() to the layer"
        )
    tensor = value if isinstance(value, Tensor) else torch.tensor(float(value), dtype=torch.get_default_dtype())
    if tensor.dim() > 1 or tensor.numel() == 0 or not tensor.is_floating_point():
        came = f"{tensor.dtype} of shape {tuple(tensor.shape)}"
        raise ValueError(f"{name} must be a number or a floating-point tensor () or (n,), got {came}")
    return tensor.detach().clone()


def _show(constant: Tensor) -> str:
    return f"{constant.item():g}" if constant.dim() == 0 and not constant.is_meta else f"{tuple(constant.shape)}"
