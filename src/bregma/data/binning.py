"""Events to frames: the one place where a spike time becomes a time step."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bregma.dynamics import memory

Events = NDArray[Any]


def bin_events(
    times: Events,
    units: Events,
    n_units: int,
    *,
    steps: int | None = None,
    window: float | None = None,
    dt: float | None = None,
    indptr: NDArray[np.int64] | None = None,
    binary: bool = False,
    legacy_float16: bool = False,
) -> NDArray[np.uint8] | NDArray[np.int64]:
    r"""Count events per time step and unit.

    An event at time t falls in step :math:`\lfloor t \cdot T / \mathrm{window} \rfloor`, or
    :math:`\lfloor t / \mathrm{dt} \rfloor` where `dt` is given, computed in float64 whatever the dtype of `times`.
    With integer times and window (microseconds) this is exact. Steps are half open: an event on an inner edge belongs
    to the later step, an event at `window` itself is outside. Events before 0 or past the last step are dropped, so
    `len(times) - frames.sum()` is their number when `binary` is false. The order of the events does not matter.

    Give `window` and `steps`, or `dt` and `steps`, or `dt` alone: then there are as many steps as the last event needs.

    Args:
        times: Event times, in any unit that `window` and `dt` share, shape (E,).
        units: Index of the channel or pixel of each event, integers in [0, n_units), shape (E,).
        n_units: Number of channels or pixels.
        steps: Number of time steps T, >= 1.
        window: Length of time that the T steps divide, > 0.
        dt: Length of one step, > 0.
        indptr: Where several samples are given one after the other: sample b holds the events
            `indptr[b]:indptr[b + 1]`; shape (B + 1,).
        binary: 1 where at least one event fell, instead of their number.
        legacy_float16: Compute `1000 * t // (1000 * dt)` in float16, as much public code for the Heidelberg data sets
            does (times in seconds). It moves 2 % of the spikes to another bin at 10 ms and a quarter of them at 1 ms:
            only for repeating published figures.

    Returns:
        Frames (T, n_units), or (T, B, n_units) with `indptr`: int64 counts, or uint8 zeros and ones if `binary`.

    Raises:
        TypeError: If the units are not integers or the times not numbers.
        ValueError: If shapes do not fit, a time is not finite, a unit is out of range, or a number is not positive.
        MemoryError: If the frames would not fit into memory.

    Example:
        >>> bin_events(np.array([0.0, 0.5, 0.9, 1.0]), np.array([0, 1, 1, 0]), 2, steps=2, window=1.0)
        array([[1, 0],
               [0, 2]])
    """
    times, units = np.asarray(times), np.asarray(units)
    _check_events(times, units, n_units)
    bounds = _check_indptr(indptr, len(times))
    many, length = _step_ratio(steps, window, dt)
    if legacy_float16:
        with np.errstate(over="ignore", invalid="ignore"):  # a time beyond float16 is in no step
            milliseconds = times.astype(np.float16) * np.float16(1000)
            step = np.floor_divide(milliseconds, np.float16(1000 * length / many)).astype(np.float64)
    else:
        step = np.floor(times.astype(np.float64) * many / length)
    if steps is None:
        last = max(step.max(initial=0.0), 0.0)
        if not last < 2**53:
            raise ValueError(
                f"dt must be such that the last event has a step, got dt={dt} for an event at {times.max()}"
            )
        steps = int(last) + 1
    inside = (step >= 0) & (step < steps)
    n_samples = len(bounds) - 1
    shape = (steps, n_units) if indptr is None else (steps, n_samples, n_units)
    size = math.prod(shape)
    memory.require(
        size if binary else 8 * size, f"frames of shape {shape}", "use fewer samples per call or fewer steps"
    )
    sample = np.repeat(np.arange(n_samples), np.diff(bounds))
    cell = (step[inside].astype(np.int64) * n_samples + sample[inside]) * n_units + units[inside].astype(np.int64)
    if binary:
        hit = np.zeros(size, dtype=np.uint8)
        hit[cell] = 1
        return hit.reshape(shape)
    return np.bincount(cell, minlength=size).reshape(shape)


def _step_ratio(steps: int | None, window: float | None, dt: float | None) -> tuple[int, float]:
    """(m, l) such that m steps take a time l, from whichever of the three numbers were given."""
    if steps is not None and steps < 1:
        raise ValueError(f"steps must be >= 1, got {steps}")
    if (dt is None) == (window is None) or (dt is None and steps is None):
        raise ValueError(f"window and steps, or dt, must be given, got window={window}, steps={steps}, dt={dt}")
    name, length = ("window", window) if dt is None else ("dt", dt)
    if length is None or not 0 < length < np.inf:
        raise ValueError(f"{name} must be > 0, got {length}")
    return (steps or 1, length) if dt is None else (1, length)


def _check_events(times: Events, units: Events, n_units: int) -> None:
    if times.ndim != 1 or times.shape != units.shape:
        raise ValueError(f"times and units must be of one shape (E,), got {times.shape} and {units.shape}")
    if times.dtype.kind not in "iuf":
        raise TypeError(f"times must be numbers, got {times.dtype}")
    if units.dtype.kind not in "iu":
        raise TypeError(f"units must be integers, got {units.dtype}")
    if n_units < 1:
        raise ValueError(f"n_units must be >= 1, got {n_units}")
    if times.dtype.kind == "f" and not np.isfinite(times).all():
        bad = np.flatnonzero(~np.isfinite(times))[0]
        raise ValueError(f"times must be finite, got {times[bad]} at event {bad}")
    if len(units) and (int(units.max()) >= n_units or int(units.min()) < 0):
        bad = np.flatnonzero((units >= n_units) | (units < 0))[0]
        raise ValueError(f"units must be in [0, {n_units}), got {units[bad]} at event {bad}")


def _check_indptr(indptr: NDArray[np.int64] | None, n_events: int) -> NDArray[np.int64]:
    if indptr is None:
        return np.array([0, n_events])
    indptr = np.asarray(indptr)
    if indptr.ndim != 1 or len(indptr) < 1 or indptr[0] != 0 or indptr[-1] != n_events or (np.diff(indptr) < 0).any():
        raise ValueError(f"indptr must rise from 0 to the number of events {n_events}, got {indptr}")
    return indptr
