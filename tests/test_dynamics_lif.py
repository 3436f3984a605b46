"""The recurrences against a scalar oracle, in parts, at ties, compiled, and in every dtype."""

import math
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lif_problems import F64, gradients, problem
from reference import lif as oracle

from bregma.dynamics import RESETS, ATan, Box, FastSigmoid, Triangle, integrate, lif, recurrent_lif

SURROGATES = [(ATan(), oracle.atan), (Triangle(), oracle.triangle), (FastSigmoid(), oracle.fast_sigmoid)]
SURROGATES += [(Box(), oracle.box)]


# --- the scalar oracle ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recurrent", [False, True])
@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(1, 8), st.integers(1, 3), st.integers(1, 5)),
    with_state=st.booleans(),
    reset=st.sampled_from(RESETS),
    strict=st.booleans(),
    detach_reset=st.booleans(),
    surrogate=st.sampled_from(SURROGATES),
)
def test_equals_scalar_oracle(recurrent, seed, shape, with_state, reset, strict, detach_reset, surrogate):
    given, upstream = problem(seed, *shape, with_state)
    if not recurrent:
        del given["weight"]
    built_in, formula = surrogate
    run = recurrent_lif if recurrent else lif
    outputs = run(**given, reset=reset, strict=strict, detach_reset=detach_reset, surrogate=built_in)
    grads = dict(zip(given, gradients(outputs, upstream, list(given.values())), strict=True))

    arrays = {name: given[name].detach().numpy() if name in given else None for name in [*oracle_names()]}
    expected = oracle.lif(
        **arrays,
        grad_spikes=upstream[0].numpy(),
        grad_membrane=upstream[1].numpy(),
        reset=reset,
        strict=strict,
        detach_reset=detach_reset,
        surrogate=formula,
    )
    np.testing.assert_array_equal(outputs[0].detach(), expected.spikes)
    np.testing.assert_allclose(outputs[1].detach(), expected.membrane, rtol=1e-12, atol=1e-12)
    for name, grad in grads.items():
        reference = getattr(expected, name)
        scale = 1 + np.abs(reference).max()
        np.testing.assert_allclose(grad / scale, reference / scale, rtol=0, atol=1e-11, err_msg=name)


def oracle_names():
    return "current", "weight", "decay", "threshold", "state"


@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("recurrent", [False, True])
def test_gradcheck_with_a_smooth_step(monkeypatch, recurrent, reset, detach_reset):
    """With the step replaced by the surrogate's antiderivative, the gradients are true ones and gradcheck applies."""

    def smooth(x, surrogate, *, strict):
        return torch.atan(math.pi / 2 * surrogate.alpha * x) / math.pi + 0.5

    monkeypatch.setattr(sys.modules["bregma.dynamics.lif"], "spike", smooth)
    given, _ = problem(3, 4, 2, 3)
    if not recurrent:
        del given["weight"]
    run = recurrent_lif if recurrent else lif

    def outputs(*values):
        return run(**dict(zip(given, values, strict=True)), reset=reset, detach_reset=detach_reset)

    values = tuple(given.values())
    if detach_reset and reset != "none":  # what detaching leaves out is not nothing
        assert not torch.autograd.gradcheck(outputs, values, raise_exception=False)
    else:
        assert torch.autograd.gradcheck(outputs, values)
        assert torch.autograd.gradgradcheck(outputs, values)


# --- chunks, rest, ties -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recurrent", [False, True])
@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    steps=st.integers(2, 12),
    cut=st.integers(1, 11),
    reset=st.sampled_from(RESETS),
    strict=st.booleans(),
    detach_reset=st.booleans(),
)
def test_chunks_equal_the_whole(recurrent, seed, steps, cut, reset, strict, detach_reset):
    cut = min(cut, steps - 1)
    given, upstream = problem(seed, steps, 2, 3)
    if not recurrent:
        del given["weight"]
    run = recurrent_lif if recurrent else lif
    options = {"reset": reset, "strict": strict, "detach_reset": detach_reset}
    whole = run(**given, **options)
    rest = {name: value for name, value in given.items() if name not in ("current", "state")}
    first, state = run(given["current"][:cut], **rest, state=given["state"], **options)
    second, state = run(given["current"][cut:], **rest, state=state, **options)
    parts = torch.cat([first, second]), state
    assert torch.equal(parts[0], whole[0])
    torch.testing.assert_close(parts[1], whole[1], rtol=1e-14, atol=1e-14)
    inputs = list(given.values())
    for ours, theirs in zip(gradients(parts, upstream, inputs), gradients(whole, upstream, inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_integrate_is_lif_without_reset_and_chunks():
    given, upstream = problem(5, 9, 2, 3)
    current, decay, state = given["current"], given["decay"], given["state"]
    trace, last = integrate(current, decay, state)
    for t in range(9):
        _, membrane = lif(current[: t + 1], decay, 1.0, state, reset="none")
        torch.testing.assert_close(trace[t], membrane)
    torch.testing.assert_close(last, trace[-1])
    first, middle = integrate(current[:4], decay, state)
    second, end = integrate(current[4:], decay, middle)
    inputs = [current, decay, state]
    whole = gradients((trace, last), upstream, inputs)
    parts = gradients((torch.cat([first, second]), end), upstream, inputs)
    for ours, theirs in zip(parts, whole, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_at_rest_nothing_fired_before():
    """From rest the step before the first has no spike, so the threshold gets no gradient from it."""
    threshold = torch.tensor(1.0, dtype=F64, requires_grad=True)
    _, membrane = lif(torch.zeros(1, 1, 1, dtype=F64), 0.5, threshold)
    assert not membrane.requires_grad or torch.autograd.grad(membrane.sum(), threshold)[0] == 0
    zeros = torch.zeros(1, 2, dtype=F64)
    given, _ = problem(0, 6, 1, 2, with_state=False)
    assert torch.equal(recurrent_lif(**given)[0], recurrent_lif(**given, state=zeros)[0])


@pytest.mark.parametrize(("strict", "fired"), [(True, [0, 0, 1]), (False, [0, 1, 1])])
def test_tie_at_the_threshold(strict, fired):
    spikes, _ = lif(torch.tensor([[[0.75, 1.0, 1.25]]]), 0.5, 1.0, strict=strict)
    assert spikes.flatten().tolist() == fired


@pytest.mark.parametrize(("strict", "after"), [(True, 0.5), (False, -0.5)])
def test_tie_in_the_state(strict, after):
    """A state handed over exactly at threshold is reset on the next step only if a tie fires."""
    _, membrane = lif(torch.zeros(1, 1, 1), 0.5, 1.0, torch.ones(1, 1), strict=strict)
    assert membrane.item() == after


# --- compile, devices, dtypes -----------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own tracing
@pytest.mark.parametrize("reset", RESETS)
def test_compiles_into_one_graph(reset):
    given, upstream = problem(1, 5, 2, 3)
    torch._dynamo.reset()
    compiled = torch.compile(recurrent_lif, backend="aot_eager", fullgraph=True)
    ours, eager = compiled(**given, reset=reset), recurrent_lif(**given, reset=reset)
    assert torch.equal(ours[0], eager[0])
    inputs = list(given.values())
    for mine, theirs in zip(gradients(ours, upstream, inputs), gradients(eager, upstream, inputs), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_meta_device_gives_shapes():
    current = torch.empty(5, 2, 3, device="meta")
    spikes, state = recurrent_lif(current, torch.empty(3, 3, device="meta"), 0.9, 1.0)
    assert (spikes.shape, state.shape, spikes.device.type) == ((5, 2, 3), (2, 3), "meta")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("constants", [torch.float32, torch.float64])
def test_all_is_computed_in_the_dtype_of_the_current(dtype, constants):
    decay, threshold = torch.full((3,), 0.9, dtype=constants), torch.full((3,), 1.0, dtype=constants)
    weight = torch.eye(3, dtype=constants)
    outputs = recurrent_lif(torch.ones(4, 2, 3, dtype=dtype), weight, decay, threshold)
    assert [output.dtype for output in outputs] == [dtype, dtype]
    outputs = integrate(torch.ones(4, 2, 3, dtype=dtype), decay)
    assert [output.dtype for output in outputs] == [dtype, dtype]
