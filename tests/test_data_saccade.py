"""The simulated event camera: what it must see, what it must not, and that it repeats itself."""

import dataclasses

import numpy as np
import pytest

from bregma.data import Camera, simulate

QUIET = Camera(mismatch=0.0, jitter_us=0.0, noise=0.0)


def bar(height: int = 28, width: int = 28) -> np.ndarray:
    image = np.zeros((1, height, width))
    image[0, height // 4 : -height // 4, width // 2 - 2 : width // 2 + 2] = 1.0
    return image


def test_events_are_sorted_and_on_the_sensor():
    events = simulate(np.concatenate([bar(), bar() * 0.5]))
    assert events.indptr.tolist()[0] == 0
    assert events.indptr[-1] == len(events.times) == len(events.units)
    for first, last in zip(events.indptr, events.indptr[1:], strict=False):
        assert (np.diff(events.times[first:last]) >= 0).all()
    assert events.units.min() >= 0
    assert events.units.max() < 2 * 34 * 34
    assert events.times.min() >= 0


def test_a_dark_or_evenly_dark_scene_makes_noise_only():
    assert len(simulate(np.zeros((1, 28, 28)), QUIET).times) == 0
    noise = dataclasses.replace(QUIET, noise=0.001)
    count = len(simulate(np.zeros((1, 28, 28)), noise).times)
    expected = 0.001 * 34 * 34 * 311
    assert abs(count - expected) < 5 * expected**0.5


def test_no_movement_makes_no_events():
    assert len(simulate(bar(), dataclasses.replace(QUIET, amplitude=0.0)).times) == 0


def test_what_becomes_brighter_becomes_darker_again():
    # Along a closed path every pixel's ON and OFF events nearly cancel.
    events = simulate(bar(), QUIET)
    off = events.units >= 34 * 34
    net = np.bincount(events.units[~off], minlength=34 * 34) - np.bincount(
        events.units[off] - 34 * 34, minlength=34 * 34
    )
    assert len(events.times) > 500
    assert np.abs(net).mean() < 0.2 * len(events.times) / (34 * 34)


def test_polarity_one_is_the_darkening_side():
    # In the first 80 ms the image moves right and down: the left side of the bar goes dark, the right side lights up.
    events = simulate(bar(), QUIET)
    early = events.times < 80_000
    polarity, pixel = np.divmod(events.units[early], 34 * 34)
    x = pixel % 34
    assert x[polarity == 1].mean() < x[polarity == 0].mean()


def test_refractory_time_is_kept():
    events = simulate(bar(), dataclasses.replace(QUIET, refractory_us=5_000.0))
    pixel = events.units % (34 * 34)
    for p in np.unique(pixel):
        assert (np.diff(events.times[pixel == p]) >= 4_998).all()


def test_higher_thresholds_and_lower_contrast_make_fewer_events():
    count = len(simulate(bar(), QUIET).times)
    assert len(simulate(bar(), dataclasses.replace(QUIET, threshold=0.08)).times) < count
    assert len(simulate(bar() * 0.4, QUIET).times) < count


def test_repeats_itself_and_can_be_done_in_parts():
    images = np.concatenate([bar(), bar() * 0.7, bar() * 0.3])
    whole, again, last = simulate(images), simulate(images), simulate(images[2:], first_seed=2)
    np.testing.assert_array_equal(whole.times, again.times)
    np.testing.assert_array_equal(whole.units, again.units)
    np.testing.assert_array_equal(whole.times[whole.indptr[2] :], last.times)
    assert not np.array_equal(simulate(images[2:]).times, last.times)


def test_any_size_of_image_and_sensor():
    camera = dataclasses.replace(QUIET, height=12, width=21)
    events = simulate(bar(7, 16), camera)
    assert len(events.times) > 100
    x = events.units % 21
    assert abs(x.mean() - 10) < 1.5  # centred


def test_no_image_gives_no_events():
    assert simulate(np.zeros((0, 28, 28))).indptr.tolist() == [0]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((28, 28)), r"images must be of shape \(B, h <= 34, w <= 34\)"),
        (np.zeros((1, 35, 28)), r"images must be of shape \(B, h <= 34, w <= 34\)"),
        (np.full((1, 8, 8), 255.0), r"images must be within \[0, 1\], got 255.0"),
        (np.full((1, 8, 8), np.nan), r"images must be within \[0, 1\], got nan"),
    ],
)
def test_bad_images_are_named(images, message):
    with pytest.raises(ValueError, match=message):
        simulate(images)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("height", 0, "height must be > 0, got 0"),
        ("threshold", -1.0, "threshold must be > 0, got -1.0"),
        ("amplitude", float("nan"), "amplitude must be >= 0, got nan"),
        ("lowpass", 0.0, r"lowpass must be in \(0, 1\], got 0.0"),
        ("noise", 2.0, r"noise must be in \[0, 1\], got 2.0"),
        ("refractory_us", 0.0, "refractory_us must be >= 10, got 0.0"),
    ],
)
def test_bad_constants_are_named(field, value, message):
    with pytest.raises(ValueError, match=message):
        Camera(**{field: value})
