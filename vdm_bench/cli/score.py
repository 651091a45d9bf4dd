"""`vdm-bench score`: score generated clips against real clips, without a protocol."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vdm_bench.cli import options
from vdm_bench.cli.options import print_record, require_values, say, show
from vdm_bench.cli.proposal import proposing
from vdm_bench.errors import InputError

if TYPE_CHECKING:
    from vdm_bench.leaderboards.tables.formats import Format
    from vdm_bench.metrics.choices import Aspect, ResizeRule
    from vdm_bench.metrics.networks import ComputeConfig
    from vdm_bench.video.timing import Fps


@click.command(short_help="Score clips against real clips.")
@click.argument("generated", type=options.PATH)
@click.option("--reference", type=options.PATH, required=True, help="Real clips.")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    help="Metric, or a TOML file that defines one; may be repeated.  [default: fvd]",
)
@options.clips
@options.skip_broken
@options.recheck
@click.option("--out", type=options.PATH, help="Folder for the record and the features.")
@click.option("--plan", "only_plan", is_flag=True, help="Print what would be computed, and stop.")
@options.name
@options.computing
@options.workers
@options.table_format
@options.as_json
def score(
    generated: Path,
    reference: Path,
    metrics: tuple[str, ...],
    frames: int | None,
    stride: int,
    fps: "Fps | None",
    size: tuple[int, int] | None,
    resize: "ResizeRule | None",
    aspect: "Aspect",
    strips: bool,
    skip_broken: bool,
    recheck: bool,
    out: Path | None,
    only_plan: bool,
    name: str | None,
    computing: "ComputeConfig",
    workers: int,
    form: "Format",
    as_json: bool,
) -> None:
    """Score the clips in GENERATED against those in --reference.

    Each may be a folder of videos (mp4, mov, avi, mkv, webm, ts, gif, ...), of folders with PNG or JPEG
    frames, of animated PNG or WebP images, of .npy or .npz arrays (uint8 [N, T, H, W, 3]), a clip archive,
    or a run folder.

    If clips differ in size or length, the command to run instead is printed.

    \b
    vdm-bench score samples/ --reference real/
    vdm-bench score samples/ --reference real/ --frames 16 --size 64 --resize antialias --aspect center-crop
    vdm-bench score samples/ --reference real/ --out runs/mine --format latex
    """
    from vdm_bench.runtime.distributed import join_processes
    from vdm_bench.runtime.progress import Console
    from vdm_bench.scoring.estimate import plan_score
    from vdm_bench.scoring.score import DEFAULT_METRICS, ScoreOptions, score_record
    from vdm_bench.video.view import View

    if as_json and form != "text":
        raise InputError("--json prints the whole record; leave out --format")
    chosen = ScoreOptions(
        metrics=metrics or DEFAULT_METRICS,
        view=View(frames, stride, size, resize, aspect, fps),
        strips=strips,
        skip_broken=skip_broken,
        computing=computing,
        workers=workers,
        name=name,
        out=out,
        recheck=recheck,
    )
    with proposing():
        if only_plan:
            show(*plan_score(generated, reference, chosen, Console()).lines())
            return
        processes = join_processes()
        record = score_record(generated, reference, chosen, Console(), processes)
    if processes.is_main:
        print_record(record, as_json, form)
        require_values(record)
        if out is None:
            say("the record is not kept; with --out DIR it is, for `vdm-bench report DIR`")
