"""Samplers on tiny pipelines of diffusers, saved once, and requests to them."""

from pathlib import Path

import numpy as np
from tiny_pipelines import PIPELINES

from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.protocols import Protocol, get_protocol
from vdm_bench.samplers import make_sampler, sampler_kind
from vdm_bench.samplers.base import SampleRequest, SamplerSetup
from vdm_bench.samplers.diffusers.sampler import DiffusersSampler

SMALL = {"native_height": "32", "native_width": "32", "num_inference_steps": "2"}


BY_KIND = {tiny.kind: tiny for tiny in PIPELINES}


TEXT, IMAGE, VIDEO = (
    "WanPipeline",
    "CogVideoXImageToVideoPipeline",
    "SkyReelsV2DiffusionForcingVideoToVideoPipeline",
)


def made(folder: Path, fps: float | None = None, **options: str) -> DiffusersSampler:
    of_class = BY_KIND[folder.name].options if folder.name in BY_KIND else {}
    texts = {"pipeline": str(folder), **SMALL, **of_class, **options}
    sampler = make_sampler("diffusers", SamplerSetup(Shapes("test"), texts, fps=fps))
    assert sampler_kind("diffusers") == "diffusers"
    assert isinstance(sampler, DiffusersSampler)
    return sampler


def request(
    seeds: tuple[int, ...] = (3,), captions: tuple[str, ...] | None = None, frames: int = 16, given: int = 0
) -> SampleRequest:
    clips = Shapes("test", seed=5, resolution=32, frames=frames)
    context = np.stack([clips[row].frames[:given] for row in range(len(seeds))]) if given else None
    return SampleRequest(tuple(range(len(seeds))), seeds, frames, 32, 32, context=context, captions=captions)


def small(name: str, **changes: object) -> Protocol:
    return get_protocol(name).model_copy(update={"generated_count": 2, "reference_count": 64, **changes})
