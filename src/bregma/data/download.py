"""Fetching data files: mirrors in turn, interrupted downloads resumed, digests checked, nothing half written."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bregma.data.files import find_file, open_zip, read_packed, safe_members
from bregma.data.sources import DATASETS, DataFile, DatasetInfo, default_root
from bregma.files import locked, naming, write_text

#: Called with the file's name, the bytes so far, and the bytes in all (None where the server does not say).
Progress = Callable[[str, int, "int | None"], None]

_ATTEMPTS = 3
_PIECE = 1 << 18


class FileState(NamedTuple):
    """What `verify` found out about one file.

    Attributes:
        name: The official file.
        path: Where it, or what is inside of it, was found; None if missing.
        state: "ok", "missing", "damaged", or "unchecked": it is there, but no digest of this form is known.
    """

    name: str
    path: Path | None
    state: str


def fetch(
    name: str, root: Path | str | None = None, *, progress: Progress | None = None, timeout: float = 30.0
) -> list[Path]:
    """Download the files of a data set into `root/<its folder>`, those that are not there yet.

    Each file is written beside its place as `<name>.part`, continued from there after an interruption, checked by its
    official md5, and renamed at last. Archives of HDF5 files are unpacked, so that they can be read without loading
    them whole.

    Args:
        name: A name of `DATASETS`.
        root: Data folder; BREGMA_DATA or ~/.cache/bregma by default.
        progress: Called during the download.
        timeout: Seconds without an answer after which an address is given up.

    Returns:
        Where the files are now; empty for a data set that comes with a dependency.

    Raises:
        ValueError: If the name is unknown, or a file is not what its digest says at any address.
        ConnectionError: If no address answers; the message says what to put where instead.
        BlockingIOError: If another process is fetching the same file.
        OSError: If the disk has too little space.

    Example:
        >>> fetch("digits")
        []
    """
    info = _info(name)
    folder = _root(root) / info.folder
    paths = []
    for file, state in zip(info.files, verify(name, root), strict=True):
        if state.path is not None and state.state in ("ok", "unchecked"):
            paths.append(state.path)
        else:
            paths.append(fetch_file(file, folder, progress=progress, timeout=timeout))
    return paths


def verify(name: str, root: Path | str | None = None) -> list[FileState]:
    """Look for the files of a data set and check their digests.

    Args:
        name: A name of `DATASETS`.
        root: Data folder; BREGMA_DATA or ~/.cache/bregma by default.

    Returns:
        The state of each official file.

    Raises:
        ValueError: If the name is unknown.

    Example:
        >>> verify("digits")
        []
    """
    info = _info(name)
    return [_verify_file(info, file, _root(root)) for file in info.files]


def fetch_file(file: DataFile, folder: Path, *, progress: Progress | None = None, timeout: float = 30.0) -> Path:
    """Download one file into a folder; see `fetch`."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{file.name}.part"
    part.touch()
    with locked(part):  # two that go on with one file would write its pieces twice
        try:
            return _fetch(file, folder, part, progress, timeout)
        finally:
            if part.exists() and part.stat().st_size == 0:
                part.unlink()


def _fetch(file: DataFile, folder: Path, part: Path, progress: Progress | None, timeout: float) -> Path:
    """`fetch_file`, once the unfinished file is ours."""
    failures: list[str] = []
    damaged = False
    for url in file.urls:
        for _ in range(_ATTEMPTS):
            resumed = part.stat().st_size > 0
            try:
                _download(url, part, file, progress, timeout)
            except urllib.error.URLError as error:
                failures.append(f"{url}: {_reason(error)}")
                break  # refused or not found: on to the next address
            except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
                failures.append(f"{url}: {_reason(error)}")
                continue  # broken off: the same address again, from where it stopped
            if _md5(part) == file.md5:
                return _finish(file, folder, part)
            os.truncate(part, 0)
            damaged = True
            failures.append(f"{url}: md5 is not {file.md5}")
            if not resumed:
                break  # a whole file, and not the official one; a resumed one may have begun with something else
    tried = "; ".join(dict.fromkeys(failures))
    if damaged:
        raise ValueError(f"{file.name}: no address had the official file ({tried})")
    raise ConnectionError(
        f"{file.name}: could not be downloaded ({tried}); without a connection put the file into {folder} "
        "(the argument root or BREGMA_DATA names the folder above)"
    )


def _info(name: str) -> DatasetInfo:
    if name not in DATASETS:
        raise ValueError(f"name must be one of {', '.join(DATASETS)}, got {name!r}")
    return DATASETS[name]


def _root(root: Path | str | None) -> Path:
    return default_root() if root is None else Path(root).expanduser()


def _download(url: str, part: Path, file: DataFile, progress: Progress | None, timeout: float) -> None:
    """Continue `part` from `url` to its end.

    Raises:
        ConnectionError: If the connection ends early; what came is kept.
    """
    have = part.stat().st_size
    headers = {"User-Agent": "bregma"} | ({"Range": f"bytes={have}-"} if have else {})
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if have and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is left to come: the digest decides
        raise
    with response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            have = 0  # the server sends the whole file
        length = response.headers.get("Content-Length")
        total = file.size if length is None else have + int(length)
        if total is not None:
            _check_space(part, total - have, file.name)
        with naming(part), open(part, "ab" if have else "wb") as out:
            while piece := response.read(_PIECE):
                out.write(piece)
                have += len(piece)
                if progress is not None:
                    progress(file.name, have, total)
    if total is not None and have < total:
        raise ConnectionError(f"connection closed after {have} of {total} bytes")


def _check_space(part: Path, needed: int, name: str) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise OSError(f"{part.parent}: disk too full for {name}: {needed:,} bytes needed, {free:,} free")


def _finish(file: DataFile, folder: Path, part: Path) -> Path:
    """Move a checked download to its place, or unpack it there."""
    if file.unpacked is None:
        os.replace(part, folder / file.name)
        return folder / file.name
    place, unfinished = folder / file.unpacked, folder / f"{file.unpacked}.part"
    with open_zip(part) as archive:
        names = [name for name in safe_members(archive, part) if Path(name).name == file.unpacked]
        if len(names) != 1:
            raise ValueError(f"{file.name}: archive must hold {file.unpacked} once, got {len(names)}")
        _check_space(part, archive.getinfo(names[0]).file_size, file.unpacked)
        with naming(unfinished), archive.open(names[0]) as source, open(unfinished, "wb") as out:
            shutil.copyfileobj(source, out, _PIECE)
    # The digest of the unpacked file, in md5sum's format: `verify` compares with it.
    write_text(folder / f"{file.unpacked}.md5", f"{_md5(unfinished)}  {file.unpacked}\n")
    os.replace(unfinished, place)
    part.unlink()
    return place


def locate(name: str, root: Path | str | None = None) -> list[Path | None]:
    """Where each official file of a data set is, packed or unpacked, without reading it; None where it is missing.

    Example:
        >>> locate("digits")
        []
    """
    info = _info(name)
    return [_find(info, file, _root(root)) for file in info.files]


def _find(info: DatasetInfo, file: DataFile, root: Path) -> Path | None:
    # In the order in which the readers look: what was unpacked before the archive.
    names = [*([file.unpacked] if file.unpacked else []), file.name, file.name.removesuffix(".gz").removesuffix(".zip")]
    try:
        return find_file(info.folder, names, root)
    except FileNotFoundError:
        return None


def _verify_file(info: DatasetInfo, file: DataFile, root: Path) -> FileState:
    path = _find(info, file, root)
    if path is None:
        return FileState(file.name, None, "missing")
    if path.is_dir():  # an archive of recordings, unpacked
        found = any(path.glob("**/*.bin"))
        return FileState(file.name, path if found else None, "unchecked" if found else "missing")
    if path.name == file.name and _md5(path) == file.md5:
        return FileState(file.name, path, "ok")
    if file.unpacked_md5 is not None and file.unpacked is None:
        # Packed anew: another archive of the same content.
        try:
            same = hashlib.md5(read_packed(path), usedforsecurity=False).hexdigest() == file.unpacked_md5
        except ValueError:
            same = False
        return FileState(file.name, path, "ok" if same else "damaged")
    if path.name == file.unpacked:
        note = path.with_name(f"{path.name}.md5")
        if not note.exists():
            return FileState(file.name, path, "unchecked")
        return FileState(file.name, path, "ok" if note.read_bytes().split()[:1] == [_md5(path).encode()] else "damaged")
    return FileState(file.name, path, "damaged")


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "reason", None) or error).split())
