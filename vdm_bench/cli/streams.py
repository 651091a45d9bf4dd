"""Standard output and error of any encoding: what it lacks is replaced, and never ends a command."""

import codecs
import errno
import os
import sys
import unicodedata
from typing import TextIO

_ERRORS = "vdm-bench-stand-in"
_ASCII = "vdm-bench-ascii"
# How Python opens streams; whoever asked for another way (`PYTHONIOENCODING=cp1252:replace`) gets it.
_PYTHONS_OWN = ("strict", "surrogateescape", "backslashreplace")
# Of symbols; letters, digits and spaces lose their accents and forms.
_STAND_INS = {
    **dict.fromkeys("─━═╌╍┄┅┈┉╴╶╸╺‐‑‒–—―−", "-"),
    **dict.fromkeys("│┃║╎╏┆┇┊┋╵╷╹╻", "|"),
    **dict.fromkeys("‘’′", "'"),
    **dict.fromkeys("“”″", '"'),
    **dict(zip("↑↓×÷·•≈∼", "^vx/.*~~", strict=True)),
    **dict(zip("∞±≤≥≠←→↔«»", ("inf", "+-", "<=", ">=", "!=", "<-", "->", "<->", "<<", ">>"), strict=True)),
}
_OVERLAY = 1  # combining class of strokes: with one, a sign means the opposite


def stand_in(character: str) -> str:
    r"""Give ASCII in the place of a character that an encoding lacks; its escape where nothing is like it.

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
    """Have standard output and error take any text, whatever their encoding."""
    codecs.register_error(_ERRORS, _replace)
    codecs.register(_find_ascii)
    for stream in (sys.stdout, sys.stderr):
        _accept_any_text(stream)


def is_full(error: Exception) -> bool:
    """Say whether an error is that of standard output without room; other writers have errors of their own."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def discard_output() -> None:
    """Write the rest of standard output to nowhere; else Python complains of it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _accept_any_text(stream: TextIO | None) -> None:
    reconfigure = getattr(stream, "reconfigure", None)  # streams of notebooks and of tests have none
    if stream is None or reconfigure is None:
        return
    # Click takes a stream in ASCII for one that is set up wrongly, and writes UTF-8 into it.
    is_ascii = codecs.lookup(stream.encoding).name == "ascii"
    errors = _ERRORS if stream.errors in _PYTHONS_OWN else stream.errors
    reconfigure(encoding=_ASCII if is_ascii else stream.encoding, errors=errors)


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(stand_in, error.object[error.start : error.end])), error.end


def _find_ascii(name: str) -> codecs.CodecInfo | None:
    """Give the codec of ASCII under another name."""
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
