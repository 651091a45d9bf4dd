"""Folders begun before sampling had one configuration: `golden/plans` holds what was written into them."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from paths import TESTS

from vdm_bench import run
from vdm_bench.cli import cli
from vdm_bench.errors import InputError
from vdm_bench.protocols import get_protocol
from vdm_bench.runtime.checksums import unsealed, write_json
from vdm_bench.samplers.base import file_digest
from vdm_bench.samplers.reference_model import ReferenceSampler
from vdm_bench.version import __version__
from vdm_bench.video.archive import Archive

PLANS = TESTS / "golden" / "plans"


def put(name: str, path: Path) -> dict[str, Any]:
    """Write a plan of before, as if it were of this version and by the sampler's module and code of today."""
    plan = unsealed((PLANS / name).read_text().replace("0.1.0", __version__), name, required=False)
    if "sampler code" in plan:
        plan["sampler code"] = file_digest(sys.modules[ReferenceSampler.__module__].__file__)
        plan["sampler module"] = ReferenceSampler.__module__
    path.parent.mkdir()
    write_json(path, plan)
    return plan


def test_a_run_goes_on_with_the_same_sampler_and_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "run"
    plan = put("run.json", out / "plan.json")
    protocol = get_protocol("shapes-prediction").model_copy(update={"generated_count": 4, "reference_count": 4})
    options = {
        "steps": "1",
        "method": "replacement-conditional",
        "guidance_scale": "2",
        "labels": "random",
    }
    with pytest.raises(InputError, match=r"another sampler.settings.steps \(1 and not 2\)"):
        run(protocol, out=out, sampler="reference", options={**options, "steps": "2"})
    record = run(protocol, out=out, sampler="reference", options=options)
    assert record.sampler.model_dump(mode="json") == plan["sampler"]
    kept = json.loads((out / "plan.json").read_text())
    assert {key: kept[key] for key in plan} == plan


def test_a_folder_of_samples_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = put("sample.json", tmp_path / "clips" / "sample.json")
    line = (
        "sample shapes --count 2 --label random --guidance-scale 3 --method replacement --frames 20 --overlap 4"
    )
    refused = CliRunner().invoke(cli, f"{line} --steps 2 --out clips".split())
    assert (refused.exit_code, "clips holds clips with another steps (1 and not 2);" in refused.stderr) == (
        2,
        True,
    )
    made = CliRunner().invoke(cli, f"{line} --steps 1 --out clips".split())
    assert made.exit_code == 0, made.output
    kept = json.loads(Path("clips/sample.json").read_text())
    assert {key: kept[key] for key in plan} == plan
    archive = Archive(Path("clips"))
    assert archive.maker == "03d186c298bc"
    assert not np.array_equal(archive[0].frames, archive[1].frames)
