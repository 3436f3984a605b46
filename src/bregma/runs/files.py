"""Writing files so that an interruption, or a full disk, leaves the last good one in place."""

import errno
import os
import tempfile
from pathlib import Path

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_bytes(path: Path, content: bytes) -> None:
    """Make a new file beside ``path`` and put it in place in one step.

    Args:
        path: the file to make or replace; its folder exists.
        content: all of it. (Libraries that write to a path themselves hide the system's error when the disk is full.)

    Raises:
        OSError: what the file system said, with ``path`` named; the old file is as it was.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o644)
        part.replace(path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _NO_SPACE:
            raise OSError(f"{path}: no space left on the disk; what was written before is kept") from error
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step; see `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))
