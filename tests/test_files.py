"""Files are replaced in one step, and errors name the path that was given."""

import errno
import io
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest
import torch

import bregma
from bregma.admm import ADMM, checkpoint
from bregma.files import locked, read_checkpoint, read_tensors, write_bytes, write_text
from bregma.interop.state import read_state, write_state
from bregma.nn import SpikingMLP


def small_solver():
    return ADMM(torch.zeros(3, 4, 5), torch.eye(2)[[0, 1, 0, 1]], (6,))


def test_errors_name_the_path_and_no_temporary_file(tmp_path):
    nowhere = tmp_path / "nodir" / "net.safetensors"
    sparse = bregma.compress(SpikingMLP(3, (4,), 2))
    for write in (lambda: write_bytes(nowhere, b"1"), lambda: sparse.save(nowhere)):
        with pytest.raises(FileNotFoundError) as caught:
            write()
        assert caught.value.filename == str(nowhere)
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_text(tmp_path / "folder", "1")
    assert (caught.value.filename, caught.value.filename2) == (str(tmp_path / "folder"), None)
    assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.parametrize(
    "write",
    [
        lambda path: bregma.compress(SpikingMLP(3, (4,), 2)).save(path),
        lambda path: checkpoint.save(path, "", small_solver(), []),
    ],
)
def test_a_full_disk_keeps_the_old_file(tmp_path, monkeypatch, write):
    def full(*_):
        raise OSError(28, "No space left on device")

    (tmp_path / "file").write_text("old")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="file: no space left on the disk"):
        write(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_two_fits_may_save_to_one_path(tmp_path, monkeypatch):
    both, place = threading.Barrier(2, timeout=20), os.fsync

    def together(handle):
        both.wait()
        place(handle)

    monkeypatch.setattr("os.fsync", together)
    failed = []

    def save():
        try:
            checkpoint.save(tmp_path / "run.pt", "same", small_solver(), [])
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=save) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert checkpoint.load(tmp_path / "run.pt", "same", small_solver()) == []
    assert os.listdir(tmp_path) == ["run.pt"]


def test_a_symbolic_link_stays_and_its_file_is_replaced(tmp_path):
    (there := tmp_path / "there").mkdir()
    (there / "file").write_text("old")
    (tmp_path / "link").symlink_to(Path("there", "file"))
    (tmp_path / "new").symlink_to(there / "not yet")
    write_text(tmp_path / "link", "text")
    write_text(tmp_path / "new", "text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "new").is_symlink()
    assert {path.name: path.read_text() for path in there.iterdir()} == {"file": "text", "not yet": "text"}
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere" / "file")
    with pytest.raises(FileNotFoundError) as caught:
        write_text(tmp_path / "lost", "text")
    assert caught.value.filename == str(tmp_path / "lost")


HOLDER = """
import pathlib, sys
from bregma.files import locked
with locked(pathlib.Path(sys.argv[1])):
    print("mine", flush=True)
    input()
"""


def test_a_folder_is_one_process_alone_until_it_dies(tmp_path):
    pytest.importorskip("fcntl")
    path = tmp_path / "config.toml"
    path.write_text("text")
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    holder.stdout.readline()
    with pytest.raises(BlockingIOError, match=f"{tmp_path} is in use by another process"), locked(path):
        pass
    holder.kill()
    holder.communicate()
    for _ in range(2):
        with locked(path):
            assert path.read_text() == "text"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_written_to(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(pytest.importorskip("fcntl"), "flock", refuse)
    (tmp_path / "file").write_text("text")
    with locked(tmp_path / "file"):
        pass


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_file_has_the_permissions_that_new_files_have(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        write_text(tmp_path / "file", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode


def spoiled(content: bytes, inside: bytes) -> bytes:
    at = content.index(inside)
    return content[:at] + bytes([content[at] ^ 64]) + content[at + 1 :]


def packed(content: bytes) -> bytes:
    """The same checkpoint, compressed: torch would unpack it to any size."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return buffer.getvalue()


def test_a_checkpoint_is_read_and_a_changed_byte_of_a_weight_is_found(tmp_path):
    path, weight = tmp_path / "last.pt", torch.tensor([1.0, -2.5, 3.25])
    torch.save({"weight": weight, "epoch": 3}, path)
    assert torch.equal(read_checkpoint(path)["weight"], weight)
    whole = path.read_bytes()
    for content in (spoiled(whole, weight.numpy().tobytes()), packed(whole), whole[:-50], b"", b"text"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"last\.pt: not a readable checkpoint \(\w+\)$"):
            read_checkpoint(path)
    torch.save({"weight": weight}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match="not a readable checkpoint"):  # without checksums
        read_checkpoint(path)


@pytest.mark.parametrize("state", [[1], {"of": "same"}, {"of": "same", "history": "[]", "solver": {}}])
def test_a_checkpoint_of_another_kind_is_named(tmp_path, state):
    torch.save(state, tmp_path / "run.pt")
    with pytest.raises(ValueError, match=r"run\.pt: no.* checkpoint of (a|this) fit"):
        checkpoint.load(tmp_path / "run.pt", "same", small_solver())


def test_tensors_do_not_change_with_their_file(tmp_path):
    write_state(SpikingMLP(3, (4,), 2), tmp_path / "net.safetensors")
    net, (tensors, _) = read_state(tmp_path / "net.safetensors"), read_tensors(tmp_path / "net.safetensors")
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    with (tmp_path / "net.safetensors").open("r+b") as file:
        file.seek(-8, 2)
        file.write(b"\1" * 8)
    for kept in (tensors, net.state_dict()):
        assert all(torch.equal(kept[name], before[name]) for name in before)


def test_tensors_that_may_not_be_read_are_not_called_missing(tmp_path, monkeypatch):
    write_state(SpikingMLP(3, (4,), 2), tmp_path / "net.safetensors")

    def refuse(path, *_):  # what the system does, but not for root
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionError):
        read_tensors(tmp_path / "net.safetensors")
