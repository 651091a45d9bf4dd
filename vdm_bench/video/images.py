"""Clips that are images: folders of frames, and image strips."""

import contextlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.runtime.input_files import open_file, parsing, status_of
from vdm_bench.video.containers import check_chunks, is_animated_image, open_clip
from vdm_bench.video.view import FrameTransform, unchanged

FRAME_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
_FORMATS = ("PNG", "JPEG")
_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA"})


def read_frame_folder(
    folder: Path, indices: Sequence[int] | None = None, *, stride: int = 1, transform: FrameTransform = unchanged
) -> NDArray[np.uint8]:
    """Read a folder of PNG or JPEG frames in natural order: `frame2.png` before `frame10.png`.

    Other files, hidden files and subfolders are skipped. All frames are read and checked; only the requested ones
    are kept.

    Args:
        folder: the folder of the frames.
        indices: frames to return, in ascending order; None: all, or every `stride`-th.
        stride: step between frames if `indices` is None.
        transform: applied to every returned frame as soon as it is read.

    Returns:
        uint8 [T, H, W, 3], RGB; gray is repeated, opaque alpha dropped.

    Raises:
        BrokenClipError: the folder is missing, or holds no frames or fewer than requested; a frame cannot be
            read, differs in size from the first, is not opaque or has more than 8 bits.
    """
    names = sorted((file.name for file in frame_files(folder)), key=natural)
    if not names:
        raise BrokenClipError(str(folder), "holds no PNG or JPEG frames")
    requested = range(0, len(names), stride) if indices is None else indices
    if requested[-1] >= len(names):
        raise BrokenClipError(str(folder), f"has {len(names)} frames, {requested[-1] + 1} are needed")
    frames, first, kept = [], "", set(requested)
    for number, name in enumerate(names):
        frame = _read_image(folder / name)
        first = first or _size(frame)
        if _size(frame) != first:
            sizes = f"{_size(frame)} where {names[0]} is {first}"
            raise BrokenClipError(str(folder), f"holds frames of several sizes: {name} is {sizes}")
        if number in kept:
            frames.append(transform(frame))
    return np.stack(frames)


def read_strip(path: Path, frame_width: int | None = None) -> NDArray[np.uint8]:
    """Read an image strip: frames side by side, the first at the left.

    Args:
        path: a PNG or JPEG image.
        frame_width: pixels; None: frames are square.

    Returns:
        uint8 [T, H, W, 3], RGB; gray is repeated, opaque alpha dropped.

    Raises:
        BrokenClipError: the image cannot be read, is not opaque, has more than 8 bits, or its width is not a
            multiple of the frame width.
        InputError: `frame_width` is not positive.
    """
    if frame_width is not None and frame_width < 1:
        raise InputError(f"the width of a frame must be at least 1, not {frame_width}")
    strip = _read_image(path)
    height, total, _ = strip.shape
    width = height if frame_width is None else frame_width
    if total % width:
        reason = f"is {total} pixels wide, no multiple of the {width} pixels of a frame"
        raise BrokenClipError(str(path), reason)
    return np.ascontiguousarray(strip.reshape(height, total // width, width, 3).swapaxes(0, 1))


def is_lossless_image(path: Path) -> bool:
    """Return whether the image at `path` is a PNG and not a JPEG, by its content and not by its name.

    Raises:
        BrokenClipError: it is neither.
    """
    with open_image(path) as image:
        return image.format == "PNG"


def frame_files(folder: Path) -> list[Path]:
    """List the frames of a folder: everything with a frame's suffix that is not a folder.

    A pipe or a dangling link with such a name is listed too; reading it then fails.

    Raises:
        BrokenClipError: the folder cannot be read.
    """

    def refuse(source: str, reason: str) -> BrokenClipError:
        return BrokenClipError(source, f"is no folder that can be read ({reason})")

    with parsing(folder, refuse), os.scandir(folder) as entries:  # knows folders without a call for each
        named = [entry for entry in entries if _is_frame_name(entry.name)]
        return sorted(folder / entry.name for entry in named if not entry.is_dir())


def is_frame(file: Path) -> bool:
    """Return whether a file is a frame by its name; see `frame_files`."""
    return _is_frame_name(file.name) and not is_folder(file)


def is_folder(path: Path) -> bool:
    """Return whether a path leads to a folder."""
    found = status_of(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def is_dangling(file: Path) -> bool:
    """Return whether a path is a link whose target does not exist."""
    return os.path.islink(file) and status_of(file) is None  # noqa: PTH114 - islink never raises


def _is_frame_name(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in FRAME_SUFFIXES and not name.startswith(".")  # noqa: PTH122


def is_animated(path: Path) -> bool:
    """Return whether the file at `path` is an animated PNG or WebP; False if it cannot be opened."""
    try:
        with open_file(path) as file, parsing(path):
            return is_animated_image(file)
    except BrokenClipError:
        return False


def natural(name: str) -> tuple[list[str | int], str]:
    """Return a key for natural order: alternating texts and numbers, then the name, as `a1` and `a01` differ."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name


def _size(frame: NDArray[np.uint8]) -> str:
    return f"{frame.shape[1]}x{frame.shape[0]}"


@contextlib.contextmanager
def open_image(path: Path, formats: tuple[str, ...] = _FORMATS) -> Iterator[ImageFile.ImageFile]:
    """Open an image of one of these Pillow formats; raise `BrokenClipError` if that fails."""
    with open_clip(path) as file:
        yield _identified(path, file, formats)


def _identified(path: Path, file: BinaryIO, formats: tuple[str, ...] = _FORMATS) -> ImageFile.ImageFile:
    def refuse(source: str, _: str) -> BrokenClipError:
        return BrokenClipError(source, f"is no {' or '.join(formats)} image that can be read")

    with parsing(path, refuse):
        try:
            image = Image.open(file, formats=formats)
        except Image.DecompressionBombError as error:
            raise _too_large(path) from error
    # Pillow itself only warns above its limit, and refuses at twice the limit.
    if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise _too_large(path)
    return image


def _too_large(path: Path) -> BrokenClipError:
    limit = f"{Image.MAX_IMAGE_PIXELS:,} pixels that Pillow takes for safe"
    return BrokenClipError(str(path), f"is larger than the {limit}; see PIL.Image.MAX_IMAGE_PIXELS")


def decoded_pixels(path: Path, image: ImageFile.ImageFile, number: int = 0) -> NDArray[np.uint8]:
    """Decode a picture of an open image: uint8 [H, W, 3], RGB, or [H, W, 4] if it may be transparent.

    Raises:
        BrokenClipError: the picture is damaged or has more than 8 bits.
    """
    with parsing(path, _cut_short):
        # Pillow truncates 16-bit RGB to the upper 8 bits; only the name of the decoder's mode shows it.
        stored = str(image.tile[0].args) if image.tile else image.mode
        if image.mode not in _MODES or ";16" in stored:
            reason = f"has pixels of mode {image.mode} ({stored}): 8-bit gray or RGB is needed"
            raise BrokenClipError(str(path), reason)
        image.seek(number)
        mode = "RGBA" if image.has_transparency_data else "RGB"
        return np.asarray(image if image.mode == mode else image.convert(mode))  # convert always copies


def _cut_short(source: str, reason: str) -> BrokenClipError:
    return BrokenClipError(source, reason.replace("is damaged", "is cut short or damaged", 1))


def _read_image(path: Path) -> NDArray[np.uint8]:
    """Read a still image as uint8 [H, W, 3], RGB."""
    with open_clip(path) as file:
        with parsing(path):
            if is_animated_image(file):
                reason = "is animated, a clip of its own: keep still frames and animations in different folders"
                raise BrokenClipError(str(path), reason)
            file.seek(0)
            check_chunks(path, file)
            file.seek(0)
        pixels = decoded_pixels(path, _identified(path, file))
    if pixels.shape[-1] == 4 and pixels[..., 3].min() < 255:
        raise BrokenClipError(str(path), "is partly transparent: lay it over a background first")
    return pixels[..., :3]
