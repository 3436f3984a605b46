"""What every data set shares: batches, parts, cuts, and the loader's workers."""

import gzip
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_data import FIXTURES
from torch.utils.data import DataLoader, Subset

from bregma.data import DenseFrames, collate, load, stratified_cut


def small() -> DenseFrames:
    counts = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3)
    return DenseFrames(counts, [0, 1, 0, 1, 0, 1], ["even", "odd"])


def test_a_batch_equals_its_samples():
    data = small()
    frames, labels = data.__getitems__([4, 1])
    assert frames.shape == (4, 2, 3)
    assert frames.is_contiguous()
    assert torch.equal(frames[:, 0], data[4][0])
    assert torch.equal(frames[:, 1], data[1][0])
    assert labels.tolist() == [data[4][1], data[1][1]]
    assert data[-1][1] == data[5][1]


def test_iteration_ends():
    assert len(list(small())) == 6


def test_a_subset_of_a_subset():
    part = small().subset([5, 3, 1]).subset([2, 0])
    assert part.labels.tolist() == [1, 1]
    assert torch.equal(part[0][0], small()[1][0])
    assert part.classes == ("even", "odd")


@pytest.mark.parametrize("wrap", [lambda data: data, lambda data: Subset(data, [5, 0, 2, 3])])
def test_a_loader_gives_time_major_batches(wrap):
    batches = list(DataLoader(wrap(small()), batch_size=2, collate_fn=collate))
    assert all(frames.shape == (4, 2, 3) for frames, _ in batches)
    assert all(labels.dtype == torch.int64 for _, labels in batches)


def test_collate_stacks_single_samples():
    frames, labels = collate([small()[0], small()[3]])
    assert torch.equal(frames, small().__getitems__([0, 3])[0])
    assert labels.tolist() == [0, 1]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "context"),
    [("spoken_tiny_train.h5.gz", "fork"), ("spoken_tiny_train.h5.gz", "spawn"), ("plain", "fork"), ("nmnist", "fork")],
)
def test_files_are_opened_by_each_worker(name, context, tmp_path):
    path = FIXTURES / name
    if name == "plain":
        path = tmp_path / "plain.h5"
        path.write_bytes(gzip.decompress((FIXTURES / "spoken_tiny_train.h5.gz").read_bytes()))
    data = load(path, steps=5, seed=0).test
    expected, _ = data.__getitems__(list(range(len(data))))
    workers = 2 if context == "fork" else 1
    loader = DataLoader(data, batch_size=1, num_workers=workers, collate_fn=collate, multiprocessing_context=context)
    got = torch.cat([frames for frames, _ in loader], dim=1)
    assert torch.equal(got, expected)


def test_a_data_set_survives_pickling():
    data = load(FIXTURES / "spoken_tiny_train.h5.gz", steps=5).train
    expected = data[0][0]
    assert torch.equal(pickle.loads(pickle.dumps(data))[0][0], expected)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.floats(0.05, 0.95), st.integers(0, 2**32 - 1))
def test_a_cut_keeps_every_sample_once_and_every_class_by_its_share(labels, share, seed):
    kept, cut = stratified_cut(labels, share, seed)
    assert sorted([*kept, *cut]) == list(range(len(labels)))
    assert abs(len(cut) - share * len(labels)) <= 0.5 + 1e-9
    for label in set(labels):
        size = labels.count(label)
        assert abs(sum(labels[i] == label for i in cut) - share * size) <= 1 + 1e-9


def test_a_cut_is_pinned():
    kept, cut = stratified_cut([0, 1] * 10, 0.3, seed=3)
    assert cut.tolist() == [6, 8, 15, 17, 18, 19]
    assert len(kept) == 14


@pytest.mark.parametrize(
    ("share", "seed", "message"), [(0.0, 0, "share must be"), (1.0, 0, "share"), (0.5, -1, "seed")]
)
def test_a_bad_cut_is_named(share, seed, message):
    with pytest.raises(ValueError, match=message):
        stratified_cut([0, 1], share, seed)


@pytest.mark.parametrize(
    ("counts", "labels", "error", "message"),
    [
        (np.zeros((2, 3, 4)), [0, 1], ValueError, "counts must be uint8"),
        (np.zeros((2, 3), np.uint8), [0, 1], ValueError, "counts must be uint8"),
        (np.zeros((2, 3, 4), np.uint8), [0, 2], ValueError, r"labels must be in \[0, 2\), got 2 at sample 1"),
        (np.zeros((2, 3, 4), np.uint8), [0, -1], ValueError, r"labels must be in \[0, 2\), got -1 at sample 1"),
        (np.zeros((2, 3, 4), np.uint8), [0.0, 1.0], TypeError, "labels must be integers, got float64"),
        (np.zeros((2, 3, 4), np.uint8), [[0], [1]], ValueError, r"labels must be of shape \(N,\)"),
        (np.zeros((2, 3, 4), np.uint8), [0], ValueError, "of one length, got 2 and 1"),
        (np.zeros((0, 3, 4), np.uint8), np.empty(0, int), ValueError, "at least one sample"),
        (np.zeros((2, 0, 4), np.uint8), [0, 1], ValueError, "steps must be >= 1, got 0"),
    ],
)
def test_bad_samples_are_named(counts, labels, error, message):
    with pytest.raises(error, match=message):
        DenseFrames(counts, labels, ["a", "b"])


@pytest.mark.parametrize("index", [6, -7])
def test_an_index_out_of_range_is_named(index):
    with pytest.raises(IndexError, match=rf"sample index must be in \[-6, 6\), got {index}"):
        small()[index]


@pytest.mark.parametrize("rows", [small().labels == 1, [True, False], [0.0, 1.5]], ids=["tensor", "mask", "numbers"])
def test_rows_that_are_no_indices_are_refused(rows):
    with pytest.raises(TypeError, match=r"sample index must be an integer, got (bool|float64)"):
        small().subset(rows)
