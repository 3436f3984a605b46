"""Writing files so that an interruption, or a full disk, leaves the last good one in place."""

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_atomic(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` make a new file beside ``path``, then put it in place in one step.

    Args:
        path: the file to make or replace; its folder exists.
        write: receives the path to write to.

    Raises:
        OSError: what the file system said, with ``path`` named; the old file is as it was.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        write(part)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.chmod(0o644)
        part.replace(path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if _is_full_disk(error):
            raise OSError(
                errno.ENOSPC, f"{path}: no space left on the disk; what was written before is kept"
            ) from error
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_atomic(path, lambda part: _write(part, text))


def _write(part: Path, text: str) -> None:
    part.write_text(text, encoding="utf-8")


def _is_full_disk(error: BaseException) -> bool:
    """Also true of torch's and safetensors' own exceptions, which carry the system's error only as text."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    text = str(error).lower()
    return "no space left" in text or ("os error 28" in text) or ("file write failed" in text)
