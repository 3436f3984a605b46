"""MNIST and PSMNIST from real idx files, and files that are damaged."""

import gzip
import hashlib
import struct

import numpy as np
import pytest
import torch
from shared_data import FIXTURES, shared

from bregma.data import PixelSequences, load, psmnist_permutation, read_idx

MNIST = FIXTURES / "mnist"


def idx(array: np.ndarray, *, code: int = 8, shape: tuple[int, ...] | None = None) -> bytes:
    shape = array.shape if shape is None else shape
    return struct.pack(f">HBB{len(shape)}I", 0, code, len(shape), *shape) + array.astype(np.uint8).tobytes()


def test_real_images_and_labels():
    images, labels = read_idx(MNIST / "train-images-idx3-ubyte.gz"), read_idx(MNIST / "train-labels-idx1-ubyte.gz")
    assert images.shape == (20, 28, 28)
    assert labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert images[0].sum() == 27_525  # the well-known first five


def test_plain_and_packed_files_are_told_by_content(tmp_path):
    array = np.arange(24).reshape(2, 3, 4)
    for name, content in (("plain.gz", idx(array)), ("packed", gzip.compress(idx(array)))):
        (tmp_path / name).write_bytes(content)
        np.testing.assert_array_equal(read_idx(tmp_path / name), array)


def test_rows_enter_one_by_one():
    splits = load("mnist", root=FIXTURES)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (18, 2, 10)
    frames, _ = splits.test.__getitems__([2, 0])
    assert frames.shape == (28, 2, 28)
    images = read_idx(MNIST / "t10k-images-idx3-ubyte.gz")
    np.testing.assert_array_equal(frames[:, 1].numpy(), images[0] / np.float32(255))
    assert splits.test.carried == {}


@pytest.mark.parametrize("steps", [784, 98, 1])
def test_permuted_pixels_enter_in_the_carried_order(steps):
    test = load("psmnist", root=FIXTURES, steps=steps).test
    order = test.carried["permutation"]
    image = read_idx(MNIST / "t10k-images-idx3-ubyte.gz")[4].reshape(784)
    frames, _ = test[4]
    assert frames.shape == (steps, 784 // steps)
    np.testing.assert_array_equal(frames.flatten().numpy(), image[order.numpy()] / np.float32(255))


def test_the_permutation_is_pinned():
    order = psmnist_permutation()
    assert order.dtype == torch.int64
    assert order.sort().values.tolist() == list(range(784))
    digest = hashlib.sha256(order.numpy().astype("<i8").tobytes()).hexdigest()
    assert digest == "fe62e3fef305ce16e55f08cd0056a8b237e12af6c9523ff3fb35395f6ec55222"


def test_parts_carry_the_permutation_too():
    splits = load("psmnist", root=FIXTURES)
    assert torch.equal(splits.train.carried["permutation"], psmnist_permutation())
    assert torch.equal(splits.validation.carried["permutation"], psmnist_permutation())


@pytest.mark.parametrize("steps", [0, -28, 27, 785])
def test_steps_must_divide_the_pixels(steps):
    with pytest.raises(ValueError, match="steps must be"):
        load("mnist", root=FIXTURES, steps=steps)


def test_a_missing_file_says_what_to_put_where(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte.gz not found; run .* put it into .*mnist"):
        load("mnist", root=tmp_path)


GOOD = idx(np.zeros((3, 28, 28)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an idx file of unsigned bytes"),
        (GOOD[:3], "not an idx file of unsigned bytes"),
        (GOOD[:10], "truncated or damaged idx file"),
        (GOOD[:-1], "truncated or damaged idx file .header says 2368 bytes, got 2367"),
        (GOOD + b"\0", "truncated or damaged idx file"),
        (idx(np.zeros(4), code=13), "not an idx file of unsigned bytes"),
        # Sizes are checked before anything of that size is made: this header asks for 10^27 bytes.
        (idx(np.zeros(1), shape=(10**9, 10**9, 10**9)), "truncated or damaged idx file"),
        (gzip.compress(GOOD)[:-12], "truncated or damaged archive"),
        (gzip.compress(GOOD)[:-6] + b"\1\2\3\4\5\6", "truncated or damaged archive"),
    ],
)
def test_damaged_files_are_named(tmp_path, content, message):
    path = tmp_path / "broken-idx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((3, 28, 27)), np.zeros(3), r"images must be uint8 of shape \(N, 28, 28\)"),
        (np.zeros((3, 28, 28)), np.zeros(2), "of one length, got 3 and 2"),
        (np.zeros((3, 28, 28)), np.full(3, 10), r"labels must be in \[0, 10\), got 10 at sample 0"),
        (np.zeros((0, 28, 28)), np.zeros(0), "at least one sample"),
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path, images, labels, message):
    for part in ("train", "t10k"):
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


def test_images_must_be_bytes():
    with pytest.raises(ValueError, match="images must be uint8"):
        PixelSequences(np.zeros((2, 28, 28)), np.zeros(2, dtype=np.uint8), 28)


def test_the_whole_of_mnist():
    splits = load("mnist", root=shared("mnist/train-images-idx3-ubyte.gz").parents[1])
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (54_000, 6_000, 10_000)
    counts = torch.bincount(splits.train.labels) + torch.bincount(splits.validation.labels)
    assert counts.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert torch.bincount(splits.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_a_file_with_holes_is_not_read_whole(tmp_path):
    with open(tmp_path / "holes-idx", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match=r"holes-idx: must hold at most 4294967296 bytes, got 1099511627776"):
        read_idx(tmp_path / "holes-idx")


def test_too_few_images_for_validation_are_named(tmp_path):
    for part in ("train", "t10k"):
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(np.zeros((3, 28, 28))))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(3)))
    with pytest.raises(ValueError, match=r"validation must be a share .*, got 0.1 of 3 samples") as caught:
        load(tmp_path)
    assert str(tmp_path) in str(caught.value)
