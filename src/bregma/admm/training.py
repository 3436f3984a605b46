"""The consistent solver on a set of samples: which of them an iteration sees, and the network as it is measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bregma.admm.consistent import ConsistentADMM

#: Gives data (T, B, n_0), coded labels (B, classes) and weights (B,) or None of samples at positions (B,).
Fetch = Callable[[Tensor], tuple[Tensor, Tensor, Tensor | None]]

_READOUT_SAMPLES = 10_000  # that the readout is fitted to before the network is measured
_AT_A_TIME = 500  # of them, or as many as a mini-batch has: measuring takes no more memory than training


class ConsistentTraining:
    """Iterations on mini-batches in a new random order per epoch, or full-batch descent.

    Hidden weights move on mini-batches, whose running statistics lag behind; so `weights` holds a readout fitted anew
    to hidden layers as they are, on at most 10,000 of the samples. Training itself goes on with the running one:
    measuring does not change it.

    Args:
        solver: before its first iteration, or loaded.
        fetch: see `Fetch`.
        samples: how many there are.
        batch: samples of an iteration; full-batch descent if there are no more samples than that.
        seed: of the order of samples.

    Example:
        >>> x = (torch.rand(12, 60, 10, generator=torch.Generator().manual_seed(0)) < 0.2).float()
        >>> y = torch.eye(2)[torch.arange(60) % 2]
        >>> solver, fetch = ConsistentADMM((16,), 10, 2), lambda at: (x[:, at], y[at], None)
        >>> training = ConsistentTraining(solver, fetch, samples=60, batch=20)
        >>> for _ in range(3):
        ...     training.step()
        >>> training.iteration, [tuple(weight.shape) for weight in training.weights]
        (3, [(16, 10), (2, 16)])
    """

    def __init__(self, solver: ConsistentADMM, fetch: Fetch, samples: int, *, batch: int, seed: int = 0) -> None:
        self.solver, self._fetch, self._samples, self._batch = solver, fetch, samples, batch
        self._generator = torch.Generator().manual_seed(seed)
        self._order, self._at = torch.empty(0, dtype=torch.int64), 0
        self._all: tuple[Tensor, Tensor, Tensor | None] | None = None
        self._readout: tuple[int, Tensor, float] | None = None
        self.full = batch >= samples
        self._chosen = torch.randperm(samples, generator=self._generator)[:_READOUT_SAMPLES].sort().values

    @property
    def iteration(self) -> int:
        """How many iterations were done."""
        return self.solver.iteration

    @property
    def weights(self) -> list[Tensor]:
        """W of each layer, the readout's last and fitted to the others as they are now."""
        return self.solver.weights if self.full else [*self.solver.weights[:-1], self._refreshed()[0]]

    def step(self) -> None:
        """One iteration."""
        if self.full:
            if self._all is None:
                x, y, weight = self._fetch(torch.arange(self._samples))
                self._all = self.solver.begin(x), y, weight
            self.solver.descend(*self._all)
        else:
            self.solver.step(*self._fetch(self._next()))

    def measure(self) -> dict[str, Any]:
        """The ``loss`` of a sample and the ``step`` that comes next.

        In full-batch descent the loss is that of `ConsistentADMM.descend`; on mini-batches that of the samples which
        the readout of `weights` is fitted to.
        """
        return self.solver.measure() if self.full else {"loss": self._refreshed()[1], **self.solver.measure()}

    def scores(self, x: Tensor) -> Tensor:
        """The readout of the true network (B, classes)."""
        return self.solver.scores(x, self.weights, min(_AT_A_TIME, self._batch))

    def _refreshed(self) -> tuple[Tensor, float]:
        """The readout fitted to the hidden layers as they are now, and its loss."""
        if self._readout is None or self._readout[0] != self.iteration:
            parts = map(self._fetch, self._chosen.split(min(_AT_A_TIME, self._batch)))
            self._readout = self.iteration, *self.solver.refreshed(parts)
        return self._readout[1:]

    def _next(self) -> Tensor:
        """Positions of the next mini-batch; the rest of an epoch that does not fill one is left out."""
        if self._at + self._batch > len(self._order):
            self._order, self._at = torch.randperm(self._samples, generator=self._generator), 0
        self._at += self._batch
        return self._order[self._at - self._batch : self._at]

    def state_dict(self) -> dict[str, Any]:
        """All that a run needs to go on bit by bit, copied."""
        return {
            "solver": self.solver.state_dict(),
            "generator": self._generator.get_state(),
            "order": self._order.clone(),
            "at": self._at,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of a training of the same network on the same samples.

        Raises:
            ValueError: the state is of another network.
        """
        self.solver.load_state_dict(state["solver"])
        self._generator.set_state(state["generator"])
        self._order, self._at = state["order"].clone(), int(state["at"])
        self._readout = None
