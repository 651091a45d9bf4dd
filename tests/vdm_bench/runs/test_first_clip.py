"""A run asks its sampler for one clip before any expensive work, and discards it: no number changes."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import vdm_bench
from vdm_bench.cli import cli
from vdm_bench.errors import InputError
from vdm_bench.protocols import Protocol, get_protocol
from vdm_bench.runs import stages
from vdm_bench.runtime.progress import Silent
from vdm_bench.samplers.base import SampleRequest
from vdm_bench.samplers.command import CommandSampler
from vdm_bench.video.archive import Archive


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path / "cache"))


def small(name: str = "shapes-unconditional", count: int = 12) -> Protocol:
    return get_protocol(name).model_copy(update={"generated_count": count, "reference_count": 8})


class Recorded:
    """Clips from the seeds alone; remembers what it is asked for."""

    def __init__(self) -> None:
        self.requests: list[tuple[int, ...]] = []

    def sample(self, request: SampleRequest) -> np.ndarray:
        self.requests.append(request.indices)
        shape = (request.frames, request.height, request.width, 3)
        return np.stack([np.random.default_rng(s).integers(0, 256, shape, dtype=np.uint8) for s in request.seeds])


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def no_features(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> Any:
        pytest.fail("the features of the reference are extracted before the sampler is tried")

    monkeypatch.setattr("vdm_bench.runs.run.extract_reference", refuse)


def test_one_clip_is_asked_for_first_and_none_when_all_exist(tmp_path: Path) -> None:
    sampler = Recorded()
    first = vdm_bench.run(small(), out=tmp_path / "run", sampler=sampler)
    assert sampler.requests == [(0,), tuple(range(12))]
    (tmp_path / "run" / "run.json").unlink()
    again = vdm_bench.run(small(), out=tmp_path / "run", sampler=sampler)
    assert len(sampler.requests) == 2
    assert [score.value for score in again.scores] == [score.value for score in first.scores]


def test_the_clips_are_the_same_as_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = vdm_bench.run(small(), out=tmp_path / "tried", sampler=Recorded())
    monkeypatch.setattr("vdm_bench.runs.run.try_sampler", lambda run, prepared: None)
    plain = vdm_bench.run(small(), out=tmp_path / "plain", sampler=Recorded())
    archives = [Archive(tmp_path / name / "samples") for name in ("tried", "plain")]
    assert all(np.array_equal(archives[0][i].frames, archives[1][i].frames) for i in range(12))
    assert tried.generated == plain.generated
    assert [score.value for score in tried.scores] == [score.value for score in plain.scores]


@pytest.mark.usefixtures("no_features")
@pytest.mark.parametrize(
    ("output", "message"),
    [
        (
            lambda r: np.zeros((len(r), r.frames + 1, r.height, r.width, 3), np.uint8),
            r"shape \[1, 17, 32, 32, 3\]",
        ),
        (
            lambda r: torch.zeros(len(r), 3, r.frames, r.height, r.width),
            r"ClipFormat\(layout='NCTHW', value_range",
        ),
        (lambda r: 1 / 0, r"failed on clip 0 \(ZeroDivisionError"),
    ],
    ids=["length", "layout", "error"],
)
def test_what_is_wrong_shows_before_the_reference(output: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        vdm_bench.run(small(), out=tmp_path / "run", sampler=output)
    assert not (tmp_path / "run" / "plan.json").exists()
    assert not (tmp_path / "run" / "samples").exists()


def test_a_mended_sampler_takes_the_folder_of_one_that_failed(tmp_path: Path) -> None:
    class Broken(Recorded):
        code_digest = "another"

        def sample(self, request: SampleRequest) -> np.ndarray:
            raise RuntimeError("out of ideas")

    with pytest.raises(InputError, match="out of ideas"):
        vdm_bench.run(small(), out=tmp_path / "run", sampler=Broken())
    assert vdm_bench.run(small(), out=tmp_path / "run", sampler=Recorded()).generated.scored == 12


def test_the_folder_of_another_run_is_refused_before_a_clip_is_made(tmp_path: Path) -> None:
    vdm_bench.run(small(), out=tmp_path / "run", sampler=Recorded())
    other = Recorded()
    with pytest.raises(InputError, match="another number of clips"):
        vdm_bench.run(small(count=8), out=tmp_path / "run", sampler=other)
    assert other.requests == []


CHILD = """
import json, sys
from pathlib import Path
import numpy as np
hello = json.loads(sys.stdin.readline())
print(json.dumps({"type": "ready", "version": 1}), flush=True)
count = 0
for line in sys.stdin:
    m = json.loads(line)
    with open("requests", "a") as log:
        print(count, m["number"], len(m["seeds"]), file=log)
    clips = np.full((len(m["seeds"]), m["frames"], m["height"], m["width"], 3), 10 * count, np.uint8)
    clips += np.arange(len(m["seeds"]), dtype=np.uint8)[:, None, None, None, None]
    np.save(Path(hello["scratch"]) / "clips.npy", clips)
    print(json.dumps({"type": "done", "number": m["number"], "clips": "clips.npy"}), flush=True)
    count += 1
"""


def test_a_program_that_counts_requests_makes_the_same_clips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("child.py").write_text(CHILD)
    sampler = CommandSampler(f"{sys.executable} child.py", {})
    vdm_bench.run(small(count=70), out="run", sampler=sampler)
    assert Path("requests").read_text().splitlines() == ["0 0 1", "0 0 64", "1 1 6"]
    assert [int(Archive(Path("run/samples"))[i].frames.flat[0]) for i in (0, 5, 63, 64)] == [0, 5, 63, 10]


@pytest.mark.usefixtures("no_features")
def test_a_program_that_cannot_start_is_reported_first(tmp_path: Path) -> None:
    line = ["run", "shapes-unconditional", "--sampler-command", "no-such-program", "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(cli, [*line, "--limit", "4"])
    assert result.exit_code == 2
    assert "'no-such-program' cannot be started" in result.stderr


@pytest.mark.parametrize(("value_range", "noted"), [((-1, 1), True), ((0, 1), False)])
def test_floats_that_seem_to_have_another_range_are_noted(
    value_range: tuple[float, float], noted: bool, tmp_path: Path
) -> None:
    @vdm_bench.ClipFormat("NCTHW", value_range)
    def bright(request: SampleRequest) -> torch.Tensor:
        shape = (3, request.frames, request.height, request.width)
        return torch.stack([torch.rand(shape, generator=torch.Generator().manual_seed(s)) for s in request.seeds])

    reporter = Notes()
    vdm_bench.run(small(), out=tmp_path / "run", sampler=bright, reporter=reporter)
    assert any("declare (0, 1)" in note for note in reporter.notes) is noted


def test_the_first_clip_has_the_context_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[SampleRequest] = []
    real = stages.call_sampler

    def spy(sampler: Any, request: SampleRequest, *rest: Any) -> np.ndarray:
        asked.append(request)
        return real(sampler, request, *rest)

    monkeypatch.setattr(stages, "call_sampler", spy)
    vdm_bench.run(small("shapes-prediction"), out=tmp_path / "run", sampler="copy-last-frame")
    assert [len(request) for request in asked] == [1, 12]
    assert asked[0].seeds[0] == asked[1].seeds[0]
    assert asked[0].context is not None
    assert asked[1].context is not None
    assert np.array_equal(asked[0].context[0], asked[1].context[0])
