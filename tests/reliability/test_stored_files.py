"""What is stored is read as it was written, or refused by name: after a flipped bit, a lost key, a wild number.

The arrays of features and clips have tests of their own.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from stored_files import (
    CONFIG,
    PLAN,
    STATE,
    named_record,
    read_checkpoint,
    read_embeddings,
    read_log,
    read_training_state,
    write_baseline,
    write_checkpoint,
    write_config,
    write_embeddings,
    write_log,
    write_plan,
    write_prepared,
    write_run,
    write_sample_plan,
    write_training_state,
    write_verified,
)

from vdm_bench.errors import DamagedError, InputError
from vdm_bench.leaderboards.checks.baseline import Baseline
from vdm_bench.leaderboards.record import read_record
from vdm_bench.leaderboards.verified import is_verified
from vdm_bench.metrics.weights.entries import Entry, SourceFile, TensorInfo
from vdm_bench.metrics.weights.store import Store
from vdm_bench.protocols.clips import prepared_plan
from vdm_bench.reference_model.training.log import RunLog
from vdm_bench.reference_model.training.loop import acquire_run_dir
from vdm_bench.reference_model.training.state import FOLDER, TrainingProgress, write_state
from vdm_bench.runs.plan import keep_plan


@dataclass(frozen=True)
class Kind:
    """A kind of stored file.

    Attributes:
        make: writes one into a folder, and gives its path.
        read: reads it from the folder, as the verb does: something to compare, or an error.
        header: key of its JSON in the header of a safetensors file; None for a file of JSON.
        strict: whether no field may be missing or of another kind.
    """

    make: Callable[[Path], Path]
    read: Callable[[Path], object]
    header: str | None = None
    strict: bool = True


FILES = (SourceFile("a.npz", ("http://127.0.0.1:9/a",)), SourceFile("b.npz", ("http://127.0.0.1:9/b",)))
ENTRY = Entry("made-up", "Made up", "c3d", "c3d-npz", FILES, {"w": TensorInfo((40,))}, "CC0-1.0", "nobody")


def weights(folder: Path) -> Path:
    for source in FILES:
        (folder / source.name).write_bytes(source.name.encode())
    Store(folder).write(ENTRY, {"w": torch.arange(40.0)}, [folder / source.name for source in FILES])
    return folder / "made-up.safetensors"


def first_use(folder: Path) -> Path:
    weights(folder)
    return folder / "made-up.sha256"


def read_weights(folder: Path) -> object:
    store = Store(folder)
    header = store.header(ENTRY)  # what `weights list` shows
    return header if store.current(ENTRY) and header is None else None, store.read(ENTRY)["w"].tolist(), header


def accept_sources(folder: Path) -> object:
    complaints = [Store(folder).refuse(ENTRY, source, folder / source.name) for source in FILES]
    if any(complaints):
        raise InputError(f"made-up.sha256: {'; '.join(complaints)}")
    return None


KINDS = {
    "plan.json": Kind(write_plan, lambda folder: keep_plan(folder, PLAN, writes=False)),
    "sample.json": Kind(write_sample_plan, lambda folder: write_sample_plan(folder) and None),
    "config.json": Kind(write_config, lambda folder: acquire_run_dir(folder, CONFIG)),
    "prepared.json": Kind(write_prepared, lambda folder: prepared_plan(folder).read()),
    "run.json": Kind(write_run, lambda folder: read_record(folder / "run.json"), strict=False),
    "baseline.json": Kind(
        write_baseline, lambda folder: Baseline.read(folder / "baseline.json").runs, strict=False
    ),
    "verified.json": Kind(write_verified, lambda folder: is_verified(folder / "run.json", b"{}"), strict=False),
    "log.jsonl": Kind(write_log, read_log, strict=False),
    "made-up.sha256": Kind(first_use, accept_sources),
    "made-up.safetensors": Kind(weights, read_weights),
    "tiny.safetensors": Kind(write_checkpoint, read_checkpoint, "vdm_bench"),
    "step-000000007.safetensors": Kind(write_training_state, read_training_state, "vdm_bench_training"),
    "text.safetensors": Kind(write_embeddings, read_embeddings, "vdm_bench_text"),
}
OBJECTS = [name for name in KINDS if name.endswith(".json") or KINDS[name].header]


def outcome(read: Callable[[Path], object], folder: Path, name: str) -> object:
    """What was read; or the one sentence of its refusal, which names the file and a way out."""
    try:
        return read(folder)
    except InputError as error:
        message = str(error)
        assert name in message or str(folder) in message
        assert "; " in message
        assert "\n" not in message
        return error


@pytest.mark.parametrize("name", KINDS)
def test_a_flipped_bit_is_refused_by_name_or_changes_nothing(name: str, tmp_path: Path) -> None:
    kind, chance = KINDS[name], random.Random(name)
    path = kind.make(tmp_path)
    assert path.name == name
    sound, refused, tries = path.read_bytes(), 0, 80
    whole = kind.read(tmp_path)
    # Headers are small beside tensors, and have more that can go wrong.
    head = 8 + int.from_bytes(sound[:8], "little") if path.suffix == ".safetensors" else len(sound)
    for number in range(tries):
        place = chance.randrange(head if number % 2 else len(sound))
        flipped = sound[:place] + bytes([sound[place] ^ 1 << chance.randrange(8)]) + sound[place + 1 :]
        path.write_bytes(flipped)
        found = outcome(kind.read, tmp_path, name)
        if isinstance(found, InputError):
            refused += 1
        else:
            assert found == whole, f"byte {place} {sound[place]} -> {flipped[place]}"
    # The rest is white space, a digit of an escape, or the key of a checksum, without which all is as it was.
    assert refused > 0.8 * tries


def content_of(kind: Kind, path: Path) -> dict[str, Any]:
    """The JSON of a file as a hand has it that knows no checksums."""
    content: dict[str, Any]
    if kind.header is None:
        content = json.loads(path.read_text("utf-8"))
    else:
        with safe_open(path, "pt") as file:
            content = json.loads(file.metadata()[kind.header])
    for one in (content, *content.get("runs", ())):
        one.pop("checksum", None)
    content.pop("checksums", None)
    return content


def put(kind: Kind, path: Path, said: str) -> None:
    if kind.header is None:
        path.write_text(said, "utf-8")
    else:
        save_file(load_file(path), path, {kind.header: said})


@pytest.mark.parametrize("name", OBJECTS)
def test_a_key_that_is_missing_or_of_another_kind_is_refused(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    path = kind.make(tmp_path)
    sound, content = path.read_bytes(), content_of(kind, path)
    put(kind, path, json.dumps(content))
    whole = kind.read(tmp_path)  # files of before have no checksum
    wild = ("x", [], {}, [[1, 2]], {"a": {"b": None}}, True, 1.5, -1, 10**30)
    for key, value in content.items():
        # A float may be written as a whole number.
        like = {float: (float, int)}.get(type(value), (type(value),))
        changed = [{**content, key: other} for other in wild if type(other) not in like]
        for one in [{other: content[other] for other in content if other != key}, *changed]:
            path.write_bytes(sound)
            put(kind, path, json.dumps(one))
            found = outcome(kind.read, tmp_path, name)
            if kind.strict and not isinstance(found, InputError):
                assert found == whole or (name, key in one) == ("prepared.json", False), (key, one.get(key))


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize(
    "wild", ["1e999", "-Infinity", "NaN", "[" * 3000, '{"a":' * 3000 + "1" + "}" * 3000, "[" * 900 + "]" * 900]
)
def test_wild_numbers_and_brackets_are_refused(name: str, wild: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    path = kind.make(tmp_path)
    content = content_of(kind, path)
    for key in (*content, "new"):
        said = json.dumps({**content, key: "HERE"}).replace('"HERE"', wild)
        put(kind, path, said)
        assert isinstance(outcome(kind.read, tmp_path, name), InputError), key
        put(kind, path, said[:-1] + ', "checksum": "0"}')
        assert isinstance(outcome(kind.read, tmp_path, name), InputError), key


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (
            "plan.json",
            {"clips": "64"},
            "its field 'clips' is a text, not a whole number from 0 on; choose another",
        ),
        (
            "plan.json",
            {"networks": ["a", 3]},
            "its field 'networks' is a list, not a list, of which each is a text",
        ),
        (
            "plan.json",
            {"skip_broken": 1},
            "its field 'skip_broken' is 1, not true or false; choose another `out`",
        ),
        ("plan.json", {"colour": 1}, "it has a field 'colour', which this version does not know"),
        (
            "sample.json",
            {"seed": "3"},
            r"holds clips with another seed \('3' and not 3\); choose another",
        ),
        (
            "sample.json",
            {"colour": 1},
            r"holds clips with another colour \(1 and not nothing\); choose",
        ),
        (
            "config.json",
            {"seed": [0]},
            r"holds a run with another seed \(\[0\] and not 0\); restore",
        ),
        (
            "prepared.json",
            {"broken": [[3, "a"]]},
            "'broken' is a list, .* each is a list of 3 things: .*; delete",
        ),
        (
            "prepared.json",
            {"whole": "yes"},
            "'whole' is a text, not true or false; delete .* and prepare it again",
        ),
        (
            "step-000000007.safetensors",
            {"step": [7]},
            "'step' is a list, not a whole .*; remove it, and training",
        ),
        ("text.safetensors", {"encoder": {"name": 3}}, "'name' is 3, not a text; encode the captions again"),
        ("tiny.safetensors", {"step": 1.5}, "'step' is 1.5, not a whole number from 0 on; copy it again"),
    ],
)
def test_the_field_is_named(name: str, change: dict[str, object], words: str, tmp_path: Path) -> None:
    path = KINDS[name].make(tmp_path)
    put(KINDS[name], path, json.dumps(content_of(KINDS[name], path) | change))
    with pytest.raises(InputError, match=words):
        KINDS[name].read(tmp_path)


def test_another_program_may_write_a_record_anew_and_must_not_change_it(tmp_path: Path) -> None:
    """As JavaScript does, for which 12.0 is 12; with other white space, another order, and other escapes."""
    path = write_run(tmp_path)
    whole, content = read_record(path), json.loads(path.read_text("utf-8"))
    content["scores"][0]["value"] = 12
    path.write_text(json.dumps(dict(reversed(content.items()))))
    assert read_record(path) == whole
    assert whole.checksum is None
    assert "checksum" not in repr(whole)
    assert "checksum" not in whole.model_dump()
    content["scores"][0]["value"] = 11.75
    path.write_text(json.dumps(content))
    with pytest.raises(
        DamagedError, match=r"run\.json is damaged: it has changed since it was written .*'checksum'"
    ):
        read_record(path)
    del content["checksum"]
    path.write_text(json.dumps(content))
    assert read_record(path).scores[0].value == 11.75


def test_the_baseline_says_which_of_its_runs_has_changed(tmp_path: Path) -> None:
    path = write_baseline(tmp_path)
    content = json.loads(path.read_text())
    content["runs"][1]["timing_seconds"]["features"] = 2.5
    path.write_text(json.dumps(content))
    with pytest.raises(
        DamagedError, match=r"baseline\.json, its run 'b on bair-prediction', is damaged: .*; restore"
    ):
        Baseline.read(path)
    # A run that is taken over anew is whole again, and the other is left as it is.
    del content["runs"][1]["checksum"]
    path.write_text(json.dumps(content))
    Baseline.read(path).updated([named_record("c")]).write()
    assert [read.name for read in Baseline.read(path).runs.values()] == ["a", "b", "c"]


@pytest.mark.parametrize("storage", [torch.float16, torch.bfloat16])
def test_checkpoints_of_half_the_bytes_are_checked_too(storage: torch.dtype, tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, storage)
    whole, sound = read_checkpoint(tmp_path), path.read_bytes()
    path.write_bytes(sound[:-5] + bytes([sound[-5] ^ 1]) + sound[-4:])
    with pytest.raises(DamagedError, match=r"the checksum of \S+ is not that of its values; copy it again"):
        read_checkpoint(tmp_path)
    put(KINDS["tiny.safetensors"], path, json.dumps(content_of(KINDS["tiny.safetensors"], path)))
    assert read_checkpoint(tmp_path) != whole  # without checksums, as of an earlier version, it is taken


def test_a_state_of_other_tensors_is_refused_and_the_one_before_goes_on(tmp_path: Path) -> None:
    write_training_state(tmp_path)
    write_state(tmp_path, STATE | {"weights.a": torch.zeros(4)}, TrainingProgress(9, 20.0))
    words = (
        r"step-000000009\S+ is damaged: weights.a has shape \(4,\), .*; remove it, .* resumes from the one before"
    )
    with pytest.raises(DamagedError, match=words):
        read_training_state(tmp_path)
    (tmp_path / FOLDER / "step-000000009.safetensors").unlink()
    assert read_training_state(tmp_path)


def test_damaged_lines_of_a_log_are_left_out_and_told(tmp_path: Path) -> None:
    path, notes = write_log(tmp_path), list[str]()
    lines = path.read_bytes().splitlines()
    lines[1] = lines[1].replace(b"0.125", b"0.124")
    path.write_bytes(b"\n".join([*lines, b"\xff{", b'{"step": 6, "lo']))
    RunLog(tmp_path, 6, tensorboard=False, note=notes.append)
    assert notes == [f"{path}: lines 2, 4, 5 are damaged, and left out"]
    assert path.read_bytes().splitlines() == [lines[0], lines[2]]
