"""Which parameter gets which penalty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from torch import nn

from bregma.nn.weights import split_parameters

T = TypeVar("T")


def param_groups(
    model: nn.Module,
    *,
    lam: float | Mapping[str, float] | None = None,
    penalty: str | Mapping[str, str] = "l1",
    sparse: Sequence[str] = (),
    dense: Sequence[str] = (),
    rates: Mapping[str, float] | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """Split a model's parameters into weights, which get a penalty, and the rest, which does not.

    See :func:`bregma.nn.weights.split_parameters` for what is a weight. A parameter that is shared counts once.

    Args:
        model: the model.
        lam: weight of the penalty. Default: the optimiser's own. A mapping from name patterns (``fnmatch``) to
            numbers gives every layer its own; the first pattern that matches counts.
        penalty: name of the penalty, see :func:`bregma.prox.get`, or a mapping from name patterns to names, e.g.
            ``{"conv*": "group_l1:kernels", "*": "l1"}``. Default: "l1".
        sparse: patterns of full names of parameters that are weights all the same, e.g. ``["mixer.*"]``.
        dense: patterns of names of parameters to leave alone; they win over ``sparse``.
        rates: learning rates of parameters by name pattern, e.g. ``{"*.delays": 5e-2, "*.p_spread": 5e-2}``; the first
            pattern that matches counts. Default: all have the optimiser's own.
        options: further options of the weights' groups, e.g. ``init="sparse"``.

    Returns:
        One group for each pair of ``lam`` and ``penalty`` in use and one, with ``lam=0`` and ``penalty="none"``, for
        the rest; each of them once more for every rate in use.

    Raises:
        TypeError: ``model`` is not a module, or a sequence of patterns is a string.
        ValueError: a parameter fits no rule or no pattern, a pattern fits no parameter, or a parameter is not
            initialised yet.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2, bias=False))
        >>> [(len(group["params"]), group["lam"]) for group in param_groups(model, lam=0.1)]
        [(2, 0.1), (3, 0.0)]
    """
    weights, rest = split_parameters(model, sparse=sparse, dense=dense)
    for argument, value in (("lam", lam), ("penalty", penalty), ("rates", rates)):
        for pattern in value if isinstance(value, Mapping) else ():
            if not any(fnmatchcase(name, pattern) for name in (*weights, *rest)):
                raise ValueError(f"{argument} pattern {pattern!r} matches no parameter of the model")
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for name, p in weights.items():
        own_lam, own_penalty, rate = _of("lam", lam, name), _of("penalty", penalty, name), _rate(rates, name)
        strength = {} if own_lam is None else {"lam": own_lam}
        new = {"params": [], "penalty": own_penalty, **strength, **options, **rate}
        groups.setdefault((True, own_lam, own_penalty, *rate.values()), new)["params"].append(p)
    for name, p in rest.items():
        rate = _rate(rates, name)
        new = {"params": [], "penalty": "none", "lam": 0.0, **rate}
        groups.setdefault((False, *rate.values()), new)["params"].append(p)
    return list(groups.values())


def _rate(rates: Mapping[str, float] | None, name: str) -> dict[str, float]:
    """Return the option ``lr`` of a parameter, or nothing if it has none of its own."""
    return next(({"lr": rate} for pattern, rate in (rates or {}).items() if fnmatchcase(name, pattern)), {})


def _of(argument: str, value: T | Mapping[str, T], name: str) -> T:
    """Return the value for the weight called ``name``."""
    if not isinstance(value, Mapping):
        return value
    for pattern, own in value.items():
        if fnmatchcase(name, pattern):
            return own
    raise ValueError(f"{argument} has no pattern that matches weight {name!r}, got {', '.join(map(repr, value))}")
