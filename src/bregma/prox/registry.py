"""Penalties by name, so that optimisers keep strings, not objects, in their parameter groups and checkpoints."""

from __future__ import annotations

from bregma.prox.penalties import GROUP_AXES, L1, ElasticNet, GroupL1, NonNegL1, NoPenalty, Nuclear, Penalty

_PENALTIES: dict[str, Penalty] = {
    "none": NoPenalty(),
    "l1": L1(),
    "nonneg_l1": NonNegL1(),
    "elastic_net": ElasticNet(),
    "group_l1": GroupL1(),
    **{f"group_l1:{axis}": GroupL1(axis) for axis in GROUP_AXES},
    "nuclear": Nuclear(),
}


def get(name: str) -> Penalty:
    """Return the penalty called ``name``.

    Args:
        name: ``"none"``, ``"l1"``, ``"nonneg_l1"``, ``"elastic_net"`` or ``"elastic_net:RIDGE"`` (a number, default
            1), ``"group_l1:rows"`` (also plain ``"group_l1"``), ``"group_l1:columns"``, ``"group_l1:kernels"``,
            ``"group_l1:channels"``, ``"nuclear"``, or a name given to :func:`register`.

    Raises:
        TypeError: ``name`` is not a string.
        ValueError: no penalty has this name.

    Example:
        >>> get("elastic_net:0.5")
        ElasticNet(ridge=0.5)
    """
    if not isinstance(name, str):
        raise TypeError(f"penalty must be a name (str), got {type(name).__name__}; see bregma.prox.register")
    if name not in _PENALTIES and name.startswith("elastic_net:"):
        _PENALTIES[name] = ElasticNet(_ridge(name))
    if name not in _PENALTIES:
        raise ValueError(f"penalty must be one of {', '.join(names())}, got {name!r}")
    return _PENALTIES[name]


def _ridge(name: str) -> float:
    try:
        return float(name.partition(":")[2])
    except ValueError:
        raise ValueError(f"penalty 'elastic_net:RIDGE' needs a number as RIDGE, got {name!r}") from None


def register(name: str, penalty: Penalty) -> None:
    """Give a penalty of your own a name that optimisers accept as ``penalty=name``.

    Checkpoints hold the name alone, so register it again before loading one.

    Args:
        name: a name that is not taken, unless by an equal penalty.
        penalty: an instance of a :class:`Penalty` subclass.

    Raises:
        TypeError: ``name`` is not a string, or ``penalty`` not a :class:`Penalty`.
        ValueError: the name belongs to a different penalty.

    Example:
        >>> register("weak_ridge", ElasticNet(ridge=0.01))
        >>> get("weak_ridge")
        ElasticNet(ridge=0.01)
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, got {type(name).__name__}")
    if not isinstance(penalty, Penalty):
        raise TypeError(f"penalty must be a bregma.prox.Penalty, got {type(penalty).__name__}")
    if _PENALTIES.get(name, penalty) != penalty:
        raise ValueError(f"name must be new, got {name!r}, which is {_PENALTIES[name]}")
    _PENALTIES[name] = penalty


def names() -> list[str]:
    """Return the names that :func:`get` accepts.

    Example:
        >>> "l1" in names()
        True
    """
    return list(_PENALTIES)
