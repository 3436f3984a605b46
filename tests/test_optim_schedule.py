"""Schedules of lam: their curves, their states, and a controller that reaches a density."""

import pytest
import torch
from optim_cases import network, saved_and_loaded, train, weights

import bregma
from bregma import AdaBreg
from bregma.optim import schedule


def build(seed=0, **options):
    net = network(seed=seed)
    return net, AdaBreg(bregma.param_groups(net, lam=0.05), lr=0.01, **{"init": "shrink", **options})


KINDS = {
    "constant": schedule.ConstantLam,
    "lambda": lambda optimizer: schedule.LambdaLam(optimizer, lambda step: 1 + step / 10),
    "warm-up": lambda optimizer: schedule.WarmUpLam(optimizer, 12),
    "controller": lambda optimizer: schedule.LamController(optimizer, 0.3, every=3),
}


@pytest.mark.parametrize("kind", KINDS)
def test_only_groups_with_a_lam_are_touched(kind):
    net, optimizer = build()
    plan = KINDS[kind](optimizer)
    for _ in range(5):
        train(net, optimizer, 1)
        plan.step()
    lam, free = plan.get_last_lam()
    assert lam == optimizer.param_groups[0]["lam"] > 0
    assert free == 0.0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stop", [4, 20])
def test_resumes_bit_for_bit_through_a_safe_load(kind, stop):
    def run(net, optimizer, plan, steps):
        for _ in range(steps):
            train(net, optimizer, 1)
            plan.step()

    net, optimizer = build()
    plan = KINDS[kind](optimizer)
    run(net, optimizer, plan, stop)
    states = saved_and_loaded([net.state_dict(), optimizer.state_dict(), plan.state_dict()])
    other, resumed = build(seed=3)
    replan = KINDS[kind](resumed)
    for part, state in zip((other, resumed, replan), states, strict=True):
        part.load_state_dict(state)
    run(net, optimizer, plan, 15)
    run(other, resumed, replan, 15)
    assert torch.equal(weights(net), weights(other))
    assert plan.get_last_lam() == replan.get_last_lam()


@pytest.mark.parametrize("init", ["shrink", "sparse"])
@pytest.mark.parametrize("density", [0.2, 0.5])
def test_the_controller_comes_near_its_density(init, density):
    net, optimizer = build(init=init, init_density=0.3)
    plan = schedule.LamController(optimizer, density, every=2)
    for _ in range(400):
        train(net, optimizer, 1)
        plan.step()
    assert bregma.density(net) == pytest.approx(density, abs=0.1)


def test_the_controller_stays_in_its_bounds_and_calms_down():
    p = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = AdaBreg([p], lam=0.1)
    plan = schedule.LamController(optimizer, 0.5, every=1, gain=2.0, most=4.0)
    seen = []
    for step in range(20):
        with torch.no_grad():
            p.fill_(1.0 if step < 10 else 0.0)
        plan.step()
        seen.append(plan.get_last_lam()[0])
    assert max(seen) == pytest.approx(0.4)
    assert min(seen) == pytest.approx(0.025)
    assert plan.gain == pytest.approx(2.0 * 0.95)


def test_groups_added_later_keep_their_lam():
    _, optimizer = build()
    scheduler = schedule.WarmUpLam(optimizer, 10)
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2, 2))], "lam": 0.7})
    scheduler.step()
    assert optimizer.param_groups[-1]["lam"] == 0.7


def test_the_controller_does_not_see_groups_added_later():
    p, q = (torch.nn.Parameter(torch.ones(2, 2)) for _ in range(2))
    optimizer = AdaBreg([p], lam=0.1)
    plan = schedule.LamController(optimizer, 0.5, every=1)
    optimizer.add_param_group({"params": [q], "lam": 0.7})
    with torch.no_grad():
        p[0] = 0.0
    assert plan.measure() == 0.5
    plan.step()
    assert optimizer.param_groups[-1]["lam"] == 0.7


def test_a_state_of_other_groups_changes_nothing():
    _, optimizer = build()
    plan = schedule.WarmUpLam(optimizer, 10)
    one = AdaBreg([torch.nn.Parameter(torch.ones(2))], lam=0.3)
    state = schedule.WarmUpLam(one, 10).state_dict() | {"last_step": 5}
    with pytest.raises(ValueError, match="state_dict must be of 2 groups, got one of 1"):
        plan.load_state_dict(state)
    assert (plan.last_step, plan.get_last_lam()) == (0, [0.0, 0.0])


@pytest.mark.parametrize("factor", [-1.0, float("nan")])
def test_a_lam_below_zero_is_refused_when_it_is_set(factor):
    _, optimizer = build()
    plan = schedule.LambdaLam(optimizer, lambda step: factor if step else 1.0)
    with pytest.raises(ValueError, match="factor must be >= 0"):
        plan.step()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda o: schedule.ConstantLam("adam"), TypeError, "optimizer must be a torch.optim.Optimizer, got str"),
        (lambda o: schedule.LambdaLam(o, 2.0), TypeError, "factor must be a function of the step, got float"),
        (lambda o: schedule.WarmUpLam(o, 0), ValueError, "steps must be >= 1, got 0"),
        (lambda o: schedule.LamController(o, 0.0), ValueError, r"density must be in \(0, 1\], got 0.0"),
        (lambda o: schedule.LamController(o, 0.5, gain=0.0), ValueError, "gain must be > 0, got 0.0"),
        (lambda o: schedule.LamController(o, 0.5, most=0.5), ValueError, "most must be >= 1, got 0.5"),
        (lambda o: schedule.ConstantLam(o).load_state_dict({"a": 1}), ValueError, "state_dict must hold"),
        (
            lambda o: schedule.ConstantLam(torch.optim.Adam(network().parameters())),
            ValueError,
            r"optimizer must have a group with lam > 0, got \[0.0\]; .* make the schedule before the optimizer loads",
        ),
    ],
)
def test_says_what_is_wrong(call, error, message):
    with pytest.raises(error, match=message):
        call(build()[1])
