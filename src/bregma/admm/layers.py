"""What a hidden layer of the consistent solver can be besides a number of neurons or a `Convolution`."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bregma.admm.checks import whole
from bregma.admm.convolution import Convolution
from bregma.admm.network import Network, as_layers
from bregma.admm.synapses import Convolved, Dense, Shifted, Synapses


@dataclass(frozen=True)
class Recurrent:
    """A dense layer whose neurons also hear the spikes of their own layer.

    Args:
        neurons: n, >= 1.
        delays: in steps, of the layer's own spikes, each with weights of its own; different, >= 1.
        feedback: what the gain of a spike through its own layer counts, in [0, 1]. It is the rho / sigma of the spikes'
            minimisation: at 1 the backward recursion grows without bound over long sequences, and training fails.

    Example:
        >>> Recurrent(64, delays=(1, 5)).delays
        (1, 5)
    """

    neurons: int
    delays: tuple[int, ...] = (1,)
    feedback: float = 0.3

    def __post_init__(self) -> None:
        _normalise(self, least=1)
        if not 0 <= self.feedback <= 1:
            raise ValueError(f"feedback must be in [0, 1], got {self.feedback}")


@dataclass(frozen=True)
class Delayed:
    """A dense layer that hears the layer below at several delays, each with weights of its own.

    Args:
        neurons: n, >= 1.
        delays: in steps; different, >= 0.

    Example:
        >>> Delayed(64, delays=(0, 4, 8)).neurons
        64
    """

    neurons: int
    delays: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        _normalise(self, least=0)


Layer = int | Convolution | Recurrent | Delayed


def build(hidden: Sequence[Layer], inputs: int, frame_shape: Sequence[int] | None = None) -> list[Synapses]:
    """The synapses of each hidden layer.

    Args:
        hidden: layers, the first one nearest to the data.
        inputs: n_0.
        frame_shape: (channels, height, width) of the inputs; needed by convolutions.

    Raises:
        TypeError: see `as_hidden`.
        ValueError: see `Network.build`.

    Example:
        >>> [layer.shape for layer in build([20, Recurrent(10)], inputs=30)]
        [(20, 30), (10, 30)]
    """
    hidden = as_hidden(hidden)
    plain = [layer.neurons if isinstance(layer, Recurrent | Delayed) else layer for layer in hidden]
    network = Network.build(plain, inputs, 1, frame_shape)
    synapses: list[Synapses] = []
    for layer, correlation, heard in zip(hidden, network.correlations, (inputs, *network.sizes), strict=False):
        match layer:
            case Recurrent(neurons, delays, feedback):
                synapses.append(Shifted(neurons, heard, (0,), delays, feedback))
            case Delayed(neurons, delays):
                synapses.append(Shifted(neurons, heard, delays))
            case int():
                synapses.append(Dense(layer, heard))
            case _:
                assert correlation is not None
                synapses.append(Convolved(correlation))
    return synapses


def as_hidden(hidden: Any) -> tuple[Layer, ...]:
    """Hidden layers of every kind, dense ones given by Python integers.

    Raises:
        TypeError: no sequence, or something else in it.
    """
    return as_layers(hidden, Convolution, Recurrent, Delayed)


def _normalise(layer: Recurrent | Delayed, least: int) -> None:
    """Check neurons and delays, and keep them as Python integers."""
    object.__setattr__(layer, "neurons", whole("neurons", layer.neurons, 1))
    try:
        delays = tuple(int(operator.index(delay)) for delay in layer.delays)
    except TypeError:
        raise TypeError(f"delays must be a sequence of integers, got {layer.delays!r}") from None
    if not delays or min(delays) < least or len(set(delays)) < len(delays):
        raise ValueError(f"delays must be different numbers of steps >= {least}, got {delays}")
    object.__setattr__(layer, "delays", delays)
