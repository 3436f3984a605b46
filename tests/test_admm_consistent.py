"""The consistent solver against its transcription, and what it promises."""

import itertools

import pytest
import torch
from admm_cases import spike_data
from reference import consistent as reference

from bregma.admm.consistent import ConsistentADMM
from bregma.admm.consistent_settings import ConsistentSettings
from bregma.admm.targets import Dithered, Flips, Window

RULES = [Window(), Dithered(share=0.05), Flips(share=0.2), Dithered(mirrored=False), Flips(0.3, mirrored=False)]


def busy_data(samples=30, steps=9, inputs=14, classes=3, seed=0):
    """Frames of classes that differ in their rates, and one-hot labels, in float64."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.arange(samples) % classes
    rate = 0.08 + 0.25 * (torch.arange(inputs) % classes == codes[:, None])
    x = (torch.rand(steps, samples, inputs, generator=generator) < rate).double()
    return x, torch.eye(classes, dtype=torch.float64)[codes]


def pair(rule, x, y, **options):
    """A solver and its transcription at the same weights; the latter takes the cuts of the former's rule."""
    settings = ConsistentSettings(rule=rule, gram_every=1, **options)
    solver = ConsistentADMM((12, 10), x.shape[2], y.shape[1], settings, dtype=torch.float64)
    solver.begin(x)
    cuts = []
    solver._sweep._cuts = lambda g, kappa, z: cuts.append(kept(rule, g * kappa[:, None, None], z)) or cuts[-1]

    def move(g, z):
        if isinstance(rule, Window):
            return reference.window(g, z, 1.0, rule.width)
        return reference.displaced(g, z, 1.0, rule.margin, kept(rule, g, z), isinstance(rule, Dithered), rule.mirrored)

    names = ("ridge", "readout_ridge", "gram_decay", "readout_decay")
    return solver, reference.Network(
        solver.weights,
        decay=0.95,
        threshold=1.0,
        kind=settings.readout,
        move=move,
        **{name: getattr(settings, name) for name in names},
    )


def kept(rule, g, z):
    """Cuts of all entries: no sampling, so that both see the same."""
    return rule.cuts(g.flatten(), z.flatten(), 1.0)


def assert_same_weights(solver, oracle, tolerance=1e-9):
    for ours, theirs in zip(solver.weights, oracle.weights, strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=tolerance)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("readout", ["last", "mean"])
def test_mini_batches_equal_the_transcription(rule, readout):
    x, y = busy_data()
    solver, oracle = pair(rule, x[:, :10], y[:10], readout=readout, iterations=20)
    for k in range(4):
        part = slice(10 * (k % 3), 10 * (k % 3) + 10)
        solver._sweep._due = lambda iteration: [True, True]
        solver.step(x[:, part], y[part])
        oracle.step(x[:, part], y[part], 0.05 * (1 - k / 20))
    assert_same_weights(solver, oracle)


@pytest.mark.parametrize("rule", RULES)
def test_full_batch_equals_the_transcription(rule):
    x, y = busy_data()
    solver, oracle = pair(rule, x, y)
    for size in (0.3, 0.2, 0.1):
        solver.step_size = size
        taken = solver.descend(x, y)
        loss, share = oracle.descend(x, y, size)
        assert taken == (share is not None)
        assert solver.measure()["loss"] == pytest.approx(loss, abs=1e-9)
    assert_same_weights(solver, oracle)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("loss", ["squared_error", "squared_hinge", "cross_entropy"])
def test_full_batch_never_raises_the_true_loss(rule, loss):
    x, y = busy_data()
    solver = ConsistentADMM((12, 10), 14, 3, ConsistentSettings(rule=rule, loss=loss, step=0.5))
    losses = []
    for _ in range(8):
        solver.descend(x, y)
        losses.append(solver.measure()["loss"])
    assert all(after <= before for before, after in itertools.pairwise(losses))
    assert losses[-1] < losses[0]


def test_runs_repeat_and_resume_bit_by_bit():
    x, y = busy_data()
    settings = ConsistentSettings(rule=Dithered(), iterations=30)

    def train(solver, first, last):
        for k in range(first, last):
            part = slice(10 * (k % 3), 10 * (k % 3) + 10)
            solver.step(x[:, part], y[part])
        return solver

    def new():
        return ConsistentADMM((12, 10), 14, 3, settings, seed=3)

    whole, again = train(new(), 0, 13), train(new(), 0, 13)
    resumed = new()
    resumed.load_state_dict(train(new(), 0, 6).state_dict())
    train(resumed, 6, 13)
    for a, b, c in zip(whole.weights, again.weights, resumed.weights, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def test_full_batch_resumes_bit_by_bit():
    x, y = busy_data()

    def new():
        return ConsistentADMM((12, 10), 14, 3, ConsistentSettings(loss="cross_entropy", step=0.3))

    whole, part, resumed = new(), new(), new()
    for k in range(6):
        whole.descend(x, y)
        if k < 3:
            part.descend(x, y)
    resumed.load_state_dict(part.state_dict())
    for _ in range(3):
        resumed.descend(x, y)
    assert all(map(torch.equal, whole.weights, resumed.weights))


@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
def test_mini_batches_after_full_ones_resume_bit_by_bit(loss):
    x, y = busy_data()
    whole, resumed = (ConsistentADMM((12, 10), 14, 3, ConsistentSettings(loss=loss)) for _ in range(2))
    for _ in range(3):
        whole.descend(x, y)
    resumed.load_state_dict(whole.state_dict())
    for solver in (whole, resumed):
        solver.step(x[:, :10], y[:10])
        solver.descend(x, y)
    assert all(map(torch.equal, whole.weights, resumed.weights))


def test_descent_on_other_data_forms_their_gram_matrix():
    x, y = busy_data()
    others, _ = busy_data(seed=1)
    others[:, :, :5] = 0
    solver, new = (ConsistentADMM((12, 10), 14, 3) for _ in range(2))
    solver.descend(x, y)
    new.resume(solver.weights, 1)
    new.step_size = solver.step_size
    for each in (solver, new):
        each.descend(others, y)
    assert all(map(torch.equal, solver.weights, new.weights))


def test_data_of_another_shape_are_refused():
    x, y = busy_data()
    solver = ConsistentADMM((12,), 14, 3)
    with pytest.raises(ValueError, match=r"x must be of shape \(T, B, 14\), got \(9, 30, 13\)"):
        solver.step(x[..., 1:], y)
    for method in (solver.step, solver.descend):
        with pytest.raises(ValueError, match=r"y must be coded labels of shape \(30, 3\), got \(30,\)"):
            method(x, y.argmax(1))
    assert not solver.weights


def test_samples_count_by_their_weight():
    x, y = busy_data()
    doubled_x, doubled_y = torch.cat([x, x[:, :5]], 1), torch.cat([y, y[:5]])
    weight = torch.ones(30, dtype=torch.float64)
    weight[:5] = 2
    for loss in ("squared_error", "squared_hinge", "cross_entropy"):
        solvers = []
        for data in ((x, y, weight), (doubled_x, doubled_y, None)):
            settings = ConsistentSettings(loss=loss, leave_one_out=False)
            solver = ConsistentADMM((12, 10), 14, 3, settings, dtype=torch.float64)
            solver.begin(x)
            solver._at(*data)
            solvers.append(solver)
        assert torch.allclose(solvers[0].weights[-1], solvers[1].weights[-1], rtol=0, atol=1e-9)
        assert solvers[0].measure()["loss"] == pytest.approx(solvers[1].measure()["loss"])


def test_settings_are_checked():
    for change, message in [
        ({"step": 0.0}, "step must be > 0 and finite, got 0.0"),
        ({"gram_decay": 1.0}, r"gram_decay must be in \[0, 1\), got 1.0"),
        ({"readout": "max"}, "readout must be one of last, mean, got 'max'"),
        ({"loss": "l1"}, "loss must be one of squared_error, squared_hinge, cross_entropy, got 'l1'"),
        ({"gram_every": 0}, "gram_every, iterations must be >= 1, got 0, None"),
        ({"rate": 0.7}, r"rate must be in \(0, 0.5\), got 0.7"),
    ]:
        with pytest.raises(ValueError, match=message):
            ConsistentSettings(**change)
    with pytest.raises(ValueError, match=r"width must be > 0 and finite, got -1"):
        Window(width=-1)
    with pytest.raises(ValueError, match=r"share must be in \(0, 1\), got 1"):
        Flips(share=1)


def test_a_state_of_another_network_is_refused():
    x, y = spike_data()
    small, large = (ConsistentADMM((n,), 9, 3) for n in (4, 5))
    small.step(x, y)
    with pytest.raises(ValueError, match=r"state: weights must be of shapes .* got"):
        large.load_state_dict(small.state_dict())
