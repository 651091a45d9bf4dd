"""Names that nobody can type, of files, folders and runs: the work is done, and what is printed is harmless."""

import json
import os
import unicodedata
import xml.etree.ElementTree as ET
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

import vdm_bench
from vdm_bench.cli import cli
from vdm_bench.cli.run import _folder_name
from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.errors import InputError
from vdm_bench.leaderboards.record import name_of, read_record
from vdm_bench.samplers.base import SampleRequest
from vdm_bench.video.archive import ArchiveWriter
from vdm_bench.video.clip import Clip

NAMES = [
    *(b"a\xff\xfe", b"b\x1b[2J\x07", b"c\n::error::c", b"d\xe2\x80\xae4pm", b"e\r##[group]", b"f\xc2\x9bm"),
    *(
        b"=cmd()",
        b"$g_1^{2}$",
        b"<h>&amp;",
        b"%s {0}",
        b"i|j:k",
        b"\\udcff",
        "漢字 🙂".encode(),
        b"x" * 240,
        b" ",
    ),
]
SOURCE = os.fsdecode(b"gen\xff\x1b[31m\n::error::clips\xe2\x80\xae")
REFERENCE = os.fsdecode(b"real\xe9\x07")
OUT = os.fsdecode(b"out\xff\x1b]0;x\x07\n##vso[x]")
METRICS = ["--metric", "embedded/fvd", "--metric", "embedded/is"]


@pytest.fixture
def here(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    folder = tmp_path_factory.mktemp("names")
    monkeypatch.chdir(folder)
    shapes = Shapes("test", seed=2)
    for place, split in ((SOURCE, 0), (REFERENCE, 20)):
        Path(place).mkdir()
        for i, name in enumerate(NAMES):
            np.save(Path(place, os.fsdecode(name + b".npy")), shapes[split + i].frames)
    Path(SOURCE, os.fsdecode(b"broken\xff\x1b.npy")).write_bytes(b"no array")
    return folder


def call(*arguments: str) -> Result:
    """Call a verb; whatever comes of it, no more than lines of visible characters is printed."""
    result = CliRunner().invoke(cli, list(arguments))
    assert {c for c in result.output if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")} <= {"\n"}
    obeyed = [line for line in result.output.splitlines() if line.lstrip().startswith("::") or "##[" in line]
    assert not [line for line in obeyed if "--github" not in arguments]
    assert result.exit_code != 70, result.output
    return result


def test_a_folder_of_such_names_goes_all_the_way(here: Path) -> None:
    score = call("score", SOURCE, "--reference", REFERENCE, *METRICS, "--skip-broken", "--out", OUT)
    assert score.exit_code == 0, score.output
    record = read_record(Path(OUT, "run.json"))
    assert record.name == r"gen\udcff\x1b[31m\n::error::clips\u202e"
    assert [clip.source for clip in record.generated.skipped] == [
        "gen\\udcff\x1b[31m\n::error::clips\u202e/broken\\udcff\x1b.npy"
    ]
    limited = ("--limit", "12", "--skip-broken", "--out", f"{OUT}2")
    assert call("run", "shapes-unconditional", "--clips", SOURCE, *limited).exit_code == 0
    for form in ("text", "csv", "markdown", "latex", "json"):
        assert call("report", OUT, f"{OUT}2", "--format", form).exit_code == 0
    for form in ("html", "parquet"):
        file = os.fsdecode(b"page\xff\x1b.") + form
        assert call("report", OUT, f"{OUT}2", "--format", form, "-o", file).exit_code == 0
        assert Path(file).stat().st_size > 1000
    assert call("leaderboard", "--runs", f"{OUT}2", "--html", os.fsdecode(b"site\xff")).exit_code == 0
    assert call("compare", OUT, f"{OUT}2").exit_code == 3
    assert call("verify", f"{OUT}2", "--samples", SOURCE).exit_code == 1
    assert call("log", OUT, f"{OUT}2", "--to", "tensorboard:board").exit_code == 0


def test_the_gate_tells_ci_of_such_names(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(here / "summary.md"))
    call("score", SOURCE, "--reference", REFERENCE, *METRICS, "--skip-broken", "--out", OUT)
    call("score", REFERENCE, "--reference", SOURCE, *METRICS, "--skip-broken", "--out", "other")
    baseline = os.fsdecode(b"base\xff\n.json")
    assert call("check", OUT, "--baseline", baseline, "--update-baseline").exit_code == 0
    junit = os.fsdecode(b"junit\xff.xml")
    assert call("check", OUT, "--baseline", baseline, "--junit", junit).exit_code == 0
    assert r"gen\udcff\x1b" in ET.parse(junit).getroot()[0].attrib["name"]
    result = call("check", "other", "--baseline", baseline, "--github")
    assert result.exit_code == 3
    obeyed = [line for line in result.stdout.splitlines() if line.startswith("::")]
    assert {line.split()[0].rstrip(":")[:7] for line in obeyed[2:]} == {"::error"}
    assert "\x1b" not in (here / "summary.md").read_text()


@pytest.mark.parametrize("name", ["a\x1b[31m", "two\nlines", "x" * 201, " \t", "\u2029", "a\u202eb"])
def test_what_is_no_name_is_refused_before_the_work(here: Path, name: str) -> None:
    for line in (
        ("score", SOURCE, "--reference", REFERENCE, *METRICS),
        ("run", "shapes-unconditional", "--sampler", "noise"),
    ):
        result = call(*line, "--name", name, "--out", "refused")
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1
        assert "is not a name of a run; give one line of 1 to 200 visible characters" in result.stderr
        assert not Path("refused").exists()


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("clips/mine", "clips/mine"),
        ("x" * 200, "x" * 200),
        ("é" * 300, "é" * 130 + " ... " + "é" * 65),
        ("  ", "'  '"),
        ("a\tb\x85", r"a\tb\x85"),
        ("a\udcff", "a\udcff"),  # a record writes it out
    ],
)
def test_where_clips_came_from_makes_a_name(source: str, name: str) -> None:
    assert name_of(source) == name


@pytest.mark.parametrize("source", ["漢" * 100, "é/" * 90, "\udcff\x1b", "x" * 300, "..", "a:b c"])
def test_a_run_folder_named_after_its_source_can_be_made(here: Path, source: str) -> None:
    folder = Path("runs", _folder_name(source))
    folder.mkdir(parents=True)
    assert folder.parent.resolve() == here / "runs"


@pytest.mark.parametrize(
    "line",
    [
        ("score", "--bo\x1bgus"),
        ("fro\x1bb\n::error::x",),
        ("--de\x9bbug",),
        ("score", "a", "b\x1b[31m\n::error::c", "--reference", "d"),
        ("run", "proto\x1b\n::warning::x", "--sampler", "noise"),
        ("run", os.fsdecode(b"proto\xff\x1b.toml"), "--sampler", "noise"),
        ("score", os.fsdecode(b"gone\xff\x1b"), "--reference", "x"),
        ("score", SOURCE, "--reference", REFERENCE, "--metric", "m\x1b\n::error::"),
        ("score", SOURCE, "--reference", REFERENCE, *METRICS),
        ("report", "gone\u202e\x07"),
        ("data", "check", "x\x1b"),
        ("log", SOURCE, "--to", os.fsdecode(b"tensorboard:x\xff")),
        ("log", SOURCE, "--to", "x\x1b[1m"),
    ],
)
def test_messages_show_what_was_typed_as_escapes(here: Path, line: tuple[str, ...]) -> None:
    result = call(*line)
    assert result.exit_code == 2
    assert "\\" in result.stderr


def test_an_internal_fault_is_told_in_a_printable_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise KeyError("x", "\x1b[31m\n::error::" + "y" * 10_000)

    monkeypatch.setitem(cli.commands, "fails", click.Command("fails", callback=fails))
    result = CliRunner().invoke(cli, ["fails"])
    assert result.exit_code == 70
    assert result.stderr.startswith("Internal error: KeyError: ('x', '\\x1b[31m\\n::error::yyy")
    assert result.stderr.count("\n") == 1
    assert len(result.stderr) < 3000


def test_a_place_that_trackers_cannot_write_is_refused_before_the_work(here: Path) -> None:
    place = os.fsdecode(b"tensorboard:logs\xff")
    result = call("run", "shapes-unconditional", "--sampler", "noise", "--log-to", place, "--out", "run")
    assert result.exit_code == 2
    assert "is not UTF-8 text, which trackers need" in result.stderr
    assert not Path("run").exists()


def test_keys_and_captions_of_an_archive_may_hold_anything(here: Path) -> None:
    shapes = Shapes("test", seed=2)
    clips = [
        Clip(shapes[i].frames, f"k\ud800\x1b{i}", i, "a\ud800 \x1b[31m\n::error::x </video><script>")
        for i in range(12)
    ]
    ArchiveWriter(Path("run/samples"), (16, 32, 32)).write_shard(0, clips)
    assert call("score", "run/samples", "--reference", REFERENCE, *METRICS, "--out", "run").exit_code == 0
    page = os.fsdecode(b"p\xff<\n.html")
    assert call("report", "run", "--format", "html", "-o", page, "--embed", "0").exit_code == 0
    text = Path(page).read_text("utf-8")
    assert r"a\ud800 \x1b[31m\n::error::x &lt;/video&gt;&lt;script&gt;" in text
    assert 'src="p%FF%3C%0A-clips/' in text
    assert len(list(Path(os.fsdecode(b"p\xff<\n-clips")).iterdir())) >= 3


def test_a_name_as_long_as_may_be_leaves_room_for_the_clips_beside_a_page(here: Path) -> None:
    shapes = Shapes("test", seed=2)
    ArchiveWriter(Path("run/samples"), (16, 32, 32)).write_shard(0, [shapes[i] for i in range(12)])
    assert call("score", "run/samples", "--reference", REFERENCE, *METRICS, "--out", "run").exit_code == 0
    for last in "ab":  # names that become one when they are cut
        page = f"{'é' * 124}{last}.html"
        assert call("report", "run", "--format", "html", "-o", page, "--embed", "0").exit_code == 0
        assert Path(page).exists()
    assert len(list(here.glob("é*-clips"))) == 2


def test_paths_that_read_alike_are_two_runs_or_one_is_named(here: Path) -> None:
    for folder in (b"a\xff", b"a\\udcff"):
        out = os.fsdecode(folder)
        call("score", REFERENCE, "--reference", REFERENCE, *METRICS, "--out", f"runs/{out}", "--name", "one")
    result = call("report", "runs")
    assert result.exit_code == 0
    assert "prints like the path of another record; rename its folder" in result.stderr


class Unrecordable(vdm_bench.Sampler):
    """Records what a record cannot hold."""

    recorded_settings = {"level": float("nan")}  # noqa: RUF012

    def sample(self, request: SampleRequest) -> np.ndarray:
        """Never called."""
        raise AssertionError


def test_settings_that_no_record_holds_are_refused_before_the_work(here: Path) -> None:
    with pytest.raises(InputError, match=r"the sampler.s settings cannot be recorded: settings\.level"):
        vdm_bench.run("shapes-unconditional", out="out", sampler=Unrecordable())


@pytest.mark.parametrize("identity", ["a|b", "", "a\ud800", "a\n", 3])
def test_what_cannot_stand_in_a_signature_is_refused_before_the_work(identity: object) -> None:
    named = type("Named", (Shapes,), {"identity": identity})
    clips = named("test", seed=2)
    with pytest.raises(InputError, match="the identity of the reference clips is"):
        vdm_bench.score(Shapes("test"), clips, ["embedded/fvd"])


def test_json_on_the_screen_is_ascii(here: Path) -> None:
    result = call("score", SOURCE, "--reference", REFERENCE, *METRICS, "--skip-broken", "--json")
    assert result.stdout.isascii()
    assert json.loads(result.stdout)["name"] == r"gen\udcff\x1b[31m\n::error::clips\u202e"


def test_verbs_print_through_one_module() -> None:
    """What goes past it may carry commands to terminals; the gate prints its commands to GitHub itself."""
    folder = Path(vdm_bench.__file__).parent / "cli"
    printing = {path.name for path in folder.glob("*.py") if "click.echo" in path.read_text()}
    assert printing == {"options.py", "check.py"}
