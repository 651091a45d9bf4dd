r"""Make untrusted text safe to print as one line, in a terminal and in the log of a CI system.

File names, captions and messages of other programs may contain any character. Invisible ones are written as
escapes such as `\x1b`, so that no text moves the cursor, reverses or ends the line, or is taken for a CI command.
Letters of all scripts and emoji stay as they are.
"""

import re
import unicodedata

LONGEST = 2000  # characters of a line by default
_GAP = " ... "
_OF_THE_TAIL = 3  # of a long text, the end keeps one third of the characters

# Spaces that keyboards and systems put into ordinary names: no-break, narrow no-break, ideographic.
_SPACES = frozenset("\u00a0\u202f\u3000")
# Visible format characters: number signs of Arabic, Syriac and Kaithi.
_SEEN = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
# Letters, marks and symbols with an empty glyph.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
# Joiners change how the letters of some scripts are drawn; next to other characters they are invisible.
_NON_JOINER, _JOINER, _MONGOLIAN = "\u200c", "\u200d", "\u180e"
_JOINERS = frozenset((_NON_JOINER, _JOINER, _MONGOLIAN))
_SKIN = range(0x1F3FB, 0x1F400)
# GitHub runs lines that start with `::`; GitHub, Azure and TeamCity run lines with `##[` or `##name[` anywhere.
_COMMAND = re.compile(r"(?P<start>^\s*):(?=:)|#(?P<hash>#)(?=\w*\[)")


def printable(text: object, longest: int | None = LONGEST) -> str:
    r"""Return `text` as one line that is safe to print.

    Control, format and bidirectional characters, line ends, lone surrogates (bytes of a name that are not UTF-8)
    and unassigned code points become escapes. So does the first character of a CI command. The function is
    idempotent.

    Args:
        text: a text, or any object with a `str`.
        longest: characters of the line; the middle of a longer one is left out. None for no limit.

    >>> printable("clip\udcff\x1b[31m.mp4\n::error::gone")
    'clip\\udcff\\x1b[31m.mp4\\n::error::gone'
    >>> printable("::error::gone")
    '\\x3a:error::gone'
    >>> printable("x" * 100, longest=20)
    'xxxxxxxxxx ... xxxxx'
    """
    line = _escaped(str(text))
    if longest is not None and len(line) > longest:
        tail = max(longest - len(_GAP), 0) // _OF_THE_TAIL
        head = max(longest - len(_GAP) - tail, 0)
        # Escaped again, because a joiner may have lost its neighbour.
        line = _escaped(line[:head].rstrip("".join(_JOINERS)) + _GAP + _tail(line, tail))
    return line


def _tail(line: str, length: int) -> str:
    """Return the end of a line, without marks and joiners that belong to omitted characters."""
    tail = line[len(line) - length :]
    while tail and (tail[0] in _JOINERS or unicodedata.category(tail[0]).startswith("M")):
        tail = tail[1:]
    return tail


def _escaped(text: str) -> str:
    if not text.isascii() or not text.isprintable():
        text = "".join(char if _is_seen(text, place, char) else _escape(char) for place, char in enumerate(text))
    return _COMMAND.sub(_break, text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode()


def _break(match: re.Match[str]) -> str:
    return r"#\x23" if match["hash"] else match["start"] + r"\x3a"


def _is_seen(text: str, place: int, char: str) -> bool:
    """Return whether a character is visible, or changes how its neighbours are drawn."""
    if char.isascii():
        return char.isprintable()
    if char in _SPACES or char in _SEEN:
        return True
    if char in _JOINERS:
        return _joins(char, text[max(place - 3, 0) : place], text[place + 1 : place + 2])
    if _is_selector(char):
        return place > 0 and text[place - 1].isprintable() and not _is_selector(text[place - 1])
    return char.isprintable() and char not in _BLANK


def _is_selector(char: str) -> bool:
    """Return whether it selects a variant of the preceding character, such as an ideograph or emoji."""
    return "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef"


def _joins(char: str, before: str, after: str) -> bool:
    """Return whether a joiner is where writing uses it: within a word of a joining script, or an emoji."""
    before = before.rstrip("\ufe0f")
    if not before or not after:
        return False
    if _is_joining(before[-1]) and _is_joining(after):
        return True
    return char == _JOINER and _is_pictured(before[-1]) and unicodedata.category(after) == "So"


def _is_pictured(char: str) -> bool:
    return unicodedata.category(char) == "So" or ord(char) in _SKIN


def _is_joining(char: str) -> bool:
    # From Arabic to Mongolian: the scripts whose letters change shape with their neighbours.
    return "\u0600" <= char <= "\u18aa" and unicodedata.category(char) in ("Lo", "Lm", "Mn", "Mc")
