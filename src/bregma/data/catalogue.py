"""The data sets by name."""

from __future__ import annotations

from pathlib import Path

from bregma.data.dataset import Splits
from bregma.data.digits import load_digit_events


def load(name_or_path: str, *, root: Path | None = None, steps: int | None = None, seed: int = 0) -> Splits:
    """Load a data set by name.

    Args:
        name_or_path: "digits".
        root: Folder of the data files.
        steps: Number of frames T of a sample; each data set has its default.
        seed: Seed of the cut between training and validation.

    Returns:
        The three parts.
    """
    if name_or_path == "digits":
        return load_digit_events(steps=steps, seed=seed)
    raise ValueError(f"data must be 'digits', got {name_or_path!r}")
