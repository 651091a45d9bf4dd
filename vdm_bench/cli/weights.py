"""`vdm-bench weights`: fetch, import and check pretrained weights."""

from pathlib import Path

import click

from vdm_bench.cli import options
from vdm_bench.cli.options import say, show, show_json


@click.group(short_help="Fetch, import and check pretrained weights.")
def weights() -> None:
    """Fetch, import and check the pretrained weights of feature networks.

    They are stored in the user's cache folder; VDM_BENCH_CACHE moves it.
    """


@weights.command("list", short_help="List weights, and which are in the cache.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_weights(as_json: bool) -> None:
    """List the available weights, and which of them are in the cache."""
    from vdm_bench.metrics.weights.library import default_library

    rows = default_library().describe()
    if as_json:
        show_json(rows)
        return
    columns = ("name", "title", "size", "licence", "state", "digest")
    table = [columns, *((*_cells(row),) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        show("  ".join(cells).rstrip())


@weights.command(short_help="Download weights.")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def fetch(names: tuple[str, ...]) -> None:
    """Download weights into the cache, check and convert them.

    An interrupted download is resumed. Valid weights in the cache are left alone.
    """
    from vdm_bench.metrics.weights.library import default_library
    from vdm_bench.runtime.progress import Console

    library = default_library(Console())
    for name in names:
        show(f"{name}: {library.fetch(name)}")


@weights.command("import", short_help="Import weights from files.")
@click.argument("name")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=options.PATH)
def import_weights(name: str, files: tuple[Path, ...]) -> None:
    """Import weights from files, with the same checks as a download.

    FILE is the file at the URL in `weights list --json`, or a folder that contains it: a checkpoint, a SavedModel
    or a TF-Hub module.
    """
    from vdm_bench.metrics.weights.library import default_library

    show(f"{name}: {default_library().import_files(name, files)}")


@weights.command(short_help="Check the weights in the cache again.")
@click.argument("names", metavar="[NAME]...", nargs=-1)
def verify(names: tuple[str, ...]) -> None:
    """Check all weights in the cache, or the named ones; damaged files are deleted."""
    from vdm_bench.metrics.weights.library import default_library

    digests = default_library().verify(*names)
    for name, digest in digests.items():
        show(f"{name}: valid, content {digest}")
    if not digests:
        say("there are no weights in the cache")


def _cells(row: dict[str, object]) -> list[str]:
    size = row["bytes"]
    return [
        str(row["name"]),
        str(row["title"]),
        f"{size / 1e6:.0f} MB" if isinstance(size, int) else "unknown",
        str(row["licence"]),
        str(row["state"]),
        str(row["digest"] or "-")[:8],
    ]
