"""From what a user calls it to a structure: ``"weights"``, ``"neurons"``, ``"n:m"`` or populations."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import Tensor, nn

from bregma.nn.populations import Population, populations
from bregma.optim import checks
from bregma.optim.neurons import Neurons
from bregma.optim.structure import Blocks, Structure, Weights


def build(
    structure: str | Sequence[Population],
    weights: list[Tensor],
    net: nn.Module | None,
    *,
    density: float,
    allocation: str,
    neuron_floor: int,
    layer_floor: float,
) -> Structure:
    """Return the structure that is called or made of ``structure``."""
    if structure == "weights":
        return Weights(weights, allocation, neuron_floor, layer_floor)
    if neuron_floor:
        raise ValueError(f"neuron_floor must be 0 unless structure is 'weights', got {neuron_floor}")
    if isinstance(structure, str) and (match := re.fullmatch(r"(\d+):(\d+)", structure)):
        n, m = int(match[1]), int(match[2])
        checks.count("n of structure 'n:m'", n, low=1)
        checks.count("m of structure 'n:m'", m, low=n)
        if allocation != "global" or layer_floor:
            raise ValueError(f"allocation must be global and layer_floor 0 for structure {structure!r}")
        if density > n / m:
            raise ValueError(f"density must be <= {n}/{m} = {n / m:g} for structure {structure!r}, got {density}")
        return Blocks(weights, n, m)
    if structure == "neurons":
        if net is None:
            raise ValueError("net must be given for structure 'neurons': an optimizer does not know what is connected")
        structure = populations(net)
    if isinstance(structure, str):
        raise ValueError(f"structure must be weights, neurons, n:m as in 2:4, or populations, got {structure!r}")
    known = isinstance(structure, Sequence) and all(isinstance(group, Population) for group in structure)
    if not known:
        raise TypeError("structure must be a name or a sequence of bregma.nn.Population")
    return Neurons(weights, structure, allocation, layer_floor)
