"""Clips that are no video files: folders of frames, image strips and NumPy arrays."""

import os
import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray
from PIL import Image, ImageFile

from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.metrics.npy import NPY_HEADER_LOCK
from vdm_bench.video.containers import check_file, is_animated_png, is_animated_webp
from vdm_bench.video.view import EachFrame, unchanged

FRAME_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
_FORMATS = ("PNG", "JPEG")
_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA"})
_ARRAY_NAMES = ("clips", "samples", "arr_0")
_CONVERT = (
    "write them as uint8 from 0 to 255: x of [0, 1] by (255 * x).round().clip(0, 255).astype('uint8'), "
    "x of [-1, 1] by (127.5 * (x + 1)).round().clip(0, 255).astype('uint8')"
)


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
    try:
        names = sorted((file.name for file in frame_files(folder)), key=natural)
    except OSError as error:
        raise BrokenClipError(str(folder), f"is no folder that can be read ({error.strerror})") from error
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


def read_array(path: Path) -> NDArray[np.uint8]:
    """Read clips from an `.npy` file, which is mapped and not loaded, or an `.npz` file.

    An `.npz` file must hold one array, or one called `clips`, `samples` or `arr_0`.

    Returns:
        uint8 [N, T, H, W, 3], RGB, read-only; N = 1 for an array [T, H, W, 3]. A single channel is repeated
        (as a view, in no more memory).

    Raises:
        BrokenClipError: the file cannot be read, is pickled, or holds another shape or type.
    """
    check_file(path)
    try:
        with NPY_HEADER_LOCK:
            loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, NpzFile):
            with loaded:
                name = _choose_array(path, loaded.files)
                with NPY_HEADER_LOCK:
                    array = loaded[name]
        else:
            array = loaded
    except BrokenClipError:
        raise
    # NumPy's own list for files that are not what they seem; MemoryError: a header of impossible size.
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        reason = "is no NumPy array that can be read: cut short, damaged or pickled"
        raise BrokenClipError(str(path), reason) from error
    return _as_clips(path, array)


def is_lossless_image(path: Path) -> bool:
    """Whether the image at `path` is a PNG (and not a JPEG), by its content and not by its name.

    Raises:
        BrokenClipError: it is neither.
    """
    with open_image(path) as image:
        return image.format == "PNG"


def frame_files(folder: Path) -> list[Path]:
    """List the frames of a folder by name; raises OSError where that cannot be done."""
    with os.scandir(folder) as entries:  # it knows what is a file without asking for each
        named = [entry for entry in entries if _is_frame_name(entry.name)]
        return sorted(folder / entry.name for entry in named if entry.is_file() or is_dangling(Path(entry.path)))


def is_frame(file: Path) -> bool:
    """Whether a file is a frame by its name; a link to what is not there is a frame that cannot be read."""
    return _is_frame_name(file.name) and (file.is_file() or is_dangling(file))


def _is_frame_name(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in FRAME_SUFFIXES and not name.startswith(".")  # noqa: PTH122


def is_dangling(file: Path) -> bool:
    """Whether a path is a link to what is not there."""
    return file.is_symlink() and not file.exists()


def is_animated(path: Path) -> bool:
    """Whether the file at `path` is an animated PNG or WebP; False for what cannot be opened."""
    try:
        return is_animated_png(path) or is_animated_webp(path)
    except OSError:
        return False


def natural(name: str) -> tuple[list[str | int], str]:
    """A key to sort by: texts and numbers in turns, and the name itself to tell `a1` from `a01`."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name


def _size(frame: NDArray[np.uint8]) -> str:
    return f"{frame.shape[1]}x{frame.shape[0]}"


def open_image(path: Path, formats: tuple[str, ...] = _FORMATS) -> ImageFile.ImageFile:
    """Open an image of one of Pillow's formats; raises `BrokenClipError`."""
    check_file(path)
    try:
        image = Image.open(path, formats=formats)
    except Image.DecompressionBombError as error:
        raise _too_large(path) from error
    except (OSError, ValueError, SyntaxError) as error:  # Pillow calls damaged PNGs a SyntaxError
        raise BrokenClipError(str(path), f"is no {' or '.join(formats)} image that can be read") from error
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
    # Pillow would cut 16-bit RGB to its upper half; only the name of the decoder's mode tells of it.
    stored = str(image.tile[0].args) if image.tile else image.mode
    if image.mode not in _MODES or ";16" in stored:
        reason = f"has pixels of mode {image.mode} ({stored}): 8-bit gray or RGB is needed"
        raise BrokenClipError(str(path), reason)
    try:
        image.seek(number)
        return np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))
    except (EOFError, OSError, ValueError, SyntaxError, zlib.error) as error:
        raise BrokenClipError(str(path), f"is cut short or damaged ({error})") from error


def _read_image(path: Path) -> NDArray[np.uint8]:
    """Read a still image as uint8 [H, W, 3], RGB."""
    if is_animated(path):
        reason = "is animated, a clip of its own: keep still frames and animations in different folders"
        raise BrokenClipError(str(path), reason)
    with open_image(path) as image:
        pixels = decoded_pixels(path, image)
    if pixels.shape[-1] == 4 and pixels[..., 3].min() < 255:
        raise BrokenClipError(str(path), "is partly transparent: lay it over a background first")
    return pixels[..., :3]


def _choose_array(path: Path, names: list[str]) -> str:
    chosen = names[0] if len(names) == 1 else next((name for name in _ARRAY_NAMES if name in names), None)
    if chosen is None:
        held = ", ".join(sorted(names)) or "none"
        raise BrokenClipError(str(path), f"holds the arrays {held}: call that of the clips 'clips'")
    return chosen


def _as_clips(path: Path, array: NDArray[np.generic]) -> NDArray[np.uint8]:
    if array.dtype.kind == "f":
        raise BrokenClipError(str(path), f"holds {array.dtype} values: {_CONVERT}")
    if array.dtype != np.uint8:
        raise BrokenClipError(str(path), f"holds {array.dtype} values: uint8 is needed")
    if array.ndim not in (4, 5) or array.shape[-1] not in (1, 3) or array.size == 0:
        reason = f"has shape {array.shape}: [T, H, W, 3] or [N, T, H, W, 3] is needed, channels last"
        raise BrokenClipError(str(path), reason)
    clips = array.astype(np.uint8, copy=False)
    if clips.ndim == 4:
        clips = clips[np.newaxis]
    return np.broadcast_to(clips, (*clips.shape[:-1], 3))
