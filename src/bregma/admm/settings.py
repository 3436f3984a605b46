"""How to run Algorithm 2: the paper's choices as defaults, its section 6 and what it leaves open as options."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from bregma.admm.losses import LossName
from bregma.admm.order import Order
from bregma.admm.problem import Constants

SpikeUpdate = Literal["clip", "exact"]
Multipliers = Literal["readout", "all"]
ReadoutUpdate = Literal["sweep", "exact"]
Penalties = Literal["fixed", "balanced", "growing"]

_CHOICES = {
    "order": Order,
    "loss": LossName,
    "spike_update": SpikeUpdate,
    "multipliers": Multipliers,
    "readout_update": ReadoutUpdate,
    "penalties": Penalties,
}


@dataclass(frozen=True)
class Settings:
    """How to run Algorithm 2.

    Args:
        constants: see `Constants`; the solver multiplies ``ridge`` by the T * B rows of the regression, so that it
            means the same for any amount of data. Zero takes the weights of minimum norm.
        warming: iterations before the multipliers move, >= 0.
        order: in which order layers and time steps are visited: ``"random"`` (a new permutation per iteration, as in
            the paper's simulations), ``"paper"`` (Algorithm 2 as written) or ``"red-black"`` (even ones, then odd).
        loss: ``"squared_error"`` (the paper's), ``"squared_hinge"`` or ``"cross_entropy"``.
        spike_update: ``"clip"`` the minimiser of Eq. (8) to [0, 1] as the paper does, which may raise the Lagrangian,
            or solve for the ``"exact"`` minimiser within [0, 1], which costs many products.
        relaxation: spikes go this many times the way to their new values before the clip, in (0, 2); 1 is the paper's.
            Other values need ``spike_update="clip"``.
        multipliers: of the ``"readout"``'s last step as in the paper, or of ``"all"`` constraints.
        readout_update: the readout's membranes step by step (``"sweep"``, the paper's), or all time steps at once
            (``"exact"``).
        penalties: rho and sigma are ``"fixed"``; ``"growing"`` by one per cent per iteration up to a hundredfold; or
            sigma is ``"balanced"``: moved by a half, every fifth iteration, towards the side whose residual is more
            than twice the other's (root mean squares of membranes and spikes).
        anderson: number of former iterates that type-II Anderson acceleration extrapolates from; 0 is none. A proposal
            that does not lower the Lagrangian is dropped, and few do: the step of the spikes is not continuous. Not for
            the random order, which is another map in each iteration. Keeps twice as many copies of all variables.

    Raises:
        ValueError: a setting out of its range.

    Example:
        >>> Settings(order="paper").warming
        300
    """

    constants: Constants = field(default_factory=lambda: Constants(ridge=1e-6))
    warming: int = 300
    order: Order = "random"
    loss: LossName = "squared_error"
    spike_update: SpikeUpdate = "clip"
    relaxation: float = 1.0
    multipliers: Multipliers = "readout"
    readout_update: ReadoutUpdate = "sweep"
    penalties: Penalties = "fixed"
    anderson: int = 0

    def __post_init__(self) -> None:
        for name in ("warming", "anderson"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")
        for name, choice in _CHOICES.items():
            if getattr(self, name) not in get_args(choice):
                raise ValueError(f"{name} must be one of {', '.join(get_args(choice))}, got {getattr(self, name)!r}")
        if not 0 < self.relaxation < 2:
            raise ValueError(f"relaxation must be in (0, 2), got {self.relaxation}")
        if self.anderson and self.order == "random":
            raise ValueError(f"anderson must be 0 with the random order, got {self.anderson}")
        if self.relaxation != 1 and self.spike_update == "exact":
            raise ValueError(f"relaxation must be 1 with the exact spike update, got {self.relaxation}")
