"""Cut published predictions out of comparison GIFs: one clip archive per model, ready for `vdm-bench score`.

    python examples/cut_prediction_gifs.py GIFS OUT
    for model in OUT/bair/*; do
        vdm-bench score $model --reference OUT/bair/ground-truth --name $(basename $model) \
            --out runs/$(basename $model)
    done
    vdm-bench report runs

The GIFs are those of the page of "Stochastic Adversarial Video Prediction" (Lee et al. 2018, repository
alexlee-gk/video_prediction, branch gh-pages, folder index_files/images): the ground truth and the predictions of
several models side by side, in columns of 64 pixels, with captions below row 64. Each column is cut into
overlapping windows, because the clips are few. A GIF has 256 colours, so the clips are marked as lossy.
"""

import re
from collections import defaultdict
from pathlib import Path

import click
import numpy as np

from vdm_bench.video.archive import ArchiveWriter
from vdm_bench.video.clip import Clip
from vdm_bench.video.decode import read_video

SIDE = 64
TRUTH = "ground-truth"
SAVP = ["savp-best", "savp-random", "savp-worst"]

# Name of the GIF -> dataset, and the columns from left to right, according to their captions.
COLUMNS = {
    r"bair_action_free_random_\d+_crop": ("bair", [TRUTH]),  # the other columns have no caption
    r"bair_action_free_\d+": ("bair", [TRUTH, "sv2p-time-invariant", "svg-lp", "vae", "gan", *SAVP]),
    r"bair_\d+": ("bair", [TRUTH, "sv2p-time-variant", "vae", "gan", *SAVP]),
    r"kth_\d+": ("kth", [TRUTH, "sv2p-time-variant", "svg-fp", "deterministic", "vae", "gan", *SAVP]),
}


def columns_of(name: str) -> tuple[str, list[str]]:
    """Return the dataset and the columns of a GIF."""
    for pattern, columns in COLUMNS.items():
        if re.fullmatch(pattern, name):
            return columns
    raise click.ClickException(f"{name}.gif is not one of the page's GIFs; its columns are not known")


@click.command()
@click.argument("gifs", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--frames", default=16, show_default=True, help="Frames of a window.")
@click.option("--step", default=7, show_default=True, help="Frames from one window to the next.")
def main(gifs: Path, out: Path, frames: int, step: int) -> None:
    """Cut the GIFs in GIFS and its subfolders into clip archives OUT/DATASET/MODEL."""
    clips: dict[tuple[str, str], list[Clip]] = defaultdict(list)
    for path in sorted(gifs.rglob("*.gif")):
        dataset, models = columns_of(path.stem)
        video = read_video(path)
        for column, model in enumerate(models):
            pixels = video[:, :SIDE, column * SIDE : (column + 1) * SIDE]
            for start in range(0, len(video) - frames + 1, step):
                window = np.ascontiguousarray(pixels[start : start + frames])
                clips[dataset, model].append(Clip(window, f"{path.stem}@{start}", lossy=True))
    for (dataset, model), windows in clips.items():
        ArchiveWriter(out / dataset / model, (frames, SIDE, SIDE), fps=4).append(windows)
        click.echo(f"{dataset}/{model}: {len(windows)} clips")


if __name__ == "__main__":
    main()
