"""The site: examples of its pages run, files they name exist, workflows are sound.

Links, anchors and navigation are checked by the build itself, `tox run -e docs`.
"""

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from paths import ROOT

import vdm_bench
from vdm_bench.cli import cli
from vdm_bench.metrics import frechet_distance
from vdm_bench.metrics.extraction import extract_features
from vdm_bench.metrics.networks import load_network

DOCS = ROOT / "docs"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

# Guides whose first code block cannot run here, and why.
NOT_RUN = {
    "clips": "a list of calls with clips in several layouts that the reader has",
    "command-samplers": "needs BAIR and a program in another environment; tests/vdm_bench/samplers runs some",
    "leaderboards": "takes minutes for five commands, each of which is in tests/vdm_bench/cli",
    "published-predictions": "needs GIFs that are not in the repository",
    "reference-model": "makes hundreds of clips; tests/cli runs its options",
    "run-a-diffusers-model": "needs the weights of a model; tests/samplers checks the options of its commands",
    "runs": "needs BAIR and Kinetics-600",
    "submissions": "needs the run folder of somebody else",
    "text": "installs an extra",
    "training": "installs an extra and trains for hours",
    "training-loops": "needs the loader, the model and I3D's weights",
}


def guides() -> Iterator[str]:
    """Pages of the guides: one for each kind of user, and what they lead to."""
    yield "get-started"
    for page in sorted(DOCS.glob("guides/*.md")):
        yield f"guides/{page.stem}"
        yield from re.findall(r"^\.\./([\w-]+)$", page.read_text("utf-8"), re.MULTILINE)
    yield "reference-model"


def code_blocks(page: str) -> list[tuple[str, str]]:
    text = (DOCS / f"{page}.md").read_text("utf-8")
    return re.findall(r"^```(sh|python|toml)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to run examples in, with the command `vdm-bench` of this interpreter."""
    command = tmp_path / "bin" / "vdm-bench"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vdm_bench "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def run_block(language: str, text: str) -> None:
    command = ["bash", "-euo", "pipefail", "-c", text] if language == "sh" else [sys.executable, "-c", text]
    out = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert out.returncode == 0, out.stderr


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one small run, as guides on results take for granted."""
    folder = tmp_path_factory.mktemp("results") / "runs"
    vdm_bench.run("shapes-unconditional", sampler="blurred", limit=12, out=folder / "blurred")
    return folder


@pytest.mark.parametrize("page", [page for page in guides() if page not in NOT_RUN])
def test_the_first_example_of_a_guide_runs(page: str, workplace: Path, runs: Path) -> None:
    if page in {"exports", "reports"}:
        shutil.copytree(runs, workplace / "runs")
    run_block(*code_blocks(page)[0])


def test_every_guide_that_does_not_run_has_a_reason() -> None:
    assert set(NOT_RUN) <= {*guides()}
    assert all(NOT_RUN.values())


def install(page: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the example of a page: its module, and the entry point that its `pyproject.toml` declares."""
    blocks = code_blocks(page)
    module = next(text for language, text in blocks if language == "python")
    name = module.splitlines()[0].removeprefix("# ")
    (workplace / name).write_text(module)
    table = next(text for language, text in blocks if text.startswith("[project.entry-points"))
    groups = tomllib.loads(table)["project"]["entry-points"]
    info = workplace / "example-1.0.dist-info"
    info.mkdir()
    lines = [
        f"[{group}]\n" + "".join(f"{n} = {v}\n" for n, v in points.items()) for group, points in groups.items()
    ]
    (info / "entry_points.txt").write_text("".join(lines))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: example\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(workplace)


def score(workplace: Path, metric: str) -> dict[str, Any]:
    """Score two small folders of clips from the command line; return the score of the record."""
    generator = np.random.default_rng(0)
    for folder, spread in (("samples", 128), ("real", 256)):
        np.save(workplace / f"{folder}.npy", generator.integers(0, spread, (24, 8, 32, 32, 3), dtype=np.uint8))
    arguments = ["score", "samples.npy", "--reference", "real.npy", "--metric", metric, "--out", "out"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    [found] = json.loads((workplace / "out" / "run.json").read_text())["scores"]
    return dict(found)


def test_the_network_of_the_example_scores(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install("adding-a-network", workplace, monkeypatch)
    recipe = next(text for _, text in code_blocks("adding-a-network") if text.startswith("name ="))
    (workplace / "random-fvd.toml").write_text(recipe)
    listed = CliRunner().invoke(cli, ["list", "networks"]).output
    assert re.search(r"^random\b", listed, re.MULTILINE)
    found = score(workplace, "random-fvd.toml")
    assert found["value"] > found["floor"] > 0
    assert "net:random@" in found["signature"]


def test_the_metric_of_the_example_is_the_distance_of_scaled_features(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("adding-a-metric", workplace, monkeypatch)
    assert "embedded/unit-fvd" in CliRunner().invoke(cli, ["list", "metrics"]).output
    found = score(workplace, "embedded/unit-fvd")
    sides = []
    for name in ("samples.npy", "real.npy"):
        features = extract_features(load_network("embedded"), np.load(workplace / name))["features"]
        sides.append(features / np.linalg.norm(features, axis=1, keepdims=True))
    assert found["value"] == pytest.approx(frechet_distance(*sides), rel=1e-5)
    assert "|cov:n-1:unit-length|" in found["signature"]


@pytest.mark.parametrize("page", ["architecture", "adding-a-network", "adding-a-metric"])
def test_files_that_a_page_names_exist(page: str) -> None:
    named = re.findall(
        r"`((?:docs|metrics|leaderboards|reference_model|tests|vdm_bench)/[\w/.-]+)`",
        (DOCS / f"{page}.md").read_text("utf-8"),
    )
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_example_of_a_page_is_short() -> None:
    for page in ("adding-a-network", "adding-a-metric"):
        module = next(text for language, text in code_blocks(page) if language == "python")
        code = [line for line in module.splitlines() if line and not line.startswith(("#", "import", "from"))]
        assert len(code) <= 20, page


def workflow(name: str) -> dict[str, Any]:
    content = yaml.load(
        (ROOT / ".github/workflows" / name).read_text("utf-8"), yaml.BaseLoader
    )  # `on` is no boolean
    return dict(content)


@pytest.mark.parametrize("name", ["ci.yml", "pages.yml", "release.yml"])
def test_a_workflow_is_sound(name: str) -> None:
    """Its jobs have steps, need jobs that exist, and run tox environments that exist."""
    content = workflow(name)
    assert content["on"]
    assert content["permissions"] == {"contents": "read"}  # jobs ask for more where they need it
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    for job in content["jobs"].values():
        assert job["runs-on"]
        assert not job.get("needs") or job["needs"] in content["jobs"]
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step), step
            assert "@" in step.get("uses", "@"), step
            for environment in re.findall(r"tox run -e (\w+)", step.get("run", "")):
                assert tox.has_section(f"testenv:{environment}")


def test_ci_covers_the_systems_and_versions_that_are_promised() -> None:
    matrix = workflow("ci.yml")["jobs"]["tests"]["strategy"]["matrix"]
    assert matrix == {"os": ["ubuntu-latest", "macos-latest"], "python": ["3.11", "3.12", "3.13"]}
    assert PROJECT["requires-python"] == f">={matrix['python'][0]}"


def test_pages_publish_what_the_docs_environment_builds() -> None:
    [path] = [
        step["with"]["path"]
        for step in workflow("pages.yml")["jobs"]["build"]["steps"]
        if "artifact" in str(step)
    ]
    assert path in (ROOT / "tox.ini").read_text().replace("{tox_root}{/}", "").replace("{/}", "/")


def test_a_release_is_checked_and_published_without_a_password() -> None:
    jobs = workflow("release.yml")["jobs"]
    assert any("twine check" in step.get("run", "") for step in jobs["build"]["steps"])
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["publish"]["steps"][-1] == {"uses": "pypa/gh-action-pypi-publish@release/v1"}
