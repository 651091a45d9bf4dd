"""The gate: limits, baselines, what counts as a regression, and how the check ends."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vdm_bench.errors import InputError
from vdm_bench.leaderboards.checks.baseline import Baseline
from vdm_bench.leaderboards.checks.check import CheckResult, check_records
from vdm_bench.leaderboards.checks.tolerances import Absolute, Relative, ToleranceRule
from vdm_bench.leaderboards.record import ProtocolInfo, Record, write_record
from vdm_bench.metrics.score import Score

Make = Callable[..., Score]
MakeRecord = Callable[..., Record]
Check = Callable[..., CheckResult]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("fvd:5%", ToleranceRule("fvd", Relative(5))),
        ("embedded/is:0.5", ToleranceRule("embedded/is", Absolute(0.5))),
        ("prdc/*:2e-2", ToleranceRule("prdc/*", Absolute(0.02))),
        ("psnr/best-of-100:0%", ToleranceRule("psnr/best-of-100", Relative(0))),
        ("a:b:1.5%", ToleranceRule("a:b", Relative(1.5))),
    ],
)
def test_a_rule_is_read(text: str, rule: ToleranceRule) -> None:
    assert ToleranceRule.parse(text) == rule
    assert ToleranceRule.parse(str(rule)) == rule


@pytest.mark.parametrize(
    "text", ["fvd", "fvd:", ":5%", "fvd:five", "fvd:-1", "fvd:nan", "fvd:inf", "fvd:5%%", "fvd:1e999", ""]
)
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"is not METRIC:LIMIT, such as fvd:5% or embedded/is:0\.5"):
        ToleranceRule.parse(text)


def test_a_relative_limit_is_of_the_size_of_the_baseline() -> None:
    assert Relative(5).allowed(200.0) == 10.0
    assert Relative(5).allowed(-200.0) == 10.0
    assert Absolute(5).allowed(200.0) == 5


@pytest.fixture(scope="session")
def check(make_score: Make, make_record: MakeRecord) -> Check:
    """Check a value against a baseline of 100; the interval of the change reaches `noise` to either side."""

    def run(value: float, *rules: str, noise: float = 5.0, strict: bool = False, **fields: Any) -> CheckResult:
        half = noise / 2**0.5
        ends = [None if not noise else (v - half, v + half) for v in (100.0, value)]
        old, new = (
            make_record("model", make_score(v, ends=end, **fields))
            for v, end in zip((100.0, value), ends, strict=True)
        )
        baseline = Baseline(Path("baseline.json"), {("bair-prediction", "model"): old})
        parsed = [ToleranceRule.parse(rule) for rule in rules]
        return check_records([("runs/model", new)], baseline, parsed, strict=strict)

    return run


@pytest.mark.parametrize(
    ("value", "rules", "more", "code"),
    [
        # Lower is better; noise reaches 5.
        (100.0, [], {}, 0),
        (104.9, [], {}, 0),
        (105.1, [], {}, 1),
        (80.0, [], {}, 0),
        (110.0, ["fvd:10%"], {}, 0),
        (110.1, ["fvd:10%"], {}, 1),
        (110.1, ["fvd:11"], {}, 0),
        (111.1, ["fvd:11"], {}, 1),
        # Beyond the limit, but within noise.
        (104.9, ["fvd:1%"], {}, 0),
        (104.9, ["fvd:1%"], {"strict": True}, 1),
        (100.9, ["fvd:1%"], {"strict": True}, 0),
        (100.001, [], {"strict": True}, 1),
        (99.9, [], {"strict": True}, 0),
        # Several rules: each must hold.
        (108.0, ["fvd:10%", "fvd:7"], {}, 1),
        (108.0, ["*:10%", "fvd:9"], {}, 0),
        # Too few clips for an interval: nothing says that a change is noise.
        (104.9, ["fvd:1%"], {"noise": 0}, 1),
        (100.9, ["fvd:1%"], {"noise": 0}, 0),
        # Higher is better.
        (94.0, [], {"higher_is_better": True}, 1),
        (96.0, [], {"higher_is_better": True}, 0),
        (120.0, ["fvd:1%"], {"higher_is_better": True, "strict": True}, 0),
        (89.0, ["fvd:10%"], {"higher_is_better": True}, 1),
    ],
)
def test_what_is_a_regression(
    check: Check, value: float, rules: list[str], more: dict[str, Any], code: int
) -> None:
    assert check(value, *rules, **more).exit_code == code


@pytest.fixture
def gate(make_record: MakeRecord) -> Check:
    """Check scores against a baseline of the one run `model` with some scores."""

    def run(now: list[Score], before: list[Score], *rules: str) -> CheckResult:
        baseline = Baseline(Path("b.json"), {("bair-prediction", "model"): make_record("model", *before)})
        parsed = [ToleranceRule.parse(rule) for rule in rules]
        return check_records([("runs/model", make_record("model", *now))], baseline, parsed)

    return run


def outcomes(result: CheckResult) -> dict[str, tuple[str, str]]:
    return {finding.metric: (finding.mark, finding.outcome) for finding in result.findings}


def test_what_no_rule_covers_is_shown_alone(gate: Check, make_score: Make) -> None:
    before, now = ([make_score(v, metric=m, ends=(v - 1, v + 1)) for m in ("fvd", "kvd")] for v in (10.0, 20.0))
    assert outcomes(gate(now, before, "kvd:200%")) == {
        "fvd": ("worse", "not gated"),
        "kvd": ("worse", "passed"),
    }
    assert gate(now, before, "kvd:200%").exit_code == 0
    assert outcomes(gate(now, before)) == {"fvd": ("worse", "failed"), "kvd": ("worse", "failed")}


def test_what_cannot_be_compared_is_no_pass(gate: Check, make_score: Make) -> None:
    fine, unlike = make_score(10.0, metric="kvd"), make_score(10.0, n=100)
    result = gate([fine, unlike], [fine, make_score(10.0)])
    assert outcomes(result) == {"kvd": ("within noise", "passed"), "fvd": ("not comparable", "no answer")}
    assert result.exit_code == 3
    assert result.findings[1].reason == "n 256 v 100"
    # Not gated, it does no harm.
    assert gate([fine, unlike], [fine, make_score(10.0)], "kvd:1%").exit_code == 0


def test_missing_scores_are_no_pass(gate: Check, make_score: Make) -> None:
    fine, other = make_score(10.0, metric="kvd"), make_score(10.0)
    for now, before, reason in (
        ([fine], [fine, other], "the run has no such score"),
        ([fine, other], [fine], "the baseline has no such score"),
    ):
        result = gate(now, before)
        assert outcomes(result)["fvd"] == ("missing", "no answer")
        assert result.findings[1].reason == reason
        assert result.exit_code == 3
    result = gate([make_score(None, status="3 clips")], [other])
    assert result.exit_code == 3
    assert result.findings[0].reason == "no value: 3 clips"


def test_a_regression_outranks_what_has_no_answer(gate: Check, make_score: Make) -> None:
    result = gate([make_score(20.0), make_score(1.0, metric="kvd")], [make_score(10.0)])
    assert outcomes(result) == {"fvd": ("no interval", "failed"), "kvd": ("missing", "no answer")}
    assert result.exit_code == 1


def test_runs_without_scores_have_no_answer(gate: Check) -> None:
    assert gate([], []).exit_code == 3


def test_a_rule_about_no_metric_is_refused(gate: Check, make_score: Make) -> None:
    with pytest.raises(InputError, match=r"--fail-on fwd:5%: neither run nor baseline has such a metric; .* fvd"):
        gate([make_score(1.0)], [make_score(1.0)], "fwd:5%")
    with pytest.raises(InputError, match="their metrics are: none"):
        gate([], [], "fvd:5%")


def of_protocol(record: Record, name: str) -> Record:
    return record.model_copy(update={"protocol": ProtocolInfo(name=name, digest="d", departures=[])})


def test_each_run_is_held_against_its_own_baseline(make_record: MakeRecord, make_score: Make) -> None:
    runs = [make_record(name, make_score(value)) for name, value in (("a", 10.0), ("b", 20.0))]
    runs.append(of_protocol(make_record("a", make_score(30.0, metric="kvd")), "ucf101-class"))
    baseline = Baseline(Path("b.json"), {}).updated(runs)
    result = check_records([("", run) for run in runs], baseline, [])
    assert result.exit_code == 0
    assert [check.baseline for check in result.runs] == runs
    other = make_record("c", make_score(10.0))
    result = check_records([("", other)], baseline, [])
    assert result.exit_code == 3
    reason = result.findings[0].reason
    assert reason.startswith("the baseline has no run c on bair-prediction; it has a on bair-prediction, b on")
    # Nor does a baseline of one run stand for all.
    alone = check_records([("", other)], Baseline(Path("b.json"), {}).updated(runs[:1]), [])
    assert alone.exit_code == 3


def test_a_baseline_is_written_and_read(tmp_path: Path, make_record: MakeRecord, make_score: Make) -> None:
    path = tmp_path / "baseline.json"
    assert Baseline.read(path) == Baseline(path, {}, exists=False)
    jackknife = tuple(index + 1 / 3 for index in range(20))
    runs = [make_record(name, make_score(1 / 3, jackknife=jackknife)) for name in ("b", "a")]
    Baseline.read(path).updated(runs).write()
    again = Baseline.read(path)
    assert list(again.runs) == [("bair-prediction", "a"), ("bair-prediction", "b")]
    assert list(again.runs.values()) == runs[::-1]
    data = path.read_bytes()
    again.write()
    assert path.read_bytes() == data
    path.write_bytes(b"\xef\xbb\xbf" + data)  # as an editor may save it
    assert Baseline.read(path).runs == again.runs
    path.write_text(data.decode(), "utf-16")
    with pytest.raises(InputError, match=r"baseline\.json cannot be read: it is UTF-16; save it as UTF-8"):
        Baseline.read(path)


def test_a_change_of_one_score_is_one_readable_difference(
    tmp_path: Path, make_record: MakeRecord, make_score: Make
) -> None:
    path = tmp_path / "baseline.json"
    jackknife = tuple(index + 1 / 3 for index in range(20))
    runs = [make_record(name, make_score(1.0, jackknife=jackknife)) for name in ("a", "b")]
    Baseline(path, {}).updated(runs).write()
    before = path.read_text("utf-8").splitlines()
    changed = make_record("b", make_score(2.0, jackknife=tuple(x + 1 for x in jackknife)))
    Baseline.read(path).updated([changed]).write()
    after = path.read_text("utf-8").splitlines()
    lines = [line.split(":")[0].strip() for old, line in zip(before, after, strict=True) if old != line]
    assert lines == ['"checksum"', '"jackknife"', '"value"']


def test_equal_scores_change_nothing(make_record: MakeRecord, make_score: Make) -> None:
    old = Baseline(Path("b.json"), {}).updated([make_record("a", make_score(1.0))])
    later = make_record("a", make_score(1.0), timing_seconds={"features": 99.0})
    assert old.updated([later]) == old
    with pytest.raises(
        InputError, match="two runs with the same protocol and the name 'a'; give one of them another"
    ):
        old.updated([later, later])


def test_a_run_record_stands_in_for_a_baseline(tmp_path: Path, make_record: MakeRecord, make_score: Make) -> None:
    record = make_record("main", make_score(1.0))
    write_record(record, tmp_path / "run" / "run.json")
    for path in (tmp_path / "run", tmp_path / "run" / "run.json"):
        baseline = Baseline.read(path)
        assert baseline.run_for(make_record("another name")) == record
        with pytest.raises(InputError, match=r"run\.json is the record of a run; give another --baseline FILE"):
            baseline.write()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("[1]", "is not a run record"),
        ('{"runs": []}', "is not a run record"),
        ('{"baseline_version": 2, "runs": []}', "was written by a newer version of vdm-bench"),
        ('{"baseline_version": 1}', "is not a baseline: runs: the field is missing"),
        ('{"baseline_version": "1", "runs": []}', "is not a baseline: baseline_version: Input should be 1"),
        (
            '{"baseline_version": 1, "runs": [], "x\\u001b": 0}',
            r"is not a baseline: x\\x1b: there is no such field",
        ),
        ('{"baseline_version": 1, "runs": [{"name": "a"}]}', r"is not a baseline: runs\[0\]\.schema_version: "),
    ],
)
def test_a_baseline_that_is_not_sound_is_refused_by_its_field(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(text)
    with pytest.raises(InputError, match=f"baseline.json {message}"):
        Baseline.read(path)


def test_a_baseline_with_nan_two_values_or_two_like_runs_is_refused(
    tmp_path: Path, make_record: MakeRecord, make_score: Make
) -> None:
    path = tmp_path / "baseline.json"
    Baseline(path, {}).updated([make_record("a", make_score(1.0)), make_record("b", make_score(1.0))]).write()
    sound = path.read_text()
    path.write_text(sound.replace('"value": 1.0', '"value": NaN', 1))
    with pytest.raises(InputError, match=r"runs\[0\]\.scores\[0\]\.value"):
        Baseline.read(path)
    path.write_text(sound.replace('"value": 1.0', '"value": 9.0,\n"value": 1.0', 1))
    with pytest.raises(InputError, match="'value' stands in it twice"):
        Baseline.read(path)
    runs = [{**run, "name": "a"} for run in json.loads(sound)["runs"]]
    for run in runs:
        del run["checksum"]
    path.write_text(json.dumps({"baseline_version": 1, "runs": runs}))
    with pytest.raises(InputError, match="two runs with the same protocol and the name 'a'"):
        Baseline.read(path)
    path.unlink()
    path.mkdir()
    (path / "run.json").mkdir()
    with pytest.raises(InputError, match=r"run\.json cannot be read: is a folder"):
        Baseline.read(path)
