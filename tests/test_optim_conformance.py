"""One matrix for our optimisers and torch's Adam and SGD: what a torch optimiser must do, they all do."""

import copy
import pickle

import pytest
import torch
from optim_cases import everyone, loss_of, network, ours, saved_and_loaded, train, weights
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR


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


@ours
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
@pytest.mark.parametrize("penalty", ["l1", "group_l1:rows"])
def test_compiled_step_follows_a_schedule_without_compiling_again(make, penalty):
    """The learning rate must be a tensor for that: a number would be a constant of the compiled graph."""
    net, other = network(), network()
    first, last = ([p for p in model.parameters() if p.ndim > 1] for model in (net, other))
    optimizer = make(first, lr=torch.tensor(0.05), penalty=penalty)
    plain = make(last, lr=0.05, penalty=penalty)
    step = torch.compile(optimizer.step, backend="aot_eager", fullgraph=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for i in range(5):
            for model in (net, other):
                model.zero_grad()
                loss_of(model, seed=i).backward()
            step()
            plain.step()
            optimizer.param_groups[0]["lr"].fill_(0.05 / (i + 2))
            plain.param_groups[0]["lr"] = 0.05 / (i + 2)
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
