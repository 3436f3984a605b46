"""Run a kernel over ranges of rows on as many threads as torch uses.

The kernels release the interpreter lock, so plain threads do. Their results do not depend on how rows are cut. The pool
is small, made at first use, and made anew in a child process, where the threads of the parent do not exist.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import torch

_pool: tuple[ThreadPoolExecutor, int, int] | None = None


def over_rows(work: Callable[[int, int], object], rows: int, least: int = 1) -> None:
    """Call ``work(first, last)`` on ranges that cover ``rows``, each of at least ``least`` rows."""
    n_parts = max(1, min(torch.get_num_threads(), rows // least))
    if n_parts == 1:
        work(0, rows)
        return
    edges = [rows * part // n_parts for part in range(n_parts + 1)]
    futures = [_executor().submit(work, *edge) for edge in pairwise(edges[1:])]
    work(edges[0], edges[1])
    for future in futures:
        future.result()


def _executor() -> ThreadPoolExecutor:
    global _pool
    wanted = (os.getpid(), torch.get_num_threads())
    if _pool is None or _pool[1:] != wanted:
        _pool = (ThreadPoolExecutor(wanted[1] - 1, thread_name_prefix="bregma"), *wanted)
    return _pool[0]
