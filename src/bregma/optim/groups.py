"""Which parameter gets which penalty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from bregma.nn.weights import split_parameters


def param_groups(
    model: nn.Module,
    *,
    lam: float | None = None,
    penalty: str = "l1",
    sparse: Sequence[str] = (),
    dense: Sequence[str] = (),
    **options: Any,
) -> list[dict[str, Any]]:
    """Split a model's parameters into weights, which get the penalty, and the rest, which does not.

    See :func:`bregma.nn.weights.split_parameters` for what is a weight. A parameter that is shared counts once.

    Args:
        model: the model.
        lam: weight of the penalty. Default: the optimiser's own.
        penalty: name of the penalty, see :func:`bregma.prox.get`. Default: "l1".
        sparse: patterns (``fnmatch``, e.g. ``"mixer.*"``) of full names of parameters that are weights all the same.
        dense: patterns of names of parameters to leave alone; they win over ``sparse``.
        options: further options of the weights' group, e.g. ``init="sparse"``.

    Returns:
        One group with the weights and one, with ``lam=0`` and ``penalty="none"``, with the rest; a group without
        parameters is left out.

    Raises:
        ValueError: a parameter fits no rule, a pattern fits no parameter, or a parameter is not initialised yet.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2, bias=False))
        >>> [(len(group["params"]), group["lam"]) for group in param_groups(model, lam=0.1)]
        [(2, 0.1), (3, 0.0)]
    """
    weights, rest = split_parameters(model, sparse=sparse, dense=dense)
    penalised: dict[str, Any] = {"params": list(weights.values()), "penalty": penalty, **options}
    if lam is not None:
        penalised["lam"] = lam
    free: dict[str, Any] = {"params": list(rest.values()), "penalty": "none", "lam": 0.0}
    return [group for group in (penalised, free) if group["params"]]
