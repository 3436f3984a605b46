"""The default data set: its parts, that seeds leave the test part alone, and that it can be learned."""

import hashlib

import numpy as np
import pytest
import torch
from sklearn.svm import SVC

from bregma.data import Splits, load


@pytest.fixture(scope="module")
def digits() -> Splits:
    return load("digits")


def features(part):
    frames, labels = part.__getitems__(list(range(len(part))))
    return torch.stack([piece.sum(0) for piece in frames.chunk(4)], 1).flatten(1).numpy(), labels.numpy()


def test_shapes(digits):
    assert (len(digits.train), len(digits.validation), len(digits.test)) == (1294, 144, 359)
    assert digits.train.frame_shape == (2, 20, 20)
    assert digits.train.steps == 20
    assert digits.train.classes == tuple("0123456789")
    frames, labels = digits.test.__getitems__([3, 0, 7])
    assert frames.shape == (20, 3, 2, 20, 20)
    assert frames.dtype == torch.float32
    assert set(frames.unique().tolist()) == {0.0, 1.0}
    assert labels.tolist() == digits.test.labels[[3, 0, 7]].tolist()


def test_every_class_is_in_every_part_by_its_share(digits):
    counts = [torch.bincount(part.labels, minlength=10) for part in (digits.train, digits.validation, digits.test)]
    total = sum(counts)
    for count, share in zip(counts, (0.72, 0.08, 0.2), strict=True):
        assert ((count - share * total).abs() <= 1.5).all()


def test_the_seed_moves_the_validation_part_only(digits):
    other = load("digits", seed=1)
    everything, _ = digits.test.__getitems__(list(range(len(digits.test))))
    same, _ = other.test.__getitems__(list(range(len(other.test))))
    assert torch.equal(everything, same)
    assert not torch.equal(digits.validation[0][0], other.validation[0][0])


def test_the_test_part_is_pinned(digits):
    digest = hashlib.sha256(digits.test.labels.numpy().astype("<i8").tobytes()).hexdigest()
    assert digest.startswith("144e6957461e1bb1")


def test_parts_share_no_sample(digits):
    seen = [
        {sample.numpy().tobytes() for sample in part.__getitems__(list(range(len(part))))[0].unbind(1)}
        for part in (digits.train, digits.validation, digits.test)
    ]
    assert not seen[0] & seen[1] | seen[0] & seen[2] | seen[1] & seen[2]


def test_counts_and_steps():
    frames, _ = load("digits", steps=4, binary=False).train[0]
    assert len(frames) == 4
    assert frames.max() > 1


def test_a_plain_classifier_learns_it(digits):
    train, test = features(digits.train), features(digits.test)
    assert SVC(C=10).fit(*train).score(*test) >= 0.98


def test_steps_must_be_positive():
    with pytest.raises(ValueError, match="steps must be >= 1, got 0"):
        load("digits", steps=0)


def test_events_move_with_the_saccades(digits):
    # The image rests around 100, 200 and 300 ms: few events there, many between.
    frames, _ = digits.train.__getitems__(list(range(200)))
    activity = np.asarray(frames.mean((1, 2, 3, 4)))
    assert activity[[3, 9, 16]].min() > 3 * activity[[0, 6, 13, 19]].min()
