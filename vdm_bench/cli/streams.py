"""Standard output and error with any encoding, closed or full: problems with them do not interrupt the work.

Characters that the encoding lacks are replaced. If the reader exits early, as `head` does, the rest is discarded
and the exit code stays the same. Messages that standard error cannot take are lost. A full disk under standard
output is an error.
"""

import codecs
import errno
import io
import os
import sys
import unicodedata
from typing import Any, BinaryIO, TextIO, cast

from vdm_bench.errors import InputError
from vdm_bench.runtime.descriptors import open_standard_descriptors

_ERRORS = "vdm-bench-stand-in"
_ASCII = "vdm-bench-ascii"
# Python's default error handlers; another one (`PYTHONIOENCODING=cp1252:replace`) is kept.
_PYTHONS_OWN = ("strict", "surrogateescape", "backslashreplace")
# For symbols; letters, digits and spaces lose their accents and forms.
_STAND_INS = {
    **dict.fromkeys("─━═╌╍┄┅┈┉╴╶╸╺‐‑‒–—―−", "-"),
    **dict.fromkeys("│┃║╎╏┆┇┊┋╵╷╹╻", "|"),
    **dict.fromkeys("‘’′", "'"),
    **dict.fromkeys("“”″", '"'),
    **dict(zip("↑↓×÷·•≈∼", "^vx/.*~~", strict=True)),
    **dict(zip("∞±≤≥≠←→↔«»", ("inf", "+-", "<=", ">=", "!=", "<-", "->", "<->", "<<", ">>"), strict=True)),
}
_OVERLAY = 1  # combining class of strokes, which turn a sign into its opposite


def stand_in(character: str) -> str:
    r"""Return an ASCII replacement for a character that an encoding lacks; its escape if nothing is similar.

    >>> [stand_in(character) for character in "∞┼é\u4e2d"]
    ['inf', '+', 'e', '\\u4e2d']
    """
    if character in _STAND_INS:
        return _STAND_INS[character]
    if unicodedata.name(character, "").startswith("BOX DRAWINGS"):
        return "+"
    parts = unicodedata.normalize("NFKD", character)
    plain = "".join(part for part in parts if unicodedata.combining(part) in (0, _OVERLAY))
    return plain if plain and plain.isascii() and plain.isprintable() else ascii(character)[1:-1]


def accept_any_text() -> None:
    """Make standard output and error accept any text, regardless of their encoding."""
    codecs.register_error(_ERRORS, _replace)
    codecs.register(_find_ascii)
    for stream in (sys.stdout, sys.stderr):
        _accept_any_text(stream)


def accept_any_end() -> None:
    """Make standard output and error writable even if they are closed or their reader has exited.

    Only for the command line, which owns its process.
    """
    open_standard_descriptors()
    sys.stdout, sys.stderr = _guarded(sys.stdout, needed=True), _guarded(sys.stderr, needed=False)


class _Guarded(io.FileIO):
    """An open descriptor; output is discarded once its reader has exited.

    Args:
        descriptor: file descriptor, which stays open.
        needed: whether failed writes are errors.
    """

    def __init__(self, descriptor: int, needed: bool) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._needed, self._over = needed, False

    def write(self, data: Any) -> int:
        """Write to the descriptor; see `io.RawIOBase.write`.

        Raises:
            InputError: it is needed, and a write failed for another reason than a closed pipe.
        """
        size = memoryview(data).nbytes
        if size and not self._over:  # click probes a stream by writing nothing
            try:
                return super().write(data)
            except OSError as error:
                self._over = True  # Python tries to flush once more at exit
                if self._needed and error.errno != errno.EPIPE:
                    raise InputError(_reason(error)) from error
        return size


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "there is no room for what is printed; send it elsewhere"
    return f"what is printed cannot be written ({error.strerror}); send it elsewhere"


def _guarded(stream: TextIO | None, needed: bool) -> TextIO:
    if stream is None:  # it was closed
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - it stays open
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)  # the same under PYTHONUNBUFFERED
    if not isinstance(raw, io.FileIO) or not isinstance(stream, io.TextIOWrapper):
        return stream
    guarded = _Guarded(raw.fileno(), needed)
    return io.TextIOWrapper(
        cast(BinaryIO, guarded if buffer is raw else io.BufferedWriter(guarded)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _accept_any_text(stream: TextIO | None) -> None:
    reconfigure = getattr(stream, "reconfigure", None)  # streams of notebooks and tests have none
    if stream is None or reconfigure is None:
        return
    # Click considers an ASCII stream misconfigured and writes UTF-8 to it.
    is_ascii = codecs.lookup(stream.encoding).name == "ascii"
    errors = _ERRORS if stream.errors in _PYTHONS_OWN else stream.errors
    reconfigure(encoding=_ASCII if is_ascii else stream.encoding, errors=errors)


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(stand_in, error.object[error.start : error.end])), error.end


def _find_ascii(name: str) -> codecs.CodecInfo | None:
    """Return the codec of ASCII under another name."""
    if name.replace("_", "-") != _ASCII:
        return None
    found = codecs.lookup("ascii")
    return codecs.CodecInfo(
        name=_ASCII,
        encode=found.encode,
        decode=found.decode,
        incrementalencoder=found.incrementalencoder,
        incrementaldecoder=found.incrementaldecoder,
        streamreader=found.streamreader,
        streamwriter=found.streamwriter,
    )
