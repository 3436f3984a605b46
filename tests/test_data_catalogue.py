"""The door: what a name or a path leads to, and what it refuses."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from shared_data import FIXTURES

from bregma.data import DATASETS, load
from bregma.data.catalogue import recognise


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (FIXTURES / "spoken_tiny_test.h5.gz", "heidelberg"),
        (FIXTURES / "nmnist", "nmnist"),
        (FIXTURES / "mnist", "mnist"),
    ],
)
def test_paths_are_told_by_content(path, kind):
    assert recognise(path) == (kind, path)


def test_a_file_of_another_name_is_told_by_content(tmp_path):
    (tmp_path / "words").write_bytes((FIXTURES / "spoken_tiny_train.h5.gz").read_bytes())
    assert recognise(tmp_path / "words")[0] == "heidelberg"
    assert len(load(tmp_path / "words", steps=3).test) == 2


def test_what_is_unknown_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data must be one of digits, .* or an existing path, got 'mnits'"):
        load("mnits")
    (own := tmp_path / "own").mkdir()
    (own / "train-images-idx3-ubyte.gz").write_bytes((FIXTURES / "mnist" / "train-images-idx3-ubyte.gz").read_bytes())
    with pytest.raises(FileNotFoundError, match=r"own: neither train-labels-idx1-ubyte.gz nor train-labels.* in it"):
        load(own)
    (tmp_path / "notes.txt").write_text("hello")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "hello")
    for path in (tmp_path, tmp_path / "notes.txt", tmp_path / "other.zip"):
        with pytest.raises(ValueError, match="not recognised"):
            load(path)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mnist", {"binary": True}, "binary does not apply to mnist"),
        ("digits", {"channels": 140}, "channels applies to shd, ssc and files in their layout, got it for digits"),
        ("nmnist", {"window": 1.0}, "window applies to"),
        ("psmnist", {"legacy_float16": True}, "legacy_float16 applies to"),
        ("shd", {"steps": -1}, "steps must be >= 1, got -1"),
        ("digits", {"validation": 1.0}, r"validation must be in \(0, 1\), got 1.0"),
    ],
)
def test_options_that_do_not_apply_are_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        load(name, **options)


def test_no_name_is_not_the_working_directory():
    with pytest.raises(FileNotFoundError, match=r"data must be one of digits, .* or an existing path, got ''"):
        load("")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.h5")
    with pytest.raises(FileNotFoundError, match=r"or an existing path, got .*a.h5"):
        load(tmp_path / "a.h5")


def test_a_name_wins_over_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist").mkdir()
    with pytest.raises(FileNotFoundError, match="mnist: train-images"):
        load("mnist", root=tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="mnist: not recognised"):
        load(Path("mnist"))


@pytest.mark.parametrize("info", DATASETS.values(), ids=lambda info: info.name)
def test_every_data_set_says_where_it_comes_from(info):
    assert DATASETS[info.name] is info
    assert info.licence.startswith("CC BY")
    assert info.url.startswith("http")
    assert info.citation
    assert info.classes > 1
    for file in info.files:
        assert len(file.md5) == 32
        assert all(url.startswith("https://") for url in file.urls)


@pytest.mark.parametrize(("path", "options"), [("mnist", {}), ("nmnist", {}), ("spoken_tiny_train.h5.gz", {})])
def test_the_test_part_does_not_depend_on_the_seed(path, options):
    first, second = (load(FIXTURES / path, seed=seed, **options) for seed in (0, 7))
    everything = list(range(len(first.test)))
    for one, other in zip(first.test.__getitems__(everything), second.test.__getitems__(everything), strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
