"""Trackers, each with its real local backend: what was logged is read back by the library's own reader."""

import json
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from vdm_bench.cli import cli
from vdm_bench.errors import InputError
from vdm_bench.leaderboards.record import Curve, SamplerInfo, StoredRecord, write_record
from vdm_bench.leaderboards.trackers import (
    LoggedRun,
    log_record,
    open_tracker,
    safe_names,
    tracker_names,
)
from vdm_bench.metrics.score import Estimate

Make = Callable[..., Any]


@pytest.fixture
def stored(tmp_path: Path, make_record: Make, make_score: Make) -> StoredRecord:
    fvd = replace(
        make_score(12.5, ends=(12.0, 13.0), floor=1.5, marks=("few clips", "lossy")),
        infinite=Estimate(10.0, 9.0, 11.0, 0.95, "linear"),
    )
    record = make_record(
        "my model / <b>",
        fvd,
        make_score(None, metric="kvd", status="too few clips"),
        make_score(24.0, metric="psnr/best-of-100", higher_is_better=True, n_reference=0),
        departures=("64 of 2048 clips",),
        curves={"psnr": Curve(frames=[2, 3], values=[30.5, 20.25], standard_errors=None)},
        sampler=SamplerInfo(
            kind="callable", spec="m:f", settings={"steps": 64, "w": 1.5, "ema": True, "x": None}, seed=7
        ),
    )
    write_record(record, tmp_path / "run" / "run.json")
    return StoredRecord.read(tmp_path / "run" / "run.json")


METRICS = {
    "fvd/f7f1d80fb8a7": 12.5,
    "fvd/f7f1d80fb8a7.low": 12.0,
    "fvd/f7f1d80fb8a7.high": 13.0,
    "fvd/f7f1d80fb8a7.floor": 1.5,
    "fvd/f7f1d80fb8a7.infinite": 10.0,
    "psnr/best-of-100/e8e1e74934e6": 24.0,
}
FACTS = {
    "protocol": "bair-prediction",
    "protocol_digest": "ab12",
    "departures": "64 of 2048 clips",
    "created": "2026-03-04T05:06:07+00:00",
    "sampler": "m:f",
    "sampler_kind": "callable",
    "seed": 7,
    "clips_reference": 256,
    "clips_generated": 2048,
    "clips_skipped": 0,
    "settings/steps": 64,
    "settings/w": 1.5,
    "settings/ema": True,
    "signature/fvd": "fvd|n:256|v:0.1.0",
    "marks/fvd": "few clips; lossy",
    "signature/kvd": "kvd|n:256|v:0.1.0",
    "status/kvd": "too few clips",
    "signature/psnr/best-of-100": "psnr/best-of-100|n:256|v:0.1.0",
    "environment/python": "3.11.7",
    "environment/platform": "Linux x86_64",
    "environment/device": "cpu",
    "environment/code_version": "0.1.0",
    "environment/packages/torch": "2.13.0",
}


def test_a_run_is_described_by_its_scores_and_what_they_hang_on(stored: StoredRecord) -> None:
    run = LoggedRun.of(stored)
    assert run.metrics == METRICS
    assert run.facts == FACTS
    assert run.curves == {"curve/psnr": [(2, 30.5), (3, 20.25)]}
    assert run.board == "vdm-bench bair-prediction"


# MLflow: the file store


@pytest.fixture
def mlflow_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    tracking = pytest.importorskip("mlflow.tracking")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return tracking.MlflowClient(tracking_uri=str(tmp_path / "mlruns"))


def mlflow_runs(client: Any) -> list[Any]:
    experiment = client.get_experiment_by_name("vdm-bench bair-prediction")
    return list(client.search_runs([experiment.experiment_id]))


def test_mlflow_gives_back_scores_facts_and_the_record(
    stored: StoredRecord, mlflow_client: Any, tmp_path: Path
) -> None:
    tracker = open_tracker(f"mlflow:{tmp_path / 'mlruns'}")
    assert log_record(stored, {"mlflow": tracker}) == []
    (run,) = mlflow_runs(mlflow_client)
    assert log_record(stored, {"mlflow": tracker}) == []
    assert [again.info.run_id for again in mlflow_runs(mlflow_client)] == [run.info.run_id]
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "my model / <b>"
    assert run.data.metrics == {**METRICS, "curve/psnr": 20.25}
    assert run.data.params == {name: str(value) for name, value in FACTS.items()}
    assert run.data.tags["vdm_bench.record"] == LoggedRun.of(stored).key
    curve = mlflow_client.get_metric_history(run.info.run_id, "curve/psnr")
    assert [(point.step, point.value) for point in curve] == [(2, 30.5), (3, 20.25)]
    path = Path(mlflow_client.download_artifacts(run.info.run_id, "run.json", str(tmp_path)))
    assert path.read_bytes() == stored.data


def test_half_a_run_in_mlflow_is_made_anew(
    stored: StoredRecord, mlflow_client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = open_tracker(f"mlflow:{tmp_path / 'mlruns'}")
    client = type(mlflow_client)
    with monkeypatch.context() as broken:
        broken.setattr(client, "log_artifact", lambda *args: (_ for _ in ()).throw(OSError("disk full")))
        (sentence,) = log_record(stored, {"mlflow": tracker})
        assert "cannot log " in sentence
        assert "(disk full)" in sentence
    assert [run.info.status for run in mlflow_runs(mlflow_client)] == ["RUNNING"]
    assert log_record(stored, {"mlflow": tracker}) == []
    (run,) = mlflow_runs(mlflow_client)
    assert run.info.status == "FINISHED"
    assert len(mlflow_client.get_metric_history(run.info.run_id, "fvd/f7f1d80fb8a7")) == 1


def test_many_settings_and_names_from_outside_reach_mlflow(
    tmp_path: Path, mlflow_client: Any, make_record: Make, make_score: Make
) -> None:
    settings = {f"option {number}": number for number in range(250)} | {"../../etc/x": "y" * 10_000, "a:b;c": "d"}
    record = make_record("a", make_score(1.0, metric="../fvd"))
    record = record.model_copy(update={"sampler": record.sampler.model_copy(update={"settings": settings})})
    write_record(record, tmp_path / "run.json")
    tracker = open_tracker(f"mlflow:{tmp_path / 'mlruns'}")
    assert log_record(StoredRecord.read(tmp_path / "run.json"), {"mlflow": tracker}) == []
    (run,) = mlflow_runs(mlflow_client)
    assert list(run.data.metrics.values()) == [1.0]
    assert next(iter(run.data.metrics)).startswith("fvd/")
    assert run.data.params["settings/option 249"] == "249"
    assert run.data.params["settings/etc/x"] == "y" * 6000
    assert run.data.params["settings/a_b_c"] == "d"


def test_names_that_become_the_same_are_refused() -> None:
    assert safe_names(["a/b", "../c", "d:e", "..", "Ü x"]) == {
        "a/b": "a/b",
        "../c": "c",
        "d:e": "d_e",
        "..": "_",
        "Ü x": "Ü x",
    }
    with pytest.raises(InputError, match="a;b becomes the same name as another one"):
        safe_names(["a:b", "a;b"])


# TensorBoard: event files


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulators.EventAccumulator(str(folder)).Reload()
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def texts(folder: Path) -> dict[str, str]:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulators.EventAccumulator(str(folder)).Reload()
    return {
        tag.removesuffix("/text_summary"): found.Tensors(tag)[0].tensor_proto.string_val[0].decode()
        for tag in found.Tags()["tensors"]
    }


def test_tensorboard_gives_back_scores_curves_facts_and_the_record(stored: StoredRecord, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    tracker = open_tracker(f"tensorboard:{tmp_path / 'logs'}")
    for _ in range(2):
        assert log_record(stored, {"tensorboard": tracker}) == []
    (folder,) = (tmp_path / "logs").iterdir()
    assert folder.name == f"my-model-b-{LoggedRun.of(stored).key[:12]}"
    expected = {name: [(0, value)] for name, value in METRICS.items()}
    assert scalars(folder) == {**expected, "curve/psnr": [(2, 30.5), (3, 20.25)]}
    assert texts(folder) == {name: f"    {value}" for name, value in FACTS.items()}
    assert (folder / "record.json").read_bytes() == stored.data


def test_tensorboard_leaves_nothing_behind_that_is_not_whole(
    stored: StoredRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    tracker = open_tracker(f"tensorboard:{tmp_path / 'logs'}")

    def fail(*arguments: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as broken:
        broken.setattr("shutil.copyfile", fail)
        (sentence,) = log_record(stored, {"tensorboard": tracker})
    assert "(no space left)" in sentence
    assert list((tmp_path / "logs").iterdir()) == []
    assert log_record(stored, {"tensorboard": tracker}) == []


# Weights & Biases: offline


@pytest.fixture
def wandb_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    wandb = pytest.importorskip("wandb")
    for name, value in (
        ("MODE", "offline"),
        ("DIR", str(tmp_path)),
        ("CACHE_DIR", str(tmp_path / "cache")),
        ("DATA_DIR", str(tmp_path / "data")),
        ("CONFIG_DIR", str(tmp_path / "config")),
    ):
        monkeypatch.setenv(f"WANDB_{name}", value)
    yield tmp_path / "wandb"
    wandb.teardown()


def wandb_items(folder: Path) -> dict[str, list[Any]]:
    """Read a run file by wandb's own messages, by kind. They lie in a log of LevelDB's form, in blocks of 32 KiB.

    The package itself has no reader but the one that uploads.
    """
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.teardown()  # a process of its own writes the file
    (path,) = folder.glob("*.wandb")
    data, place, message = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    found: dict[str, list[Any]] = {}
    while place < len(data):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        message += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = Record.FromString(message)
            name = record.WhichOneof("record_type")
            found.setdefault(name, []).append(getattr(record, name))
            message = b""
    return found


def test_wandb_gives_back_scores_facts_and_the_record(stored: StoredRecord, wandb_folder: Path) -> None:
    key = LoggedRun.of(stored).key
    assert log_record(stored, {"wandb": open_tracker("wandb:me/project")}) == []
    (folder,) = wandb_folder.glob("offline-run-*")
    items = wandb_items(folder)
    run = items["run"][0]
    assert (run.entity, run.project, run.run_id, run.display_name) == (
        "me",
        "project",
        key[:16],
        "my model / <b>",
    )
    config = {update.key: json.loads(update.value_json) for update in run.config.update}
    assert {name: config[name] for name in FACTS} == FACTS
    assert config["record"] == key
    summary = {
        update.key or "/".join(update.nested_key): json.loads(update.value_json)
        for item in items["summary"]
        for update in item.update
    }
    assert {name: summary[name] for name in METRICS} == METRICS
    points = [
        {item.key or item.nested_key[0]: json.loads(item.value_json) for item in history.item}
        for history in items["history"]
    ]
    assert [(point["_step"], point["curve/psnr"]) for point in points] == [(2, 30.5), (3, 20.25)]
    artifact = items["request"] if "artifact" not in items else items["artifact"]
    assert f"record-{key[:16]}" in str(artifact)


def test_the_same_record_is_the_same_run_of_wandb(stored: StoredRecord, wandb_folder: Path) -> None:
    tracker = open_tracker("wandb")
    for _ in range(2):
        assert log_record(stored, {"wandb": tracker}) == []
    runs = [wandb_items(folder)["run"][0] for folder in wandb_folder.glob("offline-run-*")]
    assert {(run.run_id, run.project) for run in runs} == {
        (LoggedRun.of(stored).key[:16], "vdm-bench-bair-prediction")
    }


# Any tracker


def test_an_unknown_tracker_is_refused_and_the_known_are_named() -> None:
    assert tracker_names() == ["mlflow", "tensorboard", "wandb"]
    with pytest.raises(InputError, match="'mlfow' to log to; choose one of mlflow, tensorboard, wandb"):
        open_tracker("mlfow:x")
    with pytest.raises(InputError, match="write tensorboard:DIR"):
        open_tracker("tensorboard")


@pytest.mark.parametrize("name", ["mlflow", "tensorboard", "wandb"])
def test_a_library_that_is_missing_is_named_with_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=rf"pip install 'vdm-bench\[{name}\]'"):
        open_tracker(f"{name}:x")


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that adds the trackers `mine` and `broken`, as pip would install it."""
    site = tmp_path / "site"
    info = site / "third_party-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[vdm_bench.trackers]\nmine = third_party_tracker:Mine\nbroken = third_party_tracker:Broken\n"
    )
    (site / "third_party_tracker.py").write_text(
        "from pathlib import Path\n"
        "class Mine:\n"
        "    def __init__(self, target): self.target = Path(target)\n"
        "    def log(self, run): self.target.write_text(run.record.name)\n"
        "class Broken:\n"
        "    def __init__(self, target): pass\n"
        "    def log(self, run): raise RuntimeError('the server\\nis \\x1b[31mdown')\n"
    )
    monkeypatch.syspath_prepend(str(site))


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def test_packages_add_trackers_and_one_that_fails_costs_nothing_else(
    third_party: None, stored: StoredRecord, tmp_path: Path
) -> None:
    target, folder = tmp_path / "mine.txt", str(stored.path.parent)
    result = call("log", folder, "--to", "broken:x", "--to", f"mine:{target}")
    assert target.read_text() == "my model / <b>"
    assert result.exit_code == 2
    assert result.stderr == (
        f"Error: cannot log {stored.path} to broken:x (the server is \\x1b[31mdown); the record "
        f"itself is complete, and `vdm-bench log {stored.path} --to broken:x` tries again\n"
    )
    result = call("log", folder, "--to", f"mine:{target}")
    assert (result.exit_code, result.stderr) == (0, f"logged 1 run to mine:{target}\n")


def test_a_bad_record_does_not_keep_the_others_from_being_logged(
    third_party: None, stored: StoredRecord, tmp_path: Path
) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.json").write_text("{")
    result = call("log", str(tmp_path), "--to", f"mine:{tmp_path / 'mine.txt'}")
    assert result.exit_code == 0
    assert "left out: " in result.stderr
    assert (tmp_path / "mine.txt").exists()


def test_a_run_is_not_lost_where_its_tracker_fails(
    third_party: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path / "cache"))
    line = ["run", "shapes-unconditional", "--sampler", "noise", "--limit", "20", "--out"]
    result = call(*line, str(tmp_path / "run"), "--log-to", "broken", "--log-to", f"mine:{tmp_path / 'mine.txt'}")
    assert result.exit_code == 0, result.output
    assert "embedded/fvd" in result.stdout
    assert "Warning: cannot log " in result.stderr
    assert (tmp_path / "run" / "run.json").exists()
    assert (tmp_path / "mine.txt").read_text() == "noise"
    result = call(*line, str(tmp_path / "other"), "--log-to", "brokn")
    assert result.exit_code == 2
    assert not (tmp_path / "other").exists()
