"""Floors, blocks and groups: masks are projections, group factors proximal maps."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bregma.prox import structures


@given(st.integers(1, 6), st.integers(1, 8), st.integers(0, 3), st.data())
@settings(max_examples=30, deadline=None)
def test_floors_mark_the_best_of_each_row_and_layer(rows, columns, neuron_floor, data):
    score = torch.rand(rows, columns, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 999))))
    layer_floor = data.draw(st.integers(0, score.numel()))
    mask = structures.floor_mask(score, neuron_floor, layer_floor)
    per_row = min(neuron_floor, columns)
    assert int(mask.sum()) == max(rows * per_row, layer_floor)
    assert (mask.sum(1) >= per_row).all()
    for row, kept in zip(score, mask, strict=True):
        if 0 < kept.sum() < columns:
            assert row[kept].min() > row[~kept].max()


def test_rows_below_lam_get_a_lam_of_their_own():
    score = torch.tensor([[5.0, 4.0, 1.0], [0.3, 0.2, 0.1], [0.5, 0.6, 0.7]])
    mask = torch.tensor([[True, True, False], [True, False, False], [True, True, True]])
    lams = structures.row_lams(score, mask, torch.tensor(3.0))
    assert lams.flatten().tolist() == pytest.approx([3.0, 0.2, 0.0])


@given(st.integers(1, 3), st.integers(3, 4), st.integers(1, 9), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_block_mask_is_the_projection(n, m, inputs, seed):
    """Of all supports with at most n of m, the one that leaves out the least: brute force over every block."""
    score = torch.rand(2, inputs, 2, generator=torch.Generator().manual_seed(seed))
    mask = structures.block_mask(score, n, m)
    for row, kernel in itertools.product(range(2), range(2)):
        for start in range(0, inputs, m):
            block = score[row, start : start + m, kernel].square()
            kept = mask[row, start : start + m, kernel]
            size = min(n, len(block))
            best = max(sum(block[list(chosen)]) for chosen in itertools.combinations(range(len(block)), size))
            assert int(kept.sum()) == size
            assert block[kept].sum().item() == pytest.approx(best.item())


@given(st.floats(0, 3), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_group_factors_are_the_proximal_map(lam, seed):
    """Moreau: u = prox(u) + projection of u on the ball of radius lam; in the metric, u = omega * v."""
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    omega = torch.rand(4, 5, generator=generator, dtype=torch.float64) + 0.1
    u = omega * v
    norms = u.norm(dim=1)
    factors = structures.group_factors(norms, torch.tensor(lam, dtype=torch.float64), "soft")
    ball = u * (lam / norms).clamp(max=1.0)[:, None]
    torch.testing.assert_close(omega * (factors[:, None] * v), u - ball)


def test_factors_of_the_other_maps_and_of_nothing():
    norms, lam = torch.tensor([0.0, 1.0, 3.0, 9.0]), torch.tensor(2.0)
    assert structures.group_factors(norms, lam, "hard").tolist() == [0.0, 0.0, 1.0, 1.0]
    firm = structures.group_factors(norms, lam, "firm")
    torch.testing.assert_close(firm, torch.tensor([0.0, 0.0, 2 / 3, 1.0]))
