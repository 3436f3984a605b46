"""The L1 norm in the loss or in a proximal step, then a cut to the density."""

from __future__ import annotations

from torch.optim import Optimizer

from bregma import prox
from bregma.optim import checks
from bregma.optim.baselines.pruning import OneShotPruning


class L1Pruning(OneShotPruning):
    """Add ``lam`` times the L1 norm of the weights to the loss, cut by magnitude at ``ramp_end``, then fine-tune.

    A subgradient step leaves weights small, never zero; the cut makes the density exact. After it the penalty is off.

    Args:
        optimizer: any.
        density: see :class:`bregma.TargetDensity`.
        total_steps: optimiser steps of the whole training.
        lam: weight of the penalty, >= 0. Default: 1e-4.
        ramp_end: share of the steps before the cut. Default: 0.75.
        allocation: ``"global"``, ``"uniform"``, ``"erk"`` or ``"global+erk"``. Default: "global".
        neuron_floor: inputs that each output of each weight tensor keeps. Default: 0.
        layer_floor: share of each weight tensor that is kept at least. Default: 0.

    Example:
        >>> import torch
        >>> p = torch.nn.Parameter(torch.ones(4, 5))
        >>> pruning = L1Pruning(torch.optim.Adam([p]), density=0.25, total_steps=100, lam=1e-3)
    """

    def __init__(
        self,
        optimizer: Optimizer,
        density: float,
        total_steps: int,
        *,
        lam: float = 1e-4,
        ramp_end: float = 0.75,
        allocation: str = "global",
        neuron_floor: int = 0,
        layer_floor: float = 0.0,
    ) -> None:
        lam = checks.number("lam", lam, low=0.0)
        super().__init__(
            optimizer,
            density,
            total_steps,
            ramp_end=ramp_end,
            allocation=allocation,
            neuron_floor=neuron_floor,
            layer_floor=layer_floor,
        )
        self.lam = lam

    def _before(self) -> None:
        super()._before()
        self.penalise(self.lam)


class ProxPruning(L1Pruning):
    """Proximal steps of the L1 norm with threshold ``lr * lam`` after each step of the optimiser, a cut, fine-tuning.

    On Adam this is ProxAdam, on SGD it is :class:`bregma.ProxSGD`. The density the proximal steps reach depends on
    lam; the cut by magnitude at ``ramp_end`` makes it exact. Weights that are zero by then are kept where fewer than
    the target are left, and wake up.

    Args:
        optimizer: any.
        density: see :class:`bregma.TargetDensity`.
        total_steps: optimiser steps of the whole training.
        lam: weight of the penalty, >= 0. Default: 0.1.
        ramp_end: share of the steps before the cut. Default: 0.75.
        allocation: ``"global"``, ``"uniform"``, ``"erk"`` or ``"global+erk"``. Default: "global".
        neuron_floor: inputs that each output of each weight tensor keeps. Default: 0.
        layer_floor: share of each weight tensor that is kept at least. Default: 0.

    Reference: N. Parikh, S. Boyd, "Proximal Algorithms", Section 4.2, 2014.

    Example:
        >>> import torch
        >>> p = torch.nn.Parameter(torch.ones(4, 5))
        >>> pruning = ProxPruning(torch.optim.Adam([p]), density=0.25, total_steps=100)
    """

    def __init__(
        self,
        optimizer: Optimizer,
        density: float,
        total_steps: int,
        *,
        lam: float = 0.1,
        ramp_end: float = 0.75,
        allocation: str = "global",
        neuron_floor: int = 0,
        layer_floor: float = 0.0,
    ) -> None:
        super().__init__(
            optimizer,
            density,
            total_steps,
            lam=lam,
            ramp_end=ramp_end,
            allocation=allocation,
            neuron_floor=neuron_floor,
            layer_floor=layer_floor,
        )

    def _before(self) -> None:
        self.mask_gradients()

    def _after(self) -> None:
        if self.step_count <= self.freeze_step:
            weights = {id(w) for w in self.weights}
            for group in self.optimizer.param_groups:
                for p in group["params"]:
                    if id(p) in weights:
                        p.copy_(prox.get("l1").prox(p, float(group["lr"]) * self.lam))
        super()._after()
