"""`vdm-bench weights`: fetch, import and check pretrained weights."""

from pathlib import Path

import click

from vdm_bench.cli import options
from vdm_bench.cli.options import say, show, show_json


@click.group(short_help="Fetch, import and check pretrained weights.")
def weights() -> None:
    """Fetch, import and check the pretrained weights of feature networks.

    They lie in the user's cache folder; VDM_BENCH_CACHE moves it.
    """


@weights.command("list", short_help="List weights, and which are here.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_weights(as_json: bool) -> None:
    """List the weights that can be had by name, and which are in the cache."""
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

    An interrupted download goes on where it stopped. Weights that are here and sound are left alone.
    """
    from vdm_bench.metrics.weights.library import default_library
    from vdm_bench.runtime.progress import Console

    library = default_library(Console())
    for name in names:
        show(f"{name}: {library.fetch(name)}")


@weights.command("import", short_help="Take weights from files on this machine.")
@click.argument("name")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=options.PATH)
def import_weights(name: str, files: tuple[Path, ...]) -> None:
    """Take weights from files that came another way, with the same checks as a download.

    FILE is the file that `weights list --json` gives the address of, or a folder that holds it: a checkpoint's,
    or a SavedModel or TF-Hub module.
    """
    from vdm_bench.metrics.weights.library import default_library

    show(f"{name}: {default_library().import_files(name, files)}")


@weights.command(short_help="Check the weights in the cache again.")
@click.argument("names", metavar="[NAME]...", nargs=-1)
def verify(names: tuple[str, ...]) -> None:
    """Check weights in the cache, all of them or those named; damaged files are deleted."""
    from vdm_bench.metrics.weights.library import default_library

    digests = default_library().verify(*names)
    for name, digest in digests.items():
        show(f"{name}: sound, content {digest}")
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
