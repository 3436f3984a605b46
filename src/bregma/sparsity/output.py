"""The readout of a compressed network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from bregma.dynamics.compressed import Connections, Population
from bregma.nn.chain import Score


@dataclass(frozen=True)
class Output:
    """From the last spikes to scores: a dense layer, integrators, and what becomes of them over time.

    Attributes:
        weights: connections from the last hidden layer.
        bias: (classes,).
        decay: of the integrators, (classes,).
        score: see `bregma.nn.chain.Chain`.
    """

    weights: Connections
    bias: Tensor
    decay: Tensor
    score: Score

    @cached_property
    def integrators(self) -> Population:
        """Neurons that never fire."""
        never = torch.full_like(self.bias, math.inf)
        return Population(self.weights, self.bias, None, None, self.decay, never, "none", True)
