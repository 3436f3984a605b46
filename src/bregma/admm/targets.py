r"""Where the membranes of a hidden layer should go: three rules for the minimisation over z at a feasible point.

There all residuals are zero, ``g`` is what switching a spike on would lower the loss by, to first order, and the
z-subproblem of the Lagrangian is, entry by entry,

    min_z  -g H(z - threshold) + c / 2 * (z - z_k)^2 .

Its solution is Algorithm 1 of arXiv 2505.05527 with a linearised a-step: move just beyond the threshold if that is the
side that g asks for and ``u = |g| / d^2 > c / 2`` with d the way there, else stay. The paper compares with its own
``sigma (2 a - 1)``, so that from a feasible point no entry ever moves; here the share of entries that may move is
given, which does not depend on the size of g, and c follows.

Taken literally the rule is one-sided: it moves entries that are on the wrong side of the threshold and leaves those on
the right side, and as membranes are denser on one side than on the other, the moves of a neuron have a mean that its
gains do not have. Over many layers that moves firing rates away (`experiments/admm_rules.py`, six layers: dithered from
15 % down to 2 %, flips, which are as many up as down, up to 35 %). So by default the rules are *mirrored*: an entry on
the right side moves as far away from the threshold as its mirror image on the wrong side would move towards it and
beyond, ``d = sign(g) (|z - threshold| + margin)`` for all entries.

* `Flips` is that rule, with as many entries moved up as down.
* `Dithered` is its mean over c uniform in (0, c_max): ``d min(1, u / u_max)``, graded and as free of derivatives.
* `Window` is the first-order solution where H is averaged over a random threshold: ``g phi(z - threshold)`` with a
  smooth phi, here that of SuperSpike, ``1 / (1 + |x| / width)^2``. So it *is* a surrogate derivative by another name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from bregma.admm import kernels_consistent as kernels
from bregma.dynamics.kernels import Array

#: Keeps ``|g| / d^2`` finite at the threshold.
SOFTEN = 1e-3
_SAMPLED = 40_000  # entries a quantile is taken from

RuleName = Literal["window", "dithered", "flips"]
Cuts = tuple[float, float]


@runtime_checkable
class Rule(Protocol):
    """How membranes move."""

    @property
    def sampled(self) -> bool:
        """Whether the rule needs `cuts` of a sample."""

    def cuts(self, g: Tensor, z: Tensor, threshold: float) -> Cuts:
        """The thresholds of u for entries that should rise and fall, from a flat sample of entries."""

    def displacement(self, g: Tensor, z: Tensor, threshold: float, cuts: Cuts) -> Tensor:
        """Where z (T, B, n) should move, times a constant; g is of the same shape."""

    def fused(self, g: Array, kappa: Array, z: Array, threshold: float, decay: float, cuts: Cuts, out: Array) -> Any:
        """A function of (first, last) that writes ``F^T`` of the displacement of ``kappa g`` to ``out``."""


@dataclass(frozen=True)
class Window:
    """``g / (1 + |z - threshold| / width)^2``, the derivative of `bregma.dynamics.FastSigmoid` with slope 1 / width.

    Args:
        width: > 0.

    Example:
        >>> Window(0.5).displacement(torch.tensor([1.0, 1.0]), torch.tensor([1.0, 1.5]), 1.0, (0.0, 0.0))
        tensor([1.0000, 0.2500])
    """

    width: float = 0.5
    sampled = False

    def __post_init__(self) -> None:
        _require("width", self.width, 0 < self.width < float("inf"), "> 0 and finite")

    def cuts(self, g: Tensor, z: Tensor, threshold: float) -> Cuts:
        """None are needed."""
        return 0.0, 0.0

    def displacement(self, g: Tensor, z: Tensor, threshold: float, cuts: Cuts) -> Tensor:
        """See the class."""
        return g / (1 + (z - threshold).abs() / self.width).square()

    def fused(self, g: Array, kappa: Array, z: Array, threshold: float, decay: float, cuts: Cuts, out: Array) -> Any:
        """See `Rule`."""
        return lambda first, last: kernels.reverse_window(g, kappa, z, threshold, self.width, decay, out, first, last)


@dataclass(frozen=True)
class Dithered:
    """``d min(1, u / c)``; d is the way to the threshold and a margin beyond, or its mirror image, or 0.

    Mirrored and below the cut that is ``g / (c (|z - threshold| + margin))``: a window with a long tail.

    Args:
        margin: how far beyond the threshold, >= 0.
        share: of the entries have ``u > c``, in (0, 1).
        mirrored: entries that are on the right side move away from the threshold.

    Example:
        >>> rule = Dithered(margin=0.0, mirrored=False)
        >>> rule.displacement(torch.tensor([1.0, -1.0]), torch.tensor([0.5, 0.5]), 1.0, (8.0, 8.0)).round(decimals=2)
        tensor([0.2500, 0.0000])
    """

    margin: float = 0.5
    share: float = 0.01
    mirrored: bool = True
    sampled = True

    def __post_init__(self) -> None:
        _require_displaced(self.margin, self.share)

    def way(self, g: Tensor, z: Tensor, threshold: float) -> Tensor:
        """D."""
        return _way(g, z, threshold, self.margin, self.mirrored)

    def cuts(self, g: Tensor, z: Tensor, threshold: float) -> Cuts:
        """The quantile of u over all entries, twice."""
        u = _urge(g, self.way(g, z, threshold))
        cut = _quantile(u, self.share)
        return cut, cut

    def displacement(self, g: Tensor, z: Tensor, threshold: float, cuts: Cuts) -> Tensor:
        """See the class."""
        d = self.way(g, z, threshold)
        return torch.where(_pays(g, d), d, 0) * (_urge(g, d) / cuts[0]).clamp(max=1)

    def fused(self, g: Array, kappa: Array, z: Array, threshold: float, decay: float, cuts: Cuts, out: Array) -> Any:
        """See `Rule`."""
        return lambda first, last: kernels.reverse_displaced(
            g, kappa, z, threshold, self.margin, SOFTEN, *cuts, True, self.mirrored, decay, out, first, last
        )


@dataclass(frozen=True)
class Flips:
    """``d [u > c]``, with a c of its own for entries that should rise and for those that should fall.

    Args:
        margin: how far beyond the threshold, >= 0.
        share: of the entries move, one half of them up, in (0, 1).
        mirrored: entries that are on the right side move away from the threshold.

    Example:
        >>> rule = Flips(margin=0.5)
        >>> rule.displacement(torch.tensor([1.0, 1.0, 1.0]), torch.tensor([0.5, 1.5, -9.0]), 1.0, (0.1, 0.1))
        tensor([1., 1., 0.])
    """

    margin: float = 0.5
    share: float = 0.05
    mirrored: bool = True
    sampled = True

    def __post_init__(self) -> None:
        _require_displaced(self.margin, self.share)

    def way(self, g: Tensor, z: Tensor, threshold: float) -> Tensor:
        """D."""
        return _way(g, z, threshold, self.margin, self.mirrored)

    def cuts(self, g: Tensor, z: Tensor, threshold: float) -> Cuts:
        """Quantiles of u, one over entries that should rise and one over those that should fall."""
        u = _urge(g, self.way(g, z, threshold))
        return _quantile(u * (g > 0), self.share / 2), _quantile(u * (g < 0), self.share / 2)

    def displacement(self, g: Tensor, z: Tensor, threshold: float, cuts: Cuts) -> Tensor:
        """See the class."""
        d = self.way(g, z, threshold)
        u = _urge(g, d)
        return torch.where(_pays(g, d) & torch.where(g > 0, u > cuts[0], u > cuts[1]), d, 0)

    def fused(self, g: Array, kappa: Array, z: Array, threshold: float, decay: float, cuts: Cuts, out: Array) -> Any:
        """See `Rule`."""
        return lambda first, last: kernels.reverse_displaced(
            g, kappa, z, threshold, self.margin, SOFTEN, *cuts, False, self.mirrored, decay, out, first, last
        )


RULES: dict[str, type[Rule]] = {"window": Window, "dithered": Dithered, "flips": Flips}


def sample(size: int, generator: torch.Generator) -> Tensor:
    """Positions of entries to take quantiles from, at most 40,000."""
    return torch.randint(size, (min(size, _SAMPLED),), generator=generator)


def _way(g: Tensor, z: Tensor, threshold: float, margin: float, mirrored: bool) -> Tensor:
    """From z to just beyond the threshold, on the side that g asks for; mirrored, never back."""
    if mirrored:
        return g.sign() * ((z - threshold).abs() + margin)
    return threshold + margin * g.sign() - z


def _pays(g: Tensor, d: Tensor) -> Tensor:
    return g * d > 0


def _urge(g: Tensor, d: Tensor) -> Tensor:
    """``u = |g| / d^2`` for entries that are not yet where g asks them to be, else 0."""
    return torch.where(_pays(g, d), g.abs() / (d.square() + SOFTEN), 0)


def _quantile(u: Tensor, share: float) -> float:
    """What the largest ``share`` of u exceeds, and the others do not; positive."""
    keep = min(max(1, round(share * u.numel())), u.numel() - 1)
    above, below = u.flatten().topk(keep + 1).values[-2:].tolist() if keep else (float(u), 0.0)
    cut: float = (above + below) / 2
    return cut if cut > 0 else torch.finfo(u.dtype).tiny


def _require(name: str, value: float, holds: bool, allowed: str) -> None:
    if not holds:
        raise ValueError(f"{name} must be {allowed}, got {value}")


def _require_displaced(margin: float, share: float) -> None:
    _require("margin", margin, 0 <= margin < float("inf"), ">= 0 and finite")
    _require("share", share, 0 < share < 1, "in (0, 1)")
