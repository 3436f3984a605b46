"""Federated training equals centralised training, with unequal and skewed shares."""

import pytest
import torch

pytest.importorskip("flwr")

from flwr.app import ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from bregma.interop.flower import Plan, SumStatistics, client_app

T, INPUTS, CLASSES = 10, 12, 3
SHARES = (20, 5, 11, 1, 3)
PLAN = Plan(INPUTS, CLASSES, hidden=(14, 9), iterations=4, dtype=torch.float64)


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
                context = Context(0, node, {}, RecordDict(), {})
                replies.append(self._app(message, context))
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


def train(**lost):
    strategy = SumStatistics(PLAN)
    grid = Here(client_app(PLAN, mine), len(SHARES), **lost)
    result = strategy.start(grid, strategy.initial_arrays(), num_rounds=PLAN.rounds, train_config=ConfigRecord())
    return strategy, result


def centralised(keep):
    """The same first weights, then all samples on one machine."""
    x, labels = samples()
    x, labels = x[:, keep], labels[keep]
    strategy = SumStatistics(PLAN)
    spikes = {"spikes": x.sum((0, 1)), "entries": torch.tensor(x[..., 0].numel()), "samples": torch.tensor(0)}
    strategy._take("rates", spikes)
    solver = strategy.solver
    y = PLAN.code(labels)
    for _ in range(PLAN.iterations):
        solver.step(x, y)
    solver.weights[-1] = solver.refreshed([(x, y, None)])
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


def test_without_any_client():
    with pytest.raises(RuntimeError, match="round 1: none of 5 clients sent what was asked for"):
        train(silent=(1, 2, 3, 4, 5))
