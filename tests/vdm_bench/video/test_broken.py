"""A video that cannot be read whole says why in plain words; one that is merely unusual is read."""

import re
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from damaged_videos import H264, TORCHCODEC, Clip, Encode, blotted, cut, reason, rewritten
from PIL import Image

from vdm_bench.errors import BrokenClipError
from vdm_bench.video import stream as stream_module
from vdm_bench.video.decode import probe, read_video, read_video_at


def test_missing_file(tmp_path: Path) -> None:
    assert reason(tmp_path / "none.mp4") == "no such file"


def test_empty_file(shared_data: Path) -> None:
    assert reason(shared_data / "moviepy/media/doc_medias/result.webm") == "is empty (0 bytes)"


def test_folder(tmp_path: Path) -> None:
    assert reason(tmp_path) == "is a folder, not a file"


def test_file_that_cannot_be_opened(tmp_path: Path) -> None:
    assert reason(tmp_path / ("x" * 300)) == "cannot be opened (File name too long)"


@pytest.mark.parametrize(
    "name",
    [
        "ucf101_lists/data/ucfTrainTestlist/testlist01.txt",  # FFmpeg shows text as a video of a terminal
        "weizmann_strips/data/actions/0/00000002.jpg",  # and a picture as a video of one frame
        "i3d/golden/fvd_golden.npz",
        f"{TORCHCODEC}/nasa_13013.mp4.audio.mp3",
    ],
)
def test_what_is_no_video(shared_data: Path, name: str) -> None:
    assert reason(shared_data / name) == "not a video that can be read"


def test_play_list_is_not_followed(tmp_path: Path, encode: Encode, textured: Clip) -> None:
    video = encode("video.mp4", textured, **H264)
    play_list = tmp_path / "list.m3u8"
    play_list.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:2.4,\n{video}\n#EXT-X-ENDLIST\n")
    assert reason(play_list) == "not a video that can be read"


def make_sound(path: Path, cover: Clip | None) -> Path:
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=8000)
        picture: Any = container.add_stream("mjpeg", rate=1) if cover is not None else None
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        if picture is not None and cover is not None:
            picture.height, picture.width, picture.pix_fmt = *cover.shape[:2], "yuvj420p"
            picture.disposition = Disposition.attached_pic
            container.mux(picture.encode(av.VideoFrame.from_ndarray(cover, format="rgb24")))
            container.mux(picture.encode(None))
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path


@pytest.mark.parametrize("with_cover", [False, True])
def test_sound_without_a_video(tmp_path: Path, textured: Clip, with_cover: bool) -> None:
    path = make_sound(tmp_path / "sound.mp4", textured[0] if with_cover else None)
    with av.open(str(path)) as container:
        assert len(container.streams.video) == with_cover
    assert reason(path) == "has no video stream"


def test_stream_that_is_not_there(shared_data: Path) -> None:
    with pytest.raises(BrokenClipError, match="has no video stream 1; its video streams are 0, 3"):
        read_video(shared_data / f"{TORCHCODEC}/nasa_13013.mp4", stream=1)


def test_unknown_codec(tmp_path: Path, encode: Encode, textured: Clip) -> None:
    video = encode("video.mp4", textured, **H264)
    unknown = rewritten(video, tmp_path / "unknown.mp4", lambda data: data.replace(b"avc1", b"zzzz"))
    assert reason(unknown) == "is of a codec that this FFmpeg cannot decode"


@pytest.mark.parametrize("indices", [None, [0]])
def test_cut_mp4_with_its_index_in_front(
    tmp_path: Path, encode: Encode, textured: Clip, indices: list[int] | None
) -> None:
    video = encode("video.mp4", textured, **H264, container_options={"movflags": "+faststart"})
    with av.open(str(video)) as container:
        ends = [packet.pos + packet.size for packet in container.demux(video=0) if packet.pos is not None]
    # A few bytes into the 18th packet.
    short = rewritten(video, tmp_path / "short.mp4", lambda data: data[: ends[16] + 5])
    assert reason(short, indices) == "truncated: 24 frames are declared, only 17 are there"
    with pytest.raises(BrokenClipError, match="truncated"):
        probe(short)


def test_cut_between_packets_where_no_length_is_announced(tmp_path: Path, encode: Encode, textured: Clip) -> None:
    video = encode("video.mp4", textured, **H264, container_options={"movflags": "+faststart"})
    with av.open(str(video)) as container:
        ends = [packet.pos + packet.size for packet in container.demux(video=0) if packet.pos is not None]

    def change(data: bytearray) -> bytearray:
        at = data.index(b"mdat")
        data[at - 4 : at] = bytes(4)  # "up to the end of the file"
        return data

    open_ended = rewritten(video, tmp_path / "open.mp4", change)
    np.testing.assert_array_equal(read_video(open_ended), read_video(video))
    short = rewritten(open_ended, tmp_path / "short.mp4", lambda data: data[: ends[16]])
    assert reason(short, [0]) == "truncated: 24 frames are declared, only 17 are there"


def test_length_of_64_bits(tmp_path: Path, encode: Encode, textured: Clip) -> None:
    video = encode("video.mp4", textured, **H264)

    def change(data: bytearray) -> bytearray:
        at = data.index(b"mdat")  # before it stands an empty box, left there for this
        length = int.from_bytes(data[at - 4 : at], "big")
        data[at - 12 : at + 4] = (1).to_bytes(4, "big") + b"mdat" + (length + 8).to_bytes(8, "big")
        return data

    long = rewritten(video, tmp_path / "long.mp4", change)
    np.testing.assert_array_equal(read_video(long), read_video(video))
    short = rewritten(long, tmp_path / "short.mp4", cut(0.5))
    assert reason(short) == "truncated: the file ends before its index does"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("moviepy/media/chaplin.mp4", "truncated: the file ends before its index does"),
        ("mmaction2/tests/data/test.avi", "truncated: 164 frames are declared, only 92 are there"),
        ("decord/examples/flipping_a_pancake.mkv", "truncated: the file ends, or is damaged, after 180 frames"),
        ("moviepy/media/big_buck_bunny_432_433.webm", "truncated: the file ends, or is damaged, after 7 frames"),
        ("moviepy/media/fire2.mp4", "truncated: 25 frames are declared, only 9 are there"),
        ("bair_kth_gifs/index_files/images/bair_00026.gif", None),
    ],
)
def test_cut_real_files(shared_data: Path, tmp_path: Path, name: str, expected: str | None) -> None:
    short = rewritten(shared_data / name, tmp_path / f"short{Path(name).suffix}", cut(0.6))
    why = reason(short, [0])
    assert why == expected or re.fullmatch(r"truncated: the file ends, or is damaged, after \d\d frames", why)


def test_missing_last_byte_is_noticed(shared_data: Path, tmp_path: Path) -> None:
    for name in ("decord/tests/test_data/unordered.mov", f"{TORCHCODEC}/av1_video.mkv"):
        short = rewritten(shared_data / name, tmp_path / Path(name).name, lambda data: data[:-1])
        assert reason(short, [0]).startswith("truncated")


def test_gif_with_a_damaged_block(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "moviepy/media/pigs_in_a_polka.gif"

    def change(data: bytearray) -> bytearray:
        start = len(data) // 2
        data[start : start + 200] = bytes(200)
        return data

    damaged = rewritten(source, tmp_path / "damaged.gif", change)
    assert reason(damaged) == "truncated: the file ends, or is damaged, after 16 frames"


@pytest.mark.parametrize("indices", [None, [0], [27]])
def test_mp4_with_a_damaged_frame(shared_data: Path, indices: list[int] | None) -> None:
    """The header declares 50 frames and 28 decode: the 31st packet is overwritten, none is missing."""
    path = shared_data / "decord/tests/test_data/corrupted.mp4"
    assert reason(path, indices) == "damaged: packet 31 of 50 holds no valid h264 data"


def test_frame_that_was_never_written(tmp_path: Path, encode: Encode, textured: Clip) -> None:
    video = encode("video.mp4", textured, **H264)
    with av.open(str(video)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][20]
    start, length = packet.pos or 0, packet.size

    def change(data: bytearray) -> bytearray:
        data[start : start + length] = bytes(length)
        return data

    blank = rewritten(video, tmp_path / "blank.mp4", change)
    assert reason(blank, [0]) == "damaged: packet 21 of 24 holds no valid h264 data"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # The decoder of H.264 and MPEG-4 covers up the damage with pieces of other frames.
        ("decord/examples/flipping_a_pancake.mkv", "damaged: errors in a picture after 150 frames"),
        ("mmaction2/tests/data/test.avi", "damaged: errors in a picture after 7"),
        ("moviepy/media/no_duration.webm", "damaged: decoding fails after 43 frames"),
        (
            "ffmpeg-libav-tutorial/remuxed_small_bunny_1080p_60fps.ts",
            "damaged: packet 4",
        ),
    ],
)
def test_damage_in_the_middle(shared_data: Path, tmp_path: Path, name: str, expected: str) -> None:
    damaged = rewritten(shared_data / name, tmp_path / f"damaged{Path(name).suffix}", blotted(0.5))
    assert reason(damaged, [0, 200]).startswith(expected)


def test_encrypted_video(encode: Encode, textured: Clip) -> None:
    options = {
        "encryption_scheme": "cenc-aes-ctr",
        "encryption_key": "00112233445566778899aabbccddeeff",
        "encryption_kid": "112233445566778899aabbccddeeff00",
    }
    path = encode("secret.mp4", textured, **H264, container_options=options)
    assert reason(path) == "encrypted: its frames cannot be read without the key"


@pytest.mark.parametrize(("frames", "words"), [(12, "12 frames"), (1, "1 frame")])
def test_fewer_frames_than_asked_for(encode: Encode, textured: Clip, frames: int, words: str) -> None:
    path = encode("video.mkv", textured[:frames])
    assert reason(path, list(range(16))) == f"has {words}, 16 are needed"


def test_video_without_frames(tmp_path: Path) -> None:
    path = tmp_path / "video.avi"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("rawvideo", rate=10)
        stream.width, stream.height, stream.pix_fmt = 8, 8, "bgr24"
        container.start_encoding()
    assert reason(path) == "has no frames"
    with pytest.raises(BrokenClipError, match="has no frames"):
        probe(path)
    with pytest.raises(BrokenClipError, match="has no frames"):
        read_video_at(path, [0.0])


def test_picture_size_that_changes(tmp_path: Path, encode: Encode, textured: Clip) -> None:
    first = encode("first.ts", textured[:5], **H264)
    second = encode("second.ts", textured[:5, :32], **H264)
    both = tmp_path / "both.ts"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    assert reason(both) == "the picture size changes from 96x64 to 96x32 at frame 5"
    assert read_video(both, [0, 4]).shape == (2, 64, 96, 3)


@pytest.mark.parametrize("name", ["moviepy/media/transparent.webm", "moviepy/media/pigs_in_a_polka.gif"])
def test_transparent_video(shared_data: Path, name: str) -> None:
    assert reason(shared_data / name) == "is partly transparent: lay it over a background first"


def test_one_transparent_pixel_is_noticed(encode: Encode, textured: Clip) -> None:
    clip = np.concatenate([textured, np.full((*textured.shape[:3], 1), 255, np.uint8)], axis=-1)
    clip[3, 5, 7, 3] = 254
    path = encode("video.avi", clip, codec="png", pixel_format="rgba", source_format="rgba")
    assert reason(path) == "is partly transparent: lay it over a background first"
    np.testing.assert_array_equal(read_video(path, [2]), textured[2:3])


def test_alpha_without_its_decoder(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(stream_module._ALPHA_DECODERS, "vp9", "no-such-decoder")
    why = reason(shared_data / "moviepy/media/transparent.webm")
    assert why == "has an alpha channel, and this FFmpeg lacks libvpx to read it"


@pytest.mark.parametrize(("degrees", "mirrored"), [(0, True), (90, True), (45, False)])
def test_mirrored_or_slanted_video(encode: Encode, textured: Clip, degrees: int, mirrored: bool) -> None:
    def prepare(stream: Any) -> None:
        stream.set_display_rotation(degrees, hflip=mirrored)

    path = encode("video.mp4", textured, **H264, prepare=prepare)
    assert reason(path) == "is to be shown mirrored or at an angle: only quarter turns are supported"


def test_video_without_time_stamps(encode: Encode, textured: Clip) -> None:
    path = encode("video.h264", textured[:4], **H264)
    assert read_video(path).shape == (4, 64, 96, 3)
    with pytest.raises(BrokenClipError, match="has no time stamps"):
        read_video_at(path, [0.0])


def test_time_stamps_in_no_order(tmp_path: Path, encode: Encode, textured: Clip) -> None:
    video = encode("video.ts", textured[:5], **H264)
    twice = rewritten(video, tmp_path / "twice.ts", lambda data: data + data)
    assert len(read_video(twice)) == 10
    with pytest.raises(BrokenClipError, match="its time stamps are in no order"):
        read_video_at(twice, [99.0])


def test_nothing_is_printed(shared_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    damaged = rewritten(
        shared_data / "decord/examples/flipping_a_pancake.mkv", tmp_path / "damaged.mkv", blotted(0.5)
    )
    for path in (damaged, shared_data / "decord/tests/test_data/corrupted.mp4"):
        reason(path)
    read_video(shared_data / "moviepy/media/video_with_failing_audio.mp4", [0])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".mkv", ".avi"])
@pytest.mark.parametrize("slices", [4, 9])
def test_a_bit_that_flips_in_a_lossless_video_is_found(
    encode: Encode, textured: Clip, suffix: str, slices: int
) -> None:
    """FFV1 has a checksum for each part of a picture; FFmpeg would show the picture before in its place."""
    path = encode(f"video{suffix}", textured[:4], slices=str(slices))
    whole, original = path.read_bytes(), read_video(path)
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    places = [whole.index(packet) + len(packet) * share // 10 for packet in packets for share in (0, 4, 9)]
    for number, place in enumerate(places):
        changed = bytearray(whole)
        changed[place] ^= 1 << number % 8
        path.write_bytes(changed)
        assert reason(path).startswith(f"damaged: packet {number // 3 + 1}")
        assert reason(path, [0]).startswith(f"damaged: packet {number // 3 + 1}")  # and in what is not asked for
    path.write_bytes(whole)
    np.testing.assert_array_equal(read_video(path), original)


def test_a_bit_that_flips_in_an_animated_png_is_found(tmp_path: Path, textured: Clip) -> None:
    path = tmp_path / "video.png"
    first, *rest = map(Image.fromarray, textured[:3])
    first.save(path, save_all=True, append_images=rest, duration=100)
    whole = path.read_bytes()
    for share in range(1, 10):
        changed = bytearray(whole)
        changed[len(whole) * share // 10] ^= 1
        path.write_bytes(changed)
        assert re.match("is damaged: the checksum of its (IDAT|fdAT) is not that of its content", reason(path))
