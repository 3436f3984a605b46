import pytest
import torch

from bregma.nn import LIF, DelayedRecurrentLIF, Recompute, RecurrentLIF, SpikeLinear, SpikingLayer


def layers():
    torch.manual_seed(0)
    return [
        SpikingLayer(SpikeLinear(9, 70), LIF(0.8)),
        SpikingLayer(SpikeLinear(70, 33), RecurrentLIF(33, 0.8)),
        SpikingLayer(SpikeLinear(33, 5), LIF(0.8)),
    ]


def gradients(net, states):
    generator = torch.Generator().manual_seed(1)
    x = (6 * torch.rand(7, 4, 9, generator=generator)).requires_grad_()
    inputs, out = [x, *(p for layer in net for p in layer.parameters())], x
    for i, layer in enumerate(net):
        state = torch.rand(4, (70, 33, 5)[i], generator=generator).requires_grad_() if states else None
        inputs += [state] if states else []
        out, after = layer(out, state)
    return out, torch.autograd.grad(out.square().sum() + after.sum(), inputs)


@pytest.mark.parametrize("states", [False, True])
def test_gradients_are_the_same(states):
    out, ours = gradients([Recompute(layer) for layer in layers()], states)
    expected, target = gradients(layers(), states)
    assert torch.equal(out, expected)
    assert all(torch.equal(a, b) for a, b in zip(ours, target, strict=True))


@pytest.mark.parametrize("inside", [False, True])
def test_the_second_forward_pass_has_the_precision_of_the_first(inside):
    gradients = []
    for wrap in (lambda layer: layer, Recompute):
        torch.manual_seed(0)
        layer = SpikingLayer(torch.nn.Linear(9, 33), RecurrentLIF(33, 0.8))
        with torch.autocast("cpu", torch.bfloat16):
            loss = wrap(layer)(6 * torch.rand(7, 4, 9))[0].square().sum()
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
        gradients.append([p.grad for p in layer.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_the_second_forward_pass_drops_what_the_first_has_dropped():
    results = []
    for wrap in (lambda layer: layer, Recompute):
        torch.manual_seed(0)
        layer = SpikingLayer(SpikeLinear(9, 33), DelayedRecurrentLIF(33, 0.8, dropout=0.5))
        spikes, _ = wrap(layer)(6 * torch.rand(7, 4, 9))
        torch.rand(5)  # others draw between the passes
        spikes.square().sum().backward()
        results.append([spikes, torch.rand(5), *(p.grad for p in layer.parameters())])  # and after them
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_only_bits_are_kept():
    kept = []
    first, second, _ = (Recompute(layer) for layer in layers())
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        spikes, _ = first(6 * torch.rand(7, 4, 9))
        kept.clear()
        second(spikes)
    parameters = {id(p) for p in second.parameters()}
    (bits,) = [x for x in kept if id(x) not in parameters]
    assert bits.dtype == torch.int64
    assert bits.shape == (7, 4, 2)


def test_frozen_parameters_take_no_gradient():
    first, second, _ = (Recompute(layer) for layer in layers())
    second.layer.linear.requires_grad_(False)
    second(first(6 * torch.rand(7, 4, 9))[0])[0].sum().backward()
    assert second.layer.linear.weight.grad is None
    assert second.layer.neurons.recurrent.weight.grad is not None
    assert first.layer.linear.weight.grad is not None


def test_without_gradient():
    first, *_ = (Recompute(layer) for layer in layers())
    with torch.no_grad():
        assert not first(torch.rand(7, 4, 9))[0].requires_grad


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # of torch's own forward mode
def test_the_forward_mode_goes_through_the_layer():
    (layer, *_), x = layers(), 6 * torch.rand(7, 4, 9)
    tangents = [torch.func.jvp(lambda y, net=net: net(y)[0], (x,), (x,))[1] for net in (layer, Recompute(layer))]
    assert torch.equal(*tangents)
    assert tangents[0].count_nonzero() > 0
