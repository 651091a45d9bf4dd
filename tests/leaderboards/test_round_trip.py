import json
from collections.abc import Callable
from datetime import UTC
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vdm_bench.leaderboards.record import (
    Environment,
    ProtocolInfo,
    Record,
    SamplerInfo,
    SkippedClip,
    read_record,
    write_record,
)
from vdm_bench.leaderboards.schema import record_schema
from vdm_bench.metrics.score import Estimate, Interval, Score, Signature

Make = Callable[..., Any]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
filled = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**40)


@st.composite
def _scores(draw: st.DrawFn, most: int) -> list[Score]:
    scores = []
    for metric in draw(st.sets(st.sampled_from(["fvd", "is", "fid", "kvd"]))):
        n = draw(st.integers(0, most))
        signature = Signature.of(metric, {"n": str(n), "v": "0.1.0"})
        ends = draw(st.none() | st.tuples(numbers, numbers).map(sorted))
        value = draw(st.none() | numbers)
        scores.append(
            Score(
                metric,
                value,
                draw(st.booleans()),
                n,
                n,
                str(signature),
                signature.digest,
                Interval(ends[0], ends[1], 0.95, "jackknife-20") if ends else None,
                draw(st.none() | numbers),
                draw(st.none() | st.builds(Estimate, numbers, numbers, numbers, st.just(0.95), texts)),
                "ok" if value is not None else draw(filled.filter(lambda text: text != "ok")),
                tuple(draw(st.lists(texts, max_size=2))),
            )
        )
    return scores


@st.composite
def _records(draw: st.DrawFn, make_counts: Make) -> Record:
    scored = draw(counts)
    skipped = [SkippedClip(source="a.mp4", reason=reason) for reason in draw(st.lists(filled, max_size=2))]
    clips = make_counts(
        source=draw(texts),
        expected=scored + len(skipped) + draw(counts),
        scored=scored,
        skipped=skipped,
        repeated=draw(st.integers(0, max(scored - 1, 0))),
        lossy=draw(st.booleans()),
    )
    setting = texts | st.integers(-(2**70), 2**70) | numbers | st.booleans() | st.none()
    return Record(
        schema_version=1,
        name=draw(st.from_regex(r"\A[ -~ß-ø漢]{0,9}[!-~漢][ -~]{0,9}\Z")),
        created=draw(st.datetimes(timezones=st.just(UTC))),
        protocol=draw(
            st.none()
            | st.builds(ProtocolInfo, name=filled, digest=filled, departures=st.lists(texts, max_size=2))
        ),
        sampler=SamplerInfo(
            kind="callable",
            spec=draw(texts),
            settings=draw(st.dictionaries(texts, setting, max_size=4)),
            seed=draw(st.none() | st.integers(0, 2**63 - 1)),
        ),
        reference=clips,
        generated=clips,
        scores=draw(_scores(scored)),
        timing_seconds=draw(st.dictionaries(texts, numbers.map(abs), max_size=2)),
        environment=Environment(
            python="3.11.7",
            platform=draw(texts),
            packages=draw(st.dictionaries(texts, texts, max_size=2)),
            device="cpu",
            code_version="0.1.0",
            code_revision=draw(st.none() | texts),
            code_dirty=draw(st.none() | st.booleans()),
        ),
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_record_that_is_written_and_read_is_the_same_record(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory, make_counts: Make
) -> None:
    record = data.draw(_records(make_counts))
    path = tmp_path_factory.getbasetemp() / "round-trip" / "run.json"
    write_record(record, path)
    again = read_record(path)
    assert again == record
    assert {key: (type(value), value) for key, value in again.sampler.settings.items()} == {
        key: (type(value), value) for key, value in record.sampler.settings.items()
    }
    first = path.read_bytes()
    write_record(again, path)
    assert path.read_bytes() == first
    jsonschema.Draft202012Validator(record_schema()).validate(json.loads(first))
