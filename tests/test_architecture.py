"""The house: floors, loose files, circles, names; each rule tried on the project, and on one that breaks it."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import architecture
import pytest
from architecture import Project, make_project
from paths import ROOT

FOLDERS = {"vdm_bench": "vdm_bench"} | {
    name: f"vdm_bench.{name}" for name in ("leaderboards", "metrics", "reference_model")
}
PROJECT = architecture.read_project(ROOT, FOLDERS)

# From the ground up. A module imports from floors below its own, and from its own room.
FLOORS = [
    set(floor) for floor in reversed(tomllib.loads((ROOT / "docs/architecture.toml").read_text("utf-8"))["floor"])
]
# The libraries are used without the harness; `leaderboards` needs of the metrics what a score is.
WALLS = {
    "metrics": ("errors", "runtime", "version"),
    "reference_model": ("errors", "runtime", "version"),
    "leaderboards": ("errors", "runtime", "version", "metrics.score", "metrics.jackknife"),
}
LOOSE = {
    "vdm_bench": {"__main__", "errors", "version", "pytest_plugin"},
    "vdm_bench.leaderboards": {"published", "ranking", "record", "schema", "store", "text", "verified"},
    "vdm_bench.reference_model": {
        *("attention", "checkpoint", "config", "embeddings", "guidance", "layers", "model", "noise"),
        *("conditional", "observations", "process", "rollout", "samplers", "settings", "unet"),
    },
}
# Many small files of one kind, each found by its name.
PLUG_INS = {
    *("vdm_bench.cli", "vdm_bench.datasets", "vdm_bench.samplers", "vdm_bench.metrics.networks"),
    *("vdm_bench.leaderboards.report", "vdm_bench.leaderboards.trackers"),
}


def small(**texts: str) -> Project:
    """A project of modules `a__b` -> `vdm_bench.a.b`; a name that ends in `__` is a package."""
    named = {f"vdm_bench.{name.replace('__', '.')}": (text, False) for name, text in texts.items()}
    rooms = {name.rpartition(".")[0] for name in named} | {"vdm_bench"}
    return make_project({**dict.fromkeys(rooms, ("", True)), **named})


def sentences(found: Iterator[str]) -> list[str]:
    return list(found)


def loose(project: Project) -> Iterator[str]:
    for package, expected in LOOSE.items():
        yield from architecture.loose_files(project, package, expected)


RULES: dict[str, Callable[[Project], Iterator[str]]] = {
    "floors": lambda project: architecture.arrows_up(project, FLOORS),
    "walls": lambda project: architecture.walls_broken(project, WALLS),
    "circles": architecture.circles,
    "loose files": loose,
    "prefixes": architecture.prefix_families,
    "sizes": lambda project: architecture.small_rooms(project, PLUG_INS),
    "functions": architecture.long_functions,
    "names": architecture.names_with_two_meanings,
}


@pytest.mark.parametrize("rule", RULES)
def test_the_house_keeps_the_rule(rule: str) -> None:
    assert sentences(RULES[rule](PROJECT)) == []


@pytest.mark.parametrize(
    ("rule", "texts", "expected"),
    [
        ("floors", {"video__a": "def f():\n    import vdm_bench.scoring.b", "scoring__b": ""}, "floor below"),
        ("floors", {"video__a": "from vdm_bench.leaderboards import b", "leaderboards__b": ""}, "floor below"),
        ("floors", {"video__a": "from vdm_bench import score"}, "imports vdm_bench, which"),
        ("floors", {"attic__a": ""}, "add 'attic' to FLOORS"),
        ("walls", {"metrics__a": "import vdm_bench.video.b", "video__b": ""}, "may know only errors"),
        ("walls", {"leaderboards__a": "from vdm_bench.metrics.b import c", "metrics__b": ""}, "metrics.score"),
        ("circles", {"a__b": "import vdm_bench.a.c", "a__c": "def f():\n    import vdm_bench.a.b"}, "third file"),
        ("loose files", {"stray": ""}, "vdm_bench.stray is a new loose file"),
        ("prefixes", {"a__x_b": "", "a__x_c": "", "a__x_d": ""}, "make a folder x/"),
        ("prefixes", {"a__x": "", "a__x_c": ""}, "or merge them"),
        ("sizes", {"video__a": "pass\n" * 451}, "split it by idea"),
        ("sizes", {"video__a": "", "video__b": "import vdm_bench.video.a"}, "merge them"),
        ("functions", {"video__a": "def f():\n    '''x'''\n" + "    pass\n" * 41}, "split it"),
        ("names", {"a__b": "class Thing: ...", "c__d": "class Thing: ..."}, "rename all but one"),
    ],
)
def test_a_broken_rule_is_told(rule: str, texts: dict[str, str], expected: str) -> None:
    assert any(expected in sentence for sentence in RULES[rule](small(**texts)))


# They test what holds for the whole of the project.
TESTS_ELSEWHERE = {"reliability"}


def test_the_tests_mirror_the_packages() -> None:
    assert list(architecture.tests_out_of_place(ROOT, TESTS_ELSEWHERE)) == []


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("movie/test_a.py", "", "does not have"),
        ("video/test_video_a.py", "", "repeats the name of its folder"),
        ("video/test_a.py", f"class TestA:\n    def test_{'x' * 66}(self): ...", "shorten it"),
    ],
)
def test_a_test_out_of_place_is_found(file: str, text: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "video").mkdir()
    path = tmp_path / "tests" / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert [expected in sentence for sentence in architecture.tests_out_of_place(tmp_path, ())] == [True]


def code_blocks(path: Path) -> Iterator[str]:
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        yield text
    else:
        yield from re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_docs_and_examples_import_only_public_names() -> None:
    places = [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.py")]
    wrong = [
        f"{path.name}: {sentence}"
        for path in places
        for block in code_blocks(path)
        for sentence in architecture.not_public(PROJECT, block)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("import vdm_bench.video", []),
        ("from vdm_bench.video.a import Public", []),
        ("from vdm_bench.video import a", []),
        ("from vdm_bench.lists.b import Lazy", []),
        ("from vdm_bench.video.a import Hidden", ["vdm_bench.video.a.Hidden"]),
        ("from vdm_bench.video.a import _Hidden", ["vdm_bench.video.a._Hidden"]),
        ("from vdm_bench.lists.b import a", ["vdm_bench.lists.b.a"]),
        ("from vdm_bench.nowhere import b", ["vdm_bench.nowhere.b"]),
    ],
)
def test_names_outside_of_all_are_not_public(program: str, expected: list[str]) -> None:
    public = '__all__ = ["Public"]\nclass Public: ...\nclass Hidden: ...\n'
    lazy = '_HOMES = {"Lazy": "a"}\n__all__ = ["__version__", *_HOMES]\n'
    project = small(video__a=public, lists__b=lazy)
    assert [sentence.split()[0] for sentence in architecture.not_public(project, program)] == expected


def test_the_names_of_the_package_can_be_imported() -> None:
    code = "import vdm_bench; print(*(getattr(vdm_bench, name).__class__ for name in vdm_bench.__all__))"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert {"Clip", "ClipArchive", "score", "verify", "write_report", "write_site"} <= (
        PROJECT["vdm_bench"].public_names
    )


@pytest.mark.parametrize(
    ("module", "unloaded"),
    [
        ("vdm_bench", ("torch", "pandas", "numpy", "pydantic")),
        ("vdm_bench.protocols", ("torch", "av", "google_crc32c", "pandas", "PIL")),
        ("vdm_bench.leaderboards.checks.check", ("torch", "av")),
    ],
)
def test_a_module_loads_only_what_it_needs(module: str, unloaded: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*[name for name in {unloaded} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "\n"
