"""Writing files so that an interruption, or a full disk, leaves the last good one in place; one writer at a time.

And reading weights and checkpoints so that nothing in them is run or believed.
"""

import contextlib
import errno
import os
import secrets
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Make a new file beside ``path`` and put it in place in one step.

    Two writers of one path do not disturb each other: the file is that of the one who ends last.

    Args:
        path: the file to make or replace; its folder exists. Of a symbolic link, the file that it leads to.
        content: all of it. (Libraries that write to a path themselves hide the system's error when the disk is full.)

    Raises:
        OSError: what the file system said, with ``path`` named; the old file is as it was.
    """
    with naming(path):
        _replace(Path(os.path.realpath(path)), content)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let errors of the file system in the body name ``path``, which those of a full disk do not, in plain words."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise OSError(f"{path}: no space left on the disk; what was written before is kept") from error
        if error.errno is None or isinstance(error, ConnectionError):
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error  # not the temporary file's name


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step; see `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes that ask for it out as long as the body runs; the system lets go of it if this one dies.

    Nothing is kept out where the system or the file system knows no such locks.

    Args:
        path: an existing file, which nobody replaces; its folder is what is kept for oneself.

    Raises:
        BlockingIOError: another process has it.
        OSError: the file cannot be opened for writing.
    """
    if fcntl is None:
        yield
        return
    with path.open("r+b") as file:  # network file systems lock only what can be written to
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(f"{path.parent} is in use by another process; wait until it has ended") from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
        yield


def read_checkpoint(path: Path) -> Any:
    """What ``torch.save`` wrote to a file: tensors and plain values, nothing that could run code.

    Every byte is compared with its checksum, which torch does not do: a weight that changed on the disk would be taken
    for one that was trained. A packed file is refused, as torch would unpack it to whatever size; it writes none.

    Raises:
        ValueError: there is no such file, or it is damaged.
    """
    import torch  # not for `bregma --help`

    try:
        with zipfile.ZipFile(path) as archive:
            packed = [entry.filename for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]
            if packed or archive.testzip() is not None:
                raise zipfile.BadZipFile(f"{packed} packed, or wrong checksum")
        return torch.load(path, weights_only=True)
    except Exception as error:  # torch raises RuntimeError, EOFError, UnpicklingError ... on a broken file
        raise ValueError(f"{path}: not a readable checkpoint ({type(error).__name__})") from error


def read_tensors(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tensors of a safetensors file, and the texts in its header.

    Copies: what safetensors gives lies in the file, and would change with it.

    Raises:
        OSError: the file cannot be read; safetensors would call it missing.
        ValueError: it is no such file, or damaged.
    """
    import safetensors

    with path.open("rb"):
        pass
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  (not a dict)
            return tensors, file.metadata() or {}
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: not a readable safetensors file ({error})") from error


def _replace(path: Path, content: bytes | memoryview) -> None:
    part = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    try:
        with part.open("xb") as file:  # with the permissions of any new file, which tempfile would not give it
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
