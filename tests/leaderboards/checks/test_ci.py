"""What a check tells people and machines, with names that try to be more than names."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from vdm_bench.leaderboards.checks.baseline import Baseline
from vdm_bench.leaderboards.checks.check import CheckResult, check_records
from vdm_bench.leaderboards.checks.tolerances import ToleranceRule
from vdm_bench.leaderboards.record import Record
from vdm_bench.leaderboards.tables.ci import annotations, junit_xml
from vdm_bench.leaderboards.tables.comparisons import (
    format_check,
    format_closing,
    headline,
    markdown_check,
    sentence,
)
from vdm_bench.metrics.score import Score

Make = Callable[..., Score]
MakeRecord = Callable[..., Record]


@pytest.fixture(scope="session")
def checked(make_score: Make, make_record: MakeRecord) -> Callable[..., CheckResult]:
    """A run with a metric of every outcome; `text` is in every name that comes from outside."""

    def make(text: str = "", path: str = "baseline.json") -> CheckResult:
        def scores(*values: float, n: int) -> list[Score]:
            names = ("fvd", "is", "kvd", "unlike")
            return [
                make_score(
                    value,
                    metric=f"{name}{text}",
                    n=n if name == "unlike" else 256,
                    ends=(value - 3, value + 3),
                    higher_is_better=name == "is",
                )
                for name, value in zip(names, values, strict=True)
            ]

        old = make_record("model", *scores(100, 50, 30, 1, n=10), make_score(7.0, metric=f"gone{text}"))
        new = make_record(f"model{printable_name(text)}", *scores(120, 70, 31, 1, n=20))
        baseline = Baseline(Path(path), {("bair-prediction", new.name): old})
        rules = [
            ToleranceRule(f"{name}*", ToleranceRule.parse("x:5%").tolerance)
            for name in ("fvd", "is", "unlike", "gone")
        ]
        return check_records([("runs/model", new)], baseline, rules)

    return make


def printable_name(text: str) -> str:
    """What a record lets a name be: one line of visible characters."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]", "", text)[:100]


def test_every_metric_gets_its_sentence(checked: Callable[..., CheckResult]) -> None:
    assert [sentence(finding) for finding in checked().findings] == [
        "fvd got worse: 100.0 to 120.0 (+20.0, 95 % interval [15.8, 24.2]); allowed 5%",
        "is got better: 50.0 to 70.0 (+20.0, 95 % interval [15.8, 24.2])",
        "kvd changed within noise: 30.0 to 31.0 (+1.0, 95 % interval [-3.2, 5.2])",
        "unlike is not comparable with the baseline: n 10 v 20",
        "gone cannot be checked: the run has no such score",
    ]


def test_the_text_holds_a_table_and_the_way_out(checked: Callable[..., CheckResult]) -> None:
    result = checked()
    lines = [" ".join(line.split()) for line in format_check(result).splitlines()]
    assert lines[0] == "model on bair-prediction: compared with model of 2026-03-04 05:06 UTC in baseline.json"
    assert lines[2] == "metric baseline run change 95 % interval allowed verdict"
    assert lines[4:9] == [
        "FAIL fvd ↓ 100.0 120.0 +20.0 [15.8, 24.2] 5% worse",
        "ok is ↑ 50.0 70.0 +20.0 [15.8, 24.2] 5% better",
        "kvd ↓ 30.0 31.0 +1.0 [-3.2, 5.2] - within noise",
        "? unlike ↓ 1.0 1.0 - - 5% not comparable",
        "? gone ↓ 7.000 - - - 5% missing",
    ]
    assert "missing: gone: the run has no such score" in lines
    assert format_closing(result, "--update-baseline").splitlines() == [
        "regression: fvd",
        "changes within noise are not regressions, unless the check is strict",
        "repeat the run with the settings of the baseline: same protocol, same number of clips",
        "if the change is intended, update the baseline with --update-baseline",
    ]


def test_a_score_without_a_value_is_not_said_to_be_made_in_another_way(
    make_record: MakeRecord, make_score: Make
) -> None:
    score = replace(make_score(1.0, ends=(0, 2)), value=None, interval=None, status="too few")
    record = make_record("m", score)
    result = check_records([("", record)], Baseline(Path("b"), {("bair-prediction", "m"): record}), [])
    assert format_closing(result, "--update-baseline").splitlines() == [
        "undecided: fvd",
        "if the change is intended, update the baseline with --update-baseline",
    ]


def test_the_headline_says_how_it_ended(make_record: MakeRecord, make_score: Make) -> None:
    def ended(*scores: Score) -> str:
        baseline = Baseline(Path("b"), {("bair-prediction", "m"): make_record("m", make_score(1.0, ends=(0, 2)))})
        return headline(check_records([("", make_record("m", *scores))], baseline, []))

    assert ended(make_score(1.0, ends=(0, 2))) == "no regression"
    assert ended(make_score(9.0, ends=(8, 10))) == "regression: fvd"
    assert ended() == "undecided: fvd"
    empty = Baseline(Path("b"), {("bair-prediction", "m"): make_record("m")})
    result = check_records([("", make_record("m"))], empty, [])
    assert headline(result) == "undecided: there is nothing to compare"


def test_junit_counts_and_says_what_failed(checked: Callable[..., CheckResult]) -> None:
    root = ET.fromstring(junit_xml(checked()))
    counts = {"tests": "5", "failures": "1", "errors": "2", "skipped": "0"}
    assert root.attrib == {"name": "vdm-bench check", **counts}
    (suite,) = root
    assert suite.attrib == {"name": "model on bair-prediction", **counts}
    cases = {case.attrib["name"]: [child.tag for child in case] for case in suite}
    assert cases == {
        "fvd": ["failure", "system-out"],
        "is": ["system-out"],
        "kvd": ["system-out"],
        "unlike": ["error", "system-out"],
        "gone": ["error", "system-out"],
    }
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.attrib["message"].startswith("fvd got worse: 100.0 to 120.0")
    assert "baseline: unlike|n:10|v:0.1.0" in "".join(suite.itertext())
    kvd = next(case for case in suite if case.attrib["name"] == "kvd")
    assert "kvd changed within noise" in "".join(kvd.itertext())
    assert "; not checked: no --fail-on covers the metric\n" in "".join(kvd.itertext())
    assert junit_xml(checked()) == junit_xml(checked())


def test_junit_skips_only_unchecked_scores_without_a_comparison(make_record: Make, make_score: Make) -> None:
    old = Baseline(Path("b"), {}).updated([make_record("m", make_score(1.0), make_score(1.0, metric="kvd"))])
    run = make_record("m", make_score(1.0), make_score(1.0, metric="kvd", n=64), make_score(2.0, metric="new"))
    result = check_records([("", run)], old, [ToleranceRule.parse("fvd:0")])
    root = ET.fromstring(junit_xml(result))
    assert root.attrib["skipped"] == "2"
    messages = [element.attrib["message"] for element in root.iter("skipped")]
    assert messages == [
        "not checked: no --fail-on covers the metric; kvd is not comparable with the baseline: n 256 v 64",
        "not checked: no --fail-on covers the metric; new cannot be checked: the baseline has no such score",
    ]


def test_github_gets_errors_and_good_news(checked: Callable[..., CheckResult]) -> None:
    title, change = "title=model on bair-prediction%3A ", "(+20.0, 95 %25 interval [15.8, 24.2])"
    assert annotations(checked()) == [
        f"::error file=baseline.json,{title}fvd::fvd got worse: 100.0 to 120.0 {change}; allowed 5%25",
        f"::notice file=baseline.json,{title}is::is got better: 50.0 to 70.0 {change}",
        f"::error file=baseline.json,{title}unlike::unlike is not comparable with the baseline: n 10 v 20",
        f"::error file=baseline.json,{title}gone::gone cannot be checked: the run has no such score",
    ]
    assert annotations(checked(path="a,b:c%.json"))[0].startswith("::error file=a%2Cb%3Ac%25.json,title=")


@pytest.mark.parametrize("text", ["\n::add-mask::x", "\r\n::error::", "%0A::stop-commands::x", "]]>", "\u2028::"])
def test_a_hostile_name_stays_in_its_line(checked: Callable[..., CheckResult], text: str) -> None:
    result = checked(text)
    assert [line.count("\n") + line.count("\r") for line in annotations(result)] == [0] * 4
    assert all(re.match(r"::(error|notice) file=[^,:]*,title=[^,:]*::", line) for line in annotations(result))
    # What GitHub makes of it has no line of its own either.
    decoded = [line.replace("%0A", "\n").replace("%0D", "\r") for line in annotations(result)]
    assert not any("\n" in line or "\r" in line for line in decoded)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="|*[?"), max_size=20))
def test_any_name_makes_sound_files(checked: Callable[..., CheckResult], text: str) -> None:
    result = checked(text)
    root = ET.fromstring(junit_xml(result))
    assert len(root.findall("testsuite/testcase")) == 5
    assert all(line.startswith("::") and len(line.splitlines()) == 1 for line in annotations(result))
    rows = [line for line in markdown_check(result).splitlines() if line.startswith("|")]
    assert len(rows) == 7
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {9}


def test_markdown_shows_names_as_they_are(checked: Callable[..., CheckResult]) -> None:
    page = markdown_check(checked("<img src=x onerror=alert(1)> **b**"))
    assert "<img" not in page
    assert r"fvd&lt;img src=x onerror=alert(1)&gt; \*\*b\*\*" in page
    assert page.startswith("### vdm-bench check: regression: fvd")
    assert "| FAIL | fvd&lt;img" in page


@pytest.mark.parametrize("name", ["# big", "2. second", "+ more", "---"])
def test_a_name_begins_no_heading_and_no_list_of_a_page(checked: Callable[..., CheckResult], name: str) -> None:
    result = checked()
    named = [replace(check, run=check.run.model_copy(update={"name": name})) for check in result.runs]
    page = MarkdownIt("commonmark").enable("table").parse(markdown_check(replace(result, runs=tuple(named))))
    assert [token.type for token in page[:6]] == [
        *("heading_open", "inline", "heading_close", "paragraph_open", "inline", "paragraph_close")
    ]
    shown = "".join(child.content for child in page[4].children or [])
    assert shown.startswith((f"{name} ", f"{name},"))
