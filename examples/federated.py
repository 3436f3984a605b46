"""Five clients with unequal shares of the digits and two classes each, trained as one; needs ``bregma[flower]``.

python examples/federated.py
"""

import tempfile
from pathlib import Path

import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from bregma.admm.consistent_settings import ConsistentSettings
from bregma.data import FrameDataset, collate, load
from bregma.interop.flower import Plan, SumStatistics, client_app

CLIENTS = 5
PLAN = Plan(inputs=800, classes=10, hidden=(64, 64), iterations=20, settings=ConsistentSettings(iterations=20))
server = ServerApp()
strategy = SumStatistics(PLAN, clients=CLIENTS)


def everything(dataset: FrameDataset) -> tuple[torch.Tensor, torch.Tensor]:
    """All samples of a data set at once."""
    x, labels = collate([dataset[k] for k in range(len(dataset))])
    return x.flatten(2), labels


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Run all rounds."""
    strategy.start(grid, strategy.initial_arrays(), num_rounds=PLAN.rounds)


if __name__ == "__main__":
    torch.set_num_threads(1)
    digits = load("digits")
    with tempfile.TemporaryDirectory() as folder:
        x, labels = everything(digits.train)
        for client in range(CLIENTS):  # two classes for each, and the more samples the higher its number
            mine = (labels // 2 == client) & (torch.arange(len(labels)) % CLIENTS <= client)
            torch.save((x[:, mine].clone(), labels[mine]), Path(folder) / f"{client}.pt")

        def data(context: Context) -> tuple[torch.Tensor, torch.Tensor]:
            """What a client reads from its own disk."""
            return torch.load(Path(folder) / f"{context.node_config['partition-id']}.pt", weights_only=True)

        run_simulation(server, client_app(PLAN, data), num_supernodes=CLIENTS)
    unseen, labels = everything(digits.test)
    print(f"unseen digits: {(strategy.solver.scores(unseen).argmax(1) == labels).float().mean():.1%}")
