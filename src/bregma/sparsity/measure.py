"""How sparse a model is: exact zeros, counted, and the operations they leave."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import TracebackType

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils.hooks import RemovableHandle

from bregma.nn.activity import evaluating, watch
from bregma.nn.weights import split_parameters


def density(model: nn.Module, *, sparse: Sequence[str] = (), dense: Sequence[str] = ()) -> float:
    """Return the share of non-zero entries over all weights that connect neurons.

    Biases, norms, delays and the like are not counted: they are what :func:`bregma.param_groups` keeps dense.

    Args:
        model: the model.
        sparse: name patterns of parameters that are weights, as in :func:`bregma.param_groups`.
        dense: name patterns of parameters that are not.

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: the model has no weights, or a parameter that cannot be placed.

    Example:
        >>> model = nn.Linear(4, 2)
        >>> with torch.no_grad():
        ...     _ = model.weight.copy_(torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, -2.0, 0.0]]))
        >>> density(model)
        0.25
    """
    weights, _ = split_parameters(model, sparse=sparse, dense=dense)
    size = sum(w.numel() for w in weights.values())
    if not size:
        raise ValueError(f"model must have weights, got a {type(model).__name__} without any")
    return _nonzero(weights.values()) / size


def layer_densities(model: nn.Module, *, sparse: Sequence[str] = (), dense: Sequence[str] = ()) -> dict[str, float]:
    """Return the density of each weight tensor that is not empty by its full name; arguments as in :func:`density`.

    Example:
        >>> layer_densities(nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 1)))
        {'0.weight': 1.0, '1.weight': 1.0}
    """
    weights, _ = split_parameters(model, sparse=sparse, dense=dense)
    return {name: _nonzero([w]) / w.numel() for name, w in weights.items() if w.numel()}


def parameters(model: nn.Module) -> int:
    """Return the number of entries of all parameters, biases and all, each shared one counted once.

    Example:
        >>> parameters(nn.Linear(4, 2))
        10
    """
    return sum(p.numel() for p in model.parameters())


def nonzero(model: nn.Module) -> int:
    """Return how many entries of all parameters are not zero; ``nonzero(m) / parameters(m)`` is not the density.

    Example:
        >>> nonzero(nn.Linear(4, 2))
        10
    """
    return _nonzero(model.parameters())


def _nonzero(tensors: Iterable[Tensor]) -> int:
    return sum(int(torch.count_nonzero(t)) for t in tensors)


class SynOps:
    r"""Counts the synaptic operations of all forward passes inside its ``with`` block.

    One synaptic operation is one spike that meets one weight that is not zero:
    :math:`\sum_t \sum_j 1[s_j(t) \neq 0] \cdot \#\{i : w_{ij} \neq 0\}`, over all dense layers, convolutions (borders
    and strides as they are) and recurrent weights. An input that is not zero counts as one spike whatever its value;
    biases and what neurons do for themselves do not count. Spikes of the last step count in recurrent weights too, and
    a spike with a learned delay counts once, however many steps its spread covers (`bregma.sparsity.operations`, which
    counts as NeuroBench does, leaves out the first and counts each arrival of the second).

    Args:
        net: any module that holds its weights in ``nn.Linear``, convolutions and `RecurrentLIF` layers. One with a
            transposed convolution is refused with a ValueError.

    Attributes:
        by_weight: operations so far, of all samples, by the name of the weight tensor.

    Example:
        >>> net = nn.Linear(3, 2)
        >>> with torch.no_grad():
        ...     _ = net.weight.copy_(torch.tensor([[1.0, 0.0, 2.0], [3.0, 0.0, 0.0]]))
        >>> with SynOps(net) as ops:
        ...     _ = net(torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))  # 2 + 0 operations, then 1
        >>> ops.total
        3.0
    """

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.by_weight: dict[str, float] = {}
        self._names = {id(m): f"{name}.weight".lstrip(".") for name, m in net.named_modules()}
        self._names |= {id(p): name for name, p in net.named_parameters()}
        self._handles: list[RemovableHandle] = []

    @property
    def total(self) -> float:
        """Operations so far, of all samples and weights."""
        return sum(self.by_weight.values())

    def __enter__(self) -> SynOps:
        self._handles = watch(self.net, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()

    @torch.no_grad()
    def _hear(self, module: nn.Linear | _ConvNd, x: Tensor) -> None:
        there = (module.weight != 0).to(torch.float32)
        if isinstance(module, _ConvNd):
            spatial = there.ndim - 1
            spikes = (x != 0).to(torch.float32).reshape(-1, *x.shape[-spatial:]).sum(0, keepdim=True)
            count = module._conv_forward(spikes, there, None).double().sum().item()
        else:
            spikes = (x != 0).to(torch.float32).flatten(0, -2).sum(0)
            count = torch.dot(spikes.double(), there.sum(0).double()).item()
        name = self._names.get(id(module.weight)) or self._names[id(module)]  # a computed weight is no parameter
        self.by_weight[name] = self.by_weight.get(name, 0.0) + count


def synops(net: nn.Module, x: Tensor) -> float:
    """Return the synaptic operations per sample of time-major frames (T, B, ...) at inference; see `SynOps`.

    Example:
        >>> from bregma.nn import SpikingMLP
        >>> synops(SpikingMLP(4, hidden=(3,), classes=2), torch.zeros(5, 2, 4))
        0.0
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a torch.nn.Module, got {type(net).__name__}")
    if x.dim() < 3:
        raise ValueError(f"x must be time-major (T, B, ...), got shape {tuple(x.shape)}")
    with evaluating(net), SynOps(net) as ops:
        net(x)
    return ops.total / x.shape[1]
