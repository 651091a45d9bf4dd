"""`vdm-bench leaderboard` as users meet it: published rows, own runs among them, citations, wrong input."""

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from vdm_bench.cli import cli
from vdm_bench.leaderboards.published import published_rows
from vdm_bench.metrics.score import Signature
from vdm_bench.protocols import get_protocol


def call(text: str) -> Result:
    return CliRunner().invoke(cli, text.split())


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run on `shapes`, and two records made of it: of `bair-prediction`, whole and with other weights."""
    folder = tmp_path_factory.mktemp("leaderboard")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VDM_BENCH_CACHE", str(folder / "cache"))
        made = call(f"run shapes-unconditional --sampler noise --limit 20 --out {folder}/shapes")
    assert made.exit_code == 0, made.output
    protocol = get_protocol("bair-prediction")
    for name, weights in (("mine", "fa7df956"), ("other-weights", "00000000")):
        record = json.loads((folder / "shapes" / "run.json").read_text())
        del record["checksum"]
        signature = Signature.of(
            "fvd",
            {"net": f"i3d-k400@{weights}:logits", "n": "25600", "src": "lossless", "prec": "fp32", "v": "0.1.0"},
        )
        score = record["scores"][0] | {"metric": "fvd", "value": 80.0, "interval": None, "infinite": None}
        score |= {"n_generated": 25600, "n_reference": 256, "floor": 60.0}
        score |= {"signature": str(signature), "digest": signature.digest}
        record |= {"name": name, "scores": [score], "curves": {}}
        record["protocol"] = {"name": protocol.name, "digest": protocol.digest, "departures": []}
        record["generated"] |= {"expected": 25600, "scored": 25600}
        record["reference"] |= {"expected": 256, "scored": 256}
        target = folder / name / "run.json"
        target.parent.mkdir()
        target.write_text(json.dumps(record))
    return folder


def test_a_run_is_placed_among_published_rows(runs: Path) -> None:
    result = call(f"leaderboard bair-prediction --runs {runs}")
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.stdout.splitlines()]
    start = next(place for place, row in enumerate(rows) if row[:4] == ["as", "the", "protocol", "says"])
    assert ["*66.92" in rows[start], "68.19" in rows[start + 1]] == [True, True]
    assert rows[start + 2][:3] == ["mine", "80.00", "run"]
    assert rows[start + 3][:5] == ["another", "camera", "view", "MAGVIT-L-FP", "*62"]
    text = " ".join(result.stdout.split())
    assert "MAGVIT (appendix C)" in text
    assert "have no signature" in text
    assert "your runs other-weights 80.00 run" in text
    assert "ranked separately: its network has the weights 00000000" in text
    assert "noise" not in result.stdout  # a run of another protocol


def test_all_protocols_fit_on_a_screen_each_with_every_number() -> None:
    text = call("leaderboard").stdout
    assert len(text.splitlines()) < 250  # 795 with a table per group
    blocks = text.split("\n\n")
    assert len(blocks) == len({row.protocol for row in published_rows()}) + 1
    assert max(block.count("\n") for block in blocks) < 45
    for protocol in {row.protocol for row in published_rows()}:
        (block,) = [block for block in blocks if block.startswith(f"{protocol}\n")]
        for row in published_rows(protocol):
            assert row.text in block, row


def test_many_runs_leave_the_rest_to_another_format(runs: Path, tmp_path: Path) -> None:
    for number in range(40):
        record = json.loads((runs / "shapes" / "run.json").read_text())
        del record["checksum"]
        target = tmp_path / str(number) / "run.json"
        target.parent.mkdir()
        target.write_text(json.dumps(record | {"name": f"model {number}"}))
    text = call(f"leaderboard shapes-unconditional --runs {tmp_path}").stdout
    assert "4 more rows: vdm-bench leaderboard shapes-unconditional --format markdown" in text
    assert len(text.splitlines()) < 55


def test_without_a_protocol_all_are_shown(runs: Path) -> None:
    result = call(f"leaderboard --runs {runs} --format csv")
    rows = list(csv.DictReader(result.stdout.splitlines()))
    assert sum(row["origin"] == "published" for row in rows) == len(published_rows())
    assert {row["name"] for row in rows if row["origin"] == "run"} == {"noise", "mine", "other-weights"}
    noise = next(row for row in rows if row["name"] == "noise")
    assert noise["departures"] == "generated 20 of 1024 clips"


def test_one_run_may_be_named_twice(runs: Path) -> None:
    result = call(f"leaderboard bair-prediction --runs {runs}/mine --runs {runs}/mine/run.json --format json")
    boards = json.loads(result.stdout)["boards"]
    assert [row["name"] for board in boards for row in board["rows"] if row["origin"] == "run"] == ["mine"]


def test_citations_of_all_rows_that_are_shown(tmp_path: Path) -> None:
    result = call(f"leaderboard kinetics600-prediction --citation -o {tmp_path}/references.bib")
    assert result.exit_code == 0, result.output
    entries = (tmp_path / "references.bib").read_text()
    assert entries.count("@misc{") == len({row.source for row in published_rows("kinetics600-prediction")}) == 4
    assert call("leaderboard shapes-class --citation").stdout == "% no published results\n"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("leaderboard ucf101-uncond", "unknown protocol 'ucf101-uncond'; did you mean"),
        ("leaderboard --runs missing", "missing does not exist; give a run folder"),
        ("leaderboard --format html", "Invalid value for '--format'"),
        ("leaderboard --citation --format json", "--citation prints BibTeX; leave out --format or --runs"),
        ("leaderboard --citation --runs x", "--citation prints BibTeX; leave out --format or --runs"),
    ],
)
def test_wrong_input_is_one_sentence(command: str, message: str) -> None:
    result = call(command)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
