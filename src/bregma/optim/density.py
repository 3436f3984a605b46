r"""TargetDensity: sparse training to a density that is named, by Bregman iterations in the metric of Adam."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bregma.nn.populations import Population
from bregma.optim import checks
from bregma.optim.cost import COSTS, PresynapticRates
from bregma.optim.sparsifier import Sparsifier
from bregma.optim.thinned import weights_of
from bregma.prox import maps

METRICS = ("adam", "none")

#: Thresholds along the ramp, if nothing else is asked for, but every other step at most: at every step they take more
#: than a tenth of the training step of a small network.
THRESHOLDS = 300


class TargetDensity(Sparsifier):
    r"""Bring a network to a density while it trains; the number is met exactly.

    .. math::
        \begin{aligned}
        &\rule{110mm}{0.4pt} \\
        &v_0 = \theta_0, \quad S = \text{all weights} \\
        &\textbf{for } t = 1, 2, \dots, T_e \\
        &\quad v_t = v_{t-1} - \text{step of the optimizer along } \nabla f(\theta_{t-1}) \cdot 1_S \\
        &\quad \omega = \hat s_t^{1/4}, \quad q = \omega |v_t|, \quad
            \rho_t = \rho + (1 - \rho) (1 - t / T_e)^3 \\
        &\quad k_j = \tfrac12 \bigl( \text{how many of the } \rho_t n \text{ highest } q \text{ lie in tensor } j
            \; + \; \text{its share of } \rho_t n \text{ by ERK} \bigr) \\
        &\quad \lambda_j = \text{the } (k_j + 1) \text{-th highest } q \text{ of tensor } j,
            \quad S = \{ q > \lambda_j \} \\
        &\quad x = \operatorname{sign}(v_t) \max(|v_t| - \lambda_j / \omega, 0), \qquad
            \theta_t = \frac{\| v_S \|_2}{\| x \|_2} x \\
        &\textbf{then: } S \text{ stays, the optimizer moves the weights in it} \\
        &\rule{110mm}{0.4pt}
        \end{aligned}

    It is made of three parts: the optimiser moves a dual variable v; a threshold rule turns the density into lam; the
    proximal map of the penalty, in the metric in which the optimiser moves the dual, turns dual and lam into weights.
    A pruned weight keeps its dual, and comes back if others fall behind. After ``ramp_end`` of the steps the mask is
    frozen, the dual dropped, and the optimiser moves the survivors alone. At density 1 the optimiser is unchanged.
    With a moving metric and a moving lam this is a heuristic; no convergence theorem is claimed.

    Clip the gradient's norm at 1 and choose a high learning rate: at a density of 0.05 or less, two to eight times
    that of dense training.

    Args:
        optimizer: ``torch.optim.Adam`` or any other (see ``metric``). Which of its parameters are weights:
            :class:`bregma.optim.Sparsifier`. Weight decay acts on the dual.
        density: share of the weights that is left in the end, in (0, 1]; of the neurons with ``structure="neurons"``.
        total_steps: optimiser steps of the whole training.
        ramp_end: share of the steps after which the mask is frozen, in (0, 1]. Default: None, which for single weights
            is 0.9 at a density of 0.1 and more, 0.75 at 0.02 and less, between them
            :func:`bregma.prox.thresholds.ramp_end`; 0.75 for other structures.
        every: steps from one threshold to the next; the density is exact at the end of the ramp whatever this is.
            Default: None, for about 300 thresholds along the ramp and every other step at most.
        prox: ``"soft"`` (L1), ``"firm"`` (minimax concave), ``"hard"`` (no shrinkage).
            Default: None, which is "hard" for whole neurons and ``"n:m"`` and "soft" for the rest.
        metric: ``"adam"``, for optimisers that keep the second moment ``exp_avg_sq``; ``"none"`` for others: the
            score is then ``|v|``. Default: "adam".
        allocation: ``"global+erk"``, as in the equations, ``"global"``, ``"uniform"`` or ``"erk"``, as in
            :class:`bregma.optim.Sparsifier`. Default: None, which is "global+erk" for single weights and "global" for
            whole neurons and ``"n:m"``.
        neuron_floor: inputs that each output of each weight tensor keeps at least. Default: 0.
        layer_floor: share of each weight tensor, or of the neurons of each layer, that is kept at least. Default: 0.
        structure: what stays or goes as a whole. ``"weights"``; ``"neurons"``: hidden neurons, or channels, with all
            their weights, biases and delays, ``density`` being the share of the hidden neurons; ``"2:4"`` or any
            ``"n:m"``: at the end at most n of each m consecutive inputs of an output, ``density`` being n / m or less;
            or a sequence of :class:`bregma.nn.Population`. Default: "weights".
        l1: strength of an L1 norm of the weights in the loss, >= 0, until the mask is final; its gradient is added
            after any clipping. Connections that learn little lose their dual and go. 3e-5 or 1e-4 is worth a try where
            the network is large for the data. Default: 0.
        cost: ``"none"``; ``"synops"``: a connection costs the spikes that it carries, so the score is divided by the
            root of the presynaptic firing rate, measured while training (:mod:`bregma.optim.cost`): fewer synaptic
            operations at the same accuracy. Default: "none".
        net: the network, needed for ``structure="neurons"`` and ``cost="synops"``. Default: None.

    Attributes:
        lam: the present threshold, a float; the highest of all, as layers, and neurons with a floor, have their own.
        delta: the present scale; above about 6 the network is being torn apart.
        density: share of the weights, or neurons, that the mask lets through now.
        frozen: whether the mask is final.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: an argument out of its range, floors that the density cannot pay for, no weights, or an optimizer
            that has such a method already.

    The gradients of pruned weights are set to zero in place, before each step of the optimiser. Groups added to the
    optimiser later are not seen. With a closure, the loss is evaluated once, at the sparse weights. Save
    ``state_dict()`` beside that of the optimiser. The dual is float32 or wider, but the optimiser moves it in the dtype
    of the weights: of weights narrower than float32 steps below their spacing are lost, as in dense training. A step
    whose scores are NaN raises ValueError: the training diverged.

    Example:
        >>> import bregma
        >>> net = torch.nn.Linear(20, 10)
        >>> optimizer = torch.optim.Adam(bregma.param_groups(net), lr=0.01)
        >>> sparsifier = TargetDensity(optimizer, density=0.1, total_steps=20)
        >>> for _ in range(20):  # the loop is that of dense training
        ...     optimizer.zero_grad()
        ...     net(torch.randn(8, 20)).square().mean().backward()
        ...     optimizer.step()
        >>> bregma.density(net)
        0.1
    """

    _kept: tuple[str, ...] = ("dual", "cut", "lam", "delta")

    def __init__(
        self,
        optimizer: Optimizer,
        density: float,
        total_steps: int,
        *,
        ramp_end: float | None = None,
        every: int | None = None,
        prox: str | None = None,
        metric: str = "adam",
        allocation: str | None = None,
        neuron_floor: int = 0,
        layer_floor: float = 0.0,
        structure: str | Sequence[Population] = "weights",
        l1: float = 0.0,
        cost: str = "none",
        net: nn.Module | None = None,
    ) -> None:
        check_metric(optimizer, metric)
        l1 = checks.number("l1", l1, low=0.0)
        if cost not in COSTS:
            raise ValueError(f"cost must be one of {', '.join(COSTS)}, got {cost!r}")
        if cost == "synops" and net is None:
            raise ValueError("net must be given for cost 'synops', which measures how often its neurons fire")
        if prox is not None and prox not in maps.PROXES:
            raise ValueError(f"prox must be one of {', '.join(maps.PROXES)}, got {prox!r}")
        rates = PresynapticRates(net, weights_of(optimizer)) if net is not None and cost == "synops" else None
        if allocation is None:
            allocation = "global+erk" if structure == "weights" else "global"
        super().__init__(
            optimizer,
            density,
            total_steps,
            ramp_end=ramp_end,
            every=1 if every is None else every,
            allocation=allocation,
            neuron_floor=neuron_floor,
            layer_floor=layer_floor,
            structure=structure,
            net=net,
        )
        if every is None:
            self.every = max(2, self.freeze_step // THRESHOLDS)
        self.prox = self.structure.prox if prox is None else prox
        self._metric = metric
        self._l1 = l1
        self.lam = 0.0
        self.delta = 1.0
        self.dual: Tensor | None = None  # v, flat, from the first step to the freeze
        self.cut: Tensor | None = None  # lam / omega of each weight, flat, from the first threshold to the freeze
        self._rates = rates
        if rates is not None:
            rates.listen()
            self._kept = (*self._kept, "rates")
        self._scratch: Tensor | None = None  # as large as the dual: fresh memory costs more than the arithmetic

    @property
    def rates(self) -> Tensor | None:
        """Presynaptic firing rates, flat over the inputs of all weight tensors; None unless the cost needs them."""
        return None if self._rates is None or self.frozen else self._rates.rates

    @rates.setter
    def rates(self, value: Tensor | None) -> None:
        if self._rates is not None and value is not None:
            self._rates.load(value)
        elif self._rates is not None:
            self._rates.close()

    def _kind(self, name: str) -> tuple[tuple[int, ...], torch.dtype]:
        if name == "rates" and self._rates is not None:
            return tuple(self._rates.rates.shape), self._rates.rates.dtype
        return super()._kind(name)

    def _before(self) -> None:
        self.penalise(self._l1)  # of the weights, before the dual takes their place
        self.mask_gradients()
        if self.step_count > self.freeze_step:
            return
        if self.dual is None:  # as late as this, so that weights loaded after the construction count
            self.dual = self._gathered()
        torch._foreach_copy_(self.weights, self._views(self.dual))

    def _after(self) -> None:
        if self.dual is None:
            self.mask_weights()
            return
        torch._foreach_copy_(self._views(self.dual), self.weights)
        if self.due():
            self.cut = self._threshold(self.dual)
        if self.cut is not None:
            self._write(self.dual, self.cut)
        if self.frozen:
            self.dual = self.cut = self._scratch = None
            if self._rates is not None:
                self._rates.close()

    def _threshold(self, dual: Tensor) -> Tensor:
        """Choose the mask and lam of this step; return what the proximal map takes until the next one."""
        omega = self._omega(self.cut)
        score = torch.mul(dual, omega, out=self._room(dual)).abs_()
        keep = self.structure.keep(self.scheduled_density())
        self.mask, self.lam, cut = self.structure.threshold(score, omega, keep, self.prox)
        return cut

    def _omega(self, out: Tensor | None) -> Tensor:
        """Return the score of a dual of 1, flat."""
        omega = self.metric(out) if self._metric == "adam" else torch.ones_like(self.mask, dtype=self._dtype)
        return omega if self._rates is None else omega.mul_(self._rates.weighting())

    def _room(self, dual: Tensor) -> Tensor:
        if self._scratch is None or self._scratch.shape != dual.shape:
            self._scratch = torch.empty_like(dual)
        return self._scratch

    def _write(self, dual: Tensor, cut: Tensor) -> None:
        x = self.structure.shrink(dual, cut, self.prox, self._room(dual))
        if self.due():
            self.delta = float(maps.norm_ratio(dual, x))
        torch._foreach_copy_(self.weights, self._views(x.mul_(self.delta)))


def check_metric(optimizer: Optimizer, metric: str) -> None:
    """Raise unless the metric exists and the optimiser keeps what it is made of."""
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")
    if metric != "adam" or not isinstance(optimizer, Optimizer):
        return
    kept = [state for state in optimizer.state.values() if state]
    lacking = "betas" not in optimizer.defaults or isinstance(optimizer, torch.optim.Adamax)
    if lacking or any("exp_avg_sq" not in state for state in kept):
        raise ValueError(f"metric must be 'none' for {type(optimizer).__name__}, which keeps no second moment")
