"""Draw the learning curve of a training run of the reference model, from its log.

    python examples/shapes_model/curve.py runs/shapes/log.jsonl --out docs/images/shapes-training.png

Left: the loss over the steps. Right: the loss by log-SNR. The levels differ: at high noise the best prediction is
the mean of the data, at low noise only the noise remains to be predicted.
"""

import json
from pathlib import Path
from typing import Any

import click
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vdm_bench.runtime.files import atomic_path

_WINDOW = 10  # lines of the log to average: the loss of a few steps depends mostly on their noise levels


@click.command()
@click.argument("log", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="Picture to write.")
def main(log: Path, out: Path) -> None:
    """Draw the learning curve in LOG, a run's log.jsonl."""
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    figure = Figure(figsize=(10, 3.6), dpi=100, layout="constrained")
    overall, by_level = figure.subplots(1, 2)
    _draw(overall, lines, "all noise levels", lambda line: line["loss"])
    for name in dict.fromkeys(name for line in lines for name in line["loss_by_log_snr"]):
        _draw(by_level, lines, name, lambda line, name=name: line["loss_by_log_snr"].get(name))
    overall.set_title("mean squared error of v")
    by_level.set_title("by log-SNR")
    by_level.legend(fontsize=7, ncols=2)
    with atomic_path(out) as temporary:
        figure.savefig(temporary, format=out.suffix.removeprefix(".") or "png", metadata={})
    click.echo(f"{len(lines)} lines up to step {lines[-1]['step']:,}: loss {lines[-1]['loss']:.4f}; wrote {out}")


def _draw(axes: Axes, lines: list[dict[str, Any]], label: str, value: Any) -> None:
    """Plot a value of the log, averaged over `_WINDOW` lines."""
    points = [(line["step"], value(line)) for line in lines if value(line) is not None]
    groups = [points[start : start + _WINDOW] for start in range(0, len(points), _WINDOW)]
    steps, means = ([sum(point[axis] for point in group) / len(group) for group in groups] for axis in (0, 1))
    axes.plot(steps, means, label=label, linewidth=1.2)
    axes.set_xlabel("step")
    axes.set_yscale("log")
    axes.grid(visible=True, which="both", linewidth=0.3)


if __name__ == "__main__":
    main()
