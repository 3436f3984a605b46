"""The paper's solver as the estimator drives it: a solver that holds its data, and true scores."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bregma.admm.forward import forward
from bregma.admm.solver import ADMM


class PaperTraining:
    """Iterations of Algorithm 2, see `bregma.admm.fitting.Trained`.

    Args:
        solver: with the data it is trained on.
    """

    def __init__(self, solver: ADMM) -> None:
        self.solver = solver

    @property
    def iteration(self) -> int:
        """How many iterations were done."""
        return self.solver.iteration

    @property
    def weights(self) -> list[Tensor]:
        """W of each layer, the readout's last."""
        return self.solver.variables.weights

    def step(self) -> None:
        """One iteration."""
        self.solver.step()

    def measure(self) -> dict[str, Any]:
        """See `ADMM.measure`."""
        return self.solver.measure()

    def scores(self, x: Tensor) -> Tensor:
        """The readout of the true network (B, classes)."""
        return forward(x, self.weights, self.solver.constants, self.solver.network.correlations)

    def state_dict(self) -> dict[str, Any]:
        """See `ADMM.state_dict`."""
        return self.solver.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `ADMM.load_state_dict`."""
        self.solver.load_state_dict(state)
