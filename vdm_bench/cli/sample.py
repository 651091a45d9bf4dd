"""`vdm-bench sample`: clips of a trained reference model."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vdm_bench.cli import options
from vdm_bench.cli.options import show
from vdm_bench.errors import InputError
from vdm_bench.metrics.choices import RESIZE_RULES
from vdm_bench.runtime.outside import whole_number

if TYPE_CHECKING:
    from vdm_bench.generation.output import Form
    from vdm_bench.metrics.choices import ResizeRule
    from vdm_bench.reference_model.config import ModelConfig
    from vdm_bench.reference_model.text.encoding import TextEmbeddings

# How clips are made: each is a setting of the same name, and None leaves it as the checkpoint says.
_SETTINGS = (
    click.option("--sampler", help="ancestral, predictor-corrector, ddim or dpm-solver."),
    click.option("--steps", type=int, help="Steps of the sampler."),
    click.option("--log-snr-shift", type=float, help="Of the schedule of the steps; 0 is the paper's."),
    click.option("--gamma", type=float, help="Noise of the ancestral sampler: 0 lower, 1 upper bound."),
    click.option("--delta", type=float, help="Step size of the Langevin corrector."),
    click.option("--clip", help="Keeping predictions in range: none, static or dynamic."),
    click.option("--clip-percentile", type=float, help="Of dynamic clipping, in (0, 1]."),
    click.option("--last-step-noise/--no-last-step-noise", default=None, help="Noise at the last step too."),
    click.option("--correct-last/--no-correct-last", default=None, help="Correct after the last step too."),
    click.option("--corrector-guidance/--no-corrector-guidance", default=None, help="Guide the corrector too."),
    click.option("--guidance-weight", type=float, help="w of classifier-free guidance; 0 is none."),
    click.option("--guidance-scale", type=float, help="The same as 1 + w; 1 is none."),
    click.option("--reconstruction-weight", type=float, help="w_r of reconstruction guidance."),
    click.option("--method", help="reconstruction or replacement of given frames, each also with -conditional."),
    click.option("--overlap", type=int, help="Frames that blocks of longer clips share.  [default: half]"),
    click.option("--resolution", type=int, help="Sides of the clips.  [default: as trained]"),
    click.option("--batch", type=int, help="Clips a forward pass.  [default: 1 on a CPU, else 16]"),
    click.option("--precision", help="fp32 or bf16.  [default: fp32]"),
)


def _settings(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_SETTINGS):
        command = option(command)
    return command


@click.command(short_help="Make clips with a trained reference model.")
@click.argument("checkpoint")
@click.option("--out", type=options.PATH, help="Folder, or film or picture.  [default: samples]")
@click.option(
    "--format",
    "form",
    type=click.Choice(["archive", "mp4", "webm", "gif", "grid"]),
    help="Clip archive (without loss), films, or one picture.  [default: by the suffix of --out, else archive]",
)
@click.option("--count", type=click.IntRange(1), help="How many clips.  [default: 16; with --caption one each]")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed.")
@click.option("--frames", type=click.IntRange(1), help="Frames; more than the model's are made in blocks.")
@click.option("--label", "labels", multiple=True, help="Class, or `random`; clips take several in turn.")
@click.option("--caption", "captions", multiple=True, help="Text; clips take several in turn.")
@click.option("--text-embeddings", type=options.PATH, help="File with the captions' embeddings.")
@click.option("--text-encoder", help="Folder with a BERT, or its name on the Hugging Face hub.")
@click.option("--context", type=options.PATH, help="Clips whose first frames are given, one a clip.")
@click.option("--context-frames", type=click.IntRange(1), help="How many of their frames are given.")
@click.option("--resize", type=click.Choice(RESIZE_RULES), help="Rule by which the context is resized.")
@click.option("--preset", help="Refuse a checkpoint of another preset.")
@click.option("--fps", type=float, default=8.0, show_default=True, help="Frames a second, for players.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ...")
@_settings
@options.goes_on
def sample(
    checkpoint: str,
    out: Path | None,
    form: "Form | None",
    count: int | None,
    seed: int,
    frames: int | None,
    labels: tuple[str, ...],
    captions: tuple[str, ...],
    text_embeddings: Path | None,
    text_encoder: str | None,
    context: Path | None,
    context_frames: int | None,
    resize: "ResizeRule | None",
    preset: str | None,
    fps: float,
    device: str,
    **settings: object,
) -> None:
    """Make clips with the model in CHECKPOINT: a .safetensors file, or the name of a model of the package.

    Clip i depends on --seed and i alone. A command that was interrupted goes on where it stopped.

    \b
    vdm-bench sample model.safetensors --out samples.png
    vdm-bench sample model.safetensors --count 256 --sampler ddim --steps 64 --label random --guidance-weight 1
    vdm-bench sample model.safetensors --context real/ --context-frames 4 --frames 64 --format mp4
    """
    from vdm_bench.generation.generate import SampleOptions, generate
    from vdm_bench.generation.output import OutputSpec
    from vdm_bench.metrics.networks import pick_device
    from vdm_bench.reference_model.model import checkpoint_path, load_reference_model, source_of
    from vdm_bench.runtime.progress import Console
    from vdm_bench.samplers.reference import ReferenceSampler

    target = OutputSpec.of(out, form, fps)
    path = checkpoint_path(checkpoint)
    model = load_reference_model(path, preset=preset, device=pick_device(device))
    numbers = _labels(labels)
    sampling = model.sampling.override({**settings, "labels": "random" if labels == ("random",) else None})
    text = _text(captions, text_embeddings, text_encoder, model.config)
    sampler = ReferenceSampler(model, sampling, text=text, source=source_of(path))
    order = SampleOptions(count, seed, frames, numbers, captions, context, context_frames, resize)
    made = generate(sampler, (model.config.frames, model.side(sampling)), order, target, Console())
    shape = "x".join(map(str, made.shape))
    clips = "clip" if made.count == 1 else "clips"
    show(
        f"wrote {made.count} {clips} of {shape} to {target.path} as {target.form}; "
        f"{made.evaluations} network evaluations a clip"
    )


def _labels(texts: tuple[str, ...]) -> tuple[int, ...]:
    if texts == ("random",):
        return ()
    labels = []
    for text in texts:
        label = whole_number(text)
        if label is None:
            raise InputError(f"--label {text!r} is no class; give a whole number from 0, or `random` alone")
        labels.append(label)
    return tuple(labels)


def _text(
    captions: tuple[str, ...], file: Path | None, encoder: str | None, config: "ModelConfig"
) -> "TextEmbeddings | None":
    if file is not None and encoder is not None:
        raise InputError("--text-embeddings and --text-encoder say the same thing; give one of the two")
    if not captions:
        return None
    if config.text_dim and file is None and encoder is None:
        raise InputError(
            "--caption needs a text encoder: give --text-encoder FOLDER with a BERT's weights, or "
            "--text-embeddings FILE"
        )
    from vdm_bench.reference_model.text.encoding import load_text

    return load_text(captions, file or encoder, text_dim=config.text_dim)
