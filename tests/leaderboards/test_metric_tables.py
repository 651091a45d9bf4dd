"""Tables of a page: groups with their conditions, the best of each group, and signatures in plain words."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from records import build_note, with_reasons

from vdm_bench.leaderboards.published import paper, published_rows
from vdm_bench.leaderboards.ranking import make_boards
from vdm_bench.leaderboards.record import write_record
from vdm_bench.leaderboards.report import PageOptions, read_runs, write_report
from vdm_bench.leaderboards.report.front import PageLink, make_card
from vdm_bench.leaderboards.report.metric_tables import MetricTable, metric_tables
from vdm_bench.leaderboards.report.signatures import read_signature
from vdm_bench.leaderboards.store import load_runs
from vdm_bench.leaderboards.tables.views import tables_with_boards
from vdm_bench.leaderboards.verified import write_verification
from vdm_bench.metrics.score import SIGNATURE_KEYS
from vdm_bench.pages.summaries import summaries, summary_of
from vdm_bench.protocols import get_protocol

Make = Callable[..., Any]


def tables(protocol: str) -> list[MetricTable]:
    boards = make_boards(published_rows(protocol), with_reasons(load_runs([])))
    return metric_tables(tables_with_boards(boards), summaries())


def test_every_published_row_is_in_one_group_of_one_table() -> None:
    for protocol in {row.protocol for row in published_rows()}:
        texts = [
            (table.metric, row.name, cell.text.partition(" ")[0])
            for table in tables(protocol)
            for row in table.rows
            for cell in row.cells.values()
        ]
        expected = [(row.metric, row.method, row.text) for row in published_rows(protocol)]
        assert sorted(texts) == sorted(expected)


def test_conditions_that_differ_are_columns() -> None:
    by_name = {table.metric: table for table in tables("ucf101-unconditional")}
    table = by_name["c3d/is"]
    assert table.conditions == ("resolution", "training data", "class", "samples")
    rows = {(group.title, row.name): row.conditions for group in table.groups for row in group.rows}
    assert rows["as the protocol says", "Video Diffusion"] == {
        "resolution": "64x64", "training data": "-", "class": "-", "samples": "10,000",
    }  # fmt: skip
    assert rows["128x128, a class given", "DVD-GAN"] == {
        "resolution": "128x128", "training data": "-", "class": "given", "samples": "-",
    }  # fmt: skip
    assert rows["resolution not stated, trained on the training split", "ProgressiveVGAN"] == {
        "resolution": "not stated", "training data": "training split", "class": "-", "samples": "not stated",
    }  # fmt: skip
    assert rows["as the protocol says", "real data"]["samples"] == "-"
    # What is a column is not a footnote, too.
    assert not any("samples not stated" in note for row in table.rows for note in row.notes)


def test_the_best_of_every_group_is_on_the_front_page() -> None:
    card = make_card(PageLink("bair-prediction", "x.html"), "", (), tables("bair-prediction"))
    assert [(best.metric, best.group, best.row.name, best.value, best.count) for best in card.best] == [
        ("fvd ↓", "as the protocol says", "Video Diffusion Langevin 256 steps", "66.92", 2),
        ("fvd ↓", "another camera view", "MAGVIT-L-FP", "62 ± 0.1", 16),
    ]
    paired = make_card(PageLink("text-video", "x.html"), "", (), tables("text-video")).best[0]
    assert (paired.row.name, paired.value) == ("large model, frameskip 1, guidance weight 1.0", "43.70")


def test_own_groups_say_why_they_are_apart(make_frame: Make, make_record: Make, make_score: Make) -> None:
    frame = make_frame(
        *(make_record(f"m{n}", make_score(float(n), n=n, signed={"n": str(n)})) for n in (64, 256))
    )
    boards = make_boards(published_rows("bair-prediction"), with_reasons(frame, lambda row: "a test"))
    (table,) = metric_tables(tables_with_boards(boards), summaries(), focus_runs=True)
    assert [group.title for group in table.groups][2:] == ["your runs", "your runs"]
    assert table.groups[2].about[0] == "ranked separately: a test"
    assert table.groups[table.focus].has_runs
    assert table.choices["samples"] == ["-", "25,600", "256", "64"]
    assert [reading.parts[1] for reading in table.signatures] == [
        ("generated clips", "256"),
        ("generated clips", "64"),
    ]


def test_verified_runs_have_a_badge(tmp_path: Path, make_record: Make, make_score: Make) -> None:
    for name in ("checked", "claimed"):
        write_record(make_record(name, make_score(1.0)), tmp_path / name / "run.json")
    record = tmp_path / "checked" / "run.json"
    write_verification(build_note(record.read_bytes()), record)
    runs = read_runs([tmp_path])
    write_report(replace(runs, frame=with_reasons(runs.frame)), tmp_path / "page.html", PageOptions())
    page = (tmp_path / "page.html").read_text("utf-8")
    badge = r'</a> <span class="badge">verified</span></th>'
    assert re.findall(rf">(checked|claimed){badge}", page) == ["checked"]
    assert "other rows are as reported" in page


def test_a_copy_as_csv_is_what_is_shown() -> None:
    lines = tables("bair-prediction")[0].csv.splitlines()
    assert lines[0] == "group,rank,model,value,camera,samples,year,source,notes"
    assert lines[3].startswith("another camera view,1,MAGVIT-L-FP,62 ± 0.1,another,,2022,arXiv:2212.05199,")
    assert len(lines) == 1 + len(published_rows("bair-prediction"))


def test_every_key_of_a_signature_is_read_out() -> None:
    text = "|".join(["fvd", *(f"{key}:x" for key in SIGNATURE_KEYS)])
    reading = read_signature(text)
    assert len({meaning for meaning, _ in reading.parts}) == len(SIGNATURE_KEYS) + 1
    assert reading.parts[0] == ("metric", "fvd")


def test_papers_have_a_year_a_title_and_links() -> None:
    magvit = paper("arXiv:2212.05199")
    assert (magvit.authors, magvit.year, magvit.title) == (
        "Yu et al.", 2022, "MAGVIT: Masked Generative Video Transformer",
    )  # fmt: skip
    assert magvit.code == "https://github.com/google-research/magvit"
    for source in {row.source for row in published_rows()}:
        assert paper(source).url == f"https://arxiv.org/abs/{source.removeprefix('arXiv:')}"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "bair-prediction",
            "BAIR robot pushing: given 1 frame, predict 15 frames of 64x64 pixels. 25,600 generated clips "
            "(100 for each of 256 conditions) are compared with 256 real ones "
            "(split test, first frames, camera main).",
        ),
        (
            "shapes-class",
            "Procedural shapes: given a class, generate 16 frames of 32x32 pixels. 1,024 generated clips are "
            "compared with 1,024 real ones (split test, first frames).",
        ),
    ],
)
def test_a_protocol_in_a_sentence(name: str, sentence: str) -> None:
    assert summary_of(get_protocol(name)).sentence == sentence
