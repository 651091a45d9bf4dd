"""What costs little is checked before what costs much."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from vdm_bench import ComputeConfig, ScoreOptions, run, score_record
from vdm_bench.cli import cli
from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.errors import BrokenClipsError, InputError
from vdm_bench.leaderboards.record import read_record
from vdm_bench.protocols import Protocol, get_protocol
from vdm_bench.samplers.base import SampleRequest
from vdm_bench.video.archive import ArchiveWriter
from vdm_bench.video.clip import Clip
from vdm_bench.video.write import write_clip


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VDM_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def nothing_dear(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network is loaded or downloaded, no sampler built, nothing computed."""

    def refuse(what: str) -> Any:
        def called(*arguments: object, **options: object) -> None:
            pytest.fail(f"{what} was called")

        return called

    for name in (
        "scoring.suite.load_network",
        "scoring.suite.provide",
        "runs.context.make_sampler",
        "scoring.features.compute_features",
        "runs.stages.call_sampler",
    ):
        monkeypatch.setattr(f"vdm_bench.{name}", refuse(name))


def small(name: str = "shapes-unconditional", **changes: object) -> Protocol:
    return get_protocol(name).model_copy(update={"generated_count": 12, "reference_count": 16, **changes})


class Gray:
    def __init__(self) -> None:
        self.calls = 0

    def sample(self, request: SampleRequest) -> np.ndarray:
        self.calls += 1
        values = [
            np.random.default_rng(seed).integers(0, 256, (16, 32, 32, 3), np.uint8) for seed in request.seeds
        ]
        return np.stack(values)


def write_clips(folder: Path, form: str, clips: list[Clip]) -> Path:
    if form == "videos":
        for number, clip in enumerate(clips):
            write_clip(folder / f"{number:02}.mp4", clip.frames)
    elif form == "archive":
        ArchiveWriter(folder, clips[0].frames.shape[:3]).append(clips)  # type: ignore[arg-type]
    else:
        folder.mkdir()
        np.save(folder / "clips.npy", np.stack([clip.frames for clip in clips]))
    return folder


# Ready clips of a wrong size


@pytest.mark.usefixtures("nothing_dear")
@pytest.mark.parametrize("form", ["videos", "archive", "array"])
def test_existing_clips_of_another_resolution_are_refused_early(form: str, tmp_path: Path) -> None:
    clips = [Shapes("test", resolution=64)[index] for index in range(12)]
    write_clips(tmp_path / "clips", form, clips)
    with pytest.raises(InputError, match=r"\(16, 64, 64\), shapes-unconditional asks for \(16, 32, 32\)"):
        run(small(), out=tmp_path / "run", clips=tmp_path / "clips")
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("nothing_dear")
@pytest.mark.parametrize("form", ["videos", "archive", "array"])
def test_existing_clips_that_are_too_short_are_all_named_early(form: str, tmp_path: Path) -> None:
    clips = [Shapes("test", frames=9)[index] for index in range(12)]
    write_clips(tmp_path / "clips", form, clips)
    with pytest.raises(BrokenClipsError, match=r"12 of 12 clips .* has 9 frames, 16 are needed.*--skip-broken"):
        run(small(), out=tmp_path / "run", clips=tmp_path / "clips")
    with pytest.raises(InputError, match="not a single clip of the generated clips could be read"):
        run(small(), out=tmp_path / "run", clips=tmp_path / "clips", skip_broken=True)


def test_the_size_is_that_of_the_first_clip_that_can_be_read(tmp_path: Path) -> None:
    write_clips(tmp_path / "clips", "videos", [Shapes("test")[index] for index in range(12)])
    (tmp_path / "clips" / "00.mp4").write_bytes(b"")
    record = run(small(), out=tmp_path / "run", clips=tmp_path / "clips", skip_broken=True)
    assert record.generated.scored == 11


# Runs that are finished, or are others


@pytest.mark.parametrize("sampler", ["blurred", "reference", "own_sampler:sample", Gray()])
def test_a_finished_run_is_found_before_anything_is_loaded(
    sampler: Any, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_sampler.py").write_text(
        "import numpy as np\n"
        "def sample(request):\n"
        "    return np.stack([np.random.default_rng(s).integers(0, 256, (16, 32, 32, 3), np.uint8)\n"
        "                     for s in request.seeds])\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    options = {"steps": "2", "labels": "random"} if sampler == "reference" else {}
    first = run(small(), out=tmp_path / "run", sampler=sampler, options=options)
    sys.modules.pop("own_sampler", None)  # as in a new process
    request.getfixturevalue("nothing_dear")
    assert run(small(), out=tmp_path / "run", sampler=sampler, options=options) == first
    assert "own_sampler" not in sys.modules
    for changes, words in (
        ({"seed": 3}, "another sampler"),
        ({"limit": 10}, "another number of clips"),
        ({"skip_broken": True}, "another skip_broken"),
    ):
        with pytest.raises(InputError, match=f"holds a run with {words}"):
            run(small(), out=tmp_path / "run", sampler=sampler, options=options, **changes)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"another protocol \(.*\), protocol_digest \("):
        run(small("shapes-class"), out=tmp_path / "run", sampler=sampler, options=options)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"seed": 4}, "another sampler than"),
        ({"sampler": "noise"}, "another sampler than"),
        ({"limit": 10}, "another number of clips than"),
        ({"protocol": small("shapes-class")}, "another protocol than"),
    ],
)
def test_the_record_of_another_run_is_not_taken_for_that_of_a_folder(
    other: dict[str, Any], words: str, tmp_path: Path
) -> None:
    """Whole in itself, but put, or restored, into the wrong place."""
    asked: dict[str, Any] = {"protocol": small(), "sampler": "blurred"}
    first = run(**asked, out=tmp_path / "run")
    run(**(asked | other), out=tmp_path / "other")
    (tmp_path / "other/run.json").replace(tmp_path / "run/run.json")
    with pytest.raises(InputError, match=rf"run/run\.json is the record of a run with {words} the one in this"):
        run(**asked, out=tmp_path / "run")
    (tmp_path / "run/run.json").unlink()
    assert run(**asked, out=tmp_path / "run").scores == first.scores


def test_a_finished_run_is_not_reused_if_its_samplers_code_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    code = (
        "import numpy as np\n"
        "def sample(request):\n"
        "    return np.stack([np.random.default_rng(s).integers(0, 256, (16, 32, 32, 3), np.uint8)\n"
        "                     for s in request.seeds])\n"
    )
    (tmp_path / "changing_sampler.py").write_text(code)
    run(small(), out=tmp_path / "run", sampler="changing_sampler:sample")
    sys.modules.pop("changing_sampler")
    (tmp_path / "changing_sampler.py").write_text(code + "# other weights\n")
    with pytest.raises(InputError, match="another sampler code"):
        run(small(), out=tmp_path / "run", sampler="changing_sampler:sample")


def test_a_finished_run_is_not_reused_if_a_file_of_its_sampler_changed(tmp_path: Path) -> None:
    """The path of a checkpoint is the same, and so are its size and times: what it holds is another model."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    from vdm_bench.reference_model.model import checkpoint_path

    options = {"steps": "2", "labels": "random", "checkpoint": str(tmp_path / "model.safetensors")}
    with safe_open(checkpoint_path("shapes"), "pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    save_file(tensors, tmp_path / "model.safetensors", metadata)
    os.utime(tmp_path / "model.safetensors", (1, 1))
    run(small(), out=tmp_path / "run", sampler="reference", options=options)
    name = next(name for name in tensors if tensors[name].is_floating_point())
    tensors[name] = tensors[name] * 0.5
    save_file(tensors, tmp_path / "model.safetensors", metadata)
    os.utime(tmp_path / "model.safetensors", (1, 1))
    with pytest.raises(InputError, match="another sampler"):
        run(small(), out=tmp_path / "run", sampler="reference", options=options)


def test_a_finished_run_is_not_reused_for_other_clips_at_the_same_path(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    clips = write_clips(tmp_path / "clips", "array", [Shapes("test")[index] for index in range(12)])
    first = run(small(), out=tmp_path / "run", clips=clips)
    request.getfixturevalue("nothing_dear")
    assert run(small(), out=tmp_path / "run", clips=clips) == first
    pixels = np.load(clips / "clips.npy")
    pixels[5, 3, 2, 1] ^= 1
    np.save(clips / "clips.npy", pixels)
    with pytest.raises(InputError, match="the content of the generated clips is not that of the complete run in"):
        run(small(), out=tmp_path / "run", clips=clips)
    assert read_record(tmp_path / "run" / "run.json") == first


@pytest.mark.usefixtures("settled")
def test_recheck_looks_at_the_reference_of_a_finished_run_too(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_clips(tmp_path / "data" / "test", "array", [Shapes("test")[index] for index in range(16)])
    fields = {
        **{name: {"split": "test", "seed": 0, "windows": "first"} for name in ("reference", "conditions")},
        "dataset": "folder",
    }
    protocol = Protocol.model_validate({**small().model_dump(), **fields})
    common = {"out": tmp_path / "run", "data_root": tmp_path / "data", "sampler": Gray()}
    first = run(protocol, **common)  # type: ignore[arg-type]
    assert run(protocol, **common, recheck=True) == first  # type: ignore[arg-type]
    path = tmp_path / "data" / "test" / "clips.npy"
    pixels = np.load(path)
    pixels[9, 3, 2, 1] ^= 1
    np.save(path, pixels)
    with pytest.raises(InputError, match="the content of the reference is not that of the complete run"):
        run(protocol, **common, recheck=True)  # type: ignore[arg-type]


def test_a_run_whose_plan_tells_less_is_found_once_all_is_loaded(tmp_path: Path) -> None:
    """As plans of before do, or where the words differ and mean the same."""
    sampler = Gray()
    first = run(small(), out=tmp_path, sampler=sampler)
    plan = json.loads((tmp_path / "plan.json").read_text())
    for key in ("asked", "sampler module", "checksum"):
        del plan[key]
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    assert run(small(), out=tmp_path, sampler=sampler) == first
    assert sampler.calls == 2  # one clip first, then all
    assert "asked" in json.loads((tmp_path / "plan.json").read_text())


# What is asked for cannot be had


@pytest.mark.usefixtures("nothing_dear")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seed": -1}, "`seed` -1 is less than 0"),
        ({"seed": 1.5}, "`seed` is 1.5, not a whole number"),
        ({"limit": 1}, "`limit` 1 is too few; a score needs at least 2 clips"),
        ({"limit": 2.5}, "`limit` is 2.5, not a whole number"),
        ({"workers": 0}, "`workers` 0 is less than 1"),
        ({"options": {"steps": 4}}, "option steps is 4; give it as text: '4'"),
        ({"sampler": 3}, r"type int is neither a function nor an object with sample\(request\)"),
        ({"sampler": None}, "give one of the two: `sampler` or `clips`"),
        ({"clips": "x"}, "give one of the two: `sampler` or `clips`"),
        ({"sampler": None, "clips": "x", "options": {"a": "b"}}, "'a' is an option of a sampler"),
    ],
)
def test_a_wrong_keyword_is_named_without_options_of_the_command_line(
    options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        run(small(), **{"out": tmp_path / "run", "sampler": "noise", **options})
    assert "--" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def folder_protocol(root: Path, task: str) -> Protocol:
    """A protocol of a folder of clips, which have neither labels nor captions."""
    root.mkdir()
    write_clips(root / "test", "array", [Shapes("test")[index] for index in range(16)])
    choice = {"split": "test", "seed": 0, "windows": "first"}
    fields = {"dataset": "folder", "task": task, "reference": choice, "conditions": choice}
    return Protocol.model_validate({**small().model_dump(), **fields})


@pytest.mark.parametrize(("task", "lacking"), [("class", "has no label"), ("text", "has no caption")])
def test_conditions_that_lack_what_the_task_gives_are_refused_early(
    task: str, lacking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vdm_bench.scoring.features.compute_features", lambda *arguments: pytest.fail("computed"))
    protocol = folder_protocol(tmp_path / "data", task)
    with pytest.raises(InputError, match=lacking):
        run(protocol, out=tmp_path / "run", sampler=Gray(), data_root=tmp_path / "data")
    assert not (tmp_path / "run").exists()


def test_a_model_of_another_size_is_refused_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vdm_bench.scoring.features.compute_features", lambda *arguments: pytest.fail("computed"))
    with pytest.raises(InputError, match="clips of 64x64 pixels are asked for, and the model makes 32x32"):
        run(small(resolution=64), out=tmp_path / "run", sampler="reference", options={"steps": "2"})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("fault", ["of another sampler", "damaged"])
def test_samples_that_cannot_be_added_to_are_refused_early(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(small(), out=tmp_path / "run", sampler="noise" if fault == "of another sampler" else "blurred")
    for name in ("plan.json", "run.json"):
        (tmp_path / "run" / name).unlink()
    if fault == "damaged":
        (tmp_path / "run/samples/shard-000000.json").write_text("[")
    monkeypatch.setattr("vdm_bench.scoring.features.compute_features", lambda *arguments: pytest.fail("computed"))
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path / "cache"))  # without features of the reference
    words = "holds clips that were made otherwise" if fault == "of another sampler" else "is damaged"
    with pytest.raises(InputError, match=words):
        run(small(), out=tmp_path / "run", sampler="blurred")


@pytest.mark.usefixtures("nothing_dear")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sampler": "real", "computing": ComputeConfig(device="cuda:77")}, "try --device cpu"),
        ({"sampler": "real", "computing": ComputeConfig(precision="tf32")}, "choose --precision fp32 or bf16"),
        ({"sampler": "real", "computing": ComputeConfig(backend="jax")}, "unknown backend 'jax'"),
        (
            {"sampler": "real", "computing": ComputeConfig(weights={"embedded": Path("none")})},
            "none is not a file",
        ),
        ({"sampler": "real", "clips": "x"}, "one of the two"),
        ({}, "one of the two"),
        (
            {"sampler": "real", "reference_stats": "none.safetensors"},
            "none.safetensors is not a file of reference",
        ),
        ({"clips": "none"}, "none does not exist"),
    ],
)
def test_what_cannot_be_had_is_refused_before_anything_is_loaded(
    options: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vdm_bench.runs.context.make_sampler", lambda spec, setup: Gray())
    with pytest.raises(InputError, match=words):
        run(small(), out=tmp_path / "run", **options)


@pytest.mark.usefixtures("nothing_dear")
def test_an_unknown_sampler_is_refused_before_networks_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="unknown sampler 'reel'"):
        run(small(), out=tmp_path / "run", sampler="reel")


@pytest.mark.usefixtures("nothing_dear")
def test_a_folder_that_cannot_be_written_is_refused_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vdm_bench.runs.context.make_sampler", lambda spec, setup: Gray())
    (tmp_path / "file").write_text("no folder")
    clips = np.stack([Shapes("test")[index].frames for index in range(4)])
    out = tmp_path / "file" / "run"
    with pytest.raises(InputError, match=r"cannot write .*file/run"):
        run(small(), out=out, sampler="real")
    with pytest.raises(InputError, match=r"cannot write .*file/run"):
        score_record(clips, clips, ScoreOptions(("embedded/is",), out=out))
    result = CliRunner().invoke(cli, ["data", "export-reference", "shapes-unconditional", "--out", str(out)])
    assert (result.exit_code, "cannot write" in result.stderr) == (2, True), result.output


@pytest.mark.usefixtures("nothing_dear")
def test_an_unknown_metric_is_refused_before_clips_are_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown metric 'embedded/fdv'"):
        score_record(tmp_path / "none", tmp_path / "none", ScoreOptions(("embedded/fdv",)))


@pytest.mark.parametrize("short", ["generated", "reference"])
def test_clips_too_short_for_a_network_are_refused_before_any_is_read(
    short: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vdm_bench.scoring.features.compute_features", lambda *arguments: pytest.fail("computed"))
    frames = np.stack([Shapes("test")[index].frames for index in range(4)])
    sides = {"generated": frames, "reference": frames, short: frames[:, :3]}
    with pytest.raises(InputError, match="needs clips of at least 4 frames; these have 3"):
        score_record(sides["generated"], sides["reference"], ScoreOptions(("embedded/fvd",)))


def test_a_protocol_too_short_for_a_network_is_refused_early(tmp_path: Path) -> None:
    sampler = Gray()
    with pytest.raises(InputError, match="needs clips of at least 4 frames; these have 3"):
        run(small(frames=3), out=tmp_path, sampler=sampler)
    assert sampler.calls == 0
    assert not list(tmp_path.iterdir())
