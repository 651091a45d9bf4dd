"""Previews of a model in training, always of the same clips from the same noise; and its progress, in lines."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vdm_bench.reference_model.config import SamplingConfig, TrainingConfig
from vdm_bench.reference_model.embeddings import Condition
from vdm_bench.reference_model.model import ReferenceModel
from vdm_bench.reference_model.training.log import LogLine
from vdm_bench.reference_model.unet import VideoUNet
from vdm_bench.runtime.files import atomic_path
from vdm_bench.runtime.progress import duration

CLIPS = 8
_FRAMES = 8  # of each clip, from its first to its last
_GAP = 2
# Fast and deterministic: previews of successive models are comparable.
_SAMPLING = SamplingConfig(sampler="ddim", steps=32)
_QUIET_SECONDS = 5.0  # between two lines


def write_preview(path: Path, network: VideoUNet, condition: Condition) -> None:
    """Sample clips and write them as a PNG: a row per clip, time from left to right.

    Args:
        path: of the picture.
        network: in eval mode.
        condition: of the clips; an empty one means `CLIPS` unconditional clips.
    """
    model = ReferenceModel(network, network.config, _SAMPLING)
    values = condition.labels if condition.labels is not None else condition.text
    seeds = range(CLIPS if values is None else len(values))
    clips = model.sample(seeds, condition=condition.to(next(network.parameters()).device)).cpu().numpy()
    with atomic_path(path) as temporary:
        Image.fromarray(tiled(clips)).save(temporary)


def tiled(clips: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay out clips, uint8 [N, T, H, W, 3], as a picture: a row per clip, at most eight frames of each."""
    length = clips.shape[1]
    picked = clips[:, np.linspace(0, length - 1, min(_FRAMES, length)).round().astype(int)]
    count, frames, height, width, _ = picked.shape
    sheet = np.full((count, height + _GAP, frames, width + _GAP, 3), 255, np.uint8)
    sheet[:, :height, :, :width] = picked.transpose(0, 2, 1, 3, 4)
    return sheet.reshape(count * (height + _GAP), frames * (width + _GAP), 3)


class LogPrinter:
    """Reports the progress of training, at most every few seconds.

    Args:
        note: receives each line.
        training: settings of the run.
    """

    def __init__(self, note: Callable[[str], None], training: TrainingConfig) -> None:
        self._note, self._training, self._last = note, training, -math.inf

    def __call__(self, line: LogLine) -> None:
        """Report a line of the log, unless the last report was just now."""
        left = self._training.steps - line.step
        if left and time.monotonic() - self._last < _QUIET_SECONDS:
            return
        self._last = time.monotonic()
        remaining = left * self._training.batch / line.clips_per_second
        self._note(
            f"step {line.step:,} of {self._training.steps:,}: loss {line.loss:.4f}, "
            f"learning rate {line.learning_rate:.2g}, {line.clips_per_second:.3g} clips/s, "
            f"{duration(remaining)} left"
        )
