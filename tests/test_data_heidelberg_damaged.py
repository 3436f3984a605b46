"""Damaged files in the layout of SHD: one line that names the file, and nothing made that a file only claims."""

import gzip
import tracemalloc

import h5py
import numpy as np
import pytest
from heidelberg_files import TINY, ten, unpacked, write

from bregma.data import SpikeRecordings, load


def test_a_damaged_label_makes_no_billion_classes(tmp_path):
    with pytest.raises(ValueError, match=r"labels must be in \[0, 100000\), got 1000000000 at sample 1"):
        SpikeRecordings(ten(tmp_path / "a.h5", keys=None, labels=[0, 10**9] * 5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [0, 2] * 5}, r"labels must be in \[0, 2\), got 2 at sample 1"),
        ({"labels": [0, -1] * 5}, r"labels must be in \[0, 2\), got -1 at sample 1"),
        ({"labels": [0, 1]}, r"must be of one length, got \[10, 10\] and 2"),
        ({"labels": [], "times": [], "units": []}, "at least one sample, got none"),
        ({"dtypes": ("i4", "u2")}, "spikes/times must be lists of floating-point numbers, got int32"),
        ({"dtypes": ("f2", "f4")}, "spikes/units must be lists of integers, got float32"),
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path, changes, message):
    path = ten(tmp_path / "a.h5", **changes)
    with pytest.raises(ValueError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("labels", 3),
        ("labels", [[0], [1]] * 5),
        ("labels", h5py.Empty("i4")),
        ("spikes/times", 0.5),
        ("spikes/units", h5py.Empty("u2")),
        ("extra/keys", "ab"),  # two classes "a" and "b", if read letter by letter
        ("extra/keys", [["a"], ["b"]]),
        ("extra/keys", None),  # a folder
    ],
)
def test_what_is_no_list_is_named(tmp_path, name, data):
    with h5py.File(ten(tmp_path / "a.h5"), "a") as file:
        del file[name]
        if data is None:
            file.create_group(name)
        else:
            file.create_dataset(name, data=data)
    with pytest.raises(ValueError, match=rf"a\.h5: {name} must be a list, got (none|shape)"):
        load(tmp_path / "a.h5")


def test_labels_must_be_integers(tmp_path):
    with pytest.raises(TypeError, match=r"a.h5: labels must be integers, got float64"):
        load(ten(tmp_path / "a.h5", labels=[0.0, 1.0] * 5))


@pytest.mark.parametrize(
    ("times", "units", "message"),
    [
        ([0.1, np.nan], [0, 1], "recording 0: times must be finite, got nan"),
        ([0.1, np.inf], [0, 1], "recording 0: times must be finite, got inf"),
        ([0.1, 0.2], [0, 700], r"recording 0: units must be in \[0, 700\), got 700"),
        ([0.1, 0.2], [0], "recording 0: times and units must be of one length"),
    ],
)
def test_damaged_recordings_are_named(tmp_path, times, units, message):
    data = SpikeRecordings(ten(tmp_path / "a.h5", times=[times] * 10, units=[units] * 10))
    with pytest.raises(ValueError, match=message):
        data[0]


def test_a_file_without_spikes_is_named(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["labels"] = [0, 1]
    with pytest.raises(ValueError, match=r"a.h5: not in the layout of SHD: it has no data set 'spikes/times'"):
        load(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["labels"] = file["spikes/times"] = file["spikes/units"] = np.zeros((3, 2))
    with pytest.raises(ValueError, match=r"b.h5: spikes/times must be a list, got shape \(3, 2\)"):
        load(tmp_path / "b.h5")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cut.h5", unpacked()[:20_000]),
        ("empty.h5", b""),
        ("text.h5", b"not this"),
        ("cut.h5.gz", TINY.read_bytes()[:20_000]),
        ("cut2.h5.gz", TINY.read_bytes()[:12]),
        ("plain.h5.gz", gzip.compress(unpacked()[:20_000])),
        ("empty.h5.zip", b""),
    ],
)
def test_damaged_files_are_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"truncated|damaged") as caught:
        load(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damage_behind_the_header_is_named(tmp_path):
    data = bytearray(unpacked())
    data[3_000:] = bytes(len(data) - 3_000)
    (tmp_path / "a.h5").write_bytes(data)
    with pytest.raises(ValueError, match=r"a.h5: "):
        SpikeRecordings(tmp_path / "a.h5").__getitems__(list(range(10)))


@pytest.mark.parametrize("name", ["labels", "extra/keys"])
def test_a_list_that_only_says_it_is_long_is_not_made(tmp_path, name):
    path = ten(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        names = [name] if name == "extra/keys" else ["labels", "spikes/times", "spikes/units"]
        for one in names:  # all of one length, without a single value
            dtype = file[one].dtype
            del file[one]
            file.create_dataset(one, (10**8,), dtype=dtype, chunks=(1000,))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"a.h5: .* must fit into the file of \d+ bytes, got a list of 100000000"):
            SpikeRecordings(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


def test_names_that_are_no_text_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"a.h5: damaged HDF5 file \('utf-8' codec can't decode"):
        load(ten(tmp_path / "a.h5", keys=(b"\xff\xfe", b"b")))


@pytest.mark.parametrize(("at", "value"), [(1515, 2), (1913, 171), (96_317, 195)])
def test_damage_that_h5py_calls_by_other_names_is_named(tmp_path, at, value):
    data = bytearray(unpacked())
    data[at] = value  # of a folder's heap, a type of numbers, and a folder's table
    (tmp_path / "a.h5").write_bytes(data)
    with pytest.raises(ValueError, match=r"a.h5: damaged HDF5 file"):
        SpikeRecordings(tmp_path / "a.h5")


def test_a_file_that_shrinks_later_is_named(tmp_path):
    data = SpikeRecordings(ten(tmp_path / "a.h5"))
    (tmp_path / "a.h5").unlink()
    write(tmp_path / "a.h5", [[0.1]] * 2, [[1]] * 2, [0, 1])
    with pytest.raises(ValueError, match=r"a.h5: damaged HDF5 file"):
        data[7]
