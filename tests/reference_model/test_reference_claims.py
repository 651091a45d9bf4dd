"""The benchmark of the paper's claims: equal terms for the cases of a claim, and a table of real runs."""

import dataclasses
import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch
from tiny_model import TINY

from vdm_bench.generation_settings import choose, parsed
from vdm_bench.metrics.networks import Computing
from vdm_bench.protocols import get_protocol
from vdm_bench.reference_model.checkpoint import CheckpointInfo, save_model
from vdm_bench.reference_model.config import SamplingConfig
from vdm_bench.reference_model.samplers import evaluations
from vdm_bench.reference_model.unet import VideoUNet

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("claims")


def test_all_cases_of_a_claim_take_equally_many_evaluations(claims: ModuleType) -> None:
    for name, claim in claims.claims(32).items():
        settings = [choose(SamplingConfig(), parsed({"steps": "32", **case})) for case in claim.cases.values()]
        assert {evaluations(setting.sampling) for setting in settings} == {32}, name
        assert len(set(map(str, settings))) == len(settings), name


def test_a_claim_is_a_table_of_runs_with_paired_differences(
    claims: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path / "cache"))
    small = get_protocol("shapes-prediction").model_copy(update={"reference_count": 128})
    monkeypatch.setattr(claims, "get_protocol", lambda name: small)
    config = dataclasses.replace(TINY, frames=16, resolution=32, attention_resolutions=())
    network = VideoUNet(config)
    torch.nn.init.constant_(network.exit.bias, 0.2)
    save_model(tmp_path / "tiny.safetensors", network, CheckpointInfo("tiny", config))
    cases = {name: {"method": name} for name in ("replacement", "replacement-conditional")}
    claim = claims.Claim("One replaces as well as the other", "shapes-prediction", cases)
    common = {"checkpoint": str(tmp_path / "tiny.safetensors"), "steps": "1"}
    claims.print_claim(claim, tmp_path / "runs", 64, common | {"precision": "fp32"}, Computing())
    lines = capsys.readouterr().out.splitlines()
    title, head, first, second = (line for line in lines if line and not line.startswith("|--"))
    number = r" -?\d[\d.]* \[-?\d[\d.]*, -?\d[\d.]*\] "
    assert title == f"**{claim.text}.** `shapes-prediction`, 64 clips a case, 1 steps, fp32."
    assert head == "| case | embedded/fvd | difference | embedded/is | difference |"
    assert re.fullmatch(rf"\| replacement \|{number}\|  \|{number}\|  \|", first), first
    assert re.fullmatch(rf"\| replacement-conditional \|{number}\|{number}\|{number}\|{number}\|", second), second
