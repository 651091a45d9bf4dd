import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from paths import ROOT
from pydantic import ValidationError

from vdm_bench.errors import InputError
from vdm_bench.leaderboards.record import (
    SamplerInfo,
    SkippedClip,
    read_record,
    write_record,
)
from vdm_bench.leaderboards.schema import record_schema

Make = Callable[..., Any]
SCHEMA_FILE = ROOT / "leaderboards" / "record.schema.json"


@pytest.fixture
def written(tmp_path: Path, make_record: Make, make_score: Make) -> Path:
    path = tmp_path / "run.json"
    write_record(make_record("model", make_score(12.5, ends=(12.0, 13.0), floor=3.0)), path)
    return path


def _change(path: Path, *keys: str | int, to: object) -> None:
    content = json.loads(path.read_text())
    place = content
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = to
    path.write_text(json.dumps(content))


def test_the_file_is_sorted_indented_utf8_and_ends_in_a_newline(tmp_path: Path, make_record: Make) -> None:
    write_record(make_record("Übung"), tmp_path / "run.json")
    text = (tmp_path / "run.json").read_text(encoding="utf-8")
    checksum = json.loads(text)["checksum"]
    assert text.startswith(f'{{\n  "checksum": "{checksum}",\n  "created": "2026-03-04T05:06:07Z",\n  "curves"')
    assert '\n  "environment": {\n    "code_dirty": null,' in text
    assert '"name": "Übung"' in text
    assert text.endswith("}\n")
    assert list(json.loads(text)) == sorted(json.loads(text))


def test_a_record_cannot_be_changed(make_record: Make) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        make_record().name = "another"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"run\.json cannot be read: no such file; give a run folder"):
        read_record(tmp_path / "run.json")


@pytest.mark.parametrize("content", [b"", b'{"name": "mod', b"<html>"])
def test_a_file_that_is_not_json_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"run\.json is not JSON: .*truncated"):
        read_record(path)


def test_a_record_saved_with_a_byte_order_mark_is_read_and_utf_16_is_named(written: Path) -> None:
    record, text = read_record(written), written.read_text("utf-8")
    written.write_text(text, "utf-8-sig")
    assert read_record(written) == record
    written.write_text(text, "utf-16")
    with pytest.raises(InputError, match=r"run\.json cannot be read: it is UTF-16; save it as UTF-8"):
        read_record(written)


@pytest.mark.parametrize(
    ("key", "addition"), [("value", '"value": 3.5'), ("scores", '"scores": []'), ("sampler", '"sampler": {}')]
)
def test_a_record_with_a_key_that_stands_twice_is_refused(written: Path, key: str, addition: str) -> None:
    """As a merge leaves it that has kept both sides; the last one is what a model would be made of."""
    text = written.read_text("utf-8").replace(f'"{key}":', f'{addition},\n"{key}":', 1)
    written.write_text(text, "utf-8")
    with pytest.raises(InputError, match=rf"run\.json cannot be read as JSON: '{key}' stands in it twice; leave"):
        read_record(written)


def test_a_record_of_a_newer_version_says_so_whatever_else_is_in_it(written: Path) -> None:
    written.write_text('{"schema_version": 2, "new": []}')
    with pytest.raises(
        InputError, match=r"newer version of vdm-bench \(schema_version 2, this one reads 1\); update"
    ):
        read_record(written)


@pytest.mark.parametrize("content", ["[]", "3", "{}", '{"schema_version": 0}', '{"schema_version": "1"}'])
def test_json_that_is_no_record_is_refused(written: Path, content: str) -> None:
    written.write_text(content)
    with pytest.raises(InputError, match="is not a run record"):
        read_record(written)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["colour"], "red", "colour: there is no such field"),
        (["sampler", "colour"], "red", "sampler.colour: there is no such field"),
        (["scores", 0, "colour"], "red", r"scores\[0\].colour: there is no such field"),
        (["scores", 0, "value"], math.nan, r"scores\[0\].value: Input should be a finite number"),
        (
            ["scores", 0, "interval", "high"],
            math.inf,
            r"scores\[0\].interval.high: Input should be a finite number",
        ),
        (["scores", 0, "value"], "12.5", r"scores\[0\].value: Input should be a valid number"),
        (["scores", 0, "digest"], "0" * 12, r"scores\[0\]: the digest 000000000000 is not that of the signature"),
        (["scores", 0, "signature"], "fvd", r"scores\[0\]: the digest"),
        (["scores", 0, "signature"], "fvd|n", r"scores\[0\]: 'fvd\|n' is not a signature"),
        (["scores", 0, "metric"], "fid", r"scores\[0\]: the signature of fid is that of fvd"),
        (["scores", 0, "value"], None, r"value None and status 'ok' of fvd contradict each other"),
        (["scores", 0, "status"], "too few clips", r"value 12.5 and status 'too few clips' of fvd contradict"),
        (["scores", 0, "n_reference"], -1, r"a number of clips of fvd is negative"),
        (["scores", 0, "n_reference"], 257, "fvd claims 257 reference and 256 generated clips, but 256 and 2048"),
        (["scores", 0, "n_generated"], 255, "fvd is signed n:256, but is made of 255 generated clips"),
        (["scores", 0, "n_generated"], 257, "fvd is signed n:256, but is made of 257 generated clips"),
        (["generated", "digest"], "ab12", "generated.digest: String should match pattern"),
        (["scores", 0, "interval", "low"], 14.0, "is not an interval"),
        (["scores", 0, "interval", "level"], 95, "is not an interval"),
        (
            ["sampler", "settings", "steps"],
            math.nan,
            "sampler.settings.steps: a setting must not be NaN or infinite",
        ),
        (["sampler", "settings", "steps"], [1], "sampler.settings.steps: a setting is a text, a number"),
        (["sampler", "seed"], -1, "sampler.seed: Input should be greater than or equal to 0"),
        (["sampler", "seed"], 2**63, "sampler.seed: Input should be less than"),
        (
            ["timing_seconds", "features"],
            -0.5,
            "timing_seconds.features: Input should be greater than or equal to 0",
        ),
        (
            ["generated", "scored"],
            2049,
            "generated: 2049 scored and 0 skipped clips are more than the 2048 expected",
        ),
        (["generated", "repeated"], 2048, "generated: 2048 of 2048 scored clips cannot repeat an earlier one"),
        (["timing_seconds", "features"], math.inf, "timing_seconds.features: Input should be a finite number"),
        (["created"], "2026-03-04T05:06:07", "created: Input should have timezone info"),
        (["created"], "2026-03-04T05:06:07+01:00", "created: the time must be given in UTC"),
        (["name"], "", "name: String should have at least 1 character"),
        (["name"], "x" * 201, "name: String should have at most 200 characters"),
        (["name"], " \u3000", "name: a name is one line of visible characters"),
        (["name"], "a\x1b[31m", "name: a name is one line of visible characters"),
        (["name"], "a\n", "name: a name is one line of visible characters"),
        (["name"], "a\u202eb", "name: a name is one line of visible characters"),
        (["\x1b[31m"], 1, r"^[^\x1b]*: \\x1b\[31m: there is no such field"),
    ],
)
def test_the_first_wrong_field_is_named(
    written: Path, keys: list[str | int], value: object, message: str
) -> None:
    _change(written, *keys, to=value)
    with pytest.raises(InputError, match=message) as caught:
        read_record(written)
    assert str(caught.value).startswith(f"{written} is not a run record: ")
    assert "\n" not in str(caught.value)


def test_a_missing_field_is_named(written: Path) -> None:
    content = json.loads(written.read_text())
    del content["environment"]["device"]
    written.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"environment\.device: the field is missing"):
        read_record(written)


def test_a_metric_is_recorded_once(make_record: Make, make_score: Make) -> None:
    with pytest.raises(ValidationError, match="fvd appears more than once"):
        make_record("model", make_score(1.0, n=64), make_score(2.0, n=128))


def test_a_score_object_is_validated_like_one_from_a_file(make_record: Make, make_score: Make) -> None:
    with pytest.raises(ValidationError, match="finite number"):
        make_record("model", make_score(math.nan))
    with pytest.raises(ValidationError, match="finite number"):
        make_record("model", make_score(1.0, ends=(0.0, math.inf)))
    with pytest.raises(ValidationError, match="is not that of the signature"):
        make_record("model", replace(make_score(), digest="0" * 12))


@pytest.mark.parametrize(
    ("fields", "sound"),
    [
        ({"expected": 10, "scored": 10}, True),
        ({"expected": 10, "scored": 4}, True),
        ({"expected": 10, "scored": 9, "skipped": 1}, True),
        ({"expected": 10, "scored": 10, "skipped": 1}, False),
        ({"expected": 0, "scored": 0, "repeated": 0}, True),
        ({"expected": 1, "scored": 1, "repeated": 1}, False),
        ({"expected": 2, "scored": 2, "repeated": 1}, True),
        ({"expected": 2, "scored": 0, "repeated": 1}, False),
        ({"expected": -1, "scored": -1}, False),
    ],
)
def test_counts_must_add_up(make_counts: Make, fields: dict[str, Any], sound: bool) -> None:
    fields["skipped"] = [SkippedClip(source="a.mp4", reason="broken")] * fields.get("skipped", 0)
    if sound:
        assert make_counts(**fields).expected == fields["expected"]
    else:
        with pytest.raises(ValidationError):
            make_counts(**fields)


def test_the_time_is_utc(make_record: Make) -> None:
    with pytest.raises(ValidationError, match="UTC"):
        make_record(created=datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1))))
    with pytest.raises(ValidationError, match="timezone"):
        make_record(created=datetime(2026, 1, 1))


def test_a_file_name_that_is_not_utf8_does_not_cost_the_record(
    tmp_path: Path, make_record: Make, make_counts: Make, make_score: Make
) -> None:
    broken = SkippedClip(source="clip\udcff.mp4", reason="no frames")
    score = make_score(marks=("skipped clip\udcff.mp4",))
    sampler = SamplerInfo(kind="folder", spec="\udcff", settings={"\udcff": "\udcff"}, seed=None)
    counts = make_counts(expected=257, skipped=[broken])
    write_record(make_record("model", score, generated=counts, sampler=sampler), tmp_path / "run.json")
    record = read_record(tmp_path / "run.json")
    assert make_record("clip\udcff").name == "clip\\udcff"
    assert record.generated.skipped[0].source == "clip\\udcff.mp4"
    assert record.scores[0].marks == ("skipped clip\\udcff.mp4",)
    assert record.sampler.settings == {"\\udcff": "\\udcff"}


def test_the_committed_schema_is_the_one_the_code_gives() -> None:
    program = [sys.executable, "-W", "error", "-m", "vdm_bench.leaderboards.schema"]
    printed = subprocess.run(program, check=True, capture_output=True, text=True, encoding="utf-8")
    assert printed.stdout == SCHEMA_FILE.read_text(encoding="utf-8"), (
        "write it again: python -m vdm_bench.leaderboards.schema > leaderboards/record.schema.json"
    )


def test_the_committed_schema_takes_a_record_and_refuses_unknown_keys(written: Path) -> None:
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(json.loads(written.read_text()))
    for keys in (["colour"], ["sampler", "colour"], ["scores", 0, "colour"], ["scores", 0, "interval", "colour"]):
        _change(written, *keys, to="red")
        errors = list(validator.iter_errors(json.loads(written.read_text())))
        assert any("'colour' was unexpected" in str(error) for error in errors)


def test_every_field_of_the_schema_is_described() -> None:
    schema = record_schema()
    parts = {"Record": schema, **schema["$defs"]}
    assert {"Record", "Score", "Interval", "ClipCounts"} <= parts.keys()
    bare = [
        f"{part}.{name}"
        for part, content in parts.items()
        for name, field in content["properties"].items()
        if not field.get("description")
    ]
    assert bare == []
    assert (
        schema["$defs"]["Interval"]["properties"]["low"]["description"] == "lower end, in the unit of the score."
    )


@pytest.mark.parametrize(
    ("signed", "n_generated", "n_reference", "message"),
    [
        ({"n": "4x64", "ref": "bair/256"}, 256, 256, None),
        ({"n": "4x64"}, 4, 256, "fvd is signed n:4x64, but is made of 4 generated clips"),
        ({"n": "many"}, 4, 256, "n in the signature of fvd gives no number of clips"),
        ({"n": "4x"}, 4, 256, "n in the signature of fvd gives no number of clips"),
        ({"n": "٤"}, 4, 256, "n in the signature of fvd gives no number of clips"),
        ({"n": "258"}, 256, 256, None),  # two were skipped
        ({"n": "259"}, 256, 256, "fvd is signed n:259, but is made of 256 generated clips"),
        ({"ref": "bair/2048"}, 256, 256, "fvd is signed ref:bair/2048, but is made of 256 reference clips"),
        ({"ref": "bair"}, 256, 256, "ref in the signature of fvd gives no number of clips"),
        ({"ref": "bair/16"}, 256, 0, None),  # frames are held against those that followed
    ],
)
def test_a_score_is_made_of_as_many_clips_as_its_signature_says(
    make_record: Make,
    make_score: Make,
    make_counts: Make,
    signed: dict[str, str],
    n_generated: int,
    n_reference: int,
    message: str | None,
) -> None:
    skipped = [SkippedClip(source=name, reason="is empty") for name in "ab"]
    generated = make_counts(expected=258, skipped=skipped)
    score = make_score(n=256, signed=signed, n_reference=n_reference)
    score = replace(score, n_generated=n_generated)
    if message is None:
        assert make_record("model", score, generated=generated).scores == [score]
        return
    with pytest.raises(ValidationError, match=re.escape(message)):
        make_record("model", score, generated=generated)


def test_a_record_of_before_has_no_digest_of_its_clips(written: Path) -> None:
    content = json.loads(written.read_text())
    del content["generated"]["digest"], content["checksum"]
    written.write_text(json.dumps(content))
    assert read_record(written).generated.digest is None
