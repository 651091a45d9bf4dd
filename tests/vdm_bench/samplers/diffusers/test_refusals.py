"""What no pipeline takes is refused in one sentence, where possible before weights are read."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from vdm_bench.cli import cli
from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.errors import InputError
from vdm_bench.samplers import make_sampler
from vdm_bench.samplers.base import SampleRequest, SamplerSetup
from vdm_bench.samplers.diffusers.loading import quiet
from vdm_bench.samplers.diffusers.options import read_value

pytest.importorskip("diffusers")
from diffusers_samplers import IMAGE, TEXT, VIDEO, made, request  # needs diffusers


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        (TEXT, {"native_frames": "20"}, "does not make 20 frames: valid lengths are 4k \\+ 1; .*=17 or 21"),
        (TEXT, {"native_frames": "9"}, "native_frames=9 is too few, 16 frames are needed; give 17"),
        (
            TEXT,
            {"native_height": "40"},
            "multiples of 16 pixels, not 40x32; give native_height=32 native_width=32",
        ),
        (TEXT, {"num_inference_step": "3"}, "'num_inference_step'; did you mean 'num_inference_steps'"),
        (TEXT, {"native_frame": "17"}, "'native_frame'; did you mean 'native_frames'"),
        (TEXT, {"height": "16"}, "the option height is named native_height"),
        (TEXT, {"num_frames": "17"}, "the option num_frames is named native_frames"),
        (TEXT, {"class": "WanPipelin"}, "pipeline class 'WanPipelin'; did you mean 'WanPipeline'"),
        (TEXT, {"class": "StableDiffusionPipeline"}, "makes no videos from captions or context frames"),
        (TEXT, {"scheduler": "UniPC"}, "unknown scheduler 'UniPC'"),
        (TEXT, {"scheduler.shif": "3"}, "setting 'shif'; did you mean 'shift'"),
        (TEXT, {"lora": "style.bin"}, "lora=style.bin must be a safetensors file"),
        (TEXT, {"lora": "style.safetensors"}, "there is no file style.safetensors"),
        ("LattePipeline", {"step": "2"}, "31 frames are needed, and a LattePipeline makes exactly 16"),
        (IMAGE, {}, "makes clips from context frames, and this protocol gives none"),
    ],
)
def test_bad_options_are_refused_before_weights_are_read(
    kind: str, options: dict[str, str], words: str, without_weights: Callable[[str], Path]
) -> None:
    with pytest.raises(InputError, match=words):
        made(without_weights(kind), **options).evaluations(request())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": "0"}, "option batch=0 must be a whole number, 1 or more"),
        ({"dtype": "int8"}, "option dtype=int8 must be one of fp32, fp16, bf16"),
        ({"vae_tiling": "perhaps"}, "option vae_tiling=perhaps must be one of true, false"),
        ({"resize": "bilinear"}, "option resize=bilinear must be one of tf1-bilinear, half-pixel"),
        ({"native_fps": "0"}, "option native_fps=0 must be a number, above 0"),
        ({"lora_scale": "much"}, "option lora_scale=much must be a number"),
        ({"device_map": "balanced", "offload": "model"}, "give one of the two"),
        ({"offload": "model"}, "option offload=model keeps weights off a GPU; leave it out on the CPU"),
        ({"pipeline": "/nowhere"}, "there is no folder /nowhere; give a folder, or a name on the Hub"),
    ],
)
def test_bad_values_are_refused(options: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        make_sampler("diffusers", SamplerSetup(Shapes("test"), {"pipeline": "/nowhere", **options}))


def test_one_native_side_is_refused() -> None:
    with pytest.raises(InputError, match="native_height and native_width together"):
        make_sampler("diffusers", SamplerSetup(Shapes("test"), {"pipeline": "a/b", "native_width": "32"}))
    with pytest.raises(InputError, match="needs --option pipeline=FOLDER_OR_NAME"):
        make_sampler("diffusers", SamplerSetup(Shapes("test"), {}))


def test_a_folder_that_is_not_a_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model_index.json is not there, so .* is not a pipeline"):
        made(tmp_path)
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        made(tmp_path)


def test_a_class_of_a_later_version_is_told(saved: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / TEXT
    shutil.copytree(saved(TEXT), folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": "Wan9Pipeline"}))
    with pytest.raises(
        InputError, match=r"is a Wan9Pipeline, which diffusers .* does not have; upgrade diffusers"
    ):
        made(folder)


def test_nothing_is_unpickled_and_no_code_is_run(saved: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / TEXT
    shutil.copytree(saved(TEXT), folder)
    weights = next((folder / "vae").glob("*.safetensors"))
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(InputError, match="is not a safetensors file, and nothing else is loaded"):
        made(folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"vae": ["own_vae", "OwnVae"]}))
    with pytest.raises(InputError, match=r"the part vae of .* comes with code of its own, which is not run"):
        made(folder)


def test_damaged_weights_are_told_in_one_sentence(without_weights: Callable[[str], Path]) -> None:
    sampler = made(without_weights(TEXT))
    with pytest.raises(InputError, match=r"the pipeline .* cannot be loaded: ") as refused:
        sampler.evaluations(request())
    assert "\n" not in str(refused.value)


def test_a_missing_package_is_named(saved: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved("WanVACEPipeline")
    monkeypatch.delattr("diffusers.pipelines.wan.pipeline_wan_vace.ftfy")
    with pytest.raises(InputError, match=r"a WanVACEPipeline needs the package ftfy; pip install ftfy"):
        made(folder)


def test_what_a_pipeline_does_not_take_is_refused(saved: Callable[[str], Path]) -> None:
    labelled = SampleRequest((0,), (1,), 16, 32, 32, labels=np.array([3]))
    with pytest.raises(InputError, match="takes no labels"):
        made(saved(TEXT)).sample(labelled)
    with pytest.raises(InputError, match=r"takes no context frames; give the option class=NAME"):
        made(saved(TEXT)).sample(request(given=1))
    with pytest.raises(InputError, match="takes no captions"):
        made(saved("StableVideoDiffusionPipeline")).sample(request(captions=("a",), given=1))
    wide = made(saved(IMAGE), native_width="64", aspect="center-crop")
    with pytest.raises(InputError, match="would crop the context frames to 32x64"):
        wide.sample(request(given=1))
    for options, fps in (({"step": "2"}, None), ({}, 12.0)):  # its call makes 24 frames per second
        with pytest.raises(InputError, match="frames would be 2 apart, but the 5 context frames"):
            made(saved(VIDEO), fps, **options).check(request(given=5))
    assert made(saved(VIDEO), 12.0, step="1").check(request(given=5)).used.step == 1


def test_libraries_are_silent(saved: Callable[[str], Path], capfd: pytest.CaptureFixture[str]) -> None:
    folder = saved("TextToVideoSDPipeline")
    capfd.readouterr()
    made(folder).sample(request())
    assert capfd.readouterr() == ("", "")


def test_debug_lets_libraries_speak(monkeypatch: pytest.MonkeyPatch) -> None:
    with quiet():
        assert not logging.getLogger("diffusers.models").isEnabledFor(logging.ERROR)
    assert logging.getLogger("diffusers.models").isEnabledFor(logging.ERROR)
    heard = []

    @click.command
    def listen() -> None:
        with quiet():
            heard.append(logging.getLogger("diffusers.models").isEnabledFor(logging.ERROR))

    monkeypatch.setitem(cli.commands, "listen", listen)
    for options in ([], ["--debug"], []):
        assert CliRunner().invoke(cli, [*options, "listen"]).exit_code == 0
    assert heard == [False, True, False]


@pytest.mark.parametrize(
    "text", ["~" * 9000 + "1", "not " * 2000 + "1", "1 ** " * 1900 + "1", "[" * 50_000, "{{}: 1}"]
)
def test_options_that_are_no_values_are_texts(text: str) -> None:
    assert read_value(text) == text
    assert read_value("[1, -2.5, None]") == [1, -2.5, None]
