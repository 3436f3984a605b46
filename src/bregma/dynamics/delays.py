r"""Axonal delays: a recurrent LIF layer in which the spikes of each neuron take their own, learned, time to arrive.

Neuron j has a delay ``d_j >= 0``, in time steps beyond the one that every recurrent connection takes. While it is
trained a spike arrives smeared over neighbouring steps, so that the gradient can tell whether sooner or later is
better: what j fires at t is heard at t + l with weight (Queant et al. 2025, arXiv 2509.24852, "DelRec")

    ``K_j(l) = max(0, h_j - |l - (1 + d_j)|) / h_j^2``,   ``l = 1, 2, ...``,   ``h_j = 1 + spread_j``,

a triangle of half-width ``h_j`` around the delay. The spread shrinks in training, `spread_at`. At spread zero the
triangle is linear interpolation between two steps, and a whole delay is exactly a delay line: round for inference.

All synapses of an axon share its delay, so the arrivals of presynaptic spikes are added up before the weights:
``I[t] = current[t] + weight @ sum_l K(l) s[t-l]`` takes one product with the weights per step, where adding up
``weight @ K(l) s[t]`` slot by slot takes one per slot. Both give the same sums.
"""

import math

import torch
from torch import Tensor

from bregma.dynamics import memory
from bregma.dynamics.checks import check_current, check_membrane, check_number, check_state, check_weight
from bregma.dynamics.lif import Reset, like_current, membrane_step
from bregma.dynamics.surrogate import ATan, Surrogate, spike


def spread_at(progress: float, start: float = 10.0, end: float = 10.0 * 0.95**100) -> float:
    """Spread at a stage of training, ``start * (end / start)^progress``.

    The defaults are DelRec's: 5 % less each hundredth of the training, from 10 to 0.059 steps.

    Args:
        progress: share of the training that is done, in [0, 1], e.g. ``epoch / epochs``.
        start: spread at progress 0, in steps, > 0.
        end: spread at progress 1, in steps, > 0.

    Returns:
        The spread in time steps.

    Raises:
        ValueError: a number out of its range.

    Example:
        >>> [round(spread_at(progress), 2) for progress in (0.0, 0.5, 1.0)]
        [10.0, 0.77, 0.06]
    """
    check_number("progress", progress, "in [0, 1]", 0 <= progress <= 1)
    check_number("start", start, "a finite number > 0", 0 < start < math.inf)
    check_number("end", end, "a finite number > 0", 0 < end < math.inf)
    return start * math.pow(end / start, progress)


def delay_kernel(delays: Tensor, spread: Tensor | float, slots: int) -> Tensor:
    """Weights with which a spike is heard 1, 2, ... ``slots`` steps later, ``K_j(l)`` in this module's equation.

    Differentiable in delays and spread. At the kinks of the triangle the derivative is taken as zero; at spread zero
    these are all whole delays.

    Args:
        delays: delay of each neuron, (n,), in steps.
        spread: half-width of the triangle beyond one step, >= 0; a number or a tensor () or (n,).
        slots: how many steps ahead.

    Returns:
        Weights (slots, n).

    Example:
        >>> delay_kernel(torch.tensor([0.0, 1.25]), 0.0, slots=3)
        tensor([[1.0000, 0.0000],
                [0.0000, 0.7500],
                [0.0000, 0.2500]])
    """
    half = 1 + spread
    later = torch.arange(1, slots + 1, dtype=delays.dtype, device=delays.device)[:, None]
    return torch.relu(half - (later - (1 + delays)).abs()) / half**2


def slots_needed(delays: Tensor, spread: Tensor | float) -> int:
    """Steps ahead in which a spike may still arrive: the l with ``l < 1 + d_j + h_j`` for any j.

    Raises:
        ValueError: delays or spread not finite, or where values cannot be read (``meta`` device, ``torch.compile``).
        MemoryError: the kernel of so many steps would not fit into memory.

    Example:
        >>> slots_needed(torch.tensor([0.0, 1.25]), spread=0.0)
        3
    """
    if torch.compiler.is_compiling() or delays.is_meta:
        raise ValueError("slots must be given under torch.compile and on the meta device, where delays cannot be read")
    reach = (delays.detach() + spread).max().item() + 1
    if not math.isfinite(reach):
        raise ValueError(f"delays and spread must be finite, got a largest sum of {reach - 1}")
    slots = max(1, math.ceil(reach))
    _require_room(slots, delays.numel(), delays)
    return slots


def _require_room(slots: int, values: int, like: Tensor) -> None:
    """Raise a `MemoryError` if so many values for each of the steps ahead are more than the processor has room for."""
    if like.device.type == "cpu":
        memory.require(
            slots * values * like.element_size(),
            f"delays and a spread that reach {slots} steps ahead: what is under way",
            "clamp them, as DelayedRecurrentLIF.clamp_delays_ does",
        )


def delayed_recurrent_lif(
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
    surrogate: Surrogate = ATan(),  # noqa: B008  (frozen, no state)
    slots: int | None = None,
    gate: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run a layer of LIF neurons whose spikes reach each other after a delay of the neuron that fired.

    Args:
        current: input current from outside the layer, (T, B, n).
        weight: recurrent weights, (n, n), rows are postsynaptic, as in `torch.nn.Linear`.
        delays: delay of each presynaptic neuron, (n,), in steps; 0 is the one step of `recurrent_lif`. What a
            negative delay would bring before the next step is lost.
        spread: half-width of the interpolation beyond one step, >= 0; a number or a tensor () or (n,).
        decay: see `lif`.
        threshold: see `lif`.
        state: (1 + k, B, n) that a former call returned: the membrane, and what will arrive through each axon in the
            next k steps. It arrives as scheduled even if the delays have changed since. At rest by default.
        reset: see `lif`.
        strict: see `lif`.
        detach_reset: see `lif`; the recurrent path keeps its gradient.
        surrogate: see `lif`.
        slots: steps ahead for which arrivals are kept (more if the state holds more); what would arrive later is
            lost. By default as many as the delays need, which looks at their values.
        gate: what comes from the layer itself is multiplied by, for each sample and postsynaptic neuron, (B, n), at all
            steps alike: dropout. It is taken as a constant.

    Returns:
        Spikes (T, B, n) and the state (1 + max(k, slots), B, n) to go on from.

    Raises:
        ValueError: as `recurrent_lif`, or delays, a spread or a gate of another shape, a negative number as spread,
            slots < 1.
        TypeError: as `recurrent_lif`, or delays that are no floating-point tensor.

    Example:
        >>> kick = torch.zeros(5, 1, 2)
        >>> kick[0, 0, 0] = 2.0
        >>> weight = torch.tensor([[0.0, 0.0], [1.5, 0.0]])
        >>> delays = torch.tensor([2.0, 0.0])  # neuron 1 hears neuron 0 after 1 + 2 steps
        >>> spikes, _ = delayed_recurrent_lif(kick, weight, delays, 0.0, 0.5, 1.0, reset="zero")
        >>> spikes[:, 0].T
        tensor([[1., 0., 0., 0., 0.],
                [0., 0., 0., 1., 0.]])
    """
    slots = check_delayed(current, weight, delays, spread, state, slots, gate)
    rows = 1 if state is None else state.shape[0]
    step = membrane_step(reset)
    decay = like_current("decay", decay, current)
    threshold = like_current("threshold", threshold, current)
    weight = weight.to(current.dtype)
    kernel = delay_kernel(delays, spread, slots).to(current.dtype)[:, None]  # (slots, 1, n)
    silence = torch.zeros_like(current[:1])
    if state is None:
        membrane = spikes = silence[0]
        pending = silence.expand(slots, -1, -1)
    else:
        membrane, pending = state[0], torch.cat([state[1:], silence.expand(slots + 1 - rows, -1, -1)])
        spikes = spike(membrane - threshold, surrogate, strict=strict)
    train = []
    for current_now in current.unbind(0):
        arriving, later = torch.split_with_sizes(pending, [1, slots - 1])
        heard = torch.nn.functional.linear(arriving[0], weight)
        current_now = current_now + (heard if gate is None else gate.detach() * heard)
        fired = spikes.detach() if detach_reset else spikes
        membrane = step(membrane, current_now, fired, decay, threshold)
        spikes = spike(membrane - threshold, surrogate, strict=strict)
        pending = torch.addcmul(torch.cat([later, silence]), kernel, spikes)
        train.append(spikes)
    check_membrane(membrane)
    return torch.stack(train), torch.cat([membrane[None], pending])


def check_delayed(
    current: Tensor,
    weight: Tensor,
    delays: Tensor,
    spread: Tensor | float,
    state: Tensor | None,
    slots: int | None,
    gate: Tensor | None,
) -> int:
    """Raise if what goes into `delayed_recurrent_lif` does not fit together; the number of slots it works with."""
    check_current(current, None)
    batch, n = current.shape[1:]
    check_weight(weight, n)
    check_delays(delays, spread, n)
    if gate is not None:
        check_state("gate", gate, (batch, n), "(B, n)", current)
    if slots is None:
        slots = slots_needed(delays, spread)
        _require_room(slots, batch * n, current)
    check_number("slots", slots, "None or >= 1", slots >= 1)
    if state is None:
        return slots
    rows = state.shape[0] if isinstance(state, Tensor) and state.dim() else 1
    check_state("state", state, (max(rows, 1), batch, n), "(1 + k, B, n)", current)
    return max(slots, rows - 1)


def check_delays(delays: Tensor, spread: Tensor | float, n: int) -> None:
    """Raise if delays are no floating-point tensor (n,), or the spread is no number >= 0 and no tensor () or (n,)."""
    if not isinstance(delays, Tensor) or not delays.is_floating_point():
        came = str(delays.dtype) if isinstance(delays, Tensor) else type(delays).__name__
        raise TypeError(f"delays must be a floating-point tensor, got {came}")
    if delays.shape != (n,):
        raise ValueError(f"delays must be ({n},) for {n} neurons, got shape {tuple(delays.shape)}")
    if not isinstance(spread, Tensor):
        check_number("spread", spread, "a finite number >= 0", 0 <= spread < math.inf)
    elif spread.shape not in ((), (n,)):
        raise ValueError(f"spread must be a number or ({n},) for {n} neurons, got shape {tuple(spread.shape)}")
