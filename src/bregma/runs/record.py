"""What every training loop keeps of a run, whatever the method: progress, the best weights, the summary."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from bregma.data import Splits
from bregma.runs.build import load_best
from bregma.runs.evaluate import Evaluation, evaluate, sample_activity, with_spread
from bregma.runs.folder import RunFolder
from bregma.sparsity import density, layer_densities, nonzero, parameters


class Observer(Protocol):
    """Who watches a run: the progress bar, or nobody."""

    def start(self, done: int, total: int) -> None:
        """Called once, with the steps done before (in a run that is resumed) and to be done in all."""

    def step(self, loss: float | None = None) -> None:
        """Called after each step of the optimizer, with its loss, or of the solver."""

    def epoch(self, row: dict[str, Any]) -> None:
        """Called with each new line of ``metrics.jsonl``."""


@dataclass
class Progress:
    """How far a run has come; plain values, part of the checkpoint."""

    epoch: int = 0
    seconds: float = 0.0
    best_epoch: int = 0
    best_accuracy: float = -1.0
    best_loss: float = float("inf")
    rows: list[dict[str, Any]] = field(default_factory=list)


def measured(net: nn.Module, validation: Evaluation) -> dict[str, Any]:
    """What a line of ``metrics.jsonl`` says of the network and of its validation."""
    return {
        "validation_loss": validation.loss,
        "validation_accuracy": validation.accuracy,
        "density": density(net),
        "layer_density": layer_densities(net),
        "nonzero": nonzero(net),
        "firing_rate": validation.firing_rate,
        "firing_rates": validation.firing_rates,
        "synops": round(validation.synops, 1),
    }


def keep(folder: RunFolder, progress: Progress, tensors: dict[str, Tensor]) -> None:
    """Write the weights of the last line of the metrics, as the best ones too if they are.

    A line with ``reached`` false is denser than asked for: no candidate, but what reports show until there is one.
    """
    row = progress.rows[-1]
    accuracy, loss = row["validation_accuracy"], row["validation_loss"]
    if not row.get("reached", True):
        folder.write_tensors("best", tensors)
    elif (accuracy, -loss) > (progress.best_accuracy, -progress.best_loss):
        progress.best_epoch, progress.best_accuracy, progress.best_loss = row["epoch"], accuracy, loss
        folder.write_tensors("best", tensors)
    folder.write_tensors("last", tensors)


def restored(folder: RunFolder, restore: Callable[[dict[str, Any]], None]) -> None:
    """Hand the checkpoint to ``restore``, if the run got that far.

    Raises:
        ValueError: ``last.pt`` is broken or of another run.
        FileNotFoundError: the run has metrics, but no ``last.pt``.
    """
    if not folder.has_state():
        if folder.metrics():
            raise FileNotFoundError(f"{folder.path / 'last.pt'} is missing; without it the run cannot go on")
        return
    state = folder.state()
    try:
        restore(state)
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise ValueError(f"{folder.path / 'last.pt'}: no checkpoint of this run ({error})") from error


def finish(folder: RunFolder, splits: Splits, net: nn.Module, progress: Progress) -> dict[str, Any]:
    """Test the best weights once and write the summary.

    Returns:
        What ``summary.json`` holds.
    """
    settings = folder.config().experiment.to_dict()
    folder.write_metrics(progress.rows)  # an end between the last checkpoint and this file may have left it short
    load_best(net, folder, splits.test)
    test = evaluate(net, splits.test)
    folder.write_tensors("sample", sample_activity(net, splits.test))
    summary: dict[str, Any] = {
        **{name: settings[name] for name in ("method", "data", "seed", "lam") if name in settings},
        "test_accuracy": test.accuracy,
        "test_loss": test.loss,
        **with_spread(net, splits.test, "test"),
        "validation_accuracy": progress.best_accuracy,
        "best_epoch": progress.best_epoch,
        "epochs": progress.epoch,
        "density": density(net),
        "target_density": settings.get("density", 0.0),
        "parameters": parameters(net),
        "nonzero": nonzero(net),
        "firing_rate": test.firing_rate,
        "firing_rates": test.firing_rates,
        "synops": round(test.synops, 1),
        "seconds": round(progress.seconds, 3),
    }
    folder.write_summary(summary)
    return summary
