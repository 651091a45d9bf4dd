"""A thousand run records into one DataFrame, compared with a plain `json.load` of the same files.

    python benchmarks/records.py

The records are of the size that `vdm-bench run bair-prediction` writes: five scores, two curves of 14 frames.
Each way is timed five times, in turn; the figures are medians. A few seconds, and 10 MB of disk.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from vdm_bench.leaderboards import load_runs
from vdm_bench.leaderboards.record import (
    ClipCounts,
    Curve,
    Environment,
    ProtocolInfo,
    Record,
    SamplerInfo,
    write_record,
)
from vdm_bench.metrics.score import Estimate, Interval, Score, Signature
from vdm_bench.scoring.suite import describe_environment

METRICS = ("fvd", "psnr", "psnr/best-of-100", "ssim", "ssim/best-of-100")


def score(metric: str, value: float) -> Score:
    """Make a score with everything that one can have."""
    signature = Signature.of(
        metric,
        {
            "net": "i3d-k400@fa7df956:logits",
            "in": "16x64x64>224:tf1-bilinear:stretch",
            "task": "prediction-2-of-16@bair-main/test/first@0123456789ab",
            "ref": "bair-main/test/first@0123456789ab/256",
            "n": "25600",
            "src": "lossless",
            "prec": "fp32",
            "v": "0.1.0",
        },
    )
    return Score(
        metric=metric,
        value=value,
        higher_is_better=metric != "fvd",
        n_reference=256,
        n_generated=25600,
        signature=str(signature),
        digest=signature.digest,
        interval=Interval(value - 1, value + 1, 0.95, "jackknife-20"),
        floor=1.5,
        infinite=Estimate(value - 2, value - 3, value - 1, 0.95, "linear-in-1/n-jackknife-20"),
        jackknife=tuple(value + group / 19 - 0.5 for group in range(20)),
        marks=("fewer reference clips than feature dimensions (256 for 400)",),
    )


def counts(source: str, count: int) -> ClipCounts:
    """Say that all clips of a source were scored."""
    return ClipCounts(
        source=source, expected=count, scored=count, skipped=[], repeated=0, lossy=False, digest="0f" * 32
    )


def record(number: int, environment: Environment) -> Record:
    """Make the record of one run."""
    frames = list(range(2, 16))
    curve = Curve(frames=frames, values=[20 + n / 7 for n in frames], standard_errors=[n / 70 for n in frames])
    return Record(
        schema_version=1,
        name=f"model {number}",
        created=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number),
        protocol=ProtocolInfo(name="bair-prediction", digest="706c96f774c4", departures=[]),
        sampler=SamplerInfo(kind="callable", spec="my_model:sample", settings={"steps": 64}, seed=number),
        reference=counts("bair-main/test/first", 256),
        generated=counts("my_model:sample", 25600),
        scores=[score(metric, 60 + number / 7) for metric in METRICS],
        curves={"psnr": curve, "ssim": curve},
        timing_seconds={"samples": 12345.678, "generated features": 5310.2, "scores": 3.4},
        environment=environment,
    )


def timed(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each way; the ways take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def main() -> None:
    """Write the records, load them and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = describe_environment("cpu")
        for number in range(arguments.records):
            write_record(record(number, environment), folder / f"{number:05}" / "run.json")
        files = sorted(folder.rglob("run.json"))
        size = sum(file.stat().st_size for file in files) / 1e6
        ways: dict[str, Callable[[], object]] = {
            "json.load": lambda: [json.loads(file.read_bytes()) for file in files],
            "load_runs": lambda: load_runs(folder),
        }
        found = timed(ways, arguments.rounds)
        print(f"{len(files)} records, {size:.1f} MB, {len(load_runs(folder))} rows")
        for way, seconds in found.items():
            print(f"{way:>10}: {seconds:.3f} s, {seconds / found['json.load']:.1f} x json.load")


if __name__ == "__main__":
    main()
