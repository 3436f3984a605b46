"""Federated ADMM with Flower: clients send sums over their samples, the server sums the sums and solves.

What they send in which round, and what is made of it, is in `bregma.interop.federated`; with privacy, noise as in
`bregma.interop.privacy`.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from bregma.admm.consistent import ConsistentADMM
from bregma.interop.federated import Plan, Server, local_sums
from bregma.interop.libraries import missing

try:
    from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid
    from flwr.serverapp.strategy import Strategy
except ImportError as error:
    raise ImportError(missing("flwr", "flower")) from error

__all__ = ["Plan", "SumStatistics", "client_app"]

_PATIENCE = 0.5  # seconds between two looks for clients
_ANSWERED = "bregma.answered"  # in a client's state: rounds it took part in


def client_app(plan: Plan, data: Callable[[Context], tuple[Tensor, Tensor]]) -> ClientApp:
    """The app of a client: sums over its own samples.

    With privacy a client answers in as many rounds as the plan has, whatever the server asks, and tells no accuracy.

    Args:
        plan: as the server has it.
        data: the client's input spikes (T, B, n_0) and labels (B,); called in every round.
    """
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        if plan.privacy is not None:
            _count_answer(context, plan.rounds)
        x, labels = data(context)
        config = message.content["config"]
        solver = _restored(plan, message.content["arrays"], int(config["iteration"]))
        sums = local_sums(plan, solver, str(config["phase"]), x, labels)
        return Message(content=RecordDict({"arrays": _record(sums)}), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        if plan.privacy is not None:
            raise RuntimeError("a client with privacy tells no accuracy; measure it on samples of the server's own")
        x, labels = data(context)
        right = (_restored(plan, message.content["arrays"], 0).scores(x).argmax(1) == labels).sum()
        counts = MetricRecord({"right": int(right), "samples": len(labels)})
        return Message(content=RecordDict({"metrics": counts}), reply_to=message)

    return app


class SumStatistics(Strategy):
    """The server's part: sums what clients send and takes it to the solver.

    A client that fails, does not answer, or sends what does not fit is left out of the sums of that round and counted
    in the metrics (``clients``, ``left_out``, ``samples``). With privacy they also have the ``epsilon`` spent so far,
    and ``samples`` is a noised estimate.

    Args:
        plan: as the clients have it.
        clients: how many must be there before a round begins, >= 1.

    Example:
        >>> strategy = SumStatistics(Plan(inputs=8, classes=2, hidden=(16,), iterations=3))
        >>> # in a ServerApp: strategy.start(grid, strategy.initial_arrays(), num_rounds=strategy.plan.rounds)
    """

    def __init__(self, plan: Plan, clients: int = 1) -> None:
        self.plan, self.clients = plan, clients
        self._server, self._asked = Server(plan), 0

    @property
    def solver(self) -> ConsistentADMM:
        """With the weights learnt so far."""
        return self._server.solver

    def initial_arrays(self) -> ArrayRecord:
        """What `start` sends first: no weights yet."""
        return _record({})

    def summary(self) -> None:
        """Nothing is told before the first round."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask every client for the sums of this round."""
        own = {"phase": self.plan.phase(server_round), "iteration": self.solver.iteration}
        return self._to_all(grid, arrays, ConfigRecord({**dict(config.items()), **own}), MessageType.TRAIN)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Sum, and solve."""
        phase = self.plan.phase(server_round)
        shapes = self._server.expected(phase)
        total, clients = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in shapes.items()}, 0
        for reply in replies:
            sums = _sums(reply)
            if {name: tensor.shape for name, tensor in sums.items()} != shapes:
                continue
            if not all(t.is_floating_point() and bool(t.isfinite().all()) for t in sums.values()):
                continue
            clients += 1
            for name, tensor in sums.items():
                total[name] += tensor
        privacy = self.plan.privacy
        least = 1 if privacy is None else privacy.together
        if clients < least:
            raise RuntimeError(
                f"round {server_round}: {clients or 'none'} of {self._asked} clients sent what was asked for"
                + (f"; privacy asks for {least} together" if least > 1 else "")
            )
        self._server.take(phase, total)
        samples = self._server.samples if privacy else int(total["samples"])
        counts: dict[str, int | float] = {"clients": clients, "left_out": self._asked - clients, "samples": samples}
        if privacy is not None:
            counts["epsilon"] = privacy.spent(server_round, self.plan.rounds)
        return _record(_named(self.solver.weights)), MetricRecord(counts)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Once, after the last round; with privacy never."""
        if server_round < self.plan.rounds or self.plan.privacy is not None:
            return []
        return self._to_all(grid, arrays, config, MessageType.EVALUATE)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Accuracy over the samples of all clients, those left out that fail or do not say."""
        counts = [count for reply in replies if (count := _counts(reply)) is not None]
        samples = sum(of for _, of in counts)
        if not samples:
            return None
        return MetricRecord({"accuracy": sum(right for right, _ in counts) / samples, "samples": samples})

    def _to_all(self, grid: Grid, arrays: ArrayRecord, config: ConfigRecord, kind: str) -> list[Message]:
        while len(nodes := list(grid.get_node_ids())) < self.clients:
            time.sleep(_PATIENCE)
        self._asked = len(nodes)
        content = RecordDict({"arrays": arrays, "config": config})
        return [Message(content=content, message_type=kind, dst_node_id=node) for node in nodes]


def _named(weights: list[Tensor]) -> dict[str, Tensor]:
    return {str(k): weight for k, weight in enumerate(weights)}


def _record(tensors: dict[str, Tensor]) -> ArrayRecord:
    return ArrayRecord(OrderedDict(tensors))


def _tensors(record: Any) -> dict[str, Tensor]:
    return dict(record.to_torch_state_dict())


def _sums(reply: Message) -> dict[str, Tensor]:
    """What a client sent, nothing if that is not to be read."""
    if reply.has_error():
        return {}
    try:
        return _tensors(reply.content["arrays"])
    except Exception:  # numpy raises ValueError, EOFError, BadZipFile ... on broken bytes
        return {}


def _counts(reply: Message) -> tuple[int, int] | None:
    """Right answers and samples of a client, None if they are not to be read."""
    if reply.has_error():
        return None
    try:
        metrics: Any = reply.content["metrics"]
        right, samples = int(metrics["right"]), int(metrics["samples"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return (right, samples) if 0 <= right <= samples else None


def _restored(plan: Plan, arrays: Any, iteration: int) -> ConsistentADMM:
    weights = _tensors(arrays)
    return plan.solver([weights[str(k)] for k in range(len(weights))], iteration)


def _count_answer(context: Context, rounds: int) -> None:
    """One more; no noise is left for more than there are rounds."""
    answered = int(context.state[_ANSWERED]["rounds"]) if _ANSWERED in context.state else 0
    if answered >= rounds:
        raise RuntimeError(f"this client has answered in all {rounds} rounds that its privacy allows")
    context.state[_ANSWERED] = ConfigRecord({"rounds": answered + 1})
