"""Pruning by magnitude: along a ramp, or at once."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.optim import Optimizer

from bregma.nn.populations import Population
from bregma.optim.density import check_metric
from bregma.optim.sparsifier import Sparsifier


class MagnitudePruning(Sparsifier):
    r"""Gradual magnitude pruning: every few steps the smallest weights are set to zero for good.

    The density follows :func:`bregma.prox.thresholds.cubic_ramp`. With ``metric="adam"`` the score of a weight is
    :math:`|w| \hat s^{1/4}` instead of :math:`|w|`, s the second moment that Adam keeps; on spiking networks at
    densities of 0.1 and less that is by far the better score.

    Args:
        optimizer: any; ``metric="adam"`` needs one that keeps ``exp_avg_sq``.
        density: see :class:`bregma.TargetDensity`, as are all further arguments.
        total_steps: optimiser steps of the whole training.
        ramp_end: share of the steps after which the mask is frozen. Default: None, as for `bregma.TargetDensity`.
        every: steps from one pruning to the next. Default: 5.
        metric: ``"none"`` or ``"adam"``. Default: "none", which is what the paper does.
        allocation: ``"global"``, ``"uniform"``, ``"erk"`` or ``"global+erk"``. Default: "global".
        neuron_floor: inputs that each output of each weight tensor keeps. Default: 0.
        layer_floor: share of each weight tensor that is kept at least. Default: 0.
        structure: what goes as a whole, e.g. ``"neurons"``. Default: "weights".
        net: the network, needed for ``structure="neurons"``. Default: None.

    Reference: M. Zhu, S. Gupta, "To prune, or not to prune", arXiv 1710.01878.

    Example:
        >>> import torch, bregma
        >>> net = torch.nn.Linear(20, 10)
        >>> optimizer = torch.optim.Adam(bregma.param_groups(net), lr=0.01)
        >>> pruning = MagnitudePruning(optimizer, density=0.1, total_steps=20)
        >>> for _ in range(20):
        ...     optimizer.zero_grad()
        ...     net(torch.randn(8, 20)).square().mean().backward()
        ...     optimizer.step()
        >>> bregma.density(net)
        0.1
    """

    def __init__(
        self,
        optimizer: Optimizer,
        density: float,
        total_steps: int,
        *,
        ramp_end: float | None = None,
        every: int = 5,
        metric: str = "none",
        allocation: str = "global",
        neuron_floor: int = 0,
        layer_floor: float = 0.0,
        structure: str | Sequence[Population] = "weights",
        net: nn.Module | None = None,
    ) -> None:
        check_metric(optimizer, metric)
        super().__init__(
            optimizer,
            density,
            total_steps,
            ramp_end=ramp_end,
            every=every,
            allocation=allocation,
            neuron_floor=neuron_floor,
            layer_floor=layer_floor,
            structure=structure,
            net=net,
        )
        self._metric = metric

    def _after(self) -> None:
        if self.due():
            self.mask_weights()  # a moment that fades must not wake a pruned weight
            score = self._gathered().abs_()
            if self._metric == "adam":
                score.mul_(self.metric())
            self.mask = self.select(score, self.scheduled_density())
        self.mask_weights()


class OneShotPruning(MagnitudePruning):
    """Train dense, prune once by magnitude after ``ramp_end`` of the steps, fine-tune what is left.

    Args:
        optimizer: see `MagnitudePruning`.
        density: see :class:`bregma.TargetDensity`.
        total_steps: optimiser steps of the whole training, fine-tuning included.
        ramp_end: share of the steps before the cut. Default: 0.75.
        metric: ``"none"`` or ``"adam"``. Default: "none".
        allocation: ``"global"``, ``"uniform"``, ``"erk"`` or ``"global+erk"``. Default: "global".
        neuron_floor: inputs that each output of each weight tensor keeps. Default: 0.
        layer_floor: share of each weight tensor that is kept at least. Default: 0.

    Reference: S. Han, J. Pool, J. Tran, W. Dally, "Learning both weights and connections", NeurIPS 2015.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        density: float,
        total_steps: int,
        *,
        ramp_end: float = 0.75,
        metric: str = "none",
        allocation: str = "global",
        neuron_floor: int = 0,
        layer_floor: float = 0.0,
    ) -> None:
        super().__init__(
            optimizer,
            density,
            total_steps,
            ramp_end=ramp_end,
            every=total_steps,  # so that the only mask is that of the freeze
            metric=metric,
            allocation=allocation,
            neuron_floor=neuron_floor,
            layer_floor=layer_floor,
        )
