"""N-MNIST: MNIST's images before a moving event camera, from the official `.bin` files.

Orchard, Jayawant, Cohen, Thakor 2015, Frontiers in Neuroscience 9:437. An event has 5 bytes: x, y, then 24 bits (big
endian), of which the first is the polarity and 23 the time in microseconds. An event at y = 240 is none: it says that
the time of what follows is 2**13 microseconds later.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bregma.data.dataset import VALIDATION_SHARE, Splits, split_off
from bregma.data.events import EventFrames, Recording
from bregma.data.files import (
    AGAIN,
    DAMAGED,
    brief,
    find_file,
    open_zip,
    read_member,
    read_plain,
    safe_members,
    same_process,
)

CLASSES = tuple("0123456789")
SIDE = 34

#: Microseconds that the frames divide: the three saccades. The few events later than that are dropped.
WINDOW_US = 310_000
STEPS = 31

_MOST_BYTES = 1 << 24  # of a recording, 3.4 million events; real ones have some thousands
_OVERFLOW_Y = 240
_OVERFLOW_US = 2**13
_MEMBER = re.compile(r"(?:^|/)(?:(Train|Test)/)?(\d)/[^/.][^/]*\.bin$")


def decode_bin(data: bytes, where: str = "data") -> tuple[NDArray[np.int32], NDArray[np.int16]]:
    """Decode the events of one `.bin` recording.

    Args:
        data: The file's content.
        where: What the message calls it.

    Returns:
        Times in microseconds, int32, shape (E,), and units `(polarity * 34 + y) * 34 + x`, int16, shape (E,). Polarity
        1 (the file's bit) means that a pixel became darker, where MNIST's strokes are white on black.

    Raises:
        ValueError: If the length is no multiple of 5, or a pixel lies outside 34 x 34.

    Example:
        >>> times, units = decode_bin(bytes([10, 20, 128, 1, 4]))
        >>> times.tolist(), units.tolist() == [(34 + 20) * 34 + 10]
        ([260], True)
    """
    if len(data) % 5:
        raise ValueError(f"{where}: truncated N-MNIST file ({len(data)} bytes, no multiple of 5); {AGAIN}")
    columns = np.frombuffer(data, dtype=np.uint8).reshape(-1, 5).astype(np.int32)
    x, y, high, middle, low = columns.T
    times = ((high & 127) << 16) | (middle << 8) | low
    overflow = y == _OVERFLOW_Y
    later = times + _OVERFLOW_US * np.cumsum(overflow, dtype=np.int64)
    times = np.minimum(later, np.iinfo(np.int32).max).astype(np.int32)  # half an hour, long past every frame
    times, x, y, polarity = times[~overflow], x[~overflow], y[~overflow], high[~overflow] >> 7
    outside = np.flatnonzero((x >= SIDE) | (y >= SIDE))
    if len(outside):
        bad = outside[0]
        raise ValueError(f"{where}: x and y must be in [0, {SIDE}), got ({x[bad]}, {y[bad]}) at event {bad}")
    return times, ((polarity * SIDE + y) * SIDE + x).astype(np.int16)


class BinRecordings(EventFrames):
    """The recordings of one part of N-MNIST, in a folder or a zip archive, as frames of 2 x 34 x 34.

    Args:
        source: A folder that holds `0/*.bin` ... `9/*.bin`, or a zip archive that holds them.
        part: "Train" or "Test": where an archive holds both, the one to take.
        steps: Number of frames T of 310 ms together, >= 1.
        binary: Frames of zeros and ones instead of counts.

    Raises:
        ValueError: If the archive is damaged or holds a path outside its folder, or no recording is found; when a
            recording is read, also if it holds more than 16 MiB.
        OSError: If a folder in it cannot be read.
    """

    def __init__(self, source: Path, part: str, steps: int = STEPS, binary: bool = True) -> None:
        self.source = Path(source)
        names = _members(self.source)
        found = [(name, match) for name in names if (match := _MEMBER.search(name)) and match[1] in (part, None)]
        if not found:
            raise ValueError(f"{source}: no recording <digit>/*.bin found for part {part}")
        self._names = sorted(name for name, _ in found)
        labels = [int(name.split("/")[-2]) for name in self._names]
        super().__init__(
            labels=labels,
            classes=CLASSES,
            frame_shape=(2, SIDE, SIDE),
            steps=steps,
            window=WINDOW_US,
            binary=binary,
        )
        self._archive: zipfile.ZipFile | None = None
        self._pid: int | None = None

    def read(self, row: int) -> Recording:
        """Times in microseconds and units of recording `row`."""
        name = self._names[row]
        where = f"{self.source}: {name}"
        if self.source.is_dir():
            return decode_bin(read_plain(self.source / name, _MOST_BYTES), where)
        if self._archive is None or not same_process(self._pid):
            self._archive, self._pid = open_zip(self.source), os.getpid()
        try:
            return decode_bin(read_member(self._archive, name, _MOST_BYTES, where), where)
        except DAMAGED as error:
            raise ValueError(f"{where}: damaged zip archive ({brief(error)}); {AGAIN}") from None

    def __getstate__(self) -> dict[str, Any]:
        """State without the open archive."""
        return {**super().__getstate__(), "_archive": None, "_pid": None}


def _members(source: Path) -> list[str]:
    """Names of the files below a folder or in an archive, with forward slashes."""
    if source.is_dir():
        return [path.relative_to(source).as_posix() for path in _files(source) if path.suffix == ".bin"]
    with open_zip(source) as archive:
        return safe_members(archive, source)


def _files(folder: Path) -> Iterator[Path]:
    """The files below a folder. `Path.glob` would leave out what it cannot read, and folders behind symbolic links."""

    def refuse(error: OSError) -> None:
        raise error

    seen = set()
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        if os.path.realpath(place) in seen:  # a link to a folder that it lies in
            folders.clear()
            continue
        seen.add(os.path.realpath(place))
        yield from (Path(place, name) for name in names)


def load_nmnist(
    *,
    root: Path | None = None,
    path: Path | None = None,
    steps: int | None = None,
    seed: int = 0,
    binary: bool = True,
    validation: float = VALIDATION_SHARE,
) -> Splits:
    """N-MNIST in its official split; the validation part is cut from the training part by `seed`.

    Looked for in `root/nmnist` and in `root`: the folders `Train` and `Test`, the official `Train.zip` and `Test.zip`,
    or `nmnist_subset.zip` which holds some of both.

    Args:
        root: Data folder.
        path: Instead: a folder or zip archive that holds `Train` and `Test`, or a folder with the official archives.
        steps: Number of frames T, >= 1; default 31, of 10 ms each.
        seed: Seed of the cut between training and validation.
        validation: Share of every class of the training part that becomes the validation part.
        binary: Frames of zeros and ones; False counts the events.

    Raises:
        FileNotFoundError: If no recordings are found; the message says what to put where.
        ValueError: If an archive is damaged or has no folders Train and Test, or `steps` < 1.
    """
    steps = STEPS if steps is None else steps
    sources = {part: _source(part, root, path) for part in ("Train", "Test")}
    train = BinRecordings(sources["Train"], "Train", steps, binary)
    test = BinRecordings(sources["Test"], "Test", steps, binary)
    if train.source == test.source and not set(train._names).isdisjoint(test._names):
        raise ValueError(f"{train.source}: recordings must lie in folders Train and Test, got no such folders")
    rest, held_out = split_off(train, validation, seed, "validation", train.source)
    return Splits(
        train=rest,
        validation=held_out,
        test=test,
        name="nmnist",
        title=f"N-MNIST, {len(train):,} training and {len(test):,} test recordings",
        synthetic=False,
    )


def _source(part: str, root: Path | None, path: Path | None) -> Path:
    names = [f"{part}.zip", part, "nmnist_subset.zip"]
    if path is None:
        return find_file("nmnist", names, root)
    if path.is_dir():
        for name in (part, f"{part}.zip"):
            if (path / name).exists():
                return path / name
        raise FileNotFoundError(f"{path}: neither {part} nor {part}.zip found in it")
    return path
