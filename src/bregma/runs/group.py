"""Runs by several processes, as ``torchrun --nproc-per-node N -m bregma train`` starts them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from bregma.admm.workers import ALONE, ProcessGroup, Workers

#: Seconds after which a process that waits for another one gives up.
PATIENCE = 300
_LONGEST = 4096  # bytes of a path


@contextmanager
def joined() -> Iterator[Workers]:
    """The group that torchrun started; one worker alone without it."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=timedelta(seconds=PATIENCE))
    yield ProcessGroup(torch.device("cuda") if torch.cuda.is_available() else None)
    dist.destroy_process_group()  # not after an error: it would wait for those who are gone


def wait(workers: Workers) -> None:
    """Until all have come here."""
    workers.sum([torch.zeros(1)])


def agreed(path: str, workers: Workers) -> str:
    """The path of the first worker, for all."""
    text = path.encode()[:_LONGEST]
    letters = torch.zeros(_LONGEST)
    if not workers.rank:
        letters[: len(text)] = torch.tensor(list(text), dtype=torch.float32)
    workers.sum([letters])
    return bytes(letters[letters > 0].int().tolist()).decode()


def any_of(workers: Workers, asked: Callable[[], bool]) -> Callable[[], bool]:
    """Whether any worker is asked to stop, so that all stop at the same step."""
    if workers.size == 1:
        return asked

    def ask() -> bool:
        flag = torch.tensor([float(asked())])
        workers.sum([flag])
        return bool(flag)

    return ask
