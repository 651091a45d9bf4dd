"""The page on your own denoiser: its examples run in order, as a reader would copy them into files."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT

PAGE = ROOT / "docs" / "your-own-denoiser.md"


def blocks() -> list[tuple[str, str]]:
    return re.findall(r"^```(sh|python|toml)\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def named_files() -> dict[str, str]:
    """Blocks that begin with the name of their file; two of one name are one file."""
    files: dict[str, str] = {}
    for _, text in blocks():
        if named := re.match(r"# (\w+\.(?:py|toml))\n", text):
            files[named[1]] = files.get(named[1], "") + text
    return files


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reader's folder: the page's files, and videos of moving noise."""
    folder = tmp_path_factory.mktemp("reader")
    for name, text in named_files().items():
        (folder / name).write_text(text)
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        (folder / "videos" / split).mkdir(parents=True)
        still = random.integers(0, 256, (64, 1, 40, 40, 3), np.uint8)
        moving = np.concatenate([np.roll(still, shift, 2) for shift in range(16)], 1)
        np.save(folder / "videos" / split / "clips.npy", moving)
    return folder


def run(workplace: Path, *command: str) -> str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(workplace), *sys.path])}
    done = subprocess.run(
        command, cwd=workplace, env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_network_of_the_page_predicts_and_keeps_its_context(workplace: Path) -> None:
    script = (
        "from my_model import predict, clips; import numpy as np, torch\n"
        "assert clips.shape == (2, 16, 32, 32, 3) and clips.dtype == torch.uint8\n"
        "context = np.random.default_rng(0).integers(0, 256, (2, 4, 32, 32, 3), np.uint8)\n"
        "made = predict(context, [5, 6], 8).numpy()\n"
        "assert np.array_equal(made[:, :4], context)\n"
        "assert made[:, 4:].std() > 10\n"
        "assert np.abs(made[1:].astype(int) - predict(context[1:], [6], 8).numpy()).max() <= 1\n"
    )
    run(workplace, sys.executable, "-c", script)


def test_the_protocol_of_the_page_scores_the_network(workplace: Path) -> None:
    shell = next(text for language, text in blocks() if language == "sh")
    command = f'vdm-bench() {{ "{sys.executable}" -m vdm_bench "$@"; }}\n'
    out = run(workplace, "bash", "-euo", "pipefail", "-c", command + shell)
    record = json.loads((workplace / "runs" / "mine" / "run.json").read_text())
    assert record["protocol"]["name"] == "mine"
    assert {score["metric"] for score in record["scores"]} >= {"embedded/fvd"}
    assert "embedded/fvd" in out


def test_the_features_of_the_page_measure_a_distance(workplace: Path) -> None:
    example = next(text for _, text in blocks() if "from my_features import" in text)
    assert float(run(workplace, sys.executable, "-c", example).split("(")[-1].split(",")[0].rstrip(")\n")) > 0


@pytest.mark.parametrize(("name", "lines"), [("my_model.py", 22), ("my_features.py", 12)])
def test_an_example_of_the_page_is_short(name: str, lines: int) -> None:
    skipped = ("#", "import", "from")
    code = [line for line in named_files()[name].splitlines() if line and not line.startswith(skipped)]
    assert len(code) <= lines
