"""The benchmark of the paper's claims: equal terms for the cases of a claim, and tables of real runs."""

import dataclasses
import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from paths import ROOT
from tiny_model import TINY

from vdm_bench.reference_model.checkpoint import CheckpointInfo, save_model
from vdm_bench.reference_model.config import SamplingConfig, settings_from_text
from vdm_bench.reference_model.samplers import evaluations
from vdm_bench.reference_model.unet import VideoUNet

BENCHMARKS = ROOT / "benchmarks"
NUMBER = r"-?\d[\d.]* \[-?\d[\d.]*, -?\d[\d.]*\]"
VERDICT = "(holds|does not hold here|not decided by so few clips)"


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("claims")


def test_all_cases_of_a_claim_take_equally_many_steps_and_differ(claims: ModuleType) -> None:
    for name, plan_for in claims.PLANS.items():
        settings = [
            SamplingConfig().override(settings_from_text(dict(case.options))) for case in plan_for(32).cases
        ]
        assert {evaluations(setting) for setting in settings} == {32}, name
        assert len(set(map(str, settings))) == len(settings), name


def test_each_claim_names_cases_and_a_metric_of_its_plan(claims: ModuleType) -> None:
    for plan_for in claims.PLANS.values():
        plan = plan_for(32)
        assert plan.claims
        for claim in plan.claims:
            assert {claim.better, claim.worse} <= {case.key for case in plan.cases}
            assert claim.metric in plan.metrics


def test_a_plan_is_printed_as_scores_and_verdicts(
    claims: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path / "cache"))
    plan = claims.prediction_plan(2)
    small = plan.cases[0].protocol.model_copy(update={"reference_count": 128})
    cases = tuple(dataclasses.replace(case, protocol=small) for case in plan.cases[:3])
    few = dataclasses.replace(plan, cases=cases)
    monkeypatch.setitem(claims.PLANS, "prediction", lambda steps: few)
    config = dataclasses.replace(TINY, frames=16, resolution=32, attention_resolutions=())
    network = VideoUNet(config)
    torch.nn.init.constant_(network.exit.bias, 0.2)
    save_model(tmp_path / "tiny.safetensors", network, CheckpointInfo("tiny", config))
    words = ["--out", str(tmp_path / "runs"), "--checkpoint", str(tmp_path / "tiny.safetensors")]
    words += ["--limit", "64", "--steps", "2", "--claim", "prediction"]
    monkeypatch.setattr(sys, "argv", ["claims.py", *words])
    claims.main()
    lines = [line for line in capsys.readouterr().out.splitlines() if line and not line.startswith("|--")]
    assert lines[0] == "**Prediction of 12 frames from 4.** `shapes-prediction`, 64 clips a case, 2 steps, fp32."
    assert lines[1] == "| case | embedded/fvd | embedded/is |"
    for line, case in zip(lines[2:5], cases, strict=True):
        assert re.fullmatch(rf"\| {case.key} \| {NUMBER} \| {NUMBER} \|", line), line
    assert lines[5] == "| claim | metric | difference | verdict |"
    texts = [claim.text for claim in plan.claims[:2]]  # of the weight that was run
    for line, text in zip(lines[6:], texts, strict=True):
        assert re.fullmatch(rf"\| {text} \| embedded/fvd \| {NUMBER} \| {VERDICT} \|", line), line
