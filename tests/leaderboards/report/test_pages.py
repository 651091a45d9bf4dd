"""Pages without a browser: what they hold, that they hold nothing else, and that they are the same every time."""

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from page_runs import ATTACKS, write_runs
from records import with_reasons

from vdm_bench.errors import InputError
from vdm_bench.leaderboards.published import paper, published_rows
from vdm_bench.leaderboards.record import ProtocolInfo, Record, read_record, write_record
from vdm_bench.leaderboards.report import (
    EncodedClip,
    Gallery,
    GalleryRow,
    PageOptions,
    Runs,
    read_runs,
    write_report,
    write_site,
)
from vdm_bench.leaderboards.report.gallery import with_addresses

Make = Callable[..., Any]
TEMPLATES = resources.files("vdm_bench.leaderboards.report") / "templates"


class Parsed(HTMLParser):
    """A page as a list of elements, and the texts in them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self._open[-1] if self._open else "", []).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def read(folder: Path, reason: str = "a test") -> Runs:
    """Read runs that stand apart from published rows for a reason; empty if they do not."""
    runs = read_runs([folder])
    return replace(runs, frame=with_reasons(runs.frame, lambda row: reason))


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, make_record: Make, make_score: Make, make_counts: Make
) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    write_runs(folder, make_record, make_score, make_counts)
    return folder


@pytest.fixture(scope="module")
def page(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(read(folder), path, PageOptions((gallery(2, 3),)))
    return path.read_text("utf-8")


def gallery(rows: int, columns: int, size: int = 100) -> Gallery:
    """A gallery of videos that are no videos, of a size each."""

    def video(row: int, column: int) -> EncodedClip:
        return EncodedClip(bytes([row, column]) * (size // 2), b"poster", 16)

    names = tuple(f"model {number}" for number in range(columns))
    videos = [
        GalleryRow(f"clip {row}", tuple(video(row, column) for column in range(columns))) for row in range(rows)
    ]
    return Gallery("bair-prediction", "bair-prediction", names, tuple(videos), 8.0)


def written(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_runs_give_the_same_bytes_wherever_they_lie(folder: Path, tmp_path: Path) -> None:
    """In another process with another hash seed, time zone and language, from another folder; paths are text."""
    shutil.copytree(folder, tmp_path / "moved")
    program = (
        "import sys; from vdm_bench.pages.write import write_html, write_html_site\n"
        "runs, out = sys.argv[1:]\n"
        "write_html([runs], f'{out}/report.html'); write_html_site(runs, f'{out}/site')"
    )
    made = []
    for number, runs in enumerate((folder, tmp_path / "moved")):
        out = tmp_path / f"out{number}"
        around = {
            "PYTHONHASHSEED": str(number),
            "TZ": ("UTC", "Asia/Tokyo")[number],
            "LC_ALL": ("C", "C.UTF-8")[number],
        }
        subprocess.run([sys.executable, "-c", program, runs, out], check=True, env={**os.environ, **around})
        made.append(written(out))
    assert made[0] == made[1]
    assert set(made[0]) > {"report.html", "site/index.html", "site/bair-prediction.html"}


def test_a_page_refers_to_nothing_outside(page: str) -> None:
    parsed = Parsed(page)
    addresses = [
        attributes[name] or ""
        for tag, attributes in parsed.elements
        if tag != "a" or (attributes["href"] or "").startswith("#")
        for name in ("src", "href", "poster", "srcset", "data", "action")
        if name in attributes
    ]
    assert {address.partition(",")[0].partition(";")[0] for address in addresses if address[0] != "#"} == {
        "data:image/png",
        "data:image/svg+xml",
        "data:video/mp4",
    }
    papers = {paper(row.source) for row in published_rows("bair-prediction")}
    outside = {a["href"] for a in parsed.all("a") if not (a["href"] or "").startswith("#")}
    assert outside == {url for entry in papers for url in (entry.url, entry.code) if url}
    anchors = {attributes["id"] for _, attributes in parsed.elements if "id" in attributes}
    assert {address[1:] for address in addresses if address[0] == "#"} <= anchors
    assert not any("style" in attributes for _, attributes in parsed.elements)
    for plot in parsed.all("img"):
        assert plot["alt"]
        svg = base64.b64decode((plot["src"] or "").partition(",")[2]).decode()
        assert "<script" not in svg
        assert 'href="http' not in svg
        assert "url(http" not in svg


def test_the_policy_lets_nothing_run_but_the_pages_own_script_and_style(page: str) -> None:
    parsed = Parsed(page)
    (policy,) = [
        m["content"] or "" for m in parsed.all("meta") if m.get("http-equiv") == "Content-Security-Policy"
    ]
    directives = dict(directive.split(" ", 1) for directive in policy.split("; "))
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        digests = [
            base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in parsed.texts[tag]
        ]
        assert directives.pop(directive) == " ".join(f"'sha256-{digest}'" for digest in digests)
    assert directives == {
        "default-src": "'none'",
        "img-src": "data:",
        "media-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    head = page.index("<meta http-equiv")
    assert head < page.index("<style") < page.index("<script")


def test_each_script_is_at_most_100_lines() -> None:
    scripts = [file for file in TEMPLATES.iterdir() if file.name.endswith(".js")]
    assert [script.name for script in scripts if script.read_text().count("\n") > 100] == []
    assert {script.name for script in scripts} == {"tables.js", "clips.js"}


def test_hostile_texts_are_texts(page: str) -> None:
    parsed = Parsed(page)
    whole = "".join(text for texts in parsed.texts.values() for text in texts)
    for attack in ATTACKS:
        assert whole.count(attack) > 10
    tags = {tag for tag, _ in parsed.elements}
    assert not tags & {"svg", "iframe", "object", "embed", "base", "form", "link"}
    assert (len(parsed.all("script")), len(parsed.all("style"))) == (2, 1)
    names = {name for _, attributes in parsed.elements for name in attributes}
    assert not {name for name in names if name.startswith("on")}


def test_what_cannot_be_seen_is_spelt_out(tmp_path: Path, make_record: Make, make_score: Make) -> None:
    record = make_record("model", make_score(1.0, marks=("a\u202eb\x1b[2J\nc",)))
    write_record(record, tmp_path / "run.json")
    write_report(read(tmp_path), tmp_path / "page.html", PageOptions())
    text = (tmp_path / "page.html").read_text("utf-8")
    assert "a\\u202eb\\x1b[2J\\nc" in text
    assert {c for c in text if not c.isprintable()} == {"\n"}


def test_every_number_of_a_record_is_on_the_page(folder: Path, page: str) -> None:
    for path in folder.rglob("run.json"):
        record = read_record(path)
        for score in record.scores:
            assert f"<dd>{score.signature}</dd>" in page
            assert f"<dd>{score.digest}</dd>" in page
            if score.value is not None:
                assert f"<dd>{score.value}</dd>" in page
                assert f'data-key="{score.value}"' in page
        for package, version in record.environment.packages.items():
            assert f"<dt>{package}</dt><dd>{version}</dd>" in page


def test_a_warning_stands_once_with_the_names(tmp_path: Path, make_record: Make, make_score: Make) -> None:
    for number in range(7):
        record = make_record(f"model {number}", make_score(1.0, marks=("few clips",)), departures=("half of it",))
        write_record(record, tmp_path / str(number) / "run.json")
    write_report(read(tmp_path), tmp_path / "page.html", PageOptions())
    text = (tmp_path / "page.html").read_text("utf-8")
    names = "(model 0, model 1, model 2, model 3, 3 more)"
    for warning in ("departs from its protocol: half of it", "fvd: few clips"):
        assert text.count(f'<li>{warning} <span class="names">{names}</span></li>') == 1


def test_a_record_that_is_not_sound_is_left_out_by_name(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "0", tmp_path / "good")
    (tmp_path / "bad").mkdir()
    shutil.copy(folder / "0" / "run.json", tmp_path / "bad" / "run.json")
    text = (tmp_path / "bad" / "run.json").read_text()
    (tmp_path / "bad" / "run.json").write_text(text.replace('"schema_version": 1', '"schema_version": 2'))
    runs = read_runs([tmp_path])
    assert [run.record.name for run in runs.runs] == ["guided 0"]
    (sentence,) = runs.left_out
    assert sentence.startswith(f"{tmp_path}/bad/run.json was written by a newer version")
    with pytest.raises(InputError, match="newer version"):
        read_runs([tmp_path / "bad"])
    with pytest.raises(InputError, match="newer version"):
        read_runs([tmp_path, tmp_path / "bad" / "run.json"])


def test_copies_of_a_run_have_anchors_of_their_own(folder: Path, tmp_path: Path) -> None:
    for copy in "ab":
        shutil.copytree(folder / "0", tmp_path / copy)
    first, second = read_runs([tmp_path]).runs
    assert second.anchor == f"{first.anchor}-2"


def test_videos_are_embedded_by_rows_while_the_budget_lasts(tmp_path: Path) -> None:
    (done,) = with_addresses([gallery(rows=3, columns=2, size=100)], tmp_path / "my page.html", budget=450)
    linked = [[video is not None and video.linked for video in row.clips] for row in done.rows]
    assert linked == [[False, False], [False, False], [True, True]]
    video = done.rows[2].clips[1]
    assert video is not None
    assert video.address == f"my%20page-clips/{hashlib.sha256(video.video).hexdigest()[:16]}.mp4"
    assert (tmp_path / "my page-clips" / Path(video.address).name).read_bytes() == video.video
    assert len(list((tmp_path / "my page-clips").iterdir())) == 2


def test_videos_beside_the_page_are_all_that_the_policy_opens(folder: Path, tmp_path: Path) -> None:
    options = PageOptions((gallery(1, 1),), embed=0)
    write_report(read(folder / "0"), tmp_path / "page.html", options)
    assert "media-src data: &#39;self&#39;;" in (tmp_path / "page.html").read_text()


def own_run(make_record: Make, make_score: Make) -> Record:
    return make_record("mine", make_score(67.5, ends=(66.0, 69.0)))


def rows_of(page: str, metric: str) -> Iterator[list[str]]:
    """The names in each group of a metric's table."""
    for part in page.split('<div class="group">')[1:]:
        table = part.partition("</table>")[0]
        if Parsed(table).texts["h3"][0].strip() == metric:
            for group in table.split("<tbody")[1:]:
                parsed = Parsed(f"<tbody{group}")
                yield [t for tag in ("th", "a") for t in parsed.texts.get(tag, []) if t.strip()]


def test_published_rows_stand_beside_a_run_that_follows_the_protocol(
    tmp_path: Path, make_record: Make, make_score: Make
) -> None:
    write_record(own_run(make_record, make_score), tmp_path / "run.json")
    published = [row.method for row in published_rows("bair-prediction") if not row.group]
    assert published
    for reason, together in (("", True), ("a test", False)):
        write_report(read(tmp_path, reason), tmp_path / "page.html", PageOptions())
        tables = list(rows_of((tmp_path / "page.html").read_text("utf-8"), "fvd"))
        (first,) = [table for table in tables if set(published) <= set(table)]
        assert ("mine" in first) is together
        assert any("mine" in table for table in tables)


def test_a_site_has_a_page_for_every_protocol(folder: Path, tmp_path: Path) -> None:
    index = write_site(read(folder), tmp_path / "site", PageOptions((gallery(1, 1),)))
    names = {row.protocol for row in published_rows()} | {"bair-prediction"}
    assert {path.stem for path in index.parent.iterdir()} == {"index", *names}
    links = [
        a["href"] for a in Parsed(index.read_text("utf-8")).all("a") if not re.match("#|https:", a["href"] or "")
    ]
    assert sorted(links) == sorted(f"{name}.html" for name in names)
    assert "<video" in (tmp_path / "site" / "bair-prediction.html").read_text("utf-8")
    assert "<video" not in (tmp_path / "site" / "kinetics600-prediction.html").read_text("utf-8")


def test_hostile_protocols_get_harmless_files(tmp_path: Path, make_record: Make, make_score: Make) -> None:
    names = ["../../etc/passwd", "index", "Index", "<script>", "a/b", "x" * 300, " ", "con", "ü"]
    for number, name in enumerate(names):
        protocol = ProtocolInfo(name=name, digest="d", departures=[])
        record = make_record(f"model {number}", make_score(1.0), protocol=protocol)
        write_record(record, tmp_path / "runs" / str(number) / "run.json")
    write_site(read(tmp_path / "runs"), tmp_path / "site", PageOptions())
    known = {row.protocol for row in published_rows()} | {"index"}
    pages = [path for path in (tmp_path / "site").iterdir() if path.stem not in known]
    assert len({page.name.casefold() for page in pages}) == len(names)
    for page in pages:
        assert page.stem.isascii()
        assert page.stem.replace("-", "").isalnum()
        assert len(page.stem) < 80
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "site"]
    shown = [
        [f">model {number}</a>" in page.read_text("utf-8") for number in range(len(names))] for page in pages
    ]
    assert sorted(row.index(True) for row in shown) == list(range(len(names)))


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_hundreds_of_runs_are_all_there(count: int, tmp_path: Path, make_record: Make, make_score: Make) -> None:
    protocols = ("bair-prediction", "shapes-class", "ucf101-unconditional", "mine")
    for number in range(1000):
        protocol = ProtocolInfo(name=protocols[number % 4], digest="d", departures=[])
        score = make_score(10.0 + number, ends=(9.0 + number, 11.0 + number))
        record = make_record(f"model {number}", score, protocol=protocol)
        write_record(record, tmp_path / "runs" / str(number) / "run.json")
    runs = read(tmp_path / "runs")
    write_site(runs, tmp_path / "a", PageOptions())
    write_site(read(tmp_path / "runs"), tmp_path / "b", PageOptions())
    assert written(tmp_path / "a") == written(tmp_path / "b")
    for place, protocol in enumerate(protocols):
        parsed = Parsed((tmp_path / "a" / f"{protocol}.html").read_text("utf-8"))
        assert list(dict.fromkeys(text for text in parsed.texts["a"] if text.startswith("model "))) == [
            f"model {number}" for number in range(place, 1000, 4)
        ]
