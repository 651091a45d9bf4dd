"""What can be told of a file undecoded: whether it is there, and as long as its container says.

ISO base media (MP4, MOV): ISO/IEC 14496-12, 4.2; RIFF (AVI); EBML (Matroska, WebM): RFC 8794, 4 and 5;
GIF: GIF89a, 16 to 27. Length-prefixed H.264 and HEVC: ISO/IEC 14496-15, 5.3.3 and 8.3.3.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from vdm_bench.errors import BrokenClipError

# A box of another kind after the last of these is junk that players step over, not a part that is missing.
_NEEDED_BOXES = frozenset({b"ftyp", b"moov", b"moof", b"mdat"})
_FIRST_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"})
_EBML_HEADER = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"
_GIF_EXTENSION, _GIF_IMAGE, _GIF_TRAILER = 0x21, 0x2C, 0x3B


@contextlib.contextmanager
def while_there(path: Path) -> Iterator[None]:
    """Take a file or folder that is not there, or vanishes while it is read, for a broken clip.

    Raises:
        BrokenClipError: so it is.
    """
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        reason = "is a link to what is not there" if path.is_symlink() else "no such file"
        raise BrokenClipError(str(path), reason) from error


def check_file(path: Path) -> None:
    """Refuse what is no file with content.

    Raises:
        BrokenClipError: `path` is missing, a folder, a pipe or the like, empty, or cannot be opened.
    """
    try:
        with while_there(path):
            if path.is_dir():
                raise BrokenClipError(str(path), "is a folder, not a file")
            if path.exists() and not path.is_file():  # to open a pipe would wait for its other end
                raise BrokenClipError(str(path), "is a pipe or a device, not a file")
            with path.open("rb") as file:
                if not file.read(1):
                    raise BrokenClipError(str(path), "is empty (0 bytes)")
    except OSError as error:
        raise BrokenClipError(str(path), f"cannot be opened ({error.strerror})") from error


def is_cut_short(path: Path) -> bool:
    """Whether the container at `path` announces more bytes than the file holds, or a GIF ends in mid-air.

    False also for a container that announces no length (MPEG-TS, a stream that was written live) and for a
    file of no known kind.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(12)
        if start[4:8] in _FIRST_BOXES:
            return _end_of_boxes(file, size) > size
        if start[:4] == b"RIFF":
            return _end_of_riff(file, size) > size
        if start[:4] == _EBML_HEADER:
            return _end_of_segment(file) > size
        return start[:4] == b"GIF8" and not _gif_has_an_end(path.read_bytes())


def nal_length_size(codec: str, extradata: bytes | None) -> int:
    """Bytes of the length before each NAL unit of a packet; 0 where the stream is not length-prefixed."""
    position = {"h264": 4, "hevc": 21}.get(codec)
    if position is None or extradata is None or len(extradata) <= position or extradata[0] != 1:
        return 0
    return (extradata[position] & 3) + 1


def is_whole_picture(packet: bytes, length_size: int) -> bool:
    """Whether the lengths of the NAL units in `packet` lead from its first byte to its last.

    This is the check that decoders make before anything else; made here it finds a damaged frame without
    decoding the ones before it. Packets with start codes are left to the decoder.
    """
    if packet.startswith(b"\0\0\0\1"):
        return True
    position = 0
    while position + length_size < len(packet):
        length = int.from_bytes(packet[position : position + length_size], "big")
        if length == 0:
            return False
        position += length_size + length
    return position <= len(packet)


def _end_of_boxes(file: BinaryIO, size: int) -> int:
    position = end = 0
    while position + 8 <= size:
        file.seek(position)
        header = file.read(16)
        length, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length < 8 or kind == b"\0\0\0\0":  # 0: up to the end of the file
            break
        position += length
        if kind in _NEEDED_BOXES:
            end = position
    return end


def _end_of_riff(file: BinaryIO, size: int) -> int:
    position = 0
    while position + 8 <= size:  # above 1 GB an AVI file is several RIFF chunks
        file.seek(position)
        header = file.read(8)
        length = int.from_bytes(header[4:], "little")
        if header[:4] != b"RIFF" or length in (0, 0xFFFFFFFF):  # a header that was never completed
            break
        position += 8 + length + length % 2
    return position


def _end_of_segment(file: BinaryIO) -> int:
    file.seek(len(_EBML_HEADER))
    header_length = _read_ebml_length(file)
    if header_length is None:
        return 0
    file.seek(header_length, os.SEEK_CUR)
    if file.read(len(_SEGMENT)) != _SEGMENT:
        return 0
    length = _read_ebml_length(file)
    return 0 if length is None else file.tell() + length


def _read_ebml_length(file: BinaryIO) -> int | None:
    """A length of 1 to 8 bytes (RFC 8794, 4); None where it is left open or is no length."""
    first = file.read(1)
    if not first or first == b"\0":
        return None
    more = 8 - first[0].bit_length()
    value = int.from_bytes(first + file.read(more), "big")
    bits = 7 * (more + 1)
    value &= (1 << bits) - 1
    return None if value == (1 << bits) - 1 else value


def _gif_has_an_end(data: bytes) -> bool:
    """Whether the blocks lead to the trailer; FFmpeg drops, silently, all that follows a damaged one."""
    position = 13 + _colour_table(data[10:11])
    while position < len(data):
        kind = data[position]
        if kind == _GIF_TRAILER:
            return True
        if kind == _GIF_EXTENSION:
            position += 2
        elif kind == _GIF_IMAGE:
            position += 11 + _colour_table(data[position + 9 : position + 10])
        else:
            return False
        while position < len(data) and data[position]:  # sub-blocks, each with its length before it
            position += 1 + data[position]
        position += 1
    return False


def _colour_table(flags: bytes) -> int:
    """Bytes of the colour table that these flags (one byte, or none at the end of the file) announce."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0
