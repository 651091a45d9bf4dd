"""`vdm-bench weights`: fetch, import, export and check pretrained weights."""

from pathlib import Path

import click

from vdm_bench.cli import options
from vdm_bench.cli.options import say, show, show_json
from vdm_bench.errors import InputError


@click.group(short_help="Fetch, import, export and check pretrained weights.")
def weights() -> None:
    """Fetch, import, export and check the pretrained weights of feature networks.

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

    for name, path in default_library(Console()).fetch_all(names).items():
        show(f"{name}: {path}")


@weights.command("import", short_help="Import weights from files.")
@click.argument("arguments", metavar="[NAME] FILE...", nargs=-1, required=True)
def import_weights(arguments: tuple[str, ...]) -> None:
    """Import weights from files, with the same checks as a download.

    FILE is a file at a URL in `weights list --json`, a file written by `weights export`, or a file of another
    machine's cache. It is recognised by its content and may have any name. A folder stands for the files in it: a
    checkpoint, a SavedModel, a TF-Hub module or a cache. With NAME, the files must be those weights.
    """
    from vdm_bench.metrics.weights.library import default_library

    library = default_library()
    name, *files = arguments
    if name not in library.entries or (not files and Path(name).exists()):
        imported = library.import_recognised([Path(file) for file in arguments])
    elif files:
        imported = {name: library.import_files(name, [Path(file) for file in files])}
    else:
        raise InputError(f"give the files of {name}, too; `vdm-bench weights list --json` names them")
    for weights_name, path in imported.items():
        show(f"{weights_name}: {path}")


@weights.command(short_help="Write weights of the cache to a file.")
@click.argument("name")
@click.option("-o", "--output", required=True, type=options.PATH, help="A .safetensors file to write.")
def export(name: str, output: Path) -> None:
    """Write weights of the cache to a file, which `weights import` accepts on another machine.

    The file also works as your own weights: --weights NETWORK=FILE.
    """
    from vdm_bench.metrics.weights.library import default_library

    show(f"{name}: {output}, content {default_library().export(name, output)}")


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
