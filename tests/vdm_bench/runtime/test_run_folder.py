"""The files of a run folder: where a run writes them, and who spells their names."""

import ast
from pathlib import Path

import pytest
from paths import ROOT

from vdm_bench import run
from vdm_bench.protocols import get_protocol
from vdm_bench.runtime.run_folder import RunFolder


def test_a_run_writes_what_the_run_folder_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path / "cache"))
    protocol = get_protocol("shapes-unconditional").model_copy(
        update={"reference_count": 4, "generated_count": 4, "metrics": ("embedded/fvd",)}
    )
    folder = RunFolder(tmp_path / "run")
    run(protocol, out=folder.path, sampler="noise", limit=2)
    assert set(folder.path.iterdir()) >= {folder.record, folder.plan, folder.samples, folder.features}
    run(protocol, out=folder.path, sampler="noise")
    assert folder.earlier_record(2).is_file()


def test_no_other_module_spells_the_names() -> None:
    names = {"run.json", "plan.json", "verified.json", "report.html"}
    spelt = {
        path.relative_to(ROOT).as_posix()
        for room in ("vdm_bench", "leaderboards")
        for path in (ROOT / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and node.value in names
    }
    assert spelt == {"vdm_bench/runtime/run_folder.py"}
