"""Handwritten digits before a simulated event camera: the data set of `bregma train` without arguments.

The 1,797 images are real: the test part of "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998, UCI
Machine Learning Repository, doi 10.24432/C50P49, CC BY 4.0), which scikit-learn carries. The events are simulated, see
`bregma.data.saccade`. Nothing is downloaded.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bregma.data.binning import bin_events
from bregma.data.dataset import (
    TEST_SEED,
    TEST_SHARE,
    VALIDATION_SHARE,
    DenseFrames,
    Splits,
    split_off,
)
from bregma.data.saccade import Camera, simulate

CLASSES = tuple("0123456789")

#: The images, 8x8 enlarged to 16x16, move by about 3.7 pixels on a small sensor: as far, relative to a stroke's width,
#: as the digits of N-MNIST do. All other constants of the camera are those fitted on N-MNIST.
CAMERA = Camera(height=20, width=20, amplitude=0.7)

#: Microseconds that the frames divide: the three saccades.
WINDOW_US = 310_000


def load_digit_events(
    *, steps: int | None = None, seed: int = 0, binary: bool = True, validation: float = VALIDATION_SHARE
) -> Splits:
    """Digits as event frames: 20 steps (15.5 ms each) of 2 polarities x 20 x 20 pixels.

    A fifth of every class is the test part, the same for every seed (`stratified_cut` with seed 0); the
    validation part is cut from the rest by `seed`.

    Args:
        steps: Number of frames T, >= 1; default 20.
        seed: Seed of the cut between training and validation.
        validation: Share of every class of the training part that becomes the validation part.
        binary: Frames of zeros and ones; False counts the events (at most 255).

    Returns:
        Training, validation and test part: 1,294, 144 and 359 samples.

    Raises:
        ValueError: If `steps` < 1.
    """
    steps = 20 if steps is None else steps
    if steps < 1:
        raise ValueError(f"steps must be >= 1, got {steps}")
    from sklearn.datasets import load_digits  # here: its import takes most of a second

    images, labels = load_digits(return_X_y=True)
    events = simulate(_enlarge(images.reshape(-1, 8, 8) / 16.0), CAMERA)
    shape = (2, CAMERA.height, CAMERA.width)
    frames = np.empty((len(labels), steps, int(np.prod(shape))), dtype=np.uint8)
    for first in range(0, len(labels), 128):
        last = min(first + 128, len(labels))
        bounds = events.indptr[first : last + 1]
        piece = slice(bounds[0], bounds[-1])
        counts = bin_events(
            events.times[piece],
            events.units[piece],
            frames.shape[2],
            steps=steps,
            window=WINDOW_US,
            indptr=bounds - bounds[0],
            binary=binary,
        )
        frames[first:last] = np.minimum(counts, 255).transpose(1, 0, 2)
    whole = DenseFrames(frames.reshape(len(labels), steps, *shape), labels, CLASSES)
    rest, test = split_off(whole, TEST_SHARE, TEST_SEED, "test", "digits")
    train, held_out = split_off(rest, validation, seed, "validation", "digits")
    return Splits(
        train=train,
        validation=held_out,
        test=test,
        name="digits",
        title="handwritten digits of scikit-learn (real images) before a simulated event camera",
        synthetic=True,
    )


def _enlarge(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bilinear enlargement by 2 along both axes, pixel centres aligned: (B, h, w) to (B, 2 h, 2 w)."""
    for axis in (1, 2):
        padded = np.pad(images, [(0, 0) if a != axis else (1, 1) for a in range(3)], mode="edge")
        size = images.shape[axis]
        before = np.take(padded, range(size), axis=axis)
        after = np.take(padded, range(2, size + 2), axis=axis)
        pairs = np.stack([0.75 * images + 0.25 * before, 0.75 * images + 0.25 * after], axis=axis + 1)
        images = pairs.reshape([2 * size if a == axis else images.shape[a] for a in range(3)])
    return images
