"""The file of a `SparseNetwork`: safetensors, with the places of weights in as few bytes as they need.

The weights of a layer are listed by presynaptic neuron. ``values`` holds those that are not zero. Their places are
stored in the shorter of two ways: ``gaps``, one byte per weight with the number of zeros before it, 255 standing for
255 zeros and no weight; or ``mask``, one bit per weight, lowest bit first.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from bregma.dynamics import RESETS, memory
from bregma.dynamics.compressed import Connections, Population
from bregma.dynamics.kernels import Array
from bregma.files import read_tensors, write_bytes
from bregma.nn.chain import Score
from bregma.sparsity.output import Output

Net = TypeVar("Net")

FORMAT = 1
_LONG = 255  # a gap byte that stands for zeros alone


def save(path: Path, hidden: tuple[Population, ...], output: Output) -> None:
    """See `SparseNetwork.save`."""
    tensors: dict[str, Tensor] = {}
    layers = []
    for k, layer in enumerate(hidden):
        _put(tensors, f"hidden.{k}.weight", layer.inputs)
        if layer.own is not None:
            _put(tensors, f"hidden.{k}.recurrent", layer.own)
        constants = {"bias": layer.bias, "decay": layer.decay, "threshold": layer.threshold, "delays": layer.shape}
        tensors |= {f"hidden.{k}.{name}": value for name, value in constants.items() if value is not None}
        layers.append({"reset": layer.reset, "strict": layer.strict})
    _put(tensors, "readout.weight", output.weights)
    tensors["readout.bias"] = output.bias
    tensors["readout.decay"] = output.decay
    facts = {"format": FORMAT, "inputs": hidden[0].inputs.n_in, "hidden": layers, "score": output.score}
    content = safetensors.torch.save(
        {name: value.contiguous() for name, value in tensors.items()}, {"bregma.SparseNetwork": json.dumps(facts)}
    )
    write_bytes(path, content)


def load(path: Path, make: Callable[[tuple[Population, ...], Output], Net]) -> Net:
    """See `SparseNetwork.load`; ``make`` checks the values, and what it finds wrong is said of the file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; SparseNetwork.save or bregma compact writes such a file")
    tensors, header = read_tensors(path)
    facts = header.get("bregma.SparseNetwork")
    if facts is None:
        raise ValueError(f"{path}: not the file of a SparseNetwork")
    try:
        return make(*_parts(json.loads(facts), tensors))
    except KeyError as error:
        raise ValueError(f"{path}: {error} is missing") from error
    except (TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: broken ({error})") from error


def _parts(facts: dict[str, Any], tensors: dict[str, Tensor]) -> tuple[tuple[Population, ...], Output]:
    if facts["format"] != FORMAT:
        raise ValueError(f"format {facts['format']!r}, this version of bregma reads format {FORMAT}")
    n_in = facts["inputs"]
    if not isinstance(n_in, int) or n_in < 1:
        raise ValueError(f"inputs must be an integer >= 1, got {n_in!r}")
    dtype = tensors["readout.bias"].dtype
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"weights must be float32 or float64, got {dtype}")
    hidden = []
    for k, options in enumerate(facts["hidden"]):
        prefix = f"hidden.{k}."
        bias = tensors[f"{prefix}bias"]
        n = len(bias)
        own = _get(tensors, f"{prefix}recurrent", n, n, dtype) if f"{prefix}recurrent.values" in tensors else None
        shape = tensors.get(f"{prefix}delays")
        if options["reset"] not in RESETS or not isinstance(options["strict"], bool):
            raise ValueError(f"reset must be one of {', '.join(RESETS)} and strict a bool, got {options}")
        if shape is not None and (own is None or shape.dim() != 2 or len(shape) < 1):
            raise ValueError(f"{prefix}delays must be (slots, n) beside recurrent weights, got {tuple(shape.shape)}")
        decay, threshold = tensors[f"{prefix}decay"], tensors[f"{prefix}threshold"]
        _check(prefix, [bias, decay, threshold, *([] if shape is None else [shape[0]])], n, dtype)
        inputs = _get(tensors, f"{prefix}weight", n_in, n, dtype)
        hidden.append(Population(inputs, bias, own, shape, decay, threshold, options["reset"], options["strict"]))
        n_in = n
    if not hidden or facts["score"] not in get_args(Score):
        raise ValueError(f"hidden layers and a score are needed, got {len(hidden)} and {facts['score']!r}")
    bias, leak = tensors["readout.bias"], tensors["readout.decay"]
    _check("readout.", [bias, leak], len(bias), dtype)
    weights = _get(tensors, "readout.weight", n_in, len(bias), dtype)
    return tuple(hidden), Output(weights, bias, leak, facts["score"])


def _check(prefix: str, constants: list[Tensor], n: int, dtype: torch.dtype) -> None:
    for value in constants:
        if value.shape != (n,) or n < 1 or value.dtype != dtype:
            raise ValueError(f"{prefix}*: constants must be ({n},) of {dtype}, got {tuple(value.shape)} {value.dtype}")


def _put(tensors: dict[str, Tensor], name: str, weights: Connections) -> None:
    position, values = weights.entries()
    size = weights.n_in * weights.n_out
    gaps = encode(position)
    tensors[f"{name}.values"] = torch.from_numpy(values)
    if len(gaps) <= size / 8:
        tensors[f"{name}.gaps"] = torch.from_numpy(gaps)
    else:
        mask = np.zeros(size, bool)
        mask[position] = True
        tensors[f"{name}.mask"] = torch.from_numpy(np.packbits(mask, bitorder="little"))


def _get(tensors: dict[str, Tensor], name: str, n_in: int, n_out: int, dtype: torch.dtype) -> Connections:
    values, size = tensors[f"{name}.values"], n_in * n_out
    mask = tensors.get(f"{name}.mask")
    coded = tensors[f"{name}.gaps"] if mask is None else mask
    if values.dtype != dtype or values.dim() != 1 or coded.dtype != torch.uint8 or coded.dim() != 1:
        raise ValueError(f"{name} must be a list of {dtype} and one of bytes, got {values.dtype} and {coded.dtype}")
    if mask is None:
        position = decode(coded.numpy())
    elif len(mask) != math.ceil(size / 8):
        raise ValueError(f"{name}.mask must have {math.ceil(size / 8)} bytes for {n_in} x {n_out}, got {len(mask)}")
    else:
        position = np.flatnonzero(np.unpackbits(mask.numpy(), bitorder="little"))
    if len(position) != len(values) or (len(position) and position[-1] >= size):
        raise ValueError(f"{name} must have {len(values)} places in {n_in} x {n_out}, got {len(position)}")
    memory.require(8 * n_in, f"{name} of {n_in} presynaptic neurons")
    return Connections.from_entries(position, values.numpy(), n_in, n_out)


def encode(position: Array) -> Array:
    """Ascending places as bytes that count what lies between them.

    Example:
        >>> encode(np.array([0, 1, 4, 600]))
        array([  0,   0,   2, 255, 255,  85], dtype=uint8)
    """
    gaps = np.diff(position, prepend=-1) - 1
    long = gaps // _LONG
    out = np.full(len(gaps) + long.sum(), _LONG, np.uint8)
    out[np.cumsum(long + 1) - 1] = gaps % _LONG
    return out


def decode(gaps: Array) -> Array:
    """The inverse of `encode`.

    Example:
        >>> decode(np.array([0, 0, 2, 255, 255, 85], dtype=np.uint8))
        array([  0,   1,   4, 600])
    """
    real = gaps != _LONG
    places: Array = (np.cumsum(gaps.astype(np.int64) + real) - 1)[real]
    return places
