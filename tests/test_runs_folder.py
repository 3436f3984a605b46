"""Run folders: no failure loses what was there, nothing broken or hostile gets in."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_runs import best_network, start, tiny, tiny_frames

from bregma.data import DenseFrames, Splits
from bregma.runs.build import build_network, load_weights
from bregma.runs.folder import RunFolder
from bregma.runs.loop import train

_FULL_DISK = """
import resource, signal, sys, torch
from pathlib import Path
from bregma.runs.folder import RunFolder
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))  # a disk that takes no file above 50 kB
folder = RunFolder(sys.argv[1])
big = torch.zeros(100_000)
for write in (lambda: folder.write_state({"weights": big}), lambda: folder.write_tensors("best", {"weight": big})):
    try:
        write()
    except OSError as error:
        print(error)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs a limit on file sizes")
def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_state({"weights": torch.ones(2)})
    folder.write_tensors("best", {"weight": torch.ones(2)})
    done = subprocess.run([sys.executable, "-c", _FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stdout + done.stderr
    assert "last.pt" in lines[0]
    assert "best.safetensors" in lines[1]
    assert all("disk" in line for line in lines)
    assert torch.equal(folder.state()["weights"], torch.ones(2))
    assert torch.equal(folder.tensors("best")["weight"], torch.ones(2))
    assert sorted(os.listdir(tmp_path)) == ["best.safetensors", "last.pt"]


def respell(run: Path, old: str, new: str) -> None:
    text = (run / "config.toml").read_text()
    assert old in text
    (run / "config.toml").write_text(text.replace(old, new))


def reweigh(run: Path, name: str, change) -> None:
    tensors = RunFolder(run).tensors("best")
    RunFolder(run).write_tensors("best", tensors | {name: change(tensors[name])})


class _Malicious:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def test_a_hostile_checkpoint_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weights": _Malicious()}, tmp_path / "last.pt")
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        RunFolder(tmp_path).state()
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: (run / "config.toml").unlink(), "holds no run: config.toml is missing"),
        (lambda run: (run / "config.toml").write_text("format = 99"), "run format 99, this version of bregma reads"),
        (lambda run: (run / "config.toml").write_text("format = ["), "not a readable TOML file"),
        (lambda run: (run / "config.toml").write_text("format = 1"), "'experiment' is missing"),
        (lambda run: respell(run, "lr = 0.02", 'lr = "fast"'), r"config\.toml: lr must be a number, got 'fast'"),
        (lambda run: respell(run, "hidden = [8]", "hidden = 8"), r"config\.toml: hidden must be a tuple of integers"),
        (lambda run: (run / "best.safetensors").unlink(), "best.safetensors is missing"),
        (lambda run: (run / "best.safetensors").write_bytes(b"\xff" * 20), "not a readable safetensors file"),
        (lambda run: reweigh(run, "hidden.0.linear.weight", lambda w: w[1:]), r"weights do not fit config\.toml"),
        (lambda run: reweigh(run, "hidden.0.linear.weight", lambda w: w / 0), "weight must be finite, got NaN or inf"),
        (lambda run: reweigh(run, "readout.integrators.decay", lambda d: d + 1), r"decay must be in \[0, 1\], got 1.9"),
        (lambda run: reweigh(run, "hidden.0.neurons.threshold", lambda t: t * 0), "threshold must be a finite number"),
    ],
)
def test_a_broken_run_folder_says_what_is_wrong(tmp_path, splits, spoil, message):
    folder = start(tmp_path / "run", splits, tiny(epochs=1))
    train(folder, splits)
    spoil(folder.path)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        best_network(folder, splits)
    assert str(folder.path) in str(caught.value)


@pytest.mark.parametrize("state", [{"a": 1}, [1, 2], {"weights": {}}])
def test_a_checkpoint_of_something_else_is_refused(tmp_path, splits, state):
    folder = start(tmp_path / "run", splits, tiny(epochs=1))
    folder.write_state(state)
    with pytest.raises(ValueError, match=r"last\.pt: no checkpoint of this run"):
        train(folder, splits, resume=True)


def test_a_lost_line_of_metrics_is_restored_from_the_checkpoint(tmp_path, splits):
    folder = start(tmp_path / "run", splits, tiny(epochs=1))
    train(folder, splits)
    rows = folder.metrics()
    (folder.path / "metrics.jsonl").unlink()
    train(folder, splits, resume=True)
    assert folder.metrics() == rows


def test_a_run_without_its_checkpoint_is_not_begun_anew(tmp_path, splits):
    folder = start(tmp_path / "run", splits, tiny(epochs=1))
    train(folder, splits)
    (folder.path / "last.pt").unlink()
    best = (folder.path / "best.safetensors").read_bytes()
    with pytest.raises(FileNotFoundError, match=r"last\.pt is missing"):
        train(folder, splits, resume=True)
    assert (folder.path / "best.safetensors").read_bytes() == best


def test_weights_that_do_not_fit_or_saw_other_data_are_refused(tmp_path, splits):
    folder = start(tmp_path / "run", splits, tiny(epochs=1))
    train(folder, splits)
    net = build_network(folder.config())
    tensors = folder.tensors("best")
    with pytest.raises(ValueError, match=r"weights do not fit config\.toml.*readout\.linear\.bias"):
        load_weights(net, {name: t for name, t in tensors.items() if name != "readout.linear.bias"}, splits.test)
    with pytest.raises(ValueError, match="data/permutation: the network learned the data with another one"):
        load_weights(net, {**tensors, "data/permutation": torch.arange(12)}, splits.test)


def test_a_checkpoint_carries_what_repeats_the_input(tmp_path):
    def carrying(seed: int) -> DenseFrames:
        frames = tiny_frames(24, seed)
        frames.carried["permutation"] = torch.arange(12).flip(0)
        return frames

    splits = Splits(carrying(0), carrying(1), carrying(2), "tiny", "tiny thirds", synthetic=True)
    folder = start(tmp_path / "run", splits, tiny(epochs=1))
    train(folder, splits)
    assert torch.equal(folder.tensors("best")["data/permutation"], torch.arange(12).flip(0))
    assert torch.equal(folder.state()["weights"]["data/permutation"], torch.arange(12).flip(0))
    best_network(folder, splits)


def test_a_run_under_way_elsewhere_is_not_gone_on_with(tmp_path, splits):
    pytest.importorskip("fcntl")
    folder = start(tmp_path / "run", splits, tiny())
    assert train(folder, splits, should_stop=lambda: True) is None
    before = folder.state()["weights"]["readout.linear.weight"]
    with folder.locked(), pytest.raises(BlockingIOError, match=f"{folder.path} is in use by another process"):
        train(folder, splits, resume=True)
    assert torch.equal(folder.state()["weights"]["readout.linear.weight"], before)
    assert train(folder, splits, resume=True) is not None


def test_a_folder_with_a_run_is_not_overwritten(tmp_path, splits):
    start(tmp_path / "run", splits, tiny())
    with pytest.raises(ValueError, match="already holds a run"):
        start(tmp_path / "run", splits, tiny())


def test_a_network_that_only_its_config_claims_is_not_made(tmp_path, splits):
    folder = start(tmp_path / "run", splits, tiny())
    respell(folder.path, "hidden = [8]", "hidden = [4_000_000, 4_000_000]")
    with pytest.raises(MemoryError, match=r"a network of 12 x 4000000 x 4000000 x 3 needs 64000.24 GB"):
        train(folder, splits)
