"""The log of a training run: `log.jsonl`, and optionally TensorBoard's files.

Every line of `log.jsonl` ends in a checksum of the rest. Damaged lines are removed when training resumes.
"""

import codecs
import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vdm_bench.errors import DamagedError, InputError
from vdm_bench.runtime.checksums import sealed, unsealed
from vdm_bench.runtime.fields import Kind, wrong_field
from vdm_bench.runtime.files import write_bytes
from vdm_bench.runtime.input_files import read_file, refuse_file

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOG = "log.jsonl"
TENSORBOARD = "tensorboard"

_FIELDS: dict[str, Kind] = {
    "step": int,
    "loss": float,
    "loss_by_log_snr": dict,
    "gradient_norm": float,
    "learning_rate": float,
    "clips_per_second": float,
    "seconds": float,
}


@dataclass(frozen=True)
class LogLine:
    """The steps since the line before.

    Attributes:
        step: number of steps so far.
        loss: mean.
        loss_by_log_snr: mean by range of log-SNR; ranges without examples are omitted.
        gradient_norm: before clipping, of the last step.
        learning_rate: of the last step.
        clips_per_second: over all processes.
        seconds: of training so far, without interruptions.
    """

    step: int
    loss: float
    loss_by_log_snr: dict[str, float]
    gradient_norm: float
    learning_rate: float
    clips_per_second: float
    seconds: float


class RunLog:
    """Appends lines to a run's log.

    Args:
        out: the run's folder; None to write nothing.
        step: number of steps so far; lines of later steps, left by a killed run, are removed.
        tensorboard: write TensorBoard's files too.
        note: receives a sentence on damaged lines, which are removed.

    Raises:
        InputError: tensorboard is not installed.
    """

    def __init__(self, out: Path | None, step: int, *, tensorboard: bool, note: Callable[[str], None]) -> None:
        self._path, self._board = None, None
        if out is None:
            return
        self._path = out / LOG
        data = read_file(self._path, refuse_file) if self._path.exists() else b""
        kept, damaged = _kept(data, step)
        if kept != data or not data:
            write_bytes(self._path, kept)
        if damaged:
            lines = f"lines {', '.join(map(str, damaged))} are" if damaged[1:] else f"line {damaged[0]} is"
            note(f"{self._path}: {lines} damaged, and left out")
        self._board = _writer(out / TENSORBOARD, step) if tensorboard else None

    def write(self, line: LogLine) -> None:
        """Append a line, and flush it."""
        if self._path is None:
            return
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(sealed(dataclasses.asdict(line)), allow_nan=False) + "\n")
        if self._board is None:
            return
        for name, value in dataclasses.asdict(line).items():
            if isinstance(value, float):
                self._board.add_scalar(name, value, line.step)
        for name, value in line.loss_by_log_snr.items():
            self._board.add_scalar(f"loss_by_log_snr/{name}", value, line.step)

    def close(self) -> None:
        """Flush TensorBoard's files."""
        if self._board is not None:
            self._board.close()


def _kept(data: bytes, step: int) -> tuple[bytes, list[int]]:
    """Return the lines of a log up to a step, and the numbers of those that are damaged."""
    # The last may be incomplete, if the process was killed while writing it.
    lines = data.removeprefix(codecs.BOM_UTF8).removesuffix(b"\n").split(b"\n") if data else []
    kept, damaged = [], []
    for number, line in enumerate(lines, 1):
        try:
            content = unsealed(line, LOG, required=False)
        except DamagedError:
            content = {}
        if wrong_field(content, _FIELDS, _FIELDS.keys() - {"step"}):
            damaged.append(number)
        elif content["step"] <= step:
            kept.append(line.removesuffix(b"\r") + b"\n")
    return b"".join(kept), damaged


def _writer(folder: Path, step: int) -> "SummaryWriter":
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError(
            "tensorboard is not installed; give `pip install 'vdm-bench[train]'`, or train without --tensorboard"
        ) from error
    try:
        return SummaryWriter(str(folder), purge_step=step + 1)
    except UnicodeEncodeError as error:
        raise InputError(
            f"TensorBoard cannot write to {folder}, whose name is not UTF-8; choose another --out, or leave out "
            "--tensorboard"
        ) from error
