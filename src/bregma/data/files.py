"""Finding and opening data files: plain or packed, under the data root or where the user says."""

from __future__ import annotations

import gzip
import lzma
import os
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from bregma.data.sources import DATASETS, default_root

#: A packed file that would unpack to more than this is refused: unpack it on disk first.
MOST_UNPACKED = 4 * 1024**3

#: What gzip and zipfile raise when they read from a damaged archive; a flag turned over asks for a way of packing that
#: does not exist, or for a password.
DAMAGED = (EOFError, OSError, RuntimeError, lzma.LZMAError, zipfile.BadZipFile, zlib.error)


#: What to do about a damaged file, which need not be one that `fetch` brought.
AGAIN = "if it was downloaded, delete it and fetch it again"


def brief(error: Exception) -> str:
    """What an error says, in one line of at most 120 letters; zipfile quotes names of 65,535 letters.

    Example:
        >>> brief(OSError("bad magic number:   b'PK'"))
        "bad magic number: b'PK'"
    """
    return " ".join(str(error).split())[:120]


def find_file(dataset: str, names: Iterable[str], root: Path | None = None) -> Path:
    """The first of `names` that exists in `root/dataset` or in `root`.

    Args:
        dataset: Name of the data set, which is also its folder's.
        names: File or folder names, the preferred one first.
        root: Data folder; `default_root()` if None.

    Raises:
        FileNotFoundError: If none is there; the message says what to put where.
    """
    folder = default_root() if root is None else Path(root)
    wanted = list(names)
    for name in wanted:
        for place in (folder / dataset, folder):
            if (place / name).exists():
                return place / name
    raise FileNotFoundError(missing_message(dataset, wanted[0], folder))


def missing_message(dataset: str, name: str, root: Path) -> str:
    """One line: which file is missing, and the two ways to have it."""
    return (
        f"{dataset}: {name} not found; run `bregma data {dataset} --fetch`, or put it into {root / dataset} "
        f"(root or BREGMA_DATA names the folder {root}); official page: {DATASETS[dataset].url}"
    )


def safe_members(archive: zipfile.ZipFile, path: Path) -> list[str]:
    """Names of the files in a zip archive.

    Raises:
        ValueError: If one of them lies outside the archive's folder ("../x", "/x", "C:x").
    """
    names = [name for name in archive.namelist() if not name.endswith("/")]
    for name in names:
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or ":" in name:
            raise ValueError(f"{path}: zip archive holds a path outside its folder ({name!r}); do not use it")
    return names


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip archive, checked.

    Raises:
        ValueError: If it is truncated or no zip archive, or holds a path outside its folder.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise ValueError(f"{path}: truncated or damaged zip archive ({brief(error)}); {AGAIN}") from None
    safe_members(archive, path)
    return archive


def is_packed(path: Path) -> bool:
    """Whether a file is gzipped or a zip archive, told by its first bytes."""
    with open(path, "rb") as file:
        return file.read(4)[:2] in (b"\x1f\x8b", b"PK")


def read_packed(path: Path, suffix: str = "") -> bytes:
    """Content of a file, unpacked if it is gzipped or the one file (ending in `suffix`) in a zip archive.

    Whether it is packed is told by its first bytes, not its name.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, or holds or would unpack to more than 4 GiB.
    """
    with open(path, "rb") as file:
        magic = file.read(4)
    try:
        if magic[:2] == b"\x1f\x8b":
            return _gunzip(path)
        if magic == b"PK\x03\x04":
            return _unzip_one(path, suffix)
    except DAMAGED as error:
        raise ValueError(f"{path}: truncated or damaged archive ({brief(error)}); {AGAIN}") from None
    return read_plain(path, MOST_UNPACKED)


def read_plain(path: Path, most: int) -> bytes:
    """Content of a file; one of more than `most` bytes is refused: a file with holes may hold any number of them.

    Raises:
        ValueError: If it is larger.
    """
    if (size := path.stat().st_size) > most:
        raise ValueError(f"{path}: must hold at most {most} bytes, got {size}")
    return path.read_bytes()


def _gunzip(path: Path) -> bytes:
    pieces, total = [], 0
    with gzip.open(path, "rb") as file:
        while piece := file.read(1 << 20):
            pieces.append(piece)
            total += len(piece)
            if total > MOST_UNPACKED:
                raise ValueError(f"{path}: unpacks to more than {MOST_UNPACKED} bytes; unpack it with gunzip first")
    return b"".join(pieces)


def _unzip_one(path: Path, suffix: str) -> bytes:
    with open_zip(path) as archive:
        names = [name for name in safe_members(archive, path) if name.endswith(suffix)]
        if len(names) != 1:
            raise ValueError(f"{path}: zip archive must hold exactly one file *{suffix}, got {len(names)}")
        return read_member(archive, names[0], MOST_UNPACKED, f"{path}: {names[0]}")


def read_member(archive: zipfile.ZipFile, name: str, most: int, where: str) -> bytes:
    """Content of a file in a zip archive; one of more than `most` bytes is refused, whatever its header says.

    Raises:
        ValueError: If it is larger; the message calls it `where`.
        zipfile.BadZipFile: If its header says too little.
    """
    size = archive.getinfo(name).file_size
    if size > most:
        raise ValueError(
            f"{where}: unpacks to {size} bytes, more than {most}; unpack the archive first if that is right"
        )
    with archive.open(name) as file:
        return file.read(size + 1)  # without a bound all that there is would be unpacked before zipfile sees the lie


def same_process(pid: int | None) -> bool:
    """Whether a handle opened by process `pid` may be used here: a forked worker must open its own."""
    return pid == os.getpid()
