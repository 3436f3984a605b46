"""Federated training equals centralised training, with unequal and skewed shares."""

import dataclasses

import pytest
import torch

pytest.importorskip("flwr")

from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from bregma.interop.federated import Server
from bregma.interop.flower import Plan, SumStatistics, client_app
from bregma.interop.privacy import Privacy

T, INPUTS, CLASSES = 10, 12, 3
SHARES = (20, 5, 11, 1, 3)
PLAN = Plan(INPUTS, CLASSES, hidden=(14, 9), iterations=7, dtype=torch.float64)


def samples():
    """Sorted by label, so that most clients hear of one or two classes only."""
    generator = torch.Generator().manual_seed(0)
    labels = (torch.arange(sum(SHARES)) * CLASSES) // sum(SHARES)
    x = torch.rand(T, len(labels), INPUTS, generator=generator) < 0.05 + 0.1 * labels[:, None]
    return x.double(), labels


@pytest.fixture(autouse=True)
def _identity(monkeypatch):
    """Messages carry the identity of the process that sends them; Flower's runtime would set it."""
    for name in ("run_id", "task_id", "node_id"):
        monkeypatch.setattr(TaskIdentity, f"_{name}", 1)


class Here(Grid):
    """Clients in this process; those in ``failing`` answer with an error, those in ``silent`` not at all."""

    def __init__(self, app, clients, failing=(), silent=()):
        self._app, self._clients, self._failing, self._silent = app, clients, failing, silent
        self._contexts = {node: Context(0, node, {}, RecordDict(), {}) for node in self.get_node_ids()}

    def get_node_ids(self):
        return list(range(1, self._clients + 1))

    def send_and_receive(self, messages, *, timeout=None):
        replies = []
        for message in messages:
            node = message.metadata.dst_node_id
            message.metadata._message_id = f"{node}"
            if node in self._failing:
                replies.append(Message(Error(code=0, reason="lost"), reply_to=message))
            elif node not in self._silent:
                replies.append(self._app(message, self._contexts[node]))
        return replies

    def set_run(self, run): ...

    @property
    def run(self): ...

    def create_message(self, *args, **kwargs): ...

    def get_nodes(self): ...

    def push_messages(self, messages): ...

    def pull_messages(self, message_ids): ...


def mine(context):
    x, labels = samples()
    first = sum(SHARES[: context.node_id - 1])
    part = slice(first, first + SHARES[context.node_id - 1])
    return x[:, part], labels[part]


def train(plan=PLAN, **lost):
    strategy = SumStatistics(plan)
    grid = Here(client_app(plan, mine), len(SHARES), **lost)
    result = strategy.start(grid, strategy.initial_arrays(), num_rounds=plan.rounds, train_config=ConfigRecord())
    return strategy, result


def centralised(keep):
    """The same first weights, then all samples on one machine."""
    x, labels = samples()
    x, labels = x[:, keep], labels[keep]
    server = Server(PLAN)
    server.take("rates", {"spikes": x.sum((0, 1)), "entries": torch.tensor(x[..., 0].numel())})
    solver = server.solver
    y = PLAN.code(labels)
    for _ in range(PLAN.iterations):
        solver.step(x, y)
    solver.weights[-1] = solver.refreshed([(x, y, None)])[0]
    return solver, float((solver.scores(x).argmax(1) == labels).double().mean())


def test_federated_equals_centralised():
    strategy, result = train()
    solver, accuracy = centralised(slice(None))
    for ours, theirs in zip(strategy.solver.weights, solver.weights, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    assert result.evaluate_metrics_clientapp[PLAN.rounds] == MetricRecord(
        {"accuracy": accuracy, "samples": sum(SHARES)}
    )
    assert result.train_metrics_clientapp[PLAN.rounds] == MetricRecord(
        {"clients": 5, "left_out": 0, "samples": sum(SHARES)}
    )


def test_lost_clients_are_left_out_and_counted():
    strategy, result = train(failing=(2,), silent=(5,))
    owner = torch.repeat_interleave(torch.arange(1, 6), torch.tensor(SHARES))
    solver, _ = centralised((owner != 2) & (owner != 5))
    for ours, theirs in zip(strategy.solver.weights, solver.weights, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    assert result.train_metrics_clientapp[1] == MetricRecord({"clients": 3, "left_out": 2, "samples": 32})


class Spoilt(Here):
    """The first client's replies are changed on their way."""

    def __init__(self, spoil):
        super().__init__(client_app(PLAN, mine), len(SHARES))
        self._spoil = spoil

    def send_and_receive(self, messages, *, timeout=None):
        replies = super().send_and_receive(messages)
        if replies and "arrays" in replies[0].content:
            self._spoil(replies[0].content)
        return replies


def garbled(content):
    for array in content["arrays"].values():
        array.data = b"no array"


def imaginary(content):
    content["arrays"] = ArrayRecord({k: 1j * v for k, v in content["arrays"].to_torch_state_dict().items()})


@pytest.mark.parametrize("spoil", [garbled, imaginary, lambda content: content.clear()])
def test_a_client_that_sends_what_does_not_fit_is_left_out(spoil):
    strategy = SumStatistics(PLAN)
    result = strategy.start(Spoilt(spoil), strategy.initial_arrays(), num_rounds=PLAN.rounds)
    for server_round in (1, PLAN.rounds):
        assert result.train_metrics_clientapp[server_round] == MetricRecord(
            {"clients": 4, "left_out": 1, "samples": sum(SHARES[1:])}
        )


@pytest.mark.parametrize(
    "counts",
    [
        {},
        {"metrics": MetricRecord({})},
        {"metrics": MetricRecord({"right": [1], "samples": [2]})},
        {"metrics": MetricRecord({"right": float("nan"), "samples": 2})},
        {"metrics": MetricRecord({"right": 3, "samples": 2})},
        {"metrics": ArrayRecord({})},
    ],
)
def test_a_client_that_does_not_say_its_accuracy_is_left_out(counts):
    strategy = SumStatistics(PLAN)
    asked = Message(RecordDict({}), dst_node_id=1, message_type="evaluate")
    asked.metadata._message_id = "1"
    said = RecordDict({"metrics": MetricRecord({"right": 3, "samples": 4})})
    replies = [Message(RecordDict(counts), reply_to=asked), Message(said, reply_to=asked)]
    assert strategy.aggregate_evaluate(1, replies) == MetricRecord({"accuracy": 0.75, "samples": 4})
    assert strategy.aggregate_evaluate(1, replies[:1]) is None


def test_without_any_client():
    with pytest.raises(RuntimeError, match="round 1: none of 5 clients sent what was asked for"):
        train(silent=(1, 2, 3, 4, 5))


PRIVATE = dataclasses.replace(PLAN, iterations=2, privacy=Privacy(epsilon=3.0, delta=1e-5, together=4))


def test_privacy_is_spent_round_by_round():
    pytest.importorskip("dp_accounting")
    _, result = train(PRIVATE, failing=(2,))
    spent = [result.train_metrics_clientapp[k]["epsilon"] for k in range(1, PRIVATE.rounds + 1)]
    assert spent == sorted(spent)
    assert spent[-1] == pytest.approx(3.0)
    assert not result.evaluate_metrics_clientapp  # counts of right answers would tell without noise


def test_privacy_refuses():
    pytest.importorskip("dp_accounting")
    with pytest.raises(
        RuntimeError, match="round 1: 3 of 5 clients sent what was asked for; privacy asks for 4 together"
    ):
        train(PRIVATE, failing=(2,), silent=(1,))

    strategy, context = SumStatistics(PRIVATE), Context(0, 1, {}, RecordDict(), {})
    grid, app = Here(client_app(PRIVATE, mine), 1), client_app(PRIVATE, mine)
    (message,) = list(strategy.configure_train(1, strategy.initial_arrays(), ConfigRecord(), grid))[:1]
    message.metadata._message_id = "1"
    for _ in range(PRIVATE.rounds):
        app(message, context)
    with pytest.raises(RuntimeError, match="answered in all 6 rounds that its privacy allows"):
        app(message, context)
    message.metadata.message_type = "evaluate"
    with pytest.raises(RuntimeError, match="a client with privacy tells no accuracy"):
        app(message, context)
