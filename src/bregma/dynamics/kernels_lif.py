"""Compiled recurrences of one layer, forward and backward, for a range of samples.

The arithmetic of the forward pass is that of `bregma.dynamics.lif`, operation by operation. Only the membrane is kept;
spikes and surrogate derivatives follow from it. Options are tested once per row, so that the loops over neurons are
free of branches.
"""

import math

import numpy as np

from bregma.dynamics.kernels import (
    ATAN,
    BOX,
    FAST_SIGMOID,
    SUBTRACT,
    SUBTRACT_DECAYED,
    TRIANGLE,
    ZERO,
    Array,
    inline,
    kernel,
    loose_kernel,
)
from bregma.dynamics.kernels_dense import ROWS, dense
from bregma.dynamics.kernels_events import add_rows, list_row


@inline
def _fires(x: float, strict: bool) -> bool:
    return (x > 0) | ((x == 0) & (not strict))


@inline
def copy_row(source: Array, target: Array) -> None:
    """``target[:] = source``, which numba turns into slower code."""
    for j in range(source.shape[0]):
        target[j] = source[j]


@inline
def add_row(source: Array, target: Array) -> None:
    """``target += source``."""
    for j in range(source.shape[0]):
        target[j] += source[j]


@inline
def pack_row(spikes: Array, bits: Array) -> None:
    """Zeros and ones as bits."""
    n = spikes.shape[0]
    for w in range(bits.shape[0]):
        word = np.uint64(0)
        for k in range(min(64, n - 64 * w)):
            word |= np.uint64(spikes[64 * w + k] > 0) << np.uint64(k)
        bits[w] = word


@inline
def step_row(z: Array, current: Array, decay: Array, threshold: Array, reset: int, strict: bool, spikes: Array) -> None:
    """One time step of the membranes ``z``, in place, and their spikes; see the table in `bregma.dynamics.lif`."""
    zero, one = z.dtype.type(0), z.dtype.type(1)
    if reset == SUBTRACT:
        for j in range(z.shape[0]):
            fired = one if _fires(z[j] - threshold[j], strict) else zero
            z[j] = decay[j] * z[j] + current[j] - threshold[j] * fired
            spikes[j] = one if _fires(z[j] - threshold[j], strict) else zero
    elif reset == SUBTRACT_DECAYED:
        for j in range(z.shape[0]):
            fired = one if _fires(z[j] - threshold[j], strict) else zero
            z[j] = decay[j] * (z[j] - threshold[j] * fired) + current[j]
            spikes[j] = one if _fires(z[j] - threshold[j], strict) else zero
    elif reset == ZERO:
        for j in range(z.shape[0]):
            fired = one if _fires(z[j] - threshold[j], strict) else zero
            z[j] = decay[j] * (z[j] * (one - fired)) + current[j]
            spikes[j] = one if _fires(z[j] - threshold[j], strict) else zero
    else:
        for j in range(z.shape[0]):
            z[j] = decay[j] * z[j] + current[j]
            spikes[j] = one if _fires(z[j] - threshold[j], strict) else zero


@kernel
def lif_forward(
    current: Array, weight_t: Array, decay: Array, threshold: Array, reset: int, strict: bool,
    spikes: Array, bits: Array, membrane: Array, trace: Array, first: int, last: int,
) -> None:  # fmt: skip
    """Run samples ``first`` to ``last`` over all steps.

    ``membrane`` (B, n) is the state, updated in place. ``bits`` (T + 1, B, words) starts with the spikes of the state
    that came in. ``weight_t`` (n, n), rows presynaptic, is empty for a layer without recurrence, and ``trace`` is
    empty where no gradient is wanted.
    """
    n_steps, _, n = current.shape
    index, drive = np.empty(n, np.int64), np.empty(n, current.dtype)
    for b in range(first, last):
        fired = spikes[0, b]
        for j in range(n):
            fired[j] = _fires(membrane[b, j] - threshold[j], strict)
        pack_row(fired, bits[0, b])
    for t in range(n_steps):
        for b in range(first, last):
            heard = current[t, b]
            if weight_t.shape[0] > 0:
                for j in range(n):
                    drive[j] = 0
                add_rows(weight_t, index, list_row(bits[t, b], index), drive)
                for j in range(n):
                    drive[j] = heard[j] + drive[j]
                heard = drive
            step_row(membrane[b], heard, decay, threshold, reset, strict, spikes[t, b])
            pack_row(spikes[t, b], bits[t + 1, b])
            if trace.shape[0] > 0:
                copy_row(membrane[b], trace[t, b])


@inline
def derivative_row(z: Array, threshold: Array, kind: int, a: float, b: float, out: Array) -> None:
    """Surrogate derivative at ``z - threshold`` with the constants of `surrogate_constants`."""
    zero, one = z.dtype.type(0), z.dtype.type(1)
    if kind == ATAN:
        for j in range(z.shape[0]):
            x = a * (z[j] - threshold[j])
            out[j] = b / (one + x * x)
    elif kind == TRIANGLE:
        for j in range(z.shape[0]):
            out[j] = max(zero, a - abs(z[j] - threshold[j])) * b
    elif kind == FAST_SIGMOID:
        for j in range(z.shape[0]):
            x = one + a * abs(z[j] - threshold[j])
            out[j] = one / (x * x)
    else:
        for j in range(z.shape[0]):
            out[j] = b if abs(z[j] - threshold[j]) < a else zero


@inline
def gradient_row(
    z: Array,
    slope: Array,
    grad: Array,
    reset_path: float,
    decay: Array,
    threshold: Array,
    reset: int,
    strict: bool,
    later: Array,
) -> None:
    """From the gradient of the membrane at t + 1, ``later``, to that at t, in place; ``grad`` is that of the spikes."""
    zero = z.dtype.type(0)
    if reset == SUBTRACT:
        for j in range(z.shape[0]):
            through = grad[j] - reset_path * threshold[j] * later[j]
            later[j] = through * slope[j] + decay[j] * later[j]
    elif reset == SUBTRACT_DECAYED:
        for j in range(z.shape[0]):
            carried = decay[j] * later[j]
            later[j] = (grad[j] - reset_path * threshold[j] * carried) * slope[j] + carried
    elif reset == ZERO:
        for j in range(z.shape[0]):
            carried = decay[j] * later[j]
            later[j] = (grad[j] - reset_path * z[j] * carried) * slope[j] + (
                zero if _fires(z[j] - threshold[j], strict) else carried
            )
    else:
        for j in range(z.shape[0]):
            later[j] = grad[j] * slope[j] + decay[j] * later[j]


@loose_kernel
def lif_backward(
    trace: Array, grad_spikes: Array, weight: Array, grad_state: Array, decay: Array, threshold: Array, reset: int,
    strict: bool, detach: bool, kind: int, a: float, b: float, later: Array, grad_current: Array, first: int, last: int,
) -> None:  # fmt: skip
    """Go back over the steps of ``trace`` (T, B, n), samples ``first`` to ``last``.

    ``later`` (B, n) holds the gradient of the membrane one step after the last of ``trace`` and, in the end, of the
    first: what the next call, on the steps before, starts from. ``weight``, recurrent, rows postsynaptic, is cut
    by `kernels_dense.panels` or empty; ``grad_state`` (B, n), gradient of the last state, may be empty.
    """
    n_steps, _, n = trace.shape
    real = trace.dtype.type
    reset_path = real(0) if detach else real(1)
    a_, b_ = real(a), real(b)
    slope, grad = np.empty(n, trace.dtype), np.empty((last - first, n), trace.dtype)
    block = np.empty((ROWS, weight.shape[2]), trace.dtype)
    for t in range(n_steps - 1, -1, -1):
        grad[:] = 0
        if weight.shape[0] > 0:
            dense(later[first:last], 0, last - first, weight, block, grad)
        for row in range(first, last):
            z, total, received = trace[t, row], later[row], grad[row - first]
            add_row(grad_spikes[t, row], received)
            derivative_row(z, threshold, kind, a_, b_, slope)
            gradient_row(z, slope, received, reset_path, decay, threshold, reset, strict, total)
            if grad_state.shape[0] > 0 and t == n_steps - 1:
                add_row(grad_state[row], total)
            copy_row(total, grad_current[t, row])


@kernel
def integrate_forward(current: Array, decay: Array, membrane: Array, trace: Array, first: int, last: int) -> None:
    """Leaky integration of samples ``first`` to ``last``; ``membrane`` (B, n) is the state, in place."""
    for t in range(current.shape[0]):
        for b in range(first, last):
            row = membrane[b]
            for j in range(decay.shape[0]):
                row[j] = decay[j] * row[j] + current[t, b, j]
            copy_row(membrane[b], trace[t, b])


@loose_kernel
def integrate_backward(
    grad_trace: Array, grad_last: Array, decay: Array, later: Array, grad_current: Array, first: int, last: int
) -> None:
    """Backward of `integrate_forward`; ``later`` (B, n) starts as zeros, ``grad_last`` is (B, n) or empty."""
    n_steps = grad_trace.shape[0]
    for t in range(n_steps - 1, -1, -1):
        for row in range(first, last):
            total, grad = later[row], grad_trace[t, row]
            for j in range(total.shape[0]):
                total[j] = grad[j] + decay[j] * total[j]
            if grad_last.shape[0] > 0 and t == n_steps - 1:
                add_row(grad_last[row], total)
            copy_row(total, grad_current[t, row])


def surrogate_constants(kind: int, parameter: float) -> tuple[float, float]:
    """The two constants the kernels need of a surrogate, computed once."""
    if kind == ATAN:
        return math.pi / 2 * parameter, parameter / 2
    if kind == TRIANGLE:
        return parameter, 1 / parameter**2
    if kind == FAST_SIGMOID:
        return parameter, 0.0
    assert kind == BOX
    return parameter / 2, 1 / parameter
