"""What a network of this package consists of: dense layers and the neurons they drive, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from bregma.nn.delrec import DelRec
from bregma.nn.layers import LIF, Readout
from bregma.nn.models import SpikingMLP
from bregma.nn.recompute import Recompute

Score = Literal["mean", "last", "softmax"]


@dataclass(frozen=True)
class Stage:
    """A hidden layer: the neurons receive ``norm(linear(x))``.

    Attributes:
        linear: weights from the layer before, or from the input.
        norm: normalisation of the current, or None.
        neurons: the spiking neurons, recurrent or not.
        dropout: share of the current or of the spikes that is dropped while training.
    """

    linear: nn.Linear
    norm: nn.BatchNorm1d | None
    neurons: LIF
    dropout: float = 0.0


@dataclass(frozen=True)
class Chain:
    """A network from input to scores.

    Attributes:
        hidden: the hidden layers, in order.
        readout: dense layer from the last hidden layer to the classes.
        integrators: of the readout's current.
        score: what becomes of the readout over time: its ``"mean"``, its ``"last"`` value, or the sum of its
            ``"softmax"``.
    """

    hidden: tuple[Stage, ...]
    readout: nn.Linear
    integrators: Readout
    score: Score

    def links(self) -> Iterator[tuple[Stage, nn.Linear]]:
        """Each hidden layer with the dense layer that hears it."""
        heard_by = [*(stage.linear for stage in self.hidden[1:]), self.readout]
        return zip(self.hidden, heard_by, strict=True)


def chain(net: nn.Module) -> Chain:
    """Take a network apart; the modules are those of ``net``, not copies.

    Args:
        net: a `SpikingMLP` or a `DelRec`.

    Raises:
        TypeError: another module.

    Example:
        >>> parts = chain(SpikingMLP(12, hidden=(8, 6), classes=3))
        >>> [stage.linear.out_features for stage in parts.hidden], parts.score
        ([8, 6], 'mean')
    """
    if isinstance(net, SpikingMLP):
        layers: list[Any] = [layer.layer if isinstance(layer, Recompute) else layer for layer in net.hidden]
        stages = tuple(Stage(layer.linear, None, layer.neurons) for layer in layers)
        return Chain(stages, net.readout.linear, net.readout.integrators, net.score)
    if isinstance(net, DelRec):
        layers = list(net.hidden)
        stages = tuple(Stage(layer.linear, layer.norm, layer.neurons, layer.dropout) for layer in layers)
        return Chain(stages, net.readout, net.integrators, "softmax" if net.architecture.leaky_readout else "last")
    raise TypeError(f"net must be a SpikingMLP or a DelRec, got {type(net).__name__}")
