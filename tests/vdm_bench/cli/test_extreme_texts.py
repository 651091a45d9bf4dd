"""Texts at the edges of what options, the environment and TOML files can say end in one sentence."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from vdm_bench.cli import cli
from vdm_bench.errors import InputError
from vdm_bench.metrics.recipes import get_recipe
from vdm_bench.protocols import get_protocol
from vdm_bench.reference_model.config import SamplingConfig, get_preset, settings_from_text

DIGITS = "9" * 5000
DEEP = "[" * 3000


def refusal(*arguments: str, **environment: str) -> str:
    result = CliRunner().invoke(cli, list(arguments), env=environment)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return result.output


@pytest.mark.parametrize("label", [DIGITS, "1e999", "-1", "٣", "9" * 19])
def test_labels(label: str) -> None:
    assert "is not a class; give a whole number" in refusal("sample", "shapes", "--label", label)


@pytest.mark.parametrize("size", [DIGITS, f"64x{DIGITS}", "inf", "٣", "0", ""])
def test_sizes(tmp_path: Path, size: str) -> None:
    assert "is not a size" in refusal("score", str(tmp_path), "--size", size)


@pytest.mark.parametrize(
    "rate", ["inf", "nan", "1e999", "1e999999999", "1/0", "", ".", "-1", "0", DEEP, f"{DIGITS}/1"]
)
def test_rates(tmp_path: Path, rate: str) -> None:
    assert "frames per second" in refusal("score", str(tmp_path), "--fps", rate)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VDM_BENCH_SCORE_WORKERS", DIGITS),
        ("VDM_BENCH_SCORE_WORKERS", "1e999"),
        ("VDM_BENCH_SCORE_FRAMES", "inf"),
        ("VDM_BENCH_SCORE_SIZE", DIGITS),
        ("VDM_BENCH_SCORE_FPS", "Infinity"),
        ("VDM_BENCH_SCORE_WEIGHTS", "=" * 300),
        ("VDM_BENCH_SCORE_SKIP_BROKEN", "NaN"),
        ("VDM_BENCH_SCORE_ASPECT", "x" * 300),
        ("WORLD_SIZE", "1e999"),
        ("WORLD_SIZE", DIGITS),
        ("WORLD_SIZE", "0"),
        ("WORLD_SIZE", ""),
    ],
)
def test_environment(tmp_path: Path, name: str, value: str) -> None:
    (tmp_path / "clips").mkdir()
    refusal("score", str(tmp_path / "clips"), "--reference", str(tmp_path / "clips"), **{name: value})


@pytest.mark.parametrize("text", ["1e999", "inf", "-inf", "nan", "9" * 400, DIGITS, DEEP, "n" * 300, "", "true"])
@pytest.mark.parametrize(
    "key", ["steps", "gamma", "delta", "guidance_weight", "guidance_scale", "overlap", "batch"]
)
def test_settings_of_a_sampler(key: str, text: str) -> None:
    with pytest.raises(InputError, match=key.partition("_")[0]):
        SamplingConfig().override(settings_from_text({key: text}))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("training", "learning_rate", float("inf")),
        ("training", "weight_decay", float("nan")),
        ("training", "ema", float("nan")),
        ("training", "steps", 2**63),
        ("training", "betas", [0.9]),
        ("training", "betas", [0.9, float("nan")]),
        ("training", "betas", [0.9, "x"]),
        ("training", "clip_norm", -1.0),
        ("training", "warmup_steps", -1),
        ("training", "schedule", "linear"),
        ("model", "multipliers", [1.5, 2]),
        ("model", "multipliers", [True]),
        ("model", "multipliers", [[[]]]),
        ("model", "channels", 10**400),
        ("sampling", "steps", 10**12),
        ("sampling", "delta", 10**400),
    ],
)
def test_settings_of_a_preset(section: str, key: str, value: object) -> None:
    with pytest.raises(InputError, match=key):
        get_preset("shapes").override(section, **{key: value})


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("frames = inf", "inf"),
        ("frames = 1e999", "1e999"),
        ("fps = nan", "nan"),
        (f"frames = {DIGITS}", "thousands of digits"),
        (f"frames = {'9' * 30}", "frames: "),
        ("generated_count = 1_000_000_000_000", "generated_count: "),
        ("resolution = 1_000_000", "resolution: "),
        (f"frames = {DEEP}", "nested too deeply"),
        (f"frames = {'[' * 100}{']' * 100}", "nested too deeply"),
        (f"a{'.a' * 5000} = 1", "nested too deeply"),
        (f"frames{'.a' * 70} = 1", "nested too deeply"),
        (f'name = "{"n" * 300}"', "name: "),
        ("context_frames = true", "context_frames: "),
        ('metrics = ["fvd", 3]', "metrics.1: "),
        ("reference.seed = -1", "reference.seed: "),
        ('reference.split = "a\\u0000b"', "reference.split: "),
    ],
)
def test_protocols(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "p.toml"
    fields = {
        "name": '"p"',
        "title": '"p"',
        "task": '"prediction"',
        "dataset": '"shapes"',
        "frames": "16",
        "resolution": "32",
        "context_frames": "2",
        "reference_count": "4",
        "generated_count": "4",
        "metrics": '["fvd"]',
        "reference.split": '"test"',
        "reference.seed": "0",
        "conditions.split": '"test"',
    }
    path.write_text("\n".join(f"{key} = {value}" for key, value in fields.items()))
    assert get_protocol(str(path)).frames == 16
    fields.pop(line.split(" ")[0].split("=")[0], None)
    if line.startswith("frames."):
        del fields["frames"]
    path.write_text("\n".join([*(f"{key} = {value}" for key, value in fields.items()), line]))
    with pytest.raises(InputError, match=words) as caught:
        get_protocol(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


RECIPE = {
    "name": '"mine"',
    "title": '"mine"',
    "network": '"embedded"',
    "layer": '"features"',
    "epsilon": "1e-3",
    "statistic": '{kind = "kernel"}',
}


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("epsilon", "inf", "inf"),
        ("epsilon", DIGITS, "thousands of digits"),
        ("epsilon", "[" * 3000, "nested too deeply"),
        ("name", f'"{"n" * 300}"', "at most 200 characters"),
        ("title", '"a\\nb"', "of one line"),
        ("layer", '"a\\u001bb"', "of one line"),
        ("statistic", '{kind = "kernel", coef0 = 1e999}', "1e999"),
        ("statistic", f'{{kind = "kernel", coef0 = {"9" * 400}}}', "coef0|too large"),
        ("statistic", "{kind = []}", "statistic needs a kind"),
        ("statistic", '{kind = "kernel", degree = 0}', "degree"),
        ("base", "[1]", r"unknown metric '\[1\]'"),
        ("base", '"p.toml"', "has it for a base itself"),
    ],
)
def test_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: str, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    fields = {**RECIPE, key: value}
    Path("p.toml").write_text("\n".join(f"{name} = {text}" for name, text in fields.items()))
    with pytest.raises(InputError, match=words) as caught:
        get_recipe("p.toml")
    assert "\n" not in str(caught.value)
