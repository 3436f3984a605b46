"""Products with spikes that cost what the spikes cost: few of the entries of a spike train are not zero.

A spike train travels as the dense tensor of zeros and ones that every torch function takes, and carries its bits along,
one per neuron and time step, from the layer that fired to the products that follow. A tensor that comes without bits,
an input or the output of another function, is packed when it is multiplied. A tensor changed in place since has lost
its bits. How many bits are set decides at each call whether the product goes over them or is a dense one.
"""

from typing import Any

import torch
from torch import Tensor

from bregma.dynamics import memory
from bregma.dynamics.backend import get_backend
from bregma.dynamics.kernels import Array, as_bits, words_for
from bregma.dynamics.kernels_dense import dense_product, dense_weight_gradient, panels
from bregma.dynamics.kernels_events import count_events, pack, product, unpack, weight_gradient
from bregma.dynamics.ops import array, once_differentiable, operator
from bregma.dynamics.threads import over_rows

# Shares of non-zero entries up to which the event products were measured to be the faster ones.
FORWARD_SHARE = 0.25
GRADIENT_SHARE = 0.25
_LEAST_ROWS = 64  # per thread


def remember(spikes: Tensor, bits: Tensor) -> None:
    """Let ``spikes`` carry its bits."""
    if not torch.compiler.is_compiling() and not spikes.is_inference():
        spikes._bregma_bits = bits, spikes._version  # type: ignore[attr-defined]


def recall(spikes: Tensor) -> Tensor | None:
    """The bits of ``spikes``, unless it carries none or was changed since."""
    if torch.compiler.is_compiling() or spikes.is_inference():
        return None
    bits, version = getattr(spikes, "_bregma_bits", (None, None))
    return bits if version == spikes._version else None


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear`, faster where most of ``x`` is zero, as spikes and events are.

    The values are those of the dense product up to the order of summation. The gradient of the weights is dense and
    exact also where weights are zero.

    Args:
        x: spikes, event counts or anything else, (..., n_in).
        weight: (n_out, n_in).
        bias: (n_out,).

    Returns:
        (..., n_out).

    Example:
        >>> linear(torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([[1.0, 2.0, 3.0]]))
        tensor([[2.]])
    """
    ours = x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64) and weight.dtype == x.dtype
    if get_backend() == "torch" or not ours or x.numel() == 0:
        return torch.nn.functional.linear(x, weight, bias)
    if weight.dim() != 2 or weight.shape[1] != x.shape[-1]:
        raise ValueError(
            f"weight must be (n_out, {x.shape[-1]}) for x of shape {tuple(x.shape)}, got {tuple(weight.shape)}"
        )
    bits, graded = recall(x), None
    if bits is None:
        bits, graded = torch.ops.bregma.pack(x)
    out: Tensor = torch.ops.bregma.linear(x, bits, graded, weight, bias)
    return out


def _pack(x: Tensor) -> tuple[Tensor, Tensor]:
    n_rows = x.numel() // x.shape[-1]
    bits = memory.empty((*x.shape[:-1], words_for(x.shape[-1])), torch.int64)
    graded = torch.empty(n_rows, dtype=torch.int64)
    arrays = array(x).reshape(n_rows, -1), as_bits(array(bits)).reshape(n_rows, -1), array(graded)
    over_rows(lambda first, last: pack(*arrays, first, last), n_rows, _LEAST_ROWS)
    return bits, graded.sum()


def _pack_shapes(x: Tensor) -> tuple[Tensor, Tensor]:
    bits = x.new_empty((*x.shape[:-1], words_for(x.shape[-1])), dtype=torch.int64)
    return bits, x.new_empty((), dtype=torch.int64)


def _share(bits: Tensor, n: int) -> float:
    """Share of bits set, the activity."""
    rows = as_bits(array(bits)).reshape(-1, bits.shape[-1])
    return float(count_events(rows)) / (rows.shape[0] * n)


def _linear(x: Tensor, bits: Tensor, graded: Tensor | None, weight: Tensor, bias: Tensor | None) -> Tensor:
    n_out, n_in = weight.shape
    values = array(x).reshape(-1, n_in)
    out = memory.empty((*x.shape[:-1], n_out), x.dtype)
    rows = out.view(-1, n_out)
    if _share(bits, n_in) > FORWARD_SHARE:
        _dense_product(values, array(weight.t()), array(rows))
        return out if bias is None else out.add_(bias)
    events = as_bits(array(bits)).reshape(-1, bits.shape[-1])
    start = weight.new_zeros(n_out) if bias is None else bias
    arguments = values, _is_graded(graded), events, array(weight.t()), array(start), array(rows)
    over_rows(lambda first, last: product(*arguments, first, last), rows.shape[0], _LEAST_ROWS)
    return out


def _dense_product(x: Array, weight: Array, out: Array) -> None:
    """``out = x @ weight``."""
    cut = panels(weight)
    over_rows(lambda first, last: dense_product(x, cut, out, first, last), x.shape[0], _LEAST_ROWS)


def _is_graded(graded: Tensor | None) -> bool:
    return graded is not None and graded.item() > 0


def _linear_shapes(x: Tensor, bits: Tensor, graded: Tensor | None, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


def _linear_backward(
    grad: Tensor, x: Tensor | None, bits: Tensor, graded: Tensor | None, weight: Tensor, need_x: bool, need_weight: bool
) -> tuple[Tensor, Tensor]:
    grad = grad.contiguous()
    rows = grad.view(-1, weight.shape[0])
    grad_x, grad_weight = grad.new_empty(0), grad.new_empty(0)
    if need_x:
        grad_x = memory.empty((*grad.shape[:-1], weight.shape[1]), grad.dtype)
        _dense_product(array(rows), array(weight), array(grad_x.view(-1, weight.shape[1])))
    if need_weight and _share(bits, weight.shape[1]) > GRADIENT_SHARE:
        dense = unpacked(bits, weight.shape[1], weight.dtype) if x is None else x
        grad_weight = _dense_weight_gradient(dense.reshape(-1, weight.shape[1]), rows)
    elif need_weight:
        grad_weight = _weight_gradient(rows, x, bits, graded, weight)
    return grad_x, grad_weight


def _dense_weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    out = memory.empty((grad.shape[1], x.shape[1]), grad.dtype)
    arrays = array(x), array(grad), array(out)
    over_rows(lambda first, last: dense_weight_gradient(*arrays, first, last), out.shape[0], _LEAST_ROWS)
    return out


def weight_gradient_of(x: Tensor, grad: Tensor) -> Tensor:
    """``grad.T @ x`` for x (rows, n_in) and grad (rows, n_out), over the non-zeros of x if these are few."""
    bits, graded = _pack(x)
    if _share(bits, x.shape[1]) > GRADIENT_SHARE:
        return _dense_weight_gradient(x, grad)
    return _weight_gradient(grad, x, bits, graded, grad.new_empty(grad.shape[1], x.shape[1]))


def _weight_gradient(grad: Tensor, x: Tensor | None, bits: Tensor, graded: Tensor | None, weight: Tensor) -> Tensor:
    n_out, n_in = weight.shape
    values = array(grad if x is None else x.reshape(-1, n_in))  # not read where x is None
    out_t = memory.empty((n_in, n_out), grad.dtype)
    events = as_bits(array(bits)).reshape(-1, bits.shape[-1])
    arguments = values, _is_graded(graded), events, array(grad), array(out_t)
    over_rows(lambda first, last: weight_gradient(*arguments, first, last), n_out, _LEAST_ROWS)
    return out_t.t().contiguous()


def unpacked(bits: Tensor, n: int, dtype: torch.dtype) -> Tensor:
    """The zeros and ones (..., n) that ``bits`` stand for."""
    events = as_bits(array(bits)).reshape(-1, bits.shape[-1])
    dense = memory.empty((*bits.shape[:-1], n), dtype)
    rows = array(dense).reshape(-1, n)
    over_rows(lambda first, last: unpack(events, rows, first, last), events.shape[0], _LEAST_ROWS)
    return dense


def _linear_backward_shapes(
    grad: Tensor, x: Tensor | None, bits: Tensor, graded: Tensor | None, weight: Tensor, need_x: bool, need_weight: bool
) -> tuple[Tensor, Tensor]:
    grad_x = grad.new_empty((*grad.shape[:-1], weight.shape[1]) if need_x else 0)
    return grad_x, grad.new_empty(weight.shape if need_weight else 0)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, bits, graded, weight, bias = inputs
    # Bits alone stand for zeros and ones; a tensor of unknown values is kept, and its owner keeps it anyway.
    ctx.save_for_backward(None if graded is None else x, bits, graded, weight)
    ctx.biased = bias is not None


def _gradients(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, bits, graded, weight = ctx.saved_tensors
    need_x, _, _, need_weight, need_bias = ctx.needs_input_grad
    grad_x, grad_weight = torch.ops.bregma.linear_backward(grad, x, bits, graded, weight, need_x, need_weight)
    grad_bias = grad.reshape(-1, grad.shape[-1]).sum(0) if ctx.biased and need_bias else None
    return grad_x if need_x else None, None, None, grad_weight if need_weight else None, grad_bias


operator("pack(Tensor x) -> (Tensor, Tensor)", _pack, _pack_shapes)
operator(
    "linear(Tensor x, Tensor bits, Tensor? graded, Tensor weight, Tensor? bias) -> Tensor", _linear, _linear_shapes
)
operator(
    "linear_backward(Tensor grad, Tensor? x, Tensor bits, Tensor? graded, Tensor weight, bool need_x,"
    " bool need_weight) -> (Tensor, Tensor)",
    _linear_backward,
    _linear_backward_shapes,
)
torch.library.register_autograd("bregma::linear", _gradients, setup_context=_save)
once_differentiable("linear_backward")
