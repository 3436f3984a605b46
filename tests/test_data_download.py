"""Downloads from a server on this machine: whole, resumed, broken off, damaged, and not there at all."""

import hashlib
import io
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from shared_data import FIXTURES, SHARED, shared

from bregma.data import DATASETS, DataFile, download, fetch, locate, verify
from bregma.data.download import fetch_file

CONTENT = bytes(range(256)) * 4_000


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"/file": CONTENT}
        self.asked: list[tuple[str, str | None]] = []
        self.break_after: list[int] = []  # bytes after which the next answers break off
        self.ranges = True

    def url(self, path: str = "/file") -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.server.ranges else 0
        if start and start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        stop = start + self.server.break_after.pop(0) if self.server.break_after else len(content)
        self.wfile.write(content[start:stop])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def described(server: Server, *paths: str, content: bytes = CONTENT, **more: object) -> DataFile:
    urls = tuple(server.url(path) for path in paths or ("/file",))
    return DataFile("a.bin", urls, hashlib.md5(content).hexdigest(), **more)


def test_a_whole_file(server, tmp_path):
    seen = []
    path = fetch_file(described(server), tmp_path / "new", progress=lambda *what: seen.append(what))
    assert path.read_bytes() == CONTENT
    assert [entry.name for entry in path.parent.iterdir()] == ["a.bin"]
    assert seen[-1] == ("a.bin", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_an_interrupted_download_is_continued(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:1000])
    assert fetch_file(described(server), tmp_path).read_bytes() == CONTENT
    assert server.asked == [("/file", "bytes=1000-")]


def test_a_broken_connection_is_taken_up_again(server, tmp_path):
    server.break_after = [500, 700]
    assert fetch_file(described(server), tmp_path).read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [None, "bytes=500-", "bytes=1200-"]


def test_a_server_without_ranges_sends_the_whole_file(server, tmp_path):
    server.ranges = False
    (tmp_path / "a.bin.part").write_bytes(b"x" * 1000)
    assert fetch_file(described(server), tmp_path).read_bytes() == CONTENT


def test_a_finished_part_needs_no_more_bytes(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(CONTENT)
    assert fetch_file(described(server), tmp_path).read_bytes() == CONTENT


def test_a_stale_part_is_thrown_away(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(b"x" * 1000)
    assert fetch_file(described(server), tmp_path).read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == ["bytes=1000-", None]


def test_mirrors_are_tried_in_turn(server, tmp_path):
    server.files["/wrong"] = b"something else"
    assert fetch_file(described(server, "/none", "/wrong", "/file"), tmp_path).read_bytes() == CONTENT
    assert [path for path, _ in server.asked] == ["/none", "/wrong", "/file"]


def test_a_wrong_md5_is_named_and_nothing_stays(server, tmp_path):
    server.files["/file"] = b"damaged"
    with pytest.raises(ValueError, match=r"a.bin: no address had the official file .*md5 is not"):
        fetch_file(described(server), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_connection_that_keeps_breaking_keeps_what_came(server, tmp_path):
    server.break_after = [100] * 3
    with pytest.raises(ConnectionError, match=r"a.bin: could not be downloaded .*closed after 300 of"):
        fetch_file(described(server), tmp_path)
    assert (tmp_path / "a.bin.part").read_bytes() == CONTENT[:300]


def test_offline_says_what_to_put_where(server, tmp_path):
    file = replace(described(server), urls=("http://127.0.0.1:9/file",))
    with pytest.raises(ConnectionError, match=r"a.bin: could not be downloaded .* put the file into") as caught:
        fetch_file(file, tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "BREGMA_DATA" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_found_before_writing(server, tmp_path, monkeypatch):
    usage = download.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"disk too full for a.bin: 1,024,000 bytes needed, 1,000 free"):
        fetch_file(described(server), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def words(server, monkeypatch) -> bytes:
    """The data set "shd" as this server has it, an archive of one file."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.h5", CONTENT)
    server.files["/file"] = packed.getvalue()
    files = (described(server, content=packed.getvalue(), unpacked="a.h5"),)
    monkeypatch.setitem(DATASETS, "shd", replace(DATASETS["shd"], files=files))
    return packed.getvalue()


@pytest.mark.usefixtures("words")
def test_archives_are_unpacked_once(server, tmp_path):
    assert [state.state for state in verify("shd", tmp_path)] == ["missing"]
    paths = fetch("shd", tmp_path)
    assert paths == [tmp_path / "shd" / "a.h5"]
    assert paths[0].read_bytes() == CONTENT
    assert [state.state for state in verify("shd", tmp_path)] == ["ok"]
    assert fetch("shd", tmp_path) == paths
    assert len(server.asked) == 1
    paths[0].write_bytes(CONTENT[:-1])
    assert [state.state for state in verify("shd", tmp_path)] == ["damaged"]
    assert fetch("shd", tmp_path) == paths
    assert paths[0].read_bytes() == CONTENT


def test_a_packed_file_that_was_put_there_is_verified(words, tmp_path):
    (tmp_path / "a.bin").write_bytes(words)
    assert [state.state for state in verify("shd", tmp_path)] == ["ok"]
    (tmp_path / "a.bin").write_bytes(words[:-1])
    assert [state.state for state in verify("shd", tmp_path)] == ["damaged"]


@pytest.mark.usefixtures("words")
def test_a_damaged_archive_is_fetched_anew_once(server, tmp_path):
    (tmp_path / "shd").mkdir()
    (tmp_path / "shd" / "a.bin").write_bytes(b"damaged")
    assert fetch("shd", tmp_path) == fetch("shd", tmp_path) == locate("shd", tmp_path) == [tmp_path / "shd" / "a.h5"]
    assert [state.state for state in verify("shd", tmp_path)] == ["ok"]
    assert len(server.asked) == 1


def test_a_file_of_unknown_digest_is_unchecked(tmp_path):
    (tmp_path / "shd_train.h5").write_bytes(b"")
    assert [state.state for state in verify("shd", tmp_path)] == ["unchecked", "missing"]


def test_files_are_located_without_being_read(tmp_path):
    (tmp_path / "shd_train.h5").write_bytes(b"")
    assert locate("shd", tmp_path) == [tmp_path / "shd_train.h5", None]


@pytest.mark.parametrize("call", [fetch, locate, verify])
def test_an_unknown_name_is_named(call, tmp_path):
    with pytest.raises(ValueError, match=r"name must be one of digits, mnist, .* got 'nope'"):
        call("nope", tmp_path)


def test_a_cut_of_mnist_is_not_mnist():
    assert {state.state for state in verify("psmnist", FIXTURES)} == {"damaged"}


def test_the_whole_of_mnist_packed_anew_is_mnist():
    shared("mnist/train-images-idx3-ubyte.gz")
    assert {state.state for state in verify("psmnist", SHARED)} == {"ok"}


def test_the_root_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("BREGMA_DATA", str(tmp_path))
    assert verify("mnist")[0].path is None
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "train-images-idx3-ubyte").write_bytes(b"no")
    assert verify("mnist")[0].path == tmp_path / "mnist" / "train-images-idx3-ubyte"


def test_unpacked_recordings_are_there(tmp_path):
    for part in ("Train", "Test"):
        (tmp_path / "nmnist" / part / "0").mkdir(parents=True)
    assert [state.state for state in verify("nmnist", tmp_path)] == ["missing", "missing"]
    paths = [tmp_path / "nmnist" / part for part in ("Train", "Test")]
    for path in paths:
        (path / "0" / "00001.bin").write_bytes(b"")
    assert fetch("nmnist", tmp_path) == locate("nmnist", tmp_path) == paths
    assert [state.state for state in verify("nmnist", tmp_path)] == ["unchecked", "unchecked"]


def test_two_at_once_do_not_write_into_each_other(server, tmp_path, monkeypatch):
    pytest.importorskip("fcntl")
    refused, begun = [], download._download

    def begin(*arguments):  # another process comes while this one is at it
        with pytest.raises(BlockingIOError) as caught:
            fetch_file(described(server), tmp_path)
        refused.append(str(caught.value))
        begun(*arguments)

    monkeypatch.setattr(download, "_download", begin)
    assert fetch_file(described(server), tmp_path).read_bytes() == CONTENT
    assert refused == [f"{tmp_path} is in use by another process; wait until it has ended"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from bregma.data import DataFile
from bregma.data.download import fetch_file
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))  # a disk that takes no file above 50 kB
try:
    fetch_file(DataFile("a.bin", (sys.argv[1],), sys.argv[2]), Path(sys.argv[3]))
except OSError as error:
    print(error)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs a limit on file sizes")
def test_a_disk_that_fills_up_is_named_and_what_came_is_gone_on_with(server, tmp_path):
    file = described(server)
    words = [sys.executable, "-c", _FULL_DISK, *file.urls, file.md5, str(tmp_path)]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert said == f"{tmp_path / 'a.bin.part'}: no space left on the disk; what was written before is kept\n"
    assert fetch_file(file, tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == ("/file", "bytes=50000-")


def test_a_note_that_is_no_text_is_a_damaged_file(tmp_path):
    (tmp_path / "shd_train.h5").write_bytes(b"")
    for note in (b"\xff\xfe", b""):
        (tmp_path / "shd_train.h5.md5").write_bytes(note)
        assert verify("shd", tmp_path)[0].state == "damaged"
