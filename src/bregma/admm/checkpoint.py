"""A fit saved to one file, and gone on with if the data and parameters are the same."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bregma.admm.fitting import History
from bregma.admm.solver import ADMM

#: Parameters that may differ between the fit that wrote a checkpoint and the one that goes on from it.
_FREE = ("iterations", "measure_every", "verbose")


def identity(parameters: Mapping[str, Any], classes: list[Any], x: Tensor, codes: Tensor) -> str:
    """What must be the same for a checkpoint to be gone on with: parameters, labels, a digest of the data."""
    kept = {name: value for name, value in parameters.items() if name not in _FREE}
    digest = [zlib.crc32(part.numpy().tobytes()) for part in (x, codes)]
    return json.dumps([kept, classes, list(x.shape), digest], default=str)


def save(path: Path, of: str, solver: ADMM, history: History) -> None:
    """Write tensors and plain values only, so that `torch.load(weights_only=True)` reads them; replaced in one move."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    torch.save({"of": of, "history": json.dumps(history), "solver": solver.state_dict()}, part)
    part.replace(path)


def load(path: Path, of: str, solver: ADMM) -> History:
    """Put a solver where the file left off; the history so far.

    Raises:
        ValueError: the file is damaged, or of other data or parameters.
    """
    try:
        state = torch.load(path, weights_only=True)
        found, history, inner = state["of"], json.loads(state["history"]), state["solver"]
    except Exception as error:  # torch raises RuntimeError, EOFError, UnpicklingError ... on a broken file
        raise ValueError(f"{path}: not a readable checkpoint ({type(error).__name__})") from error
    if found != of:
        raise ValueError(f"checkpoint {path} is of other data or parameters; give another path or remove it")
    solver.load_state_dict(inner)
    kept: History = history
    return kept
