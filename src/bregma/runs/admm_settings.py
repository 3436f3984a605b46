"""The settings of an ADMM run: those of the solver, flat, and how long and on what it runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from bregma.admm import Settings

Order = Literal["random", "paper", "red-black"]
Loss = Literal["squared_error", "squared_hinge", "cross_entropy"]
SpikeUpdate = Literal["clip", "exact"]
Multipliers = Literal["readout", "all"]
ReadoutUpdate = Literal["sweep", "exact"]
Penalties = Literal["fixed", "balanced", "growing"]
Start = Literal["uniform", "forward"]


@dataclass(frozen=True)
class ADMMSettings:
    """How ADMM runs; `bregma.admm.Settings` says more. The paper's values are the defaults.

    Args:
        iterations: of Algorithm 2; each moves all variables once.
        warming: iterations before the multiplier moves.
        rho: weight of the dynamics.
        sigma: weight of the agreement between spikes and membranes.
        epsilon: how far above the threshold a membrane is lifted.
        ridge: regularisation of the weights, relative to samples times steps.
        order: in which order layers and time steps are visited.
        loss: distance between the readout's last membrane and the label.
        spike_update: clip the minimiser to [0, 1], or find the exact one within.
        relaxation: spikes go this many times the way to their new values, in (0, 2).
        multipliers: of the readout's last step alone, or of all constraints.
        readout_update: step by step, or all time steps at once.
        penalties: rho and sigma are fixed, balanced or growing.
        anderson: former iterates to extrapolate from; 0 for none.
        start: membranes and spikes start uniform in [0, 1), or as the forward pass of random weights.
        samples: train on this many samples, the same share of every class; 0 for all.
        measure_every: iterations between two lines of metrics, each with a checkpoint.
    """

    iterations: int = 1000
    warming: int = 300
    rho: float = 1.0
    sigma: float = 0.1
    epsilon: float = 1e-3
    ridge: float = 1e-6
    order: Order = "random"
    loss: Loss = "squared_error"
    spike_update: SpikeUpdate = "clip"
    relaxation: float = 1.0
    multipliers: Multipliers = "readout"
    readout_update: ReadoutUpdate = "sweep"
    penalties: Penalties = "fixed"
    anderson: int = 0
    start: Start = "uniform"
    samples: int = 0
    measure_every: int = 10

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ADMMSettings:
        """The inverse of `dataclasses.asdict`; raises `ValueError` on a field it does not know."""
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(f"admm has no field {unknown[0]!r}")
        return cls(**values)

    def check(self) -> None:
        """Raise `ValueError` for a setting out of its range.

        Not done on construction: the command line would show the message in a box of many lines.
        """
        for name in ("iterations", "measure_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"admm.{name} must be >= 1, got {getattr(self, name)}")
        if self.samples < 0:
            raise ValueError(f"admm.samples must be >= 0, 0 for all, got {self.samples}")
        if self.start not in get_args(Start):
            raise ValueError(f"admm.start must be one of {', '.join(get_args(Start))}, got {self.start!r}")
        try:
            self.solver_settings(decay=0.9)
        except ValueError as error:
            raise ValueError(f"admm.{error}") from error

    def solver_settings(self, decay: float) -> Settings:
        """What the solver takes.

        Args:
            decay: what is left of a membrane after one step.
        """
        from bregma.admm import Constants, Settings  # imports torch: late, as in `Experiment`

        own = asdict(self)
        for name in ("iterations", "start", "samples", "measure_every"):
            del own[name]
        constants = Constants(decay=decay, **{name: own.pop(name) for name in ("rho", "sigma", "epsilon", "ridge")})
        return Settings(constants, **own)
