"""Runs for the tests of pages: every kind of plot, a gallery, warnings, and names that attack."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vdm_bench.leaderboards.record import Curve, ProtocolInfo, Record, SamplerInfo, SkippedClip, write_record
from vdm_bench.metrics.score import Estimate
from vdm_bench.video.archive import ArchiveWriter
from vdm_bench.video.clip import Clip

Make = Callable[..., Any]

HOSTILE = "<script>alert(1)</script>"
ATTACKS = (
    HOSTILE,
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style></script><svg onload=alert(1)>",
    "{{ 7 * 7 }} {% raw %} $\\frac{a}{b}$ &lt;b&gt;",
    "javascript:alert(1)//https://evil.example/x.png",
)
FRAMES, LEVEL = 16, 15  # frame t of every clip is gray, LEVEL * t


def write_runs(folder: Path, make_record: Make, make_score: Make, make_counts: Make) -> list[Record]:
    """Write runs with their clips; give their records."""
    records = [_guided(weight, make_record, make_score) for weight in (0.0, 1.0, 4.0)]
    records += [_fewer(count, make_record, make_score) for count in (64, 128)]
    records += [_hostile(text, make_record, make_score, make_counts) for text in ATTACKS]
    for number, record in enumerate(records):
        write_record(record, folder / str(number) / "run.json")
    for number in range(3):
        write_clips(folder / str(number) / "samples")
    return records


def write_clips(folder: Path, count: int = 4) -> None:
    """Write an archive in which all pixels of frame t are LEVEL * t."""
    levels = np.arange(FRAMES, dtype=np.uint8) * LEVEL
    frames = np.broadcast_to(levels[:, None, None, None], (FRAMES, 32, 32, 3)).copy()
    ArchiveWriter(folder, (FRAMES, 32, 32)).write_shard(0, [Clip(frames, str(i)) for i in range(count)])


def _guided(weight: float, make_record: Make, make_score: Make) -> Record:
    value = 10.0 + (weight - 1) ** 2
    return make_record(
        f"guided {weight:g}",
        make_score(value, ends=(value - 1, value + 1), floor=3.0),
        make_score(20.0 + weight, metric="psnr", higher_is_better=True, n_reference=0),
        sampler=SamplerInfo(
            kind="reference", spec="shapes", settings={"guidance_weight": weight, "steps": 64}, seed=0
        ),
        curves={
            "psnr": Curve(
                frames=[4, 5, 6], values=[22.0 + weight, 20.0 + weight, 18.5], standard_errors=[0.1, 0.2, 0.3]
            )
        },
    )


def _fewer(count: int, make_record: Make, make_score: Make) -> Record:
    infinite = Estimate(9.0, 8.0, 10.0, 0.95, "linear-in-1/n-jackknife-20")
    score = make_score(9.0 + 640 / count, n=count, ends=(9.0, 30.0), infinite=infinite, marks=("few clips",))
    return make_record("fewer", score, departures=(f"generated {count} of 2048 clips",))


def _hostile(text: str, make_record: Make, make_score: Make, make_counts: Make) -> Record:
    skipped = [SkippedClip(source=text, reason=text)]
    return make_record(
        text,
        make_score(50.0, marks=(text,)),
        make_score(None, metric="is", status=text, higher_is_better=True),
        protocol=ProtocolInfo(name="bair-prediction", digest=text, departures=[text]),
        sampler=SamplerInfo(kind=text, spec=text, settings={text: text}, seed=1),
        reference=make_counts(source=text),
        generated=make_counts(source=text, expected=2048, scored=2047, skipped=skipped),
        timing_seconds={text: 1.0},
    )
