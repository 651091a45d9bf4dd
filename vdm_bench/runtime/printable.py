r"""Text from outside as one line for people and terminals, and for the CI systems that read what is printed.

Names of files, captions, messages of parsers and of other people's programs hold anything. What cannot be seen is
written as its escape, `\x1b` and the like, so that no text moves a cursor, turns the line around, ends it, or is
taken for a command. Letters of every script, emoji too, stay as they are.
"""

import re
import unicodedata

LONGEST = 2000  # characters of a line, where nothing else is said
_GAP = " ... "
_OF_THE_TAIL = 3  # one part in this many of what is left of a long text is its end

# Spaces that keyboards and systems put into ordinary names: no-break, narrow no-break, ideographic.
_SPACES = frozenset("\u00a0\u202f\u3000")
# Format characters that are seen: signs written around numbers, of Arabic, Syriac and Kaithi.
_SEEN = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
# Letters, marks and symbols that are drawn as nothing.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
# Joiners, which change how their neighbours are drawn; between others they only hide.
_NON_JOINER, _JOINER, _MONGOLIAN = "\u200c", "\u200d", "\u180e"
_JOINERS = frozenset((_NON_JOINER, _JOINER, _MONGOLIAN))
_SKIN = range(0x1F3FB, 0x1F400)
# GitHub runs lines that start so; it, Azure and TeamCity run those in which the second stands anywhere.
_COMMAND = re.compile(r"(?P<start>^\s*):(?=:)|#(?P<hash>#)(?=\w*\[)")


def printable(text: object, longest: int | None = LONGEST) -> str:
    r"""Return one line that shows `text` and does nothing else.

    Control, format and bidirectional characters, line ends, lone surrogates (bytes of a name that are no UTF-8)
    and unassigned code points become escapes. So does the first sign of what a CI system reads as a command. Done
    twice, it changes nothing more.

    Args:
        text: any; what is no text is shown as `str` shows it.
        longest: characters of the line; a longer one loses its middle. None for no limit.

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
        # Once more: a joiner may have lost its neighbour.
        line = _escaped(line[:head].rstrip("".join(_JOINERS)) + _GAP + _tail(line, tail))
    return line


def _tail(line: str, length: int) -> str:
    """Return the end of a line, without marks and joiners of what is gone."""
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
    """Say whether a character can be seen, or shapes those beside it."""
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
    """Say whether it chooses a form of the character before it, as of ideographs and emoji."""
    return "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef"


def _joins(char: str, before: str, after: str) -> bool:
    """Say whether a joiner stands where writing has it: within a word of a joining script, or an emoji."""
    before = before.rstrip("\ufe0f")
    if not before or not after:
        return False
    if _is_joining(before[-1]) and _is_joining(after):
        return True
    return char == _JOINER and _is_pictured(before[-1]) and unicodedata.category(after) == "So"


def _is_pictured(char: str) -> bool:
    return unicodedata.category(char) == "So" or ord(char) in _SKIN


def _is_joining(char: str) -> bool:
    # From Arabic to Mongolian: the scripts whose letters are shaped by their neighbours.
    return "\u0600" <= char <= "\u18aa" and unicodedata.category(char) in ("Lo", "Lm", "Mn", "Mc")
