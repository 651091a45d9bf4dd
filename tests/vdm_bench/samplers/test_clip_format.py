"""Samplers return torch's layouts and floats if they declare it; what is not declared is refused with a hint."""

from typing import Any

import numpy as np
import pytest
import torch

import vdm_bench
from vdm_bench import ClipFormat
from vdm_bench.errors import InputError
from vdm_bench.samplers.base import SampleRequest, call_sampler, checked_samples
from vdm_bench.samplers.callable import as_sampler

SHAPE = (2, 4, 6, 8, 3)
PIXELS = np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)


def request(context: int = 0) -> SampleRequest:
    return SampleRequest(
        indices=(0, 1),
        seeds=(3, 4),
        frames=SHAPE[1],
        height=SHAPE[2],
        width=SHAPE[3],
        context=PIXELS[:, :context] if context else None,
    )


def as_floats(low: float, high: float) -> np.ndarray:
    return PIXELS.astype(np.float64) / 255 * (high - low) + low


@pytest.mark.parametrize("kind", ["array", "float32", "bfloat16", "uint8 tensor", "uint8 array"])
@pytest.mark.parametrize(("low", "high"), [(-1, 1), (0, 1)])
def test_declared_clips_become_the_same_pixels(kind: str, low: float, high: float) -> None:
    declared = ClipFormat(layout="NCTHW", value_range=(low, high))
    floats = np.moveaxis(as_floats(low, high), -1, 1)
    output: Any = {
        "array": floats,
        "float32": torch.from_numpy(floats).float(),
        "bfloat16": torch.from_numpy(floats).bfloat16(),
        "uint8 tensor": torch.from_numpy(np.moveaxis(PIXELS, -1, 1).copy()),
        "uint8 array": np.moveaxis(PIXELS, -1, 1),
    }[kind]
    clips = checked_samples(output, request(), "mine", declared)
    assert (clips.dtype, clips.shape) == (np.uint8, SHAPE)
    assert np.abs(clips.astype(int) - PIXELS).max() <= (1 if kind == "bfloat16" else 0)


def test_context_frames_survive_floats() -> None:
    output = torch.from_numpy(as_floats(-1, 1)).float().permute(0, 4, 1, 2, 3)
    declared = ClipFormat("NCTHW", (-1, 1))
    assert np.array_equal(checked_samples(output, request(context=3), "mine", declared), PIXELS)
    with pytest.raises(InputError, match="changed the 3 context frames"):
        checked_samples(output * 0.9, request(context=3), "mine", declared)


@ClipFormat("NCTHW", (0, 1))
def decorated(request: SampleRequest) -> np.ndarray:
    return np.moveaxis(as_floats(0, 1), -1, 1)


@ClipFormat("NTCHW")
class Foreign:
    def sample(self, request: SampleRequest) -> np.ndarray:
        return np.moveaxis(PIXELS, -1, 2)


class Own(vdm_bench.Sampler):
    clip_format = ClipFormat("NCTHW", (-1, 1))

    def sample(self, request: SampleRequest) -> Any:
        return torch.from_numpy(np.moveaxis(as_floats(-1, 1), -1, 1))


@pytest.mark.parametrize("target", [decorated, Foreign(), Own()], ids=["function", "class", "subclass"])
def test_all_kinds_of_samplers_declare_a_format(target: object) -> None:
    assert np.array_equal(call_sampler(as_sampler(target, {}), request(), "mine", lambda steps: None), PIXELS)


def test_an_attribute_of_another_kind_is_not_a_format() -> None:
    class Model:
        clip_format = "mp4"

        def sample(self, request: SampleRequest) -> np.ndarray:
            return PIXELS

    assert as_sampler(Model(), {}).clip_format == ClipFormat()
    with pytest.raises(TypeError, match=r"clip_format of the sampler Wrong is not a vdm_bench\.ClipFormat"):

        class Wrong(vdm_bench.Sampler):
            clip_format = "NCTHW"  # type: ignore[assignment]

            def sample(self, request: SampleRequest) -> np.ndarray:
                return PIXELS


@pytest.mark.parametrize(
    ("output", "declared", "message"),
    [
        (
            np.moveaxis(PIXELS, -1, 1),
            ClipFormat(),
            r"returned shape \[2, 3, 4, 6, 8\]; it must return uint8 \[2, 4, 6, 8, 3\], RGB in 0..255, or "
            r"declare its format, such as @vdm_bench.ClipFormat\(layout='NCTHW'\)$",
        ),
        (
            np.moveaxis(as_floats(-1, 1), -1, 1),
            ClipFormat(),
            r"returned float64; .* @vdm_bench.ClipFormat\(layout='NCTHW', value_range=\(-1, 1\)\)$",
        ),
        (as_floats(-1, 1), ClipFormat(), r"returned float64; .* @vdm_bench.ClipFormat\(value_range=\(-1, 1\)\)$"),
        (PIXELS[:1], ClipFormat(), r"it must return uint8 \[2, 4, 6, 8, 3\], RGB in 0..255$"),
        (
            PIXELS,
            ClipFormat("NCTHW", (-1, 1)),
            r"shape \[2, 4, 6, 8, 3\]; it must return NCTHW \[2, 3, 4, 6, 8\] as it declares, uint8 RGB in "
            r"0..255 or float in \[-1, 1\]",
        ),
        (
            np.moveaxis(as_floats(-1, 1), -1, 1),
            ClipFormat("NCTHW", (0, 1)),
            r"sampler mine: float clips lie in \[0, 1\]; these span -1 to 1; clamp or scale them",
        ),
        (np.full(SHAPE, np.nan), ClipFormat(value_range=(0, 1)), "these span nan to nan"),
    ],
    ids=["layout", "layout and floats", "floats", "count", "not as declared", "range", "nan"],
)
def test_other_clips_are_refused(output: np.ndarray, declared: ClipFormat, message: str) -> None:
    with pytest.raises(InputError, match=message):
        checked_samples(output, request(), "mine", declared)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layout": "NCHW"}, "'NCHW' is not an order of the axes"),
        ({"layout": 3}, "is not an order of the axes"),
        ({"value_range": (1, -1)}, "black below white"),
        ({"value_range": (0, float("inf"))}, "black below white"),
        ({"value_range": 1}, "black below white"),
    ],
)
def test_a_format_that_is_none_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ClipFormat(**fields)
