"""Pages as a reader meets them: in a real browser, offline, by mouse, keyboard and screen reader."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from page_runs import ATTACKS, FRAMES, LEVEL, write_runs

from vdm_bench.pages.write import write_html, write_html_site

sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")

CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("needs a browser: apt-get install chromium", allow_module_level=True)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")
# What the policy refused, kept for the test to ask for.
WATCH = "window.refused = []; addEventListener('securitypolicyviolation', e => refused.push(e.blockedURI));"
# Whether every video shows the frame that it was set to.
SETTLED = "videos => videos.every(video => !video.seeking && video.readyState > 1)"
# The gray of the middle of every video that is shown.
GRAYS = """videos => videos.map(video => {
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d");
  context.drawImage(video, 0, 0, 1, 1);
  return context.getImageData(0, 0, 1, 1).data[0];
})"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, make_record: Any, make_score: Any, make_counts: Any) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    write_runs(folder / "runs", make_record, make_score, make_counts)
    (folder / "runs" / "broken").mkdir()
    (folder / "runs" / "broken" / "run.json").write_text('{"schema_version": 1}')
    write_html([folder / "runs"], folder / "report.html")
    write_html([folder / "runs"], folder / "li nked#.html", embed=0)
    write_html_site([folder / "runs"], folder / "site")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS])
        yield browser
        browser.close()


class Watched:
    """A page, and everything it did that a page should not do."""

    def __init__(self, page: Any, path: Path) -> None:
        self.page = page
        self.requests: list[str] = []
        self.faults: list[str] = []
        page.add_init_script(WATCH)
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("requestfailed", lambda request: self.faults.append(f"failed: {request.url}"))
        page.on("console", lambda message: self.faults.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (self.faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.goto(path.as_uri())

    def behaved(self) -> bool:
        """Whether it asked for nothing but itself, and nothing went wrong."""
        assert self.faults == []
        assert self.page.evaluate("refused") == []
        assert [url for url in self.requests if not url.startswith("data:")] == [self.page.url.partition("#")[0]]
        return True


@pytest.fixture
def opened(site: Path, browser: Any) -> Iterator[Callable[..., Watched]]:
    contexts = []

    def visit(name: str, **how: Any) -> Watched:
        contexts.append(browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **how}))
        return Watched(contexts[-1].new_page(), site / name)

    yield visit
    for context in contexts:
        context.close()


def own_table(watched: Watched) -> Any:
    """The table of the runs that were guided, and of those that attack."""
    return watched.page.locator("table.scores", has_text="guided 0").first


def own_group(watched: Watched) -> Any:
    """Their group in that table."""
    return own_table(watched).locator("tbody", has_text="guided 0")


def names(part: Any) -> list[str]:
    return part.locator("tr.row:visible th").all_inner_texts()


def eventually(page: Any, holds: Callable[[], bool]) -> None:
    """Wait until something holds. `wait_for_function` would ask a second time by `eval`, which pages forbid."""
    for _ in range(200):
        if holds():
            return
        page.wait_for_timeout(50)
    assert holds()


@pytest.mark.parametrize("name", ["report.html", "site/index.html", "site/bair-prediction.html"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360])
def test_axe_finds_no_violation(opened: Callable[..., Watched], name: str, scheme: str, width: int) -> None:
    watched = opened(name, color_scheme=scheme, viewport={"width": width, "height": 900})
    watched.page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    found = axe.Axe().run(watched.page)
    assert found.violations_count == 0, found.generate_report()
    assert watched.behaved()


def test_a_page_asks_for_nothing_and_nothing_goes_wrong(opened: Callable[..., Watched]) -> None:
    watched = opened("report.html", offline=True)
    watched.page.mouse.wheel(0, 20000)
    shown = "[...document.images].every(image => image.complete && image.naturalWidth > 0)"
    eventually(watched.page, lambda: watched.page.evaluate(shown))
    assert watched.behaved()


@pytest.mark.parametrize("width", [1040, 1200])
def test_no_column_hides_where_there_is_room_for_it(opened: Callable[..., Watched], width: int) -> None:
    """A plot stands beside a table only if the table keeps its width."""
    watched = opened("report.html", viewport={"width": width, "height": 900})
    boxes = watched.page.locator(".scroll:has(table.scores)").evaluate_all(
        "all => all.map(x => x.scrollWidth - x.clientWidth)"
    )
    assert boxes
    assert max(boxes) == 0


def test_rows_are_sorted_by_the_buttons_in_the_titles(opened: Callable[..., Watched]) -> None:
    watched = opened("report.html")
    table = own_table(watched)
    title = table.get_by_role("columnheader", name="95 % interval")
    guided = ["guided 1", "guided 0", "guided 4"]
    group = own_group(watched)
    assert names(group)[:3] == guided
    assert title.get_attribute("aria-sort") is None
    title.get_by_role("button").click()
    assert (title.get_attribute("aria-sort"), names(group)[:3]) == ("ascending", guided)
    title.get_by_role("button").click()
    assert (title.get_attribute("aria-sort"), names(group)[:3]) == ("descending", guided[::-1])
    assert sorted(names(group)[3:]) == sorted(ATTACKS)  # they have no interval, and stay last
    other = table.get_by_role("columnheader", name="model")
    other.get_by_role("button").click()
    assert (title.get_attribute("aria-sort"), other.get_attribute("aria-sort")) == (None, "ascending")
    assert [name for name in names(group) if name in guided] == sorted(guided)
    assert watched.behaved()


def test_a_table_is_sorted_from_the_keyboard(opened: Callable[..., Watched]) -> None:
    watched = opened("report.html")
    table = own_table(watched)
    table.get_by_role("columnheader", name="value").get_by_role("button").focus()
    watched.page.keyboard.press("Shift+Tab")
    watched.page.keyboard.press("Enter")
    watched.page.keyboard.press("Space")
    assert table.get_by_role("columnheader", name="model").get_attribute("aria-sort") == "descending"
    assert watched.behaved()


def test_rows_are_filtered_and_counted_aloud(opened: Callable[..., Watched]) -> None:
    watched = opened("report.html")
    count = watched.page.locator("#shown")
    total = watched.page.locator("[data-hide] tr.row").count()
    assert count.get_attribute("role") == "status"
    assert count.inner_text() == f"{total} of {total} rows shown"
    box = watched.page.get_by_role("searchbox", name="Show rows with")
    box.fill("GUIDED 4")
    assert names(own_table(watched)) == ["guided 4"]
    assert count.inner_text() == f"3 of {total} rows shown"  # in fvd, psnr and all metrics
    box.fill("no such row")
    assert count.inner_text() == f"0 of {total} rows shown"
    box.fill("")
    assert count.inner_text() == f"{total} of {total} rows shown"
    assert watched.behaved()


@pytest.mark.parametrize("script", [True, False])
def test_all_groups_but_the_chosen_one_are_dimmed(opened: Callable[..., Watched], script: bool) -> None:
    """By the style alone: without a script, too."""
    watched = opened("site/bair-prediction.html", java_script_enabled=script)
    table = watched.page.locator("table.scores").first
    cells = [table.get_by_role("cell", name=text, exact=True) for text in ("66.92", "62 ± 0.1")]

    def colours() -> list[str]:
        return [cell.evaluate("cell => getComputedStyle(cell).color") for cell in cells]

    first = colours()
    assert first[0] != first[1]
    table.get_by_role("radio", name="another camera view").check()
    assert colours() == first[::-1]


def test_rows_are_filtered_by_their_conditions(opened: Callable[..., Watched]) -> None:
    watched = opened("site/bair-prediction.html")
    table = watched.page.locator("table.scores").first
    watched.page.get_by_label("camera").first.select_option("main")
    assert names(table) == ["Video Diffusion Langevin 256 steps", "Video Diffusion ancestral 512 steps"]
    assert not table.get_by_role("radio", name="another camera view").is_visible()
    watched.page.get_by_label("camera").first.select_option("all")
    assert "MAGVIT-L-FP" in names(table)
    assert watched.behaved()


def test_tables_and_signatures_are_copied(opened: Callable[..., Watched]) -> None:
    watched = opened("report.html", permissions=["clipboard-read", "clipboard-write"])
    watched.page.get_by_text("Copy as LaTeX or CSV").first.click()
    for name in ("LaTeX", "CSV"):
        button = watched.page.get_by_role("button", name=f"Copy {name}").first
        button.click()
        watched.page.get_by_role("button", name="Copied").first.wait_for()
        copied = watched.page.evaluate("navigator.clipboard.readText()")
        assert copied == watched.page.locator(f"#table-1-{name}").text_content()
    assert copied.startswith("group,rank,model,value,")
    watched.page.get_by_text("Signatures of the runs").first.click()
    watched.page.get_by_role("button", name="Copy", exact=True).first.click()
    copied = "fvd|n:256|v:0.1.0"
    eventually(watched.page, lambda: watched.page.evaluate("navigator.clipboard.readText()") == copied)
    assert watched.behaved()


def test_a_name_leads_to_the_runs_details(opened: Callable[..., Watched]) -> None:
    watched = opened("report.html")
    details = watched.page.locator("details.run", has_text="guided 4")
    assert not details.get_by_text("guidance_weight").is_visible()
    own_table(watched).get_by_role("link", name="guided 4").click()
    details.get_by_text("guidance_weight").wait_for(state="visible")
    assert watched.behaved()


@pytest.mark.parametrize("name", ["report.html", "site/bair-prediction.html"])
def test_hostile_names_stay_text(opened: Callable[..., Watched], name: str) -> None:
    watched = opened(name)
    watched.page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    text = watched.page.locator("body").inner_text()
    for attack in ATTACKS:
        assert text.count(attack) > 10, attack
        assert attack in names(own_table(watched))
    assert watched.page.locator("script, style").count() == 3
    assert watched.page.locator("iframe, object, embed, svg, base, form, link").count() == 0
    attributes = watched.page.evaluate(
        "[...document.querySelectorAll('*')].flatMap(e => e.getAttributeNames()).filter(n => n.startsWith('on'))"
    )
    assert attributes == []
    assert watched.behaved()


def video_times(page: Any) -> list[float]:
    times: list[float] = page.locator("video").evaluate_all("videos => videos.map(video => video.currentTime)")
    return times


@pytest.mark.parametrize("name", ["report.html", "li nked#.html"])
def test_the_gallery_plays_in_step_on_demand(opened: Callable[..., Watched], name: str) -> None:
    watched = opened(name)
    page, videos = watched.page, watched.page.locator("video")
    assert videos.count() == 3 * 4
    for flag in ("controls", "muted", "loop", "playsinline", "poster"):
        assert videos.evaluate_all(f"videos => videos.every(video => video.hasAttribute('{flag}'))")
    assert videos.evaluate_all("videos => videos.every(video => video.paused && video.networkState !== 2)")
    page.get_by_role("button", name="Play all").click()
    page.get_by_text("Playing").wait_for()
    whole = "video.played.length > 0 && video.played.end(video.played.length - 1) > video.duration - 0.2"
    eventually(page, lambda: videos.evaluate_all(f"videos => videos.every(video => {whole})"))
    assert videos.evaluate_all("videos => videos.every(video => !video.paused)")  # it begins again
    times = video_times(page)
    assert max(times) - min(times) < 1 / 8, times
    page.get_by_role("button", name="Pause").click()
    assert videos.evaluate_all("videos => videos.every(video => video.paused)")
    if name == "report.html":
        assert watched.behaved()
    else:
        assert watched.faults == []
        assert {Path(url).parent.name for url in watched.requests[1:]} == {"li%20nked%23-clips"}


def test_frames_step_together_and_go_round(opened: Callable[..., Watched]) -> None:
    watched = opened("report.html")
    page = watched.page
    status = page.locator(".controls [role=status]")

    def shown() -> int:
        """Step by step the frame that all videos show, told by its gray."""
        # Not by `wait_for_function`: it asks a second time by `eval`, which the page forbids.
        for _ in range(200):
            page.wait_for_timeout(50)
            if page.locator("video").evaluate_all(SETTLED):
                break
        page.wait_for_timeout(150)
        grays = page.locator("video").evaluate_all(GRAYS)
        found = {round(gray / LEVEL) for gray in grays}
        assert len(found) == 1, grays
        return found.pop()

    for frame in range(3):
        page.get_by_role("button", name="Frame on").click()
        page.get_by_text(f"Frame {frame + 1} of {FRAMES}").wait_for()
        assert shown() == frame
    page.get_by_role("button", name="Frame back").click()
    page.get_by_text(f"Frame 2 of {FRAMES}").wait_for()
    assert shown() == 1
    for _ in range(2):
        page.get_by_role("button", name="Frame back").click()
    page.get_by_text(f"Frame {FRAMES} of {FRAMES}").wait_for()
    assert shown() == FRAMES - 1
    assert status.inner_text() == f"Frame {FRAMES} of {FRAMES}"
    assert watched.behaved()


def test_on_paper_all_runs_are_open_and_nothing_is_cut(opened: Callable[..., Watched]) -> None:
    watched = opened("report.html")
    assert watched.page.locator("details.run[open]").count() == 0
    watched.page.pdf()
    assert watched.page.locator("details.run:not([open])").count() == 0
    watched.page.emulate_media(media="print")
    assert watched.page.locator(".scroll").evaluate_all(
        "boxes => boxes.every(box => getComputedStyle(box).overflowX === 'visible')"
    )
    assert not watched.page.get_by_role("searchbox").is_visible()


@pytest.mark.parametrize("name", ["report.html", "site/index.html", "site/bair-prediction.html"])
@pytest.mark.parametrize("width", [390, 360])
def test_on_a_phone_no_cell_is_cut(opened: Callable[..., Watched], name: str, width: int) -> None:
    watched = opened(name, viewport={"width": width, "height": 700})
    watched.page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    assert watched.page.evaluate("document.documentElement.scrollWidth") == width
    cut = f"all => all.filter(x => x.getBoundingClientRect().right > {width}).map(x => x.textContent)"
    cells = watched.page.locator("tbody th, tbody td")
    assert cells.count() > 40
    assert cells.evaluate_all(cut) == []
    assert watched.page.locator(".scroll").evaluate_all("all => all.every(x => x.scrollWidth <= x.clientWidth)")


def test_without_script_everything_can_be_read(opened: Callable[..., Watched]) -> None:
    watched = opened("report.html", java_script_enabled=False)
    assert "guided 4" in names(own_table(watched))
    assert not watched.page.get_by_role("searchbox").is_visible()
    assert not watched.page.get_by_role("button", name="Play all").is_visible()


def test_the_index_leads_to_the_pages_and_back(opened: Callable[..., Watched]) -> None:
    watched = opened("site/index.html")
    watched.page.get_by_role("link", name="bair-prediction", exact=True).click()
    assert watched.page.get_by_role("heading", level=1).inner_text() == "bair-prediction"
    watched.page.get_by_role("link", name="All protocols").click()
    assert watched.page.get_by_role("heading", level=1).inner_text() == "Leaderboards"


def test_a_record_that_is_not_sound_is_named_and_the_others_shown(opened: Callable[..., Watched]) -> None:
    watched = opened("report.html")
    watched.page.get_by_text("All warnings").click()
    left = watched.page.locator("#warnings li", has_text="Left out").inner_text()
    assert "broken/run.json is not a run record: name: the field is missing" in left
