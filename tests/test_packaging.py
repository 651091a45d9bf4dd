"""The four folders at the top are one package, whole in the wheel, and take no one else's name."""

import ast
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = {"vdm_bench": "vdm_bench"} | {
    name: f"vdm_bench.{name}" for name in ("leaderboards", "metrics", "reference_model")
}


def python(code: str, cwd: Path) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, check=True, capture_output=True, text=True
    ).stdout


def modules() -> dict[str, Path]:
    """Every module of the project by its import name; the links in vdm_bench/ are not followed."""
    found = {}
    for folder, package in FOLDERS.items():
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            if parts[0] in FOLDERS and folder == "vdm_bench":
                continue
            found[".".join([package, *parts]).removesuffix(".__init__")] = path
    return found


def test_every_package_is_listed_for_the_wheel() -> None:
    packages = {name for name, path in modules().items() if path.name == "__init__.py"}
    assert sorted(packages) == PROJECT["tool"]["setuptools"]["packages"]


def test_every_data_file_is_listed_for_the_wheel() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]
    for folder, package in FOLDERS.items():
        for path in (ROOT / folder).rglob("*"):
            relative = path.relative_to(ROOT / folder)
            if (
                relative.parts[0] in FOLDERS
                or not path.is_file()
                or path.suffix == ".py"
                or "__pycache__" in str(path)
            ):
                continue
            parents = [*relative.parents]
            home = next(parent for parent in parents if (ROOT / folder / parent / "__init__.py").exists())
            owner = ".".join([package, *home.parts])
            inside = relative.relative_to(home)
            assert any(inside.match(pattern) for pattern in patterns.get(owner, [])), (
                f"{path} is not in the wheel"
            )


def test_no_extra_asks_for_what_everybody_gets() -> None:
    core = {requirement_name(text) for text in PROJECT["project"]["dependencies"]}
    extras = PROJECT["project"]["optional-dependencies"]
    for name, requirements in extras.items():
        assert not core & {name, *map(requirement_name, requirements)}, name
    places = [ROOT.glob("*.md"), ROOT.glob("docs/**/*.md"), ROOT.glob("examples/**/*"), modules().values()]
    for path in chain(*places):
        if path.is_file() and path.suffix in {".md", ".py", ".toml", ".yml", ".yaml", ".sh"}:
            for named in re.findall(r"vdm-bench\[([\w,-]+)\]", path.read_text("utf-8")):
                assert set(named.split(",")) <= extras.keys(), f"{path} names the extra {named}"


def requirement_name(text: str) -> str:
    return re.split(r"[^\w-]", text)[0]


def test_the_links_in_the_checkout_lead_to_the_folders() -> None:
    for name in FOLDERS.keys() - {"vdm_bench"}:
        assert (ROOT / "vdm_bench" / name).resolve() == ROOT / name
        assert (ROOT / "vdm_bench" / name).readlink() == Path("..") / name


def write_repository(folder: Path, name: str, level: int, *, namespace: bool = False) -> Path:
    """A sampler as its authors publish it: with packages `metrics` and `reference_model` of its own."""
    for package in ("metrics", "reference_model"):
        (folder / name / package).mkdir(parents=True)
        if not namespace:
            (folder / name / package / "__init__.py").write_text("")
    (folder / name / "metrics" / "level.py").write_text(f"level = {level}\n")
    (folder / name / "reference_model" / "frames.py").write_text(
        "import numpy as np\n"
        "from metrics.level import level\n"
        "def make(seeds, frames, height, width):\n"
        "    shape = (frames, height, width, 3)\n"
        "    clips = [np.random.default_rng(s).integers(0, 9, shape, np.uint8) for s in seeds]\n"
        "    return np.stack(clips) + np.uint8(level)\n"
    )
    (folder / name / "sampler.py").write_text(
        "import metrics.level\n"
        "def sample(request):\n"
        "    from reference_model.frames import make\n"
        "    return make(request.seeds, request.frames, request.height, request.width)\n"
        "if __name__ == '__main__':\n"
        f"    import sys; sys.path.append({str(ROOT / 'examples' / 'command_sampler')!r})\n"
        "    import client; client.serve(sample)\n"
    )
    return folder / name


def test_a_third_partys_packages_beside_its_sampler_are_untouched(tmp_path: Path) -> None:
    """StyleGAN's family has a folder `metrics/`; both must work in one process."""
    repository = write_repository(tmp_path, "theirs", 100)
    arguments = "-m vdm_bench run shapes-unconditional --sampler sampler:sample --limit 20 --out run"
    out = subprocess.run(
        [sys.executable, *arguments.split()],
        cwd=repository,
        capture_output=True,
        text=True,
    )
    assert out.returncode == 0, out.stderr
    assert "sampler:sample" in out.stdout


def test_samplers_with_packages_of_the_same_names_run_one_after_the_other(tmp_path: Path) -> None:
    """Two as callables in one process, and there and back; then the second one as a command."""
    first = write_repository(tmp_path, "first", 100)
    second = write_repository(tmp_path, "second", 200, namespace=True)
    code = f"""
import os, shlex, sys
from pathlib import Path
import vdm_bench, vdm_bench.metrics, vdm_bench.reference_model
from vdm_bench.samplers.command import CommandSampler
from vdm_bench.video.archive import Archive

os.environ.pop("PYTHONSAFEPATH", None)
def run(sampler, out):
    out = Path({str(tmp_path)!r}, out)
    record = vdm_bench.run("shapes-unconditional", sampler=sampler, limit=12, out=out)
    print(Archive(out / "samples")[11].frames.min(), record.generated.scored)

for number, folder in enumerate([{str(first)!r}, {str(second)!r}, {str(first)!r}]):
    os.chdir(folder)
    run("sampler:sample", str(number))
    assert "level" not in dir(vdm_bench.metrics)
run(CommandSampler(shlex.join([sys.executable, {str(second / "sampler.py")!r}]), {{}}), "command")
print(sys.path.count({str(first)!r}), sys.path.count({str(second)!r}))
"""
    assert python(code, tmp_path).splitlines() == ["100 12", "200 12", "100 12", "200 12", "1 0"]


def test_there_is_no_top_level_metrics_import(tmp_path: Path) -> None:
    names = "'metrics', 'leaderboards', 'reference_model'"
    code = f"import importlib.util as u; print([n for n in ({names}) if u.find_spec(n)])"
    assert python(code, tmp_path).strip() == "[]"


def test_importing_the_package_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys, vdm_bench, vdm_bench.cli, vdm_bench.metrics, vdm_bench.leaderboards\n"
        "heavy = 'torch pandas tensorflow scipy numpy av pydantic rich'.split()\n"
        "print([n for n in heavy if n in sys.modules])"
    )
    assert python(code, tmp_path).strip() == "[]"


def test_metrics_and_model_need_torch_numpy_scipy_and_safetensors_alone(tmp_path: Path) -> None:
    """With everything else hidden, an FVD can still be computed."""
    code = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in 'pandas pydantic rich av PIL click platformdirs torchmetrics'.split():
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hide())
import numpy as np
from vdm_bench.metrics import *
from vdm_bench.metrics import Moments, frechet_distance, inception_score, kernel_distance
from vdm_bench.metrics.evaluation import Evaluation, FeatureSet
from vdm_bench.metrics.extraction import extract_features
from vdm_bench.metrics.networks import load_network
from vdm_bench.metrics.recipes import get_recipe
import vdm_bench.metrics.resize, vdm_bench.reference_model
network = load_network('embedded')
sides = []
for seed in (0, 1):
    clips = np.random.default_rng(seed).integers(0, 256, (12, 16, 32, 32, 3), dtype=np.uint8)
    features = extract_features(network, clips)
    sides.append(FeatureSet('x', (16, 32, 32), 12, lambda layer, f=features: [f[layer]]))
print(Evaluation(*sides).score(get_recipe('embedded/fvd'), network.spec).value > 0)
"""
    assert python(code, tmp_path).strip() == "True"


def imports_of(path: Path, name: str) -> set[str]:
    """Names of the project's modules that a module imports, wherever in its text."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {module for module in found if module.split(".")[0] == "vdm_bench"}


COMMON = {
    "vdm_bench.errors",
    "vdm_bench.runtime",
    "vdm_bench.version",
}


def allowed(importer: str, imported: str) -> bool:
    owner = importer.split(".")[1] if "." in importer else ""
    if owner not in FOLDERS:
        return True  # the harness may import all
    if any(imported == name or (name != "vdm_bench" and imported.startswith(f"{name}.")) for name in COMMON):
        return True
    if imported.startswith(f"vdm_bench.{owner}"):
        return True
    known = ("vdm_bench.metrics.jackknife", "vdm_bench.metrics.score")
    return owner == "leaderboards" and imported.startswith(known)


def test_the_libraries_import_nothing_of_one_another_or_of_the_harness() -> None:
    wrong = [
        f"{name} imports {imported}"
        for name, path in modules().items()
        for imported in imports_of(path, name)
        if not allowed(name, imported)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("importer", "imported", "expected"),
    [
        ("vdm_bench.metrics.frechet", "vdm_bench.metrics.moments", True),
        ("vdm_bench.metrics.frechet", "vdm_bench.errors.InputError", True),
        ("vdm_bench.metrics.frechet", "vdm_bench.runs.run", False),
        ("vdm_bench.metrics.frechet", "vdm_bench.leaderboards.record", False),
        ("vdm_bench.leaderboards.store", "vdm_bench.metrics.score.Score", True),
        ("vdm_bench.leaderboards.store", "vdm_bench.metrics.moments", False),
        ("vdm_bench.runs.run", "vdm_bench.metrics.moments", True),
    ],
)
def test_the_rule_itself(importer: str, imported: str, expected: bool) -> None:
    assert allowed(importer, imported) is expected


def test_nothing_uses_scipys_matrix_root_or_unpickles() -> None:
    for name, path in modules().items():
        text = path.read_text()
        for word in ("sqrtm(", "import pickle", "allow_pickle=True", "extractall"):
            assert word not in text, f"{name} has {word}"
