"""`vdm-bench train`: train a reference model from a preset."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from vdm_bench.cli import options
from vdm_bench.cli.options import say
from vdm_bench.errors import InputError
from vdm_bench.metrics.choices import ASPECTS
from vdm_bench.runtime.input_files import parse_toml

if TYPE_CHECKING:
    from vdm_bench.metrics.choices import Aspect, ResizeRule
    from vdm_bench.reference_model.config import Preset
    from vdm_bench.reference_model.training.loop import Hooks
    from vdm_bench.reference_model.unet import VideoUNet
    from vdm_bench.runtime.stopping import Stop
    from vdm_bench.training.data import ClipBatches

_SECTIONS = ("model", "training", "sampling")


@click.command(short_help="Train a reference model.")
@click.argument("preset")
@click.option("--out", type=options.PATH, required=True, help="Run folder; an existing run in it is resumed.")
@click.option("--data", type=options.PATH, help="Clips to train on: a folder or a clip archive.")
@click.option("--resize", type=options.resize_rule, help="Resize rule for clips of another size.")
@click.option(
    "--aspect",
    type=click.Choice(ASPECTS),
    default="center-crop",
    show_default=True,
    help="How --resize treats the aspect ratio.",
)
@click.option("--text", type=options.PATH, help="Caption embeddings of the clips, for a text-conditional model.")
@click.option("--steps", type=click.IntRange(1), help="Training steps.  [default: the preset's]")
@click.option("--batch", type=click.IntRange(1), help="Clips per step, over all GPUs.  [default: the preset's]")
@click.option(
    "--set",
    "pairs",
    multiple=True,
    metavar="SECTION.KEY=VALUE",
    help="Change a setting of the preset; may be repeated.",
)
@click.option("--init", help="Start from the weights of a checkpoint or of a packaged model.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of the run.")
@click.option("--device", default="auto", show_default=True, help="Device: auto, cpu, cuda, cuda:1, ...")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16"]),
    default="fp32",
    show_default=True,
    help="bf16 is faster on devices that support it; weights and optimiser stay in float32.",
)
@click.option("--compile", "compiled", is_flag=True, help="Compile the network: slow start, faster afterwards.")
@click.option("--shard", is_flag=True, help="Also shard the weights (FSDP), if they do not fit on one GPU.")
@click.option("--save-memory", is_flag=True, help="Use activation checkpointing.")
@click.option(
    "--minutes",
    type=options.Number(min=0, min_open=True),
    help="Stop with a checkpoint after this time, to resume later.",
)
@click.option(
    "--checkpoint-every",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="Steps between checkpoints.",
)
@click.option(
    "--sample-every",
    type=click.IntRange(0),
    default=1000,
    show_default=True,
    help="Steps between sample pictures; 0 for none.",
)
@click.option("--tensorboard", is_flag=True, help="Also write TensorBoard files.")
@options.skip_broken
@options.workers
@options.resumable
def train(
    preset: str,
    out: Path,
    data: Path | None,
    resize: "ResizeRule | None",
    aspect: "Aspect",
    text: Path | None,
    steps: int | None,
    batch: int | None,
    pairs: tuple[str, ...],
    init: str | None,
    seed: int,
    device: str,
    precision: Literal["fp32", "bf16"],
    compiled: bool,
    save_memory: bool,
    shard: bool,
    minutes: float | None,
    checkpoint_every: int,
    sample_every: int,
    tensorboard: bool,
    skip_broken: bool,
    workers: int,
) -> None:
    """Train a model with the settings of PRESET (`shapes`, `ucf101`, `bair`, ...).

    Rerun the same command to resume stopped or interrupted training. The run folder contains the latest model
    (`model.safetensors`), a log (`log.jsonl`) and sample pictures. Start the command with `torchrun` or
    `accelerate launch` to use several GPUs or machines.

    \b
    vdm-bench train shapes --out runs/shapes
    vdm-bench train bair --data bair/train --out runs/bair
    torchrun --nproc-per-node 8 -m vdm_bench train ucf101 --data ucf101 --resize antialias --out runs/ucf101
    """
    from vdm_bench.reference_model.model import checkpoint_path
    from vdm_bench.reference_model.training.loop import TrainingOptions
    from vdm_bench.reference_model.training.loop import train as run_training
    from vdm_bench.runtime.stopping import Stop
    from vdm_bench.training.data import open_batches

    shortcuts = {"steps": steps, "batch": batch}
    chosen = changed(preset, [*pairs, *(f"training.{key}={value}" for key, value in shortcuts.items() if value)])
    batches = open_batches(
        chosen,
        data,
        seed=seed,
        resize=resize,
        aspect=aspect,
        text=text,
        skip_broken=skip_broken,
        workers=workers,
    )
    settings = TrainingOptions(
        seed=seed,
        precision=precision,
        init=checkpoint_path(init) if init else None,
        device=device,
        compiled=compiled,
        checkpointing=save_memory,
        shard=shard,
        checkpoint_every=checkpoint_every,
        sample_every=sample_every,
        tensorboard=tensorboard,
    )
    stop = Stop(minutes and 60 * minutes)
    with stop.on_signals(), peers_named():
        run_training(chosen, batches, out, settings, _hooks(chosen, batches, out, stop))
    for name, reason in sorted(batches.skipped.items()):
        say(f"left out: {name}: {reason}")
    if stop.signal is not None:
        click.get_current_context().exit(128 + stop.signal)


@contextmanager
def peers_named() -> Iterator[None]:
    """Turn torch's error about a stopped process into one sentence."""
    from torch.distributed import DistError

    from vdm_bench.runtime.distributed import PeerError

    try:
        yield
    except RuntimeError as error:
        if isinstance(error, DistError) or "gloo" in str(error).lower():
            raise PeerError(
                "another process of this job has stopped, so this one stops too; its own message says why; "
                "rerun the same command to resume from the last checkpoint"
            ) from error
        raise


def changed(name: str, pairs: Sequence[str]) -> "Preset":
    """Load a preset and apply `section.key=value` changes; values are TOML or bare words."""
    from vdm_bench.reference_model.config import get_preset

    preset = get_preset(name)
    changes: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
    for pair in pairs:
        path, equals, text = pair.partition("=")
        section, dot, key = path.partition(".")
        if not (equals and dot and key and section in changes):
            raise InputError(f"--set {pair!r} is not SECTION.KEY=VALUE with section {', '.join(_SECTIONS)}")
        changes[section][key] = _value(text)
    for section, values in changes.items():
        preset = preset.override(section, **values)
    return preset


def _value(text: str) -> Any:
    try:
        return parse_toml(f"value = {text}", "--set")["value"]
    except (InputError, KeyError):  # a bare word; the type of the setting refuses anything else
        return text


def _hooks(preset: "Preset", batches: "ClipBatches", out: Path, stop: "Stop") -> "Hooks":
    """Return hooks that print progress to stderr and write pictures to the run folder."""
    from vdm_bench.reference_model.training.loop import Hooks
    from vdm_bench.runtime.progress import Console
    from vdm_bench.training.preview import CLIPS, LogPrinter, write_preview

    def draw(network: "VideoUNet", step: int) -> None:
        condition = next(batches.batches([range(CLIPS)])).condition
        write_preview(out / "samples" / f"step-{step:09d}.png", network, condition)

    note = Console().note
    return Hooks(on_note=note, on_log=LogPrinter(note, preset.training), on_sample=draw, should_stop=stop)
