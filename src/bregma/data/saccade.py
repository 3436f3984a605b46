"""A simulated event camera: a still image, moved by three saccades, becomes ON and OFF events.

N-MNIST was recorded by turning a neuromorphic camera before a screen (Orchard et al. 2015, Frontiers in Neuroscience
9:437). Here the image moves along the path that was measured on 1,100 of those recordings, and each pixel follows the
usual model of an event camera: it reports a change of its low-pass filtered logarithmic brightness by more than a
threshold, then rests.

The constants were fitted on 50 of those recordings. On 1,000 of them, simulated from MNIST's images: 4,139 +- 913
events against 4,133 +- 1,154 real ones, share of darkening 0.500 against 0.500, last event at 309 ms against 308 ms;
the numbers of events correlate by 0.93, maps of 12 time bins x 2 polarities x 34 x 34 pixels by 0.83 on average. The
real recordings differ more from each other.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bregma.data.saccade_kernel import record


class Events(NamedTuple):
    """Events of one or more recordings, one after the other.

    Attributes:
        times: Microseconds, int32, shape (E,), rising within a recording.
        units: Pixel and polarity as `(polarity * height + y) * width + x`, int32, shape (E,).
        indptr: Recording b holds the events `indptr[b]:indptr[b + 1]`, int64, shape (B + 1,).
    """

    times: NDArray[np.int32]
    units: NDArray[np.int32]
    indptr: NDArray[np.int64]


@dataclass(frozen=True)
class Camera:
    """Constants of the simulated camera; the defaults were fitted on real N-MNIST recordings.

    Attributes:
        height: Rows of the sensor.
        width: Columns of the sensor.
        amplitude: Length of the saccades relative to those of N-MNIST, which span about 5 pixels.
        log_contrast: k in the brightness log(1 + k * v) of an image value v in [0, 1].
        threshold: Mean change of brightness that makes an event, ON and OFF alike.
        mismatch: Standard deviation of the thresholds over the pixels, relative to their mean. The sensor is one
            and the same for all recordings.
        lowpass: Share of the remaining difference that a pixel's filtered brightness makes up in 1 ms, in (0, 1].
        refractory_us: Rest of a pixel after an event, in microseconds, >= 10.
        jitter_us: Standard deviation of the delay of an event, in microseconds.
        noise: Rate of spurious OFF events per pixel and millisecond, in [0, 1].
        sensor_seed: Seed of the thresholds' mismatch.
    """

    height: int = 34
    width: int = 34
    amplitude: float = 1.0
    log_contrast: float = 0.286
    threshold: float = 0.0412
    mismatch: float = 0.1529
    lowpass: float = 0.188
    refractory_us: float = 500.0
    jitter_us: float = 1500.0
    noise: float = 0.0002717
    sensor_seed: int = 0

    def __post_init__(self) -> None:
        for name in ("height", "width", "threshold"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)}")
        if not self.refractory_us >= 10:
            raise ValueError(f"refractory_us must be >= 10, got {self.refractory_us}")
        for name in ("amplitude", "log_contrast", "mismatch", "jitter_us"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")
        if not 0 < self.lowpass <= 1:
            raise ValueError(f"lowpass must be in (0, 1], got {self.lowpass}")
        if not 0 <= self.noise <= 1:
            raise ValueError(f"noise must be in [0, 1], got {self.noise}")


@cache
def saccade_path() -> NDArray[np.float64]:
    """Offset of the image on the sensor at 0, 1, ... 310 ms: columns x and y in N-MNIST pixels, shape (311, 2).

    Example:
        >>> saccade_path()[[0, 100, 200, 310]].round(1)
        array([[-2.5, -2. ],
               [-1. ,  3.3],
               [ 2.6, -1.7],
               [-2. , -1.7]])
    """
    fitted = json.loads(resources.files("bregma.data").joinpath("saccade_path.json").read_text(encoding="utf-8"))
    knots = fitted["step_ms"] * np.arange(len(fitted["x_px"]))
    milliseconds = np.arange(knots[-1] + 1)
    return np.stack([np.interp(milliseconds, knots, fitted[axis]) for axis in ("x_px", "y_px")], axis=1)


def simulate(images: NDArray[np.floating], camera: Camera | None = None, *, first_seed: int = 0) -> Events:
    """Record still images with the simulated event camera.

    The image is centred on the sensor and moved along `saccade_path`. Polarity 1 means that a pixel becomes darker, as
    in the files of N-MNIST. The noise of image b depends on `first_seed + b` alone, so a set can be recorded in parts.

    Args:
        images: Brightness in [0, 1], shape (B, h, w), no larger than the sensor.
        camera: Constants; those of N-MNIST by default.
        first_seed: Seed of the first image.

    Returns:
        The events, sorted by time within each recording.

    Raises:
        ValueError: If the images are not of shape (B, h, w), do not fit on the sensor, or leave [0, 1].

    Example:
        >>> images = np.zeros((2, 28, 28))
        >>> images[1, 8:20, 12:16] = 1.0
        >>> events = simulate(images)
        >>> counts = np.diff(events.indptr)
        >>> bool(counts[1] > 5 * counts[0])
        True
    """
    camera = camera or Camera()
    images = np.ascontiguousarray(images, dtype=np.float32)
    if images.ndim != 3 or images.shape[1] > camera.height or images.shape[2] > camera.width:
        raise ValueError(f"images must be of shape (B, h <= {camera.height}, w <= {camera.width}), got {images.shape}")
    if images.size and not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(f"images must be within [0, 1], got {images.min()} to {images.max()}")
    scene = _scene(images.shape[1:], camera)
    # A pixel emits at most one event per refractory period, and noise is rare: this scratch space always suffices.
    duration_ms = len(saccade_path())
    most = camera.height * camera.width * (int(1000 * duration_ms / camera.refractory_us) + 2 + duration_ms)
    scratch = np.empty(most, dtype=np.int32), np.empty(most, dtype=np.int32)
    pieces = [_record_one(image, scene, camera, first_seed + index, scratch) for index, image in enumerate(images)]
    counts = [len(times) for times, _ in pieces]
    empty = [np.empty(0, dtype=np.int32)]
    return Events(
        times=np.concatenate([times for times, _ in pieces] or empty),
        units=np.concatenate([units for _, units in pieces] or empty),
        indptr=np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64),
    )


@cache
def _thresholds(camera: Camera) -> NDArray[np.float32]:
    """Thresholds of ON and OFF of each pixel, shape (2, height, width), at least 0.3 of the mean."""
    generator = np.random.RandomState(camera.sensor_seed)  # frozen by numpy
    relative = 1 + camera.mismatch * generator.standard_normal((2, camera.height, camera.width))
    return (camera.threshold * np.maximum(relative, 0.3)).astype(np.float32)


class _Scene(NamedTuple):
    """How the sensor sees the canvas at each millisecond: see `saccade_kernel.record`."""

    padding: tuple[tuple[int, int], tuple[int, int]]
    corner: NDArray[np.uint64]
    weights: NDArray[np.float32]


def _scene(shape: tuple[int, int], camera: Camera) -> _Scene:
    """Padding of an image to the canvas, and the sensor's corner on it along the path."""
    path = saccade_path() * camera.amplitude
    margin = int(np.ceil(np.abs(path).max())) + 2
    sensor = np.array([camera.width, camera.height])
    size = np.array([shape[1], shape[0]])
    first = (sensor - size) // 2
    # Where the centred, moved image asks the sensor's first pixel to look, on a canvas whose image starts at
    # `margin + first`.
    look = margin + first - (sensor - size) / 2 - path
    corner = np.floor(look).astype(np.int64)
    u, v = (look - corner).T
    weights = np.stack([(1 - v) * (1 - u), (1 - v) * u, v * (1 - u), v * u], axis=1)
    left, top = margin + first
    right, bottom = sensor + 2 * margin - size - (left, top)
    return _Scene(((top, bottom), (left, right)), corner.astype(np.uint64), weights.astype(np.float32))


def _record_one(
    image: NDArray[np.float32],
    scene: _Scene,
    camera: Camera,
    seed: int,
    scratch: tuple[NDArray[np.int32], NDArray[np.int32]],
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    thresholds = _thresholds(camera)
    rows = np.zeros((4, camera.width), dtype=np.float32)
    count = record(
        np.pad(np.log1p(np.float32(camera.log_contrast) * image), scene.padding),
        scene.corner,
        scene.weights,
        thresholds,
        thresholds.min(),
        np.float32(camera.lowpass),
        camera.refractory_us / 1000,
        camera.jitter_us / 1000,
        camera.noise,
        np.uint64(seed),
        (rows[0], rows[1], rows[2], rows[3]),
        *scratch,
    )
    times, units = scratch[0][:count], scratch[1][:count]
    order = np.argsort(times, kind="stable")
    return times[order], units[order]
