"""Checks and facts of video and image files that need no decoding, such as whether a file is truncated.

Sources of the formats:
ISO base media (MP4, MOV): ISO/IEC 14496-12, 4.2; RIFF (AVI); EBML (Matroska, WebM): RFC 8794, 4 and 5;
GIF: GIF89a, 16 to 27; PNG: PNG (third edition), 5.3, 5.5 and 11.3.6; WebP: RFC 9649, 2.
Length-prefixed H.264 and HEVC: ISO/IEC 14496-15, 5.3.3 and 8.3.3; FFV1: RFC 9043, 4.9.
"""

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from vdm_bench.errors import BrokenClipError
from vdm_bench.runtime.input_files import open_file, parsing

# Boxes of other kinds after the last of these are junk that players skip, not a missing part.
_NEEDED_BOXES = frozenset({b"ftyp", b"moov", b"moof", b"mdat"})
_FIRST_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"})
_EBML_HEADER = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"
# Codecs whose packets may hold no visible picture, or more than one.
CODECS_OF_UNEVEN_PACKETS = frozenset({"gif", "mpeg4", "vp8", "vp9"})
_IDR = 5
_MPEG4_PICTURE = b"\0\0\1\xb6"
_MPEG4_HEADER = 19  # bytes, including what encoders append
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_WEBP_ANIMATION = 0x02
_PIECE = 1 << 20  # bytes per read
_FFV1_FOOTER = 8  # bytes after a slice with a checksum: its length (3), a status (1), the checksum (4)
_ALL_ONES = 0xFFFFFFFF
# FFV1 computes its CRC from the highest bit of each byte, zlib from the lowest.
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
# AVI headers for which FFmpeg allocates memory before reading them. A truncated file may lack some bytes of them.
_AVI_ALLOCATED = frozenset({b"strf", b"strd", b"strn"})
_MOST_LACKING = 1 << 20  # bytes
_GIF_EXTENSION, _GIF_IMAGE, _GIF_TRAILER = 0x21, 0x2C, 0x3B


def open_clip(path: Path) -> BinaryIO:
    """Open a regular file that is not empty.

    Raises:
        BrokenClipError: `path` is missing, empty, not a regular file, or cannot be opened.
        MachineError: the machine cannot open it now.
    """
    file = open_file(path)
    try:
        with parsing(path):
            if _size(file) == 0:
                raise BrokenClipError(str(path), "is empty (0 bytes)")
    except BaseException:
        file.close()
        raise
    return file


def check_file(path: Path) -> None:
    """Raise the errors of `open_clip` for a file that cannot be a clip."""
    open_clip(path).close()


def is_cut_short(path: Path) -> bool:
    """Return whether the container at `path` declares more bytes than the file has, or a GIF lacks its trailer.

    False for a container without a declared length (MPEG-TS, a live recording) and for an unknown format.
    """
    with open_file(path) as file, parsing(path):
        size = _size(file)
        start = file.read(12)
        if start[4:8] in _FIRST_BOXES:
            return _end_of_boxes(file, size) > size
        if start[:4] == b"RIFF":
            return _end_of_riff(file, size) > size
        if start[:4] == _EBML_HEADER:
            return _end_of_segment(file) > size
        return start[:4] == b"GIF8" and not _gif_has_an_end(start + file.read())


def check_container(path: Path) -> None:
    """Refuse an animated PNG with a wrong checksum, and an AVI file with a header longer than the file.

    FFmpeg allocates as many bytes as AVI titles and codec settings claim to have before it reads them.

    Raises:
        BrokenClipError: the file is damaged in this way, or `open_clip` refuses it.
        MachineError: the machine cannot read it now.
    """
    with open_clip(path) as file, parsing(path):
        check_chunks(path, file)
        file.seek(0)
        if file.read(4) not in (b"RIFF", b"ON2 "):
            return
        size = _size(file)
        for kind, end in _avi_headers(file, size):
            if end > size + _MOST_LACKING:
                name = kind.decode("ascii")
                raise BrokenClipError(str(path), f"damaged: its header {name} is longer than the file")


def check_chunks(path: Path, file: BinaryIO) -> None:
    """Compare the chunks of a PNG, still or animated, with their CRC-32; other formats are not checked.

    Neither Pillow nor FFmpeg checks the chunks with pixels, where most flipped bits would change the picture.

    Args:
        path: names the file in errors.
        file: open at its beginning.

    Raises:
        BrokenClipError: a chunk has changed or is longer than the file.
    """
    if file.read(8) != _PNG_SIGNATURE:
        return
    kind = b""
    while kind != b"IEND" and len(header := file.read(8)) == 8:
        kind, rest = header[4:], int.from_bytes(header[:4], "big")
        found = zlib.crc32(kind)
        while rest and (piece := file.read(min(rest, _PIECE))):
            found, rest = zlib.crc32(piece, found), rest - len(piece)
        expected = file.read(4)
        if len(expected) < 4:
            raise BrokenClipError(str(path), "is cut short or damaged: a part of it is longer than the file")
        if found.to_bytes(4, "big") != expected:
            name = kind.decode("ascii", "replace")
            raise BrokenClipError(str(path), f"is damaged: the checksum of its {name} is not that of its content")


def is_animated_image(file: BinaryIO) -> bool:
    """Return whether a file, open at its beginning, is an animated PNG or WebP according to its header."""
    start = file.read(21)
    if start[:8] == _PNG_SIGNATURE:
        file.seek(8)
        return _png_is_animated(file)
    return _webp_is_animated(start)


def is_animated_webp(path: Path) -> bool:
    """Return whether a WebP image is animated according to its header; False for other formats."""
    with open_file(path) as file, parsing(path):
        return _webp_is_animated(file.read(21))


def is_lossless_webp(path: Path) -> bool:
    """Return whether all pictures of the WebP image at `path` are stored in lossless WebP."""
    with open_file(path) as file, parsing(path):
        return all(kind != b"VP8 " for kind, _ in _webp_chunks(file, 12, _size(file)))


def webp_delays(path: Path) -> list[int]:
    """Return the duration of each frame of the animated WebP image at `path`, in milliseconds."""
    with open_file(path) as file, parsing(path):
        chunks = _webp_chunks(file, 12, _size(file))
        return [_webp_delay(file, place) for kind, place in chunks if kind == b"ANMF"]


def nal_length_size(codec: str, extradata: bytes | None) -> int:
    """Return the size in bytes of the length before each NAL unit; 0 if the stream is not length-prefixed."""
    position = {"h264": 4, "hevc": 21}.get(codec)
    if position is None or extradata is None or len(extradata) <= position or extradata[0] != 1:
        return 0
    return (extradata[position] & 3) + 1


def is_whole_picture(packet: bytes, length_size: int) -> bool:
    """Return whether the lengths of the NAL units add up to the length of `packet`.

    Decoders make this check first. Made here, it finds a damaged frame without decoding the frames before it.
    Packets with start codes are left to the decoder.
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


def ffv1_slices(packet: bytes) -> tuple[int, int]:
    """Count the slices of an FFV1 picture with a correct CRC-32; also return 1 if anything else is left, else 0.

    In an intact picture all are correct. If slices have no checksums, none is, except with probability 2 ** -32.
    FFmpeg checks them too, but silently conceals damaged slices with the previous picture.
    """
    fitting, end = 0, len(packet)
    while end > _FFV1_FOOTER:  # the length of a slice follows it
        place = end - _FFV1_FOOTER
        start = place - int.from_bytes(packet[place : place + 3], "big")
        if start < 0 or zlib.crc32(packet[start:end].translate(_MIRRORED), _ALL_ONES) != _ALL_ONES:
            break
        fitting, end = fitting + 1, start
    return fitting, int(end > 0)


def is_clean_start(codec: str, packet: bytes, length_size: int) -> bool:
    """Return whether decoders certainly show all pictures of a video from this one on.

    In H.264 only an IDR picture guarantees it; other entry points may refer to earlier pictures (7.4.1.2.4).
    """
    if codec != "h264":
        return True
    if not length_size or packet.startswith(b"\0\0\0\1"):
        return any(unit[:1] and unit[0] & 31 == _IDR for unit in packet.split(b"\0\0\1"))
    position = 0
    while position + length_size < len(packet):
        if packet[position + length_size] & 31 == _IDR:
            return True
        position += length_size + int.from_bytes(packet[position : position + length_size], "big")
    return False


def shown_pictures(codec: str, packet: bytes) -> int:
    """Count the visible pictures in a packet, as far as its header shows: 1 unless in `CODECS_OF_UNEVEN_PACKETS`.

    VP8: RFC 6386, 9.1; VP9: "VP9 Bitstream Overview", 2.1. In MPEG-4, a packet with hardly more than a header
    repeats the previous picture. In AVI it may also stand for a picture that was packed into an earlier packet.
    """
    if codec == "vp8":
        return int(bool(packet[0] & 0x10))
    if codec == "vp9":  # an index at its end, 110xxxxx, makes a frame of several pictures, one of them shown
        is_shown = packet[0] & 0x08 or packet[0] & 0x02 or packet[0] & 0x30 == 0x30
        return int(bool(is_shown) or packet[-1] & 0xE0 == 0xC0)
    if codec == "gif":  # a comment may follow the last picture
        return int(_gif_has_a_picture(packet))
    if codec == "mpeg4":
        return 0 if len(packet) <= _MPEG4_HEADER else max(1, packet.count(_MPEG4_PICTURE))
    return 1


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


def _avi_headers(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int]]:
    """Yield the kind and the end of each header of an AVI file for which FFmpeg allocates memory."""
    position = 12
    while position + 8 <= size:
        file.seek(position)
        header = file.read(12)
        kind, length = header[:4], int.from_bytes(header[4:8], "little")
        end = position + 8 + length
        if kind == b"LIST" and header[8:] not in (b"INFO", b"movi"):  # read its items, whatever its length
            end = position + 12
        elif kind == b"LIST" and header[8:] == b"INFO":
            yield b"INFO", end
        elif kind == b"LIST" and length < 4:  # a live recording of unknown length
            return
        elif kind in _AVI_ALLOCATED:
            yield kind, end
        position = end + end % 2


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


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _png_is_animated(file: BinaryIO) -> bool:
    """Return whether a PNG has the chunk `acTL` before its image; `file` is positioned at the first chunk."""
    while len(header := file.read(8)) == 8 and header[4:] not in (b"IDAT", b"IEND"):
        if header[4:] == b"acTL":
            return True
        file.seek(int.from_bytes(header[:4], "big") + 4, os.SEEK_CUR)  # and 4 of the checksum
    return False


def _webp_is_animated(start: bytes) -> bool:
    is_extended = len(start) > 20 and start[:4] == b"RIFF" and start[8:16] == b"WEBPVP8X"
    return is_extended and bool(start[20] & _WEBP_ANIMATION)


def _webp_chunks(
    file: BinaryIO, position: int, end: int, *, in_frame: bool = False
) -> Iterator[tuple[bytes, int]]:
    """Yield the kind and position of each chunk between `position` and `end`, and of those within frames."""
    while position + 8 <= end:
        file.seek(position)
        header = file.read(8)
        length = int.from_bytes(header[4:], "little")
        yield header[:4], position
        if header[:4] == b"ANMF" and not in_frame:  # a frame; frames do not nest; its header has 16 bytes
            yield from _webp_chunks(file, position + 24, min(end, position + 8 + length), in_frame=True)
        position += 8 + length + length % 2


def _webp_delay(file: BinaryIO, frame: int) -> int:
    file.seek(frame + 8 + 12)
    return int.from_bytes(file.read(3), "little")


def _read_ebml_length(file: BinaryIO) -> int | None:
    """Read a length of 1 to 8 bytes (RFC 8794, 4); None if it is unknown or invalid."""
    first = file.read(1)
    if not first or first == b"\0":
        return None
    more = 8 - first[0].bit_length()
    value = int.from_bytes(first + file.read(more), "big")
    bits = 7 * (more + 1)
    value &= (1 << bits) - 1
    return None if value == (1 << bits) - 1 else value


def _gif_has_an_end(data: bytes) -> bool:
    """Return whether the blocks lead to the trailer; FFmpeg silently drops everything after a damaged block."""
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
        position = _after_sub_blocks(data, position)
    return False


def _after_sub_blocks(data: bytes, position: int) -> int:
    while position < len(data) and data[position]:  # the length of a block precedes it
        position += 1 + data[position]
    return position + 1


def _gif_has_a_picture(packet: bytes) -> bool:
    """Return whether a picture follows the extensions at the start of a packet (in the first, the header)."""
    position = 0
    while position + 1 < len(packet) and packet[position] == _GIF_EXTENSION:
        position = _after_sub_blocks(packet, position + 2)
    return position < len(packet) and packet[position] != _GIF_TRAILER


def _colour_table(flags: bytes) -> int:
    """Return the size in bytes of the colour table that the flags (one byte, or none at the end) declare."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0
