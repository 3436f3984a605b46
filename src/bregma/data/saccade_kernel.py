"""The inner loops of the simulated event camera, compiled by numba."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_TO_UNIT = 2.0**-53


@numba.njit(cache=True)
def _uniform(counter: Any) -> Any:
    """Number in (0, 1) from a counter by the mixing function SplitMix64 (Steele, Lea, Flood 2014)."""
    z = counter * _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    z = z ^ (z >> np.uint64(31))
    return (float(z >> np.uint64(11)) + 0.5) * _TO_UNIT


@numba.njit(cache=True)
def record(
    canvas: NDArray[np.float32],
    corner: NDArray[np.uint64],
    weights: NDArray[np.float32],
    thresholds: NDArray[np.float32],
    lowest: Any,
    lowpass: Any,
    refractory: float,
    jitter: float,
    noise: float,
    seed: Any,
    state: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
    out_times: NDArray[np.int32],
    out_units: NDArray[np.int32],
) -> int:
    """Record one image; returns the number of events written, unsorted.

    Args:
        canvas: Logarithmic brightness of the image on a dark ground, wide enough for every offset of the path.
        corner: Column and row of the canvas that the sensor's first pixel sees at each millisecond, uint64,
            shape (M, 2).
        weights: Weights of the 2 x 2 canvas pixels that a sensor pixel sees between, shape (M, 4).
        thresholds: ON and OFF thresholds, shape (2, height, width).
        lowest: The lowest of the thresholds, float32.
        lowpass: Share of the difference made up per millisecond, float32.
        refractory: Milliseconds.
        jitter: Standard deviation in milliseconds.
        noise: Probability per pixel and millisecond.
        seed: Seed of jitter and noise, uint64.
        state: Room for the state of one row of pixels: four arrays of shape (width,).
        out_times: Room for event times in microseconds.
        out_units: Room for event units.
    """
    # numba compiles array expressions slowly: plain loops only, the first training run waits for them.
    # Unsigned indices spare the check for negative ones, so that the first of the loops over x becomes SIMD code.
    height, width, one = np.uint64(thresholds.shape[1]), np.uint64(thresholds.shape[2]), np.uint64(1)
    before, filtered, reference, ready = state
    # Every random number is a hash of (seed, how many came before): no state but a counter.
    counter = (seed + np.uint64(1)) * _MIX_1
    count = 0
    for y in range(height):
        for m in range(corner.shape[0]):
            column, row = corner[m, 0], corner[m, 1] + y
            w0, w1, w2, w3 = weights[m, 0], weights[m, 1], weights[m, 2], weights[m, 3]
            share = lowpass if m else np.float32(1.0)
            for x in range(width):
                at = column + x
                target = w0 * canvas[row, at] + w1 * canvas[row, at + one]
                target += w2 * canvas[row + one, at] + w3 * canvas[row + one, at + one]
                old = filtered[x]
                before[x] = old
                filtered[x] = old + share * (target - old)
            if m == 0:
                for x in range(width):
                    reference[x], ready[x] = filtered[x], 0.0
                continue
            for x in range(width):
                # Events of this pixel in this millisecond; its brightness is linear in time within it.
                while abs(filtered[x] - reference[x]) > lowest:
                    off = one if filtered[x] < reference[x] else one - one
                    step = -thresholds[1, y, x] if off else thresholds[0, y, x]
                    if abs(filtered[x] - reference[x]) <= abs(step):
                        break
                    # A level passed before this millisecond was waiting for the pixel's rest to end.
                    rise = filtered[x] - before[x]
                    passed = (reference[x] + step - before[x]) / rise if rise != 0.0 else 0.0
                    when = max(m - 1 + min(max(passed, 0.0), 1.0), ready[x])
                    if when >= m:
                        break
                    reference[x] += step
                    ready[x] = when + refractory
                    radius = math.sqrt(-2.0 * math.log(_uniform(counter)))
                    late = jitter * radius * math.cos(2.0 * math.pi * _uniform(counter + np.uint64(1)))
                    counter += np.uint64(2)
                    out_times[count] = max(0, int(1000.0 * (when + late)))
                    out_units[count] = (off * height + y) * width + x
                    count += 1
    # Spurious OFF events, as most of the real ones are: exponential gaps over all pixels' time laid end to end.
    at_ms = 0.0
    while noise > 0.0:
        at_ms -= math.log(_uniform(counter)) / noise
        counter += np.uint64(1)
        pixel = np.uint64(at_ms / corner.shape[0])
        if pixel >= height * width or count >= out_times.shape[0]:
            break
        out_times[count] = int(1000.0 * (at_ms - pixel * corner.shape[0]))
        out_units[count] = height * width + pixel
        count += 1
    return count
