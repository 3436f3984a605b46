"""The solver that `ADMMClassifier.partial_fit` goes on with, or starts from weights alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from bregma.admm import building
from bregma.admm.arguments import Parameters
from bregma.admm.checkpoint import digest
from bregma.admm.consistent import ConsistentADMM
from bregma.admm.fitting import Data
from bregma.admm.paper import PaperTraining

#: What a stream may change on the way, since no solver holds it: each call reads it anew.
_FREE = ("iterations", "batch_size", "measure_every", "verbose", "layout", "step")


@dataclass(frozen=True)
class Running:
    """A solver, and what it was made of.

    Args:
        solver: after `fit` or a call of `partial_fit`.
        made_of: parameters, and for the paper's solver a digest of its data.
    """

    solver: ConsistentADMM | PaperTraining
    made_of: str

    @classmethod
    def of(cls, p: Parameters, solver: ConsistentADMM | PaperTraining, data: Data) -> Running:
        """What `fit` leaves behind."""
        return cls(solver, _made_of(p, data))

    @classmethod
    def start(
        cls, p: Parameters, data: Data, classes: NDArray[Any], weights: list[Tensor] | None, iteration: int
    ) -> Running:
        """A new solver, which goes on from weights if they are those of the network that the parameters describe.

        Args:
            p: parameters.
            data: the frames and label codes that it will see first.
            classes: the labels.
            weights: learnt so far, if any.
            iteration: in which they were learnt.
        """
        inputs = data[0].shape[2]
        if weights is not None and not fit_together(p, inputs, weights):
            weights = None
        if p["solver"] == "paper":
            training = building.paper_training(p, data, classes, weights)
            training.solver.iteration = 0 if weights is None else iteration
            return cls.of(p, training, data)
        solver = building.online_solver(p, inputs, len(classes))
        if weights is not None:
            solver.resume(weights, iteration)
        return cls.of(p, solver, data)

    def goes_on(self, p: Parameters, data: Data) -> bool:
        """Whether this solver is the one for these parameters and data."""
        return self.made_of == _made_of(p, data)

    def next(self, p: Parameters, data: Data, classes: NDArray[Any]) -> Callable[[], None]:
        """The next iteration, ready to be done: all that can be refused is checked.

        Raises:
            MemoryError: it would not fit.
        """
        if isinstance(self.solver, PaperTraining):
            return self.solver.step
        ready = building.batch(p, self.solver, data, classes)
        return partial(self.solver.step, *ready, share=building.step_of(p, full=False))


def fit_together(p: Parameters, inputs: int, weights: list[Tensor]) -> bool:
    """Whether weights are of the shapes that the parameters describe."""
    return [tuple(weight.shape) for weight in weights] == building.shapes(p, inputs, len(weights[-1]))


def _made_of(p: Parameters, data: Data) -> str:
    """A text, so that a rule or a dict which is changed in place differs from what it was."""
    held = {name: value for name, value in p.items() if name not in _FREE}
    return repr((held, digest(*data) if p["solver"] == "paper" else None))
