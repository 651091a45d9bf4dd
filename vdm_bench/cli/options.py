"""Options that several verbs share."""

import functools
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click

from vdm_bench.errors import InputError
from vdm_bench.metrics.choices import ASPECTS, PRECISIONS, RESIZE_RULES
from vdm_bench.runtime.input_files import whole_number

if TYPE_CHECKING:
    from fractions import Fraction

    from vdm_bench.metrics.choices import Precision
import json
from typing import TYPE_CHECKING

from vdm_bench.runtime.printable import printable

if TYPE_CHECKING:
    from vdm_bench.leaderboards.record import Record
    from vdm_bench.leaderboards.tables.formats import Format

P = ParamSpec("P")
R = TypeVar("R")

TRACKERS = "mlflow[:URI], wandb[:[ENTITY/]PROJECT], tensorboard:DIR; may be repeated."
ARGUMENTS = "vdm_bench.arguments"  # in the meta of a context: the command line, without the program
RESUMES = "vdm_bench.resumes"  # in the meta of a context: rerunning the verb resumes it
PATH: click.Path = click.Path(path_type=Path)
FORMATS = ("text", "csv", "markdown", "latex", "json")


def computing(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for networks; the command receives them as one argument, `computing`."""

    @functools.wraps(command)
    def with_computing(
        *,
        device: str,
        precision: "Precision",
        compiled: bool,
        backend: str,
        weights: tuple[str, ...],
        **rest: Any,
    ) -> Any:
        from vdm_bench.metrics.networks import ComputeConfig, pick_device
        from vdm_bench.runtime.distributed import local_device

        if device == "auto" and backend.startswith("tensorflow"):
            device = "cpu"  # the original graph runs there
        config = ComputeConfig(
            local_device(pick_device(device)),
            precision,
            compiled,
            backend,
            weight_files(weights),
        )
        return command(computing=config, **rest)

    for option in reversed(_COMPUTING):
        with_computing = option(with_computing)
    return with_computing


device = click.option(
    "--device", default="auto", show_default=True, help="Device of the networks: auto, cpu, cuda, cuda:1, ..."
)
weights = click.option(
    "--weights",
    multiple=True,
    metavar="NETWORK=FILE",
    help="Your own weights (.safetensors) for a network; may be repeated.",
)
_COMPUTING = (
    device,
    click.option(
        "--precision",
        type=click.Choice(PRECISIONS),
        default="fp32",
        show_default=True,
        help="Precision of the networks; tf32 and bf16 are faster on GPUs, but change scores and the signature.",
    ),
    click.option(
        "--compile", "compiled", is_flag=True, help="Compile the networks: slow start, faster afterwards."
    ),
    click.option(
        "--backend",
        default="torch",
        show_default=True,
        help="torch, or tensorflow[:FOLDER] for the original I3D graph, from tensorflow-hub or a SavedModel.",
    ),
    weights,
)
workers = click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=lambda: min(os.cpu_count() or 1, 16),
    show_default="one per core, at most 16",
    help="Number of decoding threads; it does not affect scores.",
)
data_root = click.option(
    "--data-root",
    type=PATH,
    envvar="VDM_BENCH_DATA_ROOT",
    show_envvar=True,
    help="Folder with the protocol's dataset; computed ones, such as `shapes`, need none.",
)
reference_stats = click.option(
    "--reference-stats",
    type=PATH,
    help="Reference features (`vdm-bench data export-reference`), instead of the reference clips.",
)
skip_broken = click.option(
    "--skip-broken", is_flag=True, help="Skip clips that cannot be read, and list them in the record."
)
recheck = click.option("--recheck", is_flag=True, help="Decode and hash every clip, even if its hash is cached.")
table_format = click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="Format of the tables.",
)
output = click.option("-o", "--output", type=PATH, help="Write to a file instead of the screen.")
name = click.option("--name", help="Name of the generated clips in tables.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print the record as JSON instead of a table.")


def key_values(pairs: Sequence[str]) -> dict[str, str]:
    """Parse the values of --option."""
    read = {}
    for text in pairs:
        key, equals, value = text.partition("=")
        if not (key.isidentifier() and equals):
            raise InputError(f"--option {text!r} is not KEY=VALUE")
        read[key] = value
    return read


def say_left_out(sentence: str) -> None:
    """Report an invalid record."""
    say(f"left out: {sentence}")


def write_or_print(text: str, output: Path | None) -> None:
    """Write text to the file of `output`, or print it."""
    if output is None:
        show_text(text)
        return
    from vdm_bench.runtime.files import remove_temporary_files_of, write_text

    remove_temporary_files_of(output, shared=True)
    write_text(output, text)
    say(f"wrote {output}")


class Number(click.FloatRange):
    """Numbers in a range; NaN is refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read a number."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


class Size(click.ParamType[tuple[int, int]]):
    """A size, `64` or `WxH`; converted to (height, width)."""

    name = "WxH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Read the text."""
        sides = [whole_number(part) or 0 for part in str(value).lower().split("x")]
        if len(sides) > 2 or not all(0 < side <= 8192 for side in sides):
            self.fail(f"{value!r} is not a size; write 64 or 128x96 (width x height)", param, ctx)
        return sides[-1], sides[0]


class ResizeChoice(click.Choice[str]):
    """A resize rule; `bilinear` alone is refused, because libraries mean different rules by it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Look up the rule."""
        if str(value).lower() in ("bilinear", "linear"):
            self.fail(f"{value!r} is another rule in each library; which one? choose {_BILINEAR}", param, ctx)
        rule: str = super().convert(value, param, ctx)
        return rule


_BILINEAR = (
    "antialias (Pillow), half-pixel (PyTorch, OpenCV), align-corners (PyTorch with align_corners=True) or "
    "tf1-bilinear (TensorFlow 1, as in the original FVD)"
)
resize_rule = ResizeChoice(RESIZE_RULES)


class Rate(click.ParamType["Fraction | str"]):
    """A frame rate: `8`, `23.976`, `30000/1001` or `stored`."""

    name = "F"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Fraction | str":
        """Read the text."""
        from vdm_bench.video.timing import exact_rate

        try:
            return value if value == "stored" else exact_rate(value)
        except InputError as error:
            self.fail(str(error), param, ctx)


_CLIPS = (
    click.option(
        "--frames", type=click.IntRange(1), help="Take the first N frames of each clip.  [default: all]"
    ),
    click.option("--stride", type=click.IntRange(1), default=1, show_default=True, help="Take every N-th frame."),
    click.option(
        "--fps",
        type=Rate(),
        help="Sample videos at F frames per second, by frame times; `stored` takes the stored frames and ignores "
        "their times.  [default: each video at its own constant rate]",
    ),
    click.option("--size", type=Size(), help="Resize all clips of both sides; needs --resize."),
    click.option("--resize", type=resize_rule, help="Resize rule of --size."),
    click.option(
        "--aspect",
        type=click.Choice(ASPECTS),
        default="stretch",
        show_default=True,
        help="Stretch the clips, crop the centre before resizing, or resize the short side and then crop.",
    ),
    click.option("--strips", is_flag=True, help="Each image is a clip: a horizontal strip of square frames."),
)


def resumable(command: Callable[P, R]) -> Callable[P, R]:
    """Mark a verb as resumable: a message says so when it is stopped. Must be the innermost decorator."""

    @functools.wraps(command)
    def marked(*args: P.args, **kwargs: P.kwargs) -> R:
        click.get_current_context().meta[RESUMES] = True
        return command(*args, **kwargs)

    return marked


def clips(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for reading clips."""
    for option in reversed(_CLIPS):
        command = option(command)
    return command


def weight_files(pairs: Sequence[str]) -> dict[str, Path]:
    """Parse the values of `--weights`.

    Raises:
        InputError: one is not NETWORK=FILE.
    """
    return named_paths(pairs, "--weights", "NETWORK=FILE, such as i3d-k400=mine.safetensors")


def named_paths(pairs: Sequence[str], option: str, example: str) -> dict[str, Path]:
    """Parse paths with names.

    Args:
        pairs: texts such as `mine=samples/`.
        option: the option with these values, for errors.
        example: form and example of a pair, for errors: `NAME=PATH, such as mine=samples/`.

    Raises:
        InputError: a text has another form.
    """
    paths = {}
    for pair in pairs:
        name, equals, path = pair.partition("=")
        if not (name and equals and path):
            raise InputError(f"{option} {pair!r} is not {example}")
        paths[name] = Path(path)
    return paths


def say(sentence: object) -> None:
    """Print a line to standard error."""
    click.echo(printable(sentence, None), err=True)


def show(*lines: object) -> None:
    """Print lines to standard output; line breaks within a line are escaped."""
    click.echo("\n".join(printable(line, None) for line in lines))


def show_text(text: str) -> None:
    """Print a text with several lines, such as a table, to standard output."""
    show(*text.rstrip("\n").split("\n"))


def show_json(content: Any) -> None:
    """Print JSON to standard output, in ASCII, so that it does not depend on the encoding of the stream."""
    click.echo(json.dumps(content, indent=2, allow_nan=False))


def print_record(record: "Record", as_json: bool, form: "Format" = "text") -> None:
    """Print a record as a table in some format, or as JSON."""
    if as_json:
        show_json(record.model_dump(mode="json"))
        return
    from vdm_bench.leaderboards.store import frame_of
    from vdm_bench.leaderboards.tables.formats import format_tables

    show_text(format_tables(frame_of(record), form))


def require_values(record: "Record") -> None:
    """Refuse a record with missing values, after it was written and printed.

    Raises:
        InputError: a metric has no value.
    """
    if lacking := [
        f"{score.metric} has no value: {score.status}" for score in record.scores if score.value is None
    ]:
        raise InputError("; ".join(lacking))
