"""What reaches each weight tensor of a network while it runs, and how to run it without leaving a trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.utils.hooks import RemovableHandle

from bregma.nn.layers import RecurrentLIF

#: Called with the module that holds the weights and the presynaptic activity.
Listener = Callable[[nn.Linear | _ConvNd, Tensor], None]


def watch(net: nn.Module, heard: Listener) -> list[RemovableHandle]:
    """Call ``heard(module, x)`` for every dense layer and convolution of a network at each forward pass.

    ``x`` is the input of the layer, detached; for the weights among the neurons of a `RecurrentLIF` it is the spikes
    (T, B, n) that the layer gives out.

    Args:
        net: any module.
        heard: what to call.

    Returns:
        Handles; ``remove()`` each of them to stop.

    Raises:
        ValueError: the network has a transposed convolution.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(4, 2), RecurrentLIF(2))
        >>> handles = watch(net, lambda module, x: print(module.in_features, tuple(x.shape)))
        >>> spikes, _ = net(torch.zeros(5, 3, 4))
        4 (5, 3, 4)
        2 (5, 3, 2)
    """
    handles = []
    for module in net.modules():
        if isinstance(module, RecurrentLIF):
            handles.append(module.register_forward_hook(_Emitted(heard)))
        elif connects(module):
            handles.append(module.register_forward_pre_hook(_Received(heard)))
    return handles


def connects(module: nn.Module) -> bool:
    """Whether a module is a dense layer or a convolution.

    Raises:
        ValueError: it is a transposed convolution, whose connections nobody counts here.
    """
    if isinstance(module, _ConvTransposeNd):
        raise ValueError(f"net must have no transposed convolution, got {type(module).__name__}")
    return isinstance(module, (nn.Linear, _ConvNd))


class _Hook:
    """Tells a listener. In a copy of the network, or one read back from a file, nobody listens."""

    def __init__(self, heard: Listener) -> None:
        self._heard = heard

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (_nobody,)


class _Received(_Hook):
    def __call__(self, module: nn.Linear | _ConvNd, inputs: tuple[Tensor, ...]) -> None:
        self._heard(module, inputs[0].detach())


class _Emitted(_Hook):
    def __call__(self, module: RecurrentLIF, inputs: Any, output: tuple[Tensor, Tensor]) -> None:
        self._heard(module.recurrent, output[0].detach())


def _nobody(module: nn.Linear | _ConvNd, x: Tensor) -> None:
    """Hear nothing."""


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Inside the ``with`` block the network is as at inference: no dropout, no statistics gathered, no gradients.

    Afterwards each of its modules is in the mode it was in.

    Example:
        >>> net = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2).eval())
        >>> with evaluating(net):
        ...     net.training
        False
        >>> net[0].training, net[1].training
        (True, False)
    """
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
