"""Which parameters are weights: module type, name and dimensions; everything unclear is named, not guessed."""

import pytest
import torch
from torch import nn

from bregma.nn.weights import split_parameters


def names(model, **patterns):
    weights, rest = split_parameters(model, **patterns)
    return list(weights), list(rest)


@pytest.mark.parametrize(
    ("module", "weights"),
    [
        (nn.Linear(3, 2), ["weight"]),
        (nn.Conv1d(3, 2, 3), ["weight"]),
        (nn.Conv2d(4, 4, 3, groups=4), ["weight"]),
        (nn.ConvTranspose3d(3, 2, 2), ["weight"]),
        (nn.Bilinear(2, 3, 4), ["weight"]),
        (nn.LSTM(3, 4, proj_size=2), ["weight_ih_l0", "weight_hh_l0", "weight_hr_l0"]),
        (nn.GRUCell(3, 4), ["weight_ih", "weight_hh"]),
        (nn.MultiheadAttention(4, 2), ["in_proj_weight", "out_proj.weight"]),
        (nn.BatchNorm2d(3), []),
        (nn.LayerNorm((3, 4)), []),
        (nn.GroupNorm(1, 3), []),
        (nn.Embedding(5, 3), []),
        (nn.PReLU(), []),
    ],
)
def test_modules_of_torch(module, weights):
    found, rest = names(module)
    assert found == weights
    assert set(found) | set(rest) == {name for name, _ in module.named_parameters()}


class Neuron(nn.Module):
    """Everything a neuron model may learn besides weights, matrices included."""

    def __init__(self):
        super().__init__()
        for name in ("delays", "threshold", "decay", "beta", "tau_mem", "raw_delay", "bias"):
            setattr(self, name, nn.Parameter(torch.ones(4, 4)))
        self.anything = nn.Parameter(torch.ones(4))
        self.recurrent = nn.Linear(4, 4)


def test_delays_thresholds_and_decays_are_not_weights_even_as_matrices():
    weights, rest = names(Neuron())
    assert weights == ["recurrent.weight"]
    assert len(rest) == 9


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_the_gain_of_weight_norm_is_not_a_weight():
    weights, rest = names(nn.utils.weight_norm(nn.Linear(3, 2)))
    assert weights == ["weight_v"]
    assert set(rest) == {"bias", "weight_g"}


def test_snntorch_recurrent_weights():
    snntorch = pytest.importorskip("snntorch")
    net = nn.Sequential(nn.Linear(3, 4), snntorch.RLeaky(beta=0.9, linear_features=4, learn_beta=True))
    weights, rest = names(net)
    assert weights == ["0.weight", "1.recurrent.weight"]
    assert "1.beta" in rest


def test_own_layers():
    from bregma.nn import LIF, Readout, RecurrentLIF

    net = nn.Sequential(
        nn.Linear(3, 4), LIF(decay=0.9), RecurrentLIF(4, decay=0.9), nn.Linear(4, 2), Readout(decay=0.9)
    )
    weights, _ = names(net)
    assert [name for name in weights if name.endswith("weight")] == weights
    assert len(weights) == 3


class Mixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.ones(3, 3))
        self.other = nn.Parameter(torch.ones(2, 2))
        self.head = nn.Linear(3, 2)


def test_an_unknown_matrix_is_named_with_the_way_out():
    with pytest.raises(
        ValueError, match=r"cannot place parameter 'matrix' \(Mixer\) of shape \(3, 3\); say what it is"
    ):
        split_parameters(Mixer())
    with pytest.raises(ValueError, match=r"with sparse=\('0.other',\) or dense=\('0.other',\)"):
        split_parameters(nn.Sequential(Mixer()), dense=["*.matrix"])
    assert names(Mixer(), sparse=("m*",), dense=("other",)) == (["matrix", "head.weight"], ["other", "head.bias"])


def test_dense_wins_over_sparse_and_patterns_over_rules():
    assert names(Mixer(), sparse=["*"], dense=["head.*"]) == (["matrix", "other"], ["head.weight", "head.bias"])


@pytest.mark.parametrize("argument", ["sparse", "dense"])
def test_patterns_that_match_nothing_and_strings_are_refused(argument):
    with pytest.raises(ValueError, match=f"{argument} pattern 'haed.*' matches no parameter"):
        split_parameters(Mixer(), **{argument: ["haed.*"]})
    with pytest.raises(TypeError, match=f"{argument} must be a sequence of name patterns, got the string 'head'"):
        split_parameters(Mixer(), **{argument: "head"})


def test_tied_weights_count_once_under_their_first_name():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    assert names(net) == (["0.weight"], ["0.bias", "1.bias"])
    again = nn.Sequential(net[0], net[0])
    assert names(again) == (["0.weight"], ["0.bias"])


def test_a_weight_tied_to_an_embedding_is_a_question():
    net = nn.ModuleDict({"table": nn.Embedding(5, 3), "head": nn.Linear(3, 5)})
    net["head"].weight = net["table"].weight
    with pytest.raises(ValueError, match=r"'table.weight' \(Embedding\) = 'head.weight' \(Linear\)"):
        split_parameters(net)
    assert names(net, sparse=["head.weight"])[0] == ["table.weight"]


def test_lazy_parameters_are_named():
    with pytest.raises(ValueError, match=r"parameter '0.weight' is not initialised yet; run one batch"):
        split_parameters(nn.Sequential(nn.LazyLinear(3)))


def test_only_modules():
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, got list"):
        split_parameters([nn.Linear(2, 2)])
