"""The parts that figures are drawn with: labels, matrices, tiles."""

from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bregma.report import activity, style, wiring


@settings(max_examples=50, deadline=None)
@given(places=st.lists(st.floats(0, 1), min_size=1, max_size=12), gap=st.floats(0.001, 0.3))
def test_labels_are_spread(places, gap):
    moved = style.spread(sorted(places), gap)
    assert all(b - a >= gap - 1e-9 for a, b in pairwise(moved))
    assert max(moved) <= 1 + 1e-9
    if gap * (len(places) - 1) <= 1:
        assert min(moved) >= -1e-9
    if all(b - a >= gap for a, b in pairwise(sorted(places))):
        assert moved == pytest.approx(sorted(places))  # what is apart already stays


@settings(max_examples=50, deadline=None)
@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    tall=st.integers(1, 7),
    wide=st.integers(1, 7),
    seed=st.integers(0, 99),
)
def test_block_means(rows, columns, tall, wide, seed):
    mask = np.random.default_rng(seed).random((rows, columns)) < 0.4
    means = wiring._block_mean(mask, [tall, wide])
    for k in range(means.shape[0]):
        for j in range(means.shape[1]):
            block = mask[k * tall : (k + 1) * tall, j * wide : (j + 1) * wide]
            assert means[k, j] == pytest.approx(block.mean())


def test_a_small_matrix_is_shown_entry_by_entry():
    weight = np.array([[0.0, 2.0, -0.1], [0.0, 0.0, 5.0]])
    image = wiring._pattern(weight)
    assert image.shape == (2, 3, 4)
    np.testing.assert_array_equal(image[..., 3] == 1, weight != 0)
    np.testing.assert_allclose(image[0, 1, :3], matplotlib.colors.to_rgb(style.VERMILION))
    np.testing.assert_allclose(image[0, 2, :3], matplotlib.colors.to_rgb(style.BLUE))


def test_neurons_are_ordered_alike_in_every_matrix():
    weights = {
        "hidden.0.linear.weight": np.array([[0, 1.0], [1.0, 1.0], [0, 0]]),
        "hidden.0.neurons.recurrent.weight": np.eye(3),
        "readout.linear.weight": np.array([[0, 0, 0], [1.0, 1.0, 1.0]]),
    }
    orders = wiring._orders(weights)
    assert [list(o) for o in orders["hidden.0.linear.weight"]] == [[1, 0, 2], [0, 1]]
    assert [list(o) for o in orders["hidden.0.neurons.recurrent.weight"]] == [[1, 0, 2], [1, 0, 2]]
    assert [list(o) for o in orders["readout.linear.weight"]] == [[0, 1], [1, 0, 2]]  # classes keep their places


def test_mosaic_puts_every_tile_in_its_place():
    tiles = np.arange(3)[:, None, None, None] + np.ones((3, 2, 2, 4))
    canvas = activity.mosaic(tiles, 2)
    assert canvas.shape == (5, 5, 4)
    assert canvas[0, 0, 0] == 1
    assert canvas[1, 4, 0] == 2
    assert canvas[3, 1, 0] == 3
    assert not canvas[2].any()
    assert not canvas[3:, 3:].any()
