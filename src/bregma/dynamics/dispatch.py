"""The public recurrences: each call goes to the compiled kernels where they apply, to the torch reference elsewhere."""

import warnings
from functools import wraps

import torch
from torch import Tensor

from bregma.dynamics.backend import get_backend, transforming
from bregma.dynamics.checks import check_current, check_membrane, check_weight
from bregma.dynamics.delays import check_delayed, delay_kernel
from bregma.dynamics.delays import delayed_recurrent_lif as reference_delayed_recurrent_lif
from bregma.dynamics.events import remember
from bregma.dynamics.fused import fused_lif
from bregma.dynamics.fused_delays import fused_delayed_lif
from bregma.dynamics.kernels import RESET_CODES, surrogate_code
from bregma.dynamics.kernels_lif import surrogate_constants
from bregma.dynamics.lif import Reset, like_current, membrane_step
from bregma.dynamics.lif import integrate as reference_integrate
from bregma.dynamics.lif import lif as reference_lif
from bregma.dynamics.lif import recurrent_lif as reference_recurrent_lif
from bregma.dynamics.readout import fused_integrate
from bregma.dynamics.surrogate import ATan, Surrogate

_told: set[type] = set()


@wraps(reference_lif)
def lif(  # noqa: D103  (`wraps` brings the docstring)
    current: Tensor,
    decay: Tensor | float,
    threshold: Tensor | float,
    state: Tensor | None = None,
    *,
    reset: Reset = "subtract",
    strict: bool = True,
    detach_reset: bool = False,
    surrogate: Surrogate = ATan(),  # noqa: B008  (frozen, no state)
) -> tuple[Tensor, Tensor]:
    check_current(current, state)
    if use_kernels(current, decay, threshold, surrogate=surrogate):
        return _fused(current, None, decay, threshold, state, reset, strict, detach_reset, surrogate)
    return reference_lif(
        current,
        decay,
        threshold,
        state,
        reset=reset,
        strict=strict,
        detach_reset=detach_reset,
        surrogate=surrogate,
    )


@wraps(reference_recurrent_lif)
def recurrent_lif(  # noqa: D103
    current: Tensor,
    weight: Tensor,
    decay: Tensor | float,
    threshold: Tensor | float,
    state: Tensor | None = None,
    *,
    reset: Reset = "subtract",
    strict: bool = True,
    detach_reset: bool = False,
    surrogate: Surrogate = ATan(),  # noqa: B008
) -> tuple[Tensor, Tensor]:
    check_current(current, state)
    check_weight(weight, current.shape[-1])
    if use_kernels(current, decay, threshold, surrogate=surrogate):
        weight = weight.to(current.dtype)
        return _fused(current, weight, decay, threshold, state, reset, strict, detach_reset, surrogate)
    return reference_recurrent_lif(
        current,
        weight,
        decay,
        threshold,
        state,
        reset=reset,
        strict=strict,
        detach_reset=detach_reset,
        surrogate=surrogate,
    )


@wraps(reference_delayed_recurrent_lif)
def delayed_recurrent_lif(  # noqa: D103
    current: Tensor,
    weight: Tensor,
    delays: Tensor,
    spread: Tensor | float,
    decay: Tensor | float,
    threshold: Tensor | float,
    state: Tensor | None = None,
    *,
    reset: Reset = "subtract",
    strict: bool = True,
    detach_reset: bool = False,
    surrogate: Surrogate = ATan(),  # noqa: B008
    slots: int | None = None,
    gate: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    slots = check_delayed(current, weight, delays, spread, state, slots, gate)
    if not use_kernels(current, decay, threshold, surrogate=surrogate):
        return reference_delayed_recurrent_lif(
            current,
            weight,
            delays,
            spread,
            decay,
            threshold,
            state,
            reset=reset,
            strict=strict,
            detach_reset=detach_reset,
            surrogate=surrogate,
            slots=slots,
            gate=gate,
        )
    if state is not None and state.shape[0] <= slots:
        state = torch.cat([state, state.new_zeros(slots + 1 - state.shape[0], *state.shape[1:])])
    spikes, state, bits = fused_delayed_lif(
        current,
        weight.to(current.dtype),
        delay_kernel(delays, spread, slots).to(current.dtype),
        _per_neuron("decay", decay, current),
        _per_neuron("threshold", threshold, current),
        state,
        gate,
        *_options(reset, strict, detach_reset, surrogate),
    )
    check_membrane(state[0])
    remember(spikes, bits)
    return spikes, state


@wraps(reference_integrate)
def integrate(  # noqa: D103
    current: Tensor, decay: Tensor | float, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    check_current(current, state)
    if not use_kernels(current, decay):
        return reference_integrate(current, decay, state)
    trace, membrane = fused_integrate(current, _per_neuron("decay", decay, current), state)
    check_membrane(membrane)
    return trace, membrane


def use_kernels(current: Tensor, *constants: Tensor | float, surrogate: Surrogate | None = None) -> bool:
    """Whether the compiled kernels take this call.

    Raises:
        ValueError: they do not, but the backend chosen is ``"numba"``.
    """
    backend = get_backend()
    if backend == "torch":
        return False
    obstacle = None
    if current.device.type != "cpu" or current.dtype not in (torch.float32, torch.float64):
        obstacle = f"{current.dtype} on {current.device.type}"
    elif any(isinstance(constant, Tensor) and constant.requires_grad for constant in constants):
        obstacle = "gradients of decay or threshold"
    elif transforming():
        obstacle = "forward-mode differentiation or torch.func"
    elif surrogate is not None and surrogate_code(surrogate) is None:
        obstacle = f"surrogate {type(surrogate).__name__}"
    if obstacle and backend == "numba":
        raise ValueError(f"backend 'numba' does not do {obstacle}; use 'auto' or 'torch'")
    if obstacle and obstacle.startswith("surrogate") and type(surrogate) not in _told:
        _told.add(type(surrogate))
        warnings.warn(f"{obstacle} has no compiled kernel; the slower torch reference runs it", stacklevel=3)
    return obstacle is None


def _fused(
    current: Tensor,
    weight: Tensor | None,
    decay: Tensor | float,
    threshold: Tensor | float,
    state: Tensor | None,
    reset: Reset,
    strict: bool,
    detach_reset: bool,
    surrogate: Surrogate,
) -> tuple[Tensor, Tensor]:
    spikes, membrane, bits = fused_lif(
        current,
        weight,
        _per_neuron("decay", decay, current),
        _per_neuron("threshold", threshold, current),
        state,
        *_options(reset, strict, detach_reset, surrogate),
    )
    check_membrane(membrane)
    remember(spikes, bits)
    return spikes, membrane


def _options(reset: Reset, strict: bool, detach_reset: bool, surrogate: Surrogate) -> tuple[list[int], list[float]]:
    """The options as numbers, as the operators take them."""
    membrane_step(reset)  # refuses an unknown reset
    kind, parameter = surrogate_code(surrogate) or (0, 0.0)
    flags = [RESET_CODES[reset], int(strict), int(detach_reset), kind]
    return flags, list(surrogate_constants(kind, parameter))


def _per_neuron(name: str, value: Tensor | float, current: Tensor) -> Tensor:
    checked = like_current(name, value, current)  # type: ignore[arg-type]
    return torch.as_tensor(checked, dtype=current.dtype).expand(current.shape[-1]).contiguous()
