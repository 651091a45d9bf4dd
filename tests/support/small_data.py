"""Small clips in memory, a small protocol on a folder of clips, and the measures of their frames."""

from pathlib import Path

import numpy as np

from vdm_bench.protocols import Protocol, get_protocol
from vdm_bench.protocols.conditions import Conditions
from vdm_bench.runtime.distributed import ProcessGroup
from vdm_bench.runtime.progress import Console
from vdm_bench.scoring.frames import FrameEvaluator, FrameMeasures
from vdm_bench.video.clip import Clip, ClipDataset


class MemoryClips:
    """Clips in memory, whose content is remembered; `read` lists the indices of those that were read.

    Args:
        frames: uint8 [N, T, H, W, 3]; the array itself, so that it can be changed.
    """

    identity = None

    def __init__(self, frames: np.ndarray) -> None:
        self.frames, self.read = frames, list[int]()

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Clip:
        self.read.append(index)
        return Clip(self.frames[index], f"clip{index}")

    def fingerprint(self, index: int) -> str:
        return f"clip {index}"


def folder_protocol(count: int, **changes: object) -> Protocol:
    """Return a protocol of so many clips on each side, all from a folder `test`; other fields may be changed."""
    choice = {"split": "test", "seed": 0, "windows": "first"}
    fields = get_protocol("shapes-unconditional").model_dump() | {
        "dataset": "folder",
        "reference": choice,
        "conditions": choice,
        "reference_count": count,
        "generated_count": count,
    }
    return Protocol.model_validate(fields | changes)


def measure_frames(
    clips: ClipDataset,
    count: int,
    folder: Path,
    *,
    recheck: bool = False,
    processes: ProcessGroup | None = None,
) -> FrameMeasures:
    """Measure the PSNR of the first clips against the videos of `shapes-prediction`."""
    protocol = get_protocol("shapes-prediction").model_copy(update={"generated_count": count})
    processes = processes or ProcessGroup()
    meter = FrameEvaluator(("psnr",), Conditions(protocol, None), folder, 2, Console(), processes, recheck)
    return meter.measure(clips, count)
