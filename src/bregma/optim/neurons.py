"""Whole neurons, or channels, that stay or go with all their weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bregma.nn.populations import Part, Population
from bregma.optim.structure import Structure, Threshold, ranked_first
from bregma.prox import structures, thresholds


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
        _check_apart(groups)
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
        self.floors = [max(1, thresholds.floor_count(size, floor)) for size in self.sizes]
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
        """Return mask, highest lam and the factor of every weight."""
        norms = self.norms(score)
        alive, lam = self._select(norms, keep)
        alive_ones = alive.to(score.dtype)
        factors = structures.group_factors(norms, lam, prox).mul_(alive_ones)
        return self._spread(alive_ones) > 0, float(lam.max()), self._spread(factors)

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
            alive, lam = thresholds.top_mask(ranked_first(norms, pinned, keep), keep)
            lams = [lam] * len(pieces)
        else:
            counts = thresholds.allocate([(size,) for size in self.sizes], keep, "uniform", self.floors)
            parts = [thresholds.top_mask(q, count) for q, count in zip(pieces, counts, strict=True)]
            alive, lams = torch.cat([part for part, _ in parts]), [lam for _, lam in parts]
        rows = zip(pieces, alive.split(self.sizes), lams, strict=True)
        own = [structures.row_lams(q.view(1, -1), m.view(1, -1), lam).expand(1, len(q))[0] for q, m, lam in rows]
        return alive, torch.cat(own)

    def _spread(self, values: Tensor) -> Tensor:
        """Return for each weight the product of the values of the neurons it belongs to, flat."""
        out = values.new_ones(sum(w.numel() for w in self.weights))
        views = self.views(out)
        for value, parts in zip(values.split(self.sizes), self.scored, strict=True):
            for i, part in parts:
                views[i].mul_(_along(value, part, views[i]))
        return out


def _check_apart(groups: Sequence[Population]) -> None:
    """Raise if two neurons have the same entries: a weight of both goes with either, and the counts would not hold."""
    owners: dict[tuple[int, int], int] = {}
    for k, group in enumerate(groups):
        for part in group.parts:
            first = owners.setdefault((id(part.parameter), part.dim), k)
            if first != k:
                where = f"dimension {part.dim} of a parameter of shape {tuple(part.parameter.shape)}"
                both = f"{groups[first].name!r} and {group.name!r}"
                raise ValueError(f"structure must give each neuron entries of its own, got {where} in {both}")


def _per_neuron(values: Tensor, part: Part) -> Tensor:
    """Sum over all that one neuron has of a tensor."""
    return values.movedim(part.dim, 0).reshape(-1, part.block * (values.numel() // values.shape[part.dim])).sum(1)


def _along(values: Tensor, part: Part, like: Tensor) -> Tensor:
    """Return one value per neuron in a shape that multiplies a tensor it has a part of."""
    shape = [1] * like.ndim
    shape[part.dim] = -1
    return values.repeat_interleave(part.block).view(shape)
