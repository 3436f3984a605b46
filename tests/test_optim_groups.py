"""Which parameter gets which penalty."""

import pytest
import torch
from torch import nn

from bregma import AdaBreg, ProxSGD, param_groups


def network():
    return nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.Linear(5, 6), nn.Linear(6, 2))


def test_weights_get_the_penalty_and_the_rest_none():
    net = network()
    weights, rest = param_groups(net, lam=0.2, penalty="group_l1", init="sparse")
    assert [id(p) for p in weights.pop("params")] == [id(net[i].weight) for i in (0, 2, 3)]
    assert weights == {"lam": 0.2, "penalty": "group_l1", "init": "sparse"}
    assert [id(p) for p in rest.pop("params")] == [
        id(p) for p in (net[0].bias, net[1].weight, net[1].bias, net[2].bias, net[3].bias)
    ]
    assert rest == {"lam": 0.0, "penalty": "none"}


def test_lam_is_the_optimisers_own_if_left_out():
    groups = param_groups(network())
    assert "lam" not in groups[0]
    assert AdaBreg(groups).param_groups[0]["lam"] == AdaBreg(network().parameters()).defaults["lam"]
    assert ProxSGD(param_groups(network()), lr=0.1).param_groups[1]["lam"] == 0.0


def test_each_layer_may_have_its_own_lam_and_penalty():
    net = network()
    groups = param_groups(
        net,
        lam={"3.*": 0.0, "*": 0.3},
        penalty={"0.*": "group_l1:kernels", "*": "l1"},
    )
    found = [(g["lam"], g["penalty"], len(g["params"])) for g in groups]
    assert found == [(0.3, "group_l1:kernels", 1), (0.3, "l1", 1), (0.0, "l1", 1), (0.0, "none", 5)]
    AdaBreg(groups)


def test_a_weight_without_pattern_is_named():
    with pytest.raises(ValueError, match=r"lam has no pattern that matches weight '2.weight', got '0.\*'"):
        param_groups(network(), lam={"0.*": 0.1})


@pytest.mark.parametrize("options", [{"lam": {"head*": 0.3, "*": 0.1}}, {"penalty": {"head*": "nuclear", "*": "l1"}}])
def test_a_pattern_without_parameter_is_named(options):
    with pytest.raises(ValueError, match=rf"{next(iter(options))} pattern 'head\*' matches no parameter of the model"):
        param_groups(network(), **options)


def test_parameters_may_have_learning_rates_by_name():
    net = network()
    groups = param_groups(net, lam=0.1, rates={"2.*": 0.5, "*.bias": 0.25})
    names = {id(p): name for name, p in net.named_parameters()}
    found = {names[id(p)]: (g["lam"], g.get("lr")) for g in groups for p in g["params"]}
    assert found.keys() == set(names.values())
    for name, (lam, lr) in found.items():
        assert lr == (0.5 if name.startswith("2.") else 0.25 if name.endswith(".bias") else None), name
        assert lam == (0.1 if net.get_parameter(name).ndim >= 2 else 0.0), name
    assert {g["lr"] for g in AdaBreg(groups, lr=0.01).param_groups} == {0.5, 0.25, 0.01}
    with pytest.raises(ValueError, match=r"rates pattern 'delay\*' matches no parameter of the model"):
        param_groups(net, rates={"delay*": 0.5})


def test_torch_optimisers_take_the_groups_too():
    net = network()
    optimizer = torch.optim.Adam(param_groups(net, lam=0.1))
    net[2](torch.ones(1, 5)).sum().backward()
    optimizer.step()


def test_a_model_without_rest_makes_one_group():
    assert len(param_groups(nn.Linear(2, 2, bias=False))) == 1


def test_training_makes_zeros_among_weights_only():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(10, 30), nn.ReLU(), nn.Linear(30, 1))
    nn.init.zeros_(net[0].bias)
    optimizer = AdaBreg(param_groups(net, lam=0.1, init="shrink"), lr=0.01)
    for _ in range(20):
        optimizer.zero_grad()
        net(torch.randn(32, 10)).square().mean().backward()
        optimizer.step()
    assert (net[0].weight == 0).any()
    assert (net[0].bias != 0).any()
    assert (net[2].bias != 0).all()
