"""Options that several verbs share."""

import os
from pathlib import Path
from typing import Any

import click

from vdm_bench.metrics.geometry import ASPECTS, RESIZE_RULES

PATH: click.Path = click.Path(path_type=Path)
FORMATS = ("text", "csv", "markdown", "latex", "json")

device = click.option(
    "--device", default="auto", show_default=True, help="Where networks compute: auto, cpu, cuda, cuda:1, ..."
)
workers = click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=lambda: min(os.cpu_count() or 1, 16),
    show_default="one a core, at most 16",
    help="Threads that decode clips; the score does not depend on it.",
)
skip_broken = click.option(
    "--skip-broken", is_flag=True, help="Leave out clips that cannot be read; they are listed in the record."
)
name = click.option("--name", help="How the generated clips are called in tables.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print the record as JSON instead of a table.")
resize = click.option("--resize", type=click.Choice(RESIZE_RULES), help="Rule by which --size resizes.")
aspect = click.option(
    "--aspect",
    type=click.Choice(ASPECTS),
    default="stretch",
    show_default=True,
    help="Change the aspect ratio, or cut the middle out first.",
)


class Size(click.ParamType[tuple[int, int]]):
    """A size as `64` or `WxH`; gives (height, width)."""

    name = "WxH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Read the text."""
        parts = str(value).lower().split("x")
        if len(parts) > 2 or not all(part.isdecimal() and 0 < int(part) <= 8192 for part in parts):
            self.fail(f"{value!r} is no size; write 64 or 128x96 (width x height)", param, ctx)
        return int(parts[-1]), int(parts[0])
