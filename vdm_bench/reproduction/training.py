"""The small models that a table needs, trained in a folder each; training that was stopped goes on."""

from pathlib import Path
from typing import TYPE_CHECKING

from vdm_bench.errors import VdmBenchError
from vdm_bench.reference_model.config import get_preset
from vdm_bench.reproduction.plan import Model
from vdm_bench.runtime.progress import Reporter
from vdm_bench.runtime.stopping import Stop

if TYPE_CHECKING:
    from vdm_bench.reproduction.execute import Means


class StoppedError(VdmBenchError):
    """Training was asked to stop; the same command goes on.

    Attributes:
        signal: number of the signal that asked for it.
    """

    def __init__(self, signal: int) -> None:
        super().__init__("stopped; the same command goes on from here")
        self.signal, self.exit_code = signal, 128 + signal


def train_model(model: Model, folder: Path, means: "Means", reporter: Reporter) -> Path:
    """Train a model on `shapes`, or go on with it; give its checkpoint.

    Raises:
        InputError: the folder holds another training run.
        StoppedError: it was asked to stop.
    """
    from vdm_bench.reference_model.training.loop import MODEL, Hooks, TrainingOptions, train
    from vdm_bench.training.data import open_batches
    from vdm_bench.training.progress import LogPrinter

    preset = get_preset(model.preset).override("training", **model.training)
    options = TrainingOptions(seed=means.seed, precision=means.precision, device=means.computing.device)
    reporter.note(f"model {model.name}: {preset.training.steps:,} steps of {preset.training.batch} clips")
    stop = Stop()
    hooks = Hooks(on_note=reporter.note, on_log=LogPrinter(reporter.note, preset.training), should_stop=stop)
    batches = open_batches(preset, seed=means.seed, workers=means.workers)
    with stop.on_signals():
        train(preset, batches, folder, options, hooks)
    if stop.signal is not None:
        raise StoppedError(stop.signal)
    return folder / MODEL
