"""Which slices of which parameters belong to one neuron: what must go for the neuron to be gone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from bregma.nn.delayed import DelayedRecurrentLIF
from bregma.nn.delrec import DelRec, _HiddenLayer
from bregma.nn.models import ReadoutLayer, SpikingLayer, SpikingMLP
from bregma.nn.recompute import Recompute

# Modules whose children run one after the other, in the order in which they are registered.
_CHAINS = (nn.Sequential, nn.ModuleList, SpikingMLP, SpikingLayer, ReadoutLayer, Recompute, DelRec, _HiddenLayer)
_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


@dataclass(frozen=True)
class Part:
    """A parameter that belongs to the neurons of a population: entry k along ``dim`` to neuron ``k // block``.

    ``block`` is above one where a channel reaches a dense layer as several inputs.
    """

    parameter: Tensor
    dim: int = 0
    block: int = 1


@dataclass(frozen=True)
class Population:
    """Neurons, or channels of a convolution, that can be removed one by one.

    Args:
        name: of the layer.
        size: number of neurons.
        parts: what belongs to them: incoming rows, outgoing columns, both of a recurrent matrix, biases, delays.

    Raises:
        ValueError: a parameter that does not have ``size * block`` entries along its dimension.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> hidden = Population("hidden", 8, (Part(net[0].weight), Part(net[0].bias), Part(net[2].weight, dim=1)))
    """

    name: str
    size: int
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        for part in self.parts:
            shape = tuple(part.parameter.shape)
            if part.dim >= len(shape) or shape[part.dim] != self.size * part.block:
                raise ValueError(
                    f"parts of population {self.name!r} must have {self.size} * {part.block} entries along "
                    f"dimension {part.dim}, got shape {shape}"
                )


def populations(net: nn.Module) -> list[Population]:
    """Read a network into its populations of hidden neurons; inputs and outputs are none.

    A hidden neuron has its row in the weights that drive it, its row and column in a recurrent matrix, its column in
    the weights it drives, its bias, what a normalisation holds for it, and its delay.

    Args:
        net: a `SpikingMLP`, a `DelRec`, or an ``nn.Sequential`` of dense layers, convolutions, neurons, norms, pooling
            and other modules that keep neurons or channels apart.

    Raises:
        TypeError: ``net`` is not a module.
        ValueError: a module of another kind, whose wiring cannot be seen, or a convolution in groups.

    Example:
        >>> [(p.name, p.size, len(p.parts)) for p in populations(SpikingMLP(12, hidden=(8, 6), classes=3))]
        [('hidden.0.linear', 8, 3), ('hidden.1.linear', 6, 3)]
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a torch.nn.Module, got {type(net).__name__}")
    layers: list[tuple[str, int, list[Part]]] = []
    for name, module in _chain("", net):
        if isinstance(module, (nn.Linear, _ConvNd)):
            _check_plain(name, module)
            if layers:
                layers[-1][2].append(_column(name, module.weight, layers[-1][1]))
            parts = [Part(p) for p in (module.weight, module.bias) if p is not None]
            layers.append((name, len(module.weight), parts))
        elif layers:
            layers[-1][2].extend(_own(name, module, layers[-1][1]))
    return [Population(name, size, tuple(parts)) for name, size, parts in layers[:-1]]


def _chain(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers of a network in the order in which they run."""
    if isinstance(module, _CHAINS):
        for child_name, child in module._modules.items():  # named_children leaves out what runs a second time
            if child is not None:
                yield from _chain(f"{name}.{child_name}" if name else child_name, child)
    elif _recurrent(module) is not None or not any(module.children()):
        yield name, module
    else:
        raise ValueError(
            f"net must be a SpikingMLP, a DelRec or a Sequential; what is connected to what in {name or 'net'!r} "
            f"({type(module).__name__}) cannot be seen, so name its neurons by bregma.nn.Population"
        )


def _recurrent(module: nn.Module) -> nn.Linear | None:
    """Return the weights among the neurons of a layer, as `RecurrentLIF` and snnTorch's ``RLeaky`` have them."""
    recurrent = getattr(module, "recurrent", None)
    return recurrent if isinstance(recurrent, nn.Linear) else None


def _check_plain(name: str, module: nn.Linear | _ConvNd) -> None:
    if isinstance(module, _ConvNd) and (module.groups != 1 or module.transposed):
        raise ValueError(f"net must have no transposed convolution and none in groups, got {name!r}")


def _column(name: str, weight: Tensor, size: int) -> Part:
    inputs = weight.shape[1]
    if inputs % size:
        raise ValueError(f"net has {inputs} inputs at {name!r}, no multiple of the {size} neurons before it")
    return Part(weight, 1, inputs // size)


def _own(name: str, module: nn.Module, size: int) -> list[Part]:
    """Return what a module that follows a population holds for each of its neurons."""
    recurrent = _recurrent(module)
    if recurrent is not None:
        parts = [Part(recurrent.weight, 0), Part(recurrent.weight, 1)]
        parts += [Part(recurrent.bias)] if recurrent.bias is not None else []
        return parts + ([Part(module.delays)] if isinstance(module, DelayedRecurrentLIF) else [])
    if any(p.ndim > 1 for p in module.parameters()):
        raise ValueError(f"net must have its weights in Linear and Conv layers, got {name!r} ({type(module).__name__})")
    if isinstance(module, _NORMS):
        return [Part(p) for p in module.parameters() if p.shape == (size,)]
    return []  # time constants and thresholds of neurons that hear nothing do no harm
