"""One matrix for our optimisers and torch's Adam and SGD: what a torch optimiser must do, they all do."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR

from bregma import AdaBreg, LinBreg, ProxSGD

OURS = {
    "AdaBreg": lambda params, **o: AdaBreg(params, **{"lr": 0.01, "lam": 0.05, **o}),
    "LinBreg": lambda params, **o: LinBreg(params, **{"lr": 0.1, "lam": 0.01, **o}),
    "LinBreg-momentum": lambda params, **o: LinBreg(params, **{"lr": 0.1, "momentum": 0.9, "lam": 0.01, **o}),
    "ProxSGD": lambda params, **o: ProxSGD(params, **{"lr": 0.1, "lam": 0.01, **o}),
    "ProxSGD-momentum": lambda params, **o: ProxSGD(params, **{"lr": 0.02, "momentum": 0.9, "lam": 0.01, **o}),
}
TORCH = {
    "torch-Adam": lambda params, **o: torch.optim.Adam(params, **{"lr": 0.01, **o}),
    "torch-SGD": lambda params, **o: torch.optim.SGD(params, **{"lr": 0.1, "momentum": 0.9, **o}),
}
everyone = pytest.mark.parametrize("make", list((OURS | TORCH).values()), ids=list(OURS | TORCH))
ours = pytest.mark.parametrize("make", list(OURS.values()), ids=list(OURS))
WITH_DUAL = [name for name in OURS if not name.startswith("ProxSGD")]
with_dual = pytest.mark.parametrize("make", [OURS[name] for name in WITH_DUAL], ids=WITH_DUAL)


def network(dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype)


def loss_of(net, seed=1):
    generator = torch.Generator().manual_seed(seed)
    dtype = net[0].weight.dtype
    x = torch.randn(16, 6, generator=generator)
    return nn.functional.cross_entropy(net(x.to(dtype)).float(), (x[:, 0] > 0).long())


def train(net, optimizer, steps):
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(net)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def saved_and_loaded(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@everyone
def test_lowers_the_loss(make):
    net = network()
    losses = train(net, make(net.parameters()), 60)
    assert losses[-1] < 0.7 * losses[0]


@everyone
def test_honours_closures_with_gradients_on(make):
    net = network()
    optimizer = make(net.parameters())
    calls = []

    def closure():
        assert torch.is_grad_enabled()
        optimizer.zero_grad()
        loss = loss_of(net)
        loss.backward()
        calls.append(loss.item())
        return loss

    with torch.no_grad():
        returned = optimizer.step(closure)
    assert calls == [returned.item()]
    assert optimizer.step() is None


@everyone
def test_groups_hold_plain_values_only(make):
    net = network()
    plain = (bool, int, float, str, type(None))
    for key, value in make(net.parameters()).param_groups[0].items():
        if key == "params":
            continue
        values = value if isinstance(value, tuple) else (value,)
        assert all(isinstance(v, plain) for v in values), key


@everyone
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_resumes_bit_for_bit_through_a_safe_load(make, dtype):
    net = network(dtype)
    optimizer = make(net.parameters())
    if dtype == torch.float16 and type(optimizer) is torch.optim.Adam:
        pytest.skip("torch keeps the state in float16, where eps = 1e-8 is 0, and divides by it")
    train(net, optimizer, 5)
    state = saved_and_loaded({"net": net.state_dict(), "optimizer": optimizer.state_dict()})
    other = network(dtype, seed=7)
    resumed = make(other.parameters())
    other.load_state_dict(state["net"])
    resumed.load_state_dict(state["optimizer"])
    train(net, optimizer, 5)
    train(other, resumed, 5)
    assert torch.equal(weights(net), weights(other))


@everyone
def test_updates_in_place(make):
    net = network()
    before = [p.data_ptr() for p in net.parameters()]
    first = weights(net)
    views = [p.detach().view(-1) for p in net.parameters()]
    train(net, make(net.parameters()), 3)
    assert [p.data_ptr() for p in net.parameters()] == before
    assert torch.equal(torch.cat(views), weights(net))
    assert not torch.equal(first, weights(net))


@everyone
def test_skips_parameters_without_gradient(make):
    net = network()
    optimizer = make(net.parameters())
    net[0].weight.requires_grad_(False)
    before = net[0].weight.clone()
    train(net, optimizer, 3)
    assert torch.equal(net[0].weight, before)
    assert net[0].weight not in optimizer.state
    net[0].weight.requires_grad_(True)
    train(net, optimizer, 3)
    assert not torch.equal(net[0].weight, before)


@everyone
def test_takes_groups_with_their_own_options_and_later_ones(make):
    net = network()
    optimizer = make([{"params": net[0].parameters(), "lr": 0.0}])
    optimizer.add_param_group({"params": net[2].parameters()})
    before = copy.deepcopy(net)
    train(net, optimizer, 2)
    torch.testing.assert_close(net[0].weight, before[0].weight)
    assert not torch.equal(net[2].weight, before[2].weight)


@everyone
def test_deepcopy_and_pickle_go_on_alike(make):
    net = network()
    optimizer = make(net.parameters())
    train(net, optimizer, 3)
    twin, twin_optimizer = copy.deepcopy((net, optimizer))
    clone, clone_optimizer = pickle.loads(pickle.dumps((net, optimizer)))
    train(net, optimizer, 3)
    train(twin, twin_optimizer, 3)
    train(clone, clone_optimizer, 3)
    assert torch.equal(weights(net), weights(twin))
    assert torch.equal(weights(net), weights(clone))


@everyone
def test_a_tensor_is_a_learning_rate(make):
    net, other = network(), network()
    optimizer = make(net.parameters(), lr=torch.tensor(0.02, dtype=torch.float64))
    train(net, optimizer, 5)
    train(other, make(other.parameters(), lr=0.02), 5)
    torch.testing.assert_close(weights(net), weights(other))
    resumed = make(net.parameters())
    resumed.load_state_dict(saved_and_loaded(optimizer.state_dict()))
    assert float(resumed.param_groups[0]["lr"]) == 0.02


@everyone
def test_maximize_climbs(make):
    net, other = network(), network()
    optimizer, mirrored = make(net.parameters(), maximize=True), make(other.parameters())
    for _ in range(4):
        loss_of(net).backward()
        (-loss_of(other)).backward()
        optimizer.step()
        mirrored.step()
        optimizer.zero_grad()
        mirrored.zero_grad()
    torch.testing.assert_close(weights(net), weights(other))


@everyone
@pytest.mark.parametrize("path", [{"foreach": False}, {"foreach": True}, {"fused": True}], ids=str)
def test_non_contiguous_weights_and_gradients(make, path):
    """Weights transposed, gradients laid out in three ways: the update must meet the right entries."""
    torch.manual_seed(0)
    base = torch.randn(5, 4)
    plain = nn.Parameter(base.clone())
    turned = nn.Parameter(base.t().contiguous().t())
    assert not turned.is_contiguous()
    optimizer, mirrored = make([plain], **path), make([turned], **path)
    if "fused" in path and type(optimizer).__module__.startswith("torch"):
        pytest.skip("torch's fused kernels walk raw memory and mix up entries whose gradient has other strides")
    for gradient_layout in (torch.clone, lambda g: g.t().contiguous().t(), lambda g: g.repeat(1, 2)[:, ::2] * 1):
        grad = torch.randn(5, 4)
        plain.grad, turned.grad = grad.clone(), gradient_layout(grad)
        turned.grad = turned.grad if torch.equal(turned.grad, grad) else grad.clone()
        optimizer.step()
        mirrored.step()
    torch.testing.assert_close(plain, turned)


@everyone
def test_follows_a_one_cycle_schedule(make):
    net = network()
    optimizer = make(net.parameters())
    group = optimizer.param_groups[0]
    cycles = "betas" in group or group.get("momentum", 0) > 0
    scheduler = OneCycleLR(optimizer, max_lr=0.05, total_steps=10, cycle_momentum=cycles)
    seen = set()
    for _ in range(9):
        train(net, optimizer, 1)
        scheduler.step()
        seen.add(round(group["betas"][0] if "betas" in group else group["momentum"], 4))
    assert len(seen) > 3 or not cycles
    assert torch.isfinite(weights(net)).all()


@everyone
def test_follows_a_warm_up_from_zero(make):
    net = network()
    optimizer = make(net.parameters())
    scheduler = LambdaLR(optimizer, lambda step: min(1.0, step / 3))
    before = weights(net)
    train(net, optimizer, 1)
    torch.testing.assert_close(weights(net), before)
    optimizer.load_state_dict(saved_and_loaded(optimizer.state_dict()))
    scheduler.step()
    train(net, optimizer, 1)
    assert not torch.equal(weights(net), before)


@everyone
def test_grad_scaler_skips_a_step_with_infinite_gradients(make):
    net = network()
    optimizer = make(net.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for bad in (False, True, False):
        before = weights(net)
        optimizer.zero_grad()
        scaler.scale(loss_of(net)).backward()
        if bad:
            net[0].weight.grad[0, 0] = float("inf")
        scaler.step(optimizer)
        scaler.update()
        assert torch.equal(weights(net), before) == bad
        assert torch.isfinite(weights(net)).all()


@everyone
def test_grad_scaler_does_not_change_the_result(make):
    net, other = network(), network()
    optimizer = make(net.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for _ in range(3):
        optimizer.zero_grad()
        scaler.scale(loss_of(net)).backward()
        scaler.step(optimizer)
        scaler.update()
    train(other, make(other.parameters()), 3)
    torch.testing.assert_close(weights(net), weights(other))


@everyone
def test_hooks_and_schedulers_see_each_step(make):
    net = network()
    optimizer = make(net.parameters())
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    train(net, optimizer, 2)
    assert seen == ["before", "after"] * 2


@everyone
def test_named_parameters_are_kept_by_name(make):
    net = network()
    optimizer = make(net.named_parameters())
    assert optimizer.param_groups[0]["param_names"][0] == "0.weight"
    train(net, optimizer, 1)
    make(net.named_parameters()).load_state_dict(saved_and_loaded(optimizer.state_dict()))


@everyone
def test_fabric(make):
    fabric_module = pytest.importorskip("lightning_fabric")
    fabric = fabric_module.Fabric(accelerator="cpu", devices=1)
    net = network()
    bare, optimizer = fabric.setup(net, make(net.parameters()))
    before = weights(net)
    loss = bare(torch.ones(2, 6)).sum()
    fabric.backward(loss)
    optimizer.step()
    assert not torch.equal(weights(net), before)


@everyone
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # torch's compiler imports its own old modules
def test_compiled_step_equals_the_plain_one(make):
    net, other = network(), network()
    optimizer, plain = make(net.parameters()), make(other.parameters())
    whole = type(optimizer).__module__.startswith("bregma")  # torch breaks the graphs of its own on purpose
    step = torch.compile(optimizer.step, backend="aot_eager", fullgraph=whole)
    for i in range(4):
        for model in (net, other):
            model.zero_grad()
            loss_of(model, seed=i).backward()
        step()
        plain.step()
    torch.testing.assert_close(weights(net), weights(other))
    torch._dynamo.reset()


@everyone
def test_two_optimisers_do_not_share_loaded_state(make):
    """The dual, like the moments, must be a copy of what was loaded."""
    net = network()
    optimizer = make(net.parameters())
    train(net, optimizer, 2)
    other, snapshot = copy.deepcopy(net), copy.deepcopy(optimizer.state_dict())
    resumed = make(other.parameters())
    resumed.load_state_dict(snapshot)
    train(net, optimizer, 2)
    train(other, resumed, 2)
    assert torch.equal(weights(net), weights(other))


@ours
def test_sparse_gradients_are_refused_before_any_work(make):
    table = nn.Embedding(5, 3, sparse=True)
    dense = nn.Parameter(torch.ones(3))
    (table(torch.tensor([1, 2])).sum() + dense.sum()).backward()
    optimizer = make([{"params": [dense]}, {"params": table.parameters()}])
    with pytest.raises(TypeError, match=r"dense gradients, got layout torch\.sparse_coo"):
        optimizer.step()
    assert torch.equal(dense.detach(), torch.ones(3))


@ours
@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64])
def test_only_real_floating_point_parameters(make, dtype):
    with pytest.raises(TypeError, match=str(dtype)):
        make([torch.zeros(3, dtype=dtype)])


@ours
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_state_is_float32_under_narrow_weights_and_stays_so(make, dtype):
    net = network(dtype)
    optimizer = make(net.parameters())
    train(net, optimizer, 3)
    resumed = make(net.parameters())
    resumed.load_state_dict(saved_and_loaded(optimizer.state_dict()))
    for p in net.parameters():
        assert p.dtype == dtype
        for key, value in optimizer.state[p].items():
            assert value.dtype == torch.float32, key
            assert torch.equal(value, resumed.state[p][key]), key


@with_dual
def test_small_steps_are_not_lost_in_narrow_weights(make):
    """Steps far below the spacing of bfloat16 add up in the dual: this is what the float32 dual is for."""
    p = nn.Parameter(torch.ones(50, dtype=torch.bfloat16))
    optimizer = make([p], lr=1e-4, lam=0.0)
    for _ in range(200):
        p.grad = torch.ones_like(p)
        optimizer.step()
    assert (p.detach() < 1.0).all()


@with_dual
def test_weights_and_dual_share_no_storage(make):
    for penalty in ("none", "l1"):
        p = nn.Parameter(torch.randn(4, 4))
        optimizer = make([p], penalty=penalty, lam=0.0)
        p.grad = torch.randn(4, 4)
        optimizer.step()
        dual = optimizer.state[p]["dual"]
        assert dual.untyped_storage().data_ptr() != p.untyped_storage().data_ptr()
        assert torch.equal(dual, p.detach())


@ours
def test_zeros_are_exact(make):
    net = network()
    train(net, make(net.parameters(), lam=0.5), 60)
    assert (weights(net) == 0).any()


@ours
def test_old_checkpoints_get_the_options_they_lack(make):
    net = network()
    optimizer = make(net.parameters(), lam=0.25)
    state = optimizer.state_dict()
    del state["param_groups"][0]["penalty"], state["param_groups"][0]["lam"]
    optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["penalty"] == "l1"
    assert optimizer.param_groups[0]["lam"] == 0.25
    assert "differentiable" not in pickle.loads(pickle.dumps(optimizer)).param_groups[0]


@ours
def test_load_hooks_still_have_their_say(make):
    net = network(torch.bfloat16)
    optimizer = make(net.parameters())
    train(net, optimizer, 2)
    state = copy.deepcopy(optimizer.state_dict())
    resumed = make(net.parameters())

    def double(_, loaded):
        loaded["state"] = {i: {k: 2 * v for k, v in s.items()} for i, s in loaded["state"].items()}

    resumed.register_load_state_dict_pre_hook(double)
    resumed.load_state_dict(state)
    p = net[0].weight
    for key, value in optimizer.state[p].items():
        assert torch.equal(resumed.state[p][key], 2 * value), key


BAD_OPTIONS = [
    ({"lr": -1.0}, ValueError, "lr must be >= 0, got -1.0"),
    ({"lr": float("nan")}, ValueError, "lr must be >= 0 and finite, got nan"),
    ({"lr": "fast"}, TypeError, "lr must be a number, got str"),
    ({"lr": torch.ones(2)}, ValueError, "lr must be a number or a tensor of one element"),
    ({"lr": torch.tensor(-1.0)}, ValueError, "lr must be >= 0, got -1.0"),
    ({"lam": -0.1}, ValueError, "lam must be >= 0, got -0.1"),
    ({"lam": float("inf")}, ValueError, "lam must be >= 0 and finite, got inf"),
    ({"lam": None}, TypeError, "lam must be a number, got NoneType"),
    ({"penalty": "l3"}, ValueError, "penalty must be one of none, l1, .* got 'l3'"),
    ({"penalty": object()}, TypeError, "penalty must be a name"),
    ({"maximize": 1}, TypeError, "maximize must be a bool, got int"),
    ({"foreach": "yes"}, TypeError, "foreach must be a bool or None, got str"),
    ({"foreach": True, "fused": True}, ValueError, "foreach and fused must not both be True"),
]
BAD_DUAL_OPTIONS = [
    ({"delta": 0.0}, ValueError, "delta must be > 0, got 0.0"),
    ({"init": "dense"}, ValueError, "init must be one of anchored, shrink, sparse, got 'dense'"),
    ({"init_density": 0.0}, ValueError, r"init_density must be in \(0, 1\], got 0.0"),
    ({"init_density": 1.5}, ValueError, r"init_density must be in \(0, 1\], got 1.5"),
    ({"seed": -1}, ValueError, "seed must be >= 0, got -1"),
    ({"seed": 0.5}, TypeError, "seed must be an integer or None, got float"),
]
BAD_OWN_OPTIONS = [
    ("AdaBreg", {"betas": (0.9, 1.0)}, ValueError, r"betas\[1\] must be >= 0 and < 1, got 1.0"),
    ("AdaBreg", {"betas": 0.9}, TypeError, "betas must be a pair of numbers, got 0.9"),
    ("AdaBreg", {"eps": -1.0}, ValueError, "eps must be >= 0, got -1.0"),
    ("LinBreg", {"momentum": 1.0}, ValueError, "momentum must be >= 0 and < 1, got 1.0"),
    ("ProxSGD", {"momentum": -0.1}, ValueError, "momentum must be >= 0 and < 1, got -0.1"),
]
BAD = [(name, *bad) for name in OURS for bad in BAD_OPTIONS]
BAD += [(name, *bad) for name in WITH_DUAL for bad in BAD_DUAL_OPTIONS] + BAD_OWN_OPTIONS


@pytest.mark.parametrize(("name", "options", "error", "message"), BAD)
def test_bad_options_are_named_for_all_groups_alike(name, options, error, message):
    p, q = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    with pytest.raises(error, match=message):
        OURS[name]([p], **options)
    with pytest.raises(error, match=message):
        OURS[name]([{"params": [p]}, {"params": [q], **options}])
    optimizer = OURS[name]([p])
    with pytest.raises(error, match=message):
        optimizer.add_param_group({"params": [q], **options})
    assert len(optimizer.param_groups) == 1
    state = copy.deepcopy(optimizer.state_dict())
    state["param_groups"][0].update(options)
    with pytest.raises(error, match=message):
        optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["params"] == [p]


@ours
def test_a_penalty_of_matrices_refuses_vectors(make):
    with pytest.raises(ValueError, match=r"'group_l1:rows' needs parameters of 2 or more dimensions, got shape \(8,\)"):
        make(network().parameters(), penalty="group_l1:rows")
