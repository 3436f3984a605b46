"""The folder that a run leaves: config, metrics, checkpoints, summary. Reads nothing that could run code.

======================= =============================================================================================
``config.toml``         the experiment, what network it needs, and the versions it ran with
``metrics.jsonl``       one line per epoch
``best.safetensors``    weights of the epoch with the best validation accuracy
``last.safetensors``    weights of the last epoch
``last.pt``             weights, optimizer, schedule, generator and progress: what ``--resume`` goes on from
``sample.safetensors``  some test samples with the spikes and scores they cause, for the figures
``summary.json``        the figures a script wants
``figures/``            pictures, made from the files above
``report.html``         one self-contained page
======================= =============================================================================================
"""

import contextlib
import io
import json
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors.torch
import tomlkit
import torch
from torch import Tensor

from bregma import __version__
from bregma.data import FrameDataset, Splits
from bregma.files import locked, read_checkpoint, read_tensors, write_bytes, write_text
from bregma.runs.experiment import Experiment
from bregma.runs.texts import read_json, read_toml

FORMAT = 1
_PACKAGES = ("torch", "numpy", "numba", "scikit-learn")


@dataclass(frozen=True)
class Config:
    """What ``config.toml`` holds.

    Args:
        experiment: every setting of the run.
        frame_shape: shape of one input frame.
        steps: time steps per sample.
        classes: names of the classes.
        title: what the data are.
        synthetic: whether the recordings were simulated rather than measured.
        environment: versions, platform.

    Raises:
        ValueError: one of them is of another type, or a size below 1.
    """

    experiment: Experiment
    frame_shape: tuple[int, ...]
    steps: int
    classes: tuple[str, ...]
    title: str
    synthetic: bool
    environment: dict[str, str]

    def __post_init__(self) -> None:
        texts = isinstance(self.environment, dict) and all(isinstance(text, str) for text in self.environment.values())
        for name, fits, wanted in (
            ("frame_shape", _all(self.frame_shape, _is_size), "sizes >= 1"),
            ("steps", _is_size(self.steps), "an integer >= 1"),
            ("classes", _all(self.classes, lambda value: isinstance(value, str)), "names"),
            ("title", isinstance(self.title, str), "a text"),
            ("synthetic", isinstance(self.synthetic, bool), "true or false"),
            ("environment", texts, "names and texts"),
        ):
            if not fits:
                raise ValueError(f"{name} must be {wanted}, got {getattr(self, name)!r}")

    def require_fit(self, dataset: FrameDataset, name: str) -> None:
        """Refuse data that the network of this run was not made for.

        Raises:
            ValueError: frames of another shape, or other classes.
        """
        if dataset.frame_shape != self.frame_shape:
            raise ValueError(
                f"data: frames of {name} have the shape {dataset.frame_shape}, the network takes {self.frame_shape}"
            )
        if dataset.classes != self.classes:
            raise ValueError(
                f"data: {name} has the classes {_brief(dataset.classes)}, the network {_brief(self.classes)}"
            )


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _all(values: tuple[Any, ...], fits: Callable[[Any], bool]) -> bool:
    return len(values) > 0 and all(map(fits, values))


def _brief(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:3])} ... {names[-1]} ({len(names)})" if len(names) > 4 else ", ".join(names)


def require_folder(path: Path) -> None:
    """Refuse a path to write files to that is itself a file."""
    if path.exists() and not path.is_dir():
        raise ValueError(f"out: {path} is a file, not a folder")


def require_new(path: Path) -> None:
    """Refuse a file, and a folder that already holds a run or a sweep: either would write over the other's report."""
    require_folder(path)
    for name, what in (("config.toml", "run"), ("sweep.toml", "sweep")):
        if (path / name).exists():
            raise ValueError(f"out: {path} already holds a {what}; choose another folder, or go on with --resume")


class RunFolder:
    """Reads and writes the files of one run.

    Args:
        path: the folder; it need not exist before `create`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def figures(self) -> Path:
        """Where the pictures go."""
        return self.path / "figures"

    @property
    def report(self) -> Path:
        """The page a person looks at."""
        return self.path / "report.html"

    def require_new(self) -> None:
        """Refuse a folder that already holds a run, or a sweep."""
        require_new(self.path)

    def create(self, config: Config) -> None:
        """Make the folder and write ``config.toml``; refuse a folder that already holds a run."""
        self.require_new()
        self.path.mkdir(parents=True, exist_ok=True)
        document = {
            "format": FORMAT,
            "experiment": config.experiment.to_dict(),
            "network": {
                "frame_shape": list(config.frame_shape),
                "steps": config.steps,
                "classes": list(config.classes),
            },
            "data": {"title": config.title, "synthetic": config.synthetic},
            "environment": config.environment,
        }
        write_text(self.path / "config.toml", tomlkit.dumps(document))

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Keep every other process that trains out of the folder; see `bregma.files.locked`."""
        return locked(self.path / "config.toml")

    def config(self) -> Config:
        """Read ``config.toml``; one clear error if this is no run, or one of another format."""
        path = self.path / "config.toml"
        if not path.is_file():
            if (self.path / "sweep.toml").is_file():
                raise FileNotFoundError(f"{self.path} holds a sweep, not a run; name a run folder in it")
            raise FileNotFoundError(f"{self.path} holds no run: config.toml is missing")
        document = read_toml(path)
        if document.get("format") != FORMAT:
            raise ValueError(
                f"{path}: run format {document.get('format')!r}, this version of bregma reads format {FORMAT}; "
                "train it anew, or read it with the version named in the file"
            )
        try:
            return Config(
                experiment=Experiment.from_dict(document["experiment"]),
                frame_shape=tuple(document["network"]["frame_shape"]),
                steps=document["network"]["steps"],
                classes=tuple(document["network"]["classes"]),
                title=document["data"]["title"],
                synthetic=document["data"]["synthetic"],
                environment=document["environment"],
            )
        except KeyError as error:
            raise ValueError(f"{path}: {error} is missing") from error
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error

    def metrics(self) -> list[dict[str, Any]]:
        """The epochs so far, one dict each."""
        path = self.path / "metrics.jsonl"
        if not path.is_file():
            return []
        return [read_json(path, line, number) for number, line in enumerate(path.read_bytes().splitlines(), 1)]

    def write_metrics(self, rows: list[dict[str, Any]]) -> None:
        """Replace ``metrics.jsonl``; a run has few epochs, so it is written whole and never torn."""
        write_text(self.path / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write ``summary.json``."""
        write_text(self.path / "summary.json", json.dumps(summary, indent=2) + "\n")

    def summary(self) -> dict[str, Any] | None:
        """What ``summary.json`` says, or None before the run has ended."""
        path = self.path / "summary.json"
        return read_json(path, path.read_bytes()) if path.is_file() else None

    def write_tensors(self, name: str, tensors: dict[str, Tensor]) -> None:
        """Write ``name``.safetensors."""
        contiguous = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        write_bytes(self.path / f"{name}.safetensors", safetensors.torch.save(contiguous))

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Read ``name``.safetensors."""
        path = self.path / f"{name}.safetensors"
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing; has the run finished its first epoch?")
        return read_tensors(path)[0]

    def write_state(self, state: dict[str, Any]) -> None:
        """Write ``last.pt``: tensors and plain values only, so that `torch.load(weights_only=True)` reads it."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_bytes(self.path / "last.pt", buffer.getbuffer())  # without a second copy, which nobody counted

    def has_state(self) -> bool:
        """Whether the run got as far as its first checkpoint."""
        return (self.path / "last.pt").is_file()

    def kept(self) -> str:
        """What is left of a run that fails, to end its error with; nothing before the first checkpoint."""
        return f"; the last checkpoint in {self.path} is kept" if self.has_state() else ""

    def forget_unstarted(self) -> None:
        """Take back what `create` made if no checkpoint came of it, so that better settings find their place free."""
        if not self.has_state():
            for name in ("config.toml", "metrics.jsonl"):
                (self.path / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # something else is in it
                self.path.rmdir()

    def state(self) -> dict[str, Any]:
        """Read ``last.pt``."""
        state: dict[str, Any] = read_checkpoint(self.path / "last.pt")
        return state


def describe(experiment: Experiment, splits: Splits) -> Config:
    """The config of an experiment on its data.

    Raises:
        ValueError: the experiment asks for what the data are not made for.
    """
    frames = splits.train
    if experiment.shift and len(frames.frame_shape) < 2:
        raise ValueError(f"shift must be 0 for frames of shape {frames.frame_shape}: they are no images")
    if experiment.shift and experiment.shift >= min(frames.frame_shape[-2:]):
        of = f"for frames of {frames.frame_shape}"
        raise ValueError(f"shift must leave some of the image, got {experiment.shift} {of}")
    return Config(
        experiment, frames.frame_shape, frames.steps, frames.classes, splits.title, splits.synthetic, environment()
    )


def environment() -> dict[str, str]:
    """Versions and platform, as ``config.toml`` keeps them."""
    return {
        "bregma": __version__,
        **{package: version(package) for package in _PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
