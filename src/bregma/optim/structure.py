"""What stays or goes as a whole, single weights or whole neurons, and how a density is shared out over it."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from bregma.nn.populations import Part, Population, populations
from bregma.optim import checks
from bregma.prox import maps, structures, thresholds

#: Mask, lam (of each tensor or unit), and what `Structure.shrink` takes; all flat.
Threshold = tuple[Tensor, Tensor, Tensor]


class Structure(ABC):
    """A threshold rule over the weights of a network, which lie one after the other in flat tensors.

    Attributes:
        units: how many things can stay or go.
        fewest: how many of them the floors hold.
    """

    units: int
    fewest: int
    #: Name of the proximal map that trains best, as far as measured.
    prox: ClassVar[str] = "soft"

    def __init__(self, weights: list[Tensor]) -> None:
        self.weights = weights

    def keep(self, density: float) -> int:
        """Return how many units a density leaves."""
        return thresholds.keep_count(self.units, density)

    @abstractmethod
    def kept(self, mask: Tensor) -> int:
        """Return how many units a mask lets through."""

    @abstractmethod
    def select(self, score: Tensor, keep: int) -> Tensor:
        """Return the flat mask of the weights in the ``keep`` best units."""

    @abstractmethod
    def threshold(self, score: Tensor, omega: Tensor, keep: int, prox: str) -> Threshold:
        """Return mask, lam and what `shrink` needs for ``score = omega * |dual|``; both may be overwritten."""

    @abstractmethod
    def shrink(self, dual: Tensor, cut: Tensor, prox: str, out: Tensor) -> Tensor:
        """Return the proximal map of the dual, in ``out``; what the mask does not mark is 0."""

    def silence_(self, mask: Tensor) -> None:  # noqa: B027  (most have nothing to do)
        """Set what belongs to a unit besides its weights to zero where the unit has gone, in place."""

    def views(self, flat: Tensor) -> list[Tensor]:
        """Return the pieces of a flat tensor in the shapes of the weights."""
        pieces = flat.split([w.numel() for w in self.weights])
        return [piece.view(w.shape) for piece, w in zip(pieces, self.weights, strict=True)]


class Weights(Structure):
    """Single weights, allocated globally or per tensor, with floors per tensor and per neuron."""

    def __init__(self, weights: list[Tensor], allocation: str, neuron_floor: int, layer_floor: float) -> None:
        super().__init__(weights)
        self.units = sum(w.numel() for w in weights)
        self.allocation = allocation
        self.neuron_floor = neuron_floor
        self.layer_floors = [math.ceil(layer_floor * w.numel()) for w in weights]
        self.floors = [
            max(floor, w.shape[0] * min(neuron_floor, w[0].numel()))
            for floor, w in zip(self.layer_floors, weights, strict=True)
        ]
        self.fewest = sum(self.floors)

    def kept(self, mask: Tensor) -> int:
        """Count the marked weights."""
        return int(torch.count_nonzero(mask))

    def select(self, score: Tensor, keep: int) -> Tensor:
        """Return the mask of the ``keep`` weights that stay."""
        return self._choose(score, keep)[0]

    def threshold(self, score: Tensor, omega: Tensor, keep: int, prox: str) -> Threshold:
        """Return mask, lam of each tensor and the thresholds ``lam / omega``, infinite for the weights that go."""
        mask, lams = self._choose(score, keep)
        for part, kept, lam in zip(self.views(omega), self.views(mask), lams, strict=True):
            part.copy_(maps.cuts(part, kept, lam))
        return mask, torch.stack([lam.max() for lam in lams]), omega

    def shrink(self, dual: Tensor, cut: Tensor, prox: str, out: Tensor) -> Tensor:
        """Return the proximal map of every weight for itself."""
        return maps.PROXES[prox](dual, cut, out)

    def _choose(self, score: Tensor, keep: int) -> tuple[Tensor, list[Tensor]]:
        """Return the mask, and lam of each tensor: one number, or with floors one per output."""
        pinned = self._pinned(score)
        ranked = score if pinned is None else _ranked(score, pinned, keep)
        if self.allocation == "global":
            mask, lam = thresholds.top_mask(ranked, keep)
            lams = [lam] * len(self.weights)
        else:
            pieces = zip(self.views(ranked), self._counts(ranked, keep), strict=True)
            parts = [thresholds.top_mask(q.flatten(), count) for q, count in pieces]
            mask, lams = torch.cat([part for part, _ in parts]), [lam for _, lam in parts]
        if pinned is not None:
            rows = zip(self.views(score), self.views(mask), lams, strict=True)
            lams = [self._lams(q, kept, lam) for q, kept, lam in rows]
        return mask, lams

    def _counts(self, ranked: Tensor, keep: int) -> list[int]:
        """Return how many weights of each tensor stay."""
        shapes = [w.shape for w in self.weights]
        if self.allocation != "global+erk":
            return thresholds.allocate(shapes, keep, self.allocation, self.floors)
        anywhere, _ = thresholds.top_mask(ranked, keep)
        chosen = [int(torch.count_nonzero(mask)) for mask in self.views(anywhere)]
        erk = thresholds.allocate(shapes, keep, "erk", self.floors)
        return thresholds.halfway(chosen, erk, [w.numel() for w in self.weights])

    def _pinned(self, score: Tensor) -> Tensor | None:
        """What the floors hold, flat; None without floors."""
        if not self.fewest:
            return None
        parts = zip(self.views(score), self.layer_floors, strict=True)
        return torch.cat([thresholds.floor_mask(q, self.neuron_floor, floor).flatten() for q, floor in parts])

    def _lams(self, score: Tensor, mask: Tensor, lam: Tensor) -> Tensor:
        return thresholds.row_lams(score, mask, lam)


class Blocks(Weights):
    """Single weights, at the end at most n of each m consecutive inputs.

    The best n of each block come first, whatever the scores of the others; these are the last to go. Its threshold is
    the score of the best that goes, often close to that of one that stays, which a soft threshold would all but erase.
    """

    prox = "hard"

    def __init__(self, weights: list[Tensor], n: int, m: int) -> None:
        super().__init__(weights, "global", 0, 0.0)
        self.n, self.m = n, m
        blocks = [structures.block_mask(torch.ones_like(w), n, m) for w in weights]
        self.most = sum(int(torch.count_nonzero(mask)) for mask in blocks)

    def keep(self, density: float) -> int:
        """Return how many weights a density leaves: n / m of them at most where it is the one of the blocks."""
        keep = super().keep(density)
        return min(keep, self.most) if density <= self.n / self.m else keep

    def _pinned(self, score: Tensor) -> Tensor:
        return torch.cat([structures.block_mask(q, self.n, self.m).flatten() for q in self.views(score)])

    def _lams(self, score: Tensor, mask: Tensor, lam: Tensor) -> Tensor:
        return structures.block_lams(score, mask, lam, self.m)


class Neurons(Structure):
    r"""Whole neurons: all weights into and out of one, among the neurons of its layer included.

    The score of a neuron is the root of the mean squared score of its weights; at the end, bias, delay and the like go
    with it.
    """

    prox = "hard"

    def __init__(self, weights: list[Tensor], groups: Sequence[Population], allocation: str, floor: float) -> None:
        super().__init__(weights)
        if not groups:
            raise ValueError("structure must name at least one population of hidden neurons, got none")
        if allocation not in ("global", "uniform"):
            raise ValueError(f"allocation must be global or uniform for whole neurons, got {allocation!r}")
        index = {id(w): i for i, w in enumerate(weights)}
        self.groups = groups
        self.scored = [[(index[id(p.parameter)], p) for p in g.parts if id(p.parameter) in index] for g in groups]
        self.rest = [[p for p in g.parts if id(p.parameter) not in index] for g in groups]
        for group, parts in zip(groups, self.scored, strict=True):
            if not parts:
                raise ValueError(f"structure: no weight of population {group.name!r} is in the optimizer")
        self.sizes = [group.size for group in groups]
        self.units = sum(self.sizes)
        self.allocation = allocation
        self.floors = [max(1, math.ceil(floor * size)) for size in self.sizes]
        self.fewest = sum(self.floors)

    def kept(self, mask: Tensor) -> int:
        """Count the neurons that have a weight left; no layer is empty, so a neuron that stays has one everywhere."""
        return sum(int(torch.count_nonzero(alive)) for alive in self._alive(mask))

    def _alive(self, mask: Tensor) -> list[Tensor]:
        views = self.views(mask)
        return [_per_neuron(views[parts[0][0]].float(), parts[0][1]) > 0 for parts in self.scored]

    def norms(self, score: Tensor) -> Tensor:
        """Return the score of every neuron, (units,)."""
        views = self.views(score)
        roots = []
        for parts in self.scored:
            squares = torch.stack([_per_neuron(views[i].square(), part) for i, part in parts]).sum(0)
            entries = sum(views[i].numel() for i, _ in parts) / len(squares)
            roots.append((squares / entries).sqrt_())
        return torch.cat(roots)

    def select(self, score: Tensor, keep: int) -> Tensor:
        """Return the mask of the weights of the ``keep`` neurons that stay."""
        alive, _ = self._select(self.norms(score), keep)
        return self._spread(alive.to(score.dtype)) > 0

    def threshold(self, score: Tensor, omega: Tensor, keep: int, prox: str) -> Threshold:
        """Return mask, lam and the factor of every weight."""
        norms = self.norms(score)
        alive, lam = self._select(norms, keep)
        alive_ones = alive.to(score.dtype)
        factors = structures.group_factors(norms, lam, prox).mul_(alive_ones)
        return self._spread(alive_ones) > 0, lam, self._spread(factors)

    def shrink(self, dual: Tensor, cut: Tensor, prox: str, out: Tensor) -> Tensor:
        """Return the dual times the factors."""
        return torch.mul(dual, cut, out=out)

    def silence_(self, mask: Tensor) -> None:
        """Set biases, delays and what a normalisation holds of neurons that are gone to zero."""
        for alive, parts in zip(self._alive(mask), self.rest, strict=True):
            for part in parts:
                part.parameter.mul_(_along(alive.to(part.parameter.dtype), part, part.parameter))

    def _select(self, norms: Tensor, keep: int) -> tuple[Tensor, Tensor]:
        pieces = norms.split(self.sizes)
        if self.allocation == "global":
            pinned = torch.cat([thresholds.top_mask(q, floor)[0] for q, floor in zip(pieces, self.floors, strict=True)])
            alive, lam = thresholds.top_mask(_ranked(norms, pinned, keep), keep)
            lams = [lam] * len(pieces)
        else:
            counts = thresholds.allocate([(size,) for size in self.sizes], keep, "uniform", self.floors)
            parts = [thresholds.top_mask(q, count) for q, count in zip(pieces, counts, strict=True)]
            alive, lams = torch.cat([part for part, _ in parts]), [lam for _, lam in parts]
        rows = zip(pieces, alive.split(self.sizes), lams, strict=True)
        own = [thresholds.row_lams(q.view(1, -1), m.view(1, -1), lam).expand(1, len(q))[0] for q, m, lam in rows]
        return alive, torch.cat(own)

    def _spread(self, values: Tensor) -> Tensor:
        """Return for each weight the product of the values of the neurons it belongs to, flat."""
        out = values.new_ones(sum(w.numel() for w in self.weights))
        views = self.views(out)
        for value, parts in zip(values.split(self.sizes), self.scored, strict=True):
            for i, part in parts:
                views[i].mul_(_along(value, part, views[i]))
        return out


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
    if not all(isinstance(group, Population) for group in structure):
        raise TypeError("structure must be a name or a sequence of bregma.nn.Population")
    return Neurons(weights, list(structure), allocation, layer_floor)


def _ranked(score: Tensor, pinned: Tensor, keep: int) -> Tensor:
    """Return scores by which what is pinned is marked first; if there is more of it than ``keep``, only of it."""
    if keep < int(torch.count_nonzero(pinned)):
        return torch.where(pinned, score, -1.0)
    return torch.maximum(score, pinned.to(score.dtype) * torch.finfo(score.dtype).max)


def _per_neuron(values: Tensor, part: Part) -> Tensor:
    """Sum over all that one neuron has of a tensor."""
    return values.movedim(part.dim, 0).reshape(-1, part.block * (values.numel() // values.shape[part.dim])).sum(1)


def _along(values: Tensor, part: Part, like: Tensor) -> Tensor:
    """Return one value per neuron in a shape that multiplies a tensor it has a part of."""
    shape = [1] * like.ndim
    shape[part.dim] = -1
    return values.repeat_interleave(part.block).view(shape)
