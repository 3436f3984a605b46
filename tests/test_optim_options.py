"""Bad options, parameters and gradients: one line that names them, before any work, in every group alike."""

import copy

import numpy as np
import pytest
import torch
from optim_cases import OURS, WITH_DUAL, network, ours
from torch import nn

import bregma
from bregma import AdaBreg


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


def test_a_refused_constructor_leaves_the_weights_of_all_groups():
    w, b = nn.Parameter(torch.ones(10, 10)), nn.Parameter(torch.ones(10))
    with pytest.raises(ValueError, match="group_l1"):
        AdaBreg([{"params": [w], "init": "sparse", "lam": 0.1}, {"params": [b], "penalty": "group_l1"}])
    assert int((w == 0).sum()) == 0


@ours
def test_a_penalty_of_matrices_refuses_vectors(make):
    with pytest.raises(ValueError, match=r"'group_l1:rows' needs parameters of 2 or more dimensions, got shape \(8,\)"):
        make(network().parameters(), penalty="group_l1:rows")


@pytest.mark.parametrize("kind", [bregma.AdaBreg, bregma.LinBreg, bregma.ProxSGD])
def test_numbers_of_numpy_are_numbers(kind):
    weights, states = [], []
    for number, whole in ((np.float32, np.int64), (lambda value: float(np.float32(value)), int)):
        torch.manual_seed(0)
        net = nn.Linear(5, 4)
        optimizer = kind(net.parameters(), lr=number(0.01), lam=number(0.1))
        for _ in range(3):
            net.zero_grad()
            net(torch.ones(2, 5)).square().sum().backward()
            optimizer.step()
        weights.append(net.weight.detach())
        states.append(optimizer.state_dict()["param_groups"][0])
        thinned = torch.optim.Adam(bregma.param_groups(nn.Linear(8, 4)), lr=0.1)
        sparsifier = bregma.TargetDensity(thinned, number(0.25), total_steps=whole(4), layer_floor=number(0.125))
        assert all(type(value) in (int, float) for value in (sparsifier.target, sparsifier.total_steps))
    assert torch.equal(*weights)
    assert states[0] == states[1]
    assert not any(isinstance(value, np.generic) for value in states[0].values())
