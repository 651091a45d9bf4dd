import sys
from pathlib import Path

import numpy as np
import pytest

from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.errors import InputError
from vdm_bench.samplers import make_sampler, sampler_kind
from vdm_bench.samplers.base import SampleRequest, SamplerSetup, checked_samples, sample_seed

SETUP = SamplerSetup(Shapes("test", seed=1), {})


def request(*indices: int, context: int = 0) -> SampleRequest:
    clips = np.stack([SETUP.conditions[i].frames for i in indices])
    return SampleRequest(
        indices=indices,
        seeds=tuple(sample_seed(0, i) for i in indices),
        frames=16,
        height=32,
        width=32,
        context=clips[:, :context] if context else None,
    )


def clip_of(name: str, index: int, context: int) -> np.ndarray:
    assert sampler_kind(name) == "baseline"
    sampler = make_sampler(name, SETUP)
    return sampler.sample(request(index, context=context))[0]


@pytest.mark.parametrize("name", ["real", "blurred", "shuffled-frames", "copy-last-frame", "noise"])
@pytest.mark.parametrize("context", [0, 4])
def test_a_baseline_keeps_the_contract_and_does_not_depend_on_its_batch(name: str, context: int) -> None:
    sampler = make_sampler(name, SETUP)
    asked = request(3, 0, 9, context=context)
    batch = checked_samples(sampler.sample(asked), asked, name)
    for row, index in enumerate((3, 0, 9)):
        assert np.array_equal(batch[row], clip_of(name, index, context))


def test_real_gives_the_condition_clips() -> None:
    assert np.array_equal(clip_of("real", 5, 4), SETUP.conditions[5].frames)


def test_copy_last_frame_stands_still_at_the_last_given_frame() -> None:
    frames = SETUP.conditions[5].frames
    assert np.array_equal(clip_of("copy-last-frame", 5, 4), np.concatenate([frames[:4], [frames[3]] * 12]))
    assert np.array_equal(clip_of("copy-last-frame", 5, 0), np.stack([frames[0]] * 16))


def test_shuffled_frames_are_the_same_frames_in_another_order() -> None:
    frames, shuffled = SETUP.conditions[5].frames, clip_of("shuffled-frames", 5, 4)
    assert np.array_equal(shuffled[:4], frames[:4])
    assert sorted(f.tobytes() for f in shuffled[4:]) == sorted(f.tobytes() for f in frames[4:])
    assert not np.array_equal(shuffled, frames)


def test_blurred_is_the_rounded_mean_over_5_by_5_pixels() -> None:
    frames, soft = SETUP.conditions[5].frames, clip_of("blurred", 5, 0)
    window = frames[2, 8:13, 20:25].astype(float).mean((0, 1))
    assert np.abs(soft[2, 10, 22] - window).max() <= 0.5
    corner = np.pad(frames[2], ((2, 2), (2, 2), (0, 0)), mode="edge")[:5, :5].astype(float).mean((0, 1))
    assert np.abs(soft[2, 0, 0] - corner).max() <= 0.5


def test_noise_is_uniform_and_another_one_for_every_clip() -> None:
    noise = clip_of("noise", 5, 0)
    assert noise.mean() == pytest.approx(127.5, abs=2)
    assert noise.std() == pytest.approx(np.sqrt((256**2 - 1) / 12), abs=1)
    assert not np.array_equal(noise, clip_of("noise", 6, 0))


def test_sample_seeds_are_pinned_and_differ() -> None:
    """Other seeds would make every recorded run unrepeatable."""
    assert sample_seed(0, 0) == 7896617691693857887
    assert len({sample_seed(run, index) for run in range(3) for index in range(100)}) == 300


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (np.zeros((2, 16, 32, 32, 3), np.float32), "returned float32"),
        (np.full((2, 16, 32, 32, 3), np.nan), "returned NaN"),
        (np.zeros((2, 16, 32, 32, 3), np.int64), "returned int64"),
        (np.zeros((2, 3, 16, 32, 32), np.uint8), r"shape \[2, 3, 16, 32, 32\]"),
        (np.zeros((1, 16, 32, 32, 3), np.uint8), r"shape \[1, 16"),
        ("clips", "returned <U5"),
        (None, "returned object"),
    ],
)
def test_output_of_the_wrong_form_is_refused(output: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        checked_samples(output, request(0, 1), "mine")


def test_changed_context_frames_are_refused() -> None:
    asked = request(0, 1, context=4)
    clips = np.stack([SETUP.conditions[i].frames for i in (0, 1)])
    assert checked_samples(clips, asked, "mine") is clips
    clips[1, 3, 0, 0, 0] ^= 1
    with pytest.raises(InputError, match="changed the 4 context frames"):
        checked_samples(clips, asked, "mine")


def test_a_torch_tensor_is_taken() -> None:
    import torch

    clips = checked_samples(torch.zeros(1, 16, 32, 32, 3, dtype=torch.uint8), request(0), "mine")
    assert isinstance(clips, np.ndarray)


def test_a_tensor_on_another_device_is_brought_here() -> None:
    class OnDevice:
        """What a tensor on a GPU does: NumPy cannot read it before it was copied."""

        def __array__(self, *args: object, **kwargs: object) -> np.ndarray:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")

        def detach(self) -> "OnDevice":
            return self

        def cpu(self) -> np.ndarray:
            return np.full((1, 16, 32, 32, 3), 7, np.uint8)

    assert (checked_samples(OnDevice(), request(0), "mine") == 7).all()


MODULE = """
import numpy as np

def sample(request, level="7"):
    return np.full((len(request), request.frames, request.height, request.width, 3), int(level), np.uint8)

class Model:
    def __init__(self, level):
        self.level = int(level)
    def sample(self, request):
        return sample(request, self.level)

ready = Model(9)
number = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_sampler_of_tests.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    sys.modules.pop("my_sampler_of_tests", None)
    return "my_sampler_of_tests"


@pytest.mark.parametrize(
    ("name", "options", "level"),
    [("sample", {}, 7), ("sample", {"level": "5"}, 5), ("Model", {"level": "6"}, 6), ("ready", {}, 9)],
)
def test_functions_classes_and_objects_are_samplers(
    module: str, name: str, options: dict[str, str], level: int
) -> None:
    sampler = make_sampler(f"{module}:{name}", SamplerSetup(SETUP.conditions, options))
    asked = request(0, 1)
    assert sampler_kind(f"{module}:{name}") == "callable"
    assert (checked_samples(sampler.sample(asked), asked, name) == level).all()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("no_such_module:sample", "No module named 'no_such_module'"),
        ("my_sampler_of_tests:nothing", "no attribute 'nothing'"),
        ("my_sampler_of_tests:number", "neither a function nor an object"),
        ("my_sampler_of_tests:Model", "needs the option level; give --option level=VALUE"),
        ("reel", "did you mean 'real'"),
        ("xyzzy", "list samplers"),
    ],
)
def test_what_is_no_sampler_is_refused(module: str, spec: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make_sampler(spec, SETUP)


def test_baselines_take_no_options() -> None:
    with pytest.raises(InputError, match="leave out strength"):
        make_sampler("blurred", SamplerSetup(SETUP.conditions, {"strength": "2"}))
