"""What `ADMMClassifier` makes of the numbers, frames and labels it is given, and whether they fit in memory."""

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bregma.dynamics.memory import available_bytes

Layout = Literal["time-major", "batch-major"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

_LARGEST = torch.finfo(torch.float32).max


def whole(name: str, value: Any, least: int) -> int:
    """An integer of any library as one of Python.

    Args:
        name: of the argument.
        value: what was given.
        least: that is allowed.

    Raises:
        TypeError: no integer.
        ValueError: too small.

    Example:
        >>> whole("kernel", np.int64(3), least=1)
        3
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer >= {least}, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be >= {least}, got {value}")
    return int(value)


def as_frames(frames: Any, layout: Layout, dtype: torch.dtype | None = torch.float32) -> Tensor:
    """Frames (T, B, n) from an array or tensor of either layout.

    Args:
        frames: of any dtype.
        layout: of their axes.
        dtype: wanted; None leaves them as they are, without a copy.

    Raises:
        TypeError: no real numbers.
        ValueError: not three-dimensional, empty, or not finite in float32; unknown layout.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    x = frames.detach() if isinstance(frames, Tensor) else _tensor(np.ascontiguousarray(frames))
    if x.is_complex():
        raise TypeError(f"X must hold real numbers, got {x.dtype}")
    if x.layout != torch.strided:
        raise TypeError(f"X must be a dense tensor, got {x.layout}")
    if x.dim() != 3 or 0 in x.shape:
        wanted = "(T, B, n)" if layout == "time-major" else "(B, T, n)"
        raise ValueError(f"X must be {layout} {wanted} without an empty axis, got shape {tuple(x.shape)}")
    x = x if layout == "time-major" else x.transpose(0, 1)
    x = x if dtype is None else x.to(dtype).contiguous()
    if x.is_floating_point():
        largest = max(abs(float(end)) for end in x.aminmax())  # NaN if there is one
        if not largest < math.inf:
            raise ValueError("X must be finite, got NaN or infinity")
        if largest > _LARGEST:
            raise ValueError(f"X must be finite in float32, got {largest:g}")
    return x


def _tensor(frames: NDArray[Any]) -> Tensor:
    if frames.dtype.kind not in "biuf":
        raise TypeError(f"X must hold real numbers, got {frames.dtype}")
    if frames.dtype.itemsize > 8:
        raise TypeError(f"X must hold numbers of at most 64 bits, got {frames.dtype}")
    return torch.from_numpy(frames.astype(frames.dtype.newbyteorder("="), copy=False))


def as_classes(name: str, labels: Any) -> NDArray[Any]:
    """Labels sorted, each once.

    Args:
        name: of the argument.
        labels: what was given.

    Raises:
        TypeError: labels that have no order, such as None.
        ValueError: no list of labels, or numbers that are not whole, as of a regression.
    """
    values = np.asarray(labels)
    if values.ndim != 1:
        raise ValueError(f"{name} must be a list of labels, got shape {values.shape}")
    if values.dtype.kind == "f" and (other := values[~(values == np.round(values))]).size:
        raise ValueError(f"{name} must hold labels of classes, got the continuous number {other[0]}")
    try:
        return np.unique(values)
    except TypeError:
        raise TypeError(f"{name} must hold labels that can be sorted, got {labels!r:.80}") from None


def as_codes(labels: Any, samples: int, classes: NDArray[Any]) -> Tensor:
    """Positions of labels of any dtype among the sorted classes (B,).

    Raises:
        ValueError: not one label per sample, or a label that is no class.
    """
    values = np.asarray(labels)
    if values.shape != (samples,):
        raise ValueError(f"y must hold one label for each of {samples} samples, got shape {values.shape}")
    codes = np.searchsorted(classes, values).clip(max=len(classes) - 1)
    unknown = classes[codes] != values
    if unknown.any():
        raise ValueError(f"y must hold labels among the classes {classes.tolist()}, got {values[unknown][0]!r}")
    return torch.from_numpy(codes)


def memory_needed(steps: int, samples: int, sizes: Sequence[int], copies: int = 1, item: int = 4) -> tuple[int, int]:
    """Bytes of membranes, spikes and multipliers, and bytes of everything the solver allocates.

    Args:
        steps: T.
        samples: B.
        sizes: inputs, neurons of each hidden layer, classes.
        copies: how many tensors there are of the size of each membrane or spike variable.
        item: bytes of a number.

    Example:
        >>> [round(size / 1e9, 2) for size in memory_needed(150, 200, (2312, 512, 512, 10))]
        [0.25, 1.17]
    """
    rows = steps * samples * item
    variables = copies * 2 * rows * sum(sizes[1:])
    scratch = 4 * rows * max(sizes[1:])
    systems = 4 * 8 * max(sizes) ** 2  # a Gram matrix, what is factorised, the factor, the inverse
    events = rows * sizes[0] * 3 // 20  # lists of them
    forward = steps * min(samples, 256) * (sizes[0] + 3 * max(sizes[1:])) * item
    passing = max(rows * sizes[0], forward)  # the columns of inputs that fire, before there are lists; scores
    return variables, variables + scratch + systems + events + passing


def batch_memory_needed(steps: int, samples: int, neurons: Sequence[int], features: Sequence[int], full: bool) -> int:
    """Bytes that an iteration of the consistent solver takes besides data that are float32 already.

    Args:
        steps: T.
        samples: of a mini-batch, or all of them.
        neurons: inputs, and neurons of each hidden layer.
        features: of each layer, the readout's last: columns of its weights.
        full: full-batch descent, which holds the activity that it comes from beside the one it tries.

    Example:
        >>> round(batch_memory_needed(30, 200, (578, 256, 256, 256), (578, 256, 256, 256), full=False) / 1e9, 2)
        0.14
    """
    rows, hidden = 4 * steps * samples, neurons[1:]
    activity = 2 * sum(hidden)  # membranes and spikes
    wide = map(max, neurons, features)  # features of delays or of the own layer are put side by side, patches are not
    sweep = max(2 * n + 3 * heard for n, heard in zip(hidden, wide, strict=False))  # displacements, gains, and traces
    passing = max(sweep, activity + max(hidden)) if full else sweep
    systems = 28 * sum(n**2 for n in features) + 32 * max(features) ** 2  # sums, inverses, a copy; one being made
    moves = 32 * sum(n * heard for n, heard in zip(hidden, features, strict=False))  # weights, cross matrices, steps
    return rows * (neurons[0] + activity + passing) + systems + moves


def require_memory(steps: int, samples: int, sizes: Sequence[int], copies: int = 1, held: int = 0) -> None:
    """Refuse what cannot fit before any work.

    Args:
        steps: see `memory_needed`, as for the next three.
        samples: B.
        sizes: inputs, neurons, classes.
        copies: of each variable.
        held: bytes that the caller will need besides.

    Raises:
        MemoryError: with what is needed and what there is.
    """
    variables, total = memory_needed(steps, samples, sizes, copies)
    total += held
    free = available_bytes()
    if total > free:
        raise MemoryError(
            f"hidden {tuple(sizes[1:-1])} on {samples} samples of {steps} steps needs {total / 1e9:.1f} GB "
            f"({variables / 1e9:.1f} GB of them membranes and spikes), but {free / 1e9:.1f} GB are free; "
            "use fewer samples, time steps or neurons"
        )


def require_batch_memory(
    steps: int, samples: int, neurons: Sequence[int], features: Sequence[int], full: bool = False, held: int = 0
) -> None:
    """Refuse a mini-batch of the consistent solver that cannot fit, before any work.

    Args:
        steps: see `batch_memory_needed`, as for all that follow.
        samples: of a mini-batch.
        neurons: n.
        features: columns of weights.
        full: all samples at once.
        held: bytes that the solver will need besides.

    Raises:
        MemoryError: with what is needed and what there is.
    """
    total = batch_memory_needed(steps, samples, neurons, features, full) + held
    free = available_bytes()
    if total > free:
        raise MemoryError(
            f"hidden {tuple(neurons[1:])} on {samples} samples of {steps} steps needs {total / 1e9:.1f} GB, "
            f"but {free / 1e9:.1f} GB are free; use a smaller batch_size, fewer time steps or neurons"
        )
