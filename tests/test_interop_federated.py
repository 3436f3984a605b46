"""Federated sums, without a network between: equal to one machine; with privacy as noisy as promised."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import gaussian

from bregma.admm.bounded import Bounded
from bregma.admm.consistent_settings import ConsistentSettings
from bregma.admm.targets import Flips
from bregma.interop.federated import Plan, Server, local_sums
from bregma.interop.privacy import Privacy, definite

T, INPUTS, CLASSES = 10, 12, 3
SHARES = (20, 5, 11, 1, 3, 0)
NOTHING = Privacy(epsilon=math.inf, delta=1e-5, clip=math.inf)


def plan(**changes):
    return Plan(**({"inputs": INPUTS, "classes": CLASSES, "hidden": (14, 9), "iterations": 7} | changes))


def samples(count=40):
    """Sorted by label, so that most clients hear of one or two classes only."""
    generator = torch.Generator().manual_seed(0)
    labels = (torch.arange(count) * CLASSES) // count
    x = torch.rand(T, count, INPUTS, generator=generator) < 0.05 + 0.1 * labels[:, None]
    return x.double(), labels


def train(plan, shares=SHARES):
    """All rounds, and what was sent in each."""
    server, sent = Server(plan), []
    x, labels = samples(sum(shares))
    for phase in map(plan.phase, range(1, plan.rounds + 1)):
        expected, total = server.expected(phase), {}
        for mine, own in zip(x.split(shares, 1), labels.split(shares), strict=True):
            client = plan.solver(server.solver.weights, server.solver.iteration)
            sums = local_sums(plan, client, phase, mine, own)
            assert {name: tensor.shape for name, tensor in sums.items()} == expected
            total = {name: total.get(name, 0) + tensor for name, tensor in sums.items()}
        server.take(phase, total)
        sent.append(total)
    return server, sent


@pytest.mark.parametrize("privacy", [None, NOTHING, Privacy(1.0, 1e-5)], ids=["plain", "unbounded", "private"])
@pytest.mark.parametrize("phase", ["rates", "readout", "layers", "refresh"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_sample_that_is_not_finite_is_told_to_nobody(privacy, phase, value):
    ours, (x, labels) = plan(dtype=torch.float64, privacy=privacy), samples()
    x[3, 5, 1] = value
    with pytest.raises(ValueError, match="x must be finite, got NaN or infinity"):
        local_sums(ours, ours.solver(), phase, x, labels)


def test_sums_that_overflow_are_told_to_nobody():
    x, labels = samples()
    x[:, 5] = 1.5e308
    with pytest.raises(ValueError, match="x must hold spikes whose sums are finite"):
        local_sums(plan(dtype=torch.float64, privacy=NOTHING), plan().solver(), "rates", x, labels)


def test_the_epsilon_of_no_round_is_zero():
    assert Privacy(1.0, 1e-5).spent(0, 10) == 0.0
    for done in (-1, 11):
        with pytest.raises(ValueError, match=rf"done must be in \[0, 10\], the rounds in all, got {done}"):
            Privacy(1.0, 1e-5).spent(done, 10)


@pytest.mark.parametrize("privacy", [None, NOTHING], ids=["plain", "nothing bounded, no noise"])
def test_equals_one_machine(privacy):
    ours = plan(dtype=torch.float64, privacy=privacy)
    server, sent = train(ours)
    x, labels = samples()
    central = Server(plan(dtype=torch.float64))
    central.take("rates", {"spikes": x.sum((0, 1)), "entries": torch.tensor(x[..., 0].numel())})
    for _ in range(ours.iterations):
        central.solver.step(x, ours.code(labels))
    central.solver.weights[-1] = central.solver.refreshed([(x, ours.code(labels), None)])[0]
    for mine, theirs in zip(server.solver.weights, central.solver.weights, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)
    assert server.samples == sum(SHARES)
    if privacy:
        assert not any(name.endswith("count") for sums in sent for name in sums)


def test_noise_has_the_promised_size(monkeypatch):
    monkeypatch.setattr(Privacy, "multiplier", lambda self, rounds: 3.0)
    sums = {
        "cross": Bounded(torch.zeros(200, 150).double(), 0.5),
        "layer.gram": Bounded(torch.zeros(200, 200).double(), 2.0),
    }
    sent = Privacy(1.0, 1e-5, together=4).noised(sums, 10, torch.Generator().manual_seed(0))
    deviation = 3.0 * math.sqrt(2 / 4)  # two sums, a quarter of the variance
    # The standard deviation of n numbers is known to one over sqrt(2 n); four of those.
    assert float(sent["cross"].std()) == pytest.approx(0.5 * deviation, rel=4 / math.sqrt(2 * 30_000))
    gram = sent["layer.gram"]
    assert torch.equal(gram, gram.T)
    above = gram[torch.triu_indices(200, 200, 1).unbind()]
    assert float(above.std()) == pytest.approx(2 * deviation / math.sqrt(2), rel=4 / math.sqrt(2 * 19_900))
    assert float(gram.diagonal().std()) == pytest.approx(2 * deviation, rel=4 / math.sqrt(2 * 200))
    assert float(sent["layer.gram.variance"]) == pytest.approx((2 * deviation) ** 2)


def test_noise_is_new_in_every_message():
    pytest.importorskip("dp_accounting")
    sums = {"cross": Bounded(torch.zeros(2, 2).double(), 1.0)}
    privacy = Privacy(1.0, 1e-5)
    assert not torch.equal(privacy.noised(sums, 1)["cross"], privacy.noised(sums, 1)["cross"])


@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 12), seed=st.integers(0, 2**20), size=st.floats(0, 10))
def test_noised_gram_matrices_are_positive_definite(n, seed, size):
    generator = torch.Generator().manual_seed(seed)
    rows, noise = torch.randn(5, n, generator=generator).double(), torch.randn(n, n, generator=generator).double()
    gram = rows.T @ rows + size * (noise + noise.T) / 2
    found = definite({"gram": gram, "gram.variance": torch.tensor(size**2, dtype=torch.float64), "other": rows})
    assert found.keys() == {"gram", "other"}
    if not size:
        assert torch.equal(found["gram"], gram)
    else:
        assert float(torch.linalg.eigvalsh(found["gram"]).min()) >= math.sqrt(2 * n) * size * (1 - 1e-9) - 1e-9
    large = found["gram"] - gram  # what is above the noise stays
    assert float(torch.linalg.eigvalsh(large).min()) >= -1e-9


@pytest.mark.parametrize(("epsilon", "rounds"), [(0.5, 1), (1.0, 1), (8.0, 1), (1.0, 12), (8.0, 42)])
def test_epsilon(epsilon, rounds):
    """Against the definition of the Gaussian mechanism, and the library's general accountant of composed ones."""
    dp = pytest.importorskip("dp_accounting")
    privacy = Privacy(epsilon, 1e-5)
    multiplier = privacy.multiplier(rounds)
    assert gaussian.epsilon(multiplier / math.sqrt(rounds), 1e-5) == pytest.approx(epsilon, rel=1e-6)
    for done in {1, rounds // 2 or 1, rounds}:
        accountant = dp.pld.PLDAccountant()
        accountant.compose(dp.GaussianDpEvent(multiplier), done)
        assert privacy.spent(done, rounds) == pytest.approx(accountant.get_epsilon(1e-5), rel=1e-4)
    assert privacy.spent(rounds, rounds) == pytest.approx(epsilon, rel=1e-9)


def test_a_private_plan_trains():
    """Nothing but noised sums is sent, and where samples are many the network learns all the same."""
    pytest.importorskip("dp_accounting")
    ours = plan(iterations=2, privacy=Privacy(epsilon=200.0, delta=1e-5, together=6))
    shares = (600, 300, 0, 900, 100, 200)
    server, sent = train(ours, shares)
    x, labels = samples(sum(shares))
    assert float((server.solver.scores(x.float()).argmax(1) == labels).double().mean()) > 0.55
    assert abs(server.samples - sum(shares)) <= 10
    assert server.samples != sent[0]["samples"]  # an estimate
    assert sent[0].keys() == {"spikes", "samples", "entries"}
    assert sent[1].keys() == {"readout.gram", "readout.gram.variance", "readout.cross"}


def test_refuses():
    for name, value, said in [
        ("epsilon", 0.0, "epsilon must be > 0, got 0.0"),
        ("epsilon", math.nan, "epsilon must be > 0, got nan"),
        ("delta", 1.0, r"delta must be in \(0, 1\), got 1.0"),
        ("clip", 0.0, "clip must be > 0, and finite unless epsilon is inf, got 0.0"),
        ("clip", math.inf, "clip must be > 0, and finite unless epsilon is inf, got inf"),
        ("together", 0, "together must be >= 1, got 0"),
    ]:
        with pytest.raises(ValueError, match=said):
            Privacy(**({"epsilon": 1.0, "delta": 1e-5} | {name: value}))
    with pytest.raises(ValueError, match="with privacy the rule must be Window"):
        plan(settings=ConsistentSettings(rule=Flips()), privacy=NOTHING)
