"""N-MNIST: real recordings in a folder and in archives, and archives that must be refused."""

import os
import shutil
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from shared_data import FIXTURES, shared

from bregma.data import BinRecordings, decode_bin, load, read_idx

NMNIST = FIXTURES / "nmnist"
REAL = sorted(NMNIST.glob("*/*/*.bin"))


def zipped(path, folder=NMNIST, prefix=""):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.glob("**/*.bin")):
            archive.write(file, prefix + file.relative_to(folder).as_posix())
    return path


def event(x: int, y: int, t: int, p: int = 0) -> bytes:
    return bytes([x, y]) + (p << 23 | t).to_bytes(3, "big")


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_a_recording_equals_tonic(path):
    io = pytest.importorskip("tonic.io", reason="tonic is an oracle, not a dependency", exc_type=ImportError)
    events = io.read_mnist_file(path, dtype=np.dtype([("x", int), ("y", int), ("t", int), ("p", int)]))
    times, units = decode_bin(path.read_bytes())
    np.testing.assert_array_equal(times, events["t"])
    np.testing.assert_array_equal(units, (events["p"] * 34 + events["y"]) * 34 + events["x"])


def test_the_bits_of_an_event():
    times, units = decode_bin(event(3, 5, 70_000, 1) + event(33, 33, 2**23 - 1, 0))
    assert times.tolist() == [70_000, 2**23 - 1]
    assert units.tolist() == [(34 + 5) * 34 + 3, 33 * 34 + 33]


def test_an_overflow_event_moves_what_follows():
    times, _ = decode_bin(event(1, 1, 10) + event(0, 240, 0) + event(1, 1, 10) + event(0, 240, 0) + event(1, 1, 5))
    assert times.tolist() == [10, 10 + 2**13, 5 + 2**14]


def test_a_time_past_all_frames_does_not_come_round_again():
    times, _ = decode_bin(event(0, 240, 0) * 2**19 + event(1, 1, 10))  # 2**32 microseconds
    assert times.tolist() == [2**31 - 1]


def test_an_empty_recording_is_silent():
    assert [len(part) for part in decode_bin(b"")] == [0, 0]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (event(1, 1, 1)[:-1], "x.bin: truncated N-MNIST file .4 bytes, no multiple of 5"),
        (event(1, 1, 1) + event(34, 1, 1), r"x.bin: x and y must be in \[0, 34\), got \(34, 1\) at event 1"),
        (event(1, 200, 1), r"got \(1, 200\) at event 0"),
    ],
)
def test_damaged_recordings_are_named(data, message):
    with pytest.raises(ValueError, match=message):
        decode_bin(data, "x.bin")


def test_folder_and_archives_are_one(tmp_path):
    tree = load(NMNIST)
    assert (len(tree.train), len(tree.validation), len(tree.test)) == (4, 1, 2)
    assert tree.test.frame_shape == (2, 34, 34)
    assert tree.test.steps == 31
    expected, labels = tree.test.__getitems__([0, 1])
    assert labels.tolist() == [0, 1]
    assert set(expected.unique().tolist()) == {0.0, 1.0}
    (tmp_path / "nmnist").mkdir()
    for part in ("Train", "Test"):
        zipped(tmp_path / "nmnist" / f"{part}.zip", NMNIST / part, f"{part}/")
    sources = [("nmnist", tmp_path), ("nmnist", FIXTURES), (tmp_path / "nmnist", None)]
    sources.append((zipped(tmp_path / "both.zip"), None))
    for name, root in sources:
        assert torch.equal(load(name, root=root).test.__getitems__([0, 1])[0], expected)


def test_counts_keep_every_event_within_the_saccades():
    data = BinRecordings(NMNIST / "Train", "Train", steps=10, binary=False)
    for row, path in enumerate(sorted((NMNIST / "Train").glob("*/*.bin"))):
        times, _ = decode_bin(path.read_bytes())
        assert data[row][0].sum() == (times < 310_000).sum()


def test_an_archive_with_a_path_outside_its_folder_is_refused(tmp_path):
    for name in ("../Train/0/evil.bin", "/Train/0/evil.bin", "Train/0/..\\..\\evil.bin", "C:/evil.bin"):
        path = zipped(tmp_path / "bad.zip")
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name, event(1, 1, 1))
        with pytest.raises(ValueError, match=r"bad.zip: zip archive holds a path outside its folder"):
            load(path)


def test_a_truncated_archive_is_named(tmp_path):
    path = zipped(tmp_path / "cut.zip")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"cut.zip: .*zip archive"):
        load(path)


def test_a_damaged_member_is_named(tmp_path):
    path = zipped(tmp_path / "nm.zip")
    data = bytearray(path.read_bytes())
    data[200:400] = bytes(200)  # within the first recording
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"nm.zip: Test/0/00056.bin: damaged zip archive"):
        load(path).test[0]


def test_a_member_that_cannot_be_unpacked_is_named(tmp_path):
    path = tmp_path / "nm.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in ("Train", "Test"):
            for file in sorted((NMNIST / part).rglob("*.bin")):
                archive.write(file, str(file.relative_to(NMNIST)))
    data = bytearray(path.read_bytes())
    data[60:90] = b"\xff" * 30  # within the packed bytes of the first recording
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"damaged zip archive .* delete it and fetch it again"):
        load(path).train[0]


@pytest.mark.parametrize(
    ("at", "value"),
    [(6, 99), (8, 1), (8, 32), (10, 99)],
    ids=["version", "password", "patched", "packing"],
)
def test_a_damaged_directory_is_named(tmp_path, at, value):
    path = zipped(tmp_path / "nm.zip")
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + at] = value  # in the directory's entry of the first recording
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"damaged zip archive .* delete it and fetch it again"):
        load(path).test[0]


def test_a_damaged_file_in_a_folder_is_named(tmp_path):
    shutil.copytree(NMNIST, tmp_path / "copy")
    victim = tmp_path / "copy" / "Test" / "0" / "00056.bin"
    victim.write_bytes(victim.read_bytes()[:-2])
    with pytest.raises(ValueError, match=r"00056.bin: truncated N-MNIST file"):
        load(tmp_path / "copy").test[0]


def test_what_an_archiver_left_behind_is_no_recording(tmp_path):
    path = zipped(tmp_path / "mac.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("__MACOSX/Train/0/._00233.bin", b"Mac OS X")
    assert len(BinRecordings(path, "Train")) == 5


def test_an_archive_without_the_two_parts_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"flat.zip: recordings must lie in folders Train and Test"):
        load(zipped(tmp_path / "flat.zip", NMNIST / "Train"))


def test_nothing_found_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"Train.zip not found; run `bregma data nmnist --fetch`, or put it into"
    ):
        load("nmnist", root=tmp_path)
    (tmp_path / "Train").mkdir()
    with pytest.raises(FileNotFoundError, match=r"neither Test nor Test.zip"):
        load(tmp_path)
    (tmp_path / "Test").mkdir()
    with pytest.raises(ValueError, match="no recording <digit>/"):
        load(tmp_path)


def test_the_real_subset_shows_mnist():
    """Each recording is one of MNIST's images: its event map follows the image's outline."""
    splits = load("nmnist", root=shared("nmnist_subset.zip").parent, binary=False, steps=1)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (900, 100, 100)
    data = BinRecordings(shared("nmnist_subset.zip"), "Test", steps=1, binary=False)
    images = read_idx(shared("mnist/t10k-images-idx3-ubyte.gz"))
    digits = read_idx(shared("mnist/t10k-labels-idx1-ubyte.gz"))
    similar = []
    for row in range(20):
        number = int(data._names[row].split("/")[-1].removesuffix(".bin")) - 1
        assert digits[number] == data.labels[row]
        image = np.pad(images[number] / 255.0, 3)
        outline = np.abs(np.diff(image, axis=0, append=0)) + np.abs(np.diff(image, axis=1, append=0))
        seen = data[row][0].sum((0, 1)).numpy()
        similar.append(np.corrcoef(seen.ravel(), outline.ravel())[0, 1])
    assert np.mean(similar) > 0.4


@pytest.mark.parametrize("lies", [False, True])
def test_a_recording_that_unpacks_to_too_much_is_refused(tmp_path, lies):
    path = zipped(tmp_path / "nm.zip", prefix="")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Test/9/bomb.bin", bytes(1 << 25))
    data = path.read_bytes()
    if lies:  # the directory at the end says that it is small
        data = data[:-3000] + data[-3000:].replace((1 << 25).to_bytes(4, "little"), (5000).to_bytes(4, "little"))
        path.write_bytes(data)
    recordings = BinRecordings(path, "Test")
    row = recordings._names.index("Test/9/bomb.bin")
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"Test/9/bomb.bin: (unpacks to|damaged)"):
            recordings.read(row)
        assert tracemalloc.get_traced_memory()[1] < 1 << 23
    finally:
        tracemalloc.stop()


def test_folders_behind_symbolic_links_are_read_and_those_that_lead_back_are_not(tmp_path):
    shutil.copytree(NMNIST, tmp_path / "copy")
    digit = next(path for path in sorted((tmp_path / "copy" / "Train").iterdir()) if path.is_dir())
    digit.rename(tmp_path / "elsewhere")
    digit.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "copy" / "Train")
    linked, plain = BinRecordings(tmp_path / "copy" / "Train", "Train"), BinRecordings(NMNIST / "Train", "Train")
    assert linked._names == plain._names


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs permissions of files")
def test_a_folder_that_cannot_be_read_is_named_not_left_out(tmp_path, monkeypatch):
    shutil.copytree(NMNIST, tmp_path / "copy")
    locked, scan = tmp_path / "copy" / "Train" / "0", os.scandir

    def refuse(path):  # what the system does, but not for root
        if Path(path) == locked:
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(PermissionError) as caught:
        load(tmp_path / "copy")
    assert caught.value.filename == str(locked)


def test_a_recording_with_a_hole_is_not_read_whole(tmp_path):
    shutil.copytree(NMNIST, tmp_path / "copy")
    with open(tmp_path / "copy" / "Test" / "0" / "00056.bin", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match=r"00056.bin: must hold at most 16777216 bytes, got 1099511627776"):
        load(tmp_path / "copy").test[0]


def test_what_zipfile_says_stays_one_short_line(tmp_path):
    path = zipped(tmp_path / "nm.zip")
    data = bytearray(path.read_bytes())
    data[26:28] = b"\xff\xff"  # length of the first recording's name, which the message quotes
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"damaged zip archive .*; if it was downloaded, delete it") as caught:
        load(path).test[0]
    assert len(str(caught.value)) < 400
