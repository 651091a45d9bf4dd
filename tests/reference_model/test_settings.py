"""The configuration of sampling: one place for its names, types and ranges, and three ways to make it."""

import math
from pathlib import Path

import pytest
from tiny_model import TINY

from vdm_bench.cli.sample import sample
from vdm_bench.errors import InputError
from vdm_bench.reference_model import build_model
from vdm_bench.reference_model.checkpoint import CheckpointInfo, load_model, save_model
from vdm_bench.reference_model.config import (
    METHODS,
    SamplingConfig,
    setting_names,
    settings_from_text,
)

# Of each number, values just inside and just outside of its range.
EDGES: dict[str, tuple[list[float], list[float]]] = {
    "steps": ([1, 10**6], [0, 10**6 + 1]),
    "log_snr_shift": ([-10.0, 10.0], [-10.1, 10.1, math.nan]),
    "gamma": ([0.0, 1.0], [-1e-9, 1.0001, math.nan]),
    "delta": ([1e-9, 5.0], [0.0, -1.0, math.inf, math.nan]),
    "clip_percentile": ([1e-9, 1.0], [0.0, 1.0001, 99.5, math.nan]),
    "guidance_weight": ([-1.0, 0.0, 100.0], [-1.0001, math.inf, math.nan]),
    "reconstruction_weight": ([0.0, 100.0], [-1e-9, math.inf, math.nan]),
    "overlap": ([1, 2**16], [0, 2**16 + 1]),
    "batch": ([1, 2**16], [0, 2**16 + 1]),
    "resolution": ([1, 2**13], [0, 2**13 + 1]),
}
CHOICES = {
    "sampler": ["ancestral", "predictor-corrector", "ddim", "dpm-solver"],
    "clip": ["none", "static", "dynamic"],
    "method": list(METHODS),
    "precision": ["fp32", "bf16"],
    "labels": ["none", "random"],
}
FLAGS = ["last_step_noise", "correct_last", "corrector_guidance"]


def test_every_setting_is_tried_here() -> None:
    assert {*EDGES, *CHOICES, *FLAGS, "guidance_scale"} == set(setting_names())


@pytest.mark.parametrize("name", EDGES)
def test_a_number_is_checked_when_the_configuration_is_made(name: str) -> None:
    inside, outside = EDGES[name]
    for value in inside:
        assert getattr(SamplingConfig(**{name: value}), name) == value  # type: ignore[arg-type]
    for value in outside:
        with pytest.raises(InputError, match=rf"^{name} .* is out of range; give "):
            SamplingConfig(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_is_checked_when_the_configuration_is_made(name: str) -> None:
    for value in CHOICES[name]:
        assert getattr(SamplingConfig(**{name: value}), name) == value  # type: ignore[arg-type]
    with pytest.raises(InputError, match=f"^unknown {name} 'none-such'; "):
        SamplingConfig(**{name: "none-such"})  # type: ignore[arg-type]


def test_a_method_is_a_guidance_and_a_variant() -> None:
    configs = [SamplingConfig(reconstruction_weight=5.0, method=name) for name in METHODS]
    assert [(config.w_r, config.variant) for config in configs] == [
        (5.0, "marginal"),
        (5.0, "conditional"),
        (0.0, "marginal"),
        (0.0, "conditional"),
    ]


def test_values_texts_and_fields_make_the_same_configuration() -> None:
    made = SamplingConfig(steps=7, gamma=1.0, correct_last=True, overlap=3, guidance_weight=1.5)
    texts = {"steps": "7", "gamma": "1", "correct_last": "true", "overlap": "3", "guidance_scale": "2.5"}
    assert SamplingConfig().override(settings_from_text(texts)) == made
    values = {"steps": 7, "gamma": 1, "correct_last": True, "overlap": 3, "guidance_scale": 2.5, "batch": None}
    assert SamplingConfig().override(values) == made
    assert made.override({}) == made


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"step": 3}, "unknown setting 'step'; did you mean 'steps'"),
        ({"steps": 3.5}, "steps is 3.5; it must be of type int"),
        ({"steps": True}, "steps is True; it must be of type int"),
        ({"overlap": "4"}, "overlap is '4'; it must be of type int"),
        ({"gamma": "1"}, "gamma is '1'; it must be of type float"),
        ({"clip": 3}, "clip is 3; it must be of type str"),
        ({"guidance_scale": -0.5}, "guidance_weight -1.5 is out of range"),
        ({"guidance_scale": math.inf}, "guidance_scale is inf; it must be finite"),
        (
            {"guidance_scale": 2.0, "guidance_weight": 1.0},
            "guidance_weight w and guidance_scale 1 + w say the same",
        ),
    ],
)
def test_a_wrong_override_is_one_sentence(chosen: dict[str, object], words: str) -> None:
    with pytest.raises(InputError) as caught:
        SamplingConfig().override(chosen)
    assert str(caught.value).startswith(words)


def test_the_command_line_has_every_setting() -> None:
    assert set(setting_names()) - {option.name for option in sample.params} == set()


def test_headers_of_checkpoints_keep_their_fields(tmp_path: Path) -> None:
    """Settings of later versions are written where they are chosen, and read again."""
    first = set(vars(SamplingConfig())) - {"method", "overlap", "batch", "precision", "resolution", "labels"}
    assert set(SamplingConfig().stored) == first
    chosen = SamplingConfig(method="replacement", overlap=2)
    assert set(chosen.stored) == first | {"method", "overlap"}
    save_model(tmp_path / "a.safetensors", build_model(TINY), CheckpointInfo("a", TINY, chosen))
    assert load_model(tmp_path / "a.safetensors")[1].sampling == chosen
