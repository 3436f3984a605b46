r"""STR: thresholds that are learned by gradient descent, one per weight tensor."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim import Optimizer

from bregma.optim import checks
from bregma.optim.sparsifier import Sparsifier
from bregma.optim.thinned import gradient_unit
from bregma.prox import maps


class STR(Sparsifier):
    r"""Soft threshold reparameterisation: the weights are ``soft(w, sigmoid(s))`` with a learned s per tensor.

    .. math::
        \theta = \operatorname{sign}(w) \max(|w| - \sigma(s), 0), \qquad
        \frac{\partial L}{\partial w} = g \cdot 1_{\theta \neq 0}, \qquad
        \frac{\partial L}{\partial s} = -\sigma'(s) \sum_{\theta \neq 0} g \operatorname{sign}(w)

    for the gradient g at :math:`\theta`. s follows ``-lr_s * (dL/ds + decay * s)``: the decay pulls s from its start
    towards 0, that is the threshold up towards 1/2, and the density follows from that. So that the target is met all
    the same, the tensors are cut to the largest :math:`|w|` at ``ramp_end``, and the survivors trained on.

    Args:
        optimizer: moves w and all else.
        density: see :class:`bregma.TargetDensity`.
        total_steps: optimiser steps of the whole training.
        decay: pull on s, >= 0; it decides how fast the network thins out before the cut. Default: 1e-2.
        lr_s: step size of s, > 0. Default: 0.1.
        start: s at the beginning; ``sigmoid(start)`` is the first threshold. Default: -10.
        ramp_end: share of the steps before the cut. Default: 0.75.
        allocation: of the cut: ``"global"``, ``"uniform"``, ``"erk"`` or ``"global+erk"``. Default: "global".
        neuron_floor: inputs that each output of each weight tensor keeps. Default: 0.
        layer_floor: share of each weight tensor that is kept at least. Default: 0.

    Attributes:
        s: threshold parameters, (number of weight tensors,).

    Reference: A. Kusupati et al., "Soft threshold weight reparameterization for learnable sparsity", ICML 2020,
    arXiv 2002.03231.
    """

    _kept = ("dual", "s")

    def __init__(
        self,
        optimizer: Optimizer,
        density: float,
        total_steps: int,
        *,
        decay: float = 1e-2,
        lr_s: float = 0.1,
        start: float = -10.0,
        ramp_end: float = 0.75,
        allocation: str = "global",
        neuron_floor: int = 0,
        layer_floor: float = 0.0,
    ) -> None:
        decay = checks.number("decay", decay, low=0.0)
        lr_s = checks.number("lr_s", lr_s, low=0.0, open_low=True)
        start = checks.number("start", start, low=-100.0, high=100.0)
        super().__init__(
            optimizer,
            density,
            total_steps,
            ramp_end=ramp_end,
            every=total_steps,
            allocation=allocation,
            neuron_floor=neuron_floor,
            layer_floor=layer_floor,
        )
        self.decay = decay
        self.lr_s = lr_s
        self.dual: Tensor | None = None  # w, flat, from the first step to the cut
        self.s = torch.full((len(self.weights),), start, dtype=self._dtype, device=self.mask.device)

    def _before(self) -> None:
        if self.step_count > self.freeze_step:
            self.mask_gradients()
            return
        if self.dual is None:
            self.dual = self._gathered()
        slope = torch.sigmoid(self.s) * torch.sigmoid(-self.s)
        pulls = [self.s.new_zeros(()) if w.grad is None else -(w.grad * w.sign()).sum() for w in self.weights]
        pulls = [pull / gradient_unit(self.optimizer, w) for pull, w in zip(pulls, self.weights, strict=True)]
        self.mask_gradients()
        for w, dual in zip(self.weights, self._views(self.dual), strict=True):
            w.copy_(dual)
        self.s = self.s - self.lr_s * (slope * torch.stack(pulls).to(self.s) + self.decay * self.s)

    def _after(self) -> None:
        if self.dual is None:
            self.mask_weights()
            return
        for w, dual in zip(self.weights, self._views(self.dual), strict=True):
            dual.copy_(w)
        if not self.frozen:
            self._write(self.dual)
            return
        self.mask = self.select(self.dual.abs(), self.target)
        self._write(self.dual)
        self.dual = None

    def _write(self, dual: Tensor) -> None:
        """Write the thresholded weights; before the cut they are also the mask."""
        parts = zip(self.weights, self._views(dual), torch.sigmoid(self.s), strict=True)
        for w, v, threshold in parts:
            w.copy_(maps.soft(v, threshold.to(v.dtype)))
        if self.step_count < self.freeze_step:
            self.mask = torch.cat([(w != 0).flatten() for w in self.weights])
        else:
            self.mask_weights()
