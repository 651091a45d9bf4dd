"""Paired differences of runs: of the same protocol, over the same number of clips, from the same seeds."""

from collections.abc import Sequence
from pathlib import Path

from vdm_bench.collect import Collected, Collector
from vdm_bench.datasets.folder import SAMPLES_FOLDER, ViewedArchive
from vdm_bench.metrics.evaluation import paired_difference
from vdm_bench.metrics.networks import Computing
from vdm_bench.metrics.score import Difference
from vdm_bench.progress import Reporter
from vdm_bench.protocols import Protocol
from vdm_bench.reference_file import collect_reference
from vdm_bench.scoring import Panel
from vdm_bench.video.archive import Archive

Differences = dict[str, Difference]


def paired_differences(
    protocol: Protocol,
    pairs: Sequence[tuple[Path, Path]],
    count: int,
    *,
    data_root: Path | None,
    computing: Computing,
    workers: int,
    reporter: Reporter,
) -> list[Differences]:
    """Give the scores of the first run of each pair less those of the second one, by metric.

    Args:
        protocol: that all runs followed.
        pairs: run folders, whole.
        count: generated clips of each.
        data_root: where the protocol's dataset lies.
        computing: how networks compute; as in the runs, so that their features are there already.
        workers: threads that decode.
        reporter: where progress goes.

    Raises:
        InputError: fewer than 10 clips, or a run whose clips are not there.
    """
    panel = Panel.of(protocol.metrics, computing, reporter)
    collector = Collector(panel.networks, workers, False, reporter)
    real = collect_reference(protocol, protocol.open_dataset(protocol.reference, data_root), collector)

    def collected(folder: Path) -> Collected:
        clips = ViewedArchive(Archive(folder / SAMPLES_FOLDER, count), protocol.scored_view)
        return collector.collect(clips, count, folder / "features", str(folder))

    sides = {folder: collected(folder) for folder in dict.fromkeys(folder for pair in pairs for folder in pair)}
    return [_differences(panel, real, sides[first], sides[second]) for first, second in pairs]


def _differences(panel: Panel, real: Collected, first: Collected, second: Collected) -> Differences:
    return {
        recipe.name: paired_difference(
            recipe,
            panel.networks[place].spec,
            real.features[place],
            first.features[place],
            second.features[place],
        )
        for recipe, place in zip(panel.recipes, panel.places, strict=True)
    }
