"""A layer of LIF neurons, recurrent or not, as one operator on compiled kernels with a hand-written backward pass.

From forward to backward live the membranes, ``T B n`` numbers, and one bit per spike. At its peak the forward pass
holds current, spikes and membranes, the backward pass membranes and two gradients: ``3 T B n`` numbers each.
"""

from typing import Any

import torch
from torch import Tensor

from bregma.dynamics import memory
from bregma.dynamics.kernels import as_bits, words_for
from bregma.dynamics.kernels_dense import ROWS, panels
from bregma.dynamics.kernels_lif import lif_backward, lif_forward
from bregma.dynamics.ops import array, once_differentiable, operator, to_be_derived
from bregma.dynamics.products import Train, weight_gradient
from bregma.dynamics.threads import over_rows

Flags = list[int]  # reset, strict, detach_reset, surrogate
Result = tuple[Tensor, Tensor, Tensor, Tensor]


def fused_lif(
    current: Tensor,
    weight: Tensor | None,
    decay: Tensor,
    threshold: Tensor,
    state: Tensor | None,
    flags: Flags,
    constants: list[float],
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the layer; ``decay`` and ``threshold`` are (n,), ``constants`` those of the surrogate.

    Returns:
        Spikes (T, B, n), last membrane (B, n), spikes as bits (T, B, words).
    """
    keep = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in (current, weight, state))
    spikes, membrane, bits, _ = torch.ops.bregma.lif(current, weight, decay, threshold, state, flags, constants, keep)
    return spikes, membrane, bits[1:]


def start_membrane(current: Tensor, state: Tensor | None) -> Tensor:
    """A membrane (B, n) for a kernel to work on: at rest, or a copy of the state."""
    if state is None:
        return torch.zeros_like(current[0], memory_format=torch.contiguous_format)
    return state.detach().clone(memory_format=torch.contiguous_format)


def _forward(
    current: Tensor,
    weight: Tensor | None,
    decay: Tensor,
    threshold: Tensor,
    state: Tensor | None,
    flags: Flags,
    constants: list[float],
    keep: bool,
) -> Result:
    n_steps, batch, n = current.shape
    memory.require((1 + keep) * current.nbytes, f"a layer of {n} neurons over {n_steps} steps of {batch} samples")
    spikes = memory.empty((n_steps, batch, n), current.dtype)
    trace = memory.empty((n_steps * keep, batch, n), current.dtype)
    bits = memory.empty((n_steps + 1, batch, words_for(n)), torch.int64)
    membrane = start_membrane(current, state)
    reset, strict = flags[0], bool(flags[1])
    inputs = (
        array(current),
        array(current.new_empty(0, 0) if weight is None else weight.t()),
        array(decay),
        array(threshold),
    )
    outputs = array(spikes), as_bits(array(bits)), array(membrane), array(trace)
    over_rows(lambda first, last: lif_forward(*inputs, reset, strict, *outputs, first, last), batch)
    return spikes, membrane, bits, trace


def _forward_shapes(
    current: Tensor,
    weight: Tensor | None,
    decay: Tensor,
    threshold: Tensor,
    state: Tensor | None,
    flags: Flags,
    constants: list[float],
    keep: bool,
) -> Result:
    n_steps, batch, n = current.shape
    return (
        current.new_empty(n_steps, batch, n),
        current.new_empty(batch, n),
        current.new_empty((n_steps + 1, batch, words_for(n)), dtype=torch.int64),
        current.new_empty(n_steps * keep, batch, n),
    )


def _backward(
    grad_spikes: Tensor,
    grad_membrane: Tensor | None,
    trace: Tensor,
    bits: Tensor,
    weight: Tensor | None,
    decay: Tensor,
    threshold: Tensor,
    state: Tensor | None,
    flags: Flags,
    constants: list[float],
) -> tuple[Tensor, Tensor, Tensor]:
    n_steps, batch, n = trace.shape
    reset, strict, detach, kind = flags
    nothing, later = trace.new_empty(0, n), trace.new_zeros(batch, n)
    recurrent = array(trace.new_empty(0, 0, 0)) if weight is None else panels(array(weight))
    options = array(decay), array(threshold), reset, bool(strict), bool(detach), kind, *constants

    def go_back(z: Tensor, grad: Tensor, end: Tensor, out: Tensor) -> None:
        inputs = array(z), array(grad), recurrent, array(end)
        outputs = array(later), array(out)
        over_rows(lambda first, last: lif_backward(*inputs, *options, *outputs, first, last), batch, ROWS)

    grad_current, grad_state = memory.empty((n_steps, batch, n), trace.dtype), nothing
    go_back(trace, grad_spikes, nothing if grad_membrane is None else grad_membrane, grad_current)
    if state is not None:
        grad_state = torch.empty_like(later)
        go_back(state[None], torch.zeros_like(later)[None], nothing, grad_state[None])
    return grad_current, grad_state, nothing if weight is None else _recurrent_gradient(bits, grad_current)


def _recurrent_gradient(bits: Tensor, grad_current: Tensor) -> Tensor:
    """Sum over time of ``grad_current[t].T @ s[t - 1]``; the bits start one step earlier, with those of the state."""
    train = Train(as_bits(array(bits[:-1].flatten(0, 1))), grad_current.shape[-1])
    return weight_gradient(train, grad_current.flatten(0, 1))


def _backward_shapes(
    grad_spikes: Tensor,
    grad_membrane: Tensor | None,
    trace: Tensor,
    bits: Tensor,
    weight: Tensor | None,
    decay: Tensor,
    threshold: Tensor,
    state: Tensor | None,
    flags: Flags,
    constants: list[float],
) -> tuple[Tensor, Tensor, Tensor]:
    _, batch, n = trace.shape
    grad_state = trace.new_empty(0 if state is None else batch, n)
    grad_weight = trace.new_empty(0 if weight is None else n, n)
    return torch.empty_like(trace), grad_state, grad_weight


def _save(ctx: Any, inputs: tuple[Any, ...], output: Result) -> None:
    _, weight, decay, threshold, state, ctx.flags, ctx.constants, _ = inputs
    _, _, bits, trace = output
    ctx.save_for_backward(trace, bits, weight, decay, threshold, state)
    ctx.mark_non_differentiable(bits, trace)
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, grad_spikes: Tensor | None, grad_membrane: Tensor | None, *_: None) -> tuple[Any, ...]:
    trace, bits, weight, decay, threshold, state = ctx.saved_tensors
    if grad_spikes is None:
        grad_spikes = torch.zeros_like(trace)
    grad_spikes = to_be_derived(grad_spikes)
    grad_current, grad_state, grad_weight = torch.ops.bregma.lif_backward(
        grad_spikes, grad_membrane, trace, bits, weight, decay, threshold, state, ctx.flags, ctx.constants
    )
    grad_weight = None if weight is None else grad_weight
    grad_state = None if state is None else grad_state
    return grad_current, grad_weight, None, None, grad_state, None, None, None


operator(
    "lif(Tensor current, Tensor? weight, Tensor decay, Tensor threshold, Tensor? state, int[] flags,"
    " float[] constants, bool keep) -> (Tensor, Tensor, Tensor, Tensor)",
    _forward,
    _forward_shapes,
)
operator(
    "lif_backward(Tensor grad_spikes, Tensor? grad_membrane, Tensor trace, Tensor bits, Tensor? weight, Tensor decay,"
    " Tensor threshold, Tensor? state, int[] flags, float[] constants) -> (Tensor, Tensor, Tensor)",
    _backward,
    _backward_shapes,
)
torch.library.register_autograd("bregma::lif", _gradients, setup_context=_save)
once_differentiable("lif_backward")
