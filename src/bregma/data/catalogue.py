"""The data sets by name or by path: `load` is the door to this room."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from pathlib import Path

from bregma.data.dataset import VALIDATION_SHARE, Splits
from bregma.data.digits import load_digit_events
from bregma.data.files import AGAIN, brief, open_zip, safe_members
from bregma.data.heidelberg import SUFFIXES, load_heidelberg
from bregma.data.mnist import load_mnist
from bregma.data.nmnist import load_nmnist
from bregma.data.sources import DATASETS, DatasetInfo

__all__ = ["DATASETS", "DatasetInfo", "load", "recognise"]

_HDF5 = b"\x89HDF\r\n\x1a\n"


def load(
    name_or_path: str | Path,
    *,
    root: Path | str | None = None,
    steps: int | None = None,
    seed: int = 0,
    binary: bool | None = None,
    channels: int | None = None,
    window: float | None = None,
    legacy_float16: bool = False,
    validation: float = VALIDATION_SHARE,
) -> Splits:
    """Load a data set by name, or files by path, in three parts.

    A path may be a file in the HDF5 layout of SHD (`.h5`, `.h5.gz`, `.h5.zip`; a sibling named `*_test*` is found by
    itself), a folder with such files, a folder or zip archive with the `.bin` recordings of N-MNIST, or a folder with
    MNIST's idx files. It is recognised by content.

    Args:
        name_or_path: A name of `DATASETS`, or a path. A string that is a name wins over a file of that name: write
            "./digits" or Path("digits").
        root: Folder of the data files of the named sets; the environment variable BREGMA_DATA by default, or else
            ~/.cache/bregma.
        steps: Number of frames T of a sample, >= 1. Default: digits 20, mnist 28, psmnist 784, nmnist 31, shd and ssc
            100.
        seed: Seed of the cut between training and validation, where there is no official one. The test part does not
            depend on it.
        binary: Frames of zeros and ones rather than counts. Default: yes for digits and nmnist, no for shd and ssc.
            Not for mnist and psmnist.
        channels: shd and ssc only: number of channels after summing neighbours, a divisor of 700; default 140.
        window: shd and ssc only: seconds that the frames divide; default 1.4.
        legacy_float16: shd and ssc only: see `bregma.data.bin_events`.
        validation: Share of every class of the training part, in (0, 1), that becomes the validation part where there
            is no official one.

    Returns:
        Training, validation and test part.

    Raises:
        FileNotFoundError: If files are missing; the message says what to put where.
        ValueError: If the name is unknown, a file is damaged, or an argument is out of range or does not apply.

    Example:
        >>> splits = load("digits", steps=10)
        >>> frames, label = splits.test[0]
        >>> frames.shape
        torch.Size([10, 2, 20, 20])
    """
    folder = None if root is None else Path(root).expanduser()
    if steps is not None and steps < 1:
        raise ValueError(f"steps must be >= 1, got {steps}")
    if not 0 < validation < 1:
        raise ValueError(f"validation must be in (0, 1), got {validation}")
    named = isinstance(name_or_path, str) and name_or_path in DATASETS
    kind, path = (str(name_or_path), None) if named else recognise(name_or_path)
    spikes = kind in ("shd", "ssc", "heidelberg")
    for name, given in (("channels", channels), ("window", window), ("legacy_float16", legacy_float16 or None)):
        if given is not None and not spikes:
            raise ValueError(f"{name} applies to shd, ssc and files in their layout, got it for {kind}")
    if binary is not None and kind in ("mnist", "psmnist"):
        raise ValueError(f"binary does not apply to {kind}: its frames are grey values")
    if kind == "digits":
        return load_digit_events(steps=steps, seed=seed, binary=binary is not False, validation=validation)
    if kind in ("mnist", "psmnist"):
        return load_mnist(
            root=folder,
            path=path,
            steps=steps,
            seed=seed,
            permuted=kind == "psmnist",
            validation=validation,
        )
    if kind == "nmnist":
        return load_nmnist(
            root=folder, path=path, steps=steps, seed=seed, binary=binary is not False, validation=validation
        )
    return load_heidelberg(
        kind if path is None else path,
        root=folder,
        steps=steps,
        seed=seed,
        binary=bool(binary),
        channels=channels,
        window=window,
        legacy_float16=legacy_float16,
        validation=validation,
    )


def recognise(name_or_path: str | Path) -> tuple[str, Path]:
    """What a path holds, told by its content: ("heidelberg" | "nmnist" | "mnist", path).

    Raises:
        FileNotFoundError: If there is neither a data set nor a file or folder of that name.
        ValueError: If it holds nothing that bregma reads.
    """
    path = Path(name_or_path).expanduser()
    if name_or_path == "" or not (path.is_file() or path.is_dir()):  # a pipe would be waited for
        names = ", ".join(DATASETS)
        raise FileNotFoundError(f"data must be one of {names} or an existing path, got {str(name_or_path)!r}")
    kind = _folder_kind(path) if path.is_dir() else _file_kind(path)
    if kind is None:
        raise ValueError(
            f"{path}: not recognised: neither HDF5 in the layout of SHD, nor N-MNIST recordings (.bin), nor a folder "
            "with MNIST's idx files"
        )
    return kind, path


def _folder_kind(path: Path) -> str | None:
    names = [entry.name for entry in path.iterdir()]
    if any(name.endswith(SUFFIXES) for name in names):
        return "heidelberg"
    if {"Train", "Train.zip"} & set(names):
        return "nmnist"
    if any("idx3-ubyte" in name for name in names):
        return "mnist"
    return None


def _file_kind(path: Path) -> str | None:
    with open(path, "rb") as file:
        magic = file.read(8)
    if magic[:2] == b"\x1f\x8b":
        try:
            with gzip.open(path, "rb") as packed:
                magic = packed.read(8)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path}: truncated or damaged archive ({brief(error)}); {AGAIN}") from None
    if magic == _HDF5:
        return "heidelberg"
    if magic[:4] == b"PK\x03\x04" or zipfile.is_zipfile(path):
        with open_zip(path) as archive:
            names = safe_members(archive, path)
        if any(name.endswith(".bin") for name in names):
            return "nmnist"
        if any(name.endswith(".h5") for name in names):
            return "heidelberg"
    # A truncated HDF5 file has its magic; any other name.h5 goes to the reader too, which says what is wrong with it.
    return "heidelberg" if path.name.endswith(SUFFIXES) else None
