"""Pages from the command line: where they are written, and what is refused."""

import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from vdm_bench.cli import cli
from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.pages.galleries import ClipPlaces


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    clips = np.stack([Shapes("test", seed=9)[i].frames for i in range(20)])
    np.save(folder / "clips.npy", clips)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VDM_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        for arguments in (["--sampler", "real", "--limit", "20"], ["--clips", str(folder / "clips.npy")]):
            out = folder / "runs" / arguments[0].strip("-")
            result = call("run", "shapes-unconditional", *arguments, "--out", str(out))
            assert result.exit_code == 0, result.output
    return folder


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def columns(page: Path) -> list[str]:
    """Titles of the gallery."""
    (head,) = re.findall(r"<tr><td></td>(.*?)</tr>", page.read_text("utf-8"))
    return re.findall(r">([^<>]+)</th>", head)


def test_a_run_writes_a_page_with_its_clips(runs: Path) -> None:
    assert columns(runs / "runs" / "sampler" / "report.html") == ["real clips", "real"]


def test_a_run_with_ready_clips_shows_them(runs: Path) -> None:
    page = runs / "runs" / "clips" / "report.html"
    assert columns(page) == ["real clips", str(runs / "clips.npy")]
    assert page.read_text("utf-8").count("<video") == 12


def test_the_page_of_a_finished_run_is_written_again_the_same(runs: Path) -> None:
    page = runs / "runs" / "sampler" / "report.html"
    before = page.read_bytes()
    page.unlink()
    arguments = ("--sampler", "real", "--limit", "20", "--out", page.parent)
    assert call("run", "shapes-unconditional", *arguments).exit_code == 0
    assert page.read_bytes() == before


def test_report_writes_one_page_of_all_runs(runs: Path, tmp_path: Path) -> None:
    result = call(
        "report",
        runs / "runs",
        "--format",
        "html",
        "-o",
        tmp_path / "x.html",
        "--clips",
        f"theirs={runs}/clips.npy",
    )
    assert result.exit_code == 0, result.output
    assert f"wrote {tmp_path}/x.html" in result.stderr
    assert columns(tmp_path / "x.html") == ["real clips", "real", "theirs"]
    assert [path.name for path in tmp_path.iterdir()] == ["x.html"]


def test_clips_beyond_the_budget_lie_beside_the_page(runs: Path, tmp_path: Path) -> None:
    result = call(
        "report", runs / "runs" / "sampler", "--format", "html", "-o", tmp_path / "x.html", "--embed", 0
    )
    assert result.exit_code == 0, result.output
    videos = {path.name for path in (tmp_path / "x-clips").iterdir()}
    assert videos == set(re.findall(r'src="x-clips/(\w+\.mp4)"', (tmp_path / "x.html").read_text("utf-8")))
    assert len(videos) == 12


def test_leaderboard_writes_a_site(runs: Path, tmp_path: Path) -> None:
    result = call("leaderboard", "--runs", runs / "runs", "--html", tmp_path / "site")
    assert result.exit_code == 0, result.output
    assert f"wrote {tmp_path}/site/index.html" in result.stderr
    assert columns(tmp_path / "site" / "shapes-unconditional.html") == ["real clips", "real"]
    assert (tmp_path / "site" / "bair-prediction.html").exists()


def test_real_clips_of_a_site_come_from_the_data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def write(paths: object, folder: Path, *, places: ClipPlaces, reporter: object) -> Path:
        asked[folder] = places.data_root
        return folder / "index.html"

    monkeypatch.setattr("vdm_bench.pages.write.write_html_site", write)
    result = call("leaderboard", "--html", tmp_path / "site", "--data-root", tmp_path)
    assert result.exit_code == 0, result.output
    assert asked == {tmp_path / "site": tmp_path}


def test_a_record_that_is_not_sound_is_left_out_and_named(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "runs" / "good").mkdir(parents=True)
    (tmp_path / "runs" / "bad").mkdir()
    text = (runs / "runs" / "sampler" / "run.json").read_text()
    (tmp_path / "runs" / "good" / "run.json").write_text(text)
    (tmp_path / "runs" / "bad" / "run.json").write_text(text.replace('"seed": 0', '"seed": -1'))
    result = call("report", tmp_path / "runs", "--format", "html", "-o", tmp_path / "x.html")
    assert result.exit_code == 0, result.output
    assert f"left out: {tmp_path}/runs/bad/run.json is not a run record: sampler.seed" in result.stderr


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("report RUNS --format html", "name a file with -o"),
        ("report RUNS --format html -o x.html --clips theirs", "'theirs' is not NAME=PATH"),
        ("report RUNS --format html -o x.html --clips theirs=missing", "missing does not exist"),
        ("report RUNS --clips theirs=clips.npy", "--clips needs --format html"),
        ("report RUNS/nothing --format html -o x.html", "does not exist"),
        ("report RUNS --format html -o RUNS/sampler/run.json/x.html", "cannot write"),
        ("leaderboard bair-prediction --html site", "--html writes pages of all protocols"),
        ("leaderboard --format csv --html site", "--html writes pages of all protocols"),
    ],
)
def test_wrong_input_is_one_sentence(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(*line.replace("RUNS", str(runs / "runs")).split())
    assert result.exit_code == 2, result.output
    (sentence,) = [text for text in result.stderr.splitlines() if not text.startswith("clips of")]
    assert words in sentence
    assert list(tmp_path.iterdir()) == []
