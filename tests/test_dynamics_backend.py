"""The compiled kernels against the torch reference: same spikes, same gradients, for every option."""

import multiprocessing
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_problems import FUNCTIONS, KINDS, OPTIONS, TOLERANCE, assert_same, problem, run

from bregma import dynamics
from bregma.dynamics import RESETS, backend, dispatch, use_backend


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["lif", "recurrent", "delayed", "gated"])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
def test_every_option(kind, dtype, options):
    spikes = assert_same(kind, *problem(3, 12, 3, 70, dtype, True, kind), options)
    assert 0.05 < spikes.mean() < 0.95


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_every_shape(kind, data):
    steps, batch, n = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 5)), data.draw(st.integers(1, 130))
    dtype, stateful = data.draw(st.sampled_from(list(TOLERANCE))), data.draw(st.booleans())
    options = {} if kind == "readout" else data.draw(st.sampled_from(OPTIONS))
    assert_same(kind, *problem(data.draw(st.integers(0, 9)), steps, batch, n, dtype, stateful, kind), options)


def test_membranes_off_the_grid_spike_alike():
    """Feed-forward sums are the reference's operation by operation: any rounding is the same rounding."""
    current = torch.randn(200, 8, 65, generator=torch.Generator().manual_seed(0))
    for reset in RESETS:
        outputs = []
        for name in ("numba", "torch"):
            with use_backend(name):
                outputs.append(dynamics.lif(current, 0.93, 0.9, reset=reset))
        assert torch.equal(outputs[0][0], outputs[1][0])
        assert torch.equal(outputs[0][1], outputs[1][1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_in_two_parts(kind):
    leaves, constants, upstream = problem(1, 9, 2, 5, torch.float64, True, kind)
    whole, target = run("numba", kind, leaves, constants, upstream, {})
    current, state = leaves["current"], leaves.pop("state")
    rest = {name: value for name, value in leaves.items() if name != "current"}
    with use_backend("numba"):
        first, middle = FUNCTIONS[kind](current[:4], **rest, **constants, state=state)
        second, end = FUNCTIONS[kind](current[4:], **rest, **constants, state=middle)
    assert torch.equal(torch.cat([first, second]), whole[0])
    inputs = [*leaves.values(), state]
    gradients = torch.autograd.grad((torch.cat([first, second]), end), inputs, upstream)
    for name, gradient in zip([*leaves, "state"], gradients, strict=True):
        torch.testing.assert_close(gradient, target[name], rtol=1e-12, atol=1e-12)


def test_layouts_of_memory_do_not_matter():
    leaves, constants, upstream = problem(2, 5, 4, 6, torch.float64, True, "recurrent")
    turned = {name: value.detach().mT.contiguous().mT.requires_grad_() for name, value in leaves.items()}
    upstream = [upstream[0].mT.contiguous().mT, upstream[1]]
    outputs, gradients = run("numba", "recurrent", turned, constants, upstream, {})
    expected, target = run("numba", "recurrent", leaves, constants, upstream, {})
    assert torch.equal(outputs[0], expected[0])
    torch.testing.assert_close(gradients, target, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_one_output_without_gradient(kind):
    leaves, constants, upstream = problem(4, 4, 2, 3, torch.float64, True, kind)
    for used in (0, 1):
        gradients = []
        for name in ("numba", "torch"):
            with use_backend(name):
                output = FUNCTIONS[kind](**leaves, **constants)[used]
            gradients.append(torch.autograd.grad(output, list(leaves.values()), upstream[used]))
        torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


def test_no_gradient_keeps_no_membranes(monkeypatch):
    leaves, constants, _ = problem(5, 4, 2, 3, torch.float32, False, "lif")
    kept = []
    original = torch.ops.bregma.lif
    monkeypatch.setattr(torch.ops.bregma, "lif", lambda *a: kept.append(original(*a)) or kept[-1])
    with_gradient, _ = dynamics.lif(**leaves, **constants)
    with torch.no_grad():
        without, _ = dynamics.lif(**leaves, **constants)
    assert [result[3].numel() for result in kept] == [4 * 2 * 3, 0]
    assert torch.equal(with_gradient, without)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_do_not_change_results(threads, kind):
    before = torch.get_num_threads()
    leaves, constants, upstream = problem(6, 20, 13, 40, torch.float32, True, kind)
    results = []
    try:
        for count in (1, threads):
            torch.set_num_threads(count)
            results.append(run("numba", kind, leaves, constants, upstream, {}))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0][0][0], results[1][0][0])
    assert all(torch.equal(results[0][1][name], results[1][1][name]) for name in leaves)


def _spikes_in_child(queue):
    torch.set_num_threads(2)  # a pool of two, made anew: the parent's threads are not here
    queue.put(dynamics.lif(torch.full((3, 4, 5), 0.7), 0.9, 1.0)[0].sum().item())


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_a_forked_child_works():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        expected = dynamics.lif(torch.full((3, 4, 5), 0.7), 0.9, 1.0)[0].sum().item()
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        child = context.Process(target=_spikes_in_child, args=(queue,))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # fork of a process with threads, which is the point
            child.start()
        child.join(timeout=60)
        assert child.exitcode == 0
        assert queue.get() == expected
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("kind", KINDS)
def test_compile_traces_through(kind):
    leaves, constants, upstream = problem(7, 5, 2, 4, torch.float64, True, kind)
    compiled = torch.compile(FUNCTIONS[kind], fullgraph=True, backend="aot_eager")
    outputs = compiled(**leaves, **constants)
    gradients = torch.autograd.grad(outputs, list(leaves.values()), upstream)
    expected, target = run("numba", kind, leaves, constants, upstream, {})
    assert torch.equal(outputs[0], expected[0])
    torch.testing.assert_close(gradients, tuple(target.values()), rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own tracing
@pytest.mark.parametrize("name", ["auto", "torch"])
def test_numbers_as_constants_compile_into_one_graph(name):
    current = torch.rand(3, 2, 4)
    with use_backend(name):
        compiled = torch.compile(lambda x: dynamics.lif(x, 0.9, 0.5)[0], fullgraph=True, backend="eager")
        assert torch.equal(compiled(current), dynamics.lif(current, 0.9, 0.5)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_operators_keep_their_promises(kind):
    leaves, constants, _ = problem(8, 3, 2, 4, torch.float64, True, kind)
    if kind == "readout":
        arguments = leaves["current"], constants["decay"], leaves["state"]
        torch.library.opcheck(torch.ops.bregma.integrate.default, arguments)
        return
    options = [0, 1, 0, 0], [3.1, 1.0], True
    neurons = constants["decay"], constants["threshold"], leaves["state"]
    if kind in ("delayed", "gated"):
        shape = torch.rand(3, 4, dtype=torch.float64, requires_grad=True)
        arguments = leaves["current"], leaves["weight"], shape, *neurons, constants.get("gate"), *options
        torch.library.opcheck(torch.ops.bregma.delayed_lif.default, arguments)
    else:
        arguments = leaves["current"], leaves.get("weight"), *neurons, *options
        torch.library.opcheck(torch.ops.bregma.lif.default, arguments)


class Mine:
    def derivative(self, x):
        return torch.exp(-x * x)


def test_a_surrogate_of_ones_own_runs_on_the_reference_and_says_so_once():
    current = torch.rand(3, 2, 4, requires_grad=True)
    dispatch._told.discard(Mine)
    with pytest.warns(UserWarning, match="surrogate Mine has no compiled kernel"):
        dynamics.lif(current, 0.9, 1.0, surrogate=Mine())
    dynamics.lif(current, 0.9, 1.0, surrogate=Mine())  # a second warning would be an error here
    with use_backend("numba"), pytest.raises(ValueError, match="backend 'numba' does not do surrogate Mine"):
        dynamics.lif(current, 0.9, 1.0, surrogate=Mine())


def test_gradients_of_constants_come_from_the_reference():
    decay = torch.tensor(0.9, requires_grad=True)
    _, membrane = dynamics.lif(torch.rand(3, 2, 4), decay, 1.0)
    assert torch.autograd.grad(membrane.sum(), decay)[0] != 0


def test_other_dtypes_run_on_the_reference():
    assert dynamics.lif(torch.rand(3, 2, 4, dtype=torch.bfloat16), 0.9, 1.0)[0].dtype == torch.bfloat16


def test_the_choice_of_backend():
    before = backend.get_backend()
    with use_backend("torch"):
        assert backend.get_backend() == "torch"
    assert backend.get_backend() == before
    with pytest.raises(ValueError, match="backend must be one of auto, torch, numba, got 'cuda'"):
        backend.set_backend("cuda")


@pytest.mark.parametrize("name", ["numba", "torch"])
def test_errors_are_the_same(name):
    with use_backend(name):
        with pytest.raises(ValueError, match="reset must be one of"):
            dynamics.lif(torch.rand(3, 2, 4), 0.9, 1.0, reset="soft")
        with pytest.raises(ValueError, match="decay must be"):
            dynamics.lif(torch.rand(3, 2, 4), 1.5, 1.0)
        with pytest.raises(ValueError, match="membrane became NaN"):
            dynamics.lif(torch.full((3, 2, 4), torch.nan), 0.9, 1.0)
        with pytest.raises(ValueError, match="weight must be"):
            dynamics.recurrent_lif(torch.rand(3, 2, 4), torch.rand(3, 3), 0.9, 1.0)
