"""Training of the reference model, on one device or many, through accelerate (extra `train`).

A run is a folder: `config.json` stores its settings, `log.jsonl` its log, `checkpoints/` the two newest states,
and `model.safetensors` the averaged weights of the newest state. `train` resumes the run in the folder; on one
machine it ends with the same weights as an uninterrupted run, bit for bit on a CPU.

The formulas and the random numbers are in `process` and `step`. Several processes, started by `torchrun` or
`accelerate launch`, divide the examples of a step.
"""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.reference_model.checkpoint import CheckpointInfo, load_model, save_model
from vdm_bench.reference_model.config import Preset
from vdm_bench.reference_model.model import source_of
from vdm_bench.reference_model.training.devices import Devices
from vdm_bench.reference_model.training.log import LogLine, RunLog
from vdm_bench.reference_model.training.optimisers import ExponentialMovingAverage, make_optimisers, warmed_decay
from vdm_bench.reference_model.training.state import (
    FOLDER,
    TrainingProgress,
    TrainingState,
    read_state,
    states,
    write_state,
)
from vdm_bench.reference_model.training.step import (
    Batch,
    LossMeter,
    RandomStream,
    StepDraws,
    TrainingData,
    batch_losses,
    learning_rate,
    stream_seed,
)
from vdm_bench.reference_model.unet import VideoUNet
from vdm_bench.runtime.bfloat16 import warn_if_slow
from vdm_bench.runtime.files import remove_temporary_files
from vdm_bench.runtime.locks import hold_together, holds_others
from vdm_bench.runtime.plan import FolderPlan, as_json

CONFIG = "config.json"
MODEL = "model.safetensors"


@dataclass(frozen=True)
class RunConfig:
    """Everything that a run's weights depend on.

    Attributes:
        preset: the model and its training.
        seed: of all random numbers.
        precision: of the network.
        data: name of the data.
        init: name of the initial checkpoint, if any.
    """

    preset: Preset
    seed: int
    precision: str
    data: str
    init: str | None = None

    def table(self) -> dict[str, Any]:
        """Return the settings by dotted name, as in `config.json`."""
        flat: dict[str, Any] = {name: getattr(self, name) for name in ("seed", "precision", "data", "init")}
        for section in ("model", "training"):
            values = dataclasses.asdict(getattr(self.preset, section))
            flat |= {f"{section}.{key}": list(v) if isinstance(v, tuple) else v for key, v in values.items()}
        return flat


def acquire_run_dir(out: Path, config: RunConfig) -> None:
    """Make `out` the folder of this run, or check that it is; the number of steps may have changed.

    Raises:
        InputError: it holds a run with other settings, or something else; or its settings are damaged.
    """
    way_out = "restore the settings it was started with, or choose another --out"
    plan = FolderPlan(out / CONFIG, "a run", way_out=way_out)
    wanted = as_json({"preset": config.preset.name, **config.table()})
    if not plan.path.exists() and out.exists() and (not out.is_dir() or holds_others(out)):
        raise InputError(f"{out} is not a run of `vdm-bench train` and not empty; choose another --out")
    if not states(out):  # no state to resume from: settings may still change
        plan.write(wanted)
        return
    stored = plan.read()
    if stored is None:
        raise InputError(f"{plan.path} is missing, but {out} holds a run; {plan.way_out}")
    # With a constant learning rate, a run of more steps continues a run of fewer.
    may_extend = config.preset.training.schedule == "constant" and type(stored.get("training.steps")) is int
    plan.require_same(stored, wanted, {"training.steps"} if may_extend else ())
    if stored != wanted:
        plan.write(wanted)


@dataclass(frozen=True)
class TrainingOptions:
    """How a run is executed; only `seed`, `precision` and `init` change its result.

    Attributes:
        seed: of the initial weights, the order of the data and all noise.
        precision: `bf16` for autocast; weights, optimiser and average stay float32.
        init: checkpoint with the initial weights; None for random ones. It may have been trained on clips of
            another length.
        device: `auto`, `cpu`, `cuda`, `cuda:1`.
        shard: shard weights, gradients and moments over the processes (FSDP), if they do not fit on one device.
        compiled: compile the network.
        checkpointing: activation checkpointing.
        checkpoint_every: steps between checkpoints; the last step always has one.
        sample_every: steps between previews; 0 for none.
        log_every: steps between lines of the log.
        tensorboard: write TensorBoard's files too.
    """

    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    init: Path | None = None
    device: str = "auto"
    shard: bool = False
    compiled: bool = False
    checkpointing: bool = False
    checkpoint_every: int = 1000
    sample_every: int = 0
    log_every: int = 20
    tensorboard: bool = False


def _never() -> bool:
    return False


def _ignore_text(text: str) -> None:
    pass


def _ignore_line(line: LogLine) -> None:
    pass


def _ignore_model(network: VideoUNet, step: int) -> None:
    pass


@dataclass(frozen=True)
class Hooks:
    """Callbacks of the caller, in the main process.

    Attributes:
        on_note: receives messages for people.
        on_log: receives every line of the log.
        on_sample: receives the network with averaged weights, on the device in eval mode, and the step.
        should_stop: called after every step, in all processes; True stops the run with a checkpoint.
    """

    on_note: Callable[[str], None] = _ignore_text
    on_log: Callable[[LogLine], None] = _ignore_line
    on_sample: Callable[[VideoUNet, int], None] = _ignore_model
    should_stop: Callable[[], bool] = _never


def train(
    preset: Preset,
    data: TrainingData,
    out: Path,
    options: TrainingOptions | None = None,
    hooks: Hooks | None = None,
) -> int:
    """Train a model, or resume the run in `out`.

    Args:
        preset: the model and its training.
        data: the examples.
        out: the run's folder; several machines must share it.
        options: how the run is executed.
        hooks: callbacks.

    Returns:
        The number of steps so far, less than `preset.training.steps` if it was stopped.

    Raises:
        InputError: accelerate is missing, `out` holds another run or is in use by another process, the batch
            cannot be divided equally, or the loss is no longer finite.

    Warns:
        SlowWarning: bf16 is far slower than fp32 on this CPU.
    """
    options, hooks = options or TrainingOptions(), hooks or Hooks()
    devices = Devices(options.device, shard=options.shard)
    note = hooks.on_note
    with (
        torch.random.fork_rng(devices=[]),  # the caller's random state is not changed
        hold_together(out, "train", is_main=devices.is_main, agree=devices.agree, note=note) as alone,
    ):
        trainer = Trainer(preset, data, out, options, hooks, devices)
        if devices.is_main:
            if options.precision == "bf16":
                warn_if_slow(devices.device)
            acquire_run_dir(out, RunConfig(preset, options.seed, options.precision, data.identity, trainer.init))
            remove_temporary_files(out, FOLDER, "samples", shared=not alone)
        devices.wait()
        trainer.resume()
        return trainer.run()


class Trainer:
    """The state of a run, and its training loop.

    Args:
        preset: the model and its training.
        data: the examples.
        out: the run's folder.
        options: how the run is executed.
        hooks: callbacks.
        devices: of the computation.
    """

    def __init__(
        self,
        preset: Preset,
        data: TrainingData,
        out: Path,
        options: TrainingOptions,
        hooks: Hooks,
        devices: Devices,
    ) -> None:
        self.preset, self.data, self.out = preset, data, out
        self.options, self.hooks, self.devices = options, hooks, devices
        self._rows = devices.rows(preset.training.batch, preset.training.accumulation)
        torch.manual_seed(stream_seed(options.seed, RandomStream.WEIGHTS, 0))
        self.plain = VideoUNet(preset.model)
        self.init = start_from(self.plain, options.init) if options.init else None
        self.plain.checkpointing = options.checkpointing
        if options.compiled:
            self.plain.compile()
        self.network = devices.wrap(self.plain)
        if preset.training.optimiser == "muon" and devices.shard:
            raise InputError("muon needs whole matrices; leave out --shard, or set training.optimiser to adam")
        self.optimisers = make_optimisers(self.plain, preset.training)
        self.average = ExponentialMovingAverage(self.plain)
        self.state = TrainingState(self.plain, self.optimisers, self.average)
        self.progress = self._logged = TrainingProgress()
        self._meter = LossMeter(devices.device)

    def resume(self) -> None:
        """Load the newest state in the run's folder, if there is one."""
        newest = read_state(self.out, self.state.shapes)
        if newest is not None:
            tensors, self.progress = newest
            self.state.load(tensors)
            self._logged = self.progress

    def run(self) -> int:
        """Train to the end, or until stopped; return the number of steps."""
        self._announce()
        self.network.train()
        begin = time.monotonic() - self.progress.seconds
        with contextlib.closing(self._log_file()) as log, contextlib.closing(self._batches()) as batches:
            while self.progress.step < self.preset.training.steps:
                norm = self._step(batches)
                self.progress = TrainingProgress(self.progress.step + 1, time.monotonic() - begin)
                if self._finish_step(log, norm):
                    self._say(f"stopped at step {self.progress.step:,}; rerun the same command to resume")
                    break
        return self.progress.step

    def _say(self, text: str) -> None:
        if self.devices.is_main:
            self.hooks.on_note(text)

    def _announce(self) -> None:
        training, step = self.preset.training, self.progress.step
        if step >= training.steps:
            self._say(f"{self.out} is trained already: {step:,} steps")
            return
        millions = sum(parameter.numel() for parameter in self.plain.parameters()) / 1e6
        begun = f"going on at step {step:,}" if step else "starting"
        self._say(
            f"{self.preset.name}: {millions:.1f} million parameters, {training.steps:,} steps of "
            f"{training.batch} clips, {self.options.precision} on {self.devices.description}; {begun}"
        )

    def _step(self, batches: Iterator[Batch]) -> Tensor:
        """Do one step of the optimiser; return the gradient's norm before clipping."""
        step, model, training = self.progress.step, self.preset.model, self.preset.training
        draws = StepDraws(self.options.seed, step, training.batch)
        for rows in self._rows:
            accumulating = rows != self._rows[-1]
            with self.devices.unsynchronised(self.network, when=accumulating):
                batch = next(batches).to(self.devices.device)
                with self.devices.autocast(self.options.precision):
                    losses = batch_losses(self.network, batch, rows, draws, model, training)
                self.devices.accelerator.backward(losses.values.mean() / len(self._rows))
            self._meter.add(losses)
        norm = self.devices.clip(self.network, training.clip_norm or math.inf)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(training, step)
            optimiser.step()
            optimiser.zero_grad()
        self.average.update(warmed_decay(training.ema, step))
        return norm

    def _finish_step(self, log: RunLog, norm: Tensor) -> bool:
        """Log, save and sample as due after a step; return whether to stop."""
        step, options = self.progress.step, self.options
        last = step == self.preset.training.steps
        stopping = not last and self._stops()
        saving = last or stopping or step % options.checkpoint_every == 0
        if saving or step % options.log_every == 0:
            self._write_line(log, norm)
        if saving:
            self._save()
        if options.sample_every and (last or step % options.sample_every == 0):
            self._sample()
        return stopping

    def _batches(self) -> Generator[Batch, None, None]:
        """Return this process's micro-batches of all steps to come, in order."""
        training, first = self.preset.training, self.progress.step
        return self.data.batches(
            range(step * training.batch + rows.start, step * training.batch + rows.stop)
            for step in range(first, training.steps)
            for rows in self._rows
        )

    def _log_file(self) -> RunLog:
        return RunLog(
            self.out if self.devices.is_main else None,
            self.progress.step,
            tensorboard=self.options.tensorboard,
            note=self._say,
        )

    def _stops(self) -> bool:
        """Return whether any process was asked to stop, the same for all processes."""
        stop = self.hooks.should_stop()
        return stop if self.devices.count == 1 else self.devices.any(stop)

    def _write_line(self, log: RunLog, norm: Tensor) -> None:
        sums, counts = self.devices.total(self._meter.take()).cpu()
        loss, gradient = float(sums.sum() / counts.sum()), float(norm)
        if not (math.isfinite(loss) and math.isfinite(gradient)):
            what = f"gradient's norm is {gradient}" if math.isfinite(loss) else f"loss is {loss}"
            raise InputError(
                f"the {what} at step {self.progress.step}; the last checkpoint is from before, but train "
                "again from the start with a lower training.learning_rate"
            )
        steps = self.progress.step - self._logged.step
        seconds = max(self.progress.seconds - self._logged.seconds, 1e-9)
        parts = zip(LossMeter.names(), sums.tolist(), counts.tolist(), strict=True)
        line = LogLine(
            step=self.progress.step,
            loss=loss,
            loss_by_log_snr={name: total / count for name, total, count in parts if count},
            gradient_norm=gradient,
            learning_rate=learning_rate(self.preset.training, self.progress.step - 1),
            clips_per_second=steps * self.preset.training.batch / seconds,
            seconds=self.progress.seconds,
        )
        self._logged = self.progress
        if self.devices.is_main:
            log.write(line)
            self.hooks.on_log(line)

    def _save(self) -> None:
        """Write the state to resume from, and the current model."""
        tensors = self.state.gathered(keep=self.devices.is_main)
        if self.devices.is_main:
            write_state(self.out, tensors, self.progress)
            save_model(self.out / MODEL, self._averaged(tensors), self._info())
        self.devices.wait()

    def _sample(self) -> None:
        """Pass the current model to the caller, for a preview."""
        tensors = self.state.gathered(keep=self.devices.is_main)
        if self.devices.is_main:
            network = VideoUNet(self.preset.model)
            network.load_state_dict(self._averaged(tensors))
            self.hooks.on_sample(network.to(self.devices.device).eval(), self.progress.step)
        self.devices.wait()

    def _averaged(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the model's tensors: the averages of its parameters, and its buffers."""
        weights = {name.removeprefix("weights."): v for name, v in tensors.items() if name.startswith("weights.")}
        return weights | {name: tensors[f"average.{name}"] for name in self.average.tensors}

    def _info(self) -> CheckpointInfo:
        training = dataclasses.asdict(self.preset.training)
        options = self.options
        summary = {"seed": options.seed, "precision": options.precision, "data": self.data.identity}
        summary |= {"init": self.init} if self.init else {}
        preset = self.preset
        return CheckpointInfo(preset.name, preset.model, preset.sampling, self.progress.step, training | summary)


def start_from(network: VideoUNet, checkpoint: Path) -> str:
    """Load the weights of a checkpoint into a network; return the checkpoint's name.

    Raises:
        InputError: the checkpoint is not valid, or has another architecture.
    """
    state, own = load_model(checkpoint)[0].state_dict(), network.state_dict()
    differing = [name for name in sorted(state.keys() | own.keys()) if _shape(state, name) != _shape(own, name)]
    if differing:
        name = differing[0]
        raise InputError(
            f"{checkpoint} has another architecture than the model to train: {name} is {_shape(state, name)} "
            f"there and {_shape(own, name)} here; only frames and resolution may differ"
        )
    network.load_state_dict(state)
    return source_of(checkpoint)


def _shape(tensors: dict[str, Tensor], name: str) -> str:
    return "x".join(map(str, tensors[name].shape)) if name in tensors else "missing"
