"""The shape of a network: neurons, weights and maps of each layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from bregma.admm.convolution import Convolution, Correlation

Hidden = Sequence[int | Convolution]


@dataclass(frozen=True)
class Network:
    """What follows from the hidden layers and the data; made by `build`.

    Args:
        sizes: neurons of each layer, the readout's last.
        shapes: of the weight matrices.
        correlations: for each hidden layer that is a convolution its map, else None.
    """

    sizes: tuple[int, ...]
    shapes: tuple[tuple[int, int], ...]
    correlations: tuple[Correlation | None, ...]

    @classmethod
    def build(cls, hidden: Hidden, inputs: int, classes: int, frame_shape: Sequence[int] | None = None) -> Network:
        """The network of hidden layers, dense ones given by their neurons.

        Args:
            hidden: neurons of a dense layer, or a `Convolution`, for each hidden layer.
            inputs: n_0.
            classes: size of the readout.
            frame_shape: (channels, height, width) of the inputs; needed by convolutions.

        Raises:
            TypeError: see `as_layers`.
            ValueError: no hidden layer, one without neurons, a convolution after a dense layer or without a frame
                shape, or a frame shape that is not that of the inputs.

        Example:
            >>> Network.build((Convolution(4, kernel=3), 20), inputs=2 * 8 * 8, classes=3, frame_shape=(2, 8, 8)).shapes
            ((4, 18), (20, 144), (3, 20))
        """
        hidden = as_layers(hidden, Convolution)
        if not hidden or min(layer for layer in (*hidden, 1) if isinstance(layer, int)) < 1:
            raise ValueError(f"hidden must hold at least one layer of at least one neuron, got {hidden}")
        shape = None if frame_shape is None else tuple(frame_shape)
        if shape is not None and (len(shape) != 3 or shape[0] * shape[1] * shape[2] != inputs):
            raise ValueError(f"frame_shape must be (channels, height, width) of {inputs} inputs, got {shape}")
        sizes: list[int] = []
        shapes: list[tuple[int, int]] = []
        correlations: list[Correlation | None] = []
        for layer in hidden:
            if isinstance(layer, Convolution):
                if shape is None:
                    raise ValueError("hidden: a convolution needs frame_shape, and no dense layer before it")
                correlation = layer.on(shape)
                shape = correlation.out_shape
                correlations.append(correlation)
                shapes.append(correlation.weight_shape)
                sizes.append(correlation.neurons)
            else:
                shape = None
                correlations.append(None)
                shapes.append((layer, sizes[-1] if sizes else inputs))
                sizes.append(layer)
        return cls((*sizes, classes), (*shapes, (classes, sizes[-1])), tuple(correlations))


def as_layers(hidden: Any, *others: type) -> tuple[Any, ...]:
    """Hidden layers, dense ones given by Python integers.

    Args:
        hidden: a sequence of integers of any library and other layers.
        others: classes of layers that are allowed besides numbers.

    Raises:
        TypeError: no sequence, or something else in it.

    Example:
        >>> as_layers([8, Convolution(4, kernel=3)], Convolution)[0]
        8
    """
    try:
        layers = tuple(hidden)
    except TypeError:
        raise TypeError(f"hidden must be a sequence of layers, such as ({hidden},), got {hidden!r}") from None
    for layer in layers:
        if isinstance(layer, bool) or not isinstance(layer, (Integral, *others)):
            names = ", ".join(["numbers of neurons", *(f"{kind.__name__} objects" for kind in others)])
            raise TypeError(f"hidden must hold {names}, got {layer!r}")
    return tuple(int(layer) if isinstance(layer, Integral) else layer for layer in layers)
