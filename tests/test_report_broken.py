"""Figures of damaged and foreign run folders: the file is named, nothing in it is run, old figures stay."""

import pytest
import safetensors.torch
import torch
from run_folders import make_run

from bregma.report.figures import write_figures


def spoil(folder, name, content):
    (folder.path / name).write_bytes(content)


def without(folder, file, key):
    folder.write_tensors(file, {name: t for name, t in folder.tensors(file).items() if name != key})


def changed(folder, file, key, change):
    tensors = folder.tensors(file)
    folder.write_tensors(file, tensors | {key: change(tensors[key])})


def last_row(folder, **values):
    rows = folder.metrics()
    folder.write_metrics([*rows[:-1], rows[-1] | values])


def respelled(folder, old, new):
    text = (folder.path / "config.toml").read_text()
    assert old in text
    (folder.path / "config.toml").write_text(text.replace(old, new))


BROKEN = {
    "metrics torn": (lambda f: spoil(f, "metrics.jsonl", b'{"epoch": 1, "tra'), "metrics.jsonl: line 1: not readable"),
    "metrics not text": (lambda f: spoil(f, "metrics.jsonl", b"\xff\xfe\x00"), "metrics.jsonl: line 1: not readable"),
    "metrics of something else": (
        lambda f: spoil(f, "metrics.jsonl", b'{"a": 1}\n'),
        "line 1: epoch must be a finite number",
    ),
    "metrics a list": (lambda f: spoil(f, "metrics.jsonl", b"[1]\n"), "metrics.jsonl: line 1: expected an object"),
    "summary torn": (lambda f: spoil(f, "summary.json", b"{"), "summary.json: not readable JSON"),
    "summary empty": (lambda f: spoil(f, "summary.json", b"{}"), "summary.json: test_accuracy must be a finite number"),
    "weights torn": (lambda f: spoil(f, "best.safetensors", b"abc"), "best.safetensors: not a readable"),
    "a matrix missing": (lambda f: without(f, "best", "readout.linear.weight"), "best.safetensors: the weight matrix"),
    "seconds that are no number": (lambda f: last_row(f, seconds=float("nan")), "line 4: seconds must be a finite"),
    "epoch that is no number": (lambda f: last_row(f, epoch=float("inf")), "line 4: epoch must be a finite number"),
    "half an epoch": (lambda f: last_row(f, epoch=3.5), "line 4: epoch must be a whole number, got 3.5"),
    "a number beyond all floats": (lambda f: last_row(f, density=10**400), "line 4: density must be a finite number"),
    "synops of something else": (lambda f: last_row(f, synops=[]), "line 4: synops must be a finite number"),
    "JSON of many brackets": (lambda f: spoil(f, "summary.json", b"[" * 100_000), "summary.json: not readable JSON"),
    "weights of another network": (
        lambda f: changed(f, "best", "hidden.0.linear.weight", lambda w: w[:-1]),
        r"best.safetensors: hidden.0.linear.weight has the shape \(7, 60\), config.toml makes it \(8, 60\)",
    ),
    "weights that are no numbers": (
        lambda f: changed(f, "best", "readout.linear.weight", lambda w: w * float("nan")),
        "best.safetensors: readout.linear.weight must be finite",
    ),
    "a sample that is no number": (
        lambda f: changed(f, "sample", "scores", lambda scores: scores / 0),
        "sample.safetensors: 'scores' must be finite",
    ),
    "a config of sizes beyond all tensors": (
        lambda f: respelled(f, "hidden = [8]", f"hidden = [{10**30}]"),
        "config.toml: hidden or frame_shape is larger than a tensor",
    ),
    "a config with a table twice": (
        lambda f: respelled(f, "[data]", "[network]\nsteps = 3\n[data]"),
        "config.toml: not a readable TOML file",
    ),
    "a config with an odd frame": (
        lambda f: respelled(f, "frame_shape = [2, 6, 5]", 'frame_shape = ["wide"]'),
        "config.toml: frame_shape must be sizes >= 1, got",
    ),
    "a config with odd versions": (
        lambda f: respelled(f, "[environment]", "[environment]\nodd = 3"),
        "config.toml: environment must be names and texts",
    ),
    "sample torn": (lambda f: spoil(f, "sample.safetensors", b""), "sample.safetensors: not a readable"),
    "sample without scores": (lambda f: without(f, "sample", "scores"), "sample.safetensors: 'scores' is missing"),
    "sample without spikes": (lambda f: without(f, "sample", "spikes/hidden.0.neurons"), "spikes/hidden.0.neurons"),
    "sample without input": (lambda f: without(f, "sample", "input"), "sample.safetensors: 'input' is missing"),
    "config of the future": (lambda f: spoil(f, "config.toml", b"format = 99"), "config.toml: run format 99"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_file_is_named(fault, tmp_path):
    folder = make_run(tmp_path / "run")
    damage, message = BROKEN[fault]
    damage(folder)
    with pytest.raises(ValueError, match=message.replace("/", r"[/\\]")) as error:
        write_figures(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["config.toml", "metrics.jsonl", "best.safetensors", "sample.safetensors"])
def test_a_missing_file_is_named(name, tmp_path):
    folder = make_run(tmp_path / "run")
    (folder.path / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        write_figures(folder)


def test_labels_beyond_the_classes_are_refused(tmp_path):
    folder = make_run(tmp_path / "run")
    tensors = folder.tensors("sample")
    folder.write_tensors("sample", tensors | {"label": torch.tensor([0, 7])})
    with pytest.raises(ValueError, match="labels beyond the classes"):
        write_figures(folder)
    folder.write_tensors("sample", tensors | {"prediction": torch.tensor([0, 7])})
    with pytest.raises(ValueError, match="labels beyond the classes"):
        write_figures(folder)


def test_a_full_disk_keeps_the_old_figures(tmp_path, monkeypatch):
    folder = make_run(tmp_path / "run")
    old = {path: path.read_bytes() for path in write_figures(folder)}
    make_more = folder.metrics()
    folder.write_metrics([row | {"train_loss": 9.0} for row in make_more])

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        write_figures(folder)
    assert {path: path.read_bytes() for path in folder.figures.iterdir()} == old


def test_files_are_read_without_running_code(tmp_path):
    """The tensors are safetensors: a pickle in their place is refused, not loaded."""
    folder = make_run(tmp_path / "run")
    torch.save({"readout.linear.weight": torch.zeros(3, 8)}, folder.path / "best.safetensors")
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        write_figures(folder)
    assert safetensors.torch.load_file(folder.path / "sample.safetensors")
