"""Spike recordings in the HDF5 layout of the Spiking Heidelberg data sets (SHD, SSC).

Cramer, Stradmann, Schemmel, Zenke 2020, IEEE TNNLS 33:2744. A file holds `spikes/times` (seconds, often float16),
`spikes/units` (channels 0 to 699), `labels`, and `extra/keys` (names of the classes). It is read as `.h5`, `.h5.gz`
or `.h5.zip`; a `.h5` file is never read whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bregma.data.dataset import (
    TEST_SEED,
    TEST_SHARE,
    VALIDATION_SHARE,
    FrameDataset,
    Splits,
    split_off,
)
from bregma.data.events import EventFrames
from bregma.data.files import find_file
from bregma.data.spike_file import CHANNELS, SpikeFile

#: Seconds that the frames divide: the longest recording of the official files. Later spikes are dropped.
WINDOW_S = 1.4
STEPS = 100

SUFFIXES = (".h5", ".h5.zip", ".h5.gz")


class SpikeRecordings(EventFrames):
    """The recordings of one file as frames: spike counts per step and channel.

    Args:
        file: The file, or its path.
        classes: Names of the classes; those of the file if None.
        steps: Number of frames T, >= 1.
        window: Seconds that the frames divide, > 0; later spikes are dropped.
        channels: Number of channels, a divisor of 700: so many neighbours are summed as 700 has to be divided by.
        binary: Frames of zeros and ones instead of counts.
        legacy_float16: See `bregma.data.bin_events`.

    Raises:
        ValueError: If an argument is out of range or the file is damaged.
    """

    def __init__(
        self,
        file: SpikeFile | Path,
        *,
        classes: Sequence[str] | None = None,
        steps: int = STEPS,
        window: float = WINDOW_S,
        channels: int = 140,
        binary: bool = False,
        legacy_float16: bool = False,
    ) -> None:
        if channels < 1 or CHANNELS % channels:
            raise ValueError(f"channels must be a divisor of {CHANNELS}, got {channels}")
        if not window > 0:
            raise ValueError(f"window must be > 0, got {window}")
        self.file = file if isinstance(file, SpikeFile) else SpikeFile(file)
        super().__init__(
            labels=self.file.labels,
            classes=self.file.classes if classes is None else classes,
            frame_shape=(channels,),
            steps=steps,
            window=window,
            binary=binary,
            legacy_float16=legacy_float16,
        )
        self._summed = CHANNELS // channels

    def read(self, row: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Times in seconds and summed channels of recording `row`."""
        times, units = self.file.read(row)
        return times, (units // self._summed).astype(np.uint16)


def load_heidelberg(
    name_or_path: str | Path,
    *,
    root: Path | None = None,
    steps: int | None = None,
    seed: int = 0,
    binary: bool = False,
    channels: int | None = None,
    window: float | None = None,
    legacy_float16: bool = False,
    validation: float = VALIDATION_SHARE,
) -> Splits:
    """SHD, SSC, or files in their layout.

    The official parts are used where they exist. A missing validation part is cut from the training part
    by `seed`; a missing test part is a fifth of every class, cut before it by a fixed seed, and the title
    says so.

    Args:
        name_or_path: "shd", "ssc", a file, or a folder. By the file `x_train.h5`, its siblings `x_test.h5` and
            `x_valid.h5` are found, packed or not; by a folder, its one `*_train.h5`.
        root: Data folder of the named sets: looked for in `root/shd` (or `ssc`) and in `root`.
        steps: Number of frames T, >= 1; default 100.
        seed: Seed of the cut between training and validation.
        validation: Share of every class of the training part that becomes the validation part.
        binary: Frames of zeros and ones instead of counts.
        channels: Number of channels, a divisor of 700; default 140.
        window: Seconds that the frames divide; default 1.4.
        legacy_float16: See `bregma.data.bin_events`.

    Raises:
        FileNotFoundError: If a file is missing; the message says what to put where.
        ValueError: If a file is damaged, the files name their classes differently, or an argument is out of range.
    """
    named = isinstance(name_or_path, str) and name_or_path in ("shd", "ssc")
    paths = _named_parts(str(name_or_path), root) if named else _parts_by_path(Path(name_or_path))
    files = {part: SpikeFile(path) for part, path in paths.items()}
    window = WINDOW_S if window is None else window
    classes = _common_classes(list(files.values()))
    parts: dict[str, FrameDataset] = {
        part: SpikeRecordings(
            file,
            classes=classes,
            steps=STEPS if steps is None else steps,
            window=window,
            channels=140 if channels is None else channels,
            binary=binary,
            legacy_float16=legacy_float16,
        )
        for part, file in files.items()
    }
    _require_spikes(files["train"], window)
    counts = f"{len(parts['train']):,} recordings for training"
    if "test" in parts:
        counts += f" and {len(parts['test']):,} for test"
    else:
        parts["train"], parts["test"] = split_off(parts["train"], TEST_SHARE, TEST_SEED, "test", paths["train"])
        counts += f", of which {len(parts['test']):,} were cut for test (no test file)"
    if "validation" not in parts:
        parts["train"], parts["validation"] = split_off(parts["train"], validation, seed, "validation", paths["train"])
    stem = str(name_or_path) if named else _stem(paths["train"])
    return Splits(
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
        name=stem,
        title=f"{stem.upper() if named else stem}, {counts}",
        synthetic=any(file.synthetic for file in files.values()),
    )


def _common_classes(files: Sequence[SpikeFile]) -> tuple[str, ...]:
    """The longest of the files' lists of classes; a label must mean the same in each file that names them."""
    longest = max((file for file in files if file.named), key=lambda file: len(file.classes), default=files[0])
    for file in files:
        if file.named and file.classes != longest.classes[: len(file.classes)]:
            raise ValueError(f"{file.path}: extra/keys must name the classes in the order of {longest.path}")
    return max((longest.classes, *(file.classes for file in files)), key=len)


def _require_spikes(file: SpikeFile, window: float) -> None:
    """Refuse a file whose first recordings with spikes are all but empty inside the window, as milliseconds are."""
    recordings = (file.read(row)[0] for row in range(len(file.labels)))
    times = np.concatenate([np.empty(0), *islice((times for times in recordings if len(times)), 16)])
    inside = np.count_nonzero(times < window)
    if inside <= 0.01 * len(times):
        raise ValueError(
            f"{file.path}: {inside} of the {len(times)} spikes of its first recordings lie in the window of "
            f"{window:g} s; spikes/times must hold seconds"
        )


_PART = re.compile(r"^(?P<stem>.*?)_?(?P<part>train|valid|validation|test)(?P<suffix>\.h5(\.gz|\.zip)?)$")
_PART_NAMES = {"train": ("train",), "validation": ("valid", "validation"), "test": ("test",)}


def _stem(path: Path) -> str:
    """Name of a data set from its training file: `a/shd_synth_train.h5.gz` is `shd_synth`."""
    match = _PART.match(path.name)
    return (match["stem"] if match else path.name.split(".h5")[0]) or path.parent.name


def _named_parts(name: str, root: Path | None) -> dict[str, Path]:
    wanted = ("train", "test") if name == "shd" else ("train", "validation", "test")
    return {
        part: find_file(name, [f"{name}_{_PART_NAMES[part][0]}{suffix}" for suffix in SUFFIXES], root)
        for part in wanted
    }


def _parts_by_path(path: Path) -> dict[str, Path]:
    """The training file that a path means, and the parts beside it."""
    if path.is_dir():
        training = sorted(entry for entry in path.iterdir() if (m := _PART.match(entry.name)) and m["part"] == "train")
        stems = {_stem(entry) for entry in training}
        if len(stems) != 1:
            found = ", ".join(sorted(stems)) or "none"
            raise ValueError(f"{path}: folder must hold one *_train.h5 (.h5.gz, .h5.zip), got {found}; name the file")
        path = training[0]
    parts = {"train": path}
    match = _PART.match(path.name)
    if match is None or match["part"] != "train":
        return parts
    prefix = path.name[: match.start("part")]
    for part in ("validation", "test"):
        for name in _PART_NAMES[part]:
            for suffix in SUFFIXES:
                sibling = path.with_name(f"{prefix}{name}{suffix}")
                if part not in parts and sibling.exists():
                    parts[part] = sibling
    return parts
