"""Training by the clock: contestants take turns on one core, and each is measured after the same CPU seconds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import process_time
from typing import Any

import numpy as np
import torch
from camera import FRAME, Recordings
from contestants import Contestant
from numpy.typing import NDArray
from torch import Tensor

from bregma.data import shift_frames

EVALUATION_BATCH = 500


class Batches:
    """Endless random batches of recordings, each epoch in a new order; with `shift`, moved by up to as many pixels."""

    def __init__(self, data: Recordings, size: int, seed: int, shift: int = 0) -> None:
        self.data, self.size, self.shift = data, min(size, len(data)), shift
        self.generator = np.random.default_rng(seed)
        self.order: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def __next__(self) -> tuple[Tensor, Tensor]:
        if len(self.order) < self.size:
            self.order = self.generator.permutation(len(self.data))
        rows, self.order = self.order[: self.size], self.order[self.size :]
        x = self.data.frames(rows)
        if self.shift:
            moves = self.generator.integers(-self.shift, self.shift + 1, (len(rows), 2))
            frames = x.view(len(x), len(rows), *FRAME)
            x = shift_frames(frames, torch.from_numpy(moves)).flatten(2)
        return x, self.data.labels[torch.from_numpy(rows)]


@dataclass
class Runner:
    """A contestant with its batches and its clock."""

    contestant: Contestant
    batches: Batches
    budget: float
    seconds: float = 0.0
    steps: int = 0
    curve: list[dict[str, Any]] = field(default_factory=list)

    def run_until(self, seconds: float) -> None:
        """Train until the clock shows so many CPU seconds."""
        while self.seconds < seconds:
            begin = process_time()
            x, labels = next(self.batches)
            self.contestant.step(x, labels, min(self.seconds / self.budget, 1.0))
            self.seconds += process_time() - begin
            self.steps += 1


def accuracy(contestant: Contestant, part: Recordings) -> float:
    """Share of recordings whose largest score is their class's."""
    right = 0
    for start in range(0, len(part), EVALUATION_BATCH):
        rows = slice(start, start + EVALUATION_BATCH)
        right += int((contestant.scores(part.frames(rows)).argmax(1) == part.labels[rows]).sum())
    return right / len(part)


def race(
    runners: Mapping[str, Runner], marks: Sequence[float], parts: Mapping[str, Recordings], turn: float = 5.0
) -> None:
    """Let the runners take turns and measure each at the marks (CPU seconds); the measuring is not on the clock."""
    for mark in marks:
        now = min(runner.seconds for runner in runners.values())
        while now < mark:
            now = min(now + turn, mark)
            for runner in runners.values():
                runner.run_until(now)
        for name, runner in runners.items():
            begin = process_time()
            measured = {key: round(accuracy(runner.contestant, part), 5) for key, part in parts.items()}
            point = {"seconds": round(runner.seconds, 2), "steps": runner.steps, **measured}
            runner.curve.append(point)
            print(f"{name} {point} (measured in {process_time() - begin:.1f} s)", flush=True)
