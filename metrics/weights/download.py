"""Resumable downloads.

pooch handles temporary names and moves. Its own HTTP downloader always starts at the first byte, so it uses this
one instead. An incomplete file is kept as `<name>.part`.
"""

import contextlib
import re
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from vdm_bench.errors import InputError
from vdm_bench.metrics.weights.entries import Entry, SourceFile
from vdm_bench.metrics.weights.store import mismatch
from vdm_bench.runtime.input_files import whole_number

if TYPE_CHECKING:
    from requests import Response

PARTIAL = ".part"
MAX_BYTES = 2 << 30  # of a file whose size nobody published

_TIMEOUT = (10.0, 60.0)  # seconds to connect, and between two pieces
_PIECE = 1 << 16
_MB = 10**6


class DownloadReporter(Protocol):
    """Where progress goes: `vdm_bench.runtime.progress.Console`, for one."""

    def stage(
        self, title: str, total: int, unit: str = "clips"
    ) -> contextlib.AbstractContextManager[Callable[[int], None]]:
        """Open a stage of `total` steps; it yields a function to call with the number of steps just done."""

    def note(self, text: str) -> None:
        """Print a sentence between the lines of progress."""


class UnavailableError(InputError):
    """Weights that cannot be downloaded.

    Attributes:
        problems: each entry, with the reason.
    """

    def __init__(self, problems: Sequence[tuple[Entry, str]]) -> None:
        what = ", ".join(f"{entry.name} ({reason})" for entry, reason in problems)
        super().__init__(f"cannot download {what}; {way_out([entry for entry, _ in problems])}")
        self.problems = tuple(problems)

    @classmethod
    def of(cls, errors: Sequence["UnavailableError"]) -> "UnavailableError":
        """Join several errors into one that names all the weights."""
        return cls([problem for error in errors for problem in error.problems])


class DownloadError(Exception):
    """A URL from which the file could not be downloaded; the message is a short reason."""


class _StaleError(Exception):
    """The incomplete file cannot be resumed and must be downloaded from the start."""


def download(
    entry: Entry,
    source: SourceFile,
    folder: Path,
    reporter: DownloadReporter | None,
    refuse: Callable[[SourceFile, Path], str] = mismatch,
) -> Path:
    """Download a file of an entry into `folder`, from the first of its URLs that provides the right bytes.

    Args:
        entry: the entry.
        source: the file to download.
        folder: target folder; created if needed.
        reporter: where progress goes.
        refuse: returns what is wrong with a file, or "".

    Raises:
        UnavailableError: no URL provided the file. Wrong files are deleted, incomplete ones kept.
    """
    target, problems = folder / source.name, []
    if target.exists() and refuse(source, target):
        target.unlink()
    for url in source.urls:
        try:
            if not target.exists():
                _retrieve(url, source, target, f"downloading {entry.name}", reporter)
        except DownloadError as error:
            problems.append(f"{urlsplit(url).netloc}: {error}")
            continue
        wrong = refuse(source, target)
        if not wrong:
            return target
        target.unlink()
        problems.append(f"{url} gave a wrong file, now deleted: {wrong}")
    raise UnavailableError([(entry, "; ".join(dict.fromkeys(problems)))])


def way_out(entries: Sequence[Entry]) -> str:
    """Return a sentence on how to get weights with a network connection, and without one."""
    sources = [source for entry in entries for source in entry.files]
    files = " and ".join(source.urls[0] for source in sources)
    noun = "file" if len(sources) == 1 else "files"
    names, arguments = " ".join(entry.name for entry in entries), " ".join(["FILE"] * len(sources))
    retry = f"get them with: vdm-bench weights fetch {names}; " if len(entries) > 1 else ""
    name = f"{names} " if len(entries) == 1 else ""  # several are recognised by their content
    return (
        f"{retry}without a network, put the {noun} from {files} on this machine and run: "
        f"vdm-bench weights import {name}{arguments}"
    )


def _retrieve(url: str, source: SourceFile, target: Path, title: str, reporter: DownloadReporter | None) -> None:
    import pooch  # type: ignore[import-untyped]

    def download_to(url: str, output_file: str, _: object) -> None:
        part = target.with_name(target.name + PARTIAL)
        _resume(url, part, source.size, title, reporter)
        part.replace(output_file)

    # Its log suggests storing the SHA-256 it computed, but the catalogue has the digests.
    pooch.get_logger().setLevel("WARNING")
    pooch.retrieve(url, known_hash=None, fname=target.name, path=target.parent, downloader=download_to)


def _resume(url: str, part: Path, size: int | None, title: str, reporter: DownloadReporter | None) -> None:
    """Download the missing rest of `part`.

    Raises:
        DownloadError: the file is incomplete; `part` is kept if it can be resumed.
    """
    try:
        _continue(url, part, size, title, reporter)
    except _StaleError:
        part.unlink()
        _continue(url, part, size, title, reporter)


def _continue(url: str, part: Path, size: int | None, title: str, reporter: DownloadReporter | None) -> None:
    done = part.stat().st_size if part.exists() else 0
    if done == size:
        return  # whole, but the process ended before it was renamed
    limit = MAX_BYTES if size is None else size
    if done > limit:
        raise _StaleError
    with _response(url, done) as response:
        done = _start(response, done)
        total = _total(response, done, size)
        if total > limit:
            raise DownloadError(f"it offers {total} bytes, {limit} were expected")
        with _stage(reporter, title, total // _MB) as advance, part.open("ab" if done else "wb") as file:
            advance(done // _MB)
            for piece in response.iter_content(_PIECE):
                file.write(piece)
                advance((done + len(piece)) // _MB - done // _MB)
                done += len(piece)
                if done > limit:
                    break
    if done > limit:
        part.unlink()
        raise DownloadError(f"it sends more than {limit} bytes")
    if done < total:
        raise DownloadError(f"it ended after {done} of {total} bytes")


@contextlib.contextmanager
def _response(url: str, done: int) -> Iterator["Response"]:
    """Request the file from byte `done` on."""
    import requests

    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    try:
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            if done and response.status_code == requests.codes.requested_range_not_satisfiable:
                raise _StaleError
            if response.status_code not in (requests.codes.ok, requests.codes.partial_content):
                raise DownloadError(f"HTTP {response.status_code} {response.reason}")
            if url.startswith("https://") and not response.url.startswith("https://"):
                raise DownloadError(f"it leads to {response.url}, which is not encrypted")
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise DownloadError("it answers in a compressed form that was not asked for")
            yield response
    except (requests.RequestException, ValueError) as error:  # ValueError: a redirect to an invalid URL
        raise DownloadError(_reason(error)) from error


def _start(response: "Response", done: int) -> int:
    """Return the first byte of the response: 0 from a server that ignores ranges."""
    if response.status_code != 206:
        return 0
    start = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if start is None or whole_number(start[1]) != done:
        if done:
            raise _StaleError
        raise DownloadError("it answers with a part of the file that was not asked for")
    return done


def _total(response: "Response", done: int, size: int | None) -> int:
    """Return the size of the complete file: the server's, else the catalogue's, else 0."""
    length = whole_number(response.headers.get("Content-Length", ""))
    return size or 0 if length is None else done + length


def _stage(
    reporter: DownloadReporter | None, title: str, total: int
) -> contextlib.AbstractContextManager[Callable[[int], None]]:
    return reporter.stage(title, total, "MB") if reporter else contextlib.nullcontext(lambda steps: None)


def _reason(error: BaseException) -> str:
    """Return a short reason for an error; requests wraps the cause several times."""
    import requests

    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        nested = [
            item for item in (*cause.args, getattr(cause, "reason", None)) if isinstance(item, BaseException)
        ]
        cause = nested[0] if nested else cause.__cause__ or cause.__context__
    for kind, words in (
        (socket.gaierror, "its host is not found; is there a network?"),
        (ConnectionRefusedError, "connection refused"),
        (ssl.SSLError, "its certificate cannot be verified"),
        (requests.exceptions.ProxyError, "the proxy does not answer"),
        (requests.exceptions.Timeout, "no answer in time"),
        (TimeoutError, "no answer in time"),
        (requests.exceptions.ChunkedEncodingError, "the connection dropped"),
        (requests.exceptions.ConnectionError, "the connection failed"),
    ):
        if any(isinstance(item, kind) for item in seen):
            return words
    return f"{type(error).__name__}: {error}"
