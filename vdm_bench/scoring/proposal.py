"""Refuse clips that differ in size or length, before any is decoded, and propose settings that fit them all."""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.metrics.choices import Aspect, ResizeRule
from vdm_bench.metrics.rates import is_same_rate
from vdm_bench.scoring.headers import ClipHeader, Header
from vdm_bench.video.view import View

RULE: ResizeRule = "antialias"
ASPECT: Aspect = "center-crop"
_FEWEST = 2  # clips of a side, for any metric
_MOST_LINES = 8  # about the clips of a side
_MOST_NAMED = 3  # clips that cannot be read

FrameRange: TypeAlias = tuple[int, int | None]  # least and most frames that the networks accept


@dataclass(frozen=True)
class SideHeaders:
    """The clips of one side.

    Attributes:
        name: `generated` or `reference`.
        title: their source, as the user named it.
        headers: one per clip.
    """

    name: str
    title: str
    headers: Sequence[Header]

    @property
    def clips(self) -> list[ClipHeader]:
        """The headers that can be read."""
        return [header for header in self.headers if isinstance(header, ClipHeader)]

    @property
    def broken(self) -> list[BrokenClipError]:
        """The errors of the clips that cannot be read."""
        return [header for header in self.headers if isinstance(header, BrokenClipError)]


@dataclass(frozen=True)
class Proposal:
    """Settings that fit the clips of both sides; None leaves a setting as it is.

    Attributes:
        frames: number of frames.
        size: (height, width).
        fps: frame rate.
        skipped: clips that are too short or cannot be read, which are skipped.
    """

    frames: int | None = None
    size: tuple[int, int] | None = None
    fps: Fraction | None = None
    skipped: int = 0

    @property
    def arguments(self) -> dict[str, str | None]:
        """Options of the command line, each with its value; None for a flag."""
        chosen: dict[str, str | None] = {}
        if self.frames is not None:
            chosen["--frames"] = str(self.frames)
        if self.fps is not None:
            chosen["--fps"] = str(self.fps)
        if self.size is not None:
            height, width = self.size
            chosen["--size"] = str(width) if height == width else f"{width}x{height}"
            chosen |= {"--resize": RULE, "--aspect": ASPECT}
        if self.skipped:
            chosen["--skip-broken"] = None
        return chosen

    def __str__(self) -> str:
        fields = [f"frames={self.frames}"] if self.frames is not None else []
        if self.size is not None:
            fields += [f"size={self.size}", f"rule={RULE!r}", f"aspect={ASPECT!r}"]
        skipped = f" with skip_broken=True, which skips {self.skipped} clips" if self.skipped else ""
        return f"view=View({', '.join(fields)}){skipped}"


class ClipsDifferError(InputError):
    """Clips that differ in size or length, or are shorter than the frames that are asked for.

    Attributes:
        problem: what is wrong, a sentence.
        lines: the clips of both sides, by size and frame rate.
        proposals: settings that fit: at the stored frame rates, and, if these differ, also at the slowest one.
            Empty if there are none.
        reason: why there are none.
    """

    def __init__(self, problem: str, lines: Sequence[str], proposals: Sequence[Proposal], reason: str) -> None:
        way_out = f"{proposals[0]} fits all of them" if proposals else reason
        super().__init__(f"{problem}; {way_out}")
        self.problem, self.lines = problem, tuple(lines)
        self.proposals, self.reason = tuple(proposals), reason


def check_headers(
    sides: Sequence[SideHeaders], view: View, accepted: Callable[[], FrameRange], *, skip_broken: bool = False
) -> None:
    """Refuse clips that `view` does not bring to one size and length on each side.

    Args:
        sides: the clips of both sides.
        view: frames and size that are taken from each clip.
        accepted: returns the number of frames that the networks accept; called only for a proposal.
        skip_broken: accept clips that are too short; they are skipped.

    Raises:
        ClipsDifferError: with settings that fit.
    """
    problems = [*_differences(sides, view), *([] if skip_broken else _shortages(sides, view))]
    if not problems:
        return
    least, most = accepted()
    proposals = [_propose(sides, view, least, most, None)]
    if proposals[0] and (slowest := _slowest_rate(sides, view)):
        proposals.append(_propose(sides, view, least, most, slowest))
    reason = f"the metrics need {least} frames, and fewer than {_FEWEST} clips of a side have so many"
    raise ClipsDifferError("; ".join(problems), list(describe(sides)), [p for p in proposals if p], reason)


def _differences(sides: Sequence[SideHeaders], view: View) -> Iterator[str]:
    for side in sides:
        sizes = {clip.size for clip in side.clips}
        lengths = {clip.length(view.stride) for clip in side.clips}
        differing = [
            *(["size"] if view.size is None and len(sizes) > 1 else []),
            *(["length"] if view.frames is None and len(lengths) > 1 else []),
        ]
        if differing:
            yield f"the {side.name} clips differ in {' and '.join(differing)}"


def _shortages(sides: Sequence[SideHeaders], view: View) -> Iterator[str]:
    for side in sides if view.frames is not None else ():
        short = [clip for clip in side.clips if clip.length(view.stride) < (view.frames or 0)]
        if short:
            shortest, steps = min(short, key=lambda clip: clip.frames), ""
            if view.stride > 1:
                steps = f", {shortest.length(view.stride)} at a stride of {view.stride}"
            are = "is" if len(short) == 1 else "are"
            yield (
                f"{len(short)} of {len(side.headers)} {side.name} clips {are} shorter than {view.frames} frames: "
                f"the shortest, {shortest.source}, has {shortest.frames}{steps}"
            )


def _propose(
    sides: Sequence[SideHeaders], view: View, least: int, most: int | None, fps: Fraction | None
) -> Proposal | None:
    """Return settings that fit the clips with at least `least` frames, at a frame rate if one is given."""

    def length(clip: ClipHeader) -> int:
        return clip.length(view.stride) if fps is None else -(-clip.frames_at(fps) // view.stride)

    fits = view.frames is not None and all(length(clip) >= view.frames for side in sides for clip in side.clips)
    usable = [[clip for clip in side.clips if fits or length(clip) >= least] for side in sides]
    if any(len(clips) < _FEWEST for clips in usable):
        return None
    clips = list(itertools.chain.from_iterable(usable))
    lengths, sizes = {length(clip) for clip in clips}, {clip.size for clip in clips}
    is_needed = not fits and (view.frames or fps or len(lengths) > 1 or max(lengths) > (most or math.inf))
    frames = min(*lengths, most or math.inf, view.frames or math.inf) if is_needed else None
    return Proposal(
        frames=None if frames is None else int(frames),
        size=_common_size(sizes) if view.size is None and len(sizes) > 1 else None,
        fps=fps,
        skipped=sum(len(side.headers) for side in sides) - len(clips),
    )


def _common_size(sizes: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """Return the smallest size if all have its aspect ratio, else the largest square that fits into each."""
    height, width = min(sizes, key=math.prod)
    if all(h * width == w * height for h, w in sizes):
        return height, width
    side = min(itertools.chain.from_iterable(sizes))
    return side, side


def _slowest_rate(sides: Sequence[SideHeaders], view: View) -> Fraction | None:
    """Return the slowest frame rate if all clips have one and these differ."""
    rates = [clip.fps for side in sides for clip in side.clips]
    known = [rate for rate in rates if rate is not None]
    if view.fps is not None or len(known) < len(rates) or is_same_rate(float(max(known)), float(min(known))):
        return None
    return min(known).limit_denominator(1001)


def describe(sides: Sequence[SideHeaders]) -> Iterator[str]:
    """Yield lines with the number of clips of each size and frame rate, and the shortest clip."""
    for side in sides:
        yield f"{side.name}: {side.title}, {len(side.headers):,} clip{'' if len(side.headers) == 1 else 's'}"
        kinds: Mapping[tuple[tuple[int, int], str], list[int]] = defaultdict(list)
        for clip in side.clips:
            rate = "" if clip.fps is None else f" at {float(clip.fps):.4g} fps"
            kinds[clip.size, rate].append(clip.frames)
        ordered = sorted(kinds.items(), key=lambda kind: -len(kind[1]))
        for ((height, width), rate), frames in ordered[:_MOST_LINES]:
            length = f"{min(frames)}" if min(frames) == max(frames) else f"{min(frames)} to {max(frames)}"
            yield f"  {len(frames):>6,}  {width}x{height}, {length} frames{rate}"
        if rest := ordered[_MOST_LINES:]:
            yield f"  {sum(len(frames) for _, frames in rest):>6,}  of {len(rest)} other sizes and frame rates"
        if side.broken:
            named = ", ".join(str(error) for error in side.broken[:_MOST_NAMED])
            more = ", ..." if len(side.broken) > _MOST_NAMED else ""
            yield f"  {len(side.broken):>6,}  cannot be read: {named}{more}"
    clips = [clip for side in sides for clip in side.clips]
    if clips:
        shortest = min(clips, key=lambda clip: clip.frames)
        yield f"shortest: {shortest.source}, {shortest.frames} frames"
