"""Files in the HDF5 layout of SHD: plain and packed, whole, and what does not fit."""

import io
import zipfile

import h5py
import numpy as np
import pytest
import torch
from heidelberg_files import TINY, ten, unpacked, write
from shared_data import FIXTURES, shared

from bregma.data import SpikeRecordings, bin_events, load


def test_a_real_layout_is_read_from_every_packing(tmp_path):
    (tmp_path / "a.h5").write_bytes(unpacked())
    with zipfile.ZipFile(tmp_path / "b.h5.zip", "w") as archive:
        archive.writestr("shd_train.h5", unpacked())
    expected, labels = SpikeRecordings(TINY).__getitems__(list(range(10)))
    assert expected.shape == (100, 10, 140)
    assert labels.tolist() == [0] * 5 + [11] * 5
    for name in ("a.h5", "b.h5.zip"):
        data = SpikeRecordings(tmp_path / name)
        assert torch.equal(data.__getitems__(list(range(10)))[0], expected)
        assert data.classes[:2] == ("zero", "one")
        assert len(data.classes) == 20


def test_frames_equal_the_file_binned_by_hand():
    with h5py.File(io.BytesIO(unpacked())) as file:
        times, units = file["spikes/times"][3], file["spikes/units"][3]
    by_hand = np.zeros((50, 700))
    for t, u in zip(times.astype(np.float64), units, strict=True):
        if t < 1.0:
            by_hand[int(t * 50), u] += 1
    fine = SpikeRecordings(TINY, steps=50, window=1.0, channels=700)[3][0].numpy()
    np.testing.assert_array_equal(fine, by_hand)
    summed = SpikeRecordings(TINY, steps=50, window=1.0)[3][0].numpy()
    np.testing.assert_array_equal(summed, by_hand.reshape(50, 140, 5).sum(2))


def test_options_reach_the_frames():
    assert load(TINY, binary=True).test[0][0].max() == 1
    legacy = load(TINY, legacy_float16=True, channels=700, window=1.4, steps=140).test
    assert legacy.frame_shape == (700,)
    with h5py.File(io.BytesIO(unpacked(FIXTURES / "spoken_tiny_test.h5.gz"))) as file:
        times, units = file["spikes/times"][0], file["spikes/units"][0]
    expected = bin_events(times, units, 700, steps=140, window=1.4, legacy_float16=True)
    np.testing.assert_array_equal(legacy[0][0].numpy(), expected)


def test_the_sibling_is_the_test_part():
    splits = load(TINY)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (9, 1, 4)
    assert splits.name == "spoken_tiny"
    assert splits.synthetic
    assert "10 recordings for training and 4 for test" in splits.title
    folder = load(FIXTURES)
    assert torch.equal(folder.test[0][0], splits.test[0][0])


def test_without_a_test_file_one_is_cut(tmp_path):
    splits = load(ten(tmp_path / "mine.h5"), seed=0)
    other = load(tmp_path / "mine.h5", seed=5)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (7, 1, 2)
    assert "of which 2 were cut for test (no test file)" in splits.title
    assert torch.equal(splits.test[0][0], other.test[0][0])


def test_an_official_validation_part_is_used(tmp_path):
    (tmp_path / "ssc").mkdir()
    for part, labels in (("train", [0, 1] * 5), ("valid", [1] * 10), ("test", [0] * 10)):
        ten(tmp_path / "ssc" / f"ssc_{part}.h5", labels=labels)
    for splits in (load("ssc", root=tmp_path), load(tmp_path / "ssc"), load(tmp_path / "ssc" / "ssc_train.h5")):
        assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [10, 10, 10]
        assert set(splits.validation.labels.tolist()) == {1}
        assert set(splits.test.labels.tolist()) == {0}


def test_shd_by_name(tmp_path):
    for part in ("train", "test"):
        ten(tmp_path / f"shd_{part}.h5")
    splits = load("shd", root=tmp_path, steps=7)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (9, 1, 10)
    assert splits.train.steps == 7


def test_classes_without_names_are_counted(tmp_path):
    data = SpikeRecordings(ten(tmp_path / "a.h5", keys=None, labels=[0, 4] * 5))
    assert data.classes == ("0", "1", "2", "3", "4")


def test_the_first_recordings_may_be_silent(tmp_path):
    silent, spoken = [[]] * 20, [[0.1, 0.2]] * 20
    path = write(tmp_path / "a.h5", silent + spoken, silent + [[0, 699]] * 20, [0] * 20 + [1] * 20)
    assert sorted(frames.sum().item() for frames, _ in load(path).test) == [0.0] * 4 + [2.0] * 4


def test_a_label_means_the_same_in_every_file(tmp_path):
    ten(tmp_path / "x_train.h5", keys=("a", "b", "c"))
    for keys in (("a", "b"), None):
        ten(tmp_path / "x_test.h5", keys=keys)
        assert load(tmp_path).test.classes == ("a", "b", "c")
    ten(tmp_path / "x_test.h5", keys=("b", "c"))
    with pytest.raises(ValueError, match=r"x_test.h5: extra/keys must name the classes in the order of .*x_train.h5"):
        load(tmp_path)


def test_a_silent_recording_is_silent(tmp_path):
    data = SpikeRecordings(ten(tmp_path / "a.h5", times=[[]] * 10, units=[[]] * 10))
    assert data[0][0].sum() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be >= 1, got 0"),
        ({"channels": 0}, "channels must be a divisor of 700, got 0"),
        ({"channels": 141}, "channels must be a divisor of 700, got 141"),
        ({"window": 0.0}, "window must be > 0, got 0.0"),
        ({"window": float("nan")}, "window must be > 0, got nan"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        load(TINY, **options)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"shd: shd_train.h5 not found; run `bregma data shd --fetch`"):
        load("shd", root=tmp_path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        SpikeRecordings(tmp_path / "none.h5")
    for stem in ("one", "two"):
        ten(tmp_path / f"{stem}_train.h5")
    with pytest.raises(ValueError, match=r"folder must hold one \*_train.h5 .* got one, two; name the file"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "sizes", "classes"), [("shd_synth", (1296, 144, 360), 20), ("ssc_mini", (200, 22, 78), 30)]
)
def test_shared_files(name, sizes, classes):
    splits = load(shared(f"{name}_train.h5.gz"))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == sizes
    assert len(splits.train.classes) == classes
    frames, _ = splits.test.__getitems__([0, 5, 9])
    assert frames.sum() > 3_000


@pytest.mark.parametrize("times", [[100.0, 200.0], []], ids=["milliseconds", "empty"])
def test_a_file_whose_spikes_all_lie_outside_the_window_is_refused(tmp_path, times):
    path = ten(tmp_path / "a.h5", times=[times] * 10, units=[list(range(len(times)))] * 10)
    with pytest.raises(ValueError, match=r"a.h5: 0 of the \d+ spikes .* lie in the window of 1.4 s; .* hold seconds"):
        load(path)


@pytest.mark.parametrize(("samples", "part"), [(1, "test"), (2, "test"), (5, "validation")])
def test_too_few_recordings_are_named(tmp_path, samples, part):
    path = write(tmp_path / "few.h5", [[0.1]] * samples, [[1]] * samples, [0, 1, 0, 1, 0][:samples])
    said = rf"few.h5: {part} must be a share that leaves samples in both parts, got 0\.[12] of \d samples"
    with pytest.raises(ValueError, match=said):
        load(path)
