"""`vdm-bench data`: check a protocol's data, and prepare its clips."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vdm_bench.cli import options
from vdm_bench.cli.options import show, show_json
from vdm_bench.datasets.registry import DATASETS, DatasetEntry
from vdm_bench.errors import InputError, NotComparableError

if TYPE_CHECKING:
    from vdm_bench.metrics.networks import ComputeConfig
    from vdm_bench.protocols.prepare import SideCheck

_NAMED = 5  # missing or broken clips that are printed


@click.group(short_help="Check and prepare the data of a protocol.")
def data() -> None:
    """Check and prepare the data of a protocol."""


@data.command(short_help="Show where to get the data.")
@click.argument("names", metavar="[PROTOCOL|DATASET]...", nargs=-1)
def where(names: tuple[str, ...]) -> None:
    """Show where to get data, their licence and the expected files: of protocols, datasets, or all datasets."""
    entries = _entries_of(names) if names else DATASETS
    for name, entry in entries.items():
        if not entry.needs_data:
            if names:
                show(f"{name}: {entry.title}", "  needs no data")
            continue
        show(
            f"{name}: {entry.title}",
            f"  from     {entry.where}",
            f"  licence  {entry.licence}",
            f"  expected {entry.layout}",
        )


def _entries_of(names: Sequence[str]) -> dict[str, DatasetEntry]:
    """Return the datasets with these names, and those of the protocols with these names."""
    from vdm_bench.protocols import get_protocol

    datasets = [name if name in DATASETS else get_protocol(name).dataset for name in names]
    return {name: DATASETS[name] for name in datasets}


@data.command(short_help="Show which data exist and which are missing.")
@click.argument("protocol")
@options.data_root
@click.option("--decode", is_flag=True, help="Decode every clip to find broken files.")
@options.workers
@click.option("--json", "as_json", is_flag=True, help="Print JSON with all names.")
def check(protocol: str, data_root: Path | None, decode: bool, workers: int, as_json: bool) -> None:
    """Show which data of PROTOCOL exist, which are missing, and whether the counts match the protocol.

    The metrics of PROTOCOL are checked too.

    Exit code 3 if the counts do not match: a run is possible, but is marked and ranked separately.

    `vdm-bench data where PROTOCOL` says where to get the data.
    """
    from vdm_bench.protocols import get_protocol
    from vdm_bench.protocols.prepare import check_data
    from vdm_bench.runtime.progress import Console

    chosen = get_protocol(protocol)
    sides = check_data(chosen, data_root, decode=decode, workers=workers, reporter=Console())
    if as_json:
        show_json([side.to_dict() for side in sides])
    else:
        for side in sides:
            _print_side(side)
    if not all(side.complete for side in sides):
        raise NotComparableError(
            f"the data of {chosen.name} are not complete; a run will be marked and ranked separately"
        )
    if not as_json:
        show("complete: the counts are the protocol's" + ("" if decode else " (--decode reads every clip)"))


@data.command(short_help="Decode, crop and resize the clips of a protocol once.")
@click.argument("protocol")
@options.data_root
@click.option("--out", type=options.PATH, help="Folder for the clip archives.  [default: --data-root]")
@options.skip_broken
@options.workers
@options.resumable
def prepare(protocol: str, data_root: Path | None, out: Path | None, skip_broken: bool, workers: int) -> None:
    """Write the clips of PROTOCOL as clip archives at its resolution, so that they are decoded only once.

    Then use --out as the --data-root of `run`, and its folders as --data of `train`. Rerun an interrupted
    command to resume it.
    """
    from vdm_bench.protocols import get_protocol
    from vdm_bench.protocols.prepare import prepare as write
    from vdm_bench.runtime.progress import Console

    made = write(
        get_protocol(protocol),
        data_root,
        out,
        workers=workers,
        skip_broken=skip_broken,
        reporter=Console(),
    )
    for clips in made:
        show(f"{clips.folder}: {clips.clips:,} of {clips.wanted:,} clips of {clips.source}")
        _print_names("missing", clips.missing)
        _print_names("broken", [f"{source} ({reason})" for source, reason in clips.broken])


@data.command("export-reference", short_help="Write the reference features of a protocol to a file.")
@click.argument("protocol")
@options.data_root
@click.option("--out", type=options.PATH, help="File to write.  [default: PROTOCOL.safetensors]")
@options.skip_broken
@options.recheck
@options.computing
@options.workers
def export_reference(
    protocol: str,
    data_root: Path | None,
    out: Path | None,
    skip_broken: bool,
    recheck: bool,
    computing: "ComputeConfig",
    workers: int,
) -> None:
    """Write the reference features of PROTOCOL, for all of its metrics, to one safetensors file.

    With this file, `run --reference-stats` needs no clips of the reference. The file contains no pixels.
    """
    from vdm_bench.protocols import get_protocol
    from vdm_bench.protocols.clips import missing_departure, open_dataset
    from vdm_bench.runtime.files import check_file_writable
    from vdm_bench.runtime.progress import Console
    from vdm_bench.scoring.features import FeatureExtractor
    from vdm_bench.scoring.reference import collect_reference, write_reference
    from vdm_bench.scoring.suite import MetricSuite

    chosen, reporter = get_protocol(protocol), Console()
    path = out or Path(f"{chosen.name}.safetensors")
    if path.is_dir():
        raise InputError(f"--out {path} is a folder; give the name of a file in it")
    clips = open_dataset(chosen, chosen.reference, data_root)
    departures = missing_departure(chosen, chosen.reference, clips)
    for sentence in (*clips.notes, *departures):
        reporter.note(sentence)
    check_file_writable(path)
    suite = MetricSuite.of(chosen.metrics, computing, reporter)
    suite.check_frames(chosen.frames)
    collector = FeatureExtractor(suite.networks, workers, skip_broken, reporter, recheck=recheck)
    collected = collect_reference(chosen, clips, collector)
    write_reference(path, chosen, suite.networks, collected, departures)
    show(f"{path}: features of {collected.features[0].count:,} clips of {collected.features[0].identity}")


def _print_side(side: "SideCheck") -> None:
    videos = ""
    if side.videos is not None:
        total = side.videos + len(side.missing)
        videos = f"{side.videos:,} of {total:,} videos ({side.videos / total:.1%}), "
    found = min(side.clips, side.wanted)
    show(f"{side.side}: {side.source}: {videos}{found:,} of {side.wanted:,} clips")
    _print_names("missing", side.missing)
    _print_names("broken", [f"{source} ({reason})" for source, reason in side.broken or []])
    for note in side.notes:
        show(f"  note: {note}")


def _print_names(what: str, names: Sequence[str]) -> None:
    if names:
        more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        show(f"  {what}: {', '.join(names[:_NAMED])}{more}")
