"""`--dry-run` takes seconds: it measures a few evaluations, and computes nothing that is stored."""

import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

import vdm_bench
from vdm_bench.cli import cli
from vdm_bench.protocols import get_protocol
from vdm_bench.runs.context import build_maker, open_run
from vdm_bench.runs.forecast import _measure_sampler, forecast
from vdm_bench.runs.plan import RunOptions, SampledClips
from vdm_bench.runtime.distributed import ProcessGroup
from vdm_bench.runtime.progress import Advance, Silent

NOISE = ("shapes-unconditional", "--sampler", "noise", "--limit", "100", "--out", "run")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    # The hashes of clips whose files are younger than this are not cached.
    monkeypatch.setattr("vdm_bench.runtime.stamps.UNSETTLED_NS", -(10**12))


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(cli, ["run", *arguments])
    assert result.exit_code == 0, result.output
    return result


def files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


class Slow(vdm_bench.Sampler):
    """A sampler of 1,000 evaluations, each of them five seconds of its own clock for all clips of a request."""

    def __init__(self) -> None:
        self.now, self.evaluated = 0.0, 0

    def evaluations(self, request: vdm_bench.SampleRequest) -> int:
        return 1000

    def sample(self, request: vdm_bench.SampleRequest) -> NDArray[np.uint8]:
        raise AssertionError("not with progress")

    def sample_with_progress(self, request: vdm_bench.SampleRequest, advance: Advance) -> NDArray[np.uint8]:
        for _ in range(1000):
            self.now += 5.0
            self.evaluated += 1
            advance(len(request))
        return np.zeros((len(request), request.frames, request.height, request.width, 3), np.uint8)


class Whole(Slow):
    """The same, but it reports only whole clips; they are asked for one at a time."""

    def sample(self, request: vdm_bench.SampleRequest) -> NDArray[np.uint8]:
        self.now += 7.0 * len(request)
        return np.zeros((len(request), request.frames, request.height, request.width, 3), np.uint8)

    sample_with_progress = vdm_bench.Sampler.sample_with_progress


def measured(sampler: Slow) -> float:
    options = RunOptions(source=SampledClips(sampler))
    opened = open_run(get_protocol("shapes-unconditional"), Path("run"), options, Silent(), ProcessGroup())
    maker = build_maker(opened, SampledClips(sampler))
    return _measure_sampler(opened, maker, lambda: sampler.now)


def test_a_slow_sampler_is_measured_on_two_evaluations_of_a_block() -> None:
    sampler = Slow()
    assert measured(sampler) == pytest.approx(5.0 * 1000 / 64)
    assert sampler.evaluated == 2


def test_a_sampler_that_reports_no_evaluations_makes_one_clip() -> None:
    assert measured(Whole()) == pytest.approx(7.0)


def dry_run() -> list[str]:
    """Return the lines of a dry run; nothing is written."""
    before = files(Path())
    lines = run(*NOISE, "--dry-run").stdout.splitlines()
    assert files(Path()) == before
    return lines


def test_what_is_stored_is_neither_computed_nor_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a finished run; of one whose record is missing; and of one that was interrupted."""
    run(*NOISE)
    assert dry_run()[1:] == ["run holds this run already, complete; there is nothing to do"]
    other = [part.replace("noise", "blurred") for part in NOISE]
    result = CliRunner().invoke(cli, ["run", *other, "--dry-run"])
    assert result.exit_code == 2
    assert "run holds a run with another" in result.stderr

    Path("run/run.json").unlink()
    with monkeypatch.context() as patched:
        patched.setattr("vdm_bench.scoring.suite.compute_features", lambda *arguments: pytest.fail("computed"))
        patched.setattr("vdm_bench.runs.forecast.call_sampler", lambda *arguments: pytest.fail("sampled"))
        _, samples, features, time, *_ = dry_run()
    assert samples.endswith("; 100 of them are stored")
    assert features.endswith("; those of 1,124 clips are stored")
    assert time == "time: seconds; samples and features are stored"

    # The first 64 samples, and the features of the reference but for a block.
    for path in Path("run/samples").glob("shard-000001.*"):
        path.unlink()
    blocks = sorted(Path("cache/features").glob("*.safetensors"))
    assert len(blocks) == 16
    blocks[0].unlink()
    _, samples, features, time, *_ = dry_run()
    assert samples.endswith("; 64 of them are stored")
    assert features.endswith("; those of 960 clips are stored")
    assert re.search(r"samples .* s per clip\), features .* s per clip\); measured on a few passes", time)
    options = RunOptions(source=SampledClips("noise"), limit=100)
    made = forecast(get_protocol("shapes-unconditional"), options, Path("run"))
    assert (made.clips, made.stored, made.featured) == (100, 64, 1024 - 64)
