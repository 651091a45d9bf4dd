"""`compare` and `check` as their users meet them: real runs, small ones, and what is printed and written."""

import dataclasses
import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import vdm_bench
from vdm_bench.cli import cli
from vdm_bench.datasets.folder import open_clips
from vdm_bench.leaderboards.record import read_record, write_record
from vdm_bench.metrics.evaluation import paired_difference
from vdm_bench.metrics.networks import load_network
from vdm_bench.metrics.recipes import get_recipe
from vdm_bench.protocols import get_protocol
from vdm_bench.protocols.clips import open_dataset
from vdm_bench.runtime.printable import printable
from vdm_bench.runtime.progress import Silent
from vdm_bench.runtime.run_folder import RECORD_FILE
from vdm_bench.scoring.features import FeatureExtractor
from vdm_bench.scoring.reference import collect_reference

BASELINE = "baseline.json"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Runs of 64 clips, made once: real clips, two grades of worse ones, and real ones under other conditions."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VDM_BENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))  # as of other tests
        for name, sampler, limit in (
            ("real", "real", 64),
            ("blurred", "blurred", 64),
            ("noise", "noise", 64),
            ("more", "real", 72),
        ):
            out = folder / "runs" / name
            vdm_bench.run("shapes-unconditional", sampler=sampler, limit=limit, out=out, name=name)
        yield folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VDM_BENCH_CACHE", str(made.parent / "cache"))
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    ignored = shutil.ignore_patterns("samples", "features")
    shutil.copytree(made / "runs", "runs", ignore=ignored)
    return tmp_path


def command(*arguments: str) -> Result:
    return CliRunner().invoke(cli, [word for argument in arguments for word in argument.split()])


def changed(name: str, factor: float) -> None:
    """Move both values of a run, and their jackknife with them."""
    path = Path("runs", name, RECORD_FILE)
    record = read_record(path)
    scores = [
        dataclasses.replace(
            score,
            value=(score.value or 0.0) * factor,
            jackknife=tuple(x * factor * (1 + 0.001 * (i % 2)) for i, x in enumerate(score.jackknife)),
        )
        for score in record.scores
    ]
    write_record(record.model_copy(update={"scores": scores}), path)


def test_the_difference_of_two_runs_is_that_of_their_features(made: Path, here: Path) -> None:
    """What `compare` makes of two records alone, against what the metrics make of the features of all clips."""
    result = command("compare runs/real runs/blurred --json")
    assert result.exit_code == 0, result.output
    found = {one["metric"]: one for one in json.loads(result.stdout)["comparisons"]}
    network = load_network("embedded")
    protocol = get_protocol("shapes-unconditional")
    collector = FeatureExtractor([network], 2, False, Silent())
    real = collect_reference(protocol, open_dataset(protocol, protocol.reference), collector).features[0]
    a, b = (
        collector.collect(
            open_clips(made / "runs" / name), 64, made / "runs" / name / "features", "clips"
        ).features[0]
        for name in ("real", "blurred")
    )
    for name in ("embedded/fvd", "embedded/is"):
        expected = paired_difference(get_recipe(name), network.spec, real, b, a)
        numbers = [found[name][key] for key in ("change", "low", "high")]
        assert numbers == pytest.approx([expected.value, expected.low, expected.high], rel=1e-6)
        assert found[name]["method"] == expected.method == "paired-jackknife-20"
        assert found[name]["verdict"] == "worse"


def test_two_runs_are_compared(here: Path) -> None:
    result = command("compare runs/noise runs/blurred")
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[:2] == ["A noise (runs/noise/run.json)", "B blurred (runs/blurred/run.json)"]
    assert lines[3] == "metric A B B - A 95 % interval verdict"
    assert lines[5].startswith("embedded/fvd ↓ 1712 ")
    assert lines[5].endswith("B is better")


def test_runs_that_cannot_be_compared_end_with_3(here: Path) -> None:
    result = command("compare runs/real runs/more")
    assert result.exit_code == 3
    assert "not comparable: embedded/fvd, embedded/is: n 64 v 72" in result.stdout
    # Some can.
    assert command("compare runs").exit_code == 0


def test_one_run_is_nothing_to_compare(here: Path) -> None:
    for given in ("runs/real", "runs/real runs/real/run.json"):
        result = command(f"compare {given}")
        assert result.exit_code == 2
        assert "give two or more to compare" in result.stderr


def test_a_baseline_is_made_held_and_moved(here: Path) -> None:
    result = command(f"check runs/blurred --baseline {BASELINE}")
    assert result.exit_code == 3
    assert "baseline.json does not exist" in result.stdout
    assert not Path(BASELINE).exists()

    result = command(f"check runs/blurred --baseline {BASELINE} --update-baseline")
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "wrote baseline.json",
        "added blurred on shapes-unconditional",
        "  embedded/fvd ↓ 52.5",
        "  embedded/is ↑ 39.9",
    ]
    assert command(f"check runs/blurred --baseline {BASELINE}").exit_code == 0
    again = command(f"check runs/blurred --baseline {BASELINE} --update-baseline")
    assert (again.exit_code, again.stderr) == (0, "baseline.json has these scores already\n")

    changed("blurred", 1.2)
    result = command(f"check runs/blurred --baseline {BASELINE}")
    assert result.exit_code == 1
    assert "\nregression: embedded/fvd\n" in result.stdout
    assert command(f"check runs/blurred --baseline {BASELINE} --fail-on embedded/fvd:21%").exit_code == 0
    assert command(f"check runs/blurred --baseline {BASELINE} --fail-on embedded/fvd:19%").exit_code == 1
    assert command(f"check runs/blurred --baseline {BASELINE} --fail-on embedded/is:0").exit_code == 0

    result = command(f"check runs/blurred --baseline {BASELINE} --update-baseline --fail-on embedded/fvd:1%")
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "wrote baseline.json",
        "replaced blurred on shapes-unconditional",
        "  embedded/fvd ↓ 63.1 (was 52.5)",
        "  embedded/is ↑ 47.9 (was 39.9)",
    ]
    assert "FAIL" in result.stdout  # what changed is shown
    assert command(f"check runs/blurred --baseline {BASELINE}").exit_code == 0


def test_new_runs_are_added_and_the_others_are_checked(here: Path) -> None:
    assert command(f"check runs/blurred --baseline {BASELINE} --update-baseline").exit_code == 0
    changed("blurred", 1.2)
    result = command(f"check runs --baseline {BASELINE} --add-new")
    assert result.exit_code == 1
    assert "\nregression: embedded/fvd\n" in result.stdout
    assert [line for line in result.stderr.splitlines() if line.startswith("added")] == [
        f"added {name} on shapes-unconditional" for name in ("more", "noise", "real")
    ]
    assert "replaced" not in result.stderr
    again = command(f"check runs --baseline {BASELINE} --add-new")
    assert (again.exit_code, again.stderr) == (1, "baseline.json has these runs already\n")
    both = command(f"check runs --baseline {BASELINE} --add-new --update-baseline")
    assert (both.exit_code, both.stdout) == (2, "")
    assert "leave out --add-new" in both.stderr


def test_a_folder_of_runs_has_one_baseline(here: Path) -> None:
    assert command(f"check runs --baseline {BASELINE} --update-baseline").exit_code == 0
    assert len(json.loads(Path(BASELINE).read_text())["runs"]) == 4
    result = command(f"check runs --baseline {BASELINE} --json")
    assert result.exit_code == 0
    content = json.loads(result.stdout)
    assert [run["name"] for run in content["runs"]] == ["blurred", "more", "noise", "real"]
    assert {finding["outcome"] for run in content["runs"] for finding in run["findings"]} == {"passed"}
    changed("noise", 0.5)  # the FVD is better, the inception score worse
    result = command(f"check runs --baseline {BASELINE}")
    assert result.exit_code == 1
    assert "\nregression: embedded/is\n" in result.stdout


def test_other_conditions_are_never_compared(here: Path) -> None:
    result = command("check runs/more --baseline runs/real --json")
    assert result.exit_code == 3
    (run,) = json.loads(result.stdout)["runs"]
    assert [finding["mark"] for finding in run["findings"]] == ["not comparable"] * 2
    assert run["findings"][0]["compared"]["differing"] == [{"key": "n", "first": "64", "second": "72"}]


def test_a_run_is_held_against_a_run(here: Path) -> None:
    assert command("check runs/noise --baseline runs/real").exit_code == 1
    assert command("check runs/real --baseline runs/noise/run.json").exit_code == 0
    result = command("check runs/real --baseline runs/noise --update-baseline")
    assert result.exit_code == 2
    assert "runs/noise/run.json is the record of a run; give another --baseline FILE" in result.stderr


def test_junit_is_written(here: Path) -> None:
    assert command("check runs/noise --baseline runs/real --junit out/check.xml").exit_code == 1
    root = ET.parse("out/check.xml").getroot()
    assert (root.attrib["tests"], root.attrib["failures"]) == ("2", "2")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("check runs/none --baseline b.json", "runs/none does not exist"),
        ("check runs/real --baseline b.json --fail-on fvd", "--fail-on 'fvd' is not METRIC:LIMIT"),
        ("check runs/real --baseline runs/real --fail-on fvd:5%", "neither run nor baseline has such a metric"),
        ("check runs/real --baseline bad.json", "bad.json is not JSON"),
        ("check runs/real --baseline runs/real --junit bad.json/x.xml", "cannot write bad.json/x.xml"),
        ("check runs/real", "Missing option '--baseline'"),
        ("compare runs/real bad.json", "bad.json is not JSON"),
    ],
)
def test_wrong_input_is_exit_code_2(here: Path, line: str, words: str) -> None:
    Path("bad.json").write_text("{")
    result = command(line)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.output


def test_github_is_told(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    Path("summary.md").write_text("of another step\n")
    result = command("check runs/noise --baseline runs/real")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].startswith("::stop-commands::")
    word = lines[0].removeprefix("::stop-commands::")
    end = lines.index(f"::{word}::")
    assert len(word) == 32
    assert lines[end - 2] == "regression: embedded/fvd, embedded/is"
    assert [line.split(",")[0] for line in lines[end + 1 :]] == ["::error file=runs/real/run.json"] * 2
    summary = Path("summary.md").read_text("utf-8")
    assert summary.startswith("of another step\n### vdm-bench check: regression: embedded/fvd, embedded/is\n")

    # JSON stays JSON, whoever reads it.
    result = command("check runs/noise --baseline runs/real --json")
    assert json.loads(result.stdout)["exit_code"] == 1
    assert result.stderr.count("::error ") == 2
    assert "::" not in command("check runs/noise --baseline runs/real --no-github").output


def test_a_step_summary_that_cannot_be_written_is_no_reason_to_fail(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "missing/summary.md")
    result = command("check runs/real --baseline runs/real --github")
    assert result.exit_code == 0
    assert "cannot write the step summary missing/summary.md" in result.stderr


def test_a_name_is_no_command_to_github(here: Path) -> None:
    """A name is no command; and between the two words, which no name can guess, nothing is obeyed anyway."""
    path = Path("runs/real", RECORD_FILE)
    evil = "::add-mask::embedded"
    write_record(read_record(path).model_copy(update={"name": evil}), path)
    lines = command("check runs/real --baseline runs/real --github").stdout.splitlines()
    places = [place for place, line in enumerate(lines) if line.startswith("::")]
    assert len(places) == 2
    assert lines[places[0]].startswith("::stop-commands::")
    assert lines[places[-1]] == f"::{lines[places[0]].removeprefix('::stop-commands::')}::"
    assert any(line.startswith(printable(evil)) for line in lines[places[0] : places[-1]])
    again = command("check runs/real --baseline runs/real --github").stdout.splitlines()
    assert again[0] != lines[0]


def test_comparing_loads_no_torch(here: Path) -> None:
    for line in ("compare runs/real runs/noise", "check runs/real --baseline runs/real"):
        code = (
            "import sys, click; from vdm_bench.cli import cli\n"
            f"cli({line.split()!r}, standalone_mode=False); assert 'torch' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
