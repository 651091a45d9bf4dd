import hashlib
from collections import Counter

import numpy as np
import pytest
import scipy.stats

from vdm_bench.datasets.shapes.dataset import CLASS_COUNT, COLOURS, Scene, Shapes, ShapesLabel
from vdm_bench.datasets.shapes.draw import (
    _COSINE,
    FULL_TURN,
    MOTIONS,
    SHAPES,
    SIDE,
    TEXTURES,
    Motion,
    motion_offsets,
)
from vdm_bench.errors import InputError


def checksum(dataset: Shapes, count: int) -> str:
    digest = hashlib.sha256()
    for index in range(count):
        clip = dataset[index]
        digest.update(clip.frames.tobytes() + f"{clip.label} {clip.caption}".encode())
    return digest.hexdigest()[:16]


@pytest.mark.parametrize(
    ("split", "seed", "resolution", "frames", "expected"),
    [
        ("test", 0, 32, 16, "9f80e77f456fdae8"),
        ("train", 7, 64, 20, "56e55815a72f60fd"),
    ],
)
def test_clips_are_the_same_everywhere(
    split: str, seed: int, resolution: int, frames: int, expected: str
) -> None:
    """Whoever changes a pixel raises GENERATOR_VERSION and these checksums."""
    dataset = Shapes(split, seed=seed, resolution=resolution, frames=frames)
    assert checksum(dataset, 100) == expected


def test_a_clip_has_the_declared_form() -> None:
    clip = Shapes("train", seed=3, resolution=64, frames=5)[11]
    assert clip.frames.shape == (5, 64, 64, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.key == "train/11"
    assert clip.label is not None
    label = ShapesLabel.of(clip.label)
    assert label.index == clip.label
    assert clip.caption is not None
    assert clip.caption.startswith(f"a {list(COLOURS)[label.colour]} {SHAPES[label.shape]} ")


def test_splits_seeds_and_indices_are_different_clips() -> None:
    seen = {
        Shapes(split, seed=seed)[i].frames.tobytes()
        for split in ("train", "test")
        for seed in (0, 1)
        for i in (0, 1)
    }
    assert len(seen) == 8


def test_a_longer_clip_begins_with_the_shorter_one() -> None:
    short, long = Shapes("test", frames=16)[5], Shapes("test", frames=70)[5]
    assert np.array_equal(long.frames[:16], short.frames)


def test_every_class_texture_and_depth_order_occurs() -> None:
    scenes = [Scene.draw("test", 0, index) for index in range(6000)]
    counts = Counter(scene.label.index for scene in scenes)
    assert len(counts) == CLASS_COUNT == 240
    assert scipy.stats.chisquare([counts[k] for k in range(CLASS_COUNT)]).pvalue > 1e-3
    assert {scene.texture for scene in scenes} == set(range(len(TEXTURES)))
    assert {scene.companion_in_front for scene in scenes} == {True, False}


def test_the_first_frame_does_not_depend_on_the_motion() -> None:
    for index in range(20):
        scene = Scene.draw("test", 0, index)
        frames = set()
        for name in MOTIONS:
            motion = Motion(
                name,
                **{k: getattr(scene.motion, k) for k in ("direction", "speed", "period", "phase", "clockwise")},
            )
            other = Scene(**{**{f: getattr(scene, f) for f in scene.__dataclass_fields__}, "motion": motion})
            frames.add(other.render(1, 32).tobytes())
        assert len(frames) == 1


def test_in_every_frame_the_state_is_uniform_whatever_the_motion() -> None:
    """Chi-square on x, y, angle and size phase in frames 0, 7 and 15, for each motion: 96 tests at 1e-5 each."""
    states: dict[str, list[np.ndarray]] = {name: [] for name in MOTIONS}
    for index in range(16000):
        scene = Scene.draw("train", 5, index)
        states[scene.motion.name].append(scene.subject_state(16)[:, [0, 7, 15]])
    for name, found in states.items():
        stacked = np.stack(found)
        for axis, modulus in enumerate((SIDE, SIDE, FULL_TURN, FULL_TURN)):
            for frame in range(3):
                counts = np.bincount(stacked[:, axis, frame] * 16 // modulus, minlength=16)
                assert scipy.stats.chisquare(counts).pvalue > 1e-5, (name, axis, frame)


def test_motions_do_what_they_are_called() -> None:
    def offsets(name: str) -> np.ndarray:
        return motion_offsets(Motion(name, direction=0, speed=256, period=8, phase=0, clockwise=1), 17)

    assert not offsets("still").any()
    assert offsets("translate")[0].tolist() == [256 * t for t in range(17)]
    assert offsets("bounce")[0, :9].tolist() == [0, 256, 512, 768, 1024, 768, 512, 256, 0]
    assert offsets("stop-and-go")[0, :13].tolist() == [256 * t for t in (0, 1, 2, 3, 4, 4, 4, 4, 4, 5, 6, 7, 8)]
    assert offsets("zigzag")[0].tolist() == [192 * t for t in range(17)]
    assert offsets("zigzag")[1, :9].tolist() == offsets("bounce")[0, :9].tolist()
    circle = offsets("orbit")[:2, :8] + np.array([[512], [0]])
    assert np.abs(np.hypot(*circle) - 512).max() < 2
    assert np.diff(offsets("rotate")[2]).tolist() == [
        85,
        85,
        86,
        85,
        85,
        86,
        85,
        85,
        86,
        85,
        85,
        86,
        85,
        85,
        86,
        85,
    ]
    assert offsets("grow")[3, 10] == FULL_TURN
    for name in MOTIONS:
        moving = {axis for axis in range(4) if offsets(name)[axis].any()}
        assert moving <= {"rotate": {2}, "grow": {3}}.get(name, {0, 1})


def test_one_body_covers_the_other_where_they_meet() -> None:
    """With the depth order exchanged only pixels where the two overlap may change, and in some clip they do."""
    changed = 0
    for index in range(60):
        scene = Scene.draw("test", 0, index)
        fields = {f: getattr(scene, f) for f in scene.__dataclass_fields__}
        swapped = Scene(**{**fields, "companion_in_front": not scene.companion_in_front})
        changed += int((scene.render(16, 32) != swapped.render(16, 32)).any())
    assert 5 < changed < 60


def test_cosine_table_has_no_entry_near_a_half() -> None:
    """So rounding gives the same integers whatever the last bit of a library's cosine."""
    exact = np.cos(2 * np.pi * np.arange(FULL_TURN) / FULL_TURN) * 2**14
    assert np.abs(np.abs(exact - np.floor(exact)) - 0.5).min() > 1e-6
    assert _COSINE[0] == 2**14
    assert _COSINE[FULL_TURN // 4] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        {"split": "val"},
        {"split": "test", "resolution": 48},
        {"split": "test", "frames": 0},
        {"split": "test", "seed": -1},
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Shapes(**arguments)  # type: ignore[arg-type]


def test_an_index_beyond_the_end_is_an_index_error() -> None:
    dataset = Shapes("test")
    with pytest.raises(IndexError):
        dataset[len(dataset)]
