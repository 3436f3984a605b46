"""Penalties by name."""

from dataclasses import dataclass

import pytest
import torch

from bregma import AdaBreg, prox


@dataclass(frozen=True)
class Half(prox.L1):
    """Half of the L1 norm: a penalty of the user's own."""

    def prox(self, w, step):
        return super().prox(w, 0.5 * step)

    def mirror(self, out, dual, lam, delta):
        super().mirror(out, dual, 0.5 * lam, delta)


@pytest.mark.parametrize(
    ("name", "penalty"),
    [
        ("none", prox.NoPenalty()),
        ("l1", prox.L1()),
        ("nonneg_l1", prox.NonNegL1()),
        ("elastic_net", prox.ElasticNet(1.0)),
        ("elastic_net:0.125", prox.ElasticNet(0.125)),
        ("group_l1", prox.GroupL1("rows")),
        ("group_l1:columns", prox.GroupL1("columns")),
        ("group_l1:kernels", prox.GroupL1("kernels")),
        ("group_l1:channels", prox.GroupL1("channels")),
        ("nuclear", prox.Nuclear()),
    ],
)
def test_names(name, penalty):
    assert prox.get(name) == penalty


@pytest.mark.parametrize("name", ["", "L1", "group_l1:diagonals", "l1:0.5"])
def test_unknown_names_list_the_known_ones(name):
    with pytest.raises(ValueError, match=f"penalty must be one of none, l1, .*, got '{name}'"):
        prox.get(name)


def test_a_ridge_that_is_no_number():
    with pytest.raises(ValueError, match="needs a number as RIDGE, got 'elastic_net:much'"):
        prox.get("elastic_net:much")
    with pytest.raises(ValueError, match=r"ridge must be finite and >= 0, got -2\.0"):
        prox.get("elastic_net:-2")


def test_an_own_penalty_trains_by_name():
    prox.register("half", Half())
    p, q = (torch.nn.Parameter(torch.tensor([1.0, -0.3, 0.0])) for _ in range(2))
    ours, plain = AdaBreg([p], lam=0.5, penalty="half", init="shrink"), AdaBreg([q], lam=0.25, init="shrink")
    for parameter, optimizer in ((p, ours), (q, plain)):
        parameter.grad = torch.tensor([0.1, -0.2, 0.3])
        optimizer.step()
    assert torch.equal(p.detach(), q.detach())
    assert ours.state_dict()["param_groups"][0]["penalty"] == "half"


def test_register_refuses_what_is_no_penalty_and_names_that_are_taken():
    with pytest.raises(TypeError, match=r"penalty must be a bregma.prox.Penalty, got function"):
        prox.register("mine", lambda w: w)
    with pytest.raises(TypeError, match="name must be a str, got int"):
        prox.register(5, prox.L1())
    with pytest.raises(ValueError, match="name must be new, got 'l1'"):
        prox.register("l1", Half())
    prox.register("l1", prox.L1())
