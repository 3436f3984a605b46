"""Thresholds: exact counts whatever the scores, floors that hold, allocations that add up."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bregma.prox import kernels, maps
from bregma.prox import thresholds as th

quick = settings(max_examples=50, deadline=None)
shapes = st.lists(st.lists(st.integers(0, 7), min_size=2, max_size=3).map(tuple), min_size=1, max_size=4)


@st.composite
def scores(draw):
    """Flat scores >= 0; often with many ties."""
    n = draw(st.integers(1, 60))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    score = torch.rand(n, generator=generator)
    return (score * 3).round() if draw(st.booleans()) else score


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.001, 1))
@quick
def test_ramp_falls_from_one_to_the_density(a, b, density):
    early, late = sorted((a, b))
    assert density <= th.cubic_ramp(late, density) <= th.cubic_ramp(early, density) <= 1
    assert th.cubic_ramp(0.0, density) == 1.0
    assert th.cubic_ramp(1.0, density) == th.cubic_ramp(3.0, density) == density


@given(scores(), st.data())
@quick
def test_top_mask_is_exact_ties_or_not(score, data):
    keep = data.draw(st.integers(0, score.numel()))
    mask, lam = th.top_mask(score, keep)
    assert int(mask.sum()) == keep
    dropped = score[~mask]
    assert lam.item() == (dropped.max().item() if len(dropped) else 0.0)
    if 0 < keep < score.numel():
        assert score[mask].min() >= lam
        equal = (score == lam).nonzero().flatten()
        assert torch.equal(mask[equal], mask[equal].sort(descending=True).values)  # the first of equals stay


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(st.data())
@quick
def test_the_kernel_finds_the_kth_smallest(dtype, data):
    width = torch.finfo(dtype).bits
    number = st.floats(width=width, allow_nan=False) | st.sampled_from([0.0, -0.0, 1.0, -1.0, math.inf, -math.inf])
    values = data.draw(st.lists(number, min_size=1, max_size=40))
    k = data.draw(st.integers(1, len(values)))
    numbers = torch.tensor(values, dtype=dtype).numpy()
    bits = numbers.view(f"int{width}")
    found = np.array([kernels.kth_smallest(bits, k)], bits.dtype).view(numbers.dtype)
    assert found[0] == sorted(values)[k - 1]


@given(scores(), st.data())
@quick
def test_pieces_are_marked_and_counted_as_one_by_one(score, data):
    edges = sorted(data.draw(st.lists(st.integers(0, len(score)), max_size=3)))
    sizes = [b - a for a, b in itertools.pairwise([0, *edges, len(score)])]
    keeps = [data.draw(st.integers(0, size)) for size in sizes]
    keep = data.draw(st.integers(0, len(score)))
    for q in (score, score.repeat_interleave(2)[::2]):  # the second one is not for the kernels
        mask, lams = th.top_masks(q, keeps, sizes)
        singly = [th.top_mask(part, count) for part, count in zip(score.split(sizes), keeps, strict=True)]
        assert torch.equal(mask, torch.cat([one for one, _ in singly]))
        assert lams.tolist() == [lam.item() for _, lam in singly]
        anywhere = th.top_mask(score, keep)[0].split(sizes)
        assert th.best_counts(q, keep, sizes) == [int(part.sum()) for part in anywhere]


@given(shapes, st.sampled_from(["uniform", "erk"]), st.data())
@quick
def test_allocation_adds_up_within_sizes_and_floors(shapes, how, data):
    sizes = [math.prod(shape) for shape in shapes]
    floors = [data.draw(st.integers(0, size)) for size in sizes]
    total = data.draw(st.integers(sum(floors), sum(sizes)))
    counts = th.allocate(shapes, total, how, floors)
    assert sum(counts) == total
    assert all(low <= count <= size for low, count, size in zip(floors, counts, sizes, strict=True))


@given(shapes, st.data())
@quick
def test_halfway_adds_up_and_lies_between(shapes, data):
    sizes = [math.prod(shape) for shape in shapes]
    total = data.draw(st.integers(0, sum(sizes)))
    a, b = (th.allocate(shapes, total, how) for how in ("uniform", "erk"))
    counts = th.halfway(a, b, sizes)
    assert sum(counts) == total
    assert all(abs(count - (x + y) / 2) <= 0.5 for count, x, y in zip(counts, a, b, strict=True))


def test_uniform_is_one_density_and_erk_favours_small_tensors():
    counts = th.allocate([(100, 200), (10, 100)], 2100, "uniform")
    assert counts == [2000, 100]
    large, small = th.allocate([(100, 200), (10, 100)], 2100, "erk")
    assert small / 1000 > 3 * large / 20000
    assert small / large == pytest.approx(110 / 300, rel=0.01)


@given(st.integers(1, 10**9), st.integers(0, 100))
def test_floors_are_those_of_exact_arithmetic(size, percent):
    assert th.floor_count(size, percent / 100) == -(-size * percent // 100)


@given(st.floats(0, 3), st.lists(st.floats(-5, 5), min_size=1, max_size=20))
@quick
def test_proximal_maps_are_ordered_odd_and_zero_in_the_dead_zone(cut, values):
    v = torch.tensor(values, dtype=torch.float64)
    threshold = torch.full_like(v, cut)
    soft, firm, hard = (maps.PROXES[name](v, threshold, None) for name in ("soft", "firm", "hard"))
    expected = v.sign() * (v.abs() - cut).clamp(min=0)
    assert torch.allclose(soft, expected, atol=1e-15)
    assert (soft.abs() <= firm.abs() + 1e-12).all()
    assert (firm.abs() <= hard.abs() + 1e-12).all()
    for name in maps.PROXES:
        assert torch.equal(maps.PROXES[name](-v, threshold, None), -maps.PROXES[name](v, threshold, None))
        assert (maps.PROXES[name](v, threshold, None)[v.abs() <= cut] == 0).all()
    for name, result in (("soft", soft), ("firm", firm), ("hard", hard)):
        out = torch.full_like(v, 7.0)
        assert maps.PROXES[name](v, threshold, out) is out
        assert torch.equal(out, result)
    assert torch.equal(firm[v.abs() >= 2 * cut + 1e-9], v[v.abs() >= 2 * cut + 1e-9])


def test_infinite_thresholds_leave_zeros_and_zero_thresholds_everything():
    v = torch.tensor([1.0, -2.0])
    for prox in maps.PROXES.values():
        assert torch.equal(prox(v, torch.full((2,), math.inf), None).abs(), torch.zeros(2))
        assert torch.equal(prox(v, torch.zeros(2), None), v)


def test_norm_ratio_gives_the_survivors_their_norm_back():
    v = torch.tensor([3.0, 4.0, 9.0])
    x = torch.tensor([1.0, 2.0, 0.0])
    assert (x * maps.norm_ratio(v, x)).norm().item() == pytest.approx(5.0)
    assert maps.norm_ratio(v, torch.zeros(3)).item() == 1.0


def test_keep_count_rounds_and_keeps_one():
    assert th.keep_count(21248, 0.02) == 425
    assert th.keep_count(10, 0.001) == 1
    assert th.keep_count(10, 1.0) == 10


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: th.top_masks(torch.rand(3), [1, 1], [2, 6]), r"sizes must be >= 0 and add up to 3, got \[2, 6\]"),
        (lambda: th.best_counts(torch.rand(3), 1, [2]), r"sizes must be >= 0 and add up to 3, got \[2\]"),
        (lambda: th.top_mask(torch.rand(3), 4), "keep must be between 0 and 3, got 4"),
        (lambda: th.top_mask(torch.tensor([1.0, math.nan, math.nan, 2.0]), 1), "diverged"),
        (lambda: th.top_mask(torch.tensor([1.0, math.nan]), 1), "diverged"),
        (lambda: th.allocate([(2, 2)], 2, "fair"), "allocation must be one of uniform, erk, got 'fair'"),
        (lambda: th.allocate([(2, 2)], 5, "erk"), r"total must be between 0 \(the floors\) and 4, got 5"),
        (lambda: th.allocate([(2, 2)], 1, "erk", [2]), r"total must be between 2 \(the floors\) and 4, got 1"),
    ],
)
def test_says_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def oracle_prox(name, v, threshold):
    """One weight, in Python's floats."""
    magnitude = max(abs(v) - threshold, 0.0)
    return {
        "soft": math.copysign(magnitude, v),
        "firm": math.copysign(min(abs(v), 2.0 * magnitude), v),
        "hard": v if abs(v) > threshold else 0.0,
    }[name]


@pytest.mark.parametrize("name", ["soft", "firm", "hard"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("layout", ["compiled", "strided"])
def test_proximal_maps_one_by_one_compiled_or_not(name, dtype, layout):
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(200, generator=generator).to(dtype)
    threshold = torch.rand(200, generator=generator).to(dtype)
    threshold[:3] = math.inf
    if layout == "strided":
        v, threshold = v.repeat_interleave(2)[::2], threshold.repeat_interleave(2)[::2]
    got = maps.PROXES[name](v, threshold, None)
    want = [oracle_prox(name, a, b) for a, b in zip(v.tolist(), threshold.tolist(), strict=True)]
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64).to(dtype))
    assert torch.equal(maps.PROXES[name](v, threshold, torch.empty(200, dtype=dtype)), got)
    assert torch.equal(maps.PROXES[name](v, threshold[5], None), maps.PROXES[name](v, threshold[5].expand(200), None))


@given(scores(), st.data())
@quick
def test_cuts_are_infinite_off_the_mask(score, data):
    mask, lam = th.top_mask(score, data.draw(st.integers(0, score.numel())))
    want = [q and lam.item() / q if kept else math.inf for q, kept in zip(score.tolist(), mask.tolist(), strict=True)]
    for strided in (False, True):
        omega = score.repeat_interleave(2)[::2] if strided else score.clone()
        got = maps.cuts_(omega, mask, lam)
        assert got.tolist() == pytest.approx(want, rel=1e-6)


def test_sums_for_the_norm_do_not_depend_on_the_layout():
    generator = torch.Generator().manual_seed(1)
    dual = torch.randn(1000, generator=generator)
    x = maps.soft(dual, torch.ones(1000), None)
    strided = maps.norm_ratio(dual.repeat_interleave(2)[::2], x.repeat_interleave(2)[::2])
    torch.testing.assert_close(maps.norm_ratio(dual, x), strided)
    torch.testing.assert_close(strided, dual[x != 0].norm() / x.norm())
    assert maps.norm_ratio(dual, torch.zeros(1000)) == 1.0
