"""Products with spikes that cost what the spikes cost: few of the entries of a spike train are not zero.

A spike train travels as the dense tensor of zeros and ones that every torch function takes, and carries its bits along,
one per neuron and time step, from the layer that fired to the products that follow. A tensor that comes without bits,
an input or the output of another function, is packed when it is multiplied. A tensor changed in place since has lost
its bits. How many bits are set decides at each call how the product is done: `bregma.dynamics.products`.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from bregma.dynamics import memory, products
from bregma.dynamics.backend import get_backend, transforming
from bregma.dynamics.kernels import as_bits, words_for
from bregma.dynamics.kernels_events import pack
from bregma.dynamics.ops import array, once_differentiable, operator
from bregma.dynamics.products import LEAST_ROWS, Train
from bregma.dynamics.threads import over_rows

# Beside the tensors, not on them: a copy or a pickle must not take bits along that changes in place then outdate.
_carried = WeakTensorKeyDictionary()


def remember(spikes: Tensor, bits: Tensor) -> None:
    """Let ``spikes`` carry its bits."""
    if not torch.compiler.is_compiling() and not spikes.is_inference():
        _carried[spikes] = bits, spikes._version


def recall(spikes: Tensor) -> Tensor | None:
    """The bits of ``spikes``, unless it carries none or was changed since."""
    if torch.compiler.is_compiling() or spikes.is_inference():
        return None
    bits, version = _carried.get(spikes, (None, None))
    return bits if version == spikes._version else None


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear`, faster where most of ``x`` is zero, as spikes and events are.

    The values are those of the dense product up to the order of summation. The gradient of the weights is dense and
    exact also where weights are zero.

    A spike train of this package brings its bits along, and loses them when it is changed in place. Torch does not
    notice a change through ``x.data`` or ``x.numpy()``: make it in a copy (``x.clone()``), or the product is that of
    the old spikes.

    Args:
        x: spikes, event counts or anything else, (..., n_in).
        weight: (n_out, n_in).
        bias: (n_out,).

    Returns:
        (..., n_out).

    Raises:
        ValueError: shapes that do not fit.

    Example:
        >>> linear(torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([[1.0, 2.0, 3.0]]))
        tensor([[2.]])
    """
    ours = x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64) and weight.dtype == x.dtype
    if get_backend() == "torch" or transforming() or not ours or x.numel() == 0 or weight.numel() == 0:
        return torch.nn.functional.linear(x, weight, bias)
    if weight.dim() != 2 or weight.shape[1] != x.shape[-1]:
        came, allowed = tuple(weight.shape), f"(n_out, {x.shape[-1]})"
        raise ValueError(f"weight must be {allowed} for x of shape {tuple(x.shape)}, got {came}")
    if bias is not None and (bias.shape != weight.shape[:1] or bias.dtype != x.dtype):
        given = f"{tuple(bias.shape)} of {bias.dtype}"
        raise ValueError(f"bias must be ({weight.shape[0]},) of {x.dtype}, got {given}")
    bits, graded = recall(x), None
    if bits is None:
        bits, graded = torch.ops.bregma.pack(x)
    out: Tensor = torch.ops.bregma.linear(x, bits, graded, weight, bias)
    return out


def unpacked(bits: Tensor, n: int, dtype: torch.dtype) -> Tensor:
    """The zeros and ones (..., n) that ``bits`` stand for."""
    rows = _train(None, bits, None, n).dense(dtype)
    return torch.from_numpy(rows).view(*bits.shape[:-1], n)


def _pack(x: Tensor) -> tuple[Tensor, Tensor]:
    n_rows = x.numel() // x.shape[-1]
    bits = memory.empty((*x.shape[:-1], words_for(x.shape[-1])), torch.int64)
    graded = torch.empty(n_rows, dtype=torch.int64)
    arrays = array(x).reshape(n_rows, -1), as_bits(array(bits)).reshape(n_rows, -1), array(graded)
    over_rows(lambda first, last: pack(*arrays, first, last), n_rows, LEAST_ROWS)
    return bits, graded.sum()


def _pack_shapes(x: Tensor) -> tuple[Tensor, Tensor]:
    bits = x.new_empty((*x.shape[:-1], words_for(x.shape[-1])), dtype=torch.int64)
    return bits, x.new_empty((), dtype=torch.int64)


def _train(x: Tensor | None, bits: Tensor, graded: Tensor | None, n: int) -> Train:
    rows = as_bits(array(bits)).reshape(-1, bits.shape[-1])
    values = None if x is None else x.detach().reshape(-1, n)
    return Train(rows, n, values, graded is not None and graded.item() > 0)


def pack_rows(x: Tensor) -> Train:
    """The non-zeros of x (rows, n)."""
    return _train(x, *_pack(x), x.shape[1])


def _linear(x: Tensor, bits: Tensor, graded: Tensor | None, weight: Tensor, bias: Tensor | None) -> Tensor:
    n_out, n_in = weight.shape
    out = memory.empty((*x.shape[:-1], n_out), x.dtype)
    products.forward(_train(x, bits, graded, n_in), weight.detach(), bias, out.view(-1, n_out))
    return out


def _linear_shapes(x: Tensor, bits: Tensor, graded: Tensor | None, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


def _linear_backward(
    grad: Tensor, x: Tensor | None, bits: Tensor, graded: Tensor | None, weight: Tensor, need_x: bool, need_weight: bool
) -> tuple[Tensor, Tensor]:
    n_out, n_in = weight.shape
    rows = grad.reshape(-1, n_out).contiguous()
    grad_x, grad_weight = grad.new_empty(0), grad.new_empty(0)
    if need_x:
        grad_x = memory.empty((*grad.shape[:-1], n_in), grad.dtype)
        products.multiply(array(rows), weight, array(grad_x).reshape(-1, n_in))
    if need_weight:
        grad_weight = products.weight_gradient(_train(x, bits, graded, n_in), rows)
    return grad_x, grad_weight


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
