"""Sparse from the first step to the last: connections that are dropped make room for new ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.optim import Optimizer

from bregma.optim import checks
from bregma.optim.sparsifier import Sparsifier
from bregma.prox import structures, thresholds


class _Rewiring(Sparsifier):
    """A random mask of the target density, rewired every few steps until ``ramp_end``.

    A rewiring drops the share ``drop * (1 + cos(pi t / T_e)) / 2`` of each tensor's connections, the smallest ones,
    and grows as many where ``_growth`` is largest. What has just been dropped may grow again. New connections start
    at zero, with fresh moments in the optimiser.
    """

    _kept = ("grown",)

    def __init__(
        self,
        optimizer: Optimizer,
        density: float,
        total_steps: int,
        *,
        ramp_end: float = 0.75,
        every: int = 20,
        drop: float = 0.3,
        seed: int = 0,
        allocation: str = "erk",
        neuron_floor: int = 0,
        layer_floor: float = 0.0,
    ) -> None:
        drop = checks.share("drop", drop)
        seed = checks.count("seed", seed, low=0)
        super().__init__(
            optimizer,
            density,
            total_steps,
            ramp_end=ramp_end,
            every=every,
            allocation=allocation,
            neuron_floor=neuron_floor,
            layer_floor=layer_floor,
        )
        self.drop = drop
        self.grown = 0
        self._seed = seed
        self._candidates: Tensor | None = None  # growth scores, between the two hooks of a step that rewires
        self.mask = self.select(self._random(), density)
        self._scale_up()

    @torch.no_grad()
    def _scale_up(self) -> None:
        """Zero what the mask leaves out and scale up the rest, which keeps the variance of each layer's output."""
        for w, kept in zip(self.weights, self.masks, strict=True):
            left = int(torch.count_nonzero(kept))
            w.masked_fill_(~kept, 0.0)
            if left:
                w.mul_(math.sqrt(w.numel() / left))

    def _random(self) -> Tensor:
        """Return random scores that depend on the seed and the step alone, so that no generator is to be saved."""
        generator = torch.Generator().manual_seed((self._seed * 0x9E3779B1 + self.step_count * 0x85EBCA6B + 1) % 2**63)
        return torch.rand(self.size, generator=generator).to(self.mask.device)

    def _growth(self) -> Tensor:
        """Return the flat scores by which connections grow, taken while the gradients are dense."""
        raise NotImplementedError

    def _before(self) -> None:
        self._candidates = self._growth() if self.due() else None
        self.mask_gradients()

    def _after(self) -> None:
        self.mask_weights()
        if self._candidates is None:
            return
        share = self.drop * (1 + math.cos(math.pi * self.step_count / self.freeze_step)) / 2
        parts = zip(self.weights, self.masks, self._views(self._candidates), strict=True)
        masks = [self._rewire(w.abs(), kept, growth, share) for w, kept, growth in parts]
        for w, old, new in zip(self.weights, self.masks, masks, strict=True):
            self.grown += int(torch.count_nonzero(new & ~old))
            for value in self.optimizer.state.get(w, {}).values():
                if isinstance(value, Tensor) and value.shape == w.shape:
                    value.masked_fill_(new & ~old, 0.0)
        self.mask = torch.cat([mask.flatten() for mask in masks])
        self.mask_weights()

    def _rewire(self, magnitude: Tensor, kept: Tensor, growth: Tensor, share: float) -> Tensor:
        """Return the new mask of one tensor, with as many connections as before."""
        count = int(torch.count_nonzero(kept))
        stay = count - round(share * count)
        ranked = torch.where(kept, magnitude, -1.0)
        if self.neuron_floor:
            held = structures.floor_mask(ranked, self.neuron_floor, 0)
            ranked = ranked.masked_fill(held & kept, math.inf)
            stay = max(stay, int(torch.count_nonzero(held & kept)))
        survivors, _ = thresholds.top_mask(ranked.flatten(), stay)
        mask, _ = thresholds.top_mask(growth.flatten().masked_fill(survivors, math.inf), count)
        return mask.view(kept.shape)


class RigL(_Rewiring):
    """Drop the smallest connections, grow those whose gradient is largest.

    Args:
        optimizer: any. The weights are made sparse when the object is built, so build it before loading a checkpoint.
        density: share of the weights that exist at any time, in (0, 1].
        total_steps: optimiser steps of the whole training.
        ramp_end: share of the steps with rewiring. Default: 0.75.
        every: steps from one rewiring to the next; it needs the gradient of all weights then. Default: 20 (the paper's
            100 is for a hundred times longer training).
        drop: share of the connections that the first rewiring replaces, in (0, 1]. Default: 0.3.
        seed: of the first mask, >= 0. Default: 0.
        allocation: ``"erk"``, ``"uniform"``, ``"global"`` (random over the whole network), or ``"global+erk"``, the
            mean of the two. Default: "erk".
        neuron_floor: inputs that each output of each weight tensor keeps. Default: 0.
        layer_floor: share of each weight tensor that is kept at least. Default: 0.

    Attributes:
        grown: how many connections have grown so far.

    Unlike in the paper, a step that rewires also moves the weights.

    Reference: U. Evci et al., "Rigging the lottery: making all tickets winners", ICML 2020, arXiv 1911.11134.
    """

    def _growth(self) -> Tensor:
        gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in self.weights]
        return torch.cat([g.flatten().abs() for g in gradients])


class SET(_Rewiring):
    """Drop the smallest connections, grow random ones (sparse evolutionary training).

    Args:
        optimizer: as in `RigL`, and so are all further arguments; the seed is also that of the growth.

    Reference: D. Mocanu et al., "Scalable training of artificial neural networks with adaptive sparse connectivity
    inspired by network science", Nature Communications 9, 2018. As in the comparisons of the RigL paper, new
    connections start at zero.
    """

    def _growth(self) -> Tensor:
        return self._random()
