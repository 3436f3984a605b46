"""Second derivatives, forward mode and transforms of functions: right, or refused by the kernels with a way out."""

import pytest
import torch
from kernel_problems import FUNCTIONS, KINDS, problem, run
from torch.autograd import forward_ad

from bregma import dynamics
from bregma.dynamics import use_backend


def test_a_second_derivative_names_the_way_out():
    leaves, constants, _ = problem(9, 3, 2, 4, torch.float64, False, "lif")
    for name in ("numba", "torch"):
        with use_backend(name):
            spikes, _ = dynamics.lif(**leaves, **constants)
        (gradient,) = torch.autograd.grad(spikes.square().sum(), leaves["current"], create_graph=True)
        if name == "torch":
            torch.autograd.grad(gradient.sum(), leaves["current"])
        else:
            with pytest.raises(RuntimeError, match="use_backend\\('torch'\\)"):
                torch.autograd.grad(gradient.sum(), leaves["current"])


@pytest.mark.parametrize("kind", ["lif", "recurrent", "delayed"])
def test_a_second_derivative_through_the_membranes_alone_is_not_lost(kind):
    leaves, constants, _ = problem(9, 3, 2, 4, torch.float64, False, kind)
    for name in set(leaves) - {"current"}:
        leaves[name] = leaves[name].detach()
    with use_backend("numba"):
        spikes, _ = FUNCTIONS[kind](**leaves, **constants)
    (gradient,) = torch.autograd.grad(spikes.sum(), leaves["current"], create_graph=True)
    with pytest.raises(RuntimeError, match="use_backend\\('torch'\\)"):
        gradient.square().sum().backward()


def differentiate(kind, options, name):
    """Outputs as one number of the leaves, its gradient, and a direction for the forward mode."""
    leaves, constants, upstream = problem(11, 5, 2, 4, torch.float64, True, kind)
    _, gradients = run("torch", kind, leaves, constants, upstream, options)
    leaves = {key: leaf.detach() for key, leaf in leaves.items()}

    def loss(given):
        with use_backend(name):
            outputs = FUNCTIONS[kind](**given, **constants, **options)
        return sum((out * grad).sum() for out, grad in zip(outputs, upstream, strict=True))

    return leaves, loss, gradients, {key: torch.randn_like(leaf) for key, leaf in leaves.items()}


@pytest.mark.parametrize("name", ["auto", "torch"])
@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # of torch's own forward mode
def test_tangents_agree_with_gradients(kind, detach, name):
    options = {} if kind == "readout" else {"detach_reset": detach}
    leaves, loss, gradients, direction = differentiate(kind, options, name)
    expected = sum((gradients[key] * direction[key]).sum() for key in leaves)
    _, tangent = torch.func.jvp(loss, (leaves,), (direction,))
    torch.testing.assert_close(tangent, expected)
    with forward_ad.dual_level():
        dual = loss({key: forward_ad.make_dual(leaf, direction[key]) for key, leaf in leaves.items()})
        torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_transforms_of_functions(kind):
    leaves, loss, gradients, _ = differentiate(kind, {}, "auto")
    found = torch.func.grad(loss)(leaves)
    torch.testing.assert_close(found, gradients)
    currents = torch.stack([leaves["current"], leaves["current"].flip(0)])
    each = torch.func.vmap(lambda current: loss({**leaves, "current": current}))(currents)
    torch.testing.assert_close(each, torch.stack([loss({**leaves, "current": current}) for current in currents]))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # of torch's own forward mode
def test_the_kernels_alone_refuse_the_forward_mode():
    current = torch.rand(3, 2, 4)
    with use_backend("numba"), pytest.raises(ValueError, match="'numba' does not do forward-mode differentiation"):
        torch.func.jvp(lambda x: dynamics.lif(x, 0.9, 1.0)[0], (current,), (current,))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # of torch's own forward mode
def test_a_compiled_forward_mode_keeps_its_tangents_or_says_so():
    def tangent(x):
        return torch.func.jvp(lambda y: dynamics.lif(y, 0.9, 0.5)[0], (x,), (x,))[1]

    current = torch.rand(3, 2, 4)
    assert torch.equal(torch.compile(tangent, backend="eager")(current), tangent(current))
    assert tangent(current).count_nonzero() > 0
    torch.compiler.reset()
    with pytest.raises(Exception, match=r"would lose the tangents|WITH_EXCEPT_START"):  # torch 2.6 says where it failed
        torch.compile(tangent, backend="eager", fullgraph=True)(current)
