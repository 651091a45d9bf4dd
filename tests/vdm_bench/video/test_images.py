"""Frame folders, strips and arrays become clips, or say why they cannot."""

import contextlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.video.arrays import ArrayClips
from vdm_bench.video.images import is_lossless_image, read_frame_folder, read_strip

Clip = NDArray[np.uint8]


@pytest.fixture
def clip() -> Clip:
    return np.random.default_rng(0).integers(0, 256, (12, 5, 7, 3), dtype=np.uint8)


def reason(read: Callable[[Path], object], path: Path) -> str:
    with pytest.raises(BrokenClipError) as error:
        read(path)
    assert error.value.source == str(path)
    return error.value.reason


def read_array(path: Path) -> Clip:
    """All clips of an array file."""
    clips = ArrayClips(path)
    return np.stack([clips.read(row) for row in range(len(clips))])


def test_frames_come_in_the_order_of_their_numbers(tmp_path: Path, clip: Clip) -> None:
    for index, frame in enumerate(clip):
        Image.fromarray(frame).save(tmp_path / f"frame{index}.png")
    assert sorted(tmp_path.iterdir())[2].name == "frame10.png"
    np.testing.assert_array_equal(read_frame_folder(tmp_path), clip)


def test_what_is_no_frame_is_passed_over(tmp_path: Path, clip: Clip) -> None:
    (tmp_path / "0.txt").write_text("notes")
    (tmp_path / ".0.png").write_bytes(b"hidden")
    (tmp_path / "1.png").mkdir()
    for index, suffix in enumerate((".PNG", ".png"), start=2):
        Image.fromarray(clip[index]).save(tmp_path / f"{index}{suffix}")
    np.testing.assert_array_equal(read_frame_folder(tmp_path), clip[2:4])


def test_a_jpeg_is_what_its_decoder_gives(tmp_path: Path, clip: Clip) -> None:
    Image.fromarray(clip[0]).save(tmp_path / "0.jpeg", quality=90)
    expected = np.asarray(Image.open(tmp_path / "0.jpeg"))
    assert (expected != clip[0]).any()
    np.testing.assert_array_equal(read_frame_folder(tmp_path), expected[None])


def test_frames_of_several_sizes(tmp_path: Path, clip: Clip) -> None:
    Image.fromarray(clip[0]).save(tmp_path / "9.png")
    Image.fromarray(clip[0, :4]).save(tmp_path / "10.png")
    assert (
        reason(read_frame_folder, tmp_path) == "holds frames of several sizes: 10.png is 7x4 where 9.png is 7x5"
    )


def test_folder_without_frames(tmp_path: Path) -> None:
    assert reason(read_frame_folder, tmp_path) == "holds no PNG or JPEG frames"
    missing = "is no folder that can be read (no such file)"
    assert reason(read_frame_folder, tmp_path / "none") == missing


def test_a_broken_frame_is_named(tmp_path: Path, clip: Clip) -> None:
    Image.fromarray(clip[0]).save(tmp_path / "0.png")
    (tmp_path / "1.png").write_bytes(b"")
    with pytest.raises(BrokenClipError) as error:
        read_frame_folder(tmp_path)
    assert (error.value.source, error.value.reason) == (str(tmp_path / "1.png"), "is empty (0 bytes)")


def test_strip_of_a_real_video(shared_data: Path) -> None:
    path = shared_data / "weizmann_strips/data/actions/0/00000002.jpg"
    stored = np.asarray(Image.open(path))
    expected = stored.reshape(64, 61, 64, 4).transpose(1, 0, 2, 3)[..., :3]
    np.testing.assert_array_equal(read_strip(path), expected)


@pytest.mark.parametrize(
    ("name", "frames"), [("0/00000002", 61), ("0/00000050", 125), ("3/00000028", 146), ("1/00000056", 51)]
)
def test_strips_have_as_many_frames_as_squares(shared_data: Path, name: str, frames: int) -> None:
    assert read_strip(shared_data / f"weizmann_strips/data/actions/{name}.jpg").shape == (frames, 64, 64, 3)


def test_strip_of_frames_that_are_not_square(tmp_path: Path, clip: Clip) -> None:
    path = tmp_path / "strip.png"
    Image.fromarray(np.concatenate(list(clip), axis=1)).save(path)
    np.testing.assert_array_equal(read_strip(path, frame_width=7), clip)
    assert reason(read_strip, path) == "is 84 pixels wide, no multiple of the 5 pixels of a frame"
    with pytest.raises(InputError, match="at least 1, not 0"):
        read_strip(path, frame_width=0)


def test_losslessness_is_judged_by_content(shared_data: Path, tmp_path: Path, clip: Clip) -> None:
    assert is_lossless_image(shared_data / "weizmann_strips/data/actions/0/00000002.jpg")
    Image.fromarray(clip[0]).save(tmp_path / "jpeg.png", format="JPEG")
    assert not is_lossless_image(tmp_path / "jpeg.png")
    Image.fromarray(clip[0]).save(tmp_path / "video.gif")
    assert reason(is_lossless_image, tmp_path / "video.gif") == "is no PNG or JPEG image that can be read"


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA"])
def test_opaque_pixels_of_any_mode_become_rgb(tmp_path: Path, mode: str) -> None:
    squares = np.kron(np.array([[0, 255], [255, 0]], np.uint8), np.ones((4, 4), np.uint8))
    rgb = np.repeat(squares[..., None], 3, axis=-1)
    Image.fromarray(rgb).convert(mode).save(tmp_path / "0.png")
    assert Image.open(tmp_path / "0.png").mode == mode
    np.testing.assert_array_equal(read_strip(tmp_path / "0.png"), rgb[None])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_transparency_is_refused_in_every_form(tmp_path: Path, clip: Clip, mode: str) -> None:
    path = tmp_path / "0.png"
    image = Image.fromarray(clip[0])
    if mode in ("RGBA", "LA"):
        alpha = np.full((5, 7), 255, np.uint8)
        alpha[2, 3] = 254
        image.putalpha(Image.fromarray(alpha))
        image.convert(mode).save(path)
    else:
        image = image.convert(mode)
        image.save(path, transparency=image.getpixel((3, 2)))  # one colour that counts as transparent
    assert reason(read_strip, path) == "is partly transparent: lay it over a background first"


@pytest.mark.parametrize("pixel_format", ["rgb48be", "gray16be", "rgba64be"])
def test_sixteen_bits_are_not_cut_to_eight(tmp_path: Path, clip: Clip, pixel_format: str) -> None:
    encoder = av.CodecContext.create("png", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = 7, 5, pixel_format
    encoder.time_base = Fraction(1)
    frame = av.VideoFrame.from_ndarray(clip[0], format="rgb24").reformat(format=pixel_format)
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    path = tmp_path / "0.png"
    path.write_bytes(b"".join(map(bytes, packets)))
    assert reason(read_strip, path).endswith("8-bit gray or RGB is needed")


def test_print_colours_are_refused(tmp_path: Path, clip: Clip) -> None:
    Image.fromarray(clip[0]).convert("CMYK").save(tmp_path / "0.jpg")
    assert "has pixels of mode CMYK" in reason(read_strip, tmp_path / "0.jpg")


@pytest.mark.parametrize("limit", [22, 16])  # of 35 pixels Pillow warns from its limit on, and refuses twice it
def test_decompression_bombs_are_refused(
    tmp_path: Path, clip: Clip, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    Image.fromarray(clip[0]).save(tmp_path / "0.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    warned = pytest.warns(Image.DecompressionBombWarning) if limit == 22 else contextlib.nullcontext()
    with warned:
        assert "pixels that Pillow takes for safe" in reason(read_strip, tmp_path / "0.png")


@pytest.mark.parametrize("share", [0.02, 0.2, 0.9])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_images_cut_short(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"0{suffix}"
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert reason(read_strip, path).startswith(("is cut short or damaged", "is no PNG or JPEG image"))


@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_a_png_in_which_a_bit_flips_is_refused(tmp_path: Path, mode: str) -> None:
    """Wherever it is: PNG has a checksum of everything, and decoders leave out those of pixels."""
    path = tmp_path / "0.png"
    pixels = np.random.default_rng(0).integers(0, 9, (12, 24, 3), dtype=np.uint8) * 9
    Image.fromarray(pixels).convert(mode).save(path)
    whole = path.read_bytes()
    for place in range(0, len(whole), 3):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        with pytest.raises(BrokenClipError):
            read_strip(path)


def test_a_damaged_png_says_which_part(tmp_path: Path) -> None:
    path = tmp_path / "0.png"
    Image.fromarray(np.zeros((8, 16, 3), np.uint8)).save(path)
    whole = path.read_bytes()
    middle = whole.index(b"IDAT") + 10
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 4]) + whole[middle + 1 :])
    assert reason(read_strip, path) == "is damaged: the checksum of its IDAT is not that of its content"
    assert reason(lambda path: read_frame_folder(path.parent), path).startswith("is damaged: the checksum of its")
    path.write_bytes(whole + b"what is behind the end is not looked at")
    assert len(read_strip(path)) == 2


@pytest.mark.parametrize("shape", [(2, 3, 5, 7, 3), (3, 5, 7, 3), (2, 3, 5, 7, 1)])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_arrays_are_given_as_a_batch_of_rgb_clips(tmp_path: Path, shape: tuple[int, ...], suffix: str) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path / f"clips{suffix}"
    if suffix == ".npy":
        np.save(path, array)
    else:
        np.savez_compressed(path, any_name=array)
    clips = ArrayClips(path)
    expected = (np.repeat(array, 3, axis=-1) if shape[-1] == 1 else array).reshape(-1, 3, 5, 7, 3)
    assert len(clips) == len(expected)
    for row, clip in enumerate(expected):
        found = clips.read(row)
        np.testing.assert_array_equal(found, clip)
        assert found.dtype == np.uint8
        assert not found.flags.writeable
        np.testing.assert_array_equal(clips.read(row, 2), clip[:2])
        np.testing.assert_array_equal(clips.read(row, 9), clip)


@pytest.mark.parametrize("name", ["clips", "samples", "arr_0"])
def test_the_clips_of_an_npz_are_known_by_name(tmp_path: Path, clip: Clip, name: str) -> None:
    arrays = {"labels": np.arange(12), name: clip}
    np.savez(tmp_path / "all.npz", **arrays)
    np.testing.assert_array_equal(read_array(tmp_path / "all.npz"), clip[None])


def test_an_npz_of_unknown_names(tmp_path: Path, clip: Clip) -> None:
    np.savez(tmp_path / "all.npz", b=clip, a=clip)
    assert reason(read_array, tmp_path / "all.npz") == "holds the arrays a, b: call that of the clips 'clips'"
    np.savez(tmp_path / "none.npz")
    assert reason(read_array, tmp_path / "none.npz").startswith("holds the arrays none")


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.zeros((2, 4, 4, 3), np.float32), "holds float32 values: write them as uint8 from 0 to 255"),
        (np.zeros((2, 4, 4, 3), np.int64), "holds int64 values: uint8 is needed"),
        (np.zeros((3, 2, 4, 4), np.uint8), "has shape (3, 2, 4, 4): [T, H, W, 3] or"),
        (np.zeros((4, 4, 3), np.uint8), "has shape (4, 4, 3)"),
        (np.zeros((0, 4, 4, 3), np.uint8), "has shape (0, 4, 4, 3)"),
        (np.zeros((2, 4, 4, 4), np.uint8), "has shape (2, 4, 4, 4)"),
    ],
)
def test_arrays_of_another_kind(tmp_path: Path, array: NDArray[np.generic], expected: str) -> None:
    np.save(tmp_path / "clips.npy", array)
    assert reason(read_array, tmp_path / "clips.npy").startswith(expected)


def test_the_advice_for_floats_is_right() -> None:
    for low in (0.0, -1.0):
        x = np.linspace(low, 1, 256, dtype=np.float32)
        scaled = 255 * x if low == 0 else 127.5 * (x + 1)
        np.testing.assert_array_equal(scaled.round().clip(0, 255).astype("uint8"), np.arange(256))


@pytest.mark.parametrize("name", ["clips.npy", "clips.npz"])
def test_arrays_cut_short_or_pickled(tmp_path: Path, clip: Clip, name: str) -> None:
    path = tmp_path / name
    save = np.save if name.endswith("npy") else np.savez
    save(path, clip)
    whole = path.read_bytes()
    for length in (1, 5, 60, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert reason(read_array, path).startswith("is no NumPy array that can be read")
    save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert reason(read_array, path).startswith("is no NumPy array that can be read")
    path.write_text("not an array")
    assert reason(read_array, path).startswith("is no NumPy array that can be read")
    assert reason(read_array, tmp_path / "none.npy") == "no such file"
