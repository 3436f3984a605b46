"""The inner loop of the simulated event camera, compiled by numba."""

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


@numba.njit(cache=True, inline="always")  # type: ignore[untyped-decorator]
def _uniform(counter: Any) -> Any:
    """Number in (0, 1) from a counter by the mixing function SplitMix64 (Steele, Lea, Flood 2014)."""
    z = counter * _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    z = z ^ (z >> np.uint64(31))
    return (float(z >> np.uint64(11)) + 0.5) * _TO_UNIT


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def record(
    image: NDArray[np.float32],
    path: NDArray[np.float64],
    thresholds: NDArray[np.float32],
    lowpass: float,
    refractory: float,
    jitter: float,
    noise: float,
    seed: Any,
    out_times: NDArray[np.int32],
    out_units: NDArray[np.int32],
) -> int:
    """Record one image; returns the number of events written, pixel by pixel.

    Args:
        image: Logarithmic brightness with a border of one zero pixel, shape (h + 2, w + 2).
        path: Position of the image's corner on the sensor at each millisecond, columns x and y, shape (M, 2).
        thresholds: ON and OFF thresholds, shape (2, height, width).
        lowpass: Share of the difference made up per millisecond.
        refractory: Microseconds.
        jitter: Standard deviation in microseconds.
        noise: Probability per pixel and millisecond.
        seed: Seed of jitter and noise.
        out_times: Room for event times in microseconds.
        out_units: Room for event units.
    """
    rows, columns = image.shape
    moments = path.shape[0]
    height, width = thresholds.shape[1], thresholds.shape[2]
    # Every random number is a hash of (seed, how many came before): no state but a counter.
    counter = (seed + np.uint64(1)) * _MIX_1
    skip = math.log1p(-noise) if noise < 1.0 else -math.inf
    # The fractions of bilinear interpolation are the same for every pixel: pixels are whole numbers apart.
    corner = np.empty((moments, 2), dtype=np.int64)
    weights = np.empty((moments, 4))
    for m in range(moments):
        left, top = math.floor(1.0 - path[m, 0]), math.floor(1.0 - path[m, 1])
        fu, fv = 1.0 - path[m, 0] - left, 1.0 - path[m, 1] - top
        corner[m, 0], corner[m, 1] = left, top
        weights[m, 0], weights[m, 1] = (1.0 - fv) * (1.0 - fu), (1.0 - fv) * fu
        weights[m, 2], weights[m, 3] = fv * (1.0 - fu), fv * fu
    count = 0
    for y in range(height):
        for x in range(width):
            threshold_on, threshold_off = thresholds[0, y, x], thresholds[1, y, x]
            filtered = reference = 0.0
            ready = -1.0
            counter += np.uint64(2)
            next_noise = math.inf if noise == 0.0 else 1000.0 * math.log(_uniform(counter)) / skip
            for m in range(moments):
                # The brightness of the image at this pixel, by bilinear interpolation; dark outside of it.
                j, i = x + corner[m, 0], y + corner[m, 1]
                target = 0.0
                if 0 <= j < columns - 1 and 0 <= i < rows - 1:
                    target = (
                        weights[m, 0] * image[i, j]
                        + weights[m, 1] * image[i, j + 1]
                        + weights[m, 2] * image[i + 1, j]
                        + weights[m, 3] * image[i + 1, j + 1]
                    )
                if m == 0:
                    filtered = reference = target
                    continue
                before = filtered
                filtered += lowpass * (target - filtered)
                start, end = 1000.0 * (m - 1), 1000.0 * m
                while True:
                    # The next event in this millisecond, if any: a crossing (linear in time), or noise.
                    when, polarity = math.inf, 0
                    change = filtered - reference
                    if change > threshold_on or change < -threshold_off:
                        polarity = 0 if change > 0.0 else 1
                        level = reference + threshold_on if change > 0.0 else reference - threshold_off
                        share = (level - before) / (filtered - before) if filtered != before else 0.0
                        when = max(start + 1000.0 * min(max(share, 0.0), 1.0), ready)
                    if next_noise < min(when, end):
                        counter += np.uint64(2)
                        when, polarity = max(next_noise, ready), 1
                        next_noise += 1000.0 * math.log(_uniform(counter)) / skip
                        is_noise = True
                    else:
                        is_noise = False
                    if when >= end:
                        break
                    if is_noise:
                        reference = before + (filtered - before) * (when - start) / 1000.0
                    else:
                        reference += threshold_on if polarity == 0 else -threshold_off
                    ready = when + refractory
                    counter += np.uint64(2)
                    radius = math.sqrt(-2.0 * math.log(_uniform(counter)))
                    late = jitter * radius * math.cos(2.0 * math.pi * _uniform(counter + np.uint64(1)))
                    out_times[count] = max(0, int(when + late))
                    out_units[count] = (polarity * height + y) * width + x
                    count += 1
    return count
