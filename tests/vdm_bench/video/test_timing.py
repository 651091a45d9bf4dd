"""Frames are given by the times at which they are shown, as FFmpeg's own `fps` filter gives them."""

import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.video.decode import count_frames, decode_video, frame_times, read_video, read_video_at
from vdm_bench.video.timing import FrameTimes, exact_rate
from vdm_bench.video.write import write_clip

Encode = Callable[..., Path]
TICKS = st.sampled_from([Fraction(1, 100), Fraction(1, 1000), Fraction(1, 600), Fraction(1, 12800)])
DELAYS = st.lists(st.integers(1, 200), min_size=2, max_size=30)
RATES = st.sampled_from([Fraction(8), Fraction(24), Fraction(30000, 1001), Fraction(60), Fraction(7, 2)])


def times_of(
    delays: Sequence[int], tick: Fraction, *, authored: bool = True, declared: Fraction | None = None
) -> FrameTimes:
    starts = np.cumsum([7, *delays[:-1]]).tolist()
    return FrameTimes.of("video", zip(starts, delays, strict=True), tick, authored=authored, declared=declared)


def drained(graph: av.filter.Graph) -> Iterator[int]:
    while True:
        try:
            yield int(graph.vpull().to_ndarray()[0, 0])
        except (BlockingIOError, EOFError):
            return


def by_ffmpeg(delays: Sequence[int], tick: Fraction, rate: Fraction) -> list[int]:
    """The numbers of the frames that FFmpeg's `fps` filter gives; the value of a pixel is its frame's number."""
    graph, given, start = av.filter.Graph(), [], 0
    source = graph.add_buffer(width=16, height=16, format=av.VideoFormat("gray"), time_base=tick)
    graph.link_nodes(source, graph.add("fps", f"fps={rate}"), graph.add("buffersink")).configure()
    for number, delay in enumerate(delays):
        frame = av.VideoFrame.from_ndarray(np.full((16, 16), number, np.uint8), format="gray")
        frame.pts, frame.duration, frame.time_base = start, delay, tick
        graph.vpush(frame)
        given += drained(graph)
        start += delay
    graph.vpush(None)
    return [*given, *drained(graph)]


@settings(max_examples=150, deadline=None)
@given(DELAYS, TICKS, RATES)
def test_frames_at_a_rate_are_those_of_ffmpegs_filter(delays: list[int], tick: Fraction, rate: Fraction) -> None:
    chosen = list(times_of(delays, tick).chosen(rate))
    expected = by_ffmpeg(delays, tick, rate)
    assert chosen == expected or (not expected and len(chosen) == 1)  # a video has a frame, however short it is


@settings(max_examples=150, deadline=None)
@given(st.integers(2, 40), st.lists(st.sampled_from([1, 1, 1, 2, 3, 7]), min_size=3, max_size=30), TICKS)
def test_merged_frames_are_repeated_on_the_grid_of_the_commonest_delay(
    delay: int, repeats: list[int], tick: Fraction
) -> None:
    repeats += [1] * len(repeats)  # so that the delay of a single frame is the commonest
    delays = [delay * repeat for repeat in repeats]
    times = times_of(delays, tick)
    assert times.rate == 1 / (delay * tick)
    expected = np.repeat(np.arange(len(repeats)), repeats).tolist()
    assert list(times.chosen(None)) == expected == by_ffmpeg(delays, tick, 1 / (delay * tick))
    assert list(times.chosen("stored")) == list(range(len(repeats)))


@pytest.mark.parametrize("tick", [Fraction(1, 1000), Fraction(1, 100), Fraction(1, 600), Fraction(1, 90_000)])
@pytest.mark.parametrize("rate", [Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(24000, 1001)])
@pytest.mark.parametrize("round_off", [round, math.floor])
def test_rounded_time_stamps_are_no_varying_rate(
    tick: Fraction, rate: Fraction, round_off: Callable[[Fraction], int]
) -> None:
    """Matroska's milliseconds, GIF's hundredths: 1000 frames at a constant rate stay 1000 frames."""
    starts = [round_off(number / (rate * tick)) for number in range(1001)]
    delays = np.diff(starts).tolist()
    for authored in (True, False):
        times = times_of(delays, tick, authored=authored)
        assert list(times.chosen(None)) == list(range(1000))
        assert abs((times.rate or 0) / rate - 1) < 1e-3
    # Milliseconds survive in a container of finer ticks.
    copied = times_of([16 * delay for delay in delays], tick / 16, authored=False)
    assert copied.is_even or tick == Fraction(1, 100)


def test_jitter_of_a_clock_is_no_varying_rate() -> None:
    noise = np.random.default_rng(0).integers(-140, 141, 300)  # of 3000 ticks between frames
    delays = np.diff(3000 * np.arange(300) + noise).tolist()
    assert times_of(delays, Fraction(1, 90_000), authored=False).is_even


def test_dropped_frames_of_a_recording_are_filled_at_its_true_rate() -> None:
    """29.97 frames a second in milliseconds: by the commonest number, 33, a frame would be too many every 3 s."""
    kept = [number for number in range(600) if number % 50 != 7]
    starts = [round(number * Fraction(1001, 30)) for number in kept]
    times = FrameTimes.of("video", [(start, None) for start in starts], Fraction(1, 1000))
    assert not times.is_even
    expected = [kept.index(number if number % 50 != 7 else number - 1) for number in range(600)]
    assert list(times.chosen(None)) == expected


def test_a_constant_rate_is_halved_without_judder() -> None:
    """Of 30 frames a second in rounded milliseconds, every second one is taken, and not 1, 2, 4, 7, 8."""
    delays = np.diff([round(number * Fraction(1000, 30)) for number in range(61)]).tolist()
    times = times_of(delays, Fraction(1, 1000), authored=False, declared=Fraction(30))
    assert set(np.diff(times.chosen(15)).tolist()) == {2}
    assert len(times.chosen(15)) == 30


@pytest.mark.parametrize(("last", "frames"), [(1, 4), (0, 4), (512, 4), (700, 4), (1024, 5), (1536, 6)])
def test_what_a_muxer_says_of_the_last_frame_takes_none_away(last: int, frames: int) -> None:
    times = times_of([512, 512, 512, last], Fraction(1, 15_360), authored=False)
    assert len(times.chosen(None)) == frames


def test_of_two_delays_as_common_the_shorter_is_the_grid() -> None:
    assert list(times_of([50, 10], Fraction(1, 100)).chosen(None)) == [0] * 5 + [1]


def test_without_times_frames_are_counted() -> None:
    for stamps in ([(None, 1), (None, 1)], [(0, 1), (None, 1)], [(5, 1), (5, 1)]):
        times = FrameTimes.of("video", stamps, Fraction(1, 10))
        assert (list(times.chosen(None)), times.rate, times.is_even) == ([0, 1], None, True)
        with pytest.raises(BrokenClipError, match="has no time stamps in order"):
            times.chosen(8)


def test_a_clock_that_jumps_does_not_fill_the_memory() -> None:
    times = times_of([1, 1, 1, 10_002, 1], Fraction(1, 10))
    with pytest.raises(
        BrokenClipError, match="shows frame 3 for as long as 10,002 frames; take its frames as they"
    ):
        times.chosen(None)
    assert len(times.chosen("stored")) == 5


@pytest.mark.parametrize("fps", [0, -1, math.nan, math.inf, "x", "1/0", ""])
def test_a_rate_must_be_a_positive_number(fps: Any) -> None:
    with pytest.raises(InputError, match=r"frames per second.*; write 8, 23\.976, 30000/1001 or stored"):
        exact_rate(fps)


def test_rates_are_exact() -> None:
    assert exact_rate("30000/1001") == exact_rate(30000 / 1001) == Fraction(30000, 1001)
    assert exact_rate(8) == exact_rate("8.0") == 8


def moving(count: int) -> NDArray[np.uint8]:
    """Frames none of which is like another, uint8 [count, 24, 32, 3]."""
    clip = np.zeros((count, 24, 32, 3), np.uint8)
    for number, frame in enumerate(clip):
        frame[3:9, number : number + 6] = (255, 20 * (number % 12), 0)
    return clip


def save(path: Path, clip: NDArray[np.uint8], delays: int | list[int]) -> Path:
    first, *rest = [Image.fromarray(frame) for frame in clip]
    more = {"lossless": True} if path.suffix == ".webp" else {}
    first.save(path, save_all=True, append_images=rest, duration=delays, **more)
    return path


@pytest.mark.parametrize("suffix", [".gif", ".png", ".apng", ".webp"])
def test_an_animation_of_pillow_comes_back_as_it_was_given(tmp_path: Path, suffix: str) -> None:
    """Pillow merges equal frames; those that stand still are shown for longer, at the start and the end too."""
    source = moving(20)
    source[1:4], source[8:13], source[17:] = source[1], source[8], source[17]
    path = save(tmp_path / f"video{suffix}", source, 60)
    video = decode_video(path)
    assert np.abs(video.frames.astype(int) - source).max() <= (4 if suffix == ".gif" else 0)
    assert (video.lossless, video.fps, video.uneven) == (
        suffix != ".gif",
        pytest.approx(1000 / 60, rel=1e-3),
        False,
    )
    assert count_frames(path) == 20
    np.testing.assert_array_equal(read_video(path, [9, 2, 19]), video.frames[[9, 2, 19]])
    np.testing.assert_array_equal(read_video_at(path, [0.06 * k + 0.03 for k in range(20)]), video.frames)
    stored = decode_video(path, fps="stored")
    assert (len(stored.frames), stored.fps, stored.uneven) == (12, None, True)
    with pytest.raises(BrokenClipError, match="has 20 frames, 21 are needed"):
        read_video(path, [20])


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
def test_delays_that_differ_are_shown_as_by_ffmpeg(tmp_path: Path, suffix: str) -> None:
    delays = [80, 200, 80, 80, 130, 80, 410, 80]
    path = save(tmp_path / f"video{suffix}", moving(8), delays)
    expected = by_ffmpeg([delay // 10 for delay in delays], Fraction(1, 100), Fraction(25, 2))
    np.testing.assert_array_equal(read_video(path), read_video(path, fps="stored")[expected])
    slow = by_ffmpeg([delay // 10 for delay in delays], Fraction(1, 100), Fraction(5))
    np.testing.assert_array_equal(read_video(path, fps=5), read_video(path, fps="stored")[slow])


@pytest.mark.parametrize("fps", [1, 8, 12.5, 15, 23.976, 24, 29.97, 30, 48, 60, 75, 100])
def test_a_gif_of_any_rate_has_the_frames_that_were_written(tmp_path: Path, fps: float) -> None:
    """At 60 and 100 frames a second GIFs hold delays of a hundredth, which FFmpeg would take for a tenth."""
    write_clip(tmp_path / "video.gif", moving(24), fps=fps)
    times = frame_times(tmp_path / "video.gif")
    assert list(times.chosen(None)) == list(range(24))
    assert float(times.rate or 0) == pytest.approx(fps, rel=0.02)


def test_a_video_of_variable_frame_rate_is_read_by_time(shared_data: Path) -> None:
    path = shared_data / "moviepy/media/fire2.mp4"
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pts is not None]
    starts = sorted(packet.pts for packet in packets if packet.pts is not None)
    delays = [*np.diff(starts).tolist(), packets[-1].duration]
    rate = frame_times(path).rate
    assert rate is not None
    expected = by_ffmpeg(delays, Fraction(1, 90_000), rate)
    assert expected != list(range(25))
    np.testing.assert_array_equal(read_video(path), read_video(path, fps="stored")[expected])


def test_an_avi_shows_a_frame_for_longer_where_one_was_dropped(tmp_path: Path) -> None:
    path = tmp_path / "video.avi"
    source = moving(12)
    kept = [0, 1, 2, 5, 6, 7, 8, 11]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "bgr0"
        for number in kept:
            frame = av.VideoFrame.from_ndarray(source[number], format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    expected = source[[0, 1, 2, 2, 2, 5, 6, 7, 8, 8, 8, 11]]
    np.testing.assert_array_equal(read_video(path), expected)
    assert count_frames(path) == 12


def test_both_ways_to_a_frame_lead_to_the_same_pixels(encode: Encode, textured: NDArray[np.uint8]) -> None:
    path = encode("video.mkv", textured)  # 24 frames at 10 a second
    np.testing.assert_array_equal(read_video(path, fps=10), textured)
    np.testing.assert_array_equal(read_video(path, fps=20), textured.repeat(2, axis=0))
    assert count_frames(path, fps=2.5) == 6
    assert decode_video(path, fps=2.5).fps == 2.5


def test_a_gif_in_which_nothing_moves_is_read_by_time(tmp_path: Path) -> None:
    """Pillow stores one frame, and for how long it is shown: at which rate it was made cannot be told."""
    pictures = [Image.new("RGB", (8, 8), "teal")] * 12
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=50)
    assert count_frames(tmp_path / "a.gif") == 1
    with pytest.raises(BrokenClipError, match=r"has 1 frame, 12 are needed \(it is shown for 0\.6 s.*--fps"):
        read_video(tmp_path / "a.gif", range(12))
    assert len(read_video(tmp_path / "a.gif", fps=20)) == 12
