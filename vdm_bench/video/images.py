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
from vdm_bench.runtime.outside import open_file, parsing, status_of
from vdm_bench.video.containers import check_chunks, is_animated_image, open_clip
from vdm_bench.video.view import EachFrame, unchanged

FRAME_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
_FORMATS = ("PNG", "JPEG")
_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA"})


def read_frame_folder(
    folder: Path, indices: Sequence[int] | None = None, *, stride: int = 1, each: EachFrame = unchanged
) -> NDArray[np.uint8]:
    """Read a folder of PNG or JPEG frames in natural order: `frame2.png` before `frame10.png`.

    Other files, hidden ones and subfolders are passed over. All frames are read and checked; only those asked
    for are kept.

    Args:
        folder: that holds the frames.
        indices: frames to give, in rising order; None: all, or every `stride`-th.
        stride: step between frames where `indices` is None.
        each: applied to every frame that is given, as soon as it is there.

    Returns:
        uint8 [T, H, W, 3], RGB; gray is repeated, opaque alpha dropped.

    Raises:
        BrokenClipError: the folder is missing, holds no frames or fewer than asked for; a frame cannot be read,
            has another size than the first, is not opaque or has more than 8 bits.
    """
    names = sorted((file.name for file in frame_files(folder)), key=natural)
    if not names:
        raise BrokenClipError(str(folder), "holds no PNG or JPEG frames")
    wanted = range(0, len(names), stride) if indices is None else indices
    if wanted[-1] >= len(names):
        raise BrokenClipError(str(folder), f"has {len(names)} frames, {wanted[-1] + 1} are needed")
    frames, first, kept = [], "", set(wanted)
    for number, name in enumerate(names):
        frame = _read_image(folder / name)
        first = first or _size(frame)
        if _size(frame) != first:
            sizes = f"{_size(frame)} where {names[0]} is {first}"
            raise BrokenClipError(str(folder), f"holds frames of several sizes: {name} is {sizes}")
        if number in kept:
            frames.append(each(frame))
    return np.stack(frames)


def read_strip(path: Path, frame_width: int | None = None) -> NDArray[np.uint8]:
    """Read an image whose frames stand side by side, the first at the left.

    Args:
        path: a PNG or JPEG image.
        frame_width: pixels; None: frames are square.

    Returns:
        uint8 [T, H, W, 3], RGB; gray is repeated, opaque alpha dropped.

    Raises:
        BrokenClipError: the image cannot be read, is not opaque, has more than 8 bits, or its width is no
            multiple of that of a frame.
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
    """Whether the image at `path` is a PNG (and not a JPEG), by its content and not by its name.

    Raises:
        BrokenClipError: it is neither.
    """
    with open_image(path) as image:
        return image.format == "PNG"


def frame_files(folder: Path) -> list[Path]:
    """List the frames of a folder by name: all that are called so and are no folders.

    What is no file, such as a pipe or a link to what is not there, is a frame that cannot be read.

    Raises:
        BrokenClipError: the folder cannot be read.
    """

    def refuse(source: str, reason: str) -> BrokenClipError:
        return BrokenClipError(source, f"is no folder that can be read ({reason})")

    with parsing(folder, refuse), os.scandir(folder) as entries:  # it knows folders without asking for each
        named = [entry for entry in entries if _is_frame_name(entry.name)]
        return sorted(folder / entry.name for entry in named if not entry.is_dir())


def is_frame(file: Path) -> bool:
    """Whether a file is a frame by its name; see `frame_files`."""
    return _is_frame_name(file.name) and not is_folder(file)


def is_folder(path: Path) -> bool:
    """Whether a path leads to a folder."""
    found = status_of(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def is_dangling(file: Path) -> bool:
    """Whether a path is a link to what is not there."""
    return os.path.islink(file) and status_of(file) is None  # noqa: PTH114 - which never raises


def _is_frame_name(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in FRAME_SUFFIXES and not name.startswith(".")  # noqa: PTH122


def is_animated(path: Path) -> bool:
    """Whether the file at `path` is an animated PNG or WebP; False for what cannot be opened."""
    try:
        with open_file(path) as file, parsing(path):
            return is_animated_image(file)
    except BrokenClipError:
        return False


def natural(name: str) -> tuple[list[str | int], str]:
    """A key to sort by: texts and numbers in turns, and the name itself to tell `a1` from `a01`."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name


def _size(frame: NDArray[np.uint8]) -> str:
    return f"{frame.shape[1]}x{frame.shape[0]}"


@contextlib.contextmanager
def open_image(path: Path, formats: tuple[str, ...] = _FORMATS) -> Iterator[ImageFile.ImageFile]:
    """Open an image of one of Pillow's formats; raises `BrokenClipError`."""
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
    # Pillow itself refuses at twice its limit, and warns from the limit on.
    if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise _too_large(path)
    return image


def _too_large(path: Path) -> BrokenClipError:
    limit = f"{Image.MAX_IMAGE_PIXELS:,} pixels that Pillow takes for safe"
    return BrokenClipError(str(path), f"is larger than the {limit}; see PIL.Image.MAX_IMAGE_PIXELS")


def decoded_pixels(path: Path, image: ImageFile.ImageFile, number: int = 0) -> NDArray[np.uint8]:
    """Decode a picture of an image that is open: uint8 [H, W, 3], RGB, or [H, W, 4] where it may be transparent.

    Raises:
        BrokenClipError: it is damaged, or has more than 8 bits.
    """
    with parsing(path, _cut_short):
        # Pillow would cut 16-bit RGB to its upper half; only the name of the decoder's mode tells of it.
        stored = str(image.tile[0].args) if image.tile else image.mode
        if image.mode not in _MODES or ";16" in stored:
            reason = f"has pixels of mode {image.mode} ({stored}): 8-bit gray or RGB is needed"
            raise BrokenClipError(str(path), reason)
        image.seek(number)
        mode = "RGBA" if image.has_transparency_data else "RGB"
        return np.asarray(image if image.mode == mode else image.convert(mode))  # which copies, whatever the mode


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
