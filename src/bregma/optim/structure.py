"""What stays or goes as a whole, and how a density is shared out over it: single weights, also n of m."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from bregma.prox import maps, structures, thresholds

_REMEMBERED = 4  # in each step the dual, the mask, the thresholds and a scratch are cut into their pieces

#: Mask, flat, the highest lam, and what `Structure.shrink` takes, flat.
Threshold = tuple[Tensor, float, Tensor]


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
        self._sizes = [w.numel() for w in weights]
        self._cut: list[tuple[Tensor, list[Tensor]]] = []

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
        """Return the pieces of a flat tensor in the shapes of the weights; those of the last few tensors are kept."""
        found = next((entry for entry in self._cut if entry[0] is flat), None)
        if found is None:
            flats = flat.split_with_sizes(self._sizes)
            found = flat, [piece.view(w.shape) for piece, w in zip(flats, self.weights, strict=True)]
        self._cut = [found, *(entry for entry in self._cut if entry is not found)][:_REMEMBERED]
        return found[1]

    def forget(self) -> None:
        """Let go of the tensors whose pieces are kept."""
        self._cut.clear()


class Weights(Structure):
    """Single weights, allocated globally or per tensor, with floors per tensor and per neuron."""

    def __init__(self, weights: list[Tensor], allocation: str, neuron_floor: int, layer_floor: float) -> None:
        super().__init__(weights)
        self.units = sum(w.numel() for w in weights)
        self.allocation = allocation
        self.neuron_floor = neuron_floor
        self.layer_floors = [thresholds.floor_count(w.numel(), layer_floor) for w in weights]
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
        """Return mask, highest lam and the thresholds ``lam / omega``, infinite for the weights that go."""
        mask, lams = self._choose(score, keep)
        for part, kept, lam in zip(self.views(omega), self.views(mask), lams, strict=True):
            maps.cuts_(part, kept, lam)
        return mask, max(float(lam.max()) for lam in lams), omega

    def shrink(self, dual: Tensor, cut: Tensor, prox: str, out: Tensor) -> Tensor:
        """Return the proximal map of every weight for itself."""
        return maps.PROXES[prox](dual, cut, out)

    def _choose(self, score: Tensor, keep: int) -> tuple[Tensor, list[Tensor]]:
        """Return the mask, and lam of each tensor: one number, or with floors one per output."""
        pinned = self._pinned(score)
        ranked = score if pinned is None else ranked_first(score, pinned, keep)
        if self.allocation == "global":
            mask, lam = thresholds.top_mask(ranked, keep)
            lams = [lam] * len(self.weights)
        else:
            mask, own = thresholds.top_masks(ranked, self._counts(ranked, keep), self._sizes)
            lams = list(own)
        if pinned is not None:
            rows = zip(self.views(score), self.views(mask), lams, strict=True)
            lams = [self._lams(q, kept, lam) for q, kept, lam in rows]
        return mask, lams

    def _counts(self, ranked: Tensor, keep: int) -> list[int]:
        """Return how many weights of each tensor stay."""
        shapes = [w.shape for w in self.weights]
        if self.allocation != "global+erk":
            return thresholds.allocate(shapes, keep, self.allocation, self.floors)
        chosen = thresholds.best_counts(ranked, keep, self._sizes)
        erk = thresholds.allocate(shapes, keep, "erk", self.floors)
        return thresholds.halfway(chosen, erk, self._sizes)

    def _pinned(self, score: Tensor) -> Tensor | None:
        """What the floors hold, flat; None without floors."""
        if not self.fewest:
            return None
        parts = zip(self.views(score), self.layer_floors, strict=True)
        return torch.cat([structures.floor_mask(q, self.neuron_floor, floor).flatten() for q, floor in parts])

    def _lams(self, score: Tensor, mask: Tensor, lam: Tensor) -> Tensor:
        return structures.row_lams(score, mask, lam)


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


def ranked_first(score: Tensor, pinned: Tensor, keep: int) -> Tensor:
    """Return scores by which what is pinned is marked first; if there is more of it than ``keep``, only of it."""
    if keep < int(torch.count_nonzero(pinned)):
        return torch.where(pinned, score, -1.0)
    return torch.maximum(score, pinned.to(score.dtype) * torch.finfo(score.dtype).max)
