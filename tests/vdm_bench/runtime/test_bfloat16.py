"""CPUs without bfloat16: what is refused, what is warned of, and what is computed otherwise."""

import os
import platform
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tiny_model import TINY

from vdm_bench.cli import cli
from vdm_bench.errors import InputError, SlowWarning
from vdm_bench.metrics.networks.base import NetworkSettings
from vdm_bench.metrics.networks.embedded import EmbeddedNetwork
from vdm_bench.metrics.precision import check_precision
from vdm_bench.reference_model.config import SamplingConfig
from vdm_bench.reference_model.model import ReferenceModel, build_model
from vdm_bench.reference_model.training.optimisers import orthogonal
from vdm_bench.runtime import bfloat16
from vdm_bench.samplers.base import SampleRequest
from vdm_bench.samplers.reference_model import ReferenceSampler

SENTENCE = "this CPU has no bfloat16 arithmetic"


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU without bfloat16."""
    monkeypatch.setattr(bfloat16, "cpu_computes_bfloat16", lambda: False)


@pytest.fixture
def having(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU with bfloat16."""
    monkeypatch.setattr(bfloat16, "cpu_computes_bfloat16", lambda: True)


def answer(**environment: str) -> str:
    code = "from vdm_bench.runtime.bfloat16 import cpu_computes_bfloat16 as asked; print(asked())"
    done = subprocess.check_output([sys.executable, "-c", code], env={**os.environ, **environment}, text=True)
    return done.strip()


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="instructions of x86")
def test_torch_says_what_onednn_will_do() -> None:
    assert answer(ONEDNN_MAX_CPU_ISA="AVX2") == "False"
    assert answer(ONEDNN_MAX_CPU_ISA="SSE41") == "False"


def test_a_torch_without_onednn_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not bfloat16.cpu_computes_bfloat16()


@pytest.mark.usefixtures("without")
def test_networks_are_refused_on_such_a_cpu_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=f"{SENTENCE}.*; choose --precision fp32, or a GPU"):
        EmbeddedNetwork().configured(NetworkSettings(precision="bf16"))
    check_precision("fp32", torch.device("cpu"))
    check_precision("bf16", torch.device("cuda"))
    monkeypatch.setattr(bfloat16, "cpu_computes_bfloat16", lambda: True)
    check_precision("bf16", torch.device("cpu"))


@pytest.mark.usefixtures("without")
def test_score_says_so_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("clips.npy", np.zeros((2, 4, 8, 8, 3), np.uint8))
    line = "score clips.npy --reference clips.npy --metric embedded/fvd --precision bf16 --device cpu"
    result = CliRunner().invoke(cli, line.split())
    assert result.exit_code == 2
    (sentence,) = result.stderr.splitlines()
    assert sentence.startswith(f"Error: {SENTENCE}")


def tiny_model(precision: Literal["fp32", "bf16"] = "fp32") -> ReferenceModel:
    torch.manual_seed(0)
    return ReferenceModel(build_model(TINY), TINY, SamplingConfig(steps=1, precision=precision), "tiny")


def warned(recorded: list[warnings.WarningMessage]) -> list[str]:
    return [str(warning.message) for warning in recorded if issubclass(warning.category, SlowWarning)]


@pytest.mark.usefixtures("without")
def test_sampling_warns_and_goes_on() -> None:
    with pytest.warns(SlowWarning, match=f"{SENTENCE}.*; choose precision fp32, or a GPU"):
        clips = tiny_model("bf16").sample([1])
    assert clips.shape == (1, 4, 8, 8, 3)
    sampler = ReferenceSampler(tiny_model(), SamplingConfig(steps=1, precision="bf16"))
    with pytest.warns(SlowWarning, match=SENTENCE):
        sampler.sample(SampleRequest((0,), (7,), 4, 8, 8))
    with warnings.catch_warnings(record=True) as recorded:
        warnings.simplefilter("always")
        tiny_model().sample([1])
    assert warned(recorded) == []


@pytest.mark.usefixtures("having")
def test_sampling_does_not_warn_on_another_cpu() -> None:
    with warnings.catch_warnings(record=True) as recorded:
        warnings.simplefilter("always")
        tiny_model("bf16").sample([1])
    assert warned(recorded) == []


@pytest.mark.usefixtures("without")
def test_training_warns_once_in_a_sentence_of_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = "--set model.base_channels=8 --set model.head_dim=8 --set model.embedding_dim=16 --set model.blocks=1"
    small += " --set model.attention_resolutions=[] --set model.frames=2 --batch 1 --sample-every 0 --device cpu"

    def trained(precision: str) -> list[str]:
        line = f"train shapes --steps 2 {small} --precision {precision} --out {precision}"
        result = CliRunner().invoke(cli, line.split())
        assert result.exit_code == 0, result.output
        return [text for text in result.stderr.splitlines() if text.startswith("Warning:")]

    (sentence,) = trained("bf16")
    assert sentence.startswith(f"Warning: {SENTENCE}")
    assert trained("fp32") == []


def deviation(matrices: torch.Tensor) -> float:
    """How far the singular values are from those of the same rounds in float64."""
    exact = matrices.double()
    exact = exact / torch.linalg.vector_norm(exact, dim=(1, 2), keepdim=True)
    for _ in range(5):
        square = exact @ exact.mT
        exact = 3.4445 * exact + (-4.7750 * square + 2.0315 * square @ square) @ exact
    return float((orthogonal(matrices).double() - exact).abs().max())


def test_muon_rounds_to_float32_there_and_to_bfloat16_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products in bfloat16 would be most of the time of a step there, also of training in float32."""
    matrices = torch.randn(2, 6, 15, generator=torch.Generator().manual_seed(3))
    monkeypatch.setattr(bfloat16, "cpu_computes_bfloat16", lambda: False)
    assert deviation(matrices) < 1e-4
    monkeypatch.setattr(bfloat16, "cpu_computes_bfloat16", lambda: True)
    assert 1e-3 < deviation(matrices) < 0.1
