"""The tasks of `sparsity.py`: their data, some of it simulated or split by voices, and networks, some with delays."""

import gzip
import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import bregma
from bregma import dynamics
from bregma.data import FrameDataset, bin_events, default_root, load, read_idx, simulate, stratified_cut
from bregma.data.heidelberg import SpikeRecordings
from bregma.data.spike_file import SpikeFile
from bregma.nn import DelayedRecurrentLIF, SpikingMLP

DELAY_RATE = 5e-2  # of all methods alike, as published for DelRec; it follows the schedule of the others
SIDE, WINDOW_US = 34, 310_000

#: Data set, samples for training, validation and test, epochs, batch and network. `row`: an image row per step of 28.
#: `speech`: synthetic spoken digits in the layout of SHD, German and English, 100 steps, other voices in the test part.
#: `permuted`: the pixels of MNIST in a fixed shuffled order, 8 per step of 98; the recurrent connections have learned
#: delays, rounded before accuracy is measured. `nmnist-sim`: MNIST before the simulated camera of N-MNIST, 30 steps of
#: 2 x 17 x 17 pooled pixels, a network without recurrence.
TASKS: dict[str, dict[str, Any]] = {
    "row": {
        "data": "mnist",
        "sizes": (5000, 3000, 5000),
        "epochs": 10,
        "batch": 125,
        "network": {"hidden": [128], "recurrent": True, "gain": 3.0},
    },
    "speech": {
        "data": "shd_synth_train.h5.gz",
        "sizes": (1296, 144, 360),
        "epochs": 20,
        "batch": 60,
        "network": {"hidden": [128], "recurrent": True, "gain": 1.0, "decay": 0.95},
    },
    "permuted": {
        "data": "psmnist",
        "steps": 98,
        "sizes": (2000, 1000, 2000),
        "epochs": 10,
        "batch": 50,
        "network": {"hidden": [64], "gain": 3.0, "decay": 0.95, "max_delay": 30},
    },
    "nmnist-sim": {
        "data": "nmnist-sim",
        "steps": 30,
        "pool": 2,
        "sizes": (2000, 1000, 2000),
        "epochs": 10,
        "batch": 50,
        "network": {"hidden": [128], "gain": 3.0},
    },
}
#: `voices`: the same recordings, but the voices change sides: with seed s every fifth of the 30 voices, from the s-th
#: on, is in the test part and the fifth after it in the validation part, so that no voice is on two sides.
TASKS["voices"] = {**TASKS["speech"], "data": "shd_synth", "sizes": (1080, 360, 360)}
#: `permuted-long`: twice the epochs of `permuted`.
TASKS["permuted-long"] = {**TASKS["permuted"], "epochs": 20}
#: `permuted-wide`: twice the neurons, 18,688 weights instead of 5,248.
TASKS["permuted-wide"] = {**TASKS["permuted"], "network": {**TASKS["permuted"]["network"], "hidden": [128]}}


def samples(dataset: FrameDataset, count: int) -> tuple[Tensor, Tensor]:
    """Frames (T, N, ...) and labels of the first samples of a stratified, fixed order."""
    rows = range(len(dataset))
    if count < len(dataset):
        _, rows = stratified_cut(dataset.labels.numpy(), count / len(dataset), seed=0)
    return dataset.__getitems__(list(rows))


def parts(task: str, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Training, validation and test part of a task; the seed matters for `voices` alone."""
    name, steps = TASKS[task]["data"], TASKS[task].get("steps")
    if task == "voices":
        return voices([default_root() / f"{name}_{part}.h5.gz" for part in ("train", "test")], seed)
    if name == "nmnist-sim":
        return nmnist_parts(TASKS[task]["sizes"], steps, TASKS[task]["pool"])
    splits = load(default_root() / name if name.endswith(".gz") else name, steps=steps, seed=0)
    three = (splits.train, splits.validation, splits.test)
    return [samples(part, count) for part, count in zip(three, TASKS[task]["sizes"], strict=True)]


def voices(paths: list[Path], seed: int) -> list[tuple[Tensor, Tensor]]:
    """The recordings of all files by voice: three fifths for training, a fifth for validation, a fifth for the test."""
    files = [SpikeFile(path) for path in paths]
    readers = [
        SpikeRecordings(file, classes=files[0].classes, steps=100, window=1.4, channels=140, binary=False)
        for file in files
    ]
    speakers = []
    for path in paths:
        with h5py.File(io.BytesIO(gzip.open(path).read())) as file:
            speakers.append(torch.from_numpy(file["extra/speaker"][()].astype(np.int64)))
    both = [reader.__getitems__(list(range(len(reader)))) for reader in readers]
    x, labels = torch.cat([a for a, _ in both], 1), torch.cat([b for _, b in both])
    fold = (torch.cat(speakers) - seed) % 5
    sides = [fold >= 2, fold == 1, fold == 0]
    return [(x[:, side], labels[side]) for side in sides]


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
