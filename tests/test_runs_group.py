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


def work(rank, size, port, path, splits):
    """Train in two parts, the optimizer's state of every worker kept."""
    workers = join(rank, size, port)
    calls = iter(range(100))
    assert train(RunFolder(path), splits, workers=workers, should_stop=lambda: next(calls) == 2) is None
    workers.sum([torch.zeros(1)])
    kept = []
    original = Session.totals
    Session.totals = lambda self: kept.append(self.optimizer.state_dict()) or original(self)
    summary = train(RunFolder(path), splits, resume=True, workers=workers)
    assert bool(summary) == (rank == 0)
    if kept:
        torch.save(kept[-1], path.with_name(f"{path.name}-optimizer-{rank}.pt"))
    dist.barrier()
    dist.destroy_process_group()


PAPER = ADMMSettings("paper", iterations=8, warming=3, measure_every=4)
MINI = ADMMSettings(iterations=12, batch_size=7, measure_every=4)  # uneven shares
SOLVERS = {
    "the paper's": {"admm": PAPER},
    "mini-batches": {"admm": MINI},
    "one sample a batch": {"admm": ADMMSettings(iterations=6, batch_size=1, measure_every=3)},
    "full batch": {"admm": ADMMSettings(iterations=8, measure_every=4, loss="cross_entropy", readout="mean")},
    "recurrent": {"admm": MINI, "recurrent": True},
    "sparse": {"admm": MINI, "density": 0.5},
}


@pytest.mark.parametrize("method", ["adabreg", *SOLVERS])
def test_processes_train_as_one(tmp_path, splits, method):
    experiment = tiny(batch_size=7) if method == "adabreg" else recipe("digits", "admm", hidden=(8,), **SOLVERS[method])
    one = start(tmp_path / "one", splits, experiment)
    summary = train(one, splits)
    several = start(tmp_path / "several", splits, experiment)
    mp.start_processes(work, (2, free_port(), several.path, splits), nprocs=2)
    for name, tensor in one.tensors("last").items():
        torch.testing.assert_close(several.tensors("last")[name], tensor, rtol=1e-4, atol=1e-5)
    assert several.summary()["test_accuracy"] == summary["test_accuracy"]
    for mine, theirs in zip(several.metrics(), one.metrics(), strict=True):
        assert mine["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-4)
        for name, value in theirs.get("solver", {}).items():
            assert mine["solver"][name] == pytest.approx(value, rel=1e-4), name
    if method == "adabreg":  # the dual variables are the same on all to the last bit
        states = [torch.load(tmp_path / f"several-optimizer-{rank}.pt", weights_only=True) for rank in range(2)]
        for key, state in states[0]["state"].items():
            for name, value in state.items():
                assert torch.equal(torch.as_tensor(value), torch.as_tensor(states[1]["state"][key][name])), name


def command(path, *options):
    run = ["-m", "bregma", "train", *options]
    group = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    return [sys.executable, *group, *run]


@pytest.mark.parametrize("solver", [["--admm.batch-size", "20"], ["--admm.solver", "paper", "--admm.warming", "5"]])
def test_a_killed_process_ends_the_group_and_loses_nothing(tmp_path, solver):
    path = tmp_path / "run"
    options = ["--method", "admm", "--hidden", "8", "--admm.iterations", "30", "--admm.measure-every", "2"]
    options += ["--admm.samples", "60", *solver, "--out", str(path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    group = subprocess.Popen(command(path, *options), env=environment, stderr=subprocess.PIPE, text=True)
    while not (path / "last.pt").exists():
        assert group.poll() is None, group.stderr.read()
        time.sleep(0.1)
    time.sleep(random.random())
    children = subprocess.run(["pgrep", "-P", str(group.pid)], capture_output=True, text=True).stdout.split()
    if children:
        os.kill(int(random.choice(children)), signal.SIGKILL)
    _, said = group.communicate(timeout=120)
    if group.returncode:
        done = RunFolder(path).metrics()[-1]["epoch"]
        assert done >= 2, said
        alone = [sys.executable, "-m", "bregma", "train", "--resume", str(path)]
        subprocess.run(alone, env=environment, check=True, capture_output=True)
    assert [row["epoch"] for row in RunFolder(path).metrics()] == list(range(2, 31, 2))
    assert json.loads((path / "summary.json").read_text())["epochs"] == 30
