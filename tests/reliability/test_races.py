"""Processes that start together in one folder, with one file or one cache: nothing is lost, doubled or torn.

Each race is a function of how many take part, so that it can be run with more of them, too.
"""

import contextlib
import dataclasses
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import miniatures
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from racing import Ended, Gated, command_line, race, wait_for
from tiny_model import TINY

import vdm_bench
from vdm_bench.cli import cli
from vdm_bench.generation.generate import SampleOptions, generate
from vdm_bench.generation.output import Form, OutputSpec
from vdm_bench.leaderboards.checks.baseline import Baseline
from vdm_bench.leaderboards.record import read_record, write_record
from vdm_bench.protocols import get_protocol
from vdm_bench.protocols.prepare import prepare
from vdm_bench.reference_model.checkpoint import CheckpointInfo, save_model
from vdm_bench.reference_model.config import Preset, SamplingConfig, TrainingConfig
from vdm_bench.reference_model.model import load_reference_model
from vdm_bench.reference_model.training.loop import Hooks, TrainingOptions, train
from vdm_bench.reference_model.unet import VideoUNet
from vdm_bench.runtime.process_identity import ProcessIdentity
from vdm_bench.samplers.reference_model import ReferenceSampler
from vdm_bench.scoring.score import ScoreOptions, score_record
from vdm_bench.training.data import open_batches
from vdm_bench.video.archive import Archive

PROTOCOL = get_protocol("shapes-unconditional").model_copy(
    update={"reference_count": 70, "generated_count": 70, "metrics": ("embedded/fvd",)}
)
KINETICS = get_protocol("kinetics600-prediction").model_copy(
    update={"metrics": ("embedded/fvd",), "reference_count": 3, "generated_count": 3}
)


def hidden_in(folder: Path) -> list[Path]:
    """What locks and temporary files are called."""
    return [path for path in folder.rglob("*") if path.name.startswith(".")]


def race_in_folder(
    work: Callable[..., object], arguments: Sequence[Any], folder: Path, verb: str, count: int
) -> None:
    """Let as many processes as told do one thing in one folder; one does it, and the others learn who.

    Args:
        work: takes the arguments, and a gate behind which the one that does it waits for the others' end.
        arguments: the folder or file that is written to comes first.
        folder: for what is none of theirs.
        verb: of the command line.
        count: of processes.
    """
    ended = race(work, [(*arguments, folder / "gate")] * count, folder / "logs", gate=folder / "gate")
    assert sorted(one.status for one in ended) == [0] + [2] * (count - 1), [one.said for one in ended]
    (winner,) = (one for one in ended if one.status == 0)
    for one in ended:
        if one is not winner:
            check_refusal(one, arguments[0], winner.process, verb)
    assert not hidden_in(folder)


def check_refusal(ended: Ended, what: Path, process: int, verb: str) -> None:
    sentence = (
        rf"Error: {re.escape(str(what))} is being written by process {process} on \S+ \({verb}, since "
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\); wait for it, or choose another --out\n"
    )
    assert re.fullmatch(sentence, ended.said), ended.said


# --- one folder


def run_gated(out: Path, gate: Path) -> None:
    vdm_bench.run(PROTOCOL, sampler="blurred", out=out, reporter=Gated(gate))


def score_gated(out: Path, clips: Path, gate: Path) -> None:
    score_record(clips, clips, ScoreOptions(("embedded/fvd",), out=out), Gated(gate))


def prepare_gated(folder: Path, root: Path, gate: Path) -> None:
    prepare(KINETICS, root, folder.parent, workers=1, skip_broken=False, reporter=Gated(gate))


def sample_gated(out: Path, model: Path, form: Form, gate: Path) -> None:
    loaded = load_reference_model(model, device="cpu")
    order = SampleOptions(count=1 if form == "gif" else 3)
    window = (loaded.config.frames, loaded.config.resolution)
    sampler = ReferenceSampler(loaded, loaded.sampling)
    generate(sampler, window, order, OutputSpec.of(out, form, 8.0), Gated(gate))


def train_gated(out: Path, gate: Path) -> None:
    def on_note(text: str) -> None:
        wait_for(gate)

    training = TrainingConfig(steps=4, batch=2, learning_rate=1e-3, warmup_steps=1, schedule="constant")
    config = dataclasses.replace(TINY, frames=16, resolution=32, classes=0)
    preset = Preset("tiny", "for tests", config, training)
    options = TrainingOptions(device="cpu", log_every=1, checkpoint_every=2)
    train(preset, open_batches(preset, workers=1), out, options, Hooks(on_note=on_note))


def write_model(path: Path) -> Path:
    torch.manual_seed(0)
    info = CheckpointInfo("tiny", dataclasses.replace(TINY, classes=0), SamplingConfig(sampler="ddim", steps=2))
    save_model(path, VideoUNet(info.model), info)
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was made in peace."""
    out = tmp_path_factory.mktemp("finished") / "run"
    vdm_bench.run(PROTOCOL, sampler="blurred", out=out)
    return out


def test_of_runs_in_one_folder_one_is_made(finished: Path, tmp_path: Path) -> None:
    race_in_folder(run_gated, [tmp_path / "run"], tmp_path, "run", 3)
    assert read_record(tmp_path / "run/run.json").scores == read_record(finished / "run.json").scores


def test_of_comparisons_into_one_folder_one_is_made(tmp_path: Path) -> None:
    clips = tmp_path / "clips.npy"
    np.save(clips, np.random.default_rng(0).integers(0, 256, (6, 16, 32, 32, 3), np.uint8))
    race_in_folder(score_gated, [tmp_path / "scores", clips], tmp_path, "score", 2)
    assert read_record(tmp_path / "scores/run.json").generated.scored == 6


def test_of_preparations_of_one_archive_one_is_made(tmp_path: Path) -> None:
    root = miniatures.write_kinetics600(tmp_path / "data", count=3)
    (whole,) = prepare(KINETICS, root, tmp_path / "whole", workers=1, skip_broken=False, reporter=Gated(root))
    out = tmp_path / "made" / whole.folder.name
    race_in_folder(prepare_gated, [out, root], tmp_path, "data prepare", 2)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in whole.folder.iterdir()
    }


@pytest.mark.parametrize(("name", "form"), [("clips", "archive"), ("a.gif", "gif")])
def test_of_samplings_to_one_place_one_is_made(name: str, form: Form, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model.safetensors")
    race_in_folder(sample_gated, [tmp_path / name, model, form], tmp_path, "sample", 2)
    assert form == "gif" or len(Archive(tmp_path / name)) == 3


def test_of_trainings_in_one_folder_one_is_made(tmp_path: Path) -> None:
    race_in_folder(train_gated, [tmp_path / "run"], tmp_path, "train", 2)
    lines = (tmp_path / "run/log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]


# --- one file, one cache


def race_for_baseline(finished: Path, folder: Path, count: int) -> list[str]:
    """Let as many runs be taken into one baseline at once; return the names in it."""
    record, each = read_record(finished / "run.json"), []
    for number in range(count):
        run = folder / f"run-{number}"
        write_record(record.model_copy(update={"name": run.name}), run / "run.json")
        each.append(("check", str(run), "--baseline", str(folder / "baseline.json"), "--update-baseline"))
    for one in race(command_line, each, folder / "logs"):
        assert one.status == 0, one.said
    assert not hidden_in(folder)
    return [name for _, name in Baseline.read(folder / "baseline.json").runs]


def test_of_runs_taken_into_one_baseline_none_is_lost(finished: Path, tmp_path: Path) -> None:
    assert sorted(race_for_baseline(finished, tmp_path, 8)) == [f"run-{number}" for number in range(8)]


@pytest.mark.parametrize("place", ["/dev/stdout", "/dev/null", "pipe"])
def test_a_baseline_that_is_no_file_is_refused_and_not_waited_for(
    place: str, finished: Path, tmp_path: Path
) -> None:
    if place == "pipe":
        place = str(tmp_path / "pipe")
        os.mkfifo(place)
    arguments = ("check", str(finished), "--baseline", place, "--update-baseline")
    (ended,) = race(command_line, [arguments], tmp_path / "logs")
    assert ended.status == 2
    wanted = f"Error: {place} is a pipe or a device and cannot store a baseline; give a file with --baseline\n"
    assert ended.said == wanted


def run_alone(out: Path, sampler: str) -> None:
    vdm_bench.run(PROTOCOL, sampler=sampler, out=out)


def race_for_cache(folder: Path, count: int) -> list[Path]:
    """Let as many runs, each in a folder of its own, fill one cache; return their folders."""
    samplers = ["blurred", "noise", "real"]
    each = [(folder / f"{samplers[n % 3]}-{n}", samplers[n % 3]) for n in range(count)]
    for one in race(run_alone, each, folder / "logs", environment={"VDM_BENCH_CACHE": str(folder / "cache")}):
        assert one.status == 0, one.said
    assert not hidden_in(folder)
    return [out for out, _ in each]


def test_runs_that_fill_one_cache_at_once_score_as_one_alone(finished: Path, tmp_path: Path) -> None:
    first, _, _ = race_for_cache(tmp_path, 3)
    assert read_record(first / "run.json").scores == read_record(finished / "run.json").scores


# --- what the killed leave behind, and what is finished


def test_what_killed_runs_left_is_cleared_away_wherever_they_left_it(tmp_path: Path) -> None:
    """In the run's folder and in the cache; not what a process that lives is writing there."""
    cache, out, here = tmp_path / "cache", tmp_path / "run", str(ProcessIdentity.current())
    dead = str(dataclasses.replace(ProcessIdentity.current(), process=2**31 - 7))
    for folder in (out / "features", cache / "features"):
        folder.mkdir(parents=True)
        for owner in (dead, here):
            (folder / f".x.part-{owner}-00000000.safetensors").touch()
    settings = {"VDM_BENCH_CACHE": str(cache)}
    (ended,) = race(run_alone, [(out, "blurred")], tmp_path / "logs", environment=settings)
    assert ended.status == 0, ended.said
    assert {path.name for path in hidden_in(tmp_path)} == {f".x.part-{here}-00000000.safetensors"}
    assert len(hidden_in(tmp_path)) == 2


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Be a user to whom nothing is allowed, for whom permissions count."""
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def test_a_finished_run_is_shown_where_nothing_can_be_written() -> None:
    with as_nobody():
        if not entry_points(group="vdm_bench.networks"):  # as tox makes its folder for its user alone
            pytest.skip("the package is installed where nobody else may read")
    with tempfile.TemporaryDirectory() as folder:  # the folders of tests let nobody else in
        Path(folder).chmod(0o755)
        protocol, out = Path(folder, "small.toml"), Path(folder, "run")
        protocol.write_text(as_toml(PROTOCOL.model_dump(exclude_defaults=True)))
        command = ["run", str(protocol), "--sampler", "blurred", "--out", str(out)]
        assert CliRunner().invoke(cli, command).exit_code == 0
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
        out.chmod(0o555)
        try:
            with as_nobody():
                result = CliRunner().invoke(cli, command)
        finally:
            out.chmod(0o755)
        assert result.exit_code == 0, result.output
        assert result.stderr == f"{out} holds this run already, complete; nothing to do\n"
        assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def as_toml(content: Mapping[str, Any]) -> str:
    """A table of TOML; tables in it become inline ones."""

    def value(item: Any) -> str:
        if isinstance(item, Mapping):
            return "{ " + ", ".join(f"{key} = {value(inner)}" for key, inner in item.items()) + " }"
        return json.dumps(item)

    return "\n".join(f"{key} = {value(item)}" for key, item in content.items()) + "\n"
