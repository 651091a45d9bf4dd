"""Pipelines of diffusers under protocols: tiny ones of every family, saved and loaded by diffusers itself."""

import itertools
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import miniatures
import numpy as np
import pytest
import torch
from paths import ROOT

from vdm_bench import run
from vdm_bench.cli import cli
from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.errors import InputError
from vdm_bench.metrics.resize import fit
from vdm_bench.protocols import get_protocol
from vdm_bench.samplers import make_sampler
from vdm_bench.samplers.base import SampleRequest, SamplerSetup, checked_samples
from vdm_bench.samplers.diffusers.capabilities import Lengths, capabilities_of
from vdm_bench.samplers.diffusers.options import read_options
from vdm_bench.samplers.diffusers.sampler import DiffusersSampler

pytest.importorskip("diffusers")
from diffusers_samplers import IMAGE, SMALL, TEXT, VIDEO, made, request, small  # needs diffusers
from tiny_pipelines import PIPELINES, Tiny

PAGE = ROOT / "docs" / "run-a-diffusers-model.md"


# Every family


def cases() -> list[Any]:
    return [pytest.param(tiny, marks=[pytest.mark.slow] if tiny.slow else [], id=tiny.kind) for tiny in PIPELINES]


@pytest.mark.parametrize("tiny", cases())
def test_a_family_runs_under_the_protocols_it_can(
    tiny: Tiny, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    options = {"pipeline": str(saved(tiny.kind)), **SMALL, **tiny.options}
    can = made(saved(tiny.kind)).can
    tasks = [] if can.needs_frames else ["shapes-text"]
    tasks += ["shapes-prediction"] if can.frames_as else []
    assert tasks
    for task in tasks:
        record = run(small(task), out=tmp_path / task, sampler="diffusers", options=options)
        assert (record.sampler.kind, record.generated.scored) == ("diffusers", 2)
        assert record.sampler.settings["class"] == tiny.kind
        assert record.scores[0].value is not None


def test_captioned_videos_give_the_captions(saved: Callable[[str], Path], tmp_path: Path) -> None:
    root = miniatures.write_captioned(tmp_path / "data")
    changes = {"metrics": ("embedded/fvd",), "frame_metrics": (), "reference_count": 4, "resolution": 32}
    options = {"pipeline": str(saved(TEXT)), **SMALL}
    record = run(
        small("text-video", **changes), out=tmp_path / "run", sampler="diffusers", options=options, data_root=root
    )
    assert record.generated.scored == 2
    clips = [np.load(path) for path in (tmp_path / "run/samples").glob("*.npy")]
    assert not np.array_equal(clips[0][0], clips[0][1])


def table(saved: Callable[[str], Path]) -> str:
    """What each pipeline makes, as the page lists it."""
    titles = ("model", "class", "captions", "context frames", "frame counts")
    titles += ("default length", "default size", "sides are multiples of", "frames per second")
    rows = [titles, ("---",) * len(titles)]
    for tiny in PIPELINES:
        can = made(saved(tiny.kind)).can
        rows.append(
            (
                tiny.family,
                f"`{tiny.kind}`",
                "no" if can.needs_frames and not can.takes_captions else "yes",
                ("needed: " if can.needs_frames else "") + " or ".join(can.frames_as) if can.frames_as else "no",
                str(can.lengths),
                str(can.native_frames or ("of the input" if can.length_argument is None else "its own")),
                "x".join(map(str, can.native_size)) if can.native_size else "its own",
                str(can.side_multiple),
                "unknown" if can.native_fps is None else f"{can.native_fps:g}",
            )
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def test_the_page_lists_what_these_pipelines_make(saved: Callable[[str], Path]) -> None:
    assert len({tiny.family for tiny in PIPELINES}) >= 16
    expected = table(saved)
    assert expected in PAGE.read_text("utf-8"), f"the table of {PAGE.name} must be\n{expected}"


def commands() -> list[list[str]]:
    """The commands of the page that run a pipeline, as lists of words."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if "--sampler diffusers" in line]


@pytest.mark.parametrize("words", commands())
def test_the_options_of_a_command_of_the_page_are_taken(words: list[str], saved: Callable[[str], Path]) -> None:
    options = dict(word.split("=", 1) for before, word in itertools.pairwise(words) if before == "--option")
    named = {"Wan-AI": "WanPipeline", "Lightricks": "LTXPipeline", "stabilityai": "StableVideoDiffusionPipeline"}
    folder = saved(named[options["pipeline"].split("/")[0]])
    setup = SamplerSetup(Shapes("test"), options | {"pipeline": str(folder)})
    sampler = make_sampler("diffusers", setup)
    assert isinstance(sampler, DiffusersSampler)
    protocol = get_protocol(words[2])
    given = protocol.context_frames
    frames = Shapes("test", resolution=64, frames=protocol.frames)[0].frames[None]
    sampler.check(
        SampleRequest((0,), (1,), protocol.frames, 64, 64, context=frames[:, :given] if given else None)
    )
    assert cli.commands["run"].make_context("run", words[2:]).params["sampler"] == "diffusers"


# Seeds and batches


@pytest.mark.parametrize(
    "kind", ["TextToVideoSDPipeline", "WanPipeline", "CogVideoXPipeline", "LTXPipeline", "MochiPipeline"]
)
def test_a_clip_is_the_same_in_any_batch(kind: str, saved: Callable[[str], Path]) -> None:
    captions = ("a cat", "zebra", "a cat")
    whole = made(saved(kind), batch="3").sample(request((1, 2, 3), captions))
    assert (whole.shape, whole.dtype) == ((3, 16, 32, 32, 3), np.uint8)
    single = made(saved(kind))
    for place, seed in enumerate((1, 2, 3)):
        alone = single.sample(request((seed,), (captions[place],)))[0]
        assert np.abs(alone.astype(int) - whole[place]).max() <= 1
    assert not np.array_equal(whole[0], whole[2])
    assert not np.array_equal(single.sample(request((1,), ("zebra",)))[0], whole[0])


def test_without_captions_the_prompt_is_taken(saved: Callable[[str], Path]) -> None:
    folder = saved("TextToVideoSDPipeline")
    said = made(folder, prompt="a dog").sample(request((5,)))
    assert np.array_equal(said, made(folder).sample(request((5,), ("a dog",))))
    assert not np.array_equal(said, made(folder).sample(request((5,))))


def test_options_change_what_is_made(saved: Callable[[str], Path]) -> None:
    asked = request(captions=("a cat",))
    plain = made(saved(TEXT)).sample(asked)
    changes = [
        {"negative_prompt": "blurred"},
        {"scheduler": "UniPCMultistepScheduler"},
        {"scheduler.shift": "9"},
        {"guidance_scale": "1.5"},
        {"dtype": "bf16", "vae_dtype": "fp32"},
    ]
    for change in changes:
        sampler = made(saved(TEXT), **change)
        assert not np.array_equal(sampler.sample(asked), plain), change
        recorded = sampler.recorded_settings
        assert recorded is not None
        assert {key: str(recorded[key]) for key in change} == change
    for same in ({"vae_slicing": "true"}, {"device_map": "cpu"}):
        assert np.array_equal(made(saved(TEXT), **same).sample(asked), plain), same


# Frames in time, and size


class Counting:
    """A pipeline whose frame i is of gray i; it keeps what it was asked for."""

    def __init__(self, make: int = 0) -> None:
        self.make, self.asked = make, dict[str, Any]()

    def __call__(
        self,
        prompt: str | None = None,
        height: int = 32,
        width: int = 64,
        num_frames: int = 81,
        num_inference_steps: int = 3,
        fps: float = 16,
        generator: object = None,
        output_type: str = "pil",
        callback_on_step_end: Callable[..., object] | None = None,
    ) -> object:
        self.asked = dict(locals())
        assert output_type == "np"
        for step in range(num_inference_steps - 1):
            assert callback_on_step_end is not None
            callback_on_step_end(self, step, None, {})
        grays = np.arange(self.make or num_frames, dtype=np.float32)[:, None, None, None] / 255
        return SimpleNamespace(frames=np.broadcast_to(grays, (1, len(grays), height, width, 3)))


class CountingImage(Counting):
    """The same, from an image, whose size it takes."""

    def __call__(  # type: ignore[override]
        self,
        image: Any,
        num_frames: int = 81,
        num_inference_steps: int = 3,
        generator: object = None,
        output_type: str = "pil",
        callback_on_step_end: Callable[..., object] | None = None,
    ) -> object:
        width, height = image.size
        rest = {"output_type": output_type, "callback_on_step_end": callback_on_step_end}
        output = super().__call__(None, height, width, num_frames, num_inference_steps, **rest)
        self.asked["image"] = image
        return output


def counting(
    pipeline: Counting | None = None, protocol_fps: float | None = None, **options: str
) -> tuple[DiffusersSampler, Counting]:
    pipeline = pipeline or Counting()
    vae = SimpleNamespace(config={"scale_factor_temporal": 4, "scale_factor_spatial": 8})
    can = capabilities_of(type(pipeline), {"transformer": {"patch_size": [1, 2, 2]}}, vae)
    read = read_options({"pipeline": "counting", **options})
    return DiffusersSampler(read, can, lambda: pipeline, fps=protocol_fps), pipeline


def grays(clips: Any) -> list[int]:
    return [int(value) for value in clips[0, :, 0, 0, 0]]


def test_the_next_valid_length_is_made_and_the_first_frames_are_taken() -> None:
    sampler, pipeline = counting()
    assert grays(sampler.sample(request(frames=16))) == list(range(16))
    assert pipeline.asked["num_frames"] == 17
    assert (pipeline.asked["height"], pipeline.asked["width"]) == (32, 64)


@pytest.mark.parametrize(
    ("options", "fps", "step", "made_frames"),
    [
        ({"step": "5"}, None, 5, 77),
        ({"step": "5", "native_frames": "81"}, None, 5, 81),
        ({}, 8.0, 2, 33),  # the call's default is 16 frames per second
        ({"native_fps": "24"}, 8.0, 3, 49),
        ({"fps": "24"}, 8.0, 3, 49),
        ({"native_fps": "24"}, None, 1, 17),
        ({"native_fps": "4"}, 8.0, 1, 17),
    ],
)
def test_frames_are_taken_at_the_rate_of_the_protocol(
    options: dict[str, str], fps: float | None, step: int, made_frames: int
) -> None:
    sampler, pipeline = counting(protocol_fps=fps, **options)
    assert grays(sampler.sample(request(frames=16))) == [step * place for place in range(16)]
    assert pipeline.asked["num_frames"] == made_frames
    assert sampler.recorded_settings["step"] == step


@pytest.mark.parametrize("aspect", ["center-crop", "stretch", "short-side"])
def test_clips_are_resized_by_the_named_rule(aspect: Any, saved: Callable[[str], Path]) -> None:
    options = {"native_width": "64", "aspect": aspect, "resize": "half-pixel"}
    asked = request(captions=("a",))
    found = made(saved(TEXT), **options).sample(asked)
    native = SampleRequest((0,), (3,), 16, 32, 64, captions=("a",))
    whole = torch.from_numpy(made(saved(TEXT), native_width="64").sample(native)[0])
    expected = fit(whole.movedim(-1, 1), (32, 32), "half-pixel", aspect).round().clamp(0, 255)
    assert np.array_equal(found[0], expected.movedim(1, -1).numpy().astype(np.uint8))


def test_an_image_is_the_last_context_frame_and_frames_follow_it() -> None:
    sampler, pipeline = counting(CountingImage())
    asked = request(frames=16, given=4)
    clips = checked_samples(sampler.sample(asked), asked, "counting")  # holds the context frames as they were
    assert grays(clips)[4:] == list(range(1, 13))
    assert asked.context is not None
    assert np.array_equal(np.asarray(pipeline.asked["image"]), asked.context[0, 3])
    assert pipeline.asked["num_frames"] == 13


def test_a_step_counts_from_the_last_context_frame() -> None:
    sampler, pipeline = counting(CountingImage(), step="3")
    assert grays(sampler.sample(request(frames=16, given=4)))[4:] == [3 * place for place in range(1, 13)]
    assert pipeline.asked["num_frames"] == 37


def test_progress_adds_up_to_the_evaluations() -> None:
    sampler, _ = counting(num_inference_steps="5")
    asked, steps = request((1, 2), frames=16), list[int]()
    sampler.sample_with_progress(asked, steps.append)
    assert sampler.evaluations(asked) == 5
    assert sum(steps) == 2 * 5
    assert len(steps) > 2


class Posed(Counting):
    def __call__(self, prompt: str, pose: Any, num_frames: int = 81) -> object:  # type: ignore[override]
        return super().__call__(prompt, num_frames=num_frames)


def test_an_argument_that_no_protocol_gives_is_named() -> None:
    with pytest.raises(InputError, match="a Posed needs the argument pose, which no protocol gives"):
        counting(Posed())


def test_the_record_says_how_clips_were_made(saved: Callable[[str], Path]) -> None:
    settings = made(saved("LTXPipeline"), fps=12.5, aspect="stretch").recorded_settings
    expected = {
        "class": "LTXPipeline",
        "lengths": "8k + 1",
        "native_height": 32,
        "native_width": 32,
        "native_frames": "next valid length",
        "native_fps": 25.0,
        "step": 2,
        "resize": "antialias",
        "aspect": "stretch",
        "dtype": "fp32",
        "num_inference_steps": 2,
    }
    assert settings is not None
    assert {name: settings[name] for name in expected} == expected


def test_too_few_frames_are_refused_with_both_numbers() -> None:
    sampler, _ = counting(Counting(make=13))
    with pytest.raises(InputError, match="made 13 frames where 17 were asked for, and 16 are needed"):
        sampler.sample(request(frames=16))


def test_lengths_are_those_of_the_autoencoder() -> None:
    wan, cogvideox, motion = Lengths(4, 1), Lengths(8, 1), Lengths(most=32)
    assert [frames for frames in range(1, 30) if frames in wan] == [1, 5, 9, 13, 17, 21, 25, 29]
    assert [cogvideox.at_least(frames) for frames in (1, 2, 16, 17, 18)] == [1, 9, 17, 17, 25]
    assert [wan.at_most(frames) for frames in (1, 4, 5, 16)] == [1, 1, 5, 13]
    assert (motion.at_least(32), motion.at_least(33), motion.at_most(33)) == (32, None, 32)
    assert [str(lengths) for lengths in (wan, motion, Lengths(16, 8, 24), Lengths(least=16, most=16))] == [
        *("4k + 1", "any, at most 32", "16k + 8", "exactly 16")
    ]


# Context frames


@pytest.mark.parametrize(
    ("kind", "given", "frames_as", "used"),
    [
        *((VIDEO, 1, "video", 1), (VIDEO, 4, "video", 1), (VIDEO, 5, "video", 5), (VIDEO, 8, "video", 5)),
        *(("LTXConditionPipeline", 8, "image", 1), ("LTXConditionPipeline", 9, "video", 9)),
    ],
)
def test_a_video_holds_as_many_frames_as_are_encoded(
    kind: str, given: int, frames_as: str, used: int, saved: Callable[[str], Path]
) -> None:
    sampler, asked = made(saved(kind)), request(given=given)
    timing = sampler.check(asked)
    assert (timing.frames_as, timing.context, timing.used[0]) == (frames_as, used, used)
    clips = checked_samples(sampler.sample(asked), asked, "diffusers")
    assert clips.shape == (1, 16, 32, 32, 3)


@pytest.mark.parametrize("kind", [IMAGE, VIDEO, "WanVACEPipeline", "AnyFlowPipeline", "LTXConditionPipeline"])
def test_context_frames_change_what_follows(kind: str, saved: Callable[[str], Path]) -> None:
    sampler, asked = made(saved(kind)), request(given=9)
    assert asked.context is not None
    other = SampleRequest(asked.indices, asked.seeds, 16, 32, 32, context=255 - asked.context)
    assert not np.array_equal(sampler.sample(asked)[:, 9:], sampler.sample(other)[:, 9:])


def test_a_list_of_conditions_holds_one_video(saved: Callable[[str], Path]) -> None:
    sampler, asked = made(saved("LTXConditionPipeline")), request(given=9)
    assert asked.context is not None
    arguments: dict[str, Any] = sampler._context_arguments(asked.context[0], sampler.check(asked))
    assert [len(video) for video in arguments["video"]] == [9]


def test_unknown_frames_are_masked(saved: Callable[[str], Path]) -> None:
    sampler = made(saved("WanVACEPipeline"))
    arguments = sampler._context_arguments(request(given=4).context[0], sampler.check(request(given=4)))
    assert [np.asarray(frame).max() for frame in arguments["mask"]] == [0] * 4 + [255] * 13
    assert len(arguments["video"]) == 17


# What is refused, and when


def test_a_pipeline_can_be_loaded_as_another_class(saved: Callable[[str], Path]) -> None:
    options = {"class": "LTXImageToVideoPipeline"}
    sampler = made(saved("LTXPipeline"), **options)
    assert sampler.sample(request(given=1)).shape == (1, 16, 32, 32, 3)
    assert sampler.recorded_settings["class"] == "LTXImageToVideoPipeline"


# Weights, words


def test_weights_are_released_and_loaded_again(saved: Callable[[str], Path]) -> None:
    sampler, asked = made(saved(TEXT)), request(captions=("a",))
    first = sampler.sample(asked)
    sampler.close()
    assert sampler._pipeline is None
    assert np.array_equal(sampler.sample(asked), first)
