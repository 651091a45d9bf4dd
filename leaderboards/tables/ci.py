"""Machine-readable output of a check: JUnit XML, and annotations for GitHub workflows."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator

from vdm_bench.leaderboards.checks.baseline import title_of
from vdm_bench.leaderboards.checks.check import CheckResult, Finding, RunCheck
from vdm_bench.leaderboards.tables.comparisons import sentence
from vdm_bench.runtime.printable import printable

NO_LIMIT = "no --fail-on covers the metric"


def junit_xml(result: CheckResult) -> bytes:
    """Return a check as JUnit XML, with one suite per run and one case per metric.

    A regression is a failure; a checked score that cannot be compared is an error. A metric without a limit
    passes, and its output says how it changed; it is skipped only if there is nothing to compare. The same check
    gives the same bytes.
    """
    root = ET.Element("testsuites", {"name": "vdm-bench check", **_counts(result.findings)})
    for check in result.runs:
        title = printable(title_of(check.run))
        suite = ET.SubElement(root, "testsuite", {"name": title, **_counts(check.findings)})
        for finding in check.findings:
            case = ET.SubElement(suite, "testcase", classname=title, name=printable(finding.metric), time="0")
            _add_outcome(case, finding)
            ET.SubElement(case, "system-out").text = "\n".join(_details(check, finding))
    ET.indent(root)
    data: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return data + b"\n"


def _counts(findings: tuple[Finding, ...]) -> dict[str, str]:
    outcomes = [finding.outcome for finding in findings]
    numbers = {
        "tests": len(outcomes),
        "failures": outcomes.count("failed"),
        "errors": outcomes.count("no answer"),
        "skipped": sum(map(_is_skipped, findings)),
    }
    return {name: str(number) for name, number in numbers.items()}


def _add_outcome(case: ET.Element, finding: Finding) -> None:
    message = printable(sentence(finding))
    match finding.outcome:
        case "failed":
            ET.SubElement(case, "failure", type="regression", message=message).text = message
        case "no answer":
            ET.SubElement(case, "error", type=finding.mark, message=message).text = message
        case "not gated" if _is_skipped(finding):
            ET.SubElement(case, "skipped", message=f"not checked: {NO_LIMIT}; {message}")


def _is_skipped(finding: Finding) -> bool:
    return finding.outcome == "not gated" and finding.mark in ("missing", "not comparable")


def _details(check: RunCheck, finding: Finding) -> Iterator[str]:
    unchecked = f"; not checked: {NO_LIMIT}" if finding.outcome == "not gated" else ""
    yield printable(sentence(finding)) + unchecked
    if finding.compared:
        yield printable(f"baseline: {finding.compared.first.signature}")
        yield printable(f"run: {finding.compared.second.signature} in {check.path}")


def annotations(result: CheckResult) -> list[str]:
    """Return GitHub workflow commands: an error for each score that fails, a notice for each that got better."""
    lines = []
    for check in result.runs:
        for finding in check.findings:
            if finding.outcome in ("failed", "no answer"):
                level = "error"
            elif finding.outcome == "passed" and finding.mark == "better":
                level = "notice"
            else:
                continue
            title = f"{title_of(check.run)}: {finding.metric}"
            properties = f"file={_property(result.baseline)},title={_property(title)}"
            lines.append(f"::{level} {properties}::{_message(sentence(finding))}")
    return lines


def _message(text: str) -> str:
    """Escape the message of a workflow command, because a name must not start another command."""
    # A line end would end the command; `printable` writes it as \n.
    return printable(text).replace("%", "%25")


def _property(text: str) -> str:
    """Escape a property of a workflow command."""
    return _message(text).replace(":", "%3A").replace(",", "%2C")
