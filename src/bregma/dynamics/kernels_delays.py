"""Compiled recurrence with axonal delays, forward and backward, for blocks of `ROWS` samples.

What arrives in each step is written ahead when a neuron fires, so that a step has one product with the weights whatever
the number of delays. Blocks are the same for any number of threads, and so are the results.
"""

import numpy as np

from bregma.dynamics.kernels import Array, inline, kernel, loose_kernel
from bregma.dynamics.kernels_dense import ROWS, dense
from bregma.dynamics.kernels_events import list_row
from bregma.dynamics.kernels_lif import add_row, copy_row, derivative_row, gradient_row, pack_row, step_row


@inline
def _reach(shape: Array, span: Array) -> None:
    """First and one past the last slot that each neuron's kernel (slots, n) gives any weight."""
    slots, n = shape.shape
    span[:, 0] = slots
    span[:, 1] = 0
    for slot in range(slots):
        for j in range(n):
            if shape[slot, j] != 0:
                span[j, 0] = min(span[j, 0], slot)
                span[j, 1] = slot + 1


@inline
def _multiply_row(a: Array, b: Array, out: Array) -> None:
    for j in range(len(out)):
        out[j] = a[j] * b[j]


@kernel
def delayed_forward(
    current: Array, weight_t: Array, shape: Array, decay: Array, threshold: Array, reset: int, strict: bool,
    gate: Array, spikes: Array, bits: Array, membrane: Array, trace: Array, arrivals: Array, first: int, last: int,
) -> None:  # fmt: skip
    """Run blocks ``first`` to ``last`` over all steps.

    ``shape`` (slots, n) is the delay kernel. ``arrivals`` (T + slots, B, n) starts with what is under way and zeros.
    ``gate`` is (B, n), or (0, n) for none; ``weight_t`` is in panels; ``bits`` is (T, B, words); the rest is as in
    `kernels_lif.lif_forward`.
    """
    n_steps, batch, n = current.shape
    index, span = np.empty(n, np.int64), np.empty((n, 2), np.int64)
    drive = np.empty((ROWS, n), current.dtype)
    block = np.empty((ROWS, weight_t.shape[2]), current.dtype)
    _reach(shape, span)
    for top in range(first * ROWS, min(last * ROWS, batch), ROWS):
        rows = min(ROWS, batch - top)
        for t in range(n_steps):
            dense(arrivals[t, top : top + rows], 0, rows, weight_t, block, drive)
            for i in range(rows):
                b = top + i
                outside, heard = current[t, b], drive[i]
                if gate.shape[0] > 0:
                    _multiply_row(heard, gate[b], heard)
                for j in range(n):
                    heard[j] = outside[j] + heard[j]
                step_row(membrane[b], heard, decay, threshold, reset, strict, spikes[t, b])
                pack_row(spikes[t, b], bits[t, b])
                if trace.shape[0] > 0:
                    copy_row(membrane[b], trace[t, b])
                for k in range(list_row(bits[t, b], index)):
                    j = index[k]
                    for slot in range(span[j, 0], span[j, 1]):
                        arrivals[t + 1 + slot, b, j] += shape[slot, j]


@loose_kernel
def delayed_backward(
    trace: Array, bits: Array, grad_spikes: Array, grad_state: Array, weight: Array, shape: Array, decay: Array,
    threshold: Array, reset: int, strict: bool, detach: bool, kind: int, a: float, b: float, gate: Array, later: Array,
    grad_arrivals: Array, grad_shape: Array, grad_current: Array, first: int, last: int,
) -> None:  # fmt: skip
    """Backward of `delayed_forward`.

    ``grad_arrivals`` (T + slots, B, n) ends with the gradient of what was left under way; ``grad_shape`` (blocks,
    slots, n) starts as zeros; ``grad_state`` (B, n) is the gradient of the last membrane; ``weight`` is in panels;
    the rest is as in `kernels_lif.lif_backward`.
    """
    n_steps, batch, n = trace.shape
    slots = shape.shape[0]
    real = trace.dtype.type
    reset_path = real(0) if detach else real(1)
    a_, b_ = real(a), real(b)
    index, span = np.empty(n, np.int64), np.empty((n, 2), np.int64)
    slope, grad = np.empty(n, trace.dtype), np.empty(n, trace.dtype)
    block = np.empty((ROWS, weight.shape[2]), trace.dtype)
    heard = np.empty((ROWS, n), trace.dtype)
    _reach(shape, span)
    for group in range(first, last):
        top, bottom = group * ROWS, min((group + 1) * ROWS, batch)
        for t in range(n_steps - 1, -1, -1):
            for row in range(top, bottom):
                z, total = trace[t, row], later[row]
                copy_row(grad_spikes[t, row], grad)
                for slot in range(slots):
                    share, later_on = shape[slot], grad_arrivals[t + 1 + slot, row]
                    for j in range(n):
                        grad[j] += share[j] * later_on[j]
                for k in range(list_row(bits[t, row], index)):
                    j = index[k]
                    for slot in range(slots):
                        grad_shape[group, slot, j] += grad_arrivals[t + 1 + slot, row, j]
                derivative_row(z, threshold, kind, a_, b_, slope)
                gradient_row(z, slope, grad, reset_path, decay, threshold, reset, strict, total)
                if t == n_steps - 1:
                    add_row(grad_state[row], total)
                copy_row(total, grad_current[t, row])
            if gate.shape[0] > 0:
                for row in range(top, bottom):
                    _multiply_row(later[row], gate[row], heard[row - top])
                dense(heard, 0, bottom - top, weight, block, grad_arrivals[t, top:bottom])
            else:
                dense(later[top:bottom], 0, bottom - top, weight, block, grad_arrivals[t, top:bottom])
