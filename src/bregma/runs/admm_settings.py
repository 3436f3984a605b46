"""The settings of an ADMM run: those of its solver, flat, and how long and on what it runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from bregma.admm import Settings

SolverName = Literal["consistent", "paper"]
Rule = Literal["window", "dithered", "flips"]
ReadoutKind = Literal["last", "mean"]
Order = Literal["random", "paper", "red-black"]
Loss = Literal["squared_error", "squared_hinge", "cross_entropy"]
SpikeUpdate = Literal["clip", "exact"]
Multipliers = Literal["readout", "all"]
ReadoutUpdate = Literal["sweep", "exact"]
Penalties = Literal["fixed", "balanced", "growing"]
Start = Literal["uniform", "forward"]

#: What both solvers take; of the others each refuses those of the other one.
_SHARED = ("solver", "iterations", "loss", "ridge", "samples", "measure_every")
_CONSISTENT = ("rule", "readout", "step", "batch_size", "readout_ridge")
_UNSET = ("ridge", "step", "batch_size")  # 0 stands for the default of `bregma.ADMMClassifier`


@dataclass(frozen=True)
class ADMMSettings:
    """How ADMM runs; `bregma.ADMMClassifier` says more of each setting.

    Args:
        solver: consistent starts every iteration at the true network and is what trains well; paper is Algorithm 2 of
            arXiv 2505.05527 as printed.
        iterations: of the solver, each on a mini-batch, or on all samples at once.
        loss: distance between the readout and the label.
        ridge: regularisation of the weights; 0 for 10 relative to what a layer hears, with the paper's solver for 1e-6
            relative to samples times steps.
        samples: train on this many samples, the same share of every class; 0 for all.
        measure_every: iterations between two lines of metrics, each with a checkpoint; 0 for an epoch on mini-batches,
            else for 10.
        rule: where membranes should go. Consistent solver, as the next four.
        readout: a sample's score is the readout's membrane at the last step, or its mean over time.
        step: by how much of their norm hidden weights move in an iteration; 0 for 0.3 with all samples at once, for
            0.05 on mini-batches, where it falls to zero.
        batch_size: samples of an iteration; as many as there are or more: full-batch descent. 0 for all of up to 2,000
            samples, else 200.
        readout_ridge: regularisation of the readout.
        warming: iterations before the multiplier moves. Paper's solver, as all that follow.
        rho: weight of the dynamics.
        sigma: weight of the agreement between spikes and membranes.
        epsilon: how far above the threshold a membrane is lifted.
        order: in which order layers and time steps are visited.
        spike_update: clip the minimiser to [0, 1], or find the exact one within.
        relaxation: spikes go this many times the way to their new values, in (0, 2).
        multipliers: of the readout's last step alone, or of all constraints.
        readout_update: step by step, or all time steps at once.
        penalties: rho and sigma are fixed, balanced or growing.
        anderson: former iterates to extrapolate from; 0 for none.
        start: membranes and spikes start uniform in [0, 1), or as the forward pass of random weights.
    """

    solver: SolverName = "consistent"
    iterations: int = 1000
    loss: Loss = "squared_error"
    ridge: float = 0.0
    samples: int = 0
    measure_every: int = 0
    rule: Rule = "window"
    readout: ReadoutKind = "last"
    step: float = 0.0
    batch_size: int = 0
    readout_ridge: float = 0.01
    warming: int = 300
    rho: float = 1.0
    sigma: float = 0.1
    epsilon: float = 1e-3
    order: Order = "random"
    spike_update: SpikeUpdate = "clip"
    relaxation: float = 1.0
    multipliers: Multipliers = "readout"
    readout_update: ReadoutUpdate = "sweep"
    penalties: Penalties = "fixed"
    anderson: int = 0
    start: Start = "uniform"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ADMMSettings:
        """The inverse of `to_dict`; raises `ValueError` on a field it does not know."""
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(f"admm has no field {unknown[0]!r}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values of the fields that the solver takes."""
        return {name: value for name, value in asdict(self).items() if self.takes(name)}

    def takes(self, name: str) -> bool:
        """Whether a field is one of those that the solver looks at."""
        return name in _SHARED or (name in _CONSISTENT) == (self.solver == "consistent")

    def check(self) -> None:
        """Raise `ValueError` for a setting out of its range, `TypeError` for a wrong type.

        Not done on construction: the command line would show the message in a box of many lines.
        """
        if self.solver not in get_args(SolverName):
            raise ValueError(f"admm.solver must be one of {', '.join(get_args(SolverName))}, got {self.solver!r}")
        if self.iterations < 1:
            raise ValueError(f"admm.iterations must be >= 1, got {self.iterations}")
        for name, zero in (("measure_every", "an epoch or 10"), ("samples", "all"), ("batch_size", "the default")):
            if getattr(self, name) < 0:
                raise ValueError(f"admm.{name} must be >= 0, 0 for {zero}, got {getattr(self, name)}")
        if self.start not in get_args(Start):
            raise ValueError(f"admm.start must be one of {', '.join(get_args(Start))}, got {self.start!r}")
        from bregma.admm import building  # imports torch: late, as in `Experiment`

        try:
            building.checked(self.parameters())
        except (TypeError, ValueError) as error:
            raise type(error)(f"admm.{error}") from error

    def parameters(self, **others: Any) -> dict[str, Any]:
        """Those of `bregma.ADMMClassifier`, whose defaults stand where nothing is set.

        Args:
            **others: that are no field of this class, such as ``decay``.
        """
        from bregma.admm import ADMMClassifier

        own = self.to_dict()
        for name in _UNSET:
            if not own.get(name, True):
                own[name] = None
        for name in ("samples", "measure_every", "start"):
            own.pop(name, None)
        return {**ADMMClassifier(**own).get_params(deep=False), **others}

    def solver_settings(self, decay: float) -> Settings:
        """What the paper's solver takes.

        Args:
            decay: what is left of a membrane after one step.
        """
        from bregma.admm import building

        return building.paper_settings(self.parameters(decay=decay))
