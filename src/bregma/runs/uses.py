"""Which settings a run looks at: one that would do nothing is refused, not ignored."""

from collections.abc import Callable
from typing import Any, NamedTuple

from bregma.runs.admm_settings import ADMMSettings

#: What the method admm takes; it refuses the other fields, as the other methods refuse ``admm``.
ADMM_FIELDS = ("data", "method", "hidden", "decay", "steps", "threads", "seed", "validation", "admm")
_CONSISTENT_ONLY = ("density", "recurrent")  # and with its solver consistent

_PENALISED = ("adabreg", "linbreg", "proxsgd")
_STARTED = ("adabreg", "linbreg")
_DECAYED = ("adam", "adamw")


class Kind(NamedTuple):
    """Settings that decide what others are good for."""

    method: str
    density: float
    network: str
    init: str
    solver: str

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Kind":
        """From fields of an experiment, those that are not there at their defaults."""
        admm = values.get("admm")
        solver = admm.get("solver") if isinstance(admm, dict) else getattr(admm, "solver", None)
        return cls(
            values.get("method", "adabreg"),
            values.get("density", 0.0),
            values.get("network", "mlp"),
            values.get("init", "sparse"),
            solver or ADMMSettings.solver,
        )

    def unused(self, name: str) -> str | None:
        """For whom a setting has no meaning, in words; None if the run looks at it.

        Example:
            >>> Kind.of({"method": "linbreg"}).unused("weight_decay")
            'the method linbreg'
            >>> Kind.of({"density": 0.1}).unused("weight_decay")
        """
        if self.method == "admm":
            if name in _CONSISTENT_ONLY:
                return "the method admm with the solver paper" if self.solver == "paper" else None
            return None if name in ADMM_FIELDS else "the method admm"
        if name in _ONLY:
            used, whom = _ONLY[name]
            return None if used(self) else whom(self)
        return None

    def used(self, values: dict[str, Any]) -> dict[str, Any]:
        """Those of some settings that the run looks at."""
        return {name: value for name, value in values.items() if self.unused(name) is None}


def _method(kind: Kind) -> str:
    density = (" with a density" if kind.density else " without a density") if kind.method == "adabreg" else ""
    return f"the method {kind.method}{density}"


def _network(kind: Kind) -> str:
    return f"the network {kind.network}"


_Rule = tuple[Callable[[Kind], bool], Callable[[Kind], str]]
_OWN_NEURONS: _Rule = (lambda kind: kind.network == "mlp", _network)
_DELAYS: _Rule = (lambda kind: kind.network != "mlp", _network)
_PENALTY: _Rule = (lambda kind: kind.method in _PENALISED and not kind.density, _method)

#: Fields that only some of the gradient methods' runs look at: whether one does, and how the others are called.
_ONLY: dict[str, _Rule] = {
    "admm": (lambda kind: False, lambda kind: f"the method {kind.method}"),
    "weight_decay": (lambda kind: kind.method in _DECAYED or bool(kind.density), _method),
    "lam": _PENALTY,
    "penalty": _PENALTY,
    "init": (lambda kind: kind.method in _STARTED and not kind.density, _method),
    "init_density": (
        lambda kind: kind.method in _STARTED and not kind.density and kind.init == "sparse",
        lambda kind: _method(kind) if kind.density or kind.method not in _STARTED else f"the init {kind.init}",
    ),
    **dict.fromkeys(("recurrent", "decay", "readout_decay", "gain"), _OWN_NEURONS),
    **dict.fromkeys(("delay_lr", "delay_schedule", "rounding"), _DELAYS),
}
