"""How sparse a model is: exact zeros, counted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

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
    if not weights:
        raise ValueError(f"model must have weights, got a {type(model).__name__} without any")
    return _nonzero(weights.values()) / sum(w.numel() for w in weights.values())


def layer_densities(model: nn.Module, *, sparse: Sequence[str] = (), dense: Sequence[str] = ()) -> dict[str, float]:
    """Return the density of each weight tensor by its full name; arguments and errors as in :func:`density`.

    Example:
        >>> layer_densities(nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 1)))
        {'0.weight': 1.0, '1.weight': 1.0}
    """
    weights, _ = split_parameters(model, sparse=sparse, dense=dense)
    return {name: _nonzero([w]) / w.numel() for name, w in weights.items()}


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
