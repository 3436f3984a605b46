"""Moving images on the sensor, against the plainest way to write it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bregma.data import shift_frames


@settings(deadline=None, max_examples=50)
@given(
    steps=st.integers(1, 2),
    channels=st.lists(st.integers(1, 2), max_size=2),
    height=st.integers(1, 4),
    width=st.integers(1, 4),
    moves=st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=1, max_size=4),
)
def test_each_pixel_goes_where_it_is_sent_or_is_lost(steps, channels, height, width, moves):
    frames = torch.rand(steps, len(moves), *channels, height, width)
    expected = torch.zeros_like(frames)
    for sample, (down, right) in enumerate(moves):
        for y in range(height):
            for x in range(width):
                if 0 <= y + down < height and 0 <= x + right < width:
                    expected[:, sample, ..., y + down, x + right] = frames[:, sample, ..., y, x]
    before = frames.clone()
    assert torch.equal(shift_frames(frames, torch.tensor(moves)), expected)
    assert torch.equal(frames, before)


@pytest.mark.parametrize(
    ("frames", "moves", "error", "message"),
    [
        (torch.zeros(2, 3, 4), torch.zeros(3, 2, dtype=torch.long), ValueError, r"\(T, B, .*, H, W\), got \(2, 3, 4\)"),
        (torch.zeros(2, 3, 4, 4), torch.zeros(3, 2), TypeError, "moves must be integers, got torch.float32"),
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, 2, dtype=torch.long), ValueError, r"shape \(3, 2\), got \(2, 2\)"),
    ],
)
def test_bad_arguments_are_named(frames, moves, error, message):
    with pytest.raises(error, match=message):
        shift_frames(frames, moves)
