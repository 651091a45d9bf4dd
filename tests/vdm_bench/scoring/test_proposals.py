"""Clips that differ are refused with settings that fit all of them."""

from collections.abc import Sequence
from fractions import Fraction

import pytest

from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.runtime.distributed import ProcessGroup
from vdm_bench.runtime.progress import Silent
from vdm_bench.scoring.headers import ClipHeader, Header
from vdm_bench.scoring.proposal import ClipsDifferError, FrameRange, SideHeaders, check_headers
from vdm_bench.scoring.score import ScoreOptions, check_sources
from vdm_bench.video.view import View

Kind = tuple[int, int, int] | tuple[int, int, int, str]  # frames, height, width, frame rate


def side(name: str, *kinds: Kind, broken: int = 0) -> SideHeaders:
    headers: list[Header] = [
        ClipHeader(f"{name}/{number}.mp4", kind[0], (kind[1], kind[2]), Fraction(kind[3]) if kind[3:] else None)
        for number, kind in enumerate(kinds)
    ]
    headers += [BrokenClipError(f"{name}/x{number}.mp4", "is empty") for number in range(broken)]
    return SideHeaders(name, f"{name}s/", headers)


def refused(
    sides: Sequence[SideHeaders], view: View | None = None, accepted: FrameRange = (1, None)
) -> ClipsDifferError:
    with pytest.raises(ClipsDifferError) as error:
        check_headers(sides, view or View(), lambda: accepted)
    return error.value


def test_clips_of_one_size_and_length_are_fine_even_if_sides_differ() -> None:
    sides = [side("generated", (16, 64, 64), (16, 64, 64)), side("reference", (25, 32, 32), (25, 32, 32))]
    check_headers(sides, View(), lambda: pytest.fail("no proposal is needed"))


def test_a_proposal_takes_the_shortest_clip_and_the_largest_square() -> None:
    sides = [
        side("generated", (25, 256, 448), (17, 256, 448), (30, 480, 720)),
        side("reference", (40, 128, 300), (40, 240, 320)),
    ]
    error = refused(sides)
    assert error.problem == ("the generated clips differ in size and length; the reference clips differ in size")
    (proposal,) = error.proposals
    assert proposal.arguments == {
        "--frames": "17",
        "--size": "128",
        "--resize": "antialias",
        "--aspect": "center-crop",
    }
    assert "view=View(frames=17, size=(128, 128), rule='antialias', aspect='center-crop') fits all" in str(error)
    check_headers(sides, View(17, 1, (128, 128), "antialias", "center-crop"), lambda: (1, None))


def test_one_aspect_ratio_is_kept() -> None:
    error = refused([side("generated", (9, 36, 64), (9, 72, 128)), side("reference", (9, 36, 64), (9, 360, 640))])
    assert error.proposals[0].arguments["--size"] == "64x36"


def test_settings_that_fit_are_left_as_they_are() -> None:
    sides = [side("generated", (20, 64, 64), (17, 32, 32)), side("reference", (18, 64, 64), (18, 64, 64))]
    assert "--frames" not in refused(sides, View(frames=16)).proposals[0].arguments
    sized = View(size=(32, 32), rule="half-pixel")
    assert refused(sides, sized).proposals[0].arguments == {"--frames": "17"}


def test_short_clips_are_called_short() -> None:
    sides = [side("generated", (20, 64, 64), (9, 64, 64)), side("reference", (25, 64, 64), (30, 64, 64))]
    error = refused(sides, View(frames=16))
    assert error.problem == (
        "1 of 2 generated clips is shorter than 16 frames: the shortest, generated/1.mp4, has 9"
    )
    assert "broken" not in str(error)
    assert error.proposals[0].arguments == {"--frames": "9"}
    strided = refused(sides, View(frames=8, stride=2))
    assert strided.problem.endswith("generated/1.mp4, has 9, 5 at a stride of 2")
    assert strided.proposals[0].arguments == {"--frames": "5"}
    check_headers(sides, View(frames=16), lambda: (1, None), skip_broken=True)


def test_clips_that_no_network_accepts_are_skipped_in_the_proposal() -> None:
    sides = [
        side("generated", (20, 64, 64), (17, 64, 64), (3, 64, 64)),
        side("reference", (25, 64, 64), (30, 64, 64), broken=2),
    ]
    (proposal,) = refused(sides, accepted=(9, None)).proposals
    assert proposal.arguments == {"--frames": "17", "--skip-broken": None}
    assert proposal.skipped == 3
    assert refused(sides, accepted=(9, 16)).proposals[0].frames == 16


def test_without_two_clips_that_are_long_enough_there_is_no_proposal() -> None:
    sides = [side("generated", (20, 64, 64), (8, 64, 64)), side("reference", (25, 64, 64), (30, 64, 64))]
    error = refused(sides, accepted=(9, None))
    assert error.proposals == ()
    assert str(error).endswith("; the metrics need 9 frames, and fewer than 2 clips of a side have so many")


def test_other_frame_rates_add_a_proposal_at_the_slowest_one() -> None:
    sides = [
        side("generated", (16, 64, 64, "8"), (24, 64, 64, "8")),
        side("reference", (60, 64, 64, "30"), (45, 64, 64, "30000/1001")),
    ]
    own, slowest = refused(sides).proposals
    assert own.arguments == {"--frames": "16"}
    assert slowest.arguments == {"--frames": "12", "--fps": "8"}  # 45 frames at 29.97 fps are 1.5 s
    nearly = [side("generated", (16, 64, 64, "30"), (24, 64, 64, "30")), sides[1]]
    assert len(refused(nearly).proposals) == 1


def test_the_lines_count_clips_by_size_and_frame_rate() -> None:
    sides = [
        side("generated", (17, 64, 48, "8"), (25, 64, 48, "8"), (9, 32, 32, "8"), broken=1),
        side("reference", *[(20 + number, 100 + number, 64) for number in range(11)]),
    ]
    lines = refused(sides).lines
    assert lines[:4] == (
        "generated: generateds/, 4 clips",
        "       2  48x64, 17 to 25 frames at 8 fps",
        "       1  32x32, 9 frames at 8 fps",
        "       1  cannot be read: generated/x0.mp4: is empty",
    )
    assert lines[-2:] == ("       3  of 3 other sizes and frame rates", "shortest: generated/2.mp4, 9 frames")


class OtherProcess(ProcessGroup):
    """The second process of a job, whose first one sends `data`."""

    def __init__(self, data: bytes) -> None:
        super().__init__(rank=1, size=2)
        self._data = data

    def broadcast(self, data: bytes | None, owner: int) -> bytes:
        assert (data, owner) == (None, 0)
        return self._data


def test_every_process_refuses_what_the_first_one_found() -> None:
    def check(data: bytes) -> None:
        check_sources({}, [], ScoreOptions(), Silent(), OtherProcess(data))

    check(b"null")
    with pytest.raises(InputError, match="the generated clips differ"):
        check(b'"the generated clips differ"')
