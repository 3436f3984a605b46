"""Workers that share the samples, Eq. (10) of arXiv 2505.05527: each keeps its own, and only sums travel."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

_SHARED = "weights."  # prefix of the variables that all workers have alike


class Workers(Protocol):
    """A group of workers that all do the same at the same time, each with samples of its own."""

    rank: int
    size: int

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all workers, in place; all of them in one message."""

    def gather(self, tensor: Tensor) -> Tensor:
        """Values of the own samples (T, B, n) joined with those of the others on the first worker; elsewhere as is."""


class Alone:
    """One worker with all samples."""

    rank = 0
    size = 1

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Nothing to do."""

    def gather(self, tensor: Tensor) -> Tensor:
        """Nothing to do."""
        return tensor


ALONE: Workers = Alone()


class ProcessGroup:
    """The processes of `torch.distributed`, which must be initialised.

    The result is the same on every worker to the last bit, so all of them go on with the same weights.

    Args:
        device: of the buffer that is sent; what the backend needs.

    Attributes:
        sent: bytes that this worker has handed over for summation.

    Raises:
        RuntimeError: `torch.distributed` is not initialised.
        ConnectionError: when others are needed, one has ended, or did not come within the timeout of the group.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        if not dist.is_initialized():
            raise RuntimeError("torch.distributed must be initialised first; torchrun and init_process_group do")
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.sent = 0
        self._device = device

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Sum in float64, in one flat buffer."""
        flat = torch.cat([tensor.detach().reshape(-1).double() for tensor in tensors]).to(self._device)
        with self._others():
            dist.all_reduce(flat)
        self.sent += flat.numel() * flat.element_size()
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view(tensor.shape))

    def gather(self, tensor: Tensor) -> Tensor:
        """Tensors may differ in the number of samples."""
        counts = torch.zeros(self.size, dtype=torch.float64)
        counts[self.rank] = tensor.shape[1]
        self.sum([counts])
        with self._others():
            if self.rank:
                if tensor.numel():
                    dist.send(tensor.contiguous().to(self._device), 0)
                return tensor
            parts = [tensor]
            for rank in range(1, self.size):
                part = tensor.new_empty(len(tensor), int(counts[rank]), tensor.shape[2]).to(self._device)
                if part.numel():
                    dist.recv(part, rank)
                parts.append(part.to(tensor.device))
            return torch.cat(parts, 1)

    @contextmanager
    def _others(self) -> Iterator[None]:
        """Say who noticed when another one is gone."""
        try:
            yield
        except RuntimeError as error:
            raise ConnectionError(
                f"worker {self.rank} of {self.size} lost another one: {_first_line(error)}"
            ) from error


def whereabouts(workers: Workers, mine: int) -> tuple[int, int]:
    """The first of this worker's samples in the order of ranks, and how many there are in all.

    Example:
        >>> whereabouts(Alone(), 5)
        (0, 5)
    """
    counts = torch.zeros(workers.size, dtype=torch.float64)
    counts[workers.rank] = mine
    workers.sum([counts])
    return int(counts[: workers.rank].sum()), int(counts.sum())


def total(workers: Workers, values: Sequence[float]) -> list[float]:
    """Sums of numbers over all workers.

    Example:
        >>> total(Alone(), [1.5, 2])
        [1.5, 2.0]
    """
    numbers = torch.tensor(values, dtype=torch.float64)
    workers.sum([numbers])
    found: list[float] = numbers.tolist()
    return found


def gathered(workers: Workers, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Variables by name, with the samples of all on the first worker; weights are the same on all."""
    return {name: t if name.startswith(_SHARED) else workers.gather(t) for name, t in tensors.items()}


def own_part(state: dict[str, Tensor], like: dict[str, Tensor], own: slice, samples: int) -> dict[str, Tensor]:
    """The inverse of `gathered`: of a state of all samples what one worker holds.

    Args:
        state: variables by name, and perhaps more.
        like: the worker's own variables, for names, shapes and dtypes.
        own: its samples among all.
        samples: how many there are in all.

    Raises:
        ValueError: the state is of another network or of other data.
    """
    part = {}
    for name, tensor in like.items():
        shared = name.startswith(_SHARED)
        wanted = tuple(tensor.shape) if shared else (len(tensor), samples, tensor.shape[2])
        if name not in state or state[name].shape != wanted or state[name].dtype != tensor.dtype:
            raise ValueError(f"state: {name} must be {tensor.dtype} of shape {wanted}")
        part[name] = state[name] if shared else state[name][:, own]
    return part


def shard(samples: int, rank: int, size: int) -> range:
    """The samples of one worker: contiguous, in the order of ranks, none or one more than another has.

    Example:
        >>> [list(shard(5, rank, 3)) for rank in range(3)]
        [[0, 1], [2, 3], [4]]
    """
    least, more = divmod(samples, size)
    first = rank * least + min(rank, more)
    return range(first, first + least + (rank < more))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
