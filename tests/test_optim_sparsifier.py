"""What all methods that thin out a network share: states that resume, what is refused, pieces that are not kept."""

import copy
import pickle

import pytest
import torch
from optim_cases import adam, both, loss_of, network, saved_and_loaded, train, weights
from torch import nn

from bregma import AdaBreg, TargetDensity, density, param_groups
from bregma.optim import baselines
from bregma.optim.schedule import ConstantLam
from bregma.optim.thinned import keep_
from bregma.prox import maps


@pytest.mark.parametrize("stop", [7, 29, 30, 35])
@pytest.mark.parametrize("every", [1, 4])
def test_resumes_bit_for_bit_through_a_safe_load(stop, every):
    net, optimizer, sparsifier = both(every=every)
    train(net, optimizer, stop)
    state = saved_and_loaded([net.state_dict(), optimizer.state_dict(), sparsifier.state_dict()])
    other, resumed, thinner = both(seed=5, every=every)
    for part, saved in zip((other, resumed, thinner), state, strict=True):
        part.load_state_dict(saved)
    train(net, optimizer, 40 - stop)
    train(other, resumed, 40 - stop)
    assert torch.equal(weights(net), weights(other))
    assert torch.equal(sparsifier.mask, thinner.mask)


def test_state_dict_shares_no_storage():
    net, optimizer, sparsifier = both()
    train(net, optimizer, 5)
    state = sparsifier.state_dict()
    before = copy.deepcopy(state)
    train(net, optimizer, 5)
    assert torch.equal(state["dual"], before["dual"])
    sparsifier.load_state_dict(state)
    train(net, optimizer, 5)
    assert torch.equal(state["dual"], before["dual"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"density": 0.0}, ValueError, r"density must be in \(0, 1\], got 0.0"),
        ({"density": -0.1}, ValueError, r"density must be in \(0, 1\], got -0.1"),
        ({"density": float("nan")}, ValueError, r"density must be in \(0, 1\], got nan"),
        ({"density": "all"}, TypeError, "density must be a number, got str"),
        ({"total_steps": 0}, ValueError, "total_steps must be >= 1, got 0"),
        ({"total_steps": 1.5}, TypeError, "total_steps must be an integer, got float"),
        ({"ramp_end": 1.5}, ValueError, r"ramp_end must be in \(0, 1\], got 1.5"),
        ({"every": 0}, ValueError, "every must be >= 1, got 0"),
        ({"l1": -1e-4}, ValueError, "l1 must be >= 0, got -0.0001"),
        ({"prox": "l2"}, ValueError, "prox must be one of soft, firm, hard, got 'l2'"),
        ({"metric": "fisher"}, ValueError, "metric must be one of adam, none, got 'fisher'"),
        ({"allocation": "fair"}, ValueError, "allocation must be one of global, uniform, erk, global"),
        ({"neuron_floor": -1}, ValueError, "neuron_floor must be >= 0, got -1"),
        ({"layer_floor": 0.9}, ValueError, "layer_floor must be <= density = 0.5, got 0.9"),
        ({"density": 0.1, "neuron_floor": 1}, ValueError, "density must be >= 0.152778 for the floors"),
    ],
)
def test_says_what_is_wrong_before_any_work(options, error, message):
    net = network()
    before = weights(net)
    with pytest.raises(error, match=message):
        TargetDensity(adam(net), **{"density": 0.5, "total_steps": 10, **options})
    assert torch.equal(before, weights(net))


def test_wants_the_right_optimiser_and_state():
    net = network()
    with pytest.raises(ValueError, match="metric must be 'none' for SGD"):
        TargetDensity(torch.optim.SGD(net.parameters(), lr=0.1), 0.5, 10)
    with pytest.raises(TypeError, match=r"optimizer must be a torch.optim.Optimizer, got Sequential"):
        TargetDensity(net, 0.5, 10)
    with pytest.raises(ValueError, match="optimizer must hold weights"):
        TargetDensity(torch.optim.Adam([net[0].bias]), 0.5, 10)
    _, _, sparsifier = both()
    names = "step_count, freeze_step, target, mask, dual, cut, lam, delta"
    with pytest.raises(ValueError, match=f"state_dict must hold {names}, got mask"):
        sparsifier.load_state_dict({"mask": sparsifier.mask})
    state = sparsifier.state_dict() | {"mask": torch.ones(3, dtype=torch.bool)}
    with pytest.raises(ValueError, match=r"of this method on 72 weights, got mask torch.bool of shape \(3,\)"):
        sparsifier.load_state_dict(state)


@pytest.mark.parametrize(("options", "found"), [({"steps": 80}, "0.2 after 36"), ({"density": 0.1}, "0.2 after 36")])
def test_a_state_of_other_plans_is_refused(options, found):
    net, optimizer, sparsifier = both()
    train(net, optimizer, 38)
    _, _, other = both(**options)
    with pytest.raises(ValueError, match=f"got one of density {found} steps"):
        other.load_state_dict(sparsifier.state_dict())
    assert other.step_count == 0


@pytest.mark.parametrize("copied", [copy.deepcopy, pickle.dumps])
def test_a_copy_would_do_nothing_and_is_refused(copied):
    with pytest.raises(TypeError, match="TargetDensity hangs on its optimizer and cannot be copied or pickled"):
        copied(both())


@pytest.mark.parametrize(
    "wrong",
    [{"density": 1.5}, *({"cost": "synops", "net": net} for net in (nn.Linear(6, 8), nn.ConvTranspose2d(1, 1, 1)))],
)
def test_what_was_refused_leaves_no_trace(wrong):
    net = network()
    optimizer = adam(net)
    with pytest.raises(ValueError, match="must"):
        TargetDensity(optimizer, **{"density": 0.25, "total_steps": 10, **wrong})
    assert not optimizer._optimizer_step_pre_hooks
    train(net, optimizer, 12)
    assert density(net) == 1.0
    TargetDensity(optimizer, 0.25, 10)


def test_complex_weights_are_refused():
    p = nn.Parameter(torch.ones(2, 3, dtype=torch.complex64))
    with pytest.raises(TypeError, match=r"real floating-point tensors, got torch.complex64 of shape \(2, 3\)"):
        TargetDensity(torch.optim.Adam([p]), 0.5, 10)


def test_sparse_gradients_are_refused_before_anything_moves():
    embedding = nn.Embedding(4, 3, sparse=True)
    optimizer = torch.optim.SparseAdam(embedding.parameters())
    sparsifier = TargetDensity(optimizer, 0.5, 10)
    embedding(torch.tensor([1])).sum().backward()
    before = embedding.weight.clone()
    with pytest.raises(TypeError, match=r"TargetDensity needs dense gradients, got layout torch.sparse_coo"):
        optimizer.step()
    assert torch.equal(embedding.weight, before)
    assert sparsifier.step_count == 0


def test_the_metric_is_what_adam_divides_by():
    """With ``amsgrad`` that is the largest second moment so far, not the present one."""
    p = nn.Parameter(torch.tensor([[1.0, 1.0, 1.0, 1.0]]))
    optimizer = torch.optim.Adam([p], lr=0.0, betas=(0.9, 0.5), amsgrad=True)
    sparsifier = TargetDensity(optimizer, 0.5, 10, every=10)
    for size in (8.0, 1.0, 1.0):
        p.grad = torch.tensor([[size, 2.0, 4.0, 1.0]])
        optimizer.step()
    largest = torch.tensor([32.0, 4 * (1 - 0.5**3), 16 * (1 - 0.5**3), 1 - 0.5**3])
    torch.testing.assert_close(sparsifier.metric(), (largest / (1 - 0.5**3)) ** 0.25)


def test_lam_stays_zero_whatever_sets_it():
    net = network()
    optimizer = AdaBreg(param_groups(net), lr=0.01, lam=0.3)
    saved = copy.deepcopy(optimizer.state_dict())
    schedule = ConstantLam(optimizer)
    sparsifier = TargetDensity(optimizer, 0.3, 20)
    optimizer.load_state_dict(saved)
    for _ in range(30):
        train(net, optimizer, 1)
        schedule.step()
    assert density(net) == sparsifier.density == pytest.approx(0.3, abs=0.01)


def test_steps_that_a_gradient_scaler_skips_do_not_count():
    net = network()
    optimizer = torch.optim.Adam(param_groups(net), lr=0.01, fused=True)
    sparsifier = TargetDensity(optimizer, 0.2, 20)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    before = weights(net)
    for k in range(24):
        optimizer.zero_grad()
        scaler.scale(loss_of(net) * (float("inf") if k < 4 else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()
        assert torch.equal(weights(net), before) == (k < 4)
        assert sparsifier.step_count == max(0, k - 3)
    assert density(net) == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize(
    "method",
    [
        lambda optimizer: TargetDensity(optimizer, 0.3, 20, l1=0.05),
        lambda optimizer: baselines.L1Pruning(optimizer, 0.3, 20, lam=0.05),
        lambda optimizer: baselines.STR(optimizer, 0.3, 20, start=-3.0),
    ],
)
@pytest.mark.parametrize("unit", ["scaled", "ascending"])
def test_gradients_may_be_scaled_or_ascended(method, unit):
    """A fused optimiser takes the scale of a gradient scaler out itself, after the sparsifier saw the gradients."""

    def trained(scale, sign, **options):
        net = network()
        optimizer = torch.optim.Adam(param_groups(net), lr=0.01, **options)
        method(optimizer)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, enabled=scale > 1)
        for _ in range(12):
            optimizer.zero_grad()
            scaler.scale(sign * loss_of(net)).backward()
            scaler.step(optimizer)
            scaler.update()
        return weights(net)

    plain = trained(1.0, 1.0, fused=True)
    other = trained(1024.0, 1.0, fused=True) if unit == "scaled" else trained(1.0, -1.0, fused=True, maximize=True)
    torch.testing.assert_close(other, plain, rtol=1e-4, atol=1e-5)


def test_diverged_training_is_named():
    net, optimizer, _ = both(every=1)
    for p in net.parameters():
        p.grad = torch.full_like(p, float("nan"))
    with pytest.raises(ValueError, match="diverged"):
        optimizer.step()


@pytest.mark.parametrize(
    "changed",
    [
        {"dual": torch.ones(50)},
        {"cut": torch.ones(3)},
        {"mask": torch.ones(72)},
        {"mask": None},
        {"lam": "x"},
        {"delta": torch.ones(())},
    ],
)
def test_a_broken_state_is_refused_and_changes_nothing(changed):
    _, _, thinner = both(every=1)
    before = copy.deepcopy(thinner.state_dict())
    with pytest.raises(ValueError, match=f"state_dict must be of this method on 72 weights, got {next(iter(changed))}"):
        thinner.load_state_dict({**before, "step_count": 7, **changed})
    assert thinner.step_count == 0
    assert torch.equal(thinner.mask, before["mask"])


def test_one_method_for_one_optimiser():
    net, optimizer, _ = both()
    with pytest.raises(ValueError, match="no other method that thins out its weights; make a new optimizer"):
        baselines.MagnitudePruning(optimizer, 0.5, 40)
    TargetDensity(adam(net), 0.5, 40)


@pytest.mark.parametrize("make", [TargetDensity, lambda *args: baselines.MagnitudePruning(*args, metric="adam")])
def test_an_optimiser_without_a_second_moment_is_named(make):
    class Lion(torch.optim.SGD):
        """Keeps one moment, which shows once it has taken a step."""

        def __init__(self, params):
            super().__init__(params, lr=0.01, momentum=0.9)
            self.defaults["betas"] = (0.9, 0.99)

    net = network()
    with pytest.raises(ValueError, match="metric must be 'none' for Adamax, which keeps no second moment"):
        make(torch.optim.Adamax(net.parameters()), 0.5, 2)
    train(net, optimizer := Lion(net.parameters()), 1)
    with pytest.raises(ValueError, match="metric must be 'none' for Lion, which keeps no second moment"):
        make(optimizer, 0.5, 2)
    make(optimizer := Lion(net.parameters()), 0.5, 2)
    with pytest.raises(ValueError, match="metric must be 'none' for Lion, which keeps no second moment"):
        train(net, optimizer, 2)


@pytest.mark.parametrize("make", [TargetDensity, lambda *args: baselines.MagnitudePruning(*args, metric="adam")])
def test_pieces_follow_the_tensors_and_none_are_kept_after_the_ramp(make):
    net = network()
    optimizer = adam(net)
    thinner = make(optimizer, 0.5, 8)
    for _ in range(8):
        train(net, optimizer, 1)
        assert all(piece.data_ptr() >= thinner.mask.data_ptr() for piece in thinner.masks)
        assert torch.equal(torch.cat([piece.flatten() for piece in thinner.masks]), thinner.mask)
    assert [flat is thinner.mask for flat, _ in thinner.structure._cut] == [True]


@pytest.mark.parametrize("strided", [False, True])
def test_what_goes_is_zero_and_what_stays_is_as_it_was_finite_or_not(strided):
    values = torch.tensor([float("inf"), 2.0, float("nan"), -3.0])
    kept = torch.tensor([False, True, False, True])
    values = values.repeat_interleave(2)[::2] if strided else values
    keep_(values, kept)
    assert values.tolist() == [0.0, 2.0, 0.0, -3.0]
    dual = torch.tensor([float("nan"), float("inf"), 2.0, 0.5])
    dual = dual.repeat_interleave(2)[::2] if strided else dual
    hard = maps.hard(dual, torch.tensor([1.0, float("inf"), 1.0, 1.0]))
    assert hard[0].isnan()
    assert hard[1:].tolist() == [0.0, 2.0, 0.0]
