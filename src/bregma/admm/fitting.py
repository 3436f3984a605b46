"""The loop around a solver: iterate, measure on the true network, save, show."""

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor

from bregma.admm.progress import ProgressBar

Data = tuple[Tensor, Tensor]
History = list[dict[str, Any]]


class Trained(Protocol):
    """A solver with the data it is trained on."""

    @property
    def iteration(self) -> int:
        """How many iterations were done."""

    @property
    def weights(self) -> list[Tensor]:
        """W of each layer, the readout's last."""

    def step(self) -> None:
        """One iteration."""

    def measure(self) -> dict[str, Any]:
        """Figures of merit: numbers, or lists with a number per layer."""

    def scores(self, x: Tensor) -> Tensor:
        """The readout of the true network (B, classes)."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values that it needs to go on bit by bit."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""


def run(
    solver: Trained,
    history: History,
    data: dict[str, Data],
    *,
    iterations: int,
    measure_every: int,
    save: Callable[[], None] | None = None,
    save_every: int = 100,
    verbose: bool = False,
) -> None:
    """Iterate until ``iterations`` are done in all.

    Args:
        solver: where to go on from.
        history: measurements are appended to it.
        data: frames and label codes by name; each gives an entry ``NAME_accuracy``.
        iterations: how many there should be, those done before included.
        measure_every: iterations between two measurements; the last one is always measured.
        save: called every ``save_every`` iterations and after the last one.
        save_every: see ``save``.
        verbose: show a progress bar.
    """
    bar = ProgressBar(iterations) if verbose else None
    try:
        while solver.iteration < iterations:
            solver.step()
            done, point = solver.iteration, None
            if done % measure_every == 0 or done == iterations:
                point = measure(solver, data)
                history.append(point)
            if save is not None and (done % save_every == 0 or done == iterations):
                save()
            if bar is not None:
                bar.show(done, point)
    finally:
        if bar is not None:
            bar.stop()


def measure(solver: Trained, data: dict[str, Data]) -> dict[str, Any]:
    """The iteration, what the solver measures, and true accuracies."""
    accuracies = {f"{name}_accuracy": accuracy(solver, *part) for name, part in data.items()}
    return {"iteration": solver.iteration, **solver.measure(), **accuracies}


def accuracy(solver: Trained, x: Tensor, codes: Tensor) -> float:
    """Share of samples whose largest score, in a true forward pass, is that of their class."""
    return float((solver.scores(x).argmax(1) == codes).double().mean())
