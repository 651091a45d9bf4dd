"""Clips that a Python program holds: what is taken, as which pixels, and what is refused with which words."""

from pathlib import Path

import numpy as np
import pytest
import torch

import vdm_bench
from vdm_bench.datasets.in_memory import ArrayDataset, JoinedClips
from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.errors import InputError
from vdm_bench.video.view import View

CLIPS = np.stack([Shapes("test", seed=3)[i].frames for i in range(4)])
GRAY = CLIPS[..., 1]
METRIC = "embedded/fvd"


def pixels(dataset: ArrayDataset) -> np.ndarray:
    found = np.stack([dataset[i].frames for i in range(len(dataset))])
    assert found.dtype == np.uint8
    return found


def unwritable(clips: np.ndarray) -> np.ndarray:
    clips = clips.copy()
    clips.flags.writeable = False
    return clips


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("given", "settings"),
    [
        (CLIPS, {}),
        (unwritable(CLIPS), {}),
        (np.ascontiguousarray(CLIPS[::-1])[::-1], {}),
        (torch.from_numpy(CLIPS), {}),
        (list(CLIPS), {}),
        (tuple(torch.from_numpy(CLIPS)), {}),
        ([CLIPS[0], *torch.from_numpy(CLIPS[1:])], {}),
        (CLIPS.transpose(0, 4, 1, 2, 3), {"layout": "NCTHW"}),
        (torch.from_numpy(CLIPS).permute(0, 1, 4, 2, 3), {"layout": "NTCHW"}),
        (CLIPS.transpose(1, 0, 2, 3, 4), {"layout": "TNHWC"}),
        ([clip.transpose(3, 0, 1, 2) for clip in CLIPS], {"layout": "NCTHW"}),
        (CLIPS / 255, {"value_range": (0, 1)}),
        (CLIPS.astype(np.float32), {"value_range": (0, 255)}),
        (unwritable(CLIPS / np.float32(127.5) - 1), {"value_range": (-1, 1)}),
        (torch.from_numpy(CLIPS / 255).requires_grad_(), {"value_range": [0, 1]}),
        ((torch.from_numpy(CLIPS) / 255).movedim(-1, 1), {"value_range": (0, 1), "layout": "NCTHW"}),
        ([torch.from_numpy(clip) / 255 for clip in CLIPS], {"value_range": (0.0, 1.0)}),
        (torch.from_numpy(CLIPS).bfloat16(), {"value_range": (0, 255)}),  # whole numbers to 256 are exact in it
        (CLIPS, {"value_range": (0, 1)}),  # uint8 is in 0..255 in any case
        (CLIPS, {"layout": "NCTHW"}),  # it can be nothing else than NTHWC: the layout is that of the other side
        (list(CLIPS), {"layout": "NTHW"}),
    ],
)
def test_clips_of_every_kind_are_the_same_pixels(given: object, settings: dict[str, object]) -> None:
    dataset = ArrayDataset(given, **settings)  # type: ignore[arg-type]
    assert np.array_equal(pixels(dataset), CLIPS)
    assert dataset.fingerprint(2) == ArrayDataset(CLIPS).fingerprint(2)


@pytest.mark.parametrize(
    ("given", "settings"),
    [
        (GRAY[..., None], {}),
        (torch.from_numpy(GRAY[..., None]), {}),
        (GRAY, {"layout": "NTHW"}),
        (list(GRAY), {"layout": "NTHW"}),
        (GRAY[:, None], {"layout": "NCTHW"}),
        (torch.from_numpy(GRAY / 255)[:, :, None], {"layout": "NTCHW", "value_range": (0, 1)}),
    ],
)
def test_gray_is_repeated(given: object, settings: dict[str, object]) -> None:
    assert np.array_equal(pixels(ArrayDataset(given, **settings)), np.stack([GRAY] * 3, axis=-1))  # type: ignore[arg-type]


def test_floats_are_rounded_halves_to_even() -> None:
    values = np.array([0.0, 0.5, 1.5, 2.5, 2.51, 254.4, 254.5, 255.0], np.float32)
    clips = np.broadcast_to(values[:, None, None, None, None], (8, 1, 1, 1, 3))
    found = pixels(ArrayDataset(clips, value_range=(0, 255)))[..., 0].ravel()
    assert found.tolist() == [0, 0, 2, 2, 3, 254, 254, 255]


def test_an_array_is_not_copied() -> None:
    """It may be a file of many gigabytes that is mapped into memory."""
    clips = CLIPS.copy()
    assert np.shares_memory(ArrayDataset(clips)[1].frames, clips)
    assert np.shares_memory(ArrayDataset(GRAY, layout="NTHW")[1].frames, GRAY)


SHAPE = "must be uint8 [N, T, H, W, 3] in 0..255; these are"


@pytest.mark.parametrize(
    ("given", "settings", "words"),
    [
        (
            CLIPS / 255,
            {},
            f"{SHAPE} float64 [4, 16, 32, 32, 3]; say the range of floats, such as value_range=(0, 1)",
        ),
        (list(torch.zeros(2, 4, 8, 8, 3)), {}, f"{SHAPE} float32 [4, 8, 8, 3]; say the range of floats"),
        (CLIPS.astype(np.int64), {}, f"{SHAPE} int64 [4, 16, 32, 32, 3]; convert them to uint8"),
        (torch.from_numpy(CLIPS).int(), {}, f"{SHAPE} int32 [4, 16, 32, 32, 3]; convert them to uint8"),
        (CLIPS > 9, {}, f"{SHAPE} bool"),
        (CLIPS.astype(object), {}, f"{SHAPE} object"),
        (CLIPS[0], {}, f"{SHAPE} uint8 [16, 32, 32, 3]; give one clip as a list of one, and gray clips with"),
        (CLIPS[0, 0], {}, f"{SHAPE} uint8 [32, 32, 3]; say the order"),
        (
            CLIPS.transpose(0, 4, 1, 2, 3),
            {},
            "32, 32]; say the order of their axes, such as layout='NCTHW'",
        ),
        (CLIPS.transpose(0, 1, 4, 2, 3), {"layout": "NCTHW"}, "(this is NCTHW)"),
        (np.zeros((2, 4, 8, 8, 4), np.uint8), {}, "take away alpha"),
        (np.zeros((0, 4, 8, 8, 3), np.uint8), {}, f"{SHAPE} uint8 [0, 4, 8, 8, 3]; give at least one clip"),
        (np.zeros((2, 0, 8, 8, 3), np.uint8), {}, "of one frame or more"),
        ([CLIPS], {}, "give all clips as one array"),
        ([CLIPS[0], CLIPS[1, :8]], {}, "number 0 is 16 frames of 32x32, number 1 8 frames of 32x32"),
        ([CLIPS[0], CLIPS[1].tolist()], {}, f"{SHAPE} of type list"),
        ([], {}, f"{SHAPE} an empty list"),
        ((), {}, f"{SHAPE} an empty list"),
        ([CLIPS[0], "a.mp4"], {}, f"{SHAPE} a list of paths and other things"),
        (np.ma.masked_greater(CLIPS, 200), {}, "masked; give a plain array"),
        ([CLIPS[0], np.ma.masked_equal(CLIPS[1], CLIPS[1].max())], {}, "masked; give a plain array"),
        (
            None,
            {},
            f"{SHAPE} of type NoneType; "
            "give a path, an array, a tensor, a list of clips or of paths, or a `ClipDataset`",
        ),
        ({"a.mp4"}, {}, f"{SHAPE} of type set"),
        ((clip for clip in CLIPS), {}, f"{SHAPE} of type generator"),
        (7, {}, f"{SHAPE} of type int"),
        (torch.empty(CLIPS.shape, dtype=torch.uint8, device="meta"), {}, "without values; give a dense tensor"),
        ([torch.from_numpy(CLIPS[0]).to_sparse()], {}, "laid out as torch.sparse_coo; give a dense tensor"),
        ("nowhere", {}, "nowhere does not exist"),
        (["nowhere.mp4"], {}, "nowhere.mp4 does not exist"),
        (CLIPS / 255, {"value_range": (0, 0.5)}, "lie in [0, 0.5]; these span"),
        (CLIPS / 127.5 - 1, {"value_range": (0, 1)}, "lie in [0, 1]; these span -0.88"),
        (np.full((2, 4, 8, 8, 3), np.nan), {"value_range": (0, 1)}, "these span nan to nan"),
        (CLIPS / 255, {"value_range": (1, 0)}, "value_range (1, 0) is not a pair of numbers, black below white"),
        (CLIPS / 255, {"value_range": 255}, "value_range 255 is not a pair of numbers"),
        (CLIPS / 255, {"value_range": (0, 1, 2)}, "is not a pair of numbers"),
        (CLIPS, {"layout": "NHWC"}, "layout 'NHWC' is not an order of the axes N, T, H, W and C"),
        (CLIPS, {"layout": ("N", "T")}, "is not an order of the axes"),
    ],
)
def test_anything_else_is_refused_with_the_way_out(
    given: object, settings: dict[str, object], words: str
) -> None:
    for side, sides in {"generated": (given, CLIPS), "reference": (CLIPS, given)}.items():
        with pytest.raises(InputError) as caught:
            vdm_bench.score(*sides, METRIC, **settings)  # type: ignore[arg-type]
        assert words in str(caught.value)
        assert "does not exist" in words or settings or str(caught.value).startswith(f"the {side} clips")


@pytest.mark.parametrize("metrics", [[], (), None, 3, [None], [METRIC, 3]])
def test_metrics_that_are_no_names_are_refused(metrics: object) -> None:
    with pytest.raises(InputError, match="metrics are names, one or more"):
        vdm_bench.score(CLIPS, CLIPS, metrics)  # type: ignore[arg-type]


def test_scores_are_those_of_arrays(tmp_path: Path) -> None:
    """Tensors, lists, floats, channels first, gray and paths, on either side, through the public functions."""
    other = np.ascontiguousarray(CLIPS[:, ::-1])
    (expected,) = vdm_bench.score(CLIPS, other, METRIC)

    def value(generated: object, reference: object, **settings: object) -> float | None:
        (score,) = vdm_bench.score(generated, reference, [METRIC], **settings)  # type: ignore[arg-type]
        assert score.signature == expected.signature
        return score.value

    first = (torch.from_numpy(CLIPS) / 255).movedim(-1, 1)
    assert value(torch.from_numpy(CLIPS), list(other)) == expected.value
    assert value(first, other.transpose(0, 4, 1, 2, 3), value_range=(0, 1), layout="NCTHW") == expected.value
    assert value(first, other, value_range=(0, 1), layout="NCTHW") == expected.value
    paths = [tmp_path / f"{i}.npy" for i in (3, 0, 2, 1)]  # in the order given, not of names
    for path, clip in zip(paths, CLIPS, strict=True):
        np.save(path, clip)
    assert value(paths, other) == value([str(path) for path in paths], list(other)) == expected.value
    np.save(tmp_path / "pair.npy", CLIPS[2:])
    assert value([*paths[:2], tmp_path / "pair.npy"], other) == expected.value
    record = vdm_bench.score_record(paths, other, vdm_bench.ScoreOptions(metrics=METRIC))
    assert record.name == f"{paths[0]} and 3 more"


def test_joined_clips_are_those_of_their_parts() -> None:
    parts = [ArrayDataset(CLIPS[:1]), ArrayDataset(CLIPS[1:3]), ArrayDataset(CLIPS[3:])]
    joined = JoinedClips(parts, View())
    assert np.array_equal(np.stack([joined[i].frames for i in range(len(joined))]), CLIPS)
    assert [joined.fingerprint(i) for i in range(4)] == [ArrayDataset(CLIPS).fingerprint(i) for i in range(4)]


def test_a_run_takes_paths_alone(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="are a path, not of type ndarray"):
        vdm_bench.run("shapes-unconditional", out=tmp_path, clips=CLIPS)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"missing.toml cannot be read"):
        vdm_bench.run(tmp_path / "missing.toml", out=tmp_path, sampler="real")
