"""What `ADMMClassifier` may be given: types, names and what belongs to which solver, checked before any work.

Ranges of numbers are those of `Constants`, `Settings` and `ConsistentSettings`, which check themselves.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from numbers import Integral
from typing import Any, get_args

from bregma.admm.checks import whole
from bregma.admm.convolution import Convolution
from bregma.admm.layers import as_hidden
from bregma.admm.parameters import CONSISTENT_ONLY, PAPER_ONLY, EstimatorParameters, Init, SolverName
from bregma.admm.targets import RULES, Rule
from bregma.dynamics.checks import is_number

Parameters = Mapping[str, Any]

_WHOLE = {"iterations": 1, "batch_size": 1, "measure_every": 1, "warming": 0, "anderson": 0}
_REAL = ("decay", "threshold", "ridge", "step", "readout_ridge", "density", "rho", "sigma", "epsilon", "relaxation")
_MAY_BE_NONE = ("iterations", "batch_size", "measure_every", "ridge", "step", "density")


def normalised(p: Parameters) -> dict[str, Any]:
    """The parameters with Python integers and tuples for whatever numbers and sequences were given.

    Raises:
        TypeError: naming the parameter, its value and what is allowed.
        ValueError: likewise; or a parameter that only the other solver looks at was changed.
    """
    hidden = as_hidden(p["hidden"])
    for name, least in _WHOLE.items():
        if p[name] is not None or name not in _MAY_BE_NONE:
            whole(name, p[name], least)
    for name in _REAL:
        if not is_number(p[name]) and not (p[name] is None and name in _MAY_BE_NONE):
            raise TypeError(f"{name} must be a number, got {p[name]!r}")
    for name, choice in (("solver", SolverName), ("init", Init)):
        if p[name] not in get_args(choice):
            raise ValueError(f"{name} must be one of {', '.join(get_args(choice))}, got {p[name]!r}")
    _check_seed(p["random_state"])
    _check_coding(p["coding"])
    _check_rule(p["rule"])
    _check_class_weight(p["class_weight"])
    if p["solver"] == "paper" and not all(isinstance(layer, int | Convolution) for layer in hidden):
        raise ValueError(f"hidden must hold numbers of neurons or convolutions with solver='paper', got {hidden}")
    _refuse_unused(p)
    integers = {name: int(v) for name, v in p.items() if isinstance(v, Integral) and not isinstance(v, bool)}
    weights = dict(p["class_weight"]) if isinstance(p["class_weight"], Mapping) else p["class_weight"]
    tuples = {"hidden": hidden, "frame_shape": _frame_shape(p["frame_shape"]), "coding": tuple(p["coding"])}
    return {**p, **integers, **tuples, "class_weight": weights}


def _refuse_unused(p: Parameters) -> None:
    """Raise if a parameter that the solver does not look at was changed: it would do nothing."""
    usual = inspect.signature(EstimatorParameters.__init__).parameters
    unused = PAPER_ONLY if p["solver"] == "consistent" else CONSISTENT_ONLY
    changed = [f"{name}={p[name]!r}" for name in unused if p[name] != usual[name].default]
    if changed:
        have, them = ("has", "it") if len(changed) == 1 else ("have", "them")
        raise ValueError(f"{', '.join(changed)} {have} no meaning with solver={p['solver']!r}; leave {them} out")


def _check_seed(seed: Any) -> None:
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise TypeError(f"random_state must be an integer, so that a fit can be repeated, got {seed!r}")
    if not -(2**63) <= int(seed) < 2**64:
        raise ValueError(f"random_state must be an integer of 64 bits, got {seed}")


def _check_coding(coding: Any) -> None:
    try:
        off, on = coding
    except (TypeError, ValueError):
        off = on = None
    if not (is_number(off) and is_number(on) and -math.inf < off < on < math.inf):
        raise ValueError(f"coding must be two numbers, the second larger, got {coding!r}")


def _check_rule(rule: Any) -> None:
    allowed = f"one of {', '.join(RULES)} or an object of bregma.admm"
    if isinstance(rule, str):
        if rule not in RULES:
            raise ValueError(f"rule must be {allowed}, got {rule!r}")
    elif isinstance(rule, type) or not isinstance(rule, Rule):
        raise TypeError(f"rule must be {allowed}, got {rule!r}")


def _check_class_weight(weights: Any) -> None:
    if weights is None or (isinstance(weights, str) and weights == "balanced"):
        return
    if not isinstance(weights, Mapping):
        kind = ValueError if isinstance(weights, str) else TypeError
        raise kind(f"class_weight must be None, 'balanced' or a dict, got {weights!r}")
    for label, weight in weights.items():
        if not is_number(weight) or not 0 <= weight < math.inf:
            raise ValueError(f"class_weight must hold finite weights >= 0, got {weight!r} for the class {label!r}")


def _frame_shape(shape: Any) -> tuple[int, ...] | None:
    if shape is None:
        return None
    try:
        sides = tuple(shape)
    except TypeError:
        raise TypeError(f"frame_shape must be (channels, height, width) or None, got {shape!r}") from None
    return tuple(whole("frame_shape", side, 1) for side in sides)
