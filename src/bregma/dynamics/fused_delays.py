"""A recurrent layer with axonal delays as one operator on compiled kernels, with a hand-written backward pass.

The delay kernel ``K`` of `bregma.dynamics.delays` goes in as a tensor; its gradient leads to delays and spread by
autograd. From forward to backward live membranes and arrivals, ``2 T B n`` numbers, and one bit per spike.
"""

from typing import Any

import torch
from torch import Tensor

from bregma.dynamics import memory
from bregma.dynamics.events import pack_rows
from bregma.dynamics.fused import Flags, start_membrane
from bregma.dynamics.kernels import as_bits, words_for
from bregma.dynamics.kernels_delays import delayed_backward, delayed_forward
from bregma.dynamics.kernels_dense import ROWS, panels
from bregma.dynamics.kernels_lif import lif_backward
from bregma.dynamics.ops import array, once_differentiable, operator, to_be_derived
from bregma.dynamics.products import weight_gradient
from bregma.dynamics.threads import over_rows

Result = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def fused_delayed_lif(
    current: Tensor,
    weight: Tensor,
    shape: Tensor,
    decay: Tensor,
    threshold: Tensor,
    state: Tensor | None,
    gate: Tensor | None,
    flags: Flags,
    constants: list[float],
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the layer.

    ``shape`` (slots, n) is the delay kernel, ``state`` (1 + slots, B, n), ``gate`` (B, n) a constant.

    Returns:
        Spikes (T, B, n), state (1 + slots, B, n), spikes as bits (T, B, words).
    """
    inputs = (current, weight, shape, state)
    keep = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)
    spikes, membrane, pending, bits, _, _ = torch.ops.bregma.delayed_lif(
        current, weight, shape, decay, threshold, state, gate, flags, constants, keep
    )
    return spikes, torch.cat([membrane[None], pending]), bits


def _forward(
    current: Tensor,
    weight: Tensor,
    shape: Tensor,
    decay: Tensor,
    threshold: Tensor,
    state: Tensor | None,
    gate: Tensor | None,
    flags: Flags,
    constants: list[float],
    keep: bool,
) -> Result:
    n_steps, batch, n = current.shape
    slots = shape.shape[0]
    memory.require((2 + keep) * current.nbytes, f"a layer of {n} neurons over {n_steps} steps of {batch} samples")
    spikes = memory.empty((n_steps, batch, n), current.dtype)
    trace = memory.empty((n_steps * keep, batch, n), current.dtype)
    bits = memory.empty((n_steps, batch, words_for(n)), torch.int64)
    arrivals = memory.empty((n_steps + slots, batch, n), current.dtype).zero_()
    if state is not None:
        arrivals[:slots] = state[1:]
    membrane = start_membrane(current, None if state is None else state[0])
    inputs = array(current), panels(array(weight.t())), array(shape), array(decay), array(threshold)
    hearing = array(current.new_empty(0, n) if gate is None else gate)
    outputs = array(spikes), as_bits(array(bits)), array(membrane), array(trace), array(arrivals)
    options = flags[0], bool(flags[1])
    over_rows(lambda first, last: delayed_forward(*inputs, *options, hearing, *outputs, first, last), -(-batch // ROWS))
    return spikes, membrane, arrivals[n_steps:].clone(), bits, trace, arrivals


def _forward_shapes(
    current: Tensor,
    weight: Tensor,
    shape: Tensor,
    decay: Tensor,
    threshold: Tensor,
    state: Tensor | None,
    gate: Tensor | None,
    flags: Flags,
    constants: list[float],
    keep: bool,
) -> Result:
    n_steps, batch, n = current.shape
    return (
        current.new_empty(n_steps, batch, n),
        current.new_empty(batch, n),
        current.new_empty(shape.shape[0], batch, n),
        current.new_empty((n_steps, batch, words_for(n)), dtype=torch.int64),
        current.new_empty(n_steps * keep, batch, n),
        current.new_empty(n_steps + shape.shape[0], batch, n),
    )


def _backward(
    grad_spikes: Tensor,
    grad_membrane: Tensor | None,
    grad_pending: Tensor | None,
    trace: Tensor,
    arrivals: Tensor,
    bits: Tensor,
    weight: Tensor,
    shape: Tensor,
    decay: Tensor,
    threshold: Tensor,
    state: Tensor | None,
    gate: Tensor | None,
    flags: Flags,
    constants: list[float],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n_steps, batch, n = trace.shape
    slots, n_blocks = shape.shape[0], -(-batch // ROWS)
    reset, strict, detach, kind = flags
    options = reset, bool(strict), bool(detach), kind, *constants
    later = trace.new_zeros(batch, n)
    grad_current = memory.empty((n_steps, batch, n), trace.dtype)
    grad_arrivals = memory.empty((n_steps + slots, batch, n), trace.dtype)
    grad_arrivals[n_steps:] = 0 if grad_pending is None else grad_pending
    grad_shape = trace.new_zeros(n_blocks, slots, n)
    grad_end = torch.zeros_like(later) if grad_membrane is None else grad_membrane
    inputs = array(trace), as_bits(array(bits)), array(grad_spikes), array(grad_end)
    layer = panels(array(weight)), array(shape), array(decay), array(threshold)
    hearing = array(trace.new_empty(0, n) if gate is None else gate)
    outputs = hearing, array(later), array(grad_arrivals), array(grad_shape), array(grad_current)
    over_rows(lambda first, last: delayed_backward(*inputs, *layer, *options, *outputs, first, last), n_blocks)
    grad_state = trace.new_empty(0)
    if state is not None:
        grad_state = torch.cat([torch.empty_like(later)[None], grad_arrivals[:slots]])
        before = array(state[:1]), array(torch.zeros_like(later)[None]), array(trace.new_empty(0, 0, 0))
        nothing = array(trace.new_empty(0, n))
        lif_backward(*before, nothing, *layer[2:], *options, array(later), array(grad_state[:1]), 0, batch)
    grad_heard = grad_current if gate is None else grad_current * gate
    grad_weight = weight_gradient(pack_rows(arrivals[:n_steps].flatten(0, 1)), grad_heard.flatten(0, 1))
    return grad_current, grad_weight, grad_shape.sum(0), grad_state


def _backward_shapes(
    grad_spikes: Tensor,
    grad_membrane: Tensor | None,
    grad_pending: Tensor | None,
    trace: Tensor,
    arrivals: Tensor,
    bits: Tensor,
    weight: Tensor,
    shape: Tensor,
    decay: Tensor,
    threshold: Tensor,
    state: Tensor | None,
    gate: Tensor | None,
    flags: Flags,
    constants: list[float],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    grad_state = trace.new_empty(0) if state is None else state.new_empty(state.shape)
    return torch.empty_like(trace), weight.new_empty(weight.shape), shape.new_empty(shape.shape), grad_state


def _save(ctx: Any, inputs: tuple[Any, ...], output: Result) -> None:
    _, weight, shape, decay, threshold, state, gate, ctx.flags, ctx.constants, _ = inputs
    *_, bits, trace, arrivals = output
    ctx.save_for_backward(trace, arrivals, bits, weight, shape, decay, threshold, state, gate)
    ctx.mark_non_differentiable(bits, trace, arrivals)
    ctx.set_materialize_grads(False)


def _gradients(
    ctx: Any, grad_spikes: Tensor | None, grad_membrane: Tensor | None, grad_pending: Tensor | None, *_: None
) -> tuple[Any, ...]:
    trace, *saved = ctx.saved_tensors
    if grad_spikes is None:
        grad_spikes = torch.zeros_like(trace)
    grad_spikes = to_be_derived(grad_spikes)
    grad_current, grad_weight, grad_shape, grad_state = torch.ops.bregma.delayed_lif_backward(
        grad_spikes, grad_membrane, grad_pending, trace, *saved, ctx.flags, ctx.constants
    )
    grad_state = None if saved[-2] is None else grad_state
    return grad_current, grad_weight, grad_shape, None, None, grad_state, None, None, None, None


operator(
    "delayed_lif(Tensor current, Tensor weight, Tensor shape, Tensor decay, Tensor threshold, Tensor? state,"
    " Tensor? gate, int[] flags, float[] constants, bool keep) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _forward,
    _forward_shapes,
)
operator(
    "delayed_lif_backward(Tensor grad_spikes, Tensor? grad_membrane, Tensor? grad_pending, Tensor trace,"
    " Tensor arrivals, Tensor bits, Tensor weight, Tensor shape, Tensor decay, Tensor threshold, Tensor? state,"
    " Tensor? gate, int[] flags, float[] constants) -> (Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _backward_shapes,
)
torch.library.register_autograd("bregma::delayed_lif", _gradients, setup_context=_save)
once_differentiable("delayed_lif_backward")
