"""The true network of the consistent solver: its layers, its weights, and what a forward pass leaves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bregma.admm.consistent_settings import ConsistentSettings
from bregma.admm.layers import Layer, build
from bregma.admm.sweep import Activity
from bregma.admm.traces import pack, read, readout_kernel
from bregma.admm.workers import ALONE, Workers, whereabouts

_START_SAMPLES = 400


class TrueNetwork:
    """Layers of hard spikes; arguments as `bregma.admm.consistent.ConsistentADMM`."""

    def __init__(
        self,
        hidden: Sequence[Layer],
        inputs: int,
        classes: int,
        settings: ConsistentSettings,
        frame_shape: Sequence[int] | None,
        seed: int,
        dtype: torch.dtype,
        workers: Workers = ALONE,
    ) -> None:
        self.settings, self.dtype = settings, dtype
        self.synapses = build(hidden, inputs, frame_shape)
        self.neurons = [layer.neurons for layer in self.synapses]
        self.generator = torch.Generator().manual_seed(seed)
        self.weights: list[Tensor] = []
        self.inputs, self._classes, self._features, self._workers = inputs, classes, self.neurons[-1], workers

    def _started(self) -> None:
        """Called when the first weights are there."""

    @torch.no_grad()
    def begin(self, x: Tensor) -> Tensor:
        """The data ready for products; the first ones start the weights, random with a firing rate of 15 %.

        Raises:
            ValueError: x is not (T, B, inputs).
        """
        if x.dim() != 3 or x.shape[2] != self.inputs:
            raise ValueError(f"x must be of shape (T, B, {self.inputs}), got {tuple(x.shape)}")
        x, s = pack(x.to(self.dtype)), self.settings
        if not self.weights:
            first, _ = whereabouts(self._workers, x.shape[1])
            self.weights, a = [], x[:, : max(0, _START_SAMPLES - first)].contiguous()
            for synapses in self.synapses:
                w, a = synapses.start(a, s.constants, self.generator, s.rate, self._workers)
                self.weights.append(w)
            self.weights.append(x.new_zeros(self._classes, self._features))
            self._started()
        return x

    def _require_labels(self, x: Tensor, y: Tensor) -> None:
        if y.shape != (x.shape[1], self._classes):
            raise ValueError(f"y must be coded labels of shape {(x.shape[1], self._classes)}, got {tuple(y.shape)}")

    @torch.no_grad()
    def run(self, x: Tensor, weights: list[Tensor] | None = None) -> Activity:
        """A true forward pass of data that `begin` returned, through the solver's weights or given ones."""
        kappa = readout_kernel(self.settings.readout, len(x), self.settings.constants.decay, x)
        if not x.numel():  # a worker without samples
            empty = [x.new_zeros(len(x), 0, n) for n in self.neurons]
            return Activity([x, *empty], empty, x.new_zeros(0, self._features), kappa)
        spikes, membranes = [x], []
        for synapses, weight in zip(self.synapses, weights or self.weights, strict=False):
            z, a = synapses.run(spikes[-1], weight, self.settings.constants)
            membranes.append(z)
            spikes.append(a)
        return Activity(spikes, membranes, read(spikes[-1], kappa), kappa)

    @torch.no_grad()
    def scores(self, x: Tensor, weights: list[Tensor] | None = None, batch: int = 256) -> Tensor:
        """The readout of the true network (B, classes).

        Args:
            x: input spikes (T, B, n_0).
            weights: of all layers; the solver's by default.
            batch: samples at a time, which bounds the memory.
        """
        weights = weights or self.weights
        parts = [self.run(pack(part.to(self.dtype)), weights).features for part in x.split(batch, dim=1)]
        return torch.cat(parts) @ weights[-1].T
