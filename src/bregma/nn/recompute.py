"""Less memory for more time: keep the bits of the spikes, compute the membranes again."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import get_device_states, set_device_states

from bregma.dynamics.backend import transforming
from bregma.dynamics.events import recall, remember, unpacked


class Recompute(nn.Module):
    """A layer that keeps of its input one bit per spike, and nothing else, until the backward pass runs it again.

    A layer of T steps, B samples and n neurons then holds ``T B n / 8`` bytes between the passes and not ``4 T B n``
    (float32), at the price of a second forward pass, about a third more time. The gradients are the same, bit for
    bit: the second pass draws the random numbers of the first, of torch's own generators. What a layer gathers while it
    runs, as running statistics, is gathered twice. An input that is no spike train of this package is kept as it is.

    Args:
        layer: called as ``layer(x)`` or ``layer(x, state)``, returns spikes and state, as `SpikingLayer`.

    Shape:
        As the layer's.

    Example:
        >>> from bregma.nn import LIF, SpikeLinear, SpikingLayer
        >>> net = nn.ModuleList([Recompute(SpikingLayer(SpikeLinear(4, 4), LIF())) for _ in range(3)])
        >>> x = torch.ones(5, 2, 4)
        >>> for layer in net:
        ...     x, _ = layer(x)
        >>> x.shape
        torch.Size([5, 2, 4])
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What the layer returns."""
        if torch.compiler.is_compiling() or transforming() or not torch.is_grad_enabled():
            plain: tuple[Tensor, Tensor] = self.layer(x, state)
            return plain
        spikes, state = _Again.apply(self.layer, x, state, *self.layer.parameters())  # type: ignore[no-untyped-call]
        return spikes, state


class _Again(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, layer: nn.Module, x: Tensor, state: Tensor | None, *parameters: Tensor) -> tuple[Tensor, ...]:
        bits = recall(x)
        ctx.layer, ctx.neurons, ctx.dtype = layer, x.shape[-1], x.dtype
        ctx.packed = bits is not None
        ctx.precision = _precision(x.device.type)
        ctx.random = torch.get_rng_state(), *get_device_states(x)
        ctx.save_for_backward(x if bits is None else bits, state, *parameters)
        ctx.set_materialize_grads(False)
        spikes, after = layer(x, state)
        return spikes, after

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        kept, state, *parameters = ctx.saved_tensors
        need_x, need_state, *need = ctx.needs_input_grad[1:]
        x = unpacked(kept, ctx.neurons, ctx.dtype) if ctx.packed else kept.detach()
        x.requires_grad_(need_x)
        if ctx.packed:
            remember(x, kept)
        if state is not None:
            state = state.detach().requires_grad_(need_state)
        with torch.enable_grad(), ctx.precision, _drawing_again(x.device.type, *ctx.random):
            outputs = ctx.layer(x, state)
        wanted = [(x, need_x), (state, need_state), *zip(parameters, need, strict=True)]
        inputs = [tensor for tensor, needed in wanted if needed]
        used = [(out, grad) for out, grad in zip(outputs, grads, strict=True) if grad is not None]
        gradients = iter(
            torch.autograd.grad([out for out, _ in used], inputs, [grad for _, grad in used], allow_unused=True)
        )
        return None, *(next(gradients) if needed else None for _, needed in wanted)


@contextmanager
def _drawing_again(device: str, state: Tensor, devices: list[int], states: list[Tensor]) -> Iterator[None]:
    """Draw the random numbers that followed a state of the generators; afterwards these are as before."""
    with torch.random.fork_rng(devices, device_type=device):
        torch.set_rng_state(state)
        set_device_states(devices, states, device_type=device)
        yield


def _precision(device: str) -> AbstractContextManager[Any]:
    """The mixed precision in force, to be entered again."""
    if not torch.amp.is_autocast_available(device):
        return nullcontext()
    return torch.autocast(device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))
