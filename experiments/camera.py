"""Frames of N-MNIST for the studies: simulated from all of MNIST, and the real recordings, made once, kept in bits.

`BREGMA_DATA=data python experiments/camera.py --cache FOLDER` makes the file; the studies make it when it is not there.

The small setting: the 310 ms of a recording become T 30 frames, the 34 x 34 pixels of each polarity 17 x 17 by "any
event in a square of four", so that a frame has 2 x 17 x 17 = 578 zeros and ones. A recording is kept in 2,168 bytes.
"""

import argparse
import io
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bregma.data import BinRecordings, bin_events, default_root, read_idx, simulate
from bregma.data.nmnist import SIDE, WINDOW_US
from bregma.files import write_bytes

STEPS, POOLED = 30, SIDE // 2
FRAME = (2, POOLED, POOLED)
PIXELS = 2 * POOLED * POOLED
CHUNK = 500


@dataclass(frozen=True)
class Recordings:
    """Recordings as bits: row b of `bits` holds steps x size of them, step by step."""

    bits: NDArray[np.uint8]
    labels: Tensor
    steps: int = STEPS
    size: int = PIXELS

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, rows: NDArray[np.int64]) -> "Recordings":
        """Some of the recordings."""
        return replace(self, bits=self.bits[rows], labels=self.labels[torch.from_numpy(rows)])

    def frames(self, rows: NDArray[np.int64] | slice) -> Tensor:
        """Float32 frames (T, B, size)."""
        unpacked = np.unpackbits(self.bits[rows], axis=1, count=self.steps * self.size)
        return torch.from_numpy(unpacked).view(-1, self.steps, self.size).transpose(0, 1).to(torch.float32)


class Camera(NamedTuple):
    """The parts. Real recording number b of the training part is that of MNIST's training image b, b < 1,000."""

    train: Recordings  # 60,000, simulated
    test: Recordings  # 10,000, simulated
    real_train: Recordings  # 1,000
    real_test: Recordings  # 100


def pooled(units: NDArray[np.integer]) -> NDArray[np.int64]:
    """Units (polarity * 34 + y) * 34 + x on the frame of 2 x 17 x 17."""
    polarity, y, x = np.unravel_index(units.astype(np.int64), (2, SIDE, SIDE))
    return np.ravel_multi_index((polarity, y // 2, x // 2), FRAME)


def packed(times: NDArray[np.integer], units: NDArray[np.integer], indptr: NDArray[np.int64]) -> NDArray[np.uint8]:
    frames = bin_events(
        times, pooled(units), PIXELS, steps=STEPS, window=WINDOW_US, indptr=indptr, binary=True
    )  # (T, B, 578)
    return np.packbits(frames.transpose(1, 0, 2).reshape(len(indptr) - 1, -1).astype(np.uint8), axis=1)


def simulated(
    root: Path, part: str, first_seed: int, count: int | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    images = read_idx(root / "mnist" / f"{part}-images-idx3-ubyte.gz")[:count]
    labels = read_idx(root / "mnist" / f"{part}-labels-idx1-ubyte.gz")[:count]
    chunks = []
    for start in range(0, len(images), CHUNK):
        events = simulate(images[start : start + CHUNK].astype(np.float32) / 255, first_seed=first_seed + start)
        chunks.append(packed(events.times, events.units, events.indptr))
    return np.concatenate(chunks), labels


def recorded(root: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The real recordings in the order of MNIST's images, which their names give."""
    recordings = BinRecordings(root / "nmnist_subset.zip", part)
    numbers = [int(Path(name).stem) for name in recordings._names]
    order = np.argsort(numbers)
    pieces = [recordings.read(int(row)) for row in order]
    indptr = np.cumsum([0, *(len(times) for times, _ in pieces)])
    bits = packed(np.concatenate([t for t, _ in pieces]), np.concatenate([u for _, u in pieces]), indptr)
    return bits, recordings.labels.numpy()[order]


def make(root: Path, path: Path) -> None:
    arrays = {}
    for name, (part, seed) in {"train": ("train", 0), "test": ("t10k", 60_000)}.items():
        begin = time.process_time()
        arrays[f"{name}_bits"], arrays[f"{name}_labels"] = simulated(root, part, seed)
        print(f"{name}: {len(arrays[f'{name}_bits'])} simulated in {time.process_time() - begin:.0f} CPU s", flush=True)
    for name in ("Train", "Test"):
        arrays[f"real_{name.lower()}_bits"], arrays[f"real_{name.lower()}_labels"] = recorded(root, name)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, buffer.getvalue())


def load_camera(cache: Path, root: Path | None = None) -> Camera:
    """The parts, from the cache or made and put there."""
    path = cache / "nmnist_578.npz"
    if not path.exists():
        make(root or default_root(), path)
    with np.load(path, allow_pickle=False) as arrays:
        parts = [
            Recordings(arrays[f"{name}_bits"], torch.from_numpy(arrays[f"{name}_labels"].astype(np.int64)))
            for name in Camera._fields
        ]
    return Camera(*parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="default: %(default)s")
    parser.add_argument("--data", type=Path, help="folder with MNIST and N-MNIST; default: as bregma.data.load")
    options = parser.parse_args()
    for name, part in load_camera(options.cache, options.data)._asdict().items():
        density = part.frames(slice(0, 1000)).mean()
        print(f"{name}: {len(part)} recordings, {density:.1%} of the values are ones")


if __name__ == "__main__":
    main()
