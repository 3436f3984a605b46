"""Several workers find what one worker finds: each with samples of its own, uneven, perhaps none."""

import datetime
import itertools
import os
import signal
import socket
import time

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from bregma.admm import ADMM, Constants, Convolution, Settings
from bregma.admm.consistent import ConsistentADMM
from bregma.admm.consistent_settings import ConsistentSettings
from bregma.admm.workers import Alone, ProcessGroup, shard

T, B, INPUTS, CLASSES = 6, 11, 18, 3
CONSTANTS = Constants(ridge=1e-3)


def data():
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(T, B, INPUTS, generator=generator) < 0.12).double()
    return x, torch.eye(CLASSES, dtype=torch.float64)[torch.arange(B) % CLASSES]


def paper(settings, hidden=(7, 5)):
    def solve(x, y, extra):
        solver = ADMM(x, y, hidden, settings, frame_shape=(2, 3, 3), seed=1, **extra)
        for _ in range(20):
            solver.step()
        return solver.variables.weights, solver.measure()

    return solve


def consistent(method, **settings):
    def solve(x, y, extra):
        solver = ConsistentADMM(
            (7, 5), INPUTS, CLASSES, ConsistentSettings(**settings), seed=1, dtype=torch.float64, **extra
        )
        for _ in range(20):
            getattr(solver, method)(x, y)
        return [*solver.weights[:-1], solver.refreshed([(x, y, None)])[0]], solver.measure()

    return solve


SCENARIOS = {
    "paper": paper(Settings(CONSTANTS, warming=5)),
    "all multipliers": paper(Settings(CONSTANTS, warming=3, order="red-black", multipliers="all")),
    "balanced": paper(Settings(CONSTANTS, warming=5, penalties="balanced", readout_update="exact")),
    "convolution": paper(Settings(CONSTANTS, warming=5), hidden=(Convolution(2, kernel=2), 5)),
    "exact spikes": paper(Settings(CONSTANTS, warming=5, spike_update="exact")),
    "mini-batch": consistent("step"),
    "full batch": consistent("descend"),
    "full batch, hinge": consistent("descend", loss="squared_hinge"),
}


def answers(columns, extra):
    torch.set_num_threads(1)
    x, y = data()
    found = {}
    for name, solve in SCENARIOS.items():
        weights, measured = solve(x[:, columns], y[columns], extra)
        found[name] = weights, measured
    return found


def join(rank, size, port, seconds=60.0):
    dist.init_process_group(
        "gloo",
        init_method=f"tcp://127.0.0.1:{port}",
        rank=rank,
        world_size=size,
        timeout=datetime.timedelta(seconds=seconds),
    )
    return ProcessGroup()


def go_on(columns, workers, folder):
    """Twenty iterations in two parts: the second by these workers, from a state that others may have left."""
    x, y = data()
    solver = ADMM(x[:, columns], y[columns], (7, 5), Settings(CONSTANTS, warming=5), seed=1, workers=workers)
    path = folder / "state.pt"
    if path.exists():
        solver.load_state_dict(torch.load(path, weights_only=True))
    for _ in range(10):
        solver.step()
    state = solver.state_dict()
    if not workers.rank and not path.exists():
        torch.save(state, path)
    return solver.variables.weights


def halves(rank, size, port, cuts, folder):
    torch.set_num_threads(1)
    workers = join(rank, size, port)
    go_on(slice(cuts[rank], cuts[rank + 1]), workers, folder)
    dist.barrier()
    dist.destroy_process_group()


def work(rank, size, port, cuts, folder):
    workers = join(rank, size, port)
    torch.save(answers(slice(cuts[rank], cuts[rank + 1]), {"workers": workers}), folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def alone():
    return answers(slice(None), {})


@pytest.mark.parametrize("cuts", [(0, 4, B), (0, 7, 7, B)])
def test_workers_equal_one(cuts, alone, tmp_path):
    size = len(cuts) - 1
    mp.start_processes(work, (size, free_port(), cuts, tmp_path), nprocs=size)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(size)]
    for name, (weights, measured) in alone.items():
        within = 1e-5 if name == "exact spikes" else 1e-10  # they end by what is left of all rows of a worker
        for answer in found:
            for mine, theirs in zip(weights, answer[name][0], strict=True):
                torch.testing.assert_close(theirs, mine, rtol=within, atol=within, msg=name)
            for key, value in measured.items():
                assert answer[name][1][key] == pytest.approx(value, rel=10 * within, abs=within / 100), (name, key)


def test_a_run_goes_on_with_another_number_of_workers(tmp_path, alone):
    cuts = (0, 3, B)
    mp.start_processes(halves, (2, free_port(), cuts, tmp_path), nprocs=2)
    assert torch.load(tmp_path / "state.pt")["iteration"] == 10
    weights = go_on(slice(None), Alone(), tmp_path)
    for mine, theirs in zip(weights, alone["paper"][0], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


def lose(rank, size, port, how, queue):
    workers = join(rank, size, port, seconds=3.0)
    numbers = torch.ones(2)
    workers.sum([numbers])
    if rank == 1:
        if how == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(8)
        return
    started = time.monotonic()
    try:
        workers.sum([numbers])
    except ConnectionError as error:
        queue.put((str(error), time.monotonic() - started))


@pytest.mark.parametrize("how", ["dies", "hangs"])
def test_a_lost_worker_is_an_error_within_the_timeout(how):
    queue = mp.get_context("spawn").SimpleQueue()
    processes = mp.start_processes(lose, (2, free_port(), how, queue), nprocs=2, join=False)
    message, seconds = queue.get()
    assert message.startswith("worker 0 of 2 lost another one: ")
    assert seconds < 7
    for process in processes.processes:
        process.kill()


class Counting(Alone):
    """One worker that counts what it would send."""

    sent = 0

    def sum(self, tensors):
        self.sent += sum(8 * tensor.numel() for tensor in tensors)


def test_bytes_are_those_of_the_cost_model():
    x, y = data()
    sizes, active = (INPUTS, 7, 5, CLASSES), int(x.any(0).any(0).sum())
    workers = Counting()
    solver = ADMM(x, y, sizes[1:-1], Settings(CONSTANTS), workers=workers)
    solver.step()  # which sends the Gram matrix of the data, once
    before = workers.sent
    solver.step()
    hidden = sum(m * n + n * n + 1 for n, m in itertools.pairwise(sizes[1:]))
    assert workers.sent - before == 8 * (active * sizes[1] + 1 + hidden)

    workers = Counting()
    solver = ConsistentADMM(sizes[1:-1], INPUTS, CLASSES, seed=1, dtype=torch.float64, workers=workers)
    solver.begin(x)
    always = sizes[2] * (sizes[2] + CLASSES) + 1 + sum(m * n + 1 for n, m in itertools.pairwise(sizes[:-1]))
    for iteration in range(18):
        before = workers.sent
        solver.step(x, y)
        due = INPUTS**2 * (iteration in (0, 1, 2, 4, 8, 16)) + sizes[1] ** 2 * (iteration < 4 or iteration % 4 == 0)
        assert workers.sent - before == 8 * (always + due), iteration


def test_refuses():
    with pytest.raises(RuntimeError, match="must be initialised first"):
        ProcessGroup()

    class Two:
        rank, size = 0, 2

    x, y = data()
    with pytest.raises(ValueError, match="anderson must be 0 with several workers, got 2"):
        ADMM(x, y, (4,), Settings(anderson=2, order="paper"), workers=Two())


def test_shards_cover_all_samples():
    for samples in (0, 1, 5, 12):
        for size in (1, 2, 5):
            parts = [shard(samples, rank, size) for rank in range(size)]
            assert [i for part in parts for i in part] == list(range(samples))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1
