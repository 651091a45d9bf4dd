"""Downloads of weights, from a server on this machine that does what it is told."""

import contextlib
import multiprocessing
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

import pytest
from weights_files import checkpoint, pinned, recipe, same, sentence

from vdm_bench.metrics import weights
from vdm_bench.metrics.weights import download
from vdm_bench.metrics.weights.entries import Entry, SourceFile
from vdm_bench.metrics.weights.library import Library

SHAPES = {"a/w": (1000, 300), "b": (300,)}
ENTRY, DATA = checkpoint("made-up", recipe(1, SHAPES))
ENTRY = pinned(ENTRY, DATA)
SIZE = len(DATA)


@dataclass
class Behaviour:
    """What the server gives at a path, and what it was asked and gave there."""

    data: bytes = DATA
    status: int = 200
    ranges: bool = True
    length: bool = True
    drop_after: int | None = None  # bytes of its first answer, before it hangs up
    start: int | None = None  # where it says that every part begins
    redirect: str = ""
    encoding: str = ""
    pause: float = 0.0
    asked: list[str | None] = field(default_factory=list)
    served: list[int] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        behaviour = self.server.behaviours[self.path]  # type: ignore[attr-defined]
        asked = self.headers["Range"]
        behaviour.asked.append(asked)
        first = int(asked.removeprefix("bytes=").rstrip("-")) if asked and behaviour.ranges else 0
        body, status = behaviour.data[first:], behaviour.status
        if first:
            status = 206 if body else 416
        self.send_response(302 if behaviour.redirect else status)
        if behaviour.redirect:
            self.send_header("Location", behaviour.redirect)
        if behaviour.encoding:
            self.send_header("Content-Encoding", behaviour.encoding)
        if status == 206:
            start = first if behaviour.start is None else behaviour.start
            self.send_header("Content-Range", f"bytes {start}-{len(behaviour.data) - 1}/{len(behaviour.data)}")
        if behaviour.length:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        time.sleep(behaviour.pause)
        if behaviour.drop_after is not None:
            body, behaviour.drop_after = body[: behaviour.drop_after], None
        behaviour.served.append(len(body))
        with contextlib.suppress(ConnectionError):  # who asked may have hung up
            self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_: object) -> None: ...


@dataclass
class Server:
    address: str
    behaviours: dict[str, Behaviour]

    def serve(self, path: str = "/w", **changes: object) -> Behaviour:
        self.behaviours[path] = Behaviour(**changes)  # type: ignore[arg-type]
        return self.behaviours[path]

    def entry(self, *paths: str) -> Entry:
        """The made-up entry, whose file lies at these paths."""
        source = replace(ENTRY.files[0], urls=tuple(self.address + path for path in paths or ["/w"]))
        return replace(ENTRY, files=(source,))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.behaviours = {}  # type: ignore[attr-defined]
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    yield Server(f"http://127.0.0.1:{http.server_port}", http.behaviours)  # type: ignore[attr-defined]
    http.shutdown()
    http.server_close()


def library(entry: Entry, folder: Path, reporter: object = None) -> Library:
    return Library({entry.name: entry}, folder / "cache", reporter)  # type: ignore[arg-type]


def left(folder: Path) -> list[str]:
    """Every file of the cache, but locks."""
    files = (folder / "cache").rglob("*")
    return sorted(path.name for path in files if path.is_file() and path.suffix != ".lock")


class Progress:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.steps, self.stages, self.notes = 0, [], []  # type: ignore[var-annotated]

    @contextlib.contextmanager
    def stage(self, title: str, total: int, unit: str = "clips") -> Iterator[object]:
        self.stages.append((title, total, unit))
        yield self.advance

    def advance(self, steps: int) -> None:
        self.steps += steps

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_a_file_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    told, progress = server.serve(), Progress()
    lib = library(server.entry(), tmp_path, progress)
    assert same(lib.load("made-up"), recipe(1, SHAPES))
    assert lib.fetch("made-up") == tmp_path / "cache" / "made-up.safetensors"
    assert same(lib.load("made-up"), recipe(1, SHAPES))
    assert told.asked == [None]
    assert left(tmp_path) == ["made-up.safetensors"]
    assert progress.stages == [("downloading made-up", 1, "MB")]
    assert progress.steps == 1


def test_a_dropped_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    told = server.serve(drop_after=500_000)
    lib = library(server.entry(), tmp_path)
    said = sentence(lambda: lib.fetch("made-up"))
    host = server.address.removeprefix("http://")
    assert said == (
        f"cannot download made-up ({host}: the connection dropped); without a network, put the file from "
        f"{server.address}/w on this machine and run: vdm-bench weights import made-up FILE"
    )
    part = tmp_path / "cache/downloads/made-up/model.ckpt.data-00000-of-00001.part"
    assert left(tmp_path) == [part.name]
    have = part.stat().st_size
    assert 400_000 < have <= 500_000
    lib.fetch("made-up")
    assert told.asked == [None, f"bytes={have}-"]
    assert told.served == [500_000, SIZE - have]
    assert same(lib.load("made-up"), recipe(1, SHAPES))
    assert left(tmp_path) == ["made-up.safetensors"]


def test_a_second_address_goes_on_where_the_first_dropped(server: Server, tmp_path: Path) -> None:
    server.serve("/first", drop_after=500_000)
    second = server.serve("/second")
    library(server.entry("/first", "/second"), tmp_path).fetch("made-up")
    assert second.served[0] < SIZE - 400_000


@pytest.mark.parametrize("answer", [{"ranges": False}, {"start": 0}, {"start": 7}])
def test_a_server_that_cannot_continue_sends_the_whole(
    server: Server, tmp_path: Path, answer: dict[str, object]
) -> None:
    told = server.serve(drop_after=500_000, **answer)
    lib = library(server.entry(), tmp_path)
    sentence(lambda: lib.fetch("made-up"))
    assert same(lib.load("made-up"), recipe(1, SHAPES))
    assert told.served[-1] == SIZE


def test_a_server_that_names_no_length_is_believed_to_its_end(server: Server, tmp_path: Path) -> None:
    server.serve(length=False)
    assert same(library(server.entry(), tmp_path).load("made-up"), recipe(1, SHAPES))
    told = server.serve("/short", length=False, drop_after=500_000)
    lib = library(server.entry("/short"), tmp_path / "other")
    assert f"it ended after 500000 of {SIZE} bytes" in sentence(lambda: lib.fetch("made-up"))
    lib.fetch("made-up")
    assert told.asked == [None, "bytes=500000-"]


def test_a_part_that_is_whole_is_not_asked_for_again(server: Server, tmp_path: Path) -> None:
    """The process ended between the last byte and the new name."""
    told = server.serve()
    part = tmp_path / "cache/downloads/made-up/model.ckpt.data-00000-of-00001.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(DATA)
    library(server.entry(), tmp_path).fetch("made-up")
    assert told.asked == []


@pytest.mark.parametrize(("size", "asked"), [(SIZE, [None]), (None, [f"bytes={SIZE + 9}-", None])])
def test_a_part_that_is_too_long_is_begun_again(
    server: Server, tmp_path: Path, size: int | None, asked: list[str | None]
) -> None:
    told, entry = server.serve(), server.entry()
    entry = replace(entry, files=(replace(entry.files[0], size=size),))
    part = tmp_path / "cache/downloads/made-up/model.ckpt.data-00000-of-00001.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(DATA + bytes(9))
    library(entry, tmp_path).fetch("made-up")
    assert told.asked == asked


def test_the_next_address_is_tried(server: Server, tmp_path: Path) -> None:
    server.serve("/gone", status=404)
    wrong = server.serve("/wrong", data=b"\0" + DATA[1:])
    right = server.serve("/right")
    lib = library(server.entry("/gone", "/wrong", "/right"), tmp_path)
    assert same(lib.load("made-up"), recipe(1, SHAPES))
    assert [len(wrong.asked), len(right.asked)] == [1, 1]


def test_wrong_bytes_are_deleted_and_named(server: Server, tmp_path: Path) -> None:
    data = DATA[:-1] + b"\0"
    server.serve(data=data)
    said = sentence(lambda: library(server.entry(), tmp_path).fetch("made-up"))
    expected = ENTRY.files[0].digest.replace(":", " ")
    assert f"{server.address}/w gave a wrong file, now deleted: {expected} expected" in said
    assert f"{weights.git_blob_id(data)} found" in said
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"status": 404}, "HTTP 404 Not Found"),
        ({"status": 503}, "HTTP 503 Service Unavailable"),
        ({"data": DATA[:-8]}, f"gave a wrong file, now deleted: {SIZE} bytes expected, {SIZE - 8} found"),
        ({"data": DATA + b"more"}, f"it offers {SIZE + 4} bytes, {SIZE} were expected"),
        ({"data": DATA + b"more", "length": False}, f"it sends more than {SIZE} bytes"),
        ({"encoding": "gzip"}, "a compressed form"),
        ({"redirect": "file:///etc/hostname"}, "InvalidSchema"),
    ],
)
def test_an_answer_that_cannot_be_used_is_one_sentence(
    server: Server, tmp_path: Path, answer: dict[str, object], said: str
) -> None:
    server.serve(**answer)
    text = sentence(lambda: library(server.entry(), tmp_path).fetch("made-up"))
    assert text.startswith("cannot download made-up (")
    assert said in text
    assert "vdm-bench weights import made-up FILE" in text
    assert not list((tmp_path / "cache").glob("*.safetensors"))


def test_an_encrypted_address_must_not_lead_to_an_open_one() -> None:
    class Answer:
        status_code, url, headers = 200, "http://example.org/w", {}  # type: ignore[var-annotated]

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None: ...

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("requests.get", lambda *_, **__: Answer())
        with pytest.raises(download.DownloadError, match="not encrypted"), download._response("https://x/w", 0):
            pass


def test_without_a_network_one_sentence_says_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    urls = (f"http://127.0.0.1:{port}/w", "http://nowhere.invalid/w")
    entry = replace(ENTRY, files=(replace(ENTRY.files[0], urls=urls),))
    assert sentence(lambda: library(entry, tmp_path).load("made-up")) == (
        f"cannot download made-up (127.0.0.1:{port}: connection refused; nowhere.invalid: its host is not found; "
        f"is there a network?); without a network, put the file from {urls[0]} on this machine and run: "
        "vdm-bench weights import made-up FILE"
    )
    assert left(tmp_path) == []


def test_a_silent_server_is_given_up(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.serve(pause=1.0)
    monkeypatch.setattr(download, "_TIMEOUT", (0.2, 0.2))
    assert "no answer in time" in sentence(lambda: library(server.entry(), tmp_path).fetch("made-up"))


def test_a_file_without_a_published_size_has_a_limit(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 1000)
    server.serve(length=False)
    entry = server.entry()
    entry = replace(entry, files=(replace(entry.files[0], size=None, digest=""),))
    assert "it sends more than 1000 bytes" in sentence(lambda: library(entry, tmp_path).fetch("made-up"))


def test_a_wrong_tensor_is_found_without_a_digest_and_nothing_is_kept(server: Server, tmp_path: Path) -> None:
    server.serve(data=DATA[:-1] + b"\0")
    entry = server.entry()
    lib = library(replace(entry, files=(replace(entry.files[0], digest=""),)), tmp_path)
    said = sentence(lambda: lib.fetch("made-up"))
    assert f"made-up from {server.address}/w is wrong, and deleted: tensor b has CRC32C" in said
    assert left(tmp_path) == []


def test_a_file_that_was_pinned_at_first_use_may_not_change(server: Server, tmp_path: Path) -> None:
    tensors = {name: replace(info, crc32c=None) for name, info in ENTRY.tensors.items()}
    source = SourceFile("w", (f"{server.address}/w",))
    entry = replace(ENTRY, files=(source,), tensors=tensors)
    lib = library(entry, tmp_path)
    server.serve()
    path = lib.fetch("made-up")
    path.unlink()
    server.serve(data=DATA[:-4] + bytes(4))
    record = tmp_path / "cache" / "made-up.sha256"
    said = sentence(lambda: lib.load("made-up"))
    assert f"sha256 {record.read_text()[:64]} expected as at its first use" in said
    assert f"delete {record} to accept the new file" in said
    assert left(tmp_path) == ["made-up.sha256"]
    record.unlink()
    assert lib.load("made-up")["b"][-1] == 0


def test_a_damaged_file_of_the_cache_is_fetched_again(server: Server, tmp_path: Path) -> None:
    told = server.serve()
    lib = library(server.entry(), tmp_path)
    path = lib.fetch("made-up")
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    assert "vdm-bench weights fetch made-up" in sentence(lambda: lib.load("made-up"))
    lib.fetch("made-up")
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    lib.fetch("made-up")
    assert same(lib.load("made-up"), recipe(1, SHAPES))
    assert len(told.asked) == 3


def fetch_and_load(entry: Entry, folder: Path) -> str:
    lib = library(entry, folder)
    lib.fetch(entry.name)
    return weights.content_digest(lib.load(entry.name))


def test_two_processes_share_one_download(server: Server, tmp_path: Path) -> None:
    told = server.serve(pause=1.0)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as processes:
        both = [processes.submit(fetch_and_load, server.entry(), tmp_path) for _ in range(2)]
        assert {one.result() for one in both} == {weights.content_digest(recipe(1, SHAPES))}
    assert told.served == [SIZE]
    assert left(tmp_path) == ["made-up.safetensors"]


def test_who_waits_for_another_process_is_told(server: Server, tmp_path: Path) -> None:
    server.serve()
    progress = Progress()
    lib = library(server.entry(), tmp_path, progress)
    with lib.store.writing(server.entry(), lambda text: None):
        waiting = threading.Thread(target=lib.fetch, args=("made-up",))
        waiting.start()
        while not progress.notes:
            time.sleep(0.01)
        assert waiting.is_alive()
    waiting.join()
    assert re.fullmatch(
        rf"waiting for process {os.getpid()} on \S+ \(weights, since .* UTC\), which is writing "
        rf"{re.escape(str(lib.store.path(server.entry())))}, for 120 min at most",
        *progress.notes,
    )
    assert left(tmp_path) == ["made-up.safetensors"]
