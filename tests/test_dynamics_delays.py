import math
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import delays as oracle

from bregma.dynamics import RESETS, Box, delayed_recurrent_lif, recurrent_lif, spread_at
from bregma.dynamics.delays import delay_kernel, slots_needed

F64 = torch.float64
NAMES = ("current", "weight", "delays", "spread", "decay", "threshold")


def randn(generator, *shape):
    return torch.randn(*shape, dtype=F64, generator=generator)


def problem(seed, steps, batch, n, longest=5.0, spread=1.5, per_neuron=True):
    """A lively layer with fractional delays, float64; leaves of the graph and upstream gradients."""
    generator = torch.Generator().manual_seed(seed)
    given = {
        "current": randn(generator, steps, batch, n) + 0.3,
        "weight": randn(generator, n, n),
        "delays": longest * torch.rand(n, dtype=F64, generator=generator),
        "spread": spread * torch.rand(n if per_neuron else (), dtype=F64, generator=generator),
        "decay": torch.rand(n, dtype=F64, generator=generator),
        "threshold": 0.5 + torch.rand(n, dtype=F64, generator=generator),
    }
    return {name: value.requires_grad_() for name, value in given.items()}, randn(generator, steps, batch, n)


def gradients(loss, given):
    inputs = list(given.values())
    return dict(zip(given, torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True), strict=True))


def assert_grads(ours, theirs, tolerance=1e-11):
    for name, reference in theirs.items():
        scale = 1 + reference.abs().max()
        torch.testing.assert_close(
            ours[name] / scale, reference / scale, rtol=0, atol=tolerance, msg=lambda m, name=name: f"{name}: {m}"
        )


# --- the DelRec formulation -------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(1, 14), st.integers(1, 3), st.integers(1, 5)),
    longest=st.sampled_from([0.3, 2.0, 6.0]),
    spread=st.sampled_from([1e-3, 1.5, 4.0]),
    per_neuron=st.booleans(),
    reset=st.sampled_from(RESETS),
    detach_reset=st.booleans(),
    dropout=st.booleans(),
)
def test_equals_delrec_formulation(seed, shape, longest, spread, per_neuron, reset, detach_reset, dropout):
    given, upstream = problem(seed, *shape, longest, spread, per_neuron)
    options = {"reset": reset, "detach_reset": detach_reset}
    if dropout:
        generator = torch.Generator().manual_seed(seed)
        options["gate"] = torch.randint(0, 2, shape[1:], generator=generator, dtype=F64) / 0.5
    spikes, state = delayed_recurrent_lif(**given, **options)
    their_spikes, their_membrane, to_come = oracle.delayed_recurrent_lif(**given, **options)
    our_to_come = torch.einsum("ij,lbj->bil", given["weight"], state[1:])  # not yet multiplied by the weights
    their_to_come = to_come[:, :, : state.shape[0] - 1]
    assert to_come[:, :, state.shape[0] - 1 :].abs().max() == 0

    assert torch.equal(spikes, their_spikes)
    torch.testing.assert_close(state[0], their_membrane, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(our_to_come, their_to_come, rtol=1e-11, atol=1e-11)
    ours = (spikes * upstream).sum() + state[0].sum() + our_to_come.square().sum()
    theirs = (their_spikes * upstream).sum() + their_membrane.sum() + their_to_come.square().sum()
    assert_grads(gradients(ours, given), gradients(theirs, given))


def test_the_comparison_sees_spikes_and_delays():
    given, upstream = problem(0, 14, 3, 5)
    spikes, _ = delayed_recurrent_lif(**given)
    assert 0.1 < spikes.mean() < 0.9
    grads = gradients((spikes * upstream).sum(), given)
    assert all(grads[name].abs().min() > 1e-6 for name in ("weight", "delays", "spread"))


@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize("reset", RESETS)
def test_gradcheck_with_a_smooth_step(monkeypatch, reset, detach_reset):
    def smooth(x, surrogate, *, strict):
        return torch.atan(math.pi / 2 * surrogate.alpha * x) / math.pi + 0.5

    monkeypatch.setattr(sys.modules["bregma.dynamics.delays"], "spike", smooth)
    given, _ = problem(1, 5, 1, 2, longest=2.0)
    given["state"] = torch.randn(4, 1, 2, dtype=F64, generator=torch.Generator().manual_seed(2)).requires_grad_()

    def outputs(*values):
        named = dict(zip(given, values, strict=True))
        return delayed_recurrent_lif(**named, reset=reset, detach_reset=detach_reset, slots=5)

    values = tuple(given.values())
    if detach_reset and reset != "none":  # what detaching leaves out is not nothing
        assert not torch.autograd.gradcheck(outputs, values, raise_exception=False)
    else:
        assert torch.autograd.gradcheck(outputs, values)


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("detach_reset", [False, True])
def test_no_delay_and_no_spread_is_recurrent_lif(reset, detach_reset):
    given, upstream = problem(2, 12, 3, 4)
    given["delays"], given["spread"] = torch.zeros(4, dtype=F64), 0.0
    shared = {name: given[name] for name in ("current", "weight", "decay", "threshold")}
    options = {"reset": reset, "detach_reset": detach_reset, "surrogate": Box(), "strict": False}
    spikes, state = delayed_recurrent_lif(**given, **options)
    plain_spikes, membrane = recurrent_lif(**shared, **options)
    assert torch.equal(spikes, plain_spikes)
    assert torch.equal(state[0], membrane)
    assert torch.equal(state[1], spikes[-1])
    plain = gradients((plain_spikes * upstream).sum() + membrane.sum(), shared)
    assert_grads(gradients((spikes * upstream).sum() + state[0].sum(), shared), plain)


def delay_line(current, weight, delays, decay, threshold):
    """Whole delays by looking back into the past spikes."""
    membrane, spikes = torch.zeros_like(current[0]), []
    for t in range(len(current)):
        heard = torch.zeros_like(membrane)
        for j, delay in enumerate(delays.tolist()):
            past = t - 1 - int(delay)
            if past >= 0:
                heard += spikes[past][:, j, None] * weight[:, j]
        fired = spikes[-1] if spikes else torch.zeros_like(membrane)
        membrane = decay * membrane + current[t] + heard - threshold * fired
        spikes.append((membrane > threshold).to(current.dtype))
    return torch.stack(spikes), membrane


@pytest.mark.parametrize("spread", [0.0, 1e-13])
@pytest.mark.parametrize("seed", range(5))
def test_whole_delays_without_spread_are_a_delay_line(seed, spread):
    given, _ = problem(seed, 20, 3, 6)
    given = {name: value.detach() for name, value in given.items()}
    given["delays"] = torch.randint(0, 8, (6,), generator=torch.Generator().manual_seed(seed)).double()
    del given["spread"]
    spikes, state = delayed_recurrent_lif(**given, spread=spread)
    line, membrane = delay_line(**given)
    assert torch.equal(spikes, line)
    torch.testing.assert_close(state[0], membrane, rtol=1e-10, atol=1e-10)


@settings(max_examples=50, deadline=None)
@given(delay=st.floats(0, 12), spread=st.floats(0, 6))
def test_kernel(delay, spread):
    delays = torch.tensor([delay], dtype=F64)
    slots = slots_needed(delays, spread)
    kernel = delay_kernel(delays, spread, slots + 3)[:, 0]
    half = 1 + spread
    for later, weight in enumerate(kernel.tolist(), start=1):
        assert weight == pytest.approx(max(0.0, half - abs(later - (1 + delay))) / half**2, abs=1e-14)
    assert kernel[slots:].abs().max() == 0  # nothing arrives after the slots that are said to be needed
    if delay >= spread and spread == int(spread):  # a triangle with whole half-width, all of it in the future
        assert kernel.sum() == pytest.approx(1)
        assert (kernel * torch.arange(1, slots + 4)).sum() == pytest.approx(1 + delay)


def test_spread_shrinks_to_linear_interpolation():
    kernels = [delay_kernel(torch.tensor([1.25], dtype=F64), spread, 4)[:, 0] for spread in (1.0, 0.1, 1e-9, 0.0)]
    target = torch.tensor([0.0, 0.75, 0.25, 0.0], dtype=F64)
    distances = [(kernel - target).abs().max().item() for kernel in kernels]
    assert distances == sorted(distances, reverse=True)
    assert distances[-2] < 1e-8
    assert distances[-1] == 0


@pytest.mark.parametrize("epochs", [30, 100, 150])
def test_spread_schedule_is_delrecs(epochs):
    for epoch in range(epochs + 1):
        assert spread_at(epoch / epochs) == pytest.approx(10 * (0.95 ** (100 / epochs)) ** epoch)
    assert spread_at(0.5, start=4.0, end=1.0) == pytest.approx(2.0)


# --- state ------------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    steps=st.integers(2, 14),
    cut=st.integers(1, 13),
    longest=st.sampled_from([0.5, 6.0]),
    reset=st.sampled_from(RESETS),
    strict=st.booleans(),
    detach_reset=st.booleans(),
)
def test_chunks_equal_the_whole(seed, steps, cut, longest, reset, strict, detach_reset):
    cut = min(cut, steps - 1)
    given, upstream = problem(seed, steps, 2, 3, longest)
    rest = {name: value for name, value in given.items() if name != "current"}
    options = {"reset": reset, "strict": strict, "detach_reset": detach_reset}
    spikes, state = delayed_recurrent_lif(**given, **options)
    first, middle = delayed_recurrent_lif(given["current"][:cut], **rest, **options)
    second, end = delayed_recurrent_lif(given["current"][cut:], **rest, state=middle, **options)
    parts = torch.cat([first, second])
    assert torch.equal(parts, spikes)
    torch.testing.assert_close(end, state, rtol=1e-12, atol=1e-12)
    whole = gradients((spikes * upstream).sum() + state.square().sum(), given)
    assert_grads(gradients((parts * upstream).sum() + end.square().sum(), given), whole)


def test_what_is_under_way_arrives_as_scheduled():
    """A longer schedule than the present delays need is kept, a shorter one is filled up."""
    quiet = {"weight": torch.eye(1), "delays": torch.zeros(1), "spread": 0.0, "decay": 0.0, "threshold": 1.0}
    state = torch.tensor([0.0, 2.0, 0.0, 0.0, 2.0]).view(5, 1, 1)  # arrivals in steps 0 and 3
    spikes, state = delayed_recurrent_lif(torch.zeros(4, 1, 1), **quiet, state=state, reset="zero")
    assert spikes.flatten().tolist() == [1, 0, 0, 1]
    assert state.shape == (5, 1, 1)
    quiet["delays"] = torch.tensor([6.0])
    _, state = delayed_recurrent_lif(torch.zeros(2, 1, 1), **quiet, state=state[:1])
    assert state.shape == (8, 1, 1)


def test_membrane_alone_is_a_state():
    given, _ = problem(4, 6, 2, 3)
    given["delays"] = torch.zeros(3, dtype=F64)
    ours, _ = delayed_recurrent_lif(**given, state=torch.zeros(1, 2, 3, dtype=F64))
    assert torch.equal(ours, delayed_recurrent_lif(**given)[0])


def test_slots():
    given, _ = problem(6, 12, 2, 3, longest=3.0, spread=1.0)
    spikes, state = delayed_recurrent_lif(**given)
    roomy, roomy_state = delayed_recurrent_lif(**given, slots=20)
    assert torch.equal(spikes, roomy)
    assert roomy_state.shape == (21, 2, 3)
    assert torch.equal(roomy_state[: len(state)], state)
    deaf = delayed_recurrent_lif(**{**given, "delays": given["delays"] + 4}, slots=1)[0]  # all arrivals are later
    assert torch.equal(deaf, recurrent_lif(**{**pick(given), "weight": torch.zeros(3, 3, dtype=F64)})[0])


def pick(given):
    return {name: given[name] for name in ("current", "weight", "decay", "threshold")}


# --- compile, devices, dtypes -----------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own tracing
def test_compiles_into_one_graph():
    given, upstream = problem(7, 5, 2, 3)
    torch._dynamo.reset()
    compiled = torch.compile(delayed_recurrent_lif, backend="aot_eager", fullgraph=True)
    (ours, _), (eager, _) = compiled(**given, slots=8), delayed_recurrent_lif(**given, slots=8)
    assert torch.equal(ours, eager)
    assert_grads(gradients((ours * upstream).sum(), given), gradients((eager * upstream).sum(), given))


def test_meta_device_gives_shapes():
    given = {name: value.detach().to("meta") for name, value in problem(0, 5, 2, 3)[0].items()}
    spikes, state = delayed_recurrent_lif(**given, slots=4)
    assert (spikes.shape, state.shape, spikes.device.type) == ((5, 2, 3), (5, 2, 3), "meta")
    with pytest.raises(ValueError, match=r"^slots must be given under torch.compile and on the meta device, where"):
        delayed_recurrent_lif(**given)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_all_is_computed_in_the_dtype_of_the_current(dtype):
    given = {name: value.detach() for name, value in problem(0, 5, 2, 3)[0].items()}
    given["current"] = given["current"].to(dtype)
    assert [output.dtype for output in delayed_recurrent_lif(**given)] == [dtype, dtype]
