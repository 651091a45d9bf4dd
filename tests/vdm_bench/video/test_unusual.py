"""Videos that are unusual rather than damaged are read; those that would fill the memory are refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from damaged_videos import H264, TORCHCODEC, Clip, Encode, reason, rewritten
from peak_memory import peak_memory
from PIL import Image

from vdm_bench.video import reader as reader_module
from vdm_bench.video import stream as stream_module
from vdm_bench.video.decode import probe, read_video


def test_edit_list_that_hides_frames_is_no_damage(tmp_path: Path, encode: Encode, textured: Clip) -> None:
    video = encode("video.mp4", textured, **H264, bf="0", g="4")
    with av.open(str(video)) as container:
        start = [packet.pts for packet in container.demux(video=0)][8]
    assert start is not None

    def change(data: bytearray) -> bytearray:
        at = data.index(b"elst") + 16  # version and flags, number of entries, duration; then the start
        data[at : at + 4] = start.to_bytes(4, "big")
        return data

    edited = rewritten(video, tmp_path / "edited.mp4", change)
    assert probe(edited).declared_frames == 24
    np.testing.assert_array_equal(read_video(edited), read_video(video)[8:])


def test_fragmented_video_is_read_whole(encode: Encode, textured: Clip) -> None:
    lossless = {**H264, "g": "4", "qp": "0"}  # at other settings x264 may choose other bits each time
    plain = encode("plain.mp4", textured, **lossless)
    options = {"movflags": "frag_keyframe"}
    fragmented = encode("fragmented.mp4", textured, **lossless, container_options=options)
    assert probe(fragmented).declared_frames == 4
    np.testing.assert_array_equal(read_video(fragmented), read_video(plain))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("moviepy/media/doc_medias/example.mp4", lambda data: data + b"\0\0\xff\xffjunk" + bytes(99)),
        (f"{TORCHCODEC}/av1_video.mkv", lambda data: data + b"junk"),
        ("mmaction2/tests/data/test.avi", lambda data: data + b"junk" * 9),
        ("kinetics-i3d/data/v_CricketShot_g04_c01_rgb.gif", lambda data: data + b"junk"),
        (
            "kinetics-i3d/data/v_CricketShot_g04_c01_rgb.gif",
            lambda data: data[:-1] + b"\x21\xfe\x05hello\0" + data[-1:],  # a comment after the last picture
        ),
    ],
)
def test_what_stands_behind_a_video_does_no_harm(
    shared_data: Path, tmp_path: Path, name: str, change: Callable[[bytearray], bytes]
) -> None:
    longer = rewritten(shared_data / name, tmp_path / f"longer{Path(name).suffix}", change)
    np.testing.assert_array_equal(read_video(longer), read_video(shared_data / name))


def still(path: Path, stored: int, seconds: int) -> Path:
    """A small animation whose every third picture stands still for so long."""
    pictures = [Image.fromarray(np.full((40, 40, 3), 7 * number % 256, np.uint8)) for number in range(stored)]
    durations = [1000 * seconds if number % 3 == 0 else 10 for number in range(stored)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations, loop=0)
    return path


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_pictures_that_stand_still_do_not_fill_the_memory(tmp_path: Path, name: str) -> None:
    video = still(tmp_path / name, 30, 60)
    assert video.stat().st_size < 20_000

    def work() -> None:
        assert reason(video) == "shows 30 frames as 60,020: take fewer by --frames, or --fps stored"
        assert read_video(video, [0, 5_999, 6_000, 60_019]).shape == (4, 40, 40, 3)
        assert read_video(video, fps="stored").shape == (30, 40, 40, 3)

    assert peak_memory(work) < 32 << 20
    assert len(read_video(still(tmp_path / name, 9, 2))) == 606  # a video that is as it should be


def test_videos_of_millions_of_still_frames_are_refused(tmp_path: Path) -> None:
    video = still(tmp_path / "a.gif", 700, 90)
    expected = "shows 700 frames as more than 2,000,000; take them as they are stored"
    assert reason(video, [0]) == expected


@pytest.mark.parametrize("codec", ["libx264", "libvpx-vp9", "mjpeg"])
def test_pictures_that_would_fill_the_memory_are_refused(
    tmp_path: Path, encode: Encode, textured: Clip, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = encode("video.mkv", textured, codec=codec, pixel_format="yuvj420p" if codec == "mjpeg" else "yuv420p")
    height, width = textured.shape[1:3]
    monkeypatch.setattr(reader_module, "MOST_PIXELS", height * width - 1)
    assert reason(video).startswith(f"says that its pictures are {width}x{height}: ")
    monkeypatch.setattr(reader_module, "MOST_PIXELS", height * width)
    assert read_video(video).shape == textured.shape
    monkeypatch.setattr(stream_module, "_MOST_CODED_PIXELS", height * width // 2)  # before anything is decoded
    assert reason(video).startswith("damaged: decoding fails after 0 frames")


def test_titles_in_other_encodings_are_no_damage(tmp_path: Path, textured: Clip) -> None:
    with av.open(str(tmp_path / "video.mkv"), "w") as container:
        container.metadata["title"] = "plain title"
        stream: Any = container.add_stream("libx264", rate=8)
        stream.height, stream.width, stream.pix_fmt = *textured.shape[1:3], "yuv420p"
        for pixels in textured:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    video = tmp_path / "video.mkv"
    expected = read_video(video)
    other = b"pl\xe4in t\xeftl\xe9"
    latin = rewritten(video, tmp_path / "latin.mkv", lambda data: data.replace(b"plain title", other))
    assert latin.read_bytes() != video.read_bytes()
    np.testing.assert_array_equal(read_video(latin), expected)


LONGEST = (0x7FFFFFF0).to_bytes(4, "little")


def with_long_lists(data: bytearray) -> bytearray:
    """An AVI file, whose lists before the video hold 2 GB, by what they say."""
    place = 0
    while (place := data.find(b"LIST", place, data.index(b"movi") - 8)) >= 0:
        if data[place + 8 : place + 12] != b"INFO":
            data[place + 4 : place + 8] = LONGEST
        place += 4
    return data


def put_before(kind: bytes, chunk: bytes) -> Callable[[bytearray], bytearray]:
    def change(data: bytearray) -> bytearray:
        place = data.rindex(kind) - (8 if kind == b"movi" else 0)
        return data[:place] + chunk + data[place:]

    return change


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda data: data.replace(b"LIST\x1a\0\0\0INFO", b"LIST" + LONGEST + b"INFO"), "INFO"),
        (put_before(b"movi", b"LIST" + LONGEST + b"INFOINAM" + b"\0\0\0\x60"), "INFO"),
        (put_before(b"idx1", b"LIST" + LONGEST + b"INFOICMT" + b"\0\0\0\x50"), "INFO"),
        (lambda data: data + b"LIST" + LONGEST + b"INFOIART" + b"\0\0\0\x40", "INFO"),
        (put_before(b"movi", b"strn\0\0\0\x30"), "strn"),
        (put_before(b"movi", b"strd\0\0\0\x20"), "strd"),
        (
            lambda data: data.replace(b"strf(\0\0\0", b"strf(\0\0\x21"),
            "strf",
        ),
    ],
)
def test_headers_that_are_longer_than_their_file_do_not_fill_the_memory(
    tmp_path: Path, encode: Encode, textured: Clip, change: Callable[[bytearray], bytearray], name: str
) -> None:
    video = encode("video.avi", textured[:3], codec="mpeg4", pixel_format="yuv420p", bitexact="1")
    long = rewritten(video, tmp_path / "long.avi", lambda data: change(with_long_lists(data)))
    assert long.read_bytes() != video.read_bytes()
    assert reason(long) == f"damaged: its header {name} is longer than the file"


def written_live(data: bytearray) -> bytearray:
    place = data.index(b"movi")
    data[4:8] = data[place - 4 : place] = bytes(4)
    return data


@pytest.mark.parametrize(
    "change",
    [
        with_long_lists,
        written_live,
        put_before(b"movi", b"LIST\x10\0\0\0INFOINAM\x03\0\0\0abc\0"),
        put_before(b"movi", b"JUNK\x40\0\2\0" + bytes(0x20040)),
        lambda data: data + b"LIST\xf0\0\0\0INFOINAM\xe0\0\0\0abc",  # cut, as far as titles go
    ],
)
def test_unusual_headers_of_an_avi_do_no_harm(
    tmp_path: Path, encode: Encode, textured: Clip, change: Callable[[bytearray], bytearray]
) -> None:
    video = encode("video.avi", textured[:3], codec="mpeg4", pixel_format="yuv420p")
    other = rewritten(video, tmp_path / "other.avi", change)
    assert np.array_equal(read_video(other), read_video(video))


def test_no_picture_that_is_too_large_is_decoded_to_open_a_video(
    encode: Encode, textured: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FFmpeg finds the colours of such a video by decoding, and does not where it must not."""
    video = encode("video.webm", textured[:4], codec="libvpx-vp9", pixel_format="yuv420p")
    formats: list[str | None] = []

    def spy(*arguments: Any, **keywords: Any) -> Any:
        container = real(*arguments, **keywords)
        formats.append(container.streams.video[0].pix_fmt)
        return container

    real = av.open
    monkeypatch.setattr(stream_module.av, "open", spy)
    read_video(video)
    assert set(formats) == {"yuv420p"}
    formats.clear()
    monkeypatch.setattr(stream_module, "_MOST_CODED_PIXELS", 64 * 96 // 2)
    assert "decoding fails after 0 frames" in reason(video)
    assert set(formats) == {None}


@pytest.mark.parametrize(
    "options", [{"level": "1"}, {"level": "3", "slicecrc": "0"}, {"level": "3", "slices": "6"}]
)
def test_videos_of_every_version_of_ffv1_are_read(
    encode: Encode, textured: Clip, options: dict[str, str]
) -> None:
    """The older ones have no checksums."""
    np.testing.assert_array_equal(read_video(encode("video.mkv", textured[:3], **options)), textured[:3])
