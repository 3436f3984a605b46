"""Two tasks of `sparsity.py` that need more than a data set's name: delays to learn, and recordings to simulate."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import bregma
from bregma import dynamics
from bregma.data import bin_events, default_root, read_idx, simulate, stratified_cut
from bregma.nn import DelayedRecurrentLIF, SpikingMLP

DELAY_RATE = 5e-2  # of all methods alike, as published for DelRec; it follows the schedule of the others
SIDE, WINDOW_US = 34, 310_000


def nmnist_parts(sizes: tuple[int, int, int], steps: int, pool: int) -> list[tuple[Tensor, Tensor]]:
    """Images of MNIST before the simulated camera of N-MNIST: binary frames (T, N, 2 * 17 * 17) for ``pool`` 2.

    The images of training and validation are disjoint parts of MNIST's training images, the same for every run.
    """
    train, test = _images("train"), _images("t10k")
    rest, validation = stratified_cut(train[1], sizes[1] / len(train[1]), seed=0)
    _, training = stratified_cut(train[1][rest], sizes[0] / len(rest), seed=0)
    _, testing = stratified_cut(test[1], sizes[2] / len(test[1]), seed=0)
    chosen = [(train, rest[training], 0), (train, validation, 0), (test, testing, len(train[1]))]
    return [(_recorded(part[0][rows], rows + first, steps, pool), _long(part[1][rows])) for part, rows, first in chosen]


def _images(part: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    folder = default_root() / "mnist"
    images = read_idx(folder / f"{part}-images-idx3-ubyte.gz").astype(np.float32) / 255
    return images, read_idx(folder / f"{part}-labels-idx1-ubyte.gz").astype(np.int64)


def _recorded(images: NDArray[np.float32], seeds: NDArray[np.int64], steps: int, pool: int) -> Tensor:
    """Frames as bytes; ``pool`` x ``pool`` pixels of one polarity become one channel."""
    side, frames = -(-SIDE // pool), []
    for image, seed in zip(images, seeds, strict=True):
        events = simulate(image[None], first_seed=int(seed))
        polarity, pixel = np.divmod(events.units, SIDE * SIDE)
        units = (polarity * side + pixel // SIDE // pool) * side + pixel % SIDE // pool
        frames.append(bin_events(events.times, units, 2 * side**2, steps=steps, window=WINDOW_US, binary=True))
    return torch.from_numpy(np.stack(frames, axis=1))


def _long(labels: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(labels)


class Network:
    """The network of a task, what its optimizer moves, and what its delays need while it trains.

    Args:
        inputs: values per frame.
        classes: number of classes.
        max_delay: longest delay of the recurrent connections in steps; None for none.
        options: of `SpikingMLP`.
    """

    def __init__(self, inputs: int, classes: int, *, max_delay: int | None = None, **options: Any) -> None:
        self.net = SpikingMLP(inputs, classes=classes, **options)
        self.layers: list[DelayedRecurrentLIF] = []
        if max_delay is not None:
            for layer in self.net.hidden:
                layer.neurons = DelayedRecurrentLIF(layer.linear.out_features, options["decay"], max_delay=max_delay)
                self.layers.append(layer.neurons)

    def groups(self) -> list[dict[str, Any]]:
        """Weights, the rest, and delays with a learning rate of their own."""
        delays = [layer.delays for layer in self.layers]
        groups = bregma.param_groups(self.net)
        if delays:
            taken = {id(p) for p in delays}
            groups[-1]["params"] = [p for p in groups[-1]["params"] if id(p) not in taken]
            groups.append({"params": delays, "lr": DELAY_RATE, "penalty": "none", "lam": 0.0})
        return groups

    def start_epoch(self, progress: float) -> None:
        """Narrow the spread of the delays as the training goes on."""
        for layer in self.layers:
            layer.set_spread(dynamics.spread_at(progress))

    def stepped(self) -> None:
        """Bring the delays back into their range after a step of the optimizer."""
        for layer in self.layers:
            layer.clamp_delays_()

    def finish(self) -> None:
        """Whole delays, as hardware has them."""
        for layer in self.layers:
            layer.round_delays_()
