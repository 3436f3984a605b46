import copy
import io
import math
import pickle

import pytest
import torch

from bregma import dynamics
from bregma.dynamics import RESETS, Triangle, spread_at
from bregma.nn import DelayedRecurrentLIF, RecurrentLIF
from bregma.nn.weights import split_parameters


def layer(**options):
    torch.manual_seed(0)
    made = DelayedRecurrentLIF(3, **{"decay": 0.8, "max_delay": 6, "spread": 1.5, **options})
    made.delays.data = torch.tensor([0.4, 2.0, 5.3])
    return made


def current(seed=0):
    return 1.5 * torch.randn(12, 2, 3, generator=torch.Generator().manual_seed(seed))


def outputs(layer):
    spikes, state = layer(current())
    return torch.cat([spikes, state])


@pytest.mark.parametrize("learn_spread", [False, True])
@pytest.mark.parametrize("reset", RESETS)
def test_layer_hands_everything_to_the_recurrence(reset, learn_spread):
    options = {"reset": reset, "strict": False, "detach_reset": True, "surrogate": Triangle(0.5)}
    ours = layer(threshold=torch.tensor([0.5, 1.0, 1.5]), learn_spread=learn_spread, **options)
    spread = torch.tensor(1.5)
    if learn_spread:
        ours.p_spread.data = torch.tensor([-1.0, 0.0, 3.0])
        spread = 2 * 1.5 / (1 + torch.exp(-ours.p_spread))
    state = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(1))
    theirs = dynamics.delayed_recurrent_lif(
        current(), ours.recurrent.weight, ours.delays, spread, ours.decay, ours.threshold, state, **options
    )
    for mine, direct in zip(ours(current(), state), theirs, strict=True):
        torch.testing.assert_close(mine, direct)


def test_share_of_the_spread_starts_at_one():
    assert layer(learn_spread=True).neuron_spread().tolist() == [1.5] * 3
    assert layer().neuron_spread().item() == 1.5


@pytest.mark.parametrize("learn_spread", [False, True])
def test_all_parameters_get_gradients(learn_spread):
    made = layer(learn_spread=learn_spread)
    (made(current())[0] * current(1)).sum().backward()
    names = {"recurrent.weight", "delays"} | ({"p_spread"} if learn_spread else set())
    assert {name for name, _ in made.named_parameters()} == names
    assert all(p.grad.abs().max() > 0 for p in made.parameters())


def test_only_the_recurrent_weight_is_a_weight():
    weights, rest = split_parameters(layer(learn_spread=True))
    assert (list(weights), list(rest)) == (["recurrent.weight"], ["delays", "p_spread"])


def test_spread_is_saved():
    made = layer()
    made.set_spread(0.25)
    assert set(made.state_dict()) == {"decay", "threshold", "recurrent.weight", "delays", "spread"}
    file = io.BytesIO()
    torch.save(made.state_dict(), file)
    file.seek(0)
    other = DelayedRecurrentLIF(3, max_delay=6)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert other.spread.item() == 0.25
    assert torch.equal(outputs(other), outputs(made))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_are_equal_and_apart(copied):
    made = layer(learn_spread=True)
    other = copied(made)
    assert torch.equal(outputs(other), outputs(made))
    other.round_delays_()
    assert made.delays.tolist() == pytest.approx([0.4, 2.0, 5.3])
    assert made.spread.item() == 1.5


def test_double():
    spikes, state = layer().double()(current().double())
    assert spikes.dtype == state.dtype == torch.float64
    torch.testing.assert_close(state.float(), layer()(current())[1])


def test_chunks_equal_the_whole():
    made = layer()
    first, state = made(current()[:5])
    second, state = made(current()[5:], state)
    torch.testing.assert_close(torch.cat([first, second, state]), outputs(made))


def test_delays_at_the_start():
    torch.manual_seed(0)
    delays = DelayedRecurrentLIF(500, max_delay=60).delays
    assert delays.min() >= 0
    assert delays.max() <= 60
    assert delays.mean().item() == pytest.approx(12 * math.sqrt(2 / math.pi), rel=0.1)  # mean of |N(0, 12)|
    assert DelayedRecurrentLIF(4, max_delay=0).delays.tolist() == [0.0] * 4


def test_clamp_and_round():
    made = layer(max_delay=4)
    storage = made.delays.data_ptr()
    made.delays.data.copy_(torch.tensor([-0.7, 1.6, 9.0]))
    made.clamp_delays_()
    assert made.delays.tolist() == pytest.approx([0.0, 1.6, 4.0])
    made.delays.data.copy_(torch.tensor([-0.7, 1.6, 9.0]))
    made.round_delays_()
    assert made.delays.tolist() == [0.0, 2.0, 4.0]
    assert made.spread.item() == 0
    assert made.delays.data_ptr() == storage


def test_rounded_without_delays_is_recurrent_lif():
    made, plain = layer(max_delay=0), RecurrentLIF(3, 0.8)
    made.round_delays_()
    plain.load_state_dict({name: made.state_dict()[name] for name in plain.state_dict()})
    assert torch.equal(made(current())[0], plain(current())[0])


@pytest.mark.parametrize("start", [1.0, 9.0])
def test_a_delay_is_learned(start):
    """Neuron 0 fires at once; neuron 1 is to fire 1 + 5 steps later. The delay finds that from either side."""
    made = DelayedRecurrentLIF(2, decay=0.0, max_delay=12)
    kick = torch.zeros(14, 1, 2)
    kick[0, 0, 0] = 2.0
    with torch.no_grad():
        made.recurrent.weight.copy_(torch.tensor([[0.0, 0.0], [1.5, 0.0]]))
        made.delays.copy_(torch.tensor([start, 0.0]))
    optimizer = torch.optim.Adam([made.delays], lr=0.1)
    for step in range(100):
        made.set_spread(spread_at(step / 100, start=6.0))
        optimizer.zero_grad()
        made(kick)[0][6, 0, 1].neg().backward()
        optimizer.step()
        made.clamp_delays_()
    made.round_delays_()
    assert made.delays[0].item() == 5
    assert made(kick)[0][:, 0, 1].nonzero().flatten().tolist() == [6]


def test_meta_device():
    with torch.device("meta"):
        made = DelayedRecurrentLIF(3, max_delay=6, spread=1.5, learn_spread=True)
    spikes, state = made(torch.empty(12, 2, 3, device="meta"))
    assert (spikes.shape, state.shape) == ((12, 2, 3), (1 + 6 + 1 + 3, 2, 3))
    assert "max_delay=6" in repr(made)


@pytest.mark.parametrize("learn_spread", [False, True])
def test_a_compiled_layer_has_room_for_a_wider_spread(learn_spread):
    def wide() -> DelayedRecurrentLIF:
        made = layer(learn_spread=learn_spread)
        made.set_spread(8.0)
        return made

    loaded = layer(learn_spread=learn_spread)
    loaded.load_state_dict(wide().state_dict())
    for made in (wide(), loaded):
        torch._dynamo.reset()
        compiled = torch.compile(made, backend="eager")
        torch.testing.assert_close(compiled(current())[1][0], made(current())[1][0])  # the membranes


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own tracing
def test_compiles_into_one_graph():
    made = layer(spread=0.5)
    torch._dynamo.reset()
    compiled = torch.compile(made, backend="aot_eager", fullgraph=True)
    x, y = current()[:4].requires_grad_(), current()[:4].requires_grad_()
    ours, eager = compiled(x)[0], made(y)[0]
    assert torch.equal(ours, eager)
    (ours * current(1)[:4]).sum().backward()
    (eager * current(1)[:4]).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)


def test_repr():
    line = repr(layer(learn_spread=True)).splitlines()[1]
    assert line.endswith("surrogate=ATan(alpha=2.0), max_delay=6, spread=1.5, learn_spread=True")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, r"size must be >= 1, got 0"),
        ({"max_delay": -1}, r"max_delay must be a finite number >= 0, got -1"),
        ({"max_delay": math.inf}, r"max_delay must be a finite number >= 0, got inf"),
        ({"spread": -1.0}, r"spread must be a finite number >= 0, got -1"),
        ({"spread": math.nan}, r"spread must be a finite number >= 0, got nan"),
        ({"decay": 2.0}, r"decay must be in \[0, 1\], got 2"),
        ({"reset": "hard"}, r"reset must be one of .*, got 'hard'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        DelayedRecurrentLIF(**{"size": 3, **options})


def test_bad_spread_and_broken_delays():
    made = layer()
    with pytest.raises(ValueError, match=r"^spread must be a finite number >= 0, got -0.5$"):
        made.set_spread(-0.5)
    made.delays.data[0] = math.nan
    with pytest.raises(ValueError, match=r"^delays and spread must be finite"):
        made(current())
