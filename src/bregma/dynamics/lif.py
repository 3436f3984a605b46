r"""The leaky integrate-and-fire recurrence in plain torch: the reference that every faster backend must equal.

With input current ``I[t]``, membrane ``z[t]`` and spikes ``s[t] = H(z[t] - threshold)`` the four resets are

==================== =============================================================== =============================
reset                membrane                                                        same as
==================== =============================================================== =============================
``subtract``         ``z[t] = decay * z[t-1] + I[t] - threshold * s[t-1]``           Eq. (1) of arXiv 2505.05527,
                                                                                     snnTorch ``subtract``
``subtract_decayed`` ``z[t] = decay * (z[t-1] - threshold * s[t-1]) + I[t]``         SpikingJelly ``v_reset=None``
``zero``             ``z[t] = decay * z[t-1] * (1 - s[t-1]) + I[t]``                 snnTorch ``zero`` of ``Leaky``
``none``             ``z[t] = decay * z[t-1] + I[t]``                                snnTorch ``none``
==================== =============================================================== =============================

(``RLeaky`` of snnTorch 1.0 also throws away ``I[t]`` after a spike when its reset is ``zero``.)

The membrane before reset is the whole state: the last spike follows from it, so a sequence cut in two and run with the
state handed over equals the sequence run at once, in values and in gradients. All tensors are time-major, (T, B, n);
all is computed in the dtype of the current.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from bregma.dynamics.checks import check_constant, check_current, check_membrane, check_weight
from bregma.dynamics.surrogate import ATan, Surrogate, spike

Reset = Literal["subtract", "subtract_decayed", "zero", "none"]
RESETS: tuple[Reset, ...] = get_args(Reset)


def lif(
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
    """Run a layer of LIF neurons over time.

    Args:
        current: input current, (T, B, n).
        decay: what is left of the membrane after one step, in [0, 1]; a number or a tensor () or (n,).
        threshold: firing threshold, > 0; a number or a tensor () or (n,).
        state: membrane (B, n) that a former call returned; at rest by default (zero, nothing fired before).
        reset: one of the four resets in the table of this module.
        strict: a neuron exactly at threshold fires only if this is ``False``.
        detach_reset: no gradient through the reset term.
        surrogate: derivative of the step in the backward pass.

    Returns:
        Spikes (T, B, n), zeros and ones, and the last membrane (B, n) to go on from.

    Raises:
        ValueError: wrong shape, no time steps, no samples, unknown reset; a number out of range as decay or threshold
            (the values of a tensor are not looked at, and out of range they give results that depend on the backend);
            after the run (CPU only) a membrane that became NaN or infinite, see `bregma.dynamics.checks`.
        TypeError: the current is not a floating-point tensor, the state is not of its dtype.

    Example:
        >>> spikes, membrane = lif(torch.full((4, 1, 1), 0.6), decay=1.0, threshold=1.0)
        >>> spikes.flatten()
        tensor([0., 1., 0., 1.])
        >>> membrane
        tensor([[1.4000]])
    """
    return _run(current, decay, threshold, state, None, reset, strict, detach_reset, surrogate)


def recurrent_lif(
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
    """Run a layer of LIF neurons that also hear each other: ``I[t] = current[t] + weight @ s[t-1]``.

    Args:
        current: input current from outside the layer, (T, B, n).
        weight: recurrent weights, (n, n), rows are postsynaptic, as in `torch.nn.Linear`.
        decay: see `lif`.
        threshold: see `lif`.
        state: see `lif`.
        reset: see `lif`.
        strict: see `lif`.
        detach_reset: see `lif`; the recurrent path keeps its gradient.
        surrogate: see `lif`.

    Returns:
        Spikes (T, B, n) and the last membrane (B, n).

    Raises:
        ValueError: as `lif`, or a weight that is not (n, n).
        TypeError: as `lif`.

    Example:
        >>> kick = torch.zeros(3, 1, 2)
        >>> kick[0, 0, 0] = 2.0
        >>> spikes, _ = recurrent_lif(kick, torch.tensor([[0.0, 0.0], [1.5, 0.0]]), 0.5, 1.0, reset="zero")
        >>> spikes[:, 0]  # neuron 0 fires at once and makes neuron 1 fire a step later
        tensor([[1., 0.],
                [0., 1.],
                [0., 0.]])
    """
    check_current(current, state)
    check_weight(weight, current.shape[-1])
    return _run(current, decay, threshold, state, weight, reset, strict, detach_reset, surrogate)


def integrate(current: Tensor, decay: Tensor | float, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Leaky integration without spikes, the readout: ``z[t] = decay * z[t-1] + I[t]``.

    Args:
        current: input current, (T, B, n).
        decay: what is left of the membrane after one step, in [0, 1]; a number or a tensor () or (n,).
        state: membrane (B, n) that a former call returned; zeros by default.

    Returns:
        Membrane at each step (T, B, n) and the last one (B, n).

    Raises:
        ValueError: wrong shape, no time steps, no samples, a number out of range as decay, a membrane that became NaN.
        TypeError: the current is not a floating-point tensor, the state is not of its dtype.

    Example:
        >>> integrate(torch.ones(3, 1, 1), decay=0.5)[0].flatten()
        tensor([1.0000, 1.5000, 1.7500])
    """
    check_current(current, state)
    decay = like_current("decay", decay, current)
    membrane = torch.zeros_like(current[0]) if state is None else state
    trace = []
    for current_now in current.unbind(0):
        membrane = decay * membrane + current_now
        trace.append(membrane)
    check_membrane(membrane)
    return torch.stack(trace), membrane


def _run(
    current: Tensor,
    decay: Tensor | float,
    threshold: Tensor | float,
    state: Tensor | None,
    weight: Tensor | None,
    reset: Reset,
    strict: bool,
    detach_reset: bool,
    surrogate: Surrogate,
) -> tuple[Tensor, Tensor]:
    check_current(current, state)
    step = membrane_step(reset)
    decay = like_current("decay", decay, current)
    threshold = like_current("threshold", threshold, current)
    if weight is not None:
        weight = weight.to(current.dtype)
    if state is None:  # at rest: nothing fired before, not even in the eyes of the surrogate
        membrane = spikes = torch.zeros_like(current[0])
    else:
        membrane, spikes = state, spike(state - threshold, surrogate, strict=strict)
    train = []
    # unbind, not current[t]: the backward of each select would add a full (T, B, n) tensor, O(T^2) in all.
    for current_now in current.unbind(0):
        if weight is not None:
            current_now = current_now + torch.nn.functional.linear(spikes, weight)
        fired = spikes.detach() if detach_reset else spikes
        membrane = step(membrane, current_now, fired, decay, threshold)
        spikes = spike(membrane - threshold, surrogate, strict=strict)
        train.append(spikes)
    check_membrane(membrane)
    return torch.stack(train), membrane


Step = Callable[[Tensor, Tensor, Tensor, Tensor | float, Tensor | float], Tensor]

_STEPS: dict[Reset, Step] = {
    "subtract": lambda z, i, s, decay, threshold: decay * z + i - threshold * s,
    "subtract_decayed": lambda z, i, s, decay, threshold: decay * (z - threshold * s) + i,
    "zero": lambda z, i, s, decay, threshold: decay * (z * (1 - s)) + i,
    "none": lambda z, i, s, decay, threshold: decay * z + i,
}


def membrane_step(reset: Reset) -> Step:
    """One time step of the membrane for a reset: (membrane, current, fired, decay, threshold) -> membrane."""
    if reset not in _STEPS:
        raise ValueError(f"reset must be one of {', '.join(RESETS)}, got {reset!r}")
    return _STEPS[reset]


def like_current(name: Literal["decay", "threshold"], value: Tensor | float, current: Tensor) -> Tensor | float:
    """A checked neuron constant; a tensor in the dtype of the current, which is the dtype all is computed in."""
    check_constant(name, value, current.shape[-1])
    return value.to(current.dtype) if isinstance(value, Tensor) else float(value)
