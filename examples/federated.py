"""Five clients with unequal shares of the digits and two classes each, trained as one.

pip install "bregma[flower]" && python examples/federated.py
"""

from functools import cache

import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from bregma.admm.consistent_settings import ConsistentSettings
from bregma.data import collate, load
from bregma.interop.flower import Plan, SumStatistics, client_app

CLIENTS = 5
PLAN = Plan(inputs=800, classes=10, hidden=(64, 64), iterations=20, settings=ConsistentSettings(iterations=20))


@cache
def share(client: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two classes of its own for each client, and the more samples the higher its number."""
    train = load("digits").train
    x, labels = collate([train[k] for k in range(len(train))])
    mine = (labels // 2 == client) & (torch.arange(len(labels)) % CLIENTS <= client)
    return x[:, mine].flatten(2), labels[mine]


def data(context: Context) -> tuple[torch.Tensor, torch.Tensor]:
    """The share of the client that Flower runs."""
    return share(int(context.node_config["partition-id"]))


server = ServerApp()
strategy = SumStatistics(PLAN, clients=CLIENTS)


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Run all rounds."""
    strategy.start(grid, strategy.initial_arrays(), num_rounds=PLAN.rounds)


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_simulation(server, client_app(PLAN, data), num_supernodes=CLIENTS)
    test = load("digits").test
    x, labels = collate([test[k] for k in range(len(test))])
    accuracy = (strategy.solver.scores(x.flatten(2)).argmax(1) == labels).float().mean()
    print(f"unseen digits: {accuracy:.1%}")
