"""Several workers find what one worker finds: each with samples of its own, uneven, perhaps none."""

import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from bregma.admm import ADMM, Constants, Convolution, Settings
from bregma.admm.workers import Alone, ProcessGroup, shard, whereabouts

T, B, INPUTS, CLASSES = 6, 11, 18, 3


def data():
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(T, B, INPUTS, generator=generator) < 0.12).double()
    codes = torch.arange(B) % CLASSES
    return x, torch.eye(CLASSES, dtype=torch.float64)[codes]


SETTINGS = {
    "paper": Settings(Constants(ridge=1e-3), warming=5),
    "red-black, all": Settings(Constants(ridge=1e-3), warming=3, order="red-black", multipliers="all"),
    "balanced": Settings(Constants(ridge=1e-3), warming=5, penalties="balanced", readout_update="exact"),
}
HIDDEN = {"dense": (7, 5), "convolution": (Convolution(2, kernel=2), 5)}


def solve(columns, settings, hidden, workers=None):
    torch.set_num_threads(1)
    x, y = data()
    extra = {} if workers is None else {"workers": workers}
    solver = ADMM(
        x[:, columns], y[columns], HIDDEN[hidden], SETTINGS[settings], frame_shape=(2, 3, 3), seed=1, **extra
    )
    for _ in range(20):
        solver.step()
    return solver


def run_worker(rank, size, port, cuts, settings, hidden, queue):
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
    columns = torch.arange(B)[cuts[rank] : cuts[rank + 1]]
    solver = solve(columns, settings, hidden, ProcessGroup())
    queue.put((rank, [w.numpy() for w in solver.variables.weights], solver.measure()))
    dist.barrier()
    dist.destroy_process_group()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(
    ("settings", "hidden", "cuts"),
    [
        ("paper", "dense", (0, 4, B)),
        ("red-black, all", "dense", (0, 7, 7, B)),
        ("balanced", "convolution", (0, 1, B)),
    ],
)
def test_workers_equal_one(settings, hidden, cuts):
    one = solve(torch.arange(B), settings, hidden)
    size, context = len(cuts) - 1, mp.get_context("spawn")
    queue = context.SimpleQueue()
    processes = mp.start_processes(
        run_worker, (size, free_port(), cuts, settings, hidden, queue), nprocs=size, join=False, start_method="spawn"
    )
    answers = [queue.get() for _ in range(size)]
    while not processes.join():
        pass
    for _, weights, measured in answers:
        for weight, expected in zip(weights, one.variables.weights, strict=True):
            torch.testing.assert_close(torch.from_numpy(weight), expected, rtol=1e-10, atol=1e-10)
        for name, value in one.measure().items():
            assert measured[name] == pytest.approx(value, rel=1e-9), name
