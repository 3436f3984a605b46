"""Where the kernels' tensors live: blocks that are used again, and a look at what is left before taking more.

The system hands out large blocks page by page, and touching new pages costs as much as the computation. Blocks whose
tensor has died are therefore kept for the next tensor of that size, at most `RESERVE_BYTES` in all.
"""

import math
import os
import weakref
from collections import deque

import numpy as np
import torch
from torch import Tensor

RESERVE_BYTES = 1 << 30
_SMALL_BYTES = 1 << 18  # below, the allocator reuses memory by itself
_CHECKED_BYTES = 1 << 26  # below, asking the system what is free costs more than it can save

_reserve: deque[np.ndarray] = deque()


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A CPU tensor with arbitrary content, on a block that an earlier one has left if there is one of its size.

    Raises:
        MemoryError: more than the machine has left.
    """
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes < _SMALL_BYTES:
        return torch.empty(shape, dtype=dtype)
    block = _take(n_bytes)
    if block is None:
        require(n_bytes, f"a tensor {shape} of {dtype}")
        block = _aligned(n_bytes)
    lease = block[:]  # dies with the tensor, and gives the block back
    weakref.finalize(lease, _give_back, block).atexit = False
    return torch.from_numpy(lease).view(dtype).view(shape)


def release() -> None:
    """Return all blocks in reserve to the system."""
    _reserve.clear()


def require(
    n_bytes: int, purpose: str, instead: str = "use fewer samples or time steps per call, or bregma.nn.Recompute"
) -> None:
    """Raise unless the machine can provide ``n_bytes`` more.

    Raises:
        MemoryError: with what is needed, what there is, and what to do instead.
    """
    if n_bytes < _CHECKED_BYTES:
        return
    free = available_bytes()
    if n_bytes > free:
        release()
        free = available_bytes()
    if n_bytes > free:
        raise MemoryError(f"{purpose} needs {n_bytes / 1e9:.2f} GB, but {free / 1e9:.2f} GB are free; {instead}")


def available_bytes() -> int:
    """Memory the system says can be taken without swapping; no bound (`sys.maxsize` like) where it does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return min(int(line.split()[1]) * 1024, _group_bytes())
    except OSError:
        pass
    return 1 << 62


def _group_bytes() -> int:
    """What the control group of the process, a container for instance, has left."""
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as limit:
            allowed = limit.read().strip()
        with open("/sys/fs/cgroup/memory.current", encoding="ascii") as usage:
            used = int(usage.read())
        with open("/sys/fs/cgroup/memory.stat", encoding="ascii") as stat:
            cache = next(int(line.split()[1]) for line in stat if line.startswith("inactive_file "))
    except (OSError, StopIteration):
        return 1 << 62
    return 1 << 62 if allowed == "max" else int(allowed) - used + cache


def _aligned(n_bytes: int) -> np.ndarray:
    """A block that starts where a cache line does, so that no vector lies across two."""
    block = np.empty(n_bytes + 64, np.uint8)
    start = -block.ctypes.data % 64
    return block[start : start + n_bytes]


def _take(n_bytes: int) -> np.ndarray | None:
    for _ in range(len(_reserve)):
        try:
            block = _reserve.pop()  # the newest first: it may still be in the cache
        except IndexError:  # another thread was quicker
            return None
        if block.nbytes == n_bytes:
            return block
        _reserve.appendleft(block)
    return None


def _give_back(block: np.ndarray) -> None:
    _reserve.append(block)
    while sum(kept.nbytes for kept in tuple(_reserve)) > RESERVE_BYTES:
        _reserve.popleft()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=release)
