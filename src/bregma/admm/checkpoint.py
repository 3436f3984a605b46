"""A fit saved to one file, and gone on with if the data and parameters are the same."""

import io
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bregma.admm.fitting import History, Trained
from bregma.files import read_checkpoint, write_bytes


def identity(parameters: Mapping[str, Any], classes: list[Any], x: Tensor, codes: Tensor) -> str:
    """What must be the same for a checkpoint to be gone on with: parameters, labels, a digest of the data."""
    return json.dumps([dict(parameters), classes, list(x.shape), digest(x, codes)], default=str)


def digest(x: Tensor, codes: Tensor) -> list[int]:
    """Numbers that differ for other data, of which nothing else is kept."""
    return [zlib.crc32(part.contiguous().view(torch.uint8).numpy().data) for part in (x, codes)]


def save(path: Path, of: str, solver: Trained, history: History) -> None:
    """Write tensors and plain values only, so that `torch.load(weights_only=True)` reads them; replaced in one move."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save({"of": of, "history": json.dumps(history), "solver": solver.state_dict()}, buffer)
    write_bytes(path, buffer.getbuffer())


def load(path: Path, of: str, solver: Trained) -> History:
    """Put a solver where the file left off; the history so far.

    Raises:
        ValueError: the file is damaged, or of other data or parameters.
    """
    try:
        state = read_checkpoint(path)
        found, history, inner = state["of"], json.loads(state["history"]), state["solver"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a checkpoint of a fit") from error
    if found != of:
        raise ValueError(f"checkpoint {path} is of other data or parameters; give another path or remove it")
    try:
        solver.load_state_dict(inner)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise ValueError(f"{path}: no checkpoint of this fit ({error})") from error
    kept: History = history
    return kept
