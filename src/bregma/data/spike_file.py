"""One HDF5 file in the layout of the Spiking Heidelberg data sets, checked and read recording by recording."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from bregma.data.checks import check_labels
from bregma.data.events import Recording
from bregma.data.files import AGAIN, brief, is_packed, read_packed, same_process

CHANNELS = 700

#: A file without names of classes has one for each number up to its highest label; a damaged label must not make 2**60.
MOST_CLASSES = 100_000

#: Nor may a list say that it is larger than this many times the file: recordings of any length take more room in it.
MOST_PACKED = 16


class SpikeFile:
    """One HDF5 file in this layout, opened anew in each process that reads from it.

    Args:
        path: The file, plain or packed.

    Attributes:
        labels: Class index of each recording, int64, shape (N,).
        classes: Names of the classes: `extra/keys` where the file has it, numbers up to the highest label otherwise.
        named: Whether the file has names of classes.
        synthetic: Whether the file's attribute `source` calls it synthetic.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, not in this layout, empty, or a label is out of range.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._content: bytes | None = None
        self._file: h5py.File | None = None
        self._pid: int | None = None
        file = self._open()
        heads = {name: self._read(_head, file, name) for name in ("spikes/times", "spikes/units", "labels")}
        for name, head in heads.items():
            if head is None:
                raise ValueError(f"{path}: not in the layout of SHD: it has no data set {name!r}")
            self._require_list(name, head)
        lengths = [head.shape[0] for head in heads.values()]
        if len(set(lengths)) > 1:
            *spikes, labels = lengths
            raise ValueError(f"{path}: times, units and labels must be of one length, got {spikes} and {labels}")
        for name, kind in (("spikes/times", "f"), ("spikes/units", "iu")):
            element = h5py.check_vlen_dtype(heads[name].dtype)
            if element is None or np.dtype(element).kind not in kind:
                raise ValueError(f"{path}: {name} must be lists of {_KINDS[kind]}, got {element or heads[name].dtype}")
        labels = self._read(lambda: file["labels"][()])
        self.named = self._read(lambda: "extra/keys" in file)
        if self.named:
            self._require_list("extra/keys", self._read(_head, file, "extra/keys"))
            self.classes = self._read(lambda: tuple(map(_text, file["extra/keys"][()])))
        else:
            highest = int(check_labels(labels, MOST_CLASSES, f"{path}: labels").max())
            self.classes = tuple(map(str, range(1 + highest)))
        self.synthetic = "synthetic" in self._read(lambda: str(file.attrs.get("source", "")))
        self.labels = check_labels(labels, len(self.classes), f"{path}: labels")
        # Workers are forked after this: with no handle open, HDF5 has nothing to share between them.
        file.close()
        self._file = None

    def read(self, row: int) -> Recording:
        """Times in seconds, in the file's dtype, and units in [0, 700), uint16, of recording `row`."""
        file = self._open()
        times = self._read(lambda: np.asarray(file["spikes/times"][row]))
        units = self._read(lambda: np.asarray(file["spikes/units"][row]))
        where = f"{self.path}: recording {row}"
        if times.shape != units.shape or times.ndim != 1:
            raise ValueError(f"{where}: times and units must be of one length, got {times.shape} and {units.shape}")
        if not np.isfinite(times).all():
            raise ValueError(f"{where}: times must be finite, got {times[~np.isfinite(times)][0]}")
        if len(units) and not (units.min() >= 0 and units.max() < CHANNELS):
            bad = units[(units < 0) | (units >= CHANNELS)][0]
            raise ValueError(f"{where}: units must be in [0, {CHANNELS}), got {bad}")
        return times, units.astype(np.uint16)

    def _open(self) -> h5py.File:
        """This process's handle. Handles do not survive a fork, the content of a packed file does."""
        if self._file is not None and same_process(self._pid):
            return self._file
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path}: no such file")
        if self._content is None and is_packed(self.path):
            self._content = read_packed(self.path, suffix=".h5")
        try:
            source = self.path if self._content is None else io.BytesIO(self._content)
            self._file = h5py.File(source, "r")
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{self.path}: truncated or no HDF5 file ({brief(error)}); {AGAIN}") from None
        self._pid = os.getpid()
        return self._file

    def _read(self, get: Callable[..., Any], *arguments: Any) -> Any:
        """What `get` gives; whatever h5py says of a damaged file, with the file named."""
        try:
            return get(*arguments)
        except (OSError, RuntimeError, ValueError, TypeError, LookupError, MemoryError) as error:
            raise ValueError(f"{self.path}: damaged HDF5 file ({brief(error)}); {AGAIN}") from None

    def _require_list(self, name: str, head: _Head | None) -> None:
        """Raise unless this is a data set of one axis; a single name would be read as one class per letter.

        One that says that it is far larger than the file is refused too, before there is memory for it.
        """
        shape = None if head is None else head.shape
        if head is None or shape is None or len(shape) != 1:
            got = "none" if shape is None else f"shape {shape}"
            raise ValueError(f"{self.path}: {name} must be a list, got {got}")
        size = self.path.stat().st_size if self._content is None else len(self._content)
        if shape[0] * head.dtype.itemsize > MOST_PACKED * size:
            raise ValueError(f"{self.path}: {name} must fit into the file of {size} bytes, got a list of {shape[0]}")

    def __getstate__(self) -> dict[str, Any]:
        """State without content and handle: a worker opens the file for itself."""
        return {**self.__dict__, "_content": None, "_file": None, "_pid": None}


class _Head(NamedTuple):
    """What a file says of a data set; one without values has no shape."""

    shape: Any
    dtype: np.dtype[Any]


def _head(file: h5py.File, name: str) -> _Head | None:
    """None if there is no data set of that name: nothing, or a folder."""
    found = file.get(name)
    return _Head(found.shape, found.dtype) if isinstance(found, h5py.Dataset) else None


def _text(key: Any) -> str:
    return key.decode("utf-8") if isinstance(key, bytes) else str(key)


_KINDS = {"f": "floating-point numbers", "iu": "integers"}
