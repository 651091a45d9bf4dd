"""A diffusers video pipeline with tiny random weights, saved and loaded through diffusers itself."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vdm_bench import run
from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.errors import InputError
from vdm_bench.protocols import get_protocol
from vdm_bench.samplers import make_sampler, sampler_kind
from vdm_bench.samplers.base import SampleRequest, SamplerSetup
from vdm_bench.samplers.diffusers import _value

pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text-to-video pipeline that weighs next to nothing."""
    from diffusers import AutoencoderKL, DDIMScheduler, TextToVideoSDPipeline, UNet3DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    path = tmp_path_factory.mktemp("diffusers")
    words = ["<|startoftext|>", "<|endoftext|>", *(f"{letter}</w>" for letter in "abcdefghijklmnopqrstuvwxyz")]
    words += list("abcdefghijklmnopqrstuvwxyz")
    (path / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (path / "merges.txt").write_text("#version: 0.2\n")
    torch.manual_seed(0)
    unet = UNet3DConditionModel(
        block_out_channels=(4, 8),
        layers_per_block=1,
        sample_size=16,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=8,
        attention_head_dim=4,
        norm_num_groups=2,
    )
    vae = AutoencoderKL(
        block_out_channels=(8,),
        down_block_types=("DownEncoderBlock2D",),
        up_block_types=("UpDecoderBlock2D",),
        latent_channels=4,
        norm_num_groups=2,
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            hidden_size=8, intermediate_size=16, num_attention_heads=2, num_hidden_layers=1, vocab_size=len(words)
        )
    )
    tokenizer = CLIPTokenizer(str(path / "vocab.json"), str(path / "merges.txt"), model_max_length=77)
    pipeline = TextToVideoSDPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False),
    )
    pipeline.save_pretrained(path / "pipeline")
    return path / "pipeline"


def made(folder: Path, **options: str) -> Any:
    setup = SamplerSetup(Shapes("test"), {"pipeline": str(folder), "num_inference_steps": "2", **options})
    assert sampler_kind("diffusers") == "diffusers"
    return make_sampler("diffusers", setup)


def request(seeds: tuple[int, ...], captions: tuple[str, ...] | None = None) -> SampleRequest:
    return SampleRequest(tuple(range(len(seeds))), seeds, 4, 16, 16, captions=captions)


def test_a_pipeline_runs_under_a_protocol(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path / "cache"))
    protocol = get_protocol("shapes-text").model_copy(update={"generated_count": 3, "reference_count": 64})
    options = {"pipeline": str(folder), "num_inference_steps": "1", "guidance_scale": "1.5"}
    record = run(protocol, out=tmp_path / "run", sampler="diffusers", options=options)
    assert (record.sampler.kind, record.generated.scored) == ("diffusers", 3)
    settings = record.sampler.settings
    assert (settings["class"], settings["guidance_scale"]) == ("TextToVideoSDPipeline", 1.5)


def test_clips_depend_on_their_own_seed_and_caption_alone(folder: Path) -> None:
    whole = made(folder, batch="3").sample(request((1, 2, 3), ("a cat", "b", "a cat")))
    assert (whole.shape, whole.dtype) == ((3, 4, 16, 16, 3), np.uint8)
    single = made(folder)
    for place, (seed, caption) in enumerate(((1, "a cat"), (2, "b"), (3, "a cat"))):
        alone = single.sample(request((seed,), (caption,)))[0]
        assert np.abs(alone.astype(int) - whole[place]).max() <= 1
    assert not np.array_equal(whole[0], whole[2])
    other = single.sample(request((1,), ("zebra",)))[0]
    assert not np.array_equal(other, whole[0])


def test_without_captions_the_prompt_is_taken(folder: Path) -> None:
    said = made(folder, prompt="a dog").sample(request((5,)))
    assert np.array_equal(said, made(folder).sample(request((5,), ("a dog",))))
    assert not np.array_equal(said, made(folder).sample(request((5,))))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"num_inference_step": "3"},
            "Pipeline option 'num_inference_step'; did you mean 'num_inference_steps'",
        ),
        ({"height": "16"}, "Pipeline option 'height'"),
        ({"batch": "0"}, "option batch=0 must be a whole number, 1 or more"),
        ({"dtype": "int8"}, "option dtype=int8 must be one of fp32, fp16, bf16"),
        ({"pipeline": "/nowhere"}, "the pipeline /nowhere cannot be loaded"),
    ],
)
def test_bad_options_are_refused(folder: Path, options: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        made(folder, **options)


@pytest.mark.parametrize(
    "text", ["~" * 9000 + "1", "not " * 2000 + "1", "1 ** " * 1900 + "1", "[" * 50_000, "{{}: 1}"]
)
def test_options_that_are_no_values_are_texts(text: str) -> None:
    assert _value(text) == text
    assert _value("[1, -2.5, None]") == [1, -2.5, None]


def test_what_a_pipeline_does_not_take_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="needs --option pipeline=FOLDER_OR_NAME"):
        make_sampler("diffusers", SamplerSetup(Shapes("test"), {}))
    sampler = made(folder)
    labelled = SampleRequest((0,), (1,), 4, 16, 16, labels=np.array([3]))
    with pytest.raises(InputError, match="takes captions, not labels"):
        sampler.sample(labelled)
    given = SampleRequest((0,), (1,), 4, 16, 16, context=np.zeros((1, 1, 16, 16, 3), np.uint8))
    with pytest.raises(InputError, match="takes captions, not context frames"):
        sampler.sample(given)
