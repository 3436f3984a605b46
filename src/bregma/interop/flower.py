"""Federated ADMM with Flower: clients send sums over their samples, the server sums the sums and solves.

Nothing is averaged, so the result is that of one machine with all samples, whatever the shares of the clients look like
(Eq. (10) of arXiv 2505.05527, for the consistent solver). The rounds of Flower are, for N iterations:

    1             ``rates``    spikes of every input: the server scales random weights by them
    2, 4 .. 2 N   ``readout``  statistics of the readout; the server solves it
    3, 5 .. 2N+1  ``layers``   statistics of the hidden layers; the server moves them
    2 N + 2       ``refresh``  statistics of the readout for the final hidden layers
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bregma.admm.consistent import ConsistentADMM
from bregma.admm.consistent_settings import ConsistentSettings
from bregma.admm.statistics import Statistics

try:
    from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid
    from flwr.serverapp.strategy import Strategy
except ImportError as error:
    raise ImportError("bregma.interop.flower needs flwr: pip install 'bregma[flower]'") from error

_PATIENCE = 0.5  # seconds between two looks for clients
_STEPS, _SAMPLES = 50, 200  # of the stand-in for data that the server never sees


@dataclass(frozen=True)
class Plan:
    """What server and clients must agree on.

    Args:
        inputs: n_0.
        classes: size of the readout.
        hidden: neurons of each hidden layer.
        iterations: N.
        settings: of the solver.
        seed: of the first weights.
        dtype: of weights and computations; sums are float64.

    Example:
        >>> plan = Plan(inputs=8, classes=2, hidden=(16,), iterations=3)
        >>> [plan.phase(round) for round in range(1, plan.rounds + 1)]
        ['rates', 'readout', 'layers', 'readout', 'layers', 'readout', 'layers', 'refresh']
    """

    inputs: int
    classes: int
    hidden: tuple[int, ...]
    iterations: int
    settings: ConsistentSettings = field(default_factory=ConsistentSettings)
    seed: int = 0
    dtype: torch.dtype = torch.float32

    @property
    def rounds(self) -> int:
        """Rounds of Flower."""
        return 2 * self.iterations + 2

    def phase(self, server_round: int) -> str:
        """What a round is for."""
        if server_round == 1:
            return "rates"
        return "refresh" if server_round == self.rounds else ("layers" if server_round % 2 else "readout")

    def solver(self) -> ConsistentADMM:
        """A solver without weights."""
        return ConsistentADMM(self.hidden, self.inputs, self.classes, self.settings, seed=self.seed, dtype=self.dtype)

    def code(self, labels: Tensor) -> Tensor:
        """Labels 0, 1 ... as rows of zeros and a one (B, classes)."""
        return torch.nn.functional.one_hot(labels, self.classes).to(self.dtype)


def client_app(plan: Plan, data: Callable[[Context], tuple[Tensor, Tensor]]) -> ClientApp:
    """The app of a client: sums over its own samples.

    Args:
        plan: as the server has it.
        data: the client's input spikes (T, B, n_0) and labels (B,); called in every round.
    """
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        x, labels = data(context)
        config = message.content["config"]
        solver = _restored(plan, message.content["arrays"], int(config["iteration"]))
        sums = local_sums(plan, solver, str(config["phase"]), x, labels)
        return Message(content=RecordDict({"arrays": _record(sums)}), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        x, labels = data(context)
        right = (_restored(plan, message.content["arrays"], 0).scores(x).argmax(1) == labels).sum()
        counts = MetricRecord({"right": int(right), "samples": len(labels)})
        return Message(content=RecordDict({"metrics": counts}), reply_to=message)

    return app


def local_sums(plan: Plan, solver: ConsistentADMM, phase: str, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """What a client tells in one phase: float64 sums over its samples by name, ``samples`` among them.

    Args:
        plan: see `Plan`.
        solver: with the weights of the server, except for ``rates``.
        phase: see the module.
        x: input spikes (T, B, n_0).
        labels: (B,).
    """
    samples = torch.tensor(x.shape[1], dtype=torch.float64)
    if phase == "rates":
        spikes = x.sum((0, 1), dtype=torch.float64)
        return {"spikes": spikes, "entries": samples * len(x), "samples": samples}
    y = plan.code(labels)
    activity = solver.run(solver.begin(x))
    if phase == "layers":
        parts = {f"layer.{k}": part for k, part in enumerate(solver.layer_sums(activity, y))}
    else:
        parts = {"readout": solver.readout_sums(activity, y)}
    sums = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.tensors().items()}
    return {**sums, "samples": samples}


class SumStatistics(Strategy):
    """The server's part: sums what clients send and takes it to the solver.

    A client that fails, does not answer, or sends what does not fit is left out of the sums of that round and counted
    in the metrics (``clients``, ``left_out``, ``samples``).

    Args:
        plan: as the clients have it.
        clients: how many must be there before a round begins, >= 1.

    Attributes:
        solver: with the weights learnt so far.

    Example:
        >>> strategy = SumStatistics(Plan(inputs=8, classes=2, hidden=(16,), iterations=3))
        >>> # in a ServerApp: strategy.start(grid, strategy.initial_arrays(), num_rounds=strategy.plan.rounds)
    """

    def __init__(self, plan: Plan, clients: int = 1) -> None:
        self.plan, self.clients = plan, clients
        self.solver = plan.solver()
        self._asked = 0

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
        shapes = {name: tensor.shape for name, tensor in self._expected(phase).items()}
        total, clients = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in shapes.items()}, 0
        for reply in replies:
            sums = {} if reply.has_error() else _tensors(reply.content["arrays"])
            if {name: tensor.shape for name, tensor in sums.items()} != shapes:
                continue
            if not all(bool(torch.isfinite(tensor).all()) for tensor in sums.values()):
                continue
            clients += 1
            for name, tensor in sums.items():
                total[name] += tensor
        if not clients:
            raise RuntimeError(f"round {server_round}: none of {self._asked} clients sent what was asked for")
        self._take(phase, total)
        counts = {"clients": clients, "left_out": self._asked - clients, "samples": int(total["samples"])}
        return _record(_named(self.solver.weights)), MetricRecord(counts)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Once, after the last round."""
        if server_round < self.plan.rounds:
            return []
        return self._to_all(grid, arrays, config, MessageType.EVALUATE)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Accuracy over the samples of all clients."""
        counts = [reply.content["metrics"] for reply in replies if not reply.has_error()]
        samples = sum(int(count["samples"]) for count in counts)
        if not samples:
            return None
        return MetricRecord({"accuracy": sum(int(count["right"]) for count in counts) / samples, "samples": samples})

    def _to_all(self, grid: Grid, arrays: ArrayRecord, config: ConfigRecord, kind: str) -> list[Message]:
        while len(nodes := list(grid.get_node_ids())) < self.clients:
            time.sleep(_PATIENCE)
        self._asked = len(nodes)
        content = RecordDict({"arrays": arrays, "config": config})
        return [Message(content=content, message_type=kind, dst_node_id=node) for node in nodes]

    def _expected(self, phase: str) -> dict[str, Tensor]:
        """Sums over no samples, of the names and shapes that clients should send."""
        x = torch.zeros(1, 0, self.plan.inputs, dtype=self.plan.dtype)
        return local_sums(self.plan, self.solver, phase, x, torch.zeros(0, dtype=torch.long))

    def _take(self, phase: str, total: dict[str, Tensor]) -> None:
        if phase == "rates":
            self.solver.begin(self._stand_in(total))
        elif phase == "layers":
            self.solver.take_layers([_part(total, f"layer.{k}") for k in range(len(self.plan.hidden))])
        else:
            self.solver.take_readout(_part(total, "readout"), fresh=phase == "refresh")

    def _stand_in(self, total: dict[str, Tensor]) -> Tensor:
        """Random spikes at the clients' mean rates, by which the first weights are scaled."""
        rates = total["spikes"] / total["entries"].clamp(min=1)
        generator = torch.Generator().manual_seed(self.plan.seed)
        drawn = torch.rand(_STEPS, _SAMPLES, self.plan.inputs, generator=generator, dtype=torch.float64)
        return (drawn < rates).to(self.plan.dtype)


def _part(total: dict[str, Tensor], name: str) -> Statistics:
    return Statistics(*(total[f"{name}.{key}"] for key in ("gram", "cross", "count")))


def _named(weights: list[Tensor]) -> dict[str, Tensor]:
    return {str(k): weight for k, weight in enumerate(weights)}


def _record(tensors: dict[str, Tensor]) -> ArrayRecord:
    return ArrayRecord(OrderedDict(tensors))


def _tensors(record: Any) -> dict[str, Tensor]:
    return dict(record.to_torch_state_dict())


def _restored(plan: Plan, arrays: Any, iteration: int) -> ConsistentADMM:
    solver = plan.solver()
    weights = _tensors(arrays)
    solver.resume([weights[str(k)] for k in range(len(weights))], iteration)
    return solver
