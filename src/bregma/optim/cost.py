r"""What a connection costs beside being one: synaptic operations, that is spikes of its presynaptic neuron."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils.hooks import RemovableHandle

from bregma.nn.activity import connects, watch

COSTS = ("none", "synops")

#: Added to the rates: what a connection of a silent neuron costs.
BASE = 0.02

#: Share of a new measurement in the running mean.
NEW = 0.1

#: One of so many time steps and samples is looked at; co-prime to most batch sizes, so that all of both have a turn.
STRIDE = 7


class PresynapticRates:
    r"""Running mean of the share of time steps in which each input of each weight tensor is active.

    It hears the forward passes of a network in training mode from `listen` to `close`. The rates of all tensors lie
    one after the other in a flat tensor, one per input (per input channel of a convolution).

    Args:
        net: the network.
        weights: its weight tensors.

    Attributes:
        rates: flat, float32; zeros before the first spike, from which on the mean runs.

    Raises:
        ValueError: a weight tensor that no dense layer, convolution of one group or recurrent layer of the network
            holds, or a transposed convolution in it.

    Example:
        >>> net = nn.Linear(2, 3)
        >>> listener = PresynapticRates(net, [net.weight])
        >>> listener.listen()
        >>> _ = net(torch.tensor([[1.0, 0.0]]))
        >>> listener.rates
        tensor([1., 0.])
    """

    def __init__(self, net: nn.Module, weights: list[Tensor]) -> None:
        held = {id(m.weight): m for m in net.modules() if connects(m)}
        for w in weights:
            module = held.get(id(w))
            if module is None or getattr(module, "groups", 1) > 1:
                what = "in layers" if module is None else "in convolutions of one group"
                raise ValueError(
                    f"net must hold all weights of the optimizer {what}, not one of shape {tuple(w.shape)}"
                )
        self._net = net
        self._index = {id(w): i for i, w in enumerate(weights)}
        self._sizes = [w.shape[1] for w in weights]
        self._shapes = [w.shape for w in weights]
        self.rates = torch.zeros(sum(self._sizes), device=weights[0].device)
        self._handles: list[RemovableHandle] = []
        self._note()

    def listen(self) -> None:
        """Start listening."""
        self._handles = self._handles or watch(self._net, self._hear)

    def close(self) -> None:
        """Stop listening."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def load(self, rates: Tensor) -> None:
        """Go on from ``rates`` of another time, listening again."""
        self.listen()
        self.rates = rates.to(self.rates.device, copy=True)
        self._note()

    def weighting(self) -> Tensor:
        r"""Return :math:`1 / \sqrt{r_j + 0.02}` for every weight, j its presynaptic neuron; flat.

        Operations are minimised by the penalty :math:`\sum (r_j + 0.02)\, 1[w_{ij} \neq 0]`, whose proximal map keeps a
        weight if :math:`q_{ij} / \sqrt{r_j + 0.02} > \lambda`.
        """
        parts = self.rates.add(BASE).rsqrt_().split(self._sizes)
        shaped = [
            part.view(1, -1, *[1] * (len(shape) - 2)).expand(shape)
            for part, shape in zip(parts, self._shapes, strict=True)
        ]
        return torch.cat([part.flatten() for part in shaped])

    def _note(self) -> None:
        """Note which layers have heard a spike: the rates alone say so, which a state holds."""
        self._heard = [bool(part.any()) for part in self.rates.split(self._sizes)]

    @torch.no_grad()
    def _hear(self, module: nn.Linear | _ConvNd, x: Tensor) -> None:
        i = self._index.get(id(module.weight))
        if i is None or not self._net.training:
            return
        spatial = module.weight.ndim - 2
        rows = x.reshape(-1, *x.shape[x.ndim - spatial - 1 :])[::STRIDE]
        active = rows.ne(0).to(self.rates.dtype).movedim(1, -1).flatten(0, -2).mean(0)
        rate = self.rates.split(self._sizes)[i]
        rate.lerp_(active, NEW if self._heard[i] else 1.0)
        self._heard[i] = self._heard[i] or bool(rate.any())
