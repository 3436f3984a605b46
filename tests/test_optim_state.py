"""What our optimisers keep: duals and moments in float32, in storage of their own, through save and load."""

import copy
import pickle

import pytest
import torch
from optim_cases import network, ours, saved_and_loaded, train, weights, with_dual
from torch import nn


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
def test_a_state_of_other_shapes_is_refused(make):
    small, large = nn.Parameter(torch.ones(10)), nn.Parameter(torch.ones(4, 10))
    one, other = make([small]), make([large])
    small.grad = torch.ones(10)
    one.step()
    if not one.state[small]:
        pytest.skip("no state")
    with pytest.raises(ValueError, match=r"of shape \(10,\) for a parameter of shape \(4, 10\)"):
        other.load_state_dict(one.state_dict())
    assert not other.state


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
