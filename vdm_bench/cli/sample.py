"""`vdm-bench sample`: sample clips from a trained reference model."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vdm_bench.cli import options
from vdm_bench.cli.options import show
from vdm_bench.errors import InputError
from vdm_bench.runtime.input_files import whole_number

if TYPE_CHECKING:
    from vdm_bench.generation.output import Form
    from vdm_bench.metrics.choices import ResizeRule
    from vdm_bench.reference_model.config import ModelConfig
    from vdm_bench.reference_model.text.encoding import TextEmbeddings

# Sampling options: each is a setting of the same name, and None means the setting of the checkpoint.
_SETTINGS = (
    click.option("--sampler", help="ancestral, predictor-corrector, ddim or dpm-solver."),
    click.option("--steps", type=int, help="Sampling steps."),
    click.option(
        "--log-snr-shift", type=float, help="Shift of the sampling schedule; 0 is the paper's schedule."
    ),
    click.option("--gamma", type=float, help="Variance of ancestral sampling: 0 lower, 1 upper bound."),
    click.option("--delta", type=float, help="Step size of the Langevin corrector."),
    click.option("--clip", help="Thresholding of predictions: none, static or dynamic."),
    click.option("--clip-percentile", type=float, help="Percentile of dynamic thresholding, in (0, 1]."),
    click.option("--last-step-noise/--no-last-step-noise", default=None, help="Also add noise at the last step."),
    click.option("--correct-last/--no-correct-last", default=None, help="Also correct after the last step."),
    click.option("--corrector-guidance/--no-corrector-guidance", default=None, help="Also guide the corrector."),
    click.option("--guidance-weight", type=float, help="w of classifier-free guidance; 0 is off."),
    click.option("--guidance-scale", type=float, help="The same as 1 + w; 1 is off."),
    click.option("--reconstruction-weight", type=float, help="w_r of reconstruction guidance."),
    click.option(
        "--method", help="Use of context frames: reconstruction or replacement, each also with -conditional."
    ),
    click.option(
        "--overlap", type=int, help="Frames shared by consecutive blocks of a long clip.  [default: half]"
    ),
    click.option("--resolution", type=int, help="Height and width of the clips.  [default: as trained]"),
    click.option("--batch", type=int, help="Clips per forward pass.  [default: 1 on a CPU, else 16]"),
    click.option("--precision", help="fp32 or bf16.  [default: fp32]"),
)


def _settings(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_SETTINGS):
        command = option(command)
    return command


@click.command(short_help="Sample clips from a trained reference model.")
@click.argument("checkpoint")
@click.option("--out", type=options.PATH, help="Folder, or a video or image file.  [default: samples]")
@click.option(
    "--format",
    "form",
    type=click.Choice(["archive", "mp4", "webm", "gif", "grid"]),
    help="Clip archive (lossless), videos, or one image.  [default: by the suffix of --out, else archive]",
)
@click.option("--count", type=click.IntRange(1), help="Number of clips.  [default: 16; with --caption one each]")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed.")
@click.option("--frames", type=click.IntRange(1), help="Frames; more than the model's are generated in blocks.")
@click.option(
    "--label", "labels", multiple=True, help="Class, or `random`; may be repeated, clips use them in turn."
)
@click.option("--caption", "captions", multiple=True, help="Text; may be repeated, clips use them in turn.")
@click.option("--text-embeddings", type=options.PATH, help="File with caption embeddings.")
@click.option("--text-encoder", help="Folder with a BERT, or its name on the Hugging Face hub.")
@click.option(
    "--context", type=options.PATH, help="Clips with the context frames: the first frames of clip i for sample i."
)
@click.option("--context-frames", type=click.IntRange(1), help="Number of context frames.")
@click.option("--resize", type=options.resize_rule, help="Resize rule of the context frames.")
@click.option("--preset", help="Refuse a checkpoint of another preset.")
@click.option("--fps", type=float, default=8.0, show_default=True, help="Frame rate stored in the output.")
@click.option("--device", default="auto", show_default=True, help="Device: auto, cpu, cuda, cuda:1, ...")
@_settings
@options.resumable
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
    """Sample clips from the model CHECKPOINT: a .safetensors file, a training run, or a packaged model's name.

    Clip i depends only on --seed and i. Rerun an interrupted command to resume it.

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
    from vdm_bench.samplers.reference_model import ReferenceSampler

    target = OutputSpec.of(out, form, fps)
    path = checkpoint_path(checkpoint)
    model = load_reference_model(path, preset=preset, device=pick_device(device))
    numbers = _labels(labels)
    sampling = model.sampling.override({**settings, "labels": "random" if labels == ("random",) else None})
    text = _text(captions, text_embeddings, text_encoder, model.config)
    sampler = ReferenceSampler(model, sampling, text=text, source=source_of(path))
    sample_options = SampleOptions(count, seed, frames, numbers, captions, context, context_frames, resize)
    made = generate(sampler, (model.config.frames, model.side(sampling)), sample_options, target, Console())
    shape = "x".join(map(str, made.shape))
    clips = "clip" if made.count == 1 else "clips"
    show(
        f"wrote {made.count} {clips} of {shape} to {target.path} as {target.form}; "
        f"{made.evaluations} network evaluation{'' if made.evaluations == 1 else 's'} per clip"
    )


def _labels(texts: tuple[str, ...]) -> tuple[int, ...]:
    if texts == ("random",):
        return ()
    labels = []
    for text in texts:
        label = whole_number(text)
        if label is None:
            raise InputError(f"--label {text!r} is not a class; give a whole number from 0, or `random` alone")
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
