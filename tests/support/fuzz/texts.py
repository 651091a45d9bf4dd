"""Readers of what people write: options, protocols, recipes and published tables."""

from collections.abc import Callable
from pathlib import Path

from fuzz.inputs import Reader, write
from vdm_bench.cli import options as cli_options
from vdm_bench.cli.train import changed
from vdm_bench.errors import MachineError, VdmBenchError
from vdm_bench.leaderboards.checks.tolerances import ToleranceRule
from vdm_bench.leaderboards.published import parse_entries, parse_rows
from vdm_bench.metrics.recipes import get_recipe
from vdm_bench.protocols import get_protocol
from vdm_bench.reference_model.config import SamplingConfig, settings_from_text
from vdm_bench.runtime.files import read_text


def _lines_of(read: Callable[[str], object]) -> Callable[[Path], None]:
    """Read every line of a file as one text that was given to an option."""

    def each(folder: Path) -> None:
        text = (folder / "a.txt").read_bytes().decode("utf-8", "surrogateescape")
        for line in text.splitlines():
            try:
                read(line)
            except MachineError:
                raise
            except VdmBenchError:
                continue

    return each


def _option(line: str) -> None:
    SamplingConfig().override(settings_from_text(cli_options.key_values([line])))


def _size_or_rate(line: str) -> None:
    import click

    for kind in (cli_options.Size(), cli_options.Rate()):
        try:
            kind.convert(line, None, None)
        except click.UsageError:
            continue


def _packaged(package: str, name: str, end: str = "") -> Callable[[Path], None]:
    """Take a file of the package, up to the second time that `end` stands in it."""

    def make(folder: Path) -> None:
        from importlib import resources

        text = resources.files(package).joinpath(name).read_text("utf-8")
        write(name, end.join(text.split(end)[:2]) if end else text)(folder)

    return make


_RECIPE = (
    'name = "mine"\ntitle = "My distance"\nnetwork = "embedded"\nlayer = "features"\nepsilon = 1e-3\n'
    '[statistic]\nkind = "kernel"\n'
)
_PUBLISHED = "vdm_bench.leaderboards.published_data"


TEXTS: dict[str, Reader] = {
    "protocol": Reader(
        _packaged("vdm_bench.protocols", "bair-prediction.toml"),
        lambda folder: get_protocol(str(folder / "bair-prediction.toml")).digest,
    ),
    "recipe": Reader(write("a.toml", _RECIPE), lambda folder: get_recipe(str(folder / "a.toml"))),
    "published rows": Reader(
        _packaged(_PUBLISHED, "published.csv", "\n2,"),
        lambda folder: parse_rows(read_text(folder / "published.csv"), "published.csv"),
    ),
    "published papers": Reader(
        _packaged(_PUBLISHED, "published.bib", "\n@"),
        lambda folder: parse_entries(read_text(folder / "published.bib"), "published.bib"),
    ),
    "options": Reader(
        write("a.txt", "steps=7\ngamma=0.5\nlast_step_noise=true\nguidance_scale=2\noverlap=4\nclip=dynamic\n"),
        _lines_of(_option),
    ),
    "presets changed": Reader(
        write("a.txt", 'training.steps=7\nmodel.multipliers=[1, 2]\ntraining.loss="x"\ntraining.ema=0.5\n'),
        _lines_of(lambda line: changed("shapes", [line])),
    ),
    "tolerances": Reader(write("a.txt", "fvd:5%\nprdc/*:0.02\n*:0\n"), _lines_of(ToleranceRule.parse)),
    "sizes and rates": Reader(write("a.txt", "64\n128x96\n8\n30000/1001\nstored\n"), _lines_of(_size_or_rate)),
    "named paths": Reader(
        write("a.txt", "i3d-k400=mine.safetensors\n"), _lines_of(lambda line: cli_options.weight_files([line]))
    ),
}
