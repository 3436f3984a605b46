"""Binning: laws that hold for all events, edges, and the float16 of public code."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bregma.data import bin_events

N_UNITS = 5
events = st.lists(
    st.tuples(st.floats(-1.0, 3.0, allow_nan=False, width=32), st.integers(0, N_UNITS - 1)), max_size=60
).map(
    lambda pairs: (np.array([t for t, _ in pairs], dtype=np.float64), np.array([u for _, u in pairs], dtype=np.int64))
)
quick = settings(max_examples=50, deadline=None)


@quick
@given(events, st.integers(1, 20))
def test_every_event_inside_the_window_is_counted_once(pair, steps):
    times, units = pair
    frames = bin_events(times, units, N_UNITS, steps=steps, window=2.0)
    inside = (times >= 0) & (times < 2.0)
    assert frames.shape == (steps, N_UNITS)
    assert frames.sum() == inside.sum()
    np.testing.assert_array_equal(frames.sum(0), np.bincount(units[inside], minlength=N_UNITS))


@quick
@given(events, st.randoms(use_true_random=False))
def test_order_does_not_matter(pair, random):
    times, units = pair
    order = list(range(len(times)))
    random.shuffle(order)
    np.testing.assert_array_equal(
        bin_events(times, units, N_UNITS, steps=7, window=2.0),
        bin_events(times[order], units[order], N_UNITS, steps=7, window=2.0),
    )


@quick
@given(st.lists(events, max_size=5))
def test_a_batch_equals_its_samples_one_by_one(samples):
    indptr = np.cumsum([0] + [len(times) for times, _ in samples])
    times = np.concatenate([times for times, _ in samples] or [np.empty(0)])
    units = np.concatenate([units for _, units in samples] or [np.empty(0, dtype=np.int64)])
    batch = bin_events(times, units, N_UNITS, steps=4, window=2.0, indptr=indptr)
    assert batch.shape == (4, len(samples), N_UNITS)
    for b, (t, u) in enumerate(samples):
        np.testing.assert_array_equal(batch[:, b], bin_events(t, u, N_UNITS, steps=4, window=2.0))


@quick
@given(events)
def test_binary_frames_are_the_clipped_counts(pair):
    counts = bin_events(*pair, N_UNITS, steps=3, window=2.0)
    binary = bin_events(*pair, N_UNITS, steps=3, window=2.0, binary=True)
    assert binary.dtype == np.uint8
    np.testing.assert_array_equal(binary, np.minimum(counts, 1))


@quick
@given(st.integers(1, 400), st.integers(1, 10**6), st.lists(st.integers(0, 10**6), min_size=1, max_size=30))
def test_whole_microseconds_are_binned_exactly(steps, window, times):
    frames = bin_events(np.array(times), np.zeros(len(times), dtype=int), 1, steps=steps, window=window)
    expected = np.zeros(steps, dtype=int)
    for t in times:
        if t < window:
            expected[t * steps // window] += 1
    np.testing.assert_array_equal(frames[:, 0], expected)


def test_inner_edges_belong_to_the_later_step_and_the_last_edge_to_none():
    times = np.array([0.0, 10.0, 20.0, 29.999, 30.0, -0.001])
    frames = bin_events(times, np.zeros(6, dtype=int), 1, steps=3, window=30.0)
    assert frames[:, 0].tolist() == [1, 1, 2]


def test_fixed_dt_takes_as_many_steps_as_the_last_event_needs():
    times, units = np.array([0.0, 0.05, 0.31]), np.array([0, 0, 1])
    assert bin_events(times, units, 2, dt=0.1).tolist() == [[2, 0], [0, 0], [0, 0], [0, 1]]
    assert bin_events(times, units, 2, dt=0.1, steps=2).tolist() == [[2, 0], [0, 0]]


def test_no_event_gives_silent_frames():
    nothing = np.empty(0), np.empty(0, dtype=int)
    assert bin_events(*nothing, 3, steps=2, window=1.0).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert bin_events(*nothing, 3, dt=1.0).shape == (1, 3)


def test_float16_times_are_widened_before_any_arithmetic():
    # In float16, 65504 is the largest number: 1.3 s in microseconds would be infinite.
    times = np.array([0.1, 0.6, 1.3], dtype=np.float16)
    frames = bin_events(times, np.zeros(3, dtype=int), 1, steps=1400, window=1.4)
    assert np.flatnonzero(frames[:, 0]).tolist() == [int(float(t) * 1000) for t in times]


def test_legacy_float16_repeats_the_arithmetic_of_public_code():
    times = np.linspace(0, 1.39, 500).astype(np.float16)
    legacy = bin_events(times, np.zeros(500, dtype=int), 1, steps=140, window=1.4, legacy_float16=True)
    expected = np.zeros(140, dtype=int)
    for t in times:
        expected[int(1000 * t // 10)] += 1  # numpy scalars: float16 throughout
    np.testing.assert_array_equal(legacy[:, 0], expected)
    assert (legacy != bin_events(times, np.zeros(500, dtype=int), 1, steps=140, window=1.4)).any()


T, U = np.array([0.1, 0.2]), np.array([0, 1])


@pytest.mark.parametrize(
    ("times", "units", "options", "error", "message"),
    [
        (T, U, {"steps": 0, "window": 1.0}, ValueError, "steps must be >= 1, got 0"),
        (T, U, {"steps": 2, "window": 0.0}, ValueError, "window must be > 0, got 0.0"),
        (T, U, {"steps": 2, "window": np.nan}, ValueError, "window must be > 0, got nan"),
        (T, U, {"dt": -1.0}, ValueError, "dt must be > 0, got -1.0"),
        (T, U, {"dt": 1e-300}, ValueError, "dt must be such that the last event has a step, got dt=1e-300 .* at 0.2"),
        (T, U, {"steps": 2}, ValueError, "window and steps, or dt, must be given"),
        (T, U, {"steps": 2, "window": 1.0, "dt": 1.0}, ValueError, "window and steps, or dt, must be given"),
        (T, U + 1, {"steps": 2, "window": 1.0}, ValueError, r"units must be in \[0, 2\), got 2 at event 1"),
        (T, U - 1, {"steps": 2, "window": 1.0}, ValueError, r"units must be in \[0, 2\), got -1 at event 0"),
        (T * np.nan, U, {"steps": 2, "window": 1.0}, ValueError, "times must be finite, got nan at event 0"),
        (T, U * 1.0, {"steps": 2, "window": 1.0}, TypeError, "units must be integers, got float64"),
        (T > 0, U, {"steps": 2, "window": 1.0}, TypeError, "times must be numbers, got bool"),
        (T[:1], U, {"steps": 2, "window": 1.0}, ValueError, "of one shape"),
        (T, U, {"steps": 2, "window": 1.0, "indptr": np.array([0, 3])}, ValueError, "indptr must rise from 0"),
    ],
)
def test_bad_input_is_named(times, units, options, error, message):
    with pytest.raises(error, match=message):
        bin_events(times, units, 2, **options)


@pytest.mark.parametrize("made", [list, torch.as_tensor])
def test_lists_and_tensors_are_taken(made):
    options = {"steps": 2, "window": 0.4}
    expected = bin_events(T, U, 2, **options, indptr=np.array([0, 1, 2]))
    np.testing.assert_array_equal(
        bin_events(made(T), made(U), 2, **options, indptr=made(np.array([0, 1, 2]))), expected
    )


def test_no_units_is_refused():
    with pytest.raises(ValueError, match="n_units must be >= 1, got 0"):
        bin_events(T, U, 0, steps=1, window=1.0)


def test_equals_tonic_to_frame():
    functional = pytest.importorskip(
        "tonic.functional", reason="tonic is an oracle, not a dependency", exc_type=ImportError
    )
    generator = np.random.default_rng(0)
    times = np.sort(generator.integers(0, 300_000, 4_000))
    times[0], times[-1] = 0, 300_000 - 1
    dtype = [("x", int), ("y", int), ("t", int), ("p", int)]
    events = np.zeros(4_000, dtype=dtype)
    events["x"], events["y"], events["p"] = (generator.integers(0, n, 4_000) for n in (34, 34, 2))
    events["t"] = times
    expected = functional.to_frame_numpy(events, (34, 34, 2), time_window=10_000, include_incomplete=True)
    units = (events["p"] * 34 + events["y"]) * 34 + events["x"]
    frames = bin_events(times, units, 2 * 34 * 34, steps=30, window=300_000).reshape(30, 2, 34, 34)
    np.testing.assert_array_equal(frames, expected[:30])


def test_frames_that_no_memory_holds_are_refused_before_they_are_made():
    with pytest.raises(MemoryError, match=r"frames of shape \(1000000000000000, 2\) needs 16000000.00 GB"):
        bin_events(T, U, 2, steps=10**15, window=1.0)
    with pytest.raises(MemoryError, match=r"frames of shape \(1000000000000001, 2\)"):  # of one stray event
        bin_events(np.array([0.1, 1e9]), U, 2, dt=1e-6)


@pytest.mark.filterwarnings("error")
def test_a_time_beyond_float16_is_in_no_step():
    times = np.array([0.0, 0.5, 70.0, 1e5])
    frames = bin_events(times, np.zeros(4, dtype=int), 1, steps=2, window=1.0, legacy_float16=True)
    assert frames[:, 0].tolist() == [1, 1]


@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "i8", "u8", "f2", "f8"])
def test_edges_whatever_the_order_and_dtype(dtype):
    times = np.array([9, 10, 0, 5, 5, 4], dtype=dtype)  # the last step's end is outside, its last moment inside
    frames = bin_events(times, np.array([0, 0, 1, 1, 1, 0], dtype="u1"), 2, steps=2, window=10)
    assert frames.tolist() == [[1, 1], [1, 2]]
    if np.dtype(dtype).kind != "u":
        assert bin_events(np.array([-1], dtype=dtype), U[:1], 2, steps=2, window=10).sum() == 0
    if dtype in ("u8", "i8"):
        largest = np.array([np.iinfo(dtype).max], dtype=dtype)
        assert bin_events(largest, U[:1], 2, steps=2, window=10).sum() == 0
