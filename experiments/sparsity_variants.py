"""What was tried beside the method that `bregma.TargetDensity` has: variants of it that sparsity.py trains."""

import math
from typing import Any

import torch
from torch import Tensor

import bregma
from bregma.optim import baselines
from bregma.optim.structure import Weights
from bregma.prox import maps, thresholds


class SparseStart(bregma.TargetDensity):
    """Start from a random mask of a density between the target and one, shared out by ERK, and thin out from there.

    Duals outside the mask are zero and stay there. The rest is scaled up by 1 / sqrt(density) of its tensor.
    """

    def __init__(self, *args: Any, start: float, seed: int = 0, **options: Any) -> None:
        super().__init__(*args, **options)
        self.start = max(start, self.target)
        generator = torch.Generator().manual_seed(seed)
        total = thresholds.keep_count(self.size, self.start)
        counts = thresholds.allocate([w.shape for w in self.weights], total, "erk")
        with torch.no_grad():
            for w, count in zip(self.weights, counts, strict=True):
                kept, _ = thresholds.top_mask(torch.rand(w.numel(), generator=generator), count)
                w.mul_(kept.view(w.shape)).mul_(math.sqrt(w.numel() / count))

    def scheduled_density(self) -> float:
        """From the start to the target, cubic."""
        left = 1.0 - min(self.step_count / self.freeze_step, 1.0)
        return self.target + (self.start - self.target) * left**3


class Cycles(bregma.TargetDensity):
    """AC/DC: dense and sparse phases in turn, the last one sparse; pruned weights come back with the dual they had.

    Reference: A. Peste et al., "AC/DC: alternating compressed/decompressed training", arXiv 2106.12379.
    """

    def __init__(self, *args: Any, cycles: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self.cycles = cycles

    def scheduled_density(self) -> float:
        """One in the first half of each cycle, the target in the second."""
        phase = self.step_count / self.freeze_step * self.cycles
        return self.target if self.step_count >= self.freeze_step or phase % 1.0 >= 0.5 else 1.0


class PowerPropagation(bregma.TargetDensity):
    """The weights are ``sign(x) |x|^power`` of the thresholded dual x, which moves by the gradient with respect to it.

    Reference: J. Schwarz et al., "Powerpropagation: a sparsity inducing weight reparameterisation", arXiv 2110.00296.
    """

    def __init__(self, *args: Any, power: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self.power = power

    def _before(self) -> None:
        if self.step_count <= self.freeze_step:
            if self.dual is None:
                self.dual = self._power(self._gathered(), 1 / self.power)
            for w, v in zip(self.weights, self._views(self.dual), strict=True):
                if w.grad is not None:
                    w.grad.mul_(self.power * v.abs().pow(self.power - 1))
        super()._before()

    def _write(self, dual: Tensor, cut: Tensor) -> None:
        super()._write(dual, cut)
        for w in self.weights:
            w.copy_(self._power(w, self.power))

    @staticmethod
    def _power(x: Tensor, power: float) -> Tensor:
        return torch.copysign(x.abs().pow(power), x)


class KeptScale(bregma.TargetDensity):
    """The norm-restoring scale stays once the mask is final: the optimizer goes on with the weights over delta."""

    def _before(self) -> None:
        super()._before()
        if self.dual is None and self.step_count > self.freeze_step:
            for w in self.weights:
                w.div_(self.delta)

    def _after(self) -> None:
        scaled = self.dual is None
        super()._after()
        if scaled:
            for w in self.weights:
                w.mul_(self.delta)


class LayerScale(bregma.TargetDensity):
    """A norm-restoring scale for every weight tensor."""

    def _write(self, dual: Tensor, cut: Tensor) -> None:
        super()._write(dual, cut)
        for w, v in zip(self.weights, self._views(dual), strict=True):
            w.mul_(maps.norm_ratio(v.flatten(), w.flatten()))


class PenalisedPruning(baselines.MagnitudePruning):
    """Gradual magnitude pruning with the L1 norm of the weights in the loss that `bregma.TargetDensity` may have."""

    def __init__(self, *args: Any, l1: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self.l1 = l1

    def _before(self) -> None:
        self.penalise(self.l1)
        super()._before()


class FloorErk(bregma.TargetDensity):
    """A global choice in which every tensor keeps at least a share of what the Erdős-Rényi kernel gives it."""

    def __init__(self, *args: Any, share: float, **options: Any) -> None:
        self.share = share
        super().__init__(*args, allocation="erk", **options)

    def arrange(self) -> None:
        """Set up the floors."""
        super().arrange()
        self.structure = _Floors(self.weights, self.share)


class _Floors(Weights):
    def __init__(self, weights: list[Tensor], share: float) -> None:
        super().__init__(weights, "erk", 0, 0.0)
        self.share = share

    def _counts(self, ranked: Tensor, keep: int) -> list[int]:
        """Raise the counts of a global choice to the floors; the others give that from what they have above theirs."""
        anywhere, _ = thresholds.top_mask(ranked, keep)
        floors = [self.share * count for count in super()._counts(ranked, keep)]
        over = [max(int(torch.count_nonzero(m)) - f, 0.0) for m, f in zip(self.views(anywhere), floors, strict=True)]
        scale = (keep - sum(floors)) / sum(over)
        counts = [floor + scale * more for floor, more in zip(floors, over, strict=True)]
        return thresholds._whole(counts, keep, [w.numel() for w in self.weights])


class DeadZone(bregma.TargetDensity):
    """Duals of pruned weights fall by ``decay`` times the learning rate and move by ``alpha`` of their gradient."""

    def __init__(self, *args: Any, decay: float, alpha: float = 0.0, **options: Any) -> None:
        super().__init__(*args, **options)
        self.decay, self.alpha = decay, alpha

    def mask_gradients(self) -> None:
        """Leave a share of the gradients of pruned weights until the mask is final."""
        if self.frozen or not self.alpha:
            super().mask_gradients()
            return
        for w, kept in zip(self.weights, self.masks, strict=True):
            if w.grad is not None:
                w.grad.mul_(torch.where(kept, 1.0, self.alpha))

    def _after(self) -> None:
        if self.dual is not None:
            rates = {id(w): group["lr"] for group in self.optimizer.param_groups for w in group["params"]}
            for w, kept in zip(self.weights, self.masks, strict=True):
                w.mul_(torch.where(kept, 1.0, 1.0 - self.decay * rates[id(w)]))
        super()._after()
