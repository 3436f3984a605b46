"""The data sets by name."""

from __future__ import annotations

from pathlib import Path

from bregma.data.dataset import Splits
from bregma.data.digits import load_digit_events
from bregma.data.mnist import load_mnist
from bregma.data.sources import DATASETS, DatasetInfo

__all__ = ["DATASETS", "DatasetInfo", "load"]


def load(name_or_path: str, *, root: Path | None = None, steps: int | None = None, seed: int = 0) -> Splits:
    """Load a data set by name.

    Args:
        name_or_path: A name of `DATASETS`.
        root: Folder of the data files; the environment variable BREGMA_DATA or ~/.cache/bregma by default.
        steps: Number of frames T of a sample; each data set has its default.
        seed: Seed of the cut between training and validation, where there is no official one.

    Returns:
        The three parts.
    """
    if name_or_path == "digits":
        return load_digit_events(steps=steps, seed=seed)
    if name_or_path in ("mnist", "psmnist"):
        return load_mnist(root=root, steps=steps, seed=seed, permuted=name_or_path == "psmnist")
    raise ValueError(f"data must be one of {', '.join(DATASETS)} or a path, got {name_or_path!r}")
