"""How spikes reach a layer, for the consistent solver: the products of the layer's features with what it needs.

A layer's *features* are what its weights multiply: the presynaptic spikes of a dense layer, those of several delays
side by side, the layer's own former spikes, the patches of a convolution. The Gram matrix of their traces, their sums
with filtered displacements and the way back are all that tells one kind of layer from another.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn.grad import conv2d_weight

from bregma.admm.convolution import Correlation
from bregma.admm.forward import current, random_layer
from bregma.admm.problem import Constants
from bregma.admm.products import gram, times
from bregma.admm.targets import Cuts, Rule
from bregma.admm.traces import membranes, pack, reverse_displacement, spike_sums, trace, trace_gram
from bregma.admm.workers import Workers

_FRAMES = 512  # that a convolution takes at a time
_TERMS = 8192  # summed in the dtype of the spikes at a time; 512, as in `products`, take up to ten times as long
_PATCHES_PER_FEATURE = 64  # that a Gram matrix of patches is formed of


class Synapses(Protocol):
    """The weights' surroundings; a are presynaptic spikes (T, B, n_0), own those of the layer (T, B, n)."""

    #: Of the weights: (rows, features).
    shape: tuple[int, int]
    #: n.
    neurons: int
    #: Whether the features hold the layer's own spikes, which change with its weights.
    hears_itself: bool

    def start(
        self, a: Tensor, constants: Constants, generator: torch.Generator, rate: float, workers: Workers
    ) -> tuple[Tensor, Tensor]:
        """Random weights with which the layer fires at a rate, over all workers' samples, and its spikes."""

    def run(self, a: Tensor, weight: Tensor, constants: Constants) -> tuple[Tensor, Tensor]:
        """Membranes and spikes (T, B, n) of the true dynamics."""

    def reverse(
        self, rule: Rule, g: Tensor, kappa: Tensor, z: Tensor, weight: Tensor, constants: Constants, cuts: Cuts
    ) -> Tensor:
        """``F^T`` of the displacement of the membranes (T, B, n), see `bregma.admm.traces.reverse_displacement`."""

    def sums(self, d: Tensor, a: Tensor, own: Tensor) -> Tensor:
        """``sum d phi^T`` (rows, features) in float64, of reverse-filtered displacements d (T, B, n)."""

    def gram(self, a: Tensor, own: Tensor, decay: float) -> Tensor:
        """``sum (F phi)(F phi)^T`` (features, features) in float64."""

    def count(self, a: Tensor) -> int:
        """How many terms `gram` sums."""

    def back(self, d: Tensor, weight: Tensor) -> Tensor:
        """The gain of the presynaptic spikes, ``W^T d`` (T, B, n_0)."""


class Dense:
    """Every neuron hears every presynaptic one.

    Args:
        neurons: n.
        inputs: n_0.
    """

    hears_itself = False

    def __init__(self, neurons: int, inputs: int) -> None:
        self.shape, self.neurons = (neurons, inputs), neurons

    def start(
        self, a: Tensor, constants: Constants, generator: torch.Generator, rate: float, workers: Workers
    ) -> tuple[Tensor, Tensor]:
        """See `Synapses`."""
        return random_layer(a, self.neurons, constants, generator, rate, workers=workers)

    def run(self, a: Tensor, weight: Tensor, constants: Constants) -> tuple[Tensor, Tensor]:
        """See `Synapses`."""
        return membranes(current(a, weight), constants)

    def reverse(
        self, rule: Rule, g: Tensor, kappa: Tensor, z: Tensor, weight: Tensor, constants: Constants, cuts: Cuts
    ) -> Tensor:
        """See `Synapses`."""
        return reverse_displacement(rule, g, kappa, z, constants, cuts)

    def sums(self, d: Tensor, a: Tensor, own: Tensor) -> Tensor:
        """See `Synapses`."""
        return spike_sums(d, a)

    def gram(self, a: Tensor, own: Tensor, decay: float) -> Tensor:
        """See `Synapses`."""
        return trace_gram(a, decay)

    def count(self, a: Tensor) -> int:
        """See `Synapses`."""
        return a.shape[0] * a.shape[1]

    def back(self, d: Tensor, weight: Tensor) -> Tensor:
        """See `Synapses`."""
        out = torch.empty(*d.shape[:2], weight.shape[1], dtype=d.dtype, device=d.device)
        times(d.flatten(0, 1), weight.contiguous(), out.flatten(0, 1))
        return out


class Shifted(Dense):
    """Every neuron hears every presynaptic one at several delays, and perhaps all of its own layer.

    Features are the presynaptic spikes at each delay, then the layer's own at each of theirs.

    Args:
        neurons: n.
        inputs: n_0.
        delays: of the presynaptic spikes in steps, >= 0.
        recurrent: of the layer's own spikes in steps, >= 1; none in a layer without recurrence.
        feedback: what the gain of a spike through its own layer counts.
    """

    def __init__(
        self,
        neurons: int,
        inputs: int,
        delays: tuple[int, ...],
        recurrent: tuple[int, ...] = (),
        feedback: float = 1.0,
    ) -> None:
        super().__init__(neurons, inputs)
        self.delays, self.recurrent, self.inputs = delays, recurrent, inputs
        self.hears_itself = bool(recurrent)
        self._fed, self.feedback = inputs * len(delays), feedback
        self.shape = (neurons, self._fed + neurons * len(recurrent))

    def start(
        self, a: Tensor, constants: Constants, generator: torch.Generator, rate: float, workers: Workers
    ) -> tuple[Tensor, Tensor]:
        """See `Synapses`; the recurrent weights start at zero."""
        weight, spikes = random_layer(self._heard(a), self.neurons, constants, generator, rate, workers=workers)
        return torch.cat([weight, weight.new_zeros(self.neurons, self.shape[1] - self._fed)], 1), spikes

    def run(self, a: Tensor, weight: Tensor, constants: Constants) -> tuple[Tensor, Tensor]:
        """See `Synapses`."""
        drive = current(self._heard(a), weight[:, : self._fed].contiguous())
        loops = self._loops(weight)
        if self.recurrent in ((), (1,)):
            return membranes(drive, constants, *(loop.contiguous() for loop in loops))
        z, own = torch.empty_like(drive), torch.empty_like(drive)
        for t, now in enumerate(drive.unbind(0)):
            heard = now.clone()
            for delay, loop in zip(self.recurrent, loops, strict=True):
                if t >= delay:
                    heard += own[t - delay] @ loop.T
            z[t] = heard + (constants.decay * z[t - 1] - constants.threshold * own[t - 1] if t else 0)
            own[t] = z[t] > constants.threshold
        return z, pack(own)

    def reverse(
        self, rule: Rule, g: Tensor, kappa: Tensor, z: Tensor, weight: Tensor, constants: Constants, cuts: Cuts
    ) -> Tensor:
        """See `Synapses`; the gain of a spike includes what it does to its own layer later."""
        if not self.recurrent:
            return super().reverse(rule, g, kappa, z, weight, constants, cuts)
        out, loops = torch.empty_like(z), [loop.contiguous() for loop in self._loops(weight)]
        for t in range(len(z) - 1, -1, -1):
            gain = kappa[t] * g[min(t, len(g) - 1)]
            for delay, loop in zip(self.recurrent, loops, strict=True):
                if t + delay < len(z):
                    gain = gain + self.feedback * (out[t + delay] @ loop)
            move = rule.displacement(gain, z[t], constants.threshold, cuts)
            out[t] = move + constants.decay * out[t + 1] if t + 1 < len(z) else move
        return out

    def sums(self, d: Tensor, a: Tensor, own: Tensor) -> Tensor:
        """See `Synapses`."""
        return spike_sums(d, self._features(a, own))

    def gram(self, a: Tensor, own: Tensor, decay: float) -> Tensor:
        """See `Synapses`."""
        return trace_gram(self._features(a, own), decay)

    def back(self, d: Tensor, weight: Tensor) -> Tensor:
        """See `Synapses`."""
        total = torch.zeros(*d.shape[:2], self.inputs, dtype=d.dtype, device=d.device)
        for k, delay in enumerate(self.delays):
            if delay < len(d):
                part = weight[:, k * self.inputs : (k + 1) * self.inputs]
                total[: len(d) - delay] += super().back(d[delay:].contiguous(), part)
        return total

    def _loops(self, weight: Tensor) -> tuple[Tensor, ...]:
        """Recurrent weights (n, n) at each delay."""
        return weight[:, self._fed :].split(self.neurons, 1) if self.recurrent else ()

    def _heard(self, a: Tensor) -> Tensor:
        return a if self.delays == (0,) else pack(torch.cat([_later(a, delay) for delay in self.delays], 2))

    def _features(self, a: Tensor, own: Tensor) -> Tensor:
        parts = [(a, self.delays), (own, self.recurrent)]
        return pack(torch.cat([_later(part, delay) for part, delays in parts for delay in delays], 2))


class Convolved(Dense):
    """Neurons of a map share one kernel.

    Args:
        correlation: see `bregma.admm.convolution`.
    """

    def __init__(self, correlation: Correlation) -> None:
        super().__init__(correlation.neurons, 0)
        self._map, self.shape = correlation, correlation.weight_shape

    def start(
        self, a: Tensor, constants: Constants, generator: torch.Generator, rate: float, workers: Workers
    ) -> tuple[Tensor, Tensor]:
        """See `Synapses`."""
        return random_layer(a, self.neurons, constants, generator, rate, self._map, workers)

    def run(self, a: Tensor, weight: Tensor, constants: Constants) -> tuple[Tensor, Tensor]:
        """See `Synapses`."""
        return membranes(current(a, weight, self._map), constants)

    def sums(self, d: Tensor, a: Tensor, own: Tensor) -> Tensor:
        """See `Synapses`; ``d`` and patches at every place count as samples of one least squares.

        Up to 8,192 of them are summed in their own dtype, these sums in float64.
        """
        layer = self._map.layer
        size = (layer.channels, self._map.in_shape[0], layer.kernel, layer.kernel)
        total = torch.zeros(self.shape, dtype=torch.float64, device=d.device)
        at_once = max(1, _TERMS // self._places)
        for frames, maps in zip(a.flatten(0, 1).split(at_once), d.flatten(0, 1).split(at_once), strict=True):
            frames, maps = frames.view(-1, *self._map.in_shape), maps.view(-1, *self._map.out_shape)
            total += conv2d_weight(frames, size, maps, layer.stride, layer.padding).view(self.shape)
        return total

    def gram(self, a: Tensor, own: Tensor, decay: float) -> Tensor:
        """See `Synapses`; estimated from evenly spaced frames where there are many more patches than features."""
        frames = trace(a, decay).flatten(0, 1)
        wanted = -(-_PATCHES_PER_FEATURE * self.shape[1] // self._places)
        every = max(1, len(frames) // wanted) | 1  # odd: in step with no even number of samples
        chosen = frames[::every]
        total = torch.zeros(self.shape[1], self.shape[1], dtype=torch.float64, device=a.device)
        for part in chosen.split(_FRAMES):
            total += gram(self._map.patches(part))
        lower = total.tril()
        return (lower + lower.tril(-1).T) * (len(frames) / len(chosen))

    def count(self, a: Tensor) -> int:
        """See `Synapses`."""
        return a.shape[0] * a.shape[1] * self._places

    def back(self, d: Tensor, weight: Tensor) -> Tensor:
        """See `Synapses`."""
        parts = [self._map.adjoint(part, weight) for part in d.flatten(0, 1).split(_FRAMES)]
        return torch.cat(parts).view(*d.shape[:2], -1)

    @property
    def _places(self) -> int:
        return self.neurons // self.shape[0]


def _later(a: Tensor, delay: int) -> Tensor:
    """Spikes that arrive ``delay`` steps after they were fired."""
    if delay == 0:
        return a
    return torch.cat([a.new_zeros(min(delay, len(a)), *a.shape[1:]), a[: max(len(a) - delay, 0)]])
