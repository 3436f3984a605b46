"""Recurrent, delayed and convolutional layers of the consistent solver: the same claim, by autograd."""

import pytest
import torch
import torch.nn.functional as F
from reference import consistent as reference
from test_admm_consistent import busy_data

from bregma.admm import ConsistentADMM, ConsistentSettings, Constants, Convolution, Delayed, Recurrent, Window
from bregma.admm import synapses as synapses_module
from bregma.admm.layers import build
from bregma.admm.traces import pack
from bregma.dynamics import FastSigmoid, spike

SURROGATE = FastSigmoid(slope=2.0)
SHAPE = (2, 4, 4)


def run_with_autograd(layer, a, weight, shape):
    """Spikes by a plain loop, with surrogate derivatives through the membranes and the recurrence, not the reset."""
    steps, batch, _ = a.shape

    def later(t, delay):
        return a[t - delay] if t >= delay else torch.zeros_like(a[0])

    z, out = None, []
    for t in range(steps):
        if isinstance(layer, Convolution):
            kernels = weight.view(layer.channels, shape[0], layer.kernel, layer.kernel)
            heard = F.conv2d(a[t].view(batch, *shape), kernels, stride=layer.stride, padding=layer.padding).flatten(1)
        elif isinstance(layer, Delayed):
            heard = torch.cat([later(t, delay) for delay in layer.delays], 1) @ weight.T
        else:
            n = len(weight)
            heard = a[t] @ weight[:, : a.shape[2]].T
            for k, delay in enumerate(layer.delays):
                if t >= delay:
                    heard = heard + out[t - delay] @ weight[:, a.shape[2] + k * n :][:, :n].T
        z = heard if z is None else 0.95 * z + heard - out[-1].detach()
        out.append(spike(z - 1.0, SURROGATE))
    return torch.stack(out)


def features(layer, a, own, shape):
    """What the weights multiply (T, B, places, n)."""
    steps, batch, _ = a.shape

    def later(x, delay):
        return torch.cat([torch.zeros(delay, *x.shape[1:]).double(), x[: steps - delay]])

    if isinstance(layer, Convolution):
        columns = F.unfold(a.reshape(-1, *shape), layer.kernel, stride=layer.stride, padding=layer.padding)
        return columns.transpose(1, 2).reshape(steps, batch, -1, columns.shape[1])
    if isinstance(layer, Delayed):
        return torch.cat([later(a, delay) for delay in layer.delays], 2)[:, :, None]
    return torch.cat([a, *(later(own, delay) for delay in layer.delays)], 2)[:, :, None]


LAYERS = [
    Recurrent(12, feedback=1.0),
    Recurrent(12, delays=(1, 3), feedback=1.0),
    Recurrent(12, delays=(4,), feedback=1.0),
    Delayed(12, delays=(0, 2, 5)),
    Delayed(12, delays=(3,)),
    Convolution(3, kernel=3),
    Convolution(3, kernel=3, stride=2, padding=1),
    Convolution(2, kernel=2, stride=2),
]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("place", [0, 1])
def test_window_is_the_surrogate_gradient_times_the_inverse_gram(monkeypatch, layer, place):
    monkeypatch.setattr(synapses_module, "_PATCHES_PER_FEATURE", 10**9)  # no estimate: all frames
    if isinstance(layer, Convolution):
        hidden = (layer, 10) if place == 0 else (Convolution(4, 2, padding=1), layer)
    else:
        hidden = (layer, 10) if place == 0 else (10, layer)
    x, y = busy_data(inputs=32)
    settings = ConsistentSettings(rule=Window(0.5))
    solver = ConsistentADMM(hidden, 32, 3, settings, frame_shape=SHAPE, dtype=torch.float64)
    x = solver.begin(x)
    for k, synapses in enumerate(solver.synapses):  # recurrent weights start at zero; here they should not be
        noise = torch.randn(synapses.shape, generator=torch.Generator().manual_seed(k), dtype=torch.float64)
        solver.weights[k] = solver.weights[k] + noise * solver.weights[k].std() / 2
    activity = solver.run(x)
    solver.take_readout(solver.readout_sums(activity, y))
    moves = solver._sweep.moves(solver.layer_sums(activity, y), keep=0.0)

    weights = [w.clone().requires_grad_() for w in solver.weights]
    a, shape = x.clone(), SHAPE
    traces = []
    for one, w, synapses in zip(hidden, weights, solver.synapses, strict=False):
        if isinstance(one, int):
            plain = Delayed(one)
            out = run_with_autograd(plain, a, w, shape)
            traces.append(features(plain, a.detach(), out.detach(), shape))
        else:
            out = run_with_autograd(one, a, w, shape)
            traces.append(features(one, a.detach(), out.detach(), shape))
        if isinstance(one, Convolution):
            shape = synapses._map.out_shape
        a = out
    for ours, fired in zip(activity.spikes[-1:], [a.detach()], strict=True):
        assert torch.equal(ours, fired)
        assert fired.sum() > 20
    kappa = reference.kernel_of("last", len(x), 0.95)
    f = torch.einsum("t,tbn->bn", kappa, a)
    (0.5 * (y - f @ weights[-1].T).square().sum()).backward()
    for move, w, phi in zip(moves, weights, traces, strict=False):
        phi = reference.filtered(reference.filter_matrix(len(x), 0.95), phi.flatten(1, 2))
        rows = phi.shape[0] * phi.shape[1]
        gram = torch.einsum("trm,trn->mn", phi, phi) / rows
        expected = -w.grad / rows @ reference.ridge_inverse(gram, settings.ridge)
        assert torch.allclose(move, expected, rtol=1e-8, atol=1e-11)


def test_grams_of_patches_are_estimated_from_some_frames():
    (layer,) = build([Convolution(2, 2)], 16, (1, 4, 4))
    a = pack((torch.rand(200, 20, 16, generator=torch.Generator().manual_seed(0)) < 0.3).double())
    exact = layer._map.patches(a.flatten(0, 1))
    found = layer.gram(a, a, decay=0.0) / layer.count(a)
    expected = exact.T @ exact / len(exact)
    assert not torch.equal(found, expected)
    assert torch.allclose(found, expected, rtol=0.25, atol=0.02)


@pytest.mark.parametrize("rule", ["window", "flips", "dithered"])
def test_recurrent_runs_resume_bit_by_bit(rule):
    from bregma.admm.targets import RULES

    x, y = busy_data()
    settings = ConsistentSettings(rule=RULES[rule]())
    whole, part, resumed = (ConsistentADMM((Recurrent(12),), 14, 3, settings) for _ in range(3))
    for k in range(7):
        whole.step(x, y)
        if k < 3:
            part.step(x, y)
    resumed.load_state_dict(part.state_dict())
    for _ in range(4):
        resumed.step(x, y)
    assert all(map(torch.equal, whole.weights, resumed.weights))
    assert float(whole.weights[0][:, 14:].abs().max()) > 0


def test_layers_are_checked():
    for make, message in [
        (lambda: Recurrent(0), "neurons must be >= 1, got 0"),
        (lambda: Recurrent(3, delays=(0,)), r"delays must be different numbers of steps >= 1, got \(0,\)"),
        (lambda: Recurrent(3, feedback=2.0), r"feedback must be in \[0, 1\], got 2.0"),
        (lambda: Delayed(3, delays=(1, 1)), r"delays must be different numbers of steps >= 0, got \(1, 1\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()
    assert Constants().decay == 0.95  # what the loops above assume


@pytest.mark.parametrize("method", ["step", "descend"])
def test_a_recurrent_first_layer_has_the_gram_matrix_of_its_present_spikes(method):
    x, y = busy_data()
    solver = ConsistentADMM((Recurrent(12),), 14, 3, ConsistentSettings(gram_every=1, gram_decay=0.0, ridge=0.1))
    for _ in range(6):
        before = solver.run(solver.begin(x)).spikes
        getattr(solver, method)(x, y)
    heard = torch.cat([x.float(), torch.cat([torch.zeros(1, 30, 12), before[1][:-1]])], 2)
    trace = torch.zeros_like(heard)
    for t in range(len(x)):
        trace[t] = heard[t] + (0.95 * trace[t - 1] if t else 0)
    rows = trace.flatten(0, 1).double()
    assert torch.allclose(solver._sweep.statistics[0].mean(), rows.T @ rows / len(rows), rtol=1e-5, atol=1e-6)
