"""Small files in the layout of SHD for tests."""

import gzip

import h5py
import numpy as np
from shared_data import FIXTURES

TINY = FIXTURES / "spoken_tiny_train.h5.gz"


def unpacked(path=TINY) -> bytes:
    return gzip.decompress(path.read_bytes())


def write(path, times, units, labels, keys=("a", "b"), dtypes=("f2", "u2")):
    """A file in this layout."""
    with h5py.File(path, "w") as file:
        for name, rows, dtype in (("times", times, dtypes[0]), ("units", units, dtypes[1])):
            data = file.create_dataset(f"spikes/{name}", (len(rows),), dtype=h5py.vlen_dtype(np.dtype(dtype)))
            for row, values in enumerate(rows):
                data[row] = np.asarray(values, dtype=dtype)
        file["labels"] = np.asarray(labels)
        if keys is not None:
            file["extra/keys"] = np.array(keys, dtype="S")
    return path


def ten(path, **changes):
    fields = {"times": [[0.1, 0.2]] * 10, "units": [[0, 699]] * 10, "labels": np.array([0, 1] * 5, dtype="u2")}
    return write(path, **(fields | changes))
