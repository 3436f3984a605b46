"""Runs by several processes: the same result, one folder, nothing lost when one is killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from test_admm_workers import free_port, join
from tiny_runs import start, tiny

from bregma.runs.admm_settings import ADMMSettings
from bregma.runs.experiment import recipe
from bregma.runs.folder import RunFolder
from bregma.runs.loop import Session, train


def work(rank, size, port, paths, splits):
    """Train every run in two parts."""
    workers = join(rank, size, port)
    for path in paths:
        in_two_parts(workers, path, splits)
    dist.barrier()
    dist.destroy_process_group()


def in_two_parts(workers, path, splits):
    """Stop at the third step and go on, the optimizer's state of every worker kept."""
    calls, kept = iter(range(100)), []
    assert train(RunFolder(path), splits, workers=workers, should_stop=lambda: next(calls) == 2) is None
    workers.sum([torch.zeros(1)])
    with pytest.MonkeyPatch.context() as patch:
        original = Session.totals
        patch.setattr(Session, "totals", lambda self: kept.append(self.optimizer.state_dict()) or original(self))
        summary = train(RunFolder(path), splits, resume=True, workers=workers)
    assert bool(summary) == (workers.rank == 0)
    if kept:
        torch.save(kept[-1], path.with_name(f"{path.name}-optimizer-{workers.rank}.pt"))


def admm(*names, **settings):
    return recipe("digits", "admm", hidden=(8,), admm=ADMMSettings(*names, **settings.pop("own")), **settings)


MINI = {"iterations": 9, "batch_size": 7, "measure_every": 4}  # uneven shares
EXPERIMENTS = {
    "adabreg": tiny(batch_size=7),
    "paper": admm("paper", own={"iterations": 8, "warming": 3, "measure_every": 4}),
    "mini-batches": admm(own=MINI),
    "one-sample-a-batch": admm(own=MINI | {"batch_size": 1}),
    "full-batch": admm(own={"iterations": 4, "measure_every": 2, "readout": "mean"}),
    "recurrent": admm(own=MINI, recurrent=True),
    "sparse": admm(own=MINI, density=0.5),
}


def test_processes_train_as_one(tmp_path, splits):
    ones = {name: start(tmp_path / name, splits, experiment) for name, experiment in EXPERIMENTS.items()}
    several = {name: start(tmp_path / f"{name}-2", splits, experiment) for name, experiment in EXPERIMENTS.items()}
    paths = [folder.path for folder in several.values()]
    mp.start_processes(work, (2, free_port(), paths, splits), nprocs=2)
    for name, one in ones.items():
        summary, theirs = train(one, splits), several[name]
        for part, tensor in one.tensors("last").items():
            largest = float(tensor.abs().max())  # sums over samples differ by the rounding of float32
            torch.testing.assert_close(theirs.tensors("last")[part], tensor, rtol=1e-4, atol=1e-4 * largest, msg=name)
        assert theirs.summary()["test_accuracy"] == summary["test_accuracy"], name
        for row, expected in zip(theirs.metrics(), one.metrics(), strict=True):
            assert row["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-4), name
            for figure, value in expected.get("solver", {}).items():
                assert row["solver"][figure] == pytest.approx(value, rel=1e-4), (name, figure)
    # The dual variables are the same on all to the last bit.
    states = [torch.load(tmp_path / f"adabreg-2-optimizer-{rank}.pt", weights_only=True) for rank in range(2)]
    for key, state in states[0]["state"].items():
        for name, value in state.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(states[1]["state"][key][name])), name


def work_twice(rank, size, port, paths, splits):
    """Train the first run at once, the second in two parts."""
    workers = join(rank, size, port)
    train(RunFolder(paths[0]), splits, workers=workers)
    in_two_parts(workers, paths[1], splits)
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.parametrize("batch_size", [7, 8])
def test_processes_with_dropout_go_on_bit_for_bit(tmp_path, splits, batch_size):
    """Each process has a generator of its own, whether its part is as large as the other's or not."""
    experiment = tiny(network="delrec_psmnist", hidden=(6, 8, 8), batch_size=batch_size, epochs=2, init="anchored")
    whole, parts = (start(tmp_path / name, splits, experiment) for name in ("whole", "parts"))
    mp.start_processes(work_twice, (2, free_port(), [whole.path, parts.path], splits), nprocs=2)
    for name, tensor in whole.tensors("last").items():
        assert torch.equal(parts.tensors("last")[name], tensor), name
    one, other = whole.state()["generator"], parts.state()["generator"]
    assert torch.equal(one, other)
    assert not torch.equal(one[0], one[1])


def command(processes, *options):
    group = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", str(free_port())]
    return [sys.executable, *(group if processes > 1 else []), "-m", "bregma", "train", *options]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def killed(path, processes, options, points):
    """Start a group, and kill one of its processes at a random point after it has saved something."""
    saved = path / "last.pt"
    before = saved.stat().st_mtime_ns if saved.exists() else 0
    group = subprocess.Popen(command(processes, *options), env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    while not saved.exists() or saved.stat().st_mtime_ns == before:
        assert group.poll() is None, group.stderr.read()
        time.sleep(0.02)
    time.sleep(points.random())
    assert group.poll() is None, "the run is too short to be killed"
    children = subprocess.run(["pgrep", "-P", str(group.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(points.choice(children)) if processes > 1 else group.pid, signal.SIGKILL)
    _, said = group.communicate(timeout=120)
    assert group.returncode, said


def test_processes_killed_at_random_points_lose_nothing(tmp_path):
    """Again and again, each time going on with another number of processes, until the run is what one makes of it."""
    path, alone, seed = tmp_path / "run", tmp_path / "alone", random.randrange(2**32)
    options = ["--method", "admm", "--hidden", "8", "--admm.iterations", "600", "--admm.measure-every", "10"]
    options += ["--admm.samples", "60", "--admm.batch-size", "20"]
    points, done = random.Random(seed), 0
    for processes in (2, 3, 1, 2):
        goal = ["--resume", str(path)] if done else [*options, "--out", str(path)]
        killed(path, processes, goal, points)
        last = RunFolder(path).metrics()[-1]["epoch"]
        assert last > done, f"seed {seed}"
        done = last
    subprocess.run(command(1, "--resume", str(path)), env=ENVIRONMENT, check=True, capture_output=True)
    subprocess.run(command(1, *options, "--out", str(alone)), env=ENVIRONMENT, check=True, capture_output=True)
    ours, theirs = RunFolder(path), RunFolder(alone)
    assert [row["epoch"] for row in ours.metrics()] == list(range(10, 601, 10)), f"seed {seed}"
    for row, expected in zip(ours.metrics(), theirs.metrics(), strict=True):
        assert row["train_loss"] == pytest.approx(expected["train_loss"], rel=5e-2), f"seed {seed}"
    assert json.loads((path / "summary.json").read_text())["epochs"] == 600
