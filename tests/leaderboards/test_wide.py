"""Wide tables: a row per run, a column per metric; marks, digits, equal names, LaTeX, and whom to cite."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from vdm_bench.cli import cli
from vdm_bench.errors import InputError
from vdm_bench.leaderboards.published import bibtex_entries
from vdm_bench.leaderboards.record import Record, SamplerInfo, StoredRecord, write_record
from vdm_bench.leaderboards.tables.wide.appendix import appendix, citations, sources
from vdm_bench.leaderboards.tables.wide.formats import format_wide
from vdm_bench.leaderboards.tables.wide.table import WideTable, distinct_names, wide_tables
from vdm_bench.metrics.score import Score

Make = Callable[..., Any]
MODEL = SamplerInfo(kind="callable", spec="m:f", settings={}, seed=0)
FRECHET = {"root": "factor"}
IS = {"metric": "is", "higher_is_better": True, "n_reference": 0, "signed": {"splits": "1"}}


@pytest.fixture
def table(make_record: Make) -> Callable[..., WideTable]:
    """Return the single table of runs, given as name and scores, or as records."""

    def make(*runs: Any) -> WideTable:
        (found,) = wide_tables(stored(make_record, *runs))
        return found

    return make


def stored(make_record: Make, *runs: Any) -> list[StoredRecord]:
    records = [run if isinstance(run, Record) else make_record(*run, sampler=MODEL) for run in runs]
    return [StoredRecord(Path(f"runs/{place}/run.json"), b"", record) for place, record in enumerate(records)]


def marks(table: WideTable) -> dict[str, list[str]]:
    return {row.name: [cell.mark if cell else "-" for cell in row.cells] for b in table.blocks for row in b.rows}


def test_a_row_is_a_run_and_a_column_a_metric(table: Make, make_score: Make) -> None:
    made = table(
        ("a", make_score(50.0, ends=(48.0, 52.0), signed=FRECHET), make_score(8.0, **IS)),
        ("b", make_score(51.0, ends=(49.0, 53.0), signed=FRECHET), make_score(9.0, **IS)),
        ("c", make_score(60.0, ends=(58.0, 62.0), signed=FRECHET)),
    )
    assert made.metrics == (("fvd", False), ("is", True))
    assert marks(made) == {"a": ["best", ""], "b": ["tie", "best"], "c": ["", "-"]}
    assert [(cell.value, cell.interval) for cell in made.blocks[0].rows[0].cells if cell] == [
        ("50.0", "[48.0, 52.0]"),
        ("8.000", ""),
    ]


def test_baselines_and_single_scores_are_not_ranked(table: Make, make_score: Make, make_record: Make) -> None:
    real = make_record("real", make_score(1.0), make_score(99.0, **IS))
    assert real.sampler.kind == "baseline"
    made = table(real, ("a", make_score(5.0), make_score(2.0, **IS)))
    assert marks(made) == {"a": ["", ""], "real (baseline)": ["", ""]}
    assert made.unranked
    made = table(real, ("a", make_score(5.0)), ("b", make_score(6.0)))
    assert marks(made) == {"a": ["best", "-"], "b": ["", "-"], "real (baseline)": ["", ""]}


def test_only_scores_with_equal_digests_are_compared(table: Make, make_score: Make) -> None:
    made = table(
        ("a", make_score(5.0), make_score(3.0, **IS)),
        ("b", make_score(6.0), make_score(2.0, **IS)),
        ("few", make_score(1.0, n=64), make_score(9.0, n=64, **IS)),
    )
    assert marks(made) == {"a": ["best", "best"], "b": ["", ""], "few": ["", ""]}
    assert [block.clips for block in made.blocks] == ["N = 256, 256 real clips", "N = 64, 256 real clips"]
    first, second = ([cell.value for cell in block.digests if cell] for block in made.blocks)
    assert not set(first) & set(second)
    assert made.signatures()[1].endswith(f"(not comparable with {first[0]}: n 64 v 256)")


def test_intervals_that_touch_tie_and_unlike_levels_do_not(table: Make, make_score: Make) -> None:
    made = table(
        ("best", make_score(10.0, ends=(9.0, 11.0))),
        ("touches", make_score(12.0, ends=(11.0, 13.0))),
        ("apart", make_score(12.1, ends=(11.1, 13.0))),
        ("level", make_score(12.0, ends=(10.0, 14.0), level=0.9)),
        ("equal", make_score(10.0)),
        ("none", make_score(None, status="NaN in logits")),
    )
    assert marks(made) == {
        "best": ["best"],
        "equal": ["best"],
        "touches": ["tie"],
        "apart": [""],
        "level": [""],
        "none": [""],
    }
    assert made.footnotes == ("no value: NaN in logits",)


@pytest.mark.parametrize(
    ("score", "cell"),
    [
        ((123.456, (120.0, 126.0), FRECHET, {}), ("123.5", "[120.0, 126.0]")),
        ((1709.4, (1706.3, 1712.4), FRECHET, {}), ("1709", "[1706, 1712]")),
        ((1.000159, (1.000143, 1.000175), {"splits": "1"}, {"metric": "is"}), ("1.000", "[1.000, 1.000]")),
        ((1.5, (-0.7, 3.7), FRECHET, {}), ("1.5", "[0.0, 3.7]")),
        ((1.2, (0.6, 1.8), {"splits": "1"}, {"metric": "is"}), ("1.20", "[1.00, 1.80]")),
        ((99.0, (95.0, 103.0), {"cap": "100dB"}, {"metric": "psnr"}), ("99.0", "[95.0, 100.0]")),
        ((0.98, (0.94, 1.02), {}, {"metric": "ssim/best-of-2"}), ("0.980", "[0.940, 1.000]")),
        (
            (-0.01, (-0.03, 0.01), {"kernel": "poly-d3-c1-unbiased"}, {"metric": "kvd"}),
            ("-0.010", "[-0.030, 0.010]"),
        ),
    ],
)
def test_digits_follow_the_interval_and_ends_the_range(
    score: tuple[Any, ...], cell: tuple[str, str], table: Make, make_score: Make
) -> None:
    value, ends, signed, fields = score
    (row,) = table(("a", make_score(value, ends=ends, signed=signed, **fields))).blocks[0].rows
    assert [(found.value, found.interval) for found in row.cells] == [cell]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (({"seed": 1}, {"seed": 2}), ["seed 1", "seed 2"]),
        (({"settings": {"w": 1, "s": "x"}}, {"settings": {"w": 2, "s": "x"}}), ["w 1", "w 2"]),
        (({"day": 4}, {"day": 5}), ["2026-03-04", "2026-03-05"]),
        (({"hour": 1}, {"hour": 2}), ["2026-03-04 01:00", "2026-03-04 02:00"]),
        (({}, {}), ["0", "1"]),
    ],
)
def test_equal_names_are_distinguished_by_what_differs(
    changes: tuple[dict[str, Any], ...], expected: list[str], make_record: Make, make_score: Make
) -> None:
    def build(*, day: int = 4, hour: int = 0, **sampler: Any) -> Record:
        created = datetime(2026, 3, day, hour, tzinfo=UTC)
        found: Record = make_record("a", make_score(), created=created, sampler=MODEL.model_copy(update=sampler))
        return found

    records = [build(**change) for change in changes]
    names = distinct_names(stored(make_record, *records, ("other", make_score())))
    assert names == [*(f"a ({hint})" for hint in expected), "other"]


def test_footnotes_of_all_rows_stand_at_the_head_of_the_block(
    table: Make, make_score: Make, make_record: Make
) -> None:
    few = ("few clips",)
    rows = [
        make_record(name, make_score(value, marks=few), departures=("half",), sampler=MODEL)
        for name, value in (("a", 1.0), ("b", 2.0))
    ]
    (block,) = table(*rows).blocks
    assert (block.notes, [cell.notes for cell in block.digests if cell]) == ((1,), [(2,)])
    assert all(row.notes == () and row.cells[0] and row.cells[0].notes == () for row in block.rows)


def test_text_and_latex_show_the_same_table(table: Make, make_score: Make) -> None:
    made = table(
        ("a_b", make_score(12.0, ends=(9.0, 15.0), floor=10.0, n=64), make_score(3.0, n=64, **IS)),
        ("c", make_score(20.0, ends=(19.0, 21.0), n=64), make_score(2.0, n=64, **IS)),
    )
    heads = [cell.value for cell in made.blocks[0].digests if cell]
    assert format_wide([made], "text").splitlines()[:7] == [
        "bair-prediction",
        "",
        "                          fvd ↓   95 % interval        is ↑   95 % interval",
        "───────────────────────────────────────────────────────────────────────────",
        f"N = 64, 256 real clips   {heads[0]}                      {heads[1]}",
        "a_b                      * 12.0   [9.0, 15.0] (1)   * 3.000",
        "c                          20.0   [19.0, 21.0]        2.000",
    ]
    latex = format_wide([made], "latex")
    assert r"\label{tab:bair-prediction}" in latex
    assert "a\\_b & \\textbf{12.0} {\\scriptsize [9.0, 15.0]}$^{1}$ & \\textbf{3.000} \\\\\n" in latex
    assert r"$^{1}$ not distinguishable from real clips at N = 64\par}" in latex
    assert latex.count("{") == latex.count("}")
    rows = format_wide([made], "latex", rows_only=True)
    assert rows.splitlines()[1:] == [
        r"a\_b & \textbf{12.0} {\scriptsize [9.0, 15.0]} & \textbf{3.000} \\",
        r"c & 20.0 {\scriptsize [19.0, 21.0]} & 2.000 \\",
    ]
    assert "| a\\_b | \\* 12.0 \\[9.0, 15.0\\] (1) | \\* 3.000 |" in format_wide([made], "markdown")


def test_runs_of_a_protocol_make_a_table(make_record: Make, make_score: Make) -> None:
    free = make_record("free", make_score(), protocol=None)
    found = wide_tables(stored(make_record, free, ("a", make_score()), make_record("empty")))
    assert [table.protocol for table in found] == ["bair-prediction", ""]
    assert format_wide(found, "text").count("no protocol\n") == 1
    assert wide_tables([]) == []
    assert (format_wide([], "text"), format_wide([], "latex")) == ("no scores\n", "% no scores\n")


def test_a_comparable_run_with_fewer_metrics_joins_the_block(table: Make, make_score: Make) -> None:
    other = make_score(7.0, signed={"prec": "bf16"})
    made = table(
        ("part", make_score(8.0, **IS)),
        ("full", make_score(5.0), make_score(9.0, **IS)),
        ("other", other),
    )
    assert [[row.name for row in block.rows] for block in made.blocks] == [["full", "part"], ["other"]]


@pytest.mark.parametrize(
    ("metric", "signed", "papers"),
    [
        ("fvd", {"net": "i3d-k400@fa7df956:logits", "root": "factor"}, ["1812.01717", "1705.07750"]),
        (
            "fvd/stylegan-v",
            {"net": "i3d-k400@fa7df956:logits", "root": "factor"},
            ["1812.01717", "1705.07750", "2112.14683"],
        ),
        ("embedded/fvd", {"net": "embedded@00ca9137:features", "root": "factor"}, ["1812.01717"]),
        ("c3d/fid", {"net": "c3d-ucf101@1:fc7", "root": "factor"}, ["1706.08500", "1412.0767", "1811.09245"]),
        ("is/frames-avg", {"net": "inception-2015@1:l", "splits": "1"}, ["1606.03498", "1512.00567"]),
        (
            "kvd",
            {"net": "i3d-k400@1:logits", "kernel": "poly-d3-c1-unbiased"},
            ["1812.01717", "1801.01401", "1705.07750"],
        ),
        ("prdc/recall", {"net": "i3d-k400@1:logits", "knn": "5"}, ["1904.06991", "1705.07750"]),
        ("prdc/density", {"net": "i3d-k400@1:logits", "knn": "5"}, ["2002.09797", "1705.07750"]),
        ("psnr", {"cap": "100dB"}, []),
        ("ssim", {"kernel": "gauss11-1.5-reflect"}, []),
    ],
)
def test_a_metric_is_cited_by_its_papers(
    metric: str, signed: dict[str, str], papers: list[str], make_score: Make
) -> None:
    score: Score = make_score(metric=metric, signed=signed)
    assert sources([score]) == [f"arXiv:{paper}" for paper in papers]
    keys = re.findall(r"^@misc\{(\w+),", citations([score]), re.MULTILINE)
    assert len(keys) == len(papers)
    (sentence,) = appendix([score])
    assert (f"\\cite{{{','.join(keys)}}}" in sentence) == bool(papers)


def test_the_appendix_says_every_setting_of_a_signature(make_score: Make) -> None:
    signed = {
        "net": "i3d-k400@fa7df956:logits",
        "in": "16x64x48>224:tf1-bilinear:stretch",
        "fps": "8",
        "task": "unconditional",
        "ref": "bair/test/main/256",
        "src": "lossless",
        "cov": "n-1",
        "root": "factor",
        "prec": "fp32",
    }
    score = make_score(metric="fvd", signed=signed)
    (sentence,) = appendix([score])
    assert sentence == (
        r"\texttt{fvd}~\cite{unterthiner2018towards,carreira2017quo} was computed with vdm-bench 0.1.0 "
        rf"(digest \texttt{{{score.digest}}}): Frechet distance on the logits of i3d-k400 (weights fa7df956); "
        "256 generated clips against 256 reference clips (bair/test/main); 16 frames of 48x64 pixels, resized to "
        "224x224 (resize rule tf1-bilinear, aspect rule stretch); sampled at 8 frames per second; task "
        "unconditional; lossless generated clips; covariance divisor n-1; root rule factor; precision fp32."
    )
    odd = make_score(metric="mine", signed={"in": "16x64x64/16x32x32>8:antialias:stretch", "net": "odd"})
    (sentence,) = appendix([odd])
    assert "score on odd" in sentence
    assert "input 16x64x64/16x32x32\\textgreater{}8:antialias:stretch" in sentence


def test_the_bibtex_entries_are_complete() -> None:
    for source, entry in bibtex_entries().items():
        assert f"url = {{https://arxiv.org/abs/{source.removeprefix('arXiv:')}}}" in entry
        assert entry.count("{") == entry.count("}")
        assert re.search(r"^  title = \{.+\},\n  author = \{.+\},\n  year = \{\d{4}\},$", entry, re.MULTILINE)


def test_wrong_formats_are_refused(table: Make, make_score: Make) -> None:
    made = table(("a", make_score()))
    with pytest.raises(
        InputError, match="'html' is not a format of wide tables; choose one of text, markdown, latex"
    ):
        format_wide([made], "html")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="choose the format latex"):
        format_wide([made], "text", rows_only=True)


@pytest.fixture
def folder(make_record: Make, make_score: Make, tmp_path: Path) -> Path:
    for name, value in (("a", 1.0), ("b", 2.0)):
        scores = (make_score(value, signed=FRECHET), make_score(9.0, **IS))
        write_record(make_record(name, *scores, sampler=MODEL), tmp_path / name / "run.json")
    return tmp_path


def call(*args: object) -> Any:
    return CliRunner().invoke(cli, [*map(str, args)])


def test_reports_of_several_metrics_are_wide_by_default(folder: Path) -> None:
    wide = call("report", folder).stdout
    assert wide.startswith("bair-prediction\n\n")
    assert call("report", folder, "--wide").stdout == wide
    by_metric = call("report", folder, "--by-metric").stdout
    assert by_metric.startswith("fvd ↓\n")
    assert by_metric.count("signature") == 2
    assert call("report", folder, "--format", "markdown").stdout.startswith("### fvd ↓\n")
    assert call("report", folder, "--format", "latex").stdout.count(r"\begin{table}") == 1
    assert r"\begin{table}" not in call("report", folder, "--format", "latex", "--rows-only").stdout
    assert "@misc{unterthiner2018towards," in call("report", folder, "--citation").stdout


def test_reports_of_one_metric_keep_their_details(folder: Path, make_record: Make, make_score: Make) -> None:
    write_record(make_record("c", make_score(3.0)), folder / "one" / "run.json")
    assert call("report", folder / "one").stdout.startswith("fvd ↓\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--format json --wide", "--format json has no wide table"),
        ("--format html --wide -o x.html", "--format html has no wide table"),
        ("--rows-only", "--rows-only is for wide LaTeX tables"),
        ("--format latex --rows-only --by-metric", "--rows-only is for wide LaTeX tables"),
        ("--citation --format latex", "--citation prints BibTeX"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: str, message: str, folder: Path) -> None:
    result = call("report", folder, *options.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"Error: {message}")


def test_a_hostile_name_is_harmless_in_every_format(make_record: Make, make_score: Make) -> None:
    score = replace(make_score(1.0), status="ok", marks=("\x1b[31m & % <b>",))
    found = wide_tables(stored(make_record, (r"\input{x} & $y$ | <b>", score)))
    assert "\x1b" not in format_wide(found, "text")
    assert r"\textbackslash{}input\{x\} \& \$y\$" in format_wide(found, "latex")
    assert r"\\input{x} &amp; \$y\$ \| &lt;b&gt;" in format_wide(found, "markdown")
