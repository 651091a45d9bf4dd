"""A training run of two seconds: a preset, clips, and a program that trains on them.

python tiny_training.py killed OUT STEP      dies without warning when that step is logged
python tiny_training.py shared OUT           without dropout: in OUT/ddp, and in OUT/fsdp with sharded weights
"""

import os
import signal
import sys
from pathlib import Path

import numpy as np

from vdm_bench.reference_model.config import ModelConfig, Preset, TrainingConfig
from vdm_bench.reference_model.training.log import LogLine
from vdm_bench.reference_model.training.loop import Hooks, TrainingOptions, train
from vdm_bench.training.data import ClipBatches
from vdm_bench.video.clip import Clip

MODEL = ModelConfig(
    frames=3,
    resolution=8,
    base_channels=8,
    multipliers=(1, 2),
    blocks=1,
    attention_resolutions=(4,),
    head_dim=8,
    embedding_dim=16,
    dropout=0.1,
    classes=5,
)
TRAINING = TrainingConfig(
    steps=6, batch=4, learning_rate=1e-3, warmup_steps=2, schedule="cosine", ema=0.99, joint_images=2, flip=True
)
PRESET = Preset("tiny", "for tests", MODEL, TRAINING)
# Dropout is drawn a process: without it, several processes do what one does.
STEADY = PRESET.override("model", dropout=0.0)


class Clips:
    """Twenty clips of 5 frames, 8x8; clip i is noise of its own, or one gray, and has the label i % 5."""

    def __init__(self, count: int = 20, shape: tuple[int, int, int] = (5, 8, 8), *, flat: bool = False) -> None:
        self._count, self._shape, self._flat = count, shape, flat
        self.identity = f"noise {count} {shape}"

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Clip:
        if self._flat:
            return Clip(np.full((*self._shape, 3), 10 * index, np.uint8), f"clip-{index}", label=index % 5)
        frames = np.random.default_rng(index).integers(0, 256, (*self._shape, 3), dtype=np.uint8)
        return Clip(frames, f"clip-{index}", label=index % 5, caption=f"caption {index}")

    def fingerprint(self, index: int) -> str:
        return f"{self.identity} {index}"


def tiny(**training: object) -> Preset:
    """The preset with other training settings."""
    return PRESET.override("training", **training)


def train_tiny(
    out: Path,
    preset: Preset = PRESET,
    hooks: Hooks | None = None,
    *,
    clips: Clips | None = None,
    **options: object,
) -> int:
    """Train on the CPU, with a line of the log and a checkpoint every second step."""
    settings = TrainingOptions(**({"device": "cpu", "log_every": 2, "checkpoint_every": 2} | options))  # type: ignore[arg-type]
    return train(preset, ClipBatches(clips or Clips(), preset, workers=1), out, settings, hooks)


def killed(out: str, step: str) -> None:
    """Train and die without warning when a step is logged."""

    def die(line: LogLine) -> None:
        if line.step == int(step):
            os.kill(os.getpid(), signal.SIGKILL)

    train_tiny(Path(out), hooks=Hooks(on_log=die))


def shared(out: str) -> None:
    """Train with the other processes of the job."""
    train_tiny(Path(out, "ddp"), STEADY)
    train_tiny(Path(out, "fsdp"), STEADY, shard=True)


if __name__ == "__main__":
    if sys.argv[1] == "killed":
        killed(sys.argv[2], sys.argv[3])
    else:
        shared(sys.argv[2])
