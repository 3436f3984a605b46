import copy
import io
import math
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from bregma import dynamics
from bregma.dynamics import RESETS, ATan, Triangle
from bregma.nn import LIF, Readout, ReadoutLayer, Recompute, RecurrentLIF, SpikingLayer, SpikingSequential


def layers():
    torch.manual_seed(0)
    per_neuron = {"decay": torch.tensor([0.2, 0.5, 0.9]), "threshold": torch.tensor([0.5, 1.0, 1.5])}
    return [
        LIF(0.8, reset="zero", strict=False, detach_reset=True, surrogate=Triangle(0.5)),
        LIF(**per_neuron),
        RecurrentLIF(3, 0.8, reset="subtract_decayed"),
        RecurrentLIF(3, **per_neuron),
        Readout(0.7),
        Readout(torch.tensor([0.0, 0.5, 1.0])),
    ]


each_layer = pytest.mark.parametrize("layer", layers(), ids=lambda layer: repr(layer).split("\n")[0])


def current(dtype=torch.float32, seed=0):
    return 1.5 * torch.randn(8, 2, 3, generator=torch.Generator().manual_seed(seed)).to(dtype)


def outputs(layer, x):
    out, state = layer(x)
    return torch.cat([out, state[None]])


@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("reset", RESETS)
def test_layers_hand_everything_to_the_recurrence(reset, strict, detach_reset):
    options = {"reset": reset, "strict": strict, "detach_reset": detach_reset, "surrogate": Triangle(0.5)}
    decay, threshold = torch.tensor([0.2, 0.5, 0.9]), torch.tensor([0.5, 1.0, 1.5])
    state = current(seed=1)[0]
    x = current().requires_grad_()
    plain, recurrent = LIF(decay, threshold, **options), RecurrentLIF(3, decay, threshold, **options)
    weight = recurrent.recurrent.weight
    for ours, direct in [
        (plain(x, state), dynamics.lif(x, decay, threshold, state, **options)),
        (recurrent(x, state), dynamics.recurrent_lif(x, weight, decay, threshold, state, **options)),
        (Readout(decay)(x, state), dynamics.integrate(x, decay, state)),
    ]:
        assert torch.equal(ours[0], direct[0])
        assert torch.equal(ours[1], direct[1])
        grads = [torch.autograd.grad((out * current(seed=2)).sum() + last.sum(), x)[0] for out, last in (ours, direct)]
        assert torch.equal(*grads)


@each_layer
def test_state_dict_round_trip(layer):
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other = copy.deepcopy(layer)
    for tensor in other.state_dict().values():
        tensor.zero_()
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(outputs(other, current()), outputs(layer, current()))


def test_state_dict_keys():
    assert set(LIF().state_dict()) == {"decay", "threshold"}
    assert set(RecurrentLIF(2).state_dict()) == {"decay", "threshold", "recurrent.weight"}
    assert set(Readout().state_dict()) == {"decay"}


def test_only_the_recurrent_weight_is_trained():
    assert [name for name, _ in RecurrentLIF(3).named_parameters()] == ["recurrent.weight"]
    assert not list(LIF().parameters())
    assert not list(Readout().parameters())


@each_layer
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_are_equal_and_apart(layer, copied):
    other = copied(layer)
    assert torch.equal(outputs(other, current()), outputs(layer, current()))
    assert repr(other) == repr(layer)
    mine, theirs = layer.state_dict(), other.state_dict()
    assert all(mine[name].data_ptr() != theirs[name].data_ptr() for name in mine)


@each_layer
def test_double(layer):
    double = copy.deepcopy(layer).double()
    out, state = double(current(torch.float64))
    assert out.dtype == state.dtype == torch.float64
    torch.testing.assert_close(state.float(), layer(current())[1])


def test_constants_are_copies():
    decay = torch.tensor([0.5, 0.5])
    layer = LIF(decay)
    decay.fill_(0.0)
    assert layer.decay.tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    "make", [lambda: LIF(), lambda: LIF(torch.rand(3)), lambda: RecurrentLIF(3), lambda: Readout(torch.rand(3))]
)
def test_meta_device(make):
    """Made or moved there, layers tell shapes and can be printed."""
    with torch.device("meta"):
        made = make()
    for layer in (made, make().to("meta")):
        out, state = layer(torch.empty(8, 2, 3, device="meta"))
        assert (out.shape, state.shape, out.device.type) == ((8, 2, 3), (2, 3), "meta")
        repr(layer)


def test_meta_device_to_empty():
    with torch.device("meta"):
        layer = RecurrentLIF(3, decay=0.5)
    layer = layer.to_empty(device="cpu")
    layer.load_state_dict(RecurrentLIF(3, decay=0.25).state_dict())
    assert layer.decay.item() == 0.25


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own tracing
@pytest.mark.parametrize("layer", [LIF(), RecurrentLIF(3), Readout()], ids=lambda layer: type(layer).__name__)
def test_compiles_into_one_graph(layer):
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    x, y = current().requires_grad_(), current().requires_grad_()
    ours, eager = outputs(compiled, x), outputs(layer, y)
    assert torch.equal(ours, eager)
    (ours * ours).sum().backward()
    (eager * eager).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)


def test_recurrent_weight_starts_orthogonal():
    weight = RecurrentLIF(16).recurrent.weight
    assert isinstance(RecurrentLIF(16).recurrent, nn.Linear)
    torch.testing.assert_close(weight @ weight.T, torch.eye(16))


def test_trains():
    """A step against the gradient lowers the loss through a recurrent layer and a readout."""
    torch.manual_seed(0)
    layer, readout = RecurrentLIF(3), Readout()
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-2)

    def loss():
        return (readout(layer(current())[0])[0] - 1.0).square().mean()

    before = loss()
    for _ in range(20):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
    assert loss() < before


def test_repr():
    assert repr(LIF(0.5, strict=False, detach_reset=True)) == (
        "LIF(decay=0.5, threshold=1, reset='subtract', strict=False, detach_reset=True, surrogate=ATan(alpha=2.0))"
    )
    assert repr(LIF(torch.rand(3), reset="zero")) == (
        "LIF(decay=(3,), threshold=1, reset='zero', surrogate=ATan(alpha=2.0))"
    )
    assert repr(Readout(0.5)) == "Readout(decay=0.5)"


@pytest.mark.parametrize("make", [LIF, lambda **kw: RecurrentLIF(3, **kw), Readout])
@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (1.5, ValueError, r"decay must be in \[0, 1\], got 1.5"),
        (-0.5, ValueError, r"decay must be in \[0, 1\], got -0.5"),
        (math.nan, ValueError, r"decay must be in \[0, 1\], got nan"),
        (torch.tensor([0.5, 2.0]), ValueError, r"decay must be in \[0, 1\], got 2"),
        (torch.tensor([0.5, math.nan]), ValueError, r"decay must be in \[0, 1\], got nan"),
        (torch.ones(2, 2), ValueError, r"decay must be a number or .*, got torch.float32 of shape \(2, 2\)"),
        (torch.ones(0), ValueError, r"decay must be a number or .*, got torch.float32 of shape \(0,\)"),
        (torch.ones(2).long(), ValueError, r"decay must be a number or .*, got torch.int64 of shape \(2,\)"),
        ("0.9", TypeError, r"decay must be a number or a tensor, got str"),
        (None, TypeError, r"decay must be a number or a tensor, got NoneType"),
    ],
)
def test_bad_decay(make, value, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        make(decay=value)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, torch.tensor([1.0, 0.0])])
def test_bad_threshold(value):
    came = "0" if isinstance(value, torch.Tensor) else f"{value:g}"
    for make in (LIF, lambda **options: RecurrentLIF(3, **options)):
        with pytest.raises(ValueError, match=f"^threshold must be a finite number > 0, got {came}$"):
            make(threshold=value)


def test_bad_options():
    with pytest.raises(ValueError, match=r"^reset must be one of subtract, subtract_decayed, zero, none, got 'hard'$"):
        LIF(reset="hard")
    with pytest.raises(TypeError, match=r"^surrogate must have a method derivative\(x\), got function$"):
        LIF(surrogate=lambda x: x)
    with pytest.raises(TypeError, match=r"^surrogate must be an instance, not the class ATan: write ATan\(\)$"):
        LIF(surrogate=ATan)
    with pytest.raises(ValueError, match=r"^size must be >= 1, got 0$"):
        RecurrentLIF(0)


@each_layer
def test_bad_current(layer):
    for x in (torch.ones(2, 3), torch.ones(0, 2, 3), torch.ones(8, 0, 3)):
        with pytest.raises(ValueError, match=r"^current must be time-major \(T, B, n\) with T, B, n >= 1, got shape"):
            layer(x)
    with pytest.raises(TypeError, match=r"^current must be a floating-point tensor, got torch.int64$"):
        layer(torch.ones(8, 2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"^state must be \(B, n\) = \(2, 3\), got shape \(3, 3\)$"):
        layer(current(), torch.ones(3, 3))


def test_size_of_current_against_size_of_layer():
    with pytest.raises(ValueError, match=r"^weight must be \(4, 4\) for a current of 4 neurons, got shape \(3, 3\)$"):
        RecurrentLIF(3)(torch.ones(8, 2, 4))
    with pytest.raises(ValueError, match=r"^decay must be a number or \(4,\) for 4 neurons, got shape \(3,\)$"):
        LIF(torch.rand(3))(torch.ones(8, 2, 4))


@pytest.mark.parametrize("make", [LIF, lambda decay: RecurrentLIF(3, decay), Readout])
def test_constants_that_want_a_gradient_are_refused(make):
    decay = nn.Parameter(torch.tensor(0.5))
    with pytest.raises(TypeError, match="decay must be a constant, got a tensor that requires a gradient"):
        make(decay)
    assert make(decay.detach()).decay == make(np.float32(0.5)).decay == 0.5
    with pytest.raises(TypeError, match="threshold must be a constant"):
        LIF(0.5, nn.Parameter(torch.tensor(0.5)))


def parts():
    torch.manual_seed(0)
    linear = nn.Linear(12, 8), nn.Linear(8, 8), nn.Linear(8, 3)
    return *linear, LIF(0.9, 0.3), RecurrentLIF(8, 0.8, 0.3), Readout()


def test_layers_of_layers_in_a_sequence():
    a, b, c, lif, recurrent, readout = parts()
    x = torch.rand(5, 2, 3, 2, 2)
    expected = SpikingSequential(a, lif, b, recurrent, c, readout, score="mean")(x)
    assert expected.abs().sum() > 0
    first, second, last = SpikingLayer(a, lif), SpikingLayer(b, recurrent), ReadoutLayer(c, readout)
    for modules in (
        (first, second, last),
        (Recompute(first), Recompute(second), last),
        (nn.Sequential(a, lif), SpikingSequential(b, SpikingSequential(recurrent)), c, readout),
    ):
        assert torch.equal(SpikingSequential(*modules, score="mean")(x), expected)
    assert SpikingSequential(nn.Conv2d(3, 4, 1), Recompute(LIF()))(x).shape == (5, 2, 4, 2, 2)


def test_a_score_within_a_sequence_is_refused():
    with pytest.raises(ValueError, match="score must be that of the outer SpikingSequential"):
        SpikingSequential(SpikingSequential(LIF(), score="mean"), nn.Linear(4, 2))
