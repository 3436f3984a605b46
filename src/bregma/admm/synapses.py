"""How spikes reach a layer, for the consistent solver: the products of the layer's features with what it needs.

A layer's *features* are what its weights multiply: the presynaptic spikes of a dense layer. Their filtered Gram matrix,
their sums with filtered displacements and the way back are all that tells one kind of layer from another.
"""

from typing import Protocol

import torch
from torch import Tensor

from bregma.admm.forward import current
from bregma.admm.problem import Constants
from bregma.admm.products import times
from bregma.admm.targets import Cuts, Rule
from bregma.admm.traces import membranes, reverse_displacement, spike_sums, trace_gram


class Synapses(Protocol):
    """The weights' surroundings; a are presynaptic spikes (T, B, n_0), own those of the layer (T, B, n)."""

    @property
    def shape(self) -> tuple[int, int]:
        """Of the weights: (rows, features)."""

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

    def __init__(self, neurons: int, inputs: int) -> None:
        self.shape = (neurons, inputs)

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
        times(d.flatten(0, 1), weight, out.flatten(0, 1))
        return out
