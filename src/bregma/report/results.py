"""What a run folder says, read once and checked, for figures and reports."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bregma.runs.build import build_network
from bregma.runs.experiment import Experiment
from bregma.runs.folder import Config, RunFolder

Array = NDArray[Any]

_ROW_NUMBERS = (
    "epoch",
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
    "density",
    "firing_rate",
    "seconds",
)
_BY_LAYER = ("layer_density", "firing_rates")
_WHOLE = ("epoch", "best_epoch")
_MOST = 1e300  # JSON knows integers that no float can hold
_SUMMARY_NUMBERS = ("test_accuracy", "validation_accuracy", "best_epoch", "density", "firing_rate", "seconds")


@dataclass(frozen=True)
class Sample:
    """One test sample and what it causes.

    Attributes:
        input: (T, features).
        label: its class.
        prediction: what the network said.
        spikes: layer name -> (T, n), zeros and ones.
        scores: (T, classes), membranes of the readout.
    """

    input: Array
    label: int
    prediction: int
    spikes: dict[str, Array]
    scores: Array


@dataclass(frozen=True)
class Results:
    """Everything of a run that figures and reports show.

    Attributes:
        folder: where it was read from.
        config: its settings.
        rows: one dict per finished epoch; empty before the first.
        summary: None before the run has ended.
        weights: the weight matrices of the best epoch by name, in the order of the network; rows are outputs.
        sample: a test sample, a rightly classified one if there is any; None before the run has ended.
    """

    folder: RunFolder
    config: Config
    rows: list[dict[str, Any]]
    summary: dict[str, Any] | None
    weights: dict[str, Array]
    sample: Sample | None

    @property
    def best(self) -> dict[str, Any]:
        """The epoch with the best validation accuracy, the lower loss deciding between equals.

        In a run with a target density, of the epochs that have reached it; before that, the last epoch.
        """
        rows = [row for row in self.rows if row.get("reached", True)] or self.rows[-1:]
        return max(rows, key=lambda row: (row["validation_accuracy"], -row["validation_loss"]))

    @property
    def unit(self) -> str:
        """What ``epoch`` counts: ADMM looks at all samples in each iteration."""
        return "iteration" if self.config.experiment.method == "admm" else "epoch"

    @property
    def planned(self) -> int:
        """Epochs or iterations that the run is to have."""
        experiment = self.config.experiment
        return experiment.admm.iterations if experiment.method == "admm" else experiment.epochs

    @property
    def done(self) -> int:
        """Epochs or iterations that were measured so far."""
        return int(self.rows[-1]["epoch"]) if self.rows else 0

    @property
    def nonzero(self) -> int:
        """Connections that are left in the best epoch; biases are none."""
        return sum(int(np.count_nonzero(weight)) for weight in self.weights.values())

    @property
    def connections(self) -> int:
        """Connections that the network could have."""
        return sum(weight.size for weight in self.weights.values())

    @property
    def firing_rate(self) -> float:
        """Spikes per hidden neuron and time step: on the test part, or before the end in the best epoch."""
        return float((self.summary or self.best)["firing_rate"])

    def column(self, name: str) -> Array:
        """One number of each epoch."""
        return np.array([row[name] for row in self.rows], dtype=float)

    def columns(self, name: str) -> dict[str, Array]:
        """The numbers of each epoch that are kept by layer."""
        return {key: np.array([row[name][key] for row in self.rows], dtype=float) for key in self.rows[0][name]}


def read_results(folder: RunFolder) -> Results:
    """Read a run, finished or not.

    Args:
        folder: a run folder.

    Returns:
        What is there.

    Raises:
        FileNotFoundError: no run is there, or one of its files is missing.
        ValueError: a file is broken; the message names it.
    """
    config = folder.config()
    rows, summary = folder.metrics(), folder.summary()
    for number, row in enumerate(rows, 1):
        where = f"{folder.path / 'metrics.jsonl'}: line {number}"
        _require(where, row, _ROW_NUMBERS, _BY_LAYER)
        if config.experiment.method == "admm":
            _require_solver(where, row.get("solver"), rows[0].get("solver"))
        if any(row[name].keys() != rows[0][name].keys() for name in _BY_LAYER):
            raise ValueError(f"{where}: other layers than in line 1")
    if summary is not None:
        _require(str(folder.path / "summary.json"), summary, _SUMMARY_NUMBERS, ("firing_rates",))
        if not rows:
            raise FileNotFoundError(f"{folder.path / 'metrics.jsonl'} is missing or empty, though the run has ended")
    return Results(
        folder,
        config,
        rows,
        summary,
        _weights(folder, config, list(rows[0]["layer_density"])) if rows else {},
        _sample(folder, config, list(rows[0]["firing_rates"])) if summary else None,
    )


def flat_settings(experiment: Experiment) -> dict[str, Any]:
    """The settings that the method of a run takes; those of ADMM as ``admm.NAME``."""
    settings: dict[str, Any] = {}
    for name, value in experiment.to_dict().items():
        settings |= {f"{name}.{key}": own for key, own in value.items()} if isinstance(value, dict) else {name: value}
    return settings


def as_text(value: object) -> str:
    """A setting as tables show it."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def layer_label(name: str) -> str:
    """What people call a layer.

    Example:
        >>> layer_label("hidden.0.linear.weight"), layer_label("hidden.0.neurons"), layer_label("readout.linear.weight")
        ('hidden 1', 'hidden 1', 'readout')
        >>> layer_label("hidden.1.neurons.recurrent.weight"), layer_label("conv.weight")
        ('hidden 2 recurrent', 'conv')
    """
    hidden = re.fullmatch(r"hidden\.(\d+)\.(?:linear\.weight|neurons(\.recurrent\.weight)?)", name)
    if hidden:
        return f"hidden {int(hidden[1]) + 1}{' recurrent' if hidden[2] else ''}"
    return name.removesuffix(".weight").removesuffix(".linear")


def _require(where: str, values: dict[str, Any], numbers: tuple[str, ...], by_layer: tuple[str, ...]) -> None:
    """Raise a ValueError that says where, if a value is missing or no number."""
    for name in (*numbers, *({"synops"} & values.keys())):  # which version 0.1.0 did not count
        _require_number(where, name, values.get(name))
    for name in by_layer:
        layers = values.get(name)
        if not isinstance(layers, dict) or not layers:
            raise ValueError(f"{where}: {name} must hold one number per layer, got {layers!r}")
        for layer, value in layers.items():
            _require_number(where, f"{name} of {layer}", value)


def _require_solver(where: str, values: Any, first: Any) -> None:
    """Raise unless these are the figures of a solver: numbers, and lists of as many numbers as in the first line."""
    if not isinstance(values, dict) or values.keys() != first.keys():
        raise ValueError(f"{where}: solver must hold the figures of line 1, got {values!r}")
    for name, value in values.items():
        entries, wanted = (entry if isinstance(entry, list) else [entry] for entry in (value, first[name]))
        if len(entries) != len(wanted):
            raise ValueError(f"{where}: solver {name} must hold {len(wanted)} numbers, got {value!r}")
        for entry in entries:
            _require_number(where, f"solver {name}", entry)


def _require_number(where: str, name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _MOST:
        raise ValueError(f"{where}: {name} must be a finite number, got {value!r}")
    if name in _WHOLE and not isinstance(value, int):
        raise ValueError(f"{where}: {name} must be a whole number, got {value!r}")


def _weights(folder: RunFolder, config: Config, names: list[str]) -> dict[str, Array]:
    path = folder.path / "best.safetensors"
    tensors = folder.tensors("best")
    try:
        with torch.device("meta"):  # shapes alone
            wanted = {name: tuple(weight.shape) for name, weight in build_network(config).named_parameters()}
    except (OverflowError, RuntimeError, TypeError) as error:
        where = folder.path / "config.toml"
        raise ValueError(f"{where}: hidden or frame_shape is larger than a tensor can be") from error
    for name in names:
        shape = tuple(tensors[name].shape) if name in tensors else None
        if shape is None or len(shape) < 2:
            raise ValueError(f"{path}: the weight matrix {name!r} of metrics.jsonl is not there")
        if shape != wanted.get(name):
            raise ValueError(f"{path}: {name} has the shape {shape}, config.toml makes it {wanted.get(name)}")
        if not tensors[name].isfinite().all():
            raise ValueError(f"{path}: {name} must be finite, got NaN or infinity")
    return {name: tensors[name].flatten(1).float().numpy() for name in names}


def _sample(folder: RunFolder, config: Config, layers: list[str]) -> Sample:
    path = folder.path / "sample.safetensors"
    tensors = {
        name: tensor.float().numpy() if tensor.is_floating_point() else tensor.numpy()
        for name, tensor in folder.tensors("sample").items()
    }
    ranks = {"input": 3, "label": 1, "prediction": 1, "scores": 3, **{f"spikes/{layer}": 3 for layer in layers}}
    for name, rank in ranks.items():
        if name not in tensors or tensors[name].ndim != rank or len(tensors[name]) != len(tensors["input"]) or not rank:
            raise ValueError(f"{path}: {name!r} is missing or does not fit the others")
        if not np.isfinite(tensors[name]).all():
            raise ValueError(f"{path}: {name!r} must be finite, got NaN or infinity")
    times = {tensors[name].shape[1] for name, rank in ranks.items() if rank == 3}
    features = int(np.prod(config.frame_shape))
    if len(times) > 1 or tensors["input"].shape[2] != features or tensors["scores"].shape[2] != len(config.classes):
        raise ValueError(f"{path}: samples do not fit each other or the frame_shape and classes of config.toml")
    said = np.concatenate([tensors["label"], tensors["prediction"]])
    if len(said) == 0 or not 0 <= said.min() <= said.max() < len(config.classes):
        raise ValueError(f"{path}: no samples, or labels beyond the classes of config.toml")
    right = np.flatnonzero(tensors["label"] == tensors["prediction"])
    number = int(right[0]) if len(right) else 0
    return Sample(
        tensors["input"][number],
        int(tensors["label"][number]),
        int(tensors["prediction"][number]),
        {layer: tensors[f"spikes/{layer}"][number] for layer in layers},
        tensors["scores"][number],
    )
