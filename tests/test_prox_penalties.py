"""Every penalty through one list of laws of convex analysis, with hypothesis, and against pyproximal."""

import math
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bregma.prox import L1, ElasticNet, GroupL1, NonNegL1, NoPenalty, Nuclear

GROUPS = [GroupL1("rows"), GroupL1("columns"), GroupL1("kernels"), GroupL1("channels")]
PENALTIES = [NoPenalty(), L1(), NonNegL1(), ElasticNet(), ElasticNet(0.25), *GROUPS, Nuclear()]
every = pytest.mark.parametrize("penalty", PENALTIES, ids=repr)
quick = settings(max_examples=40, deadline=None)
steps = st.floats(1e-3, 3.0)


@st.composite
def tensors(draw, count=1):
    """Weights of one shape: matrices and convolutions, with exact zeros and whole zero rows among them."""
    shape = draw(st.sampled_from([(4, 3, 2, 2), (2, 5, 1, 3), (1, 1, 1, 1), (3, 2, 4)]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([1e-3, 1.0, 30.0]))
    drawn = []
    for _ in range(count):
        w = random.normal(size=shape) * scale * (random.random(shape) < 0.8)
        w[random.random(shape[0]) < 0.2] = 0.0
        drawn.append(torch.from_numpy(w))
    return drawn[0] if count == 1 else tuple(drawn)


def dual_prox(penalty, y, sigma):
    """The proximal map of sigma times the convex conjugate, written from the conjugate alone."""
    if isinstance(penalty, NoPenalty):  # conjugate: indicator of {0}
        return torch.zeros_like(y)
    if isinstance(penalty, L1):  # indicator of the unit cube
        return y.clamp(-1, 1)
    if isinstance(penalty, NonNegL1):  # indicator of {y <= 1}
        return y.clamp(max=1)
    if isinstance(penalty, ElasticNet):  # max(|y| - 1, 0)^2 / (2 ridge)
        pull = sigma / penalty.ridge
        return torch.where(y.abs() <= 1, y, (y + pull * y.sign()) / (1 + pull))
    if isinstance(penalty, Nuclear):  # indicator of {spectral norm <= 1}
        u, s, vh = torch.linalg.svd(y.reshape(y.shape[0], -1), full_matrices=False)
        return (u @ torch.diag(s.clamp(max=1)) @ vh).reshape(y.shape)
    out = y.clone()  # indicator of balls of radius sqrt(size), one per group
    for group in groups(penalty, out):
        radius = math.sqrt(group.numel())
        norm = group.norm()
        if norm > radius:
            group *= radius / norm
    return out


def groups(penalty, w):
    """Views of the groups, one at a time."""
    if penalty.axis == "columns":
        return [w[:, j] for j in range(w.shape[1])]
    if penalty.axis == "kernels":
        return [w[i, j] for i in range(w.shape[0]) for j in range(w.shape[1])]
    return [w[i] for i in range(w.shape[0])]


@every
@quick
@given(x=tensors(), step=steps)
def test_moreau_identity(penalty, x, step):
    conjugate = step * dual_prox(penalty, x / step, 1 / step)
    torch.testing.assert_close(penalty.prox(x, step) + conjugate, x, rtol=1e-10, atol=1e-10)


@every
@quick
@given(pair=tensors(2), step=steps)
def test_prox_is_firmly_nonexpansive(penalty, pair, step):
    x, y = pair
    moved = penalty.prox(x, step) - penalty.prox(y, step)
    assert moved.square().sum() <= (moved * (x - y)).sum() + 1e-9 * (1 + (x - y).square().sum())


@every
@quick
@given(pair=tensors(2), step=steps)
def test_prox_minimises(penalty, pair, step):
    x, other = pair
    p = penalty.prox(x, step)

    def objective(u):
        return 0.5 * (u - x).square().sum() + step * penalty.value(u)

    best = objective(p)
    for u in (x, other, torch.zeros_like(x), p + 0.01 * other, 1.001 * p, 0.999 * p):
        assert best <= objective(u) * (1 + 1e-9) + 1e-12


@every
@quick
@given(pair=tensors(2))
def test_subgradient_supports_the_penalty_from_below(penalty, pair):
    x, y = (w.abs() for w in pair) if isinstance(penalty, NonNegL1) else pair
    slope = penalty.subgradient(x)
    assert penalty.value(y) >= penalty.value(x) + (slope * (y - x)).sum() - 1e-8 * (1 + y.abs().sum())


@every
@quick
@given(x=tensors(), step=steps)
def test_prox_undoes_a_step_along_the_subgradient(penalty, x, step):
    """Anchoring: the weights of ``x + step * subgradient(x)`` are ``x``, and exact zeros have a dual of zero."""
    x = x.abs() if isinstance(penalty, NonNegL1) else x
    slope = penalty.subgradient(x)
    torch.testing.assert_close(penalty.prox(x + step * slope, step), x, rtol=1e-9, atol=1e-9)
    if not isinstance(penalty, Nuclear):
        assert (slope[x == 0] == 0).all()


@every
@quick
@given(grad=tensors())
def test_zero_is_a_solution_from_lam_max_on(penalty, grad):
    """Zero is a fixed point of the proximal gradient step exactly for ``lam >= lam_max``."""
    lam_max = float(penalty.lam_max(grad))
    if lam_max == math.inf:
        assert penalty.prox(-grad, 1e6).abs().sum() > 0
        return
    assert penalty.prox(-0.1 * grad, 0.1 * lam_max * (1 + 1e-9) + 1e-15).abs().max() == 0
    if lam_max > 0:
        assert penalty.prox(-0.1 * grad, 0.1 * lam_max * (1 - 1e-6)).abs().max() > 0


@every
@quick
@given(v=tensors(), lam=st.floats(0.0, 2.0), delta=st.sampled_from([1.0, 0.3, 4.0]))
def test_mirror_writes_the_prox_of_the_scaled_dual(penalty, v, lam, delta):
    expected = penalty.prox(delta * v, delta * lam)
    for dtype in (torch.float64, torch.bfloat16):
        out, before = torch.full_like(v, torch.nan, dtype=dtype), v.clone()
        penalty.mirror(out, v, lam, delta)
        torch.testing.assert_close(out, expected.to(dtype), rtol=1e-2 if dtype == torch.bfloat16 else 1e-10, atol=1e-10)
        assert torch.equal(v, before)
        assert out.untyped_storage().data_ptr() != v.untyped_storage().data_ptr()
    penalty.mirror(v, v, lam, delta)
    torch.testing.assert_close(v, expected, rtol=1e-10, atol=1e-10)


@every
@quick
@given(x=tensors(), step=steps)
def test_prox_takes_a_tensor_as_step(penalty, x, step):
    assert torch.equal(penalty.prox(x, torch.tensor(step, dtype=x.dtype)), penalty.prox(x, step))


@every
def test_prox_of_step_zero_is_a_copy(penalty):
    x = torch.rand(3, 4, 2, dtype=torch.float64)  # not negative: the non-negative penalty projects at any step
    x[1] = 0.0
    p = penalty.prox(x, 0.0)
    torch.testing.assert_close(p, x)
    p += 1.0
    assert (x[1] == 0).all()


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_keep_shape_and_dtype(penalty, dtype):
    x = torch.randn(3, 4, 2, dtype=dtype)
    for result in (penalty.prox(x, 0.5), penalty.subgradient(x)):
        assert result.shape == x.shape
        assert result.dtype == dtype
    for scalar in (penalty.value(x), penalty.lam_max(x)):
        assert scalar.shape == ()
        assert scalar.dtype == dtype


@every
def test_nan_is_not_hidden(penalty):
    if isinstance(penalty, Nuclear):
        pytest.skip("LAPACK refuses NaN with an error of its own")
    x = torch.randn(3, 4, 2)
    x[1, 2, 0] = torch.nan
    assert penalty.prox(x, 0.5).isnan().any()


def test_groups_are_what_their_names_say():
    w = torch.arange(24, dtype=torch.float64).reshape(2, 3, 2, 2)
    for penalty in GROUPS:
        expected = sum(math.sqrt(g.numel()) * g.norm() for g in groups(penalty, w))
        torch.testing.assert_close(penalty.value(w), expected)


def test_whole_groups_vanish_exactly():
    w = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    dead = (GroupL1("rows").prox(w, 1.0) == 0).all(dim=1)
    assert 0 < dead.sum() < 50
    assert ((GroupL1("rows").prox(w, 1.0) == 0).any(dim=1) == dead).all()


def test_nuclear_prox_lowers_the_rank():
    w = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.linalg.matrix_rank(Nuclear().prox(w, 2.0)) < 6


def test_penalties_are_frozen_and_compare_by_value():
    with pytest.raises(FrozenInstanceError):
        GroupL1("rows").axis = "columns"
    assert GroupL1("rows") == GroupL1("rows") != GroupL1("columns")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GroupL1("diagonals"), "axis must be one of rows, columns, kernels, channels, got 'diagonals'"),
        (lambda: ElasticNet(-1.0), "ridge must be finite and >= 0, got -1.0"),
        (lambda: ElasticNet(math.nan), "ridge must be finite and >= 0, got nan"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.filterwarnings("ignore")  # optional parts of pyproximal announce that they are missing
@pytest.mark.parametrize("step", [0.2, 1.5])
def test_equals_pyproximal(step):
    pyproximal = pytest.importorskip("pyproximal")
    x = np.random.default_rng(0).normal(size=(5, 7))
    w = torch.from_numpy(x)

    def check(penalty, theirs, flat, back):
        torch.testing.assert_close(penalty.prox(w, step), torch.from_numpy(back(theirs.prox(flat, step))))
        assert float(penalty.value(w)) == pytest.approx(float(theirs(flat)))

    whole = lambda y: y.reshape(5, 7)  # noqa: E731
    check(L1(), pyproximal.L1(sigma=1.0), x.ravel(), whole)
    check(Nuclear(), pyproximal.Nuclear((5, 7), sigma=1.0), x.ravel(), whole)
    # L21 sums norms over the first axis of (ndim, n); a column is one group, weighted by sqrt(5) in ours.
    check(GroupL1("columns"), pyproximal.L21(ndim=5, sigma=math.sqrt(5)), x.ravel(), whole)
