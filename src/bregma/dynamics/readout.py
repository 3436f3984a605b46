"""Leaky integration without spikes as one operator on compiled kernels. It keeps nothing for its backward pass."""

from typing import Any

import torch
from torch import Tensor

from bregma.dynamics import memory
from bregma.dynamics.fused import start_membrane
from bregma.dynamics.kernels_lif import integrate_backward, integrate_forward
from bregma.dynamics.ops import array, once_differentiable, operator
from bregma.dynamics.threads import over_rows


def fused_integrate(current: Tensor, decay: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    """Membranes (T, B, n) and the last of them (B, n); ``decay`` is (n,)."""
    trace, last = torch.ops.bregma.integrate(current, decay, state)
    return trace, last


def _forward(current: Tensor, decay: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    n_steps, batch, n = current.shape
    memory.require(current.nbytes, f"a readout of {n} neurons over {n_steps} steps of {batch} samples")
    membrane = start_membrane(current, state)
    trace = memory.empty((n_steps, batch, n), current.dtype)
    arrays = array(current), array(decay), array(membrane), array(trace)
    over_rows(lambda first, last: integrate_forward(*arrays, first, last), batch)
    return trace, membrane


def _forward_shapes(current: Tensor, decay: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    return current.new_empty(current.shape), current.new_empty(current.shape[1:])


def _backward(grad_trace: Tensor, grad_last: Tensor | None, decay: Tensor) -> tuple[Tensor, Tensor]:
    n_steps, batch, n = grad_trace.shape
    grad_current = memory.empty((n_steps, batch, n), grad_trace.dtype)
    nothing = grad_trace.new_empty(0, n)
    inputs = array(grad_trace), array(nothing if grad_last is None else grad_last), array(decay)
    outputs = array(grad_trace.new_zeros(batch, n)), array(grad_current)
    over_rows(lambda first, last: integrate_backward(*inputs, *outputs, first, last), batch)
    return grad_current, decay * grad_current[0]


def _backward_shapes(grad_trace: Tensor, grad_last: Tensor | None, decay: Tensor) -> tuple[Tensor, Tensor]:
    return grad_trace.new_empty(grad_trace.shape), grad_trace.new_empty(grad_trace.shape[1:])


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, decay, state = inputs
    ctx.save_for_backward(decay)
    ctx.shape, ctx.stateful = output[0].shape, state is not None
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, grad_trace: Tensor | None, grad_last: Tensor | None) -> tuple[Any, ...]:
    (decay,) = ctx.saved_tensors
    if grad_trace is None:
        grad_trace = decay.new_zeros(ctx.shape)
    grad_current, grad_state = torch.ops.bregma.integrate_backward(grad_trace, grad_last, decay)
    return grad_current, None, grad_state if ctx.stateful else None


operator("integrate(Tensor current, Tensor decay, Tensor? state) -> (Tensor, Tensor)", _forward, _forward_shapes)
operator(
    "integrate_backward(Tensor grad_trace, Tensor? grad_last, Tensor decay) -> (Tensor, Tensor)",
    _backward,
    _backward_shapes,
)
torch.library.register_autograd("bregma::integrate", _gradients, setup_context=_save)
once_differentiable("integrate_backward")
