"""How much work a network does: synaptic operations, spike by spike."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bregma.nn import Record, RecurrentLIF
from bregma.nn.chain import chain


@torch.no_grad()
def synaptic_operations(net: nn.Module, x: Tensor) -> dict[str, float]:
    """Return the synaptic operations per sample of each weight tensor: spikes times connections that they reach.

    What neuromorphic hardware does, and what energy is counted in. Every non-zero input value counts as one spike.

    Args:
        net: a `SpikingMLP` or a `DelRec`.
        x: frames (T, B, ...).

    Returns:
        Full name of the weight -> operations, the mean over the samples.

    Raises:
        TypeError: another network.

    Example:
        >>> from bregma.nn import SpikingMLP
        >>> synaptic_operations(SpikingMLP(4, hidden=(8,), classes=2), torch.ones(5, 3, 4))["hidden.0.linear.weight"]
        160.0
    """
    parts = chain(net)
    names = {id(p): name for name, p in net.named_parameters()}
    with Record(net) as record:
        net(x)
    found = {}
    spikes = x.flatten(2)
    for stage, fired in zip(parts.hidden, record.spikes.values(), strict=True):
        found[names[id(stage.linear.weight)]] = _count(spikes, stage.linear.weight)
        if isinstance(stage.neurons, RecurrentLIF):
            found[names[id(stage.neurons.recurrent.weight)]] = _count(fired, stage.neurons.recurrent.weight)
        spikes = fired
    found[names[id(parts.readout.weight)]] = _count(spikes, parts.readout.weight)
    return found


def _count(spikes: Tensor, weight: Tensor) -> float:
    per_neuron = spikes.count_nonzero((0, 1)).double() / spikes.shape[1]
    return float(per_neuron @ weight.count_nonzero(0).double())
