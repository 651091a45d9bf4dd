"""The suite's datasets as training examples for the reference model.

The example at a position of the endless training sequence is a function of (seed, position): a clip, from a new
permutation in each pass over the data; a window of it, mirrored or not; and frames of other clips for joint
video-image training. Needs only torch, NumPy and what the dataset needs.
"""

import os
from collections.abc import Generator, Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vdm_bench.datasets.registry import dataset_entry, dataset_names
from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.metrics.choices import Aspect, ResizeRule
from vdm_bench.reference_model.config import Preset
from vdm_bench.reference_model.embeddings import Condition
from vdm_bench.reference_model.text.embeddings import TextEmbeddings
from vdm_bench.reference_model.training.step import Batch, RandomStream, stream_seed
from vdm_bench.runtime.threads import ordered_map
from vdm_bench.video.clip import Clip, ClipDataset
from vdm_bench.video.view import View

__all__ = ["open_batches"]

_MOST_BROKEN = 100  # clips in a row; with more, training stops


class ClipBatches:
    """Training examples from a dataset; implements `TrainingData`.

    Args:
        dataset: clips of uint8 [T', H, W, 3], at least as long as a window of the model.
        preset: with the model's frames, resolution and classes, and the stride, mirroring and joint images.
        seed: of the order and of all random choices.
        view: how clips of another size are resized; None to refuse them.
        text: embeddings of the clips' captions, for a model with text.
        skip_broken: use the next clip in place of one that cannot be read or is too short.
        workers: threads that prepare batches.

    Attributes:
        skipped: reasons why clips were skipped, by name.

    Raises:
        InputError: the first clip is too short, of another size, or lacks what the model needs.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        preset: Preset,
        *,
        seed: int = 0,
        view: View | None = None,
        text: TextEmbeddings | None = None,
        skip_broken: bool = False,
        workers: int | None = None,
    ) -> None:
        self._dataset, self._preset, self._seed = dataset, preset, seed
        self._view, self._text, self._skip_broken = view or View(), text, skip_broken
        self._workers = workers or min(os.cpu_count() or 1, 8)
        self._order = lru_cache(maxsize=3)(self._permutation)
        self.skipped: dict[str, str] = {}
        if len(dataset) == 0:
            raise InputError("the training data has no clips")
        self._check(self._clip(0, 0))

    @property
    def identity(self) -> str:
        """The name of the data, with the rule by which clips are resized."""
        sized = f", {self._view.rule} {self._view.aspect}" if self._view.rule else ""
        return (self._dataset.identity or f"{len(self._dataset)} clips") + sized

    def batches(self, positions: Iterable[range]) -> Generator[Batch, None, None]:
        """Yield the examples at each range of positions, in order, preparing the next ones in the background."""
        yield from ordered_map(self._batch, positions, self._workers)

    def _batch(self, positions: range) -> Batch:
        clips, sources, pixels = zip(*[self._example(position) for position in positions], strict=True)
        frames = self._preset.model.frames
        stacked = torch.from_numpy(np.stack(pixels))
        # Made together, because texts are padded to the longest.
        condition = self._condition([*clips, *(clip for clips in sources for clip in clips)])
        of_clips, of_images = condition.rows(slice(len(clips))), condition.rows(slice(len(clips), None))
        return Batch(stacked[:, :frames], stacked[:, frames:], of_clips, of_images)

    def _condition(self, clips: Sequence[Clip]) -> Condition:
        for clip in clips:
            self._check(clip)
        labels = torch.tensor([clip.label for clip in clips]) if self._preset.model.classes else None
        text = self._text and self._text.batch([clip.caption or "" for clip in clips])
        return Condition(labels, text.embeddings if text else None, text.mask if text else None)

    def _example(self, position: int) -> tuple[Clip, Sequence[Clip], NDArray[np.uint8]]:
        """Return a clip, the clips of the images, and the window with the images: uint8 [T + I, H, W, 3]."""
        training = self._preset.training
        random = np.random.default_rng(stream_seed(self._seed, RandomStream.EXAMPLE, position))
        clip = self._clip(*divmod(position, len(self._dataset)))
        span = self._span
        first = int(random.integers(len(clip.frames) - span + 1))
        window = self._view.resized(clip.frames[first : first + span : training.frame_stride])
        images = [self._image(random) for _ in range(training.joint_images)]
        frames = np.concatenate([window, *(pixels for _, pixels in images)])
        if training.flip and random.random() < 0.5:
            frames = frames[:, :, ::-1]
        return clip, [source for source, _ in images], frames

    def _image(self, random: np.random.Generator) -> tuple[Clip, NDArray[np.uint8]]:
        """Draw a random frame: its clip, and uint8 [1, H, W, 3]."""
        clip = self._clip(0, int(random.integers(len(self._dataset))))
        first = int(random.integers(len(clip.frames)))
        return clip, self._view.resized(clip.frames[first : first + 1])

    def _clip(self, turn: int, place: int) -> Clip:
        """Return the clip at a position in a pass over the data, or the next valid one."""
        order = self._order(turn)
        for ahead in range(_MOST_BROKEN):
            index = int(order[(place + ahead) % len(order)])
            try:
                return self._checked(self._dataset[index])
            except BrokenClipError as error:
                if not self._skip_broken:
                    raise
                self.skipped[error.source] = error.reason
        raise InputError(
            f"{_MOST_BROKEN} clips in a row cannot be used, such as {next(iter(self.skipped.items()))}"
        )

    def _checked(self, clip: Clip) -> Clip:
        """Refuse, as broken, a clip that is too short or of another size."""
        length, height, width = clip.frames.shape[:3]
        side = self._preset.model.resolution
        if length < self._span:
            stride = self._preset.training.frame_stride
            at = f" at stride {stride}" if stride > 1 else ""
            raise BrokenClipError(clip.key, f"has {length} frames, the model needs {self._span}{at}")
        if self._view.size is None and (height, width) != (side, side):
            raise BrokenClipError(
                clip.key, f"is {width}x{height}, the model needs {side}x{side}; give --resize, such as antialias"
            )
        return clip

    def _check(self, clip: Clip) -> None:
        """Refuse a clip that lacks what the model is conditioned on."""
        classes = self._preset.model.classes
        if classes and (clip.label is None or not 0 <= clip.label < classes):
            found = "no label" if clip.label is None else f"the label {clip.label}"
            raise InputError(
                f"{clip.key} has {found}, the model {classes} classes; "
                "give labelled clips (a clip archive carries labels), or `--set model.classes=0`"
            )
        if self._preset.model.text_dim and clip.caption is None:
            raise InputError(f"{clip.key} has no caption; give clips with captions, such as a clip archive")

    @property
    def _span(self) -> int:
        return (self._preset.model.frames - 1) * self._preset.training.frame_stride + 1

    def _permutation(self, turn: int) -> NDArray[np.int64]:
        random = np.random.default_rng(stream_seed(self._seed, RandomStream.ORDER, turn))
        return random.permutation(len(self._dataset))


def open_batches(
    preset: Preset,
    data: Path | None = None,
    *,
    seed: int = 0,
    resize: ResizeRule | None = None,
    aspect: Aspect = "center-crop",
    text: Path | None = None,
    skip_broken: bool = False,
    workers: int | None = None,
) -> ClipBatches:
    """Open the training data of a preset.

    Args:
        preset: its training names the dataset.
        data: a folder of clips or a clip archive; None for the preset's dataset, if that is computed.
        seed: of the order and of all random choices.
        resize: rule by which clips of another size are resized; None to refuse them.
        aspect: how the aspect ratio is changed then.
        text: file of embeddings of the clips' captions, for a model with text.
        skip_broken: use the next clip in place of one that cannot be used.
        workers: threads that prepare batches; None for one per core, at most 8.

    Raises:
        InputError: there are no clips, or the model cannot use them.
    """
    model = preset.model
    if bool(model.text_dim) != (text is not None):
        need = (
            "needs embeddings of the captions; give --text FILE" if text is None else "takes no text; drop --text"
        )
        raise InputError(f"the model of {preset.name} {need}")
    embeddings = TextEmbeddings.load(text, width=model.text_dim) if text else None
    view = View(size=(model.resolution, model.resolution), rule=resize, aspect=aspect) if resize else View()
    return ClipBatches(
        _open(preset, data),
        preset,
        seed=seed,
        view=view,
        text=embeddings,
        skip_broken=skip_broken,
        workers=workers,
    )


def _open(preset: Preset, data: Path | None) -> ClipDataset:
    model, training = preset.model, preset.training
    if data is not None:
        from vdm_bench.datasets.folder import open_clips

        return open_clips(data)
    dataset = dataset_entry(training.dataset) if training.dataset in dataset_names() else None
    if dataset is None or dataset.needs_data:
        raise InputError(
            f"{preset.name} is trained on clips of yours; give --data PATH, a folder or a clip archive"
        )
    if model.classes not in (0, dataset.classes):
        fitting = f"{dataset.classes} or 0" if dataset.classes else "0"
        raise InputError(
            f"{training.dataset} has {dataset.classes or 'no'} classes; set model.classes to {fitting}"
        )
    length = (model.frames - 1) * training.frame_stride + 1
    return dataset.open_clips("train", {}, resolution=model.resolution, frames=length)
