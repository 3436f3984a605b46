"""How to run the consistent solver."""

from dataclasses import dataclass, field
from typing import get_args

from bregma.admm.losses import LossName
from bregma.admm.problem import Constants
from bregma.admm.targets import Rule, Window
from bregma.admm.traces import ReadoutKind


@dataclass(frozen=True)
class ConsistentSettings:
    """How to run `bregma.admm.consistent.ConsistentADMM`.

    Args:
        constants: of which ``decay`` and ``threshold`` are used.
        rule: where membranes should go, see `bregma.admm.targets`.
        loss: ``"squared_error"``, ``"squared_hinge"`` or ``"cross_entropy"``.
        readout: membrane at the ``"last"`` step, or its ``"mean"`` over time. (The largest over time does not fit: the
            step that is read would depend on the weights, sample by sample and class by class, and with it the Gram
            matrix.)
        step: by how much of their norm hidden weights move in an iteration, > 0. Mini-batches: 0.05; the first step
            that full-batch descent tries: 0.3.
        iterations: after which steps on mini-batches have shrunk to zero, linearly; None: they do not.
        ridge: mu of the hidden weights, relative to the mean of their Gram matrix' diagonal, > 0.
        readout_ridge: that of the readout.
        gram_every: iterations between two Gram matrices of a hidden layer on mini-batches, >= 1.
        gram_decay: what a Gram matrix counts when the next one is formed, in [0, 1).
        readout_decay: what a mini-batch counts for the readout after the next one, in [0, 1).
        leave_one_out: in full-batch descent, residuals of readouts fitted to all other samples.
        rate: share of steps at which neurons of random weights fire in the beginning, in (0, 0.5).
        density: share of all weights that may differ from zero in the end, in (0, 1]; None: all. See
            `bregma.admm.steps`.

    Raises:
        ValueError: a setting out of its range.

    Example:
        >>> ConsistentSettings(step=0.05, iterations=100).share(50)
        0.025
    """

    constants: Constants = field(default_factory=Constants)
    rule: Rule = field(default_factory=Window)
    loss: LossName = "squared_error"
    readout: ReadoutKind = "last"
    step: float = 0.05
    iterations: int | None = None
    ridge: float = 10.0
    readout_ridge: float = 0.01
    gram_every: int = 4
    gram_decay: float = 0.7
    readout_decay: float = 0.9
    leave_one_out: bool = True
    rate: float = 0.15
    density: float | None = None

    def __post_init__(self) -> None:
        for name in ("step", "ridge", "readout_ridge"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be > 0 and finite, got {getattr(self, name)}")
        for name in ("gram_decay", "readout_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        for name, choice in {"loss": LossName, "readout": ReadoutKind}.items():
            if getattr(self, name) not in get_args(choice):
                raise ValueError(f"{name} must be one of {', '.join(get_args(choice))}, got {getattr(self, name)!r}")
        if self.gram_every < 1 or (self.iterations is not None and self.iterations < 1):
            raise ValueError(f"gram_every, iterations must be >= 1, got {self.gram_every}, {self.iterations}")
        if self.density is not None and not 0 < self.density <= 1:
            raise ValueError(f"density must be in (0, 1], got {self.density}")
        if not 0 < self.rate < 0.5:
            raise ValueError(f"rate must be in (0, 0.5), got {self.rate}")

    def share(self, iteration: int) -> float:
        """By how much of their norm the weights move in an iteration on a mini-batch."""
        if self.iterations is None:
            return self.step
        return self.step * max(0.0, 1 - iteration / self.iterations)
