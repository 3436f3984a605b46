"""What a network costs, in the terms of NeuroBench (Yik et al. 2025, Nature Communications 16:1545).

Counts are exact and need no library. They agree with those of neurobench 2.3 on the same network (a test compares
them), with two differences: a delayed recurrent layer is counted (each arrival of a spike is an operation per synapse),
and a readout, which never spikes, is no activation here.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from bregma.dynamics.delays import delay_kernel, slots_needed
from bregma.nn import DelayedRecurrentLIF, Record, RecurrentLIF
from bregma.nn.activity import connects, evaluating
from bregma.sparsity.measure import density


@dataclass(frozen=True)
class Operations:
    """Synaptic operations per sample.

    Attributes:
        accumulates: additions of a weight, where a layer hears nothing but 0, 1 and -1, through weights that are not 0.
        multiply_accumulates: products that a layer with other inputs needs, both factors not 0.
        dense: products if no input and no weight were 0.
    """

    accumulates: float
    multiply_accumulates: float
    dense: float


def operations(net: nn.Module, x: Tensor) -> Operations:
    """Count the synaptic operations of a forward pass at inference; biases and membranes are none.

    What the neurons of a recurrent layer say in the last step arrives nowhere and is not counted; `bregma.synops`,
    which metrics and reports show, counts it.

    Args:
        net: a network of ``nn.Linear``, convolutions and layers of this package.
        x: frames (T, B, ...).

    Returns:
        Means over the samples.

    Raises:
        ValueError: a transposed convolution.

    Example:
        >>> from bregma.nn import LIF, SpikingSequential
        >>> net = SpikingSequential(nn.Linear(4, 3, bias=False), LIF())
        >>> with torch.no_grad():
        ...     _ = net[0].weight.copy_(torch.tensor([[1.0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]]))
        >>> operations(net, torch.tensor([[[1.0, 1.0, 0.0, 1.0]]]))
        Operations(accumulates=5.0, multiply_accumulates=0.0, dense=12.0)
    """
    totals = {"accumulates": 0.0, "multiply_accumulates": 0.0, "dense": 0.0}

    def add(inputs: Tensor, effective: float, dense: float) -> None:
        binary = bool(((inputs == 0) | (inputs.abs() == 1)).all())
        totals["accumulates" if binary else "multiply_accumulates"] += effective
        totals["dense"] += dense

    def connecting(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        add(inputs[0], *_of_layer(module, inputs[0]))

    def recurrent(module: nn.Module, inputs: Any, outputs: tuple[Tensor, Tensor]) -> None:
        add(outputs[0], *_of_loop(module, outputs[0]))

    with evaluating(net), ExitStack() as hooks:
        for module in net.modules():
            if connects(module):
                hooks.enter_context(module.register_forward_pre_hook(connecting))
            elif isinstance(module, RecurrentLIF):
                hooks.enter_context(module.register_forward_hook(recurrent))
        net(x)
    return Operations(**{name: total / x.shape[1] for name, total in totals.items()})


def activation_sparsity(net: nn.Module, x: Tensor) -> float:
    """Return the share of neurons and time steps without a spike at inference, over all spiking layers together.

    Args:
        net: a network of layers of this package.
        x: frames (T, B, ...).

    Example:
        >>> from bregma.nn import LIF, SpikingSequential
        >>> activation_sparsity(SpikingSequential(LIF(decay=0.0)), torch.tensor([[[2.0, 0.0, 0.5, 0.5]]]))
        0.75
    """
    with evaluating(net), Record(net) as record:
        net(x)
    return 1 - record.firing_rate()


def connection_sparsity(net: nn.Module) -> float:
    """Return the share of connections whose weight is zero, ``1 - density``.

    Example:
        >>> connection_sparsity(nn.Linear(4, 2))
        0.0
    """
    return 1 - density(net)


def footprint(net: nn.Module) -> int:
    """Return the bytes of all parameters and buffers, zeros included, each shared one counted once.

    Example:
        >>> footprint(nn.Linear(4, 2))
        40
    """
    return sum(t.numel() * t.element_size() for t in (*net.parameters(), *net.buffers()))


def sparse_footprint(net: nn.Module) -> int:
    """Return the bytes of all parameters and buffers if zeros of matrices are not stored where that saves bytes.

    A tensor of two or more dimensions is a matrix of its first by all others. It is counted in the smaller of its dense
    form and compressed sparse rows: a value and a column for each entry that is not zero, and a pointer per row and
    one; columns and pointers in the smallest of 1, 2, 4 or 8 bytes that hold them.

    Example:
        >>> layer = nn.Linear(4, 2, bias=False)
        >>> with torch.no_grad():
        ...     _ = layer.weight.copy_(torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, -2.0, 0.0]]))
        >>> footprint(layer), sparse_footprint(layer)
        (32, 13)
    """
    return sum(_smallest(t) for t in (*net.parameters(), *net.buffers()))


def _smallest(tensor: Tensor) -> int:
    dense = tensor.numel() * tensor.element_size()
    if tensor.dim() < 2:
        return dense
    rows, columns = tensor.shape[0], tensor.shape[1:].numel()
    entries = int(torch.count_nonzero(tensor))
    compressed = entries * (tensor.element_size() + _width(columns - 1)) + (rows + 1) * _width(entries)
    return min(dense, compressed)


def _width(largest: int) -> int:
    """Bytes of the smallest unsigned integer that holds a number."""
    return next(width for width in (1, 2, 4, 8) if largest < 256**width)


def _of_layer(layer: nn.Module, x: Tensor) -> tuple[float, float]:
    """Effective and dense operations of a dense layer or convolution on its input."""
    if isinstance(layer, nn.Linear):
        fan_out = (layer.weight != 0).sum(0)
        events = (x != 0).flatten(0, -2).sum(0)
        return float((events * fan_out).sum()), float(x.numel() * layer.out_features)
    assert isinstance(layer, _ConvNd)
    forward: Any = layer._conv_forward
    effective = forward((x != 0).double(), (layer.weight != 0).double(), None)
    dense = forward(torch.ones_like(x[:1]).double(), torch.ones_like(layer.weight).double(), None)
    return float(effective.sum()), float(dense.sum()) * len(x)


def _of_loop(layer: nn.Module, spikes: Tensor) -> tuple[float, float]:
    """Effective and dense operations of a recurrent layer that fired ``spikes`` (T, B, n), from rest."""
    assert isinstance(layer, RecurrentLIF)
    steps, batch, n = spikes.shape
    fan_out = (layer.recurrent.weight != 0).sum(0)
    heard = torch.ones(1, n, dtype=torch.bool)
    if isinstance(layer, DelayedRecurrentLIF):
        delays, spread = layer.delays, layer.neuron_spread()
        heard = delay_kernel(delays, spread, slots_needed(delays, spread)) > 0
    arrivals = torch.zeros(n, dtype=torch.float64)
    for later, active in enumerate(heard[: steps - 1], start=1):
        arrivals += active * spikes[: steps - later].double().sum((0, 1))
    return float((arrivals * fan_out).sum()), float(steps * batch * n * n)
