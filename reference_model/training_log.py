"""What a training run writes about itself: `log.jsonl`, and TensorBoard's files where wanted."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vdm_bench.errors import InputError
from vdm_bench.files import read_text, text_lines, write_text

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOG = "log.jsonl"
TENSORBOARD = "tensorboard"


@dataclass(frozen=True)
class LogLine:
    """What happened since the line before.

    Attributes:
        step: steps done.
        loss: mean.
        loss_by_log_snr: mean by range of log-SNR; ranges without an example are left out.
        gradient_norm: before clipping, of the last step.
        learning_rate: of the last step.
        clips_per_second: over all processes.
        seconds: that training took so far, without the time between interruptions.
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
        out: the run's folder; None writes nothing.
        step: steps done; lines of later ones, which a killed run left, are removed.
        tensorboard: write TensorBoard's files too.

    Raises:
        InputError: tensorboard is not installed.
    """

    def __init__(self, out: Path | None, step: int, *, tensorboard: bool) -> None:
        self._path, self._board = None, None
        if out is None:
            return
        self._path = out / LOG
        text = read_text(self._path) if self._path.exists() else ""
        # What stands behind the last end of a line was being written when the process was killed.
        whole = text_lines(text[: text.rfind("\n") + 1])
        kept = "".join(f"{line}\n" for line in whole if json.loads(line)["step"] <= step)
        if kept != text or not text:
            write_text(self._path, kept)
        self._board = _writer(out / TENSORBOARD, step) if tensorboard else None

    def write(self, line: LogLine) -> None:
        """Append a line; a reader sees it at once."""
        if self._path is None:
            return
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dataclasses.asdict(line)) + "\n")
        if self._board is None:
            return
        for name, value in dataclasses.asdict(line).items():
            if isinstance(value, float):
                self._board.add_scalar(name, value, line.step)
        for name, value in line.loss_by_log_snr.items():
            self._board.add_scalar(f"loss_by_log_snr/{name}", value, line.step)

    def close(self) -> None:
        """Write what TensorBoard holds back."""
        if self._board is not None:
            self._board.close()


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
