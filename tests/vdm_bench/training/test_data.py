"""Training examples: each is a function of the seed and its position, from whatever clips there are."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from vdm_bench.datasets.folder import open_clips
from vdm_bench.errors import InputError
from vdm_bench.reference_model.config import ModelConfig, Preset, TrainingConfig
from vdm_bench.reference_model.text.embeddings import EncoderInfo, TextEmbeddings, caption_digest
from vdm_bench.reference_model.training.step import Batch
from vdm_bench.training.data import ClipBatches, open_batches
from vdm_bench.video.clip import Clip

MODEL = ModelConfig(
    frames=2, resolution=8, base_channels=8, multipliers=(1,), head_dim=8, attention_resolutions=()
)
PRESET = Preset("tiny", "for tests", MODEL, TrainingConfig(dataset="clips"))


class Numbered:
    """Clips whose pixels tell clip and frame: red is the clip's index, green the frame's, blue the column's."""

    identity = "numbered"

    def __init__(self, count: int = 7, frames: int = 6, side: int = 8) -> None:
        self._count, self._frames, self._side = count, frames, side

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Clip:
        frames = np.zeros((self._frames, self._side, self._side, 3), np.uint8)
        frames[..., 0] = index
        frames[..., 1] = np.arange(self._frames)[:, None, None]
        frames[..., 2] = np.arange(self._side)
        return Clip(frames, f"clip-{index}", label=index, caption=f"caption {index}")

    def fingerprint(self, index: int) -> str:
        return str(index)


def batch(data: ClipBatches, count: int = 7, first: int = 0) -> Batch:
    return next(data.batches([range(first, first + count)]))


def distinct(values: Tensor) -> list[int]:
    return sorted(set(values.flatten().tolist()))


def clip_numbers(examples: Batch) -> list[int]:
    return examples.clips[:, 0, 0, 0, 0].tolist()


def test_each_epoch_has_every_clip_once_in_its_own_order() -> None:
    data = ClipBatches(Numbered(), PRESET)
    passes = [clip_numbers(batch(data, first=7 * turn)) for turn in range(5)]
    assert all(sorted(numbers) == list(range(7)) for numbers in passes)
    assert len({tuple(numbers) for numbers in passes}) == 5
    assert clip_numbers(batch(ClipBatches(Numbered(), PRESET, seed=1))) != passes[0]


def test_an_example_depends_on_its_position_alone() -> None:
    preset = PRESET.override("training", joint_images=2, flip=True)
    together = batch(ClipBatches(Numbered(), preset, workers=3), 9)
    apart = list(ClipBatches(Numbered(), preset, workers=1).batches([range(4), range(4, 9)]))
    assert torch.equal(together.clips, torch.cat([part.clips for part in apart]))
    assert torch.equal(together.images, torch.cat([part.images for part in apart]))


def test_a_window_begins_anywhere_and_keeps_the_stride() -> None:
    data = ClipBatches(Numbered(), PRESET.override("training", frame_stride=3))
    frames = batch(data, 70).clips[:, :, 0, 0, 1].int()
    assert distinct(frames[:, 1] - frames[:, 0]) == [3]
    assert distinct(frames[:, 0]) == [0, 1, 2]


def test_half_of_the_clips_are_mirrored_images_too() -> None:
    data = ClipBatches(Numbered(), PRESET.override("training", flip=True, joint_images=1))
    examples = batch(data, 400)
    mirrored = examples.clips[:, 0, 0, 0, 2] == 7
    assert abs(mirrored.double().mean() - 0.5) < 5 * 0.5 / 20
    assert torch.equal(mirrored, examples.images[:, 0, 0, 0, 2] == 7)
    assert not bool((batch(ClipBatches(Numbered(), PRESET), 50).clips[:, 0, 0, 0, 2] == 7).any())


def test_images_are_frames_of_any_clip() -> None:
    data = ClipBatches(Numbered(), PRESET.override("training", joint_images=3))
    examples = batch(data, 200)
    assert examples.images.shape == (200, 3, 8, 8, 3)
    pairs = set(map(tuple, examples.images[:, :, 0, 0, :2].reshape(-1, 2).tolist()))
    assert len(pairs) == 7 * 6  # every frame of every clip
    same = examples.images[:, :, 0, 0, 0] == examples.clips[:, :1, 0, 0, 0]
    assert abs(same.double().mean() - 1 / 7) < 5 * (6 / 49 / 600) ** 0.5


def test_labels_go_with_their_clips_and_images() -> None:
    preset = PRESET.override("model", classes=7).override("training", joint_images=3)
    examples = batch(ClipBatches(Numbered(), preset))
    assert examples.condition.labels is not None
    assert examples.image_condition.labels is not None
    assert examples.condition.labels.tolist() == clip_numbers(examples)
    assert examples.image_condition.labels.tolist() == examples.images[:, :, 0, 0, 0].flatten().tolist()


def test_captions_become_their_embeddings() -> None:
    captions = [f"caption {index}" for index in range(7)]
    text = TextEmbeddings(
        tokens=torch.arange(7.0)[:, None].expand(7, 4).contiguous(),
        lengths=torch.ones(7, dtype=torch.int64),
        digests=torch.tensor([list(caption_digest(caption)) for caption in captions], dtype=torch.uint8),
        encoder=EncoderInfo("test", None, "0", 8),
    )
    preset = PRESET.override("model", text_dim=4).override("training", joint_images=2)
    examples = batch(ClipBatches(Numbered(), preset, text=text))
    assert examples.condition.text is not None
    assert examples.image_condition.text is not None
    assert examples.condition.text[:, 0, 0].tolist() == clip_numbers(examples)
    assert examples.image_condition.text[:, 0, 0].tolist() == examples.images[:, :, 0, 0, 0].flatten().tolist()


def write_clips(folder: Path, **clips: NDArray[np.uint8]) -> Path:
    folder.mkdir()
    for name, frames in clips.items():
        np.save(folder / f"{name}.npy", frames)
    return folder


def gray(frames: int, height: int = 8, width: int = 8, value: int = 9) -> NDArray[np.uint8]:
    return np.full((frames, height, width, 3), value, np.uint8)


def test_a_folder_of_clips_of_any_size_is_resized(tmp_path: Path) -> None:
    folder = write_clips(tmp_path / "clips", a=gray(4, 16, 24), b=gray(3, 8, 8))
    preset = PRESET.override("training", joint_images=1)
    data = open_batches(preset, folder, resize="antialias")
    examples = batch(data, 4)
    assert examples.clips.shape == (4, 2, 8, 8, 3)
    assert distinct(examples.clips) == [9]
    assert data.identity == "2 clips, antialias center-crop"


def test_clips_of_another_size_are_refused(tmp_path: Path) -> None:
    folder = write_clips(tmp_path / "clips", a=gray(4, 16, 24))
    with pytest.raises(InputError, match=r"a\.npy: is 24x16, the model needs 8x8; give --resize"):
        open_batches(PRESET, folder)


def test_clips_that_are_too_short_are_refused(tmp_path: Path) -> None:
    folder = write_clips(tmp_path / "clips", a=gray(4))
    with pytest.raises(InputError, match=r"a\.npy: has 4 frames, the model needs 5 at stride 4"):
        open_batches(PRESET.override("training", frame_stride=4), folder)


def test_broken_clips_are_passed_over_where_asked(tmp_path: Path) -> None:
    folder = write_clips(tmp_path / "clips", a=gray(4), b=gray(1), c=gray(4, value=5))
    (folder / "d.npy").write_bytes(b"nothing")
    data = open_batches(PRESET, folder, skip_broken=True)
    assert distinct(batch(data, 40).clips) == [5, 9]
    assert {Path(name).name for name in data.skipped} == {"b.npy", "d.npy"}
    with pytest.raises(InputError, match=r"has 1 frames|is no NumPy array"):
        batch(open_batches(PRESET, folder), 40)


def test_data_without_a_sound_clip_is_refused(tmp_path: Path) -> None:
    folder = write_clips(tmp_path / "clips", a=gray(1), b=gray(1))
    with pytest.raises(InputError, match="100 clips in a row cannot be used"):
        open_batches(PRESET, folder, skip_broken=True)


def test_clips_lacking_labels_or_captions_the_model_has_are_refused(tmp_path: Path) -> None:
    folder = write_clips(tmp_path / "clips", a=gray(4))
    with pytest.raises(InputError, match=r"a\.npy has no label, the model 3 classes"):
        open_batches(PRESET.override("model", classes=3), folder)
    with pytest.raises(InputError, match=r"clip-\d has the label \d, the model 1 classes|no label"):
        batch(ClipBatches(Numbered(), PRESET.override("model", classes=1)))
    with pytest.raises(InputError, match="needs embeddings of the captions; give --text FILE"):
        open_batches(PRESET.override("model", text_dim=4), folder)
    with pytest.raises(InputError, match="takes no text; drop --text"):
        open_batches(PRESET, folder, text=tmp_path / "captions.safetensors")
    with pytest.raises(InputError, match=r"a\.npy has no caption"):
        ClipBatches(open_clips(folder), PRESET.override("model", text_dim=4))


def test_a_preset_for_clips_needs_clips_and_an_empty_folder_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="tiny is trained on clips of yours; give --data PATH"):
        open_batches(PRESET)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no clips"):
        open_batches(PRESET, tmp_path / "empty")


def test_shapes_has_as_many_classes_as_it_has() -> None:
    shapes = PRESET.override("training", dataset="shapes").override("model", resolution=32)
    with pytest.raises(InputError, match="shapes has 240 classes"):
        open_batches(shapes.override("model", classes=10))
    examples = batch(open_batches(shapes.override("model", classes=240)), 5)
    assert examples.clips.shape == (5, 2, 32, 32, 3)
