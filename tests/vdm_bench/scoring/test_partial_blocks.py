"""An interrupted block of features: what is kept of it, that it ends with the same bits, and its progress."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.metrics.networks.embedded import EmbeddedNetwork
from vdm_bench.runtime.progress import Advance, Console, Silent
from vdm_bench.scoring.features import FeatureExtractor
from vdm_bench.scoring.partial import KEEP_EVERY

CLIPS = Shapes("test", seed=0)
PASS = 5.0  # seconds of each pass, by the test's clock


class Killed(BaseException):
    """The end of a process, whatever it was doing."""


class Slow(EmbeddedNetwork):
    """A network whose passes, of two clips, take five seconds by a clock of its own, until it is killed."""

    def __init__(self, dies_at: float = np.inf, weights: dict[str, torch.Tensor] | None = None) -> None:
        super().__init__(weights, batch_size=2)
        self.now, self.passes, self._dies_at = 0.0, 0, dies_at

    def __call__(self, clips: torch.Tensor) -> dict[str, torch.Tensor]:
        self.now += PASS
        if self.now > self._dies_at:
            raise Killed
        self.passes += 1
        return super().__call__(clips)


@dataclass
class Recorder(Silent):
    """Records the stages that are reported."""

    stages: list[tuple[str, int, str, int]] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)

    @contextlib.contextmanager
    def stage(self, title: str, total: int, unit: str = "clips", *, found: int = 0) -> Iterator[Advance]:
        self.stages.append((title, total, unit, found))
        yield self.steps.append


def collect(
    folder: Path,
    networks: Sequence[EmbeddedNetwork],
    count: int = 64,
    reporter: Silent | Console | None = None,
    clips: Shapes = CLIPS,
) -> None:
    slow = next((network for network in networks if isinstance(network, Slow)), Slow())
    made = FeatureExtractor(networks, 1, False, reporter or Silent(), clock=lambda: slow.now)
    made.collect(clips, count, folder, "clips")


def killed(folder: Path, at: float) -> Slow:
    network = Slow(dies_at=at)
    with pytest.raises(Killed):
        collect(folder, [network])
    return network


def contents(folder: Path) -> dict[str, bytes]:
    """All files of features, and nothing of the cached hashes of clips."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".json"}


@pytest.mark.parametrize("at", [60.0, 90.0, 120.0, 150.0])
def test_a_kill_loses_at_most_a_minute_of_work(tmp_path: Path, at: float) -> None:
    first = killed(tmp_path / "killed", at)
    again = Slow()
    collect(tmp_path / "killed", [again])
    lost = (first.passes + again.passes - 32) * PASS + PASS  # the last one is that of the pass under way
    assert lost <= 60.0
    assert again.passes < 32
    collect(tmp_path / "whole", [Slow()])
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_block_that_is_killed_again_and_again_is_finished(tmp_path: Path) -> None:
    """Each process lives for 45 seconds, and a block takes 160."""
    killed(tmp_path / "killed", 45.0)
    lives = 1
    while list(tmp_path.rglob("*.partial")):
        with contextlib.suppress(Killed):
            collect(tmp_path / "killed", [Slow(dies_at=45.0)])
        lives += 1
        assert lives < 10
    collect(tmp_path / "whole", [Slow()])
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_passes_of_several_networks_are_kept(tmp_path: Path) -> None:
    """Killed while the second of three computes: the first is not computed again."""
    weights = {name: 2 * values for name, values in EmbeddedNetwork().module.state_dict().items()}
    first, second = Slow(), Slow(100.0, weights)
    networks = [first, second, EmbeddedNetwork(batch_size=8)]
    made = FeatureExtractor(networks, 1, False, Silent(), clock=lambda: first.now + second.now)
    with pytest.raises(Killed):
        made.collect(CLIPS, 64, tmp_path / "killed", "clips")
    again = [Slow(), Slow(weights=weights), EmbeddedNetwork(batch_size=8)]
    collect(tmp_path / "killed", again)
    assert again[0].passes == 0
    assert 12 <= again[1].passes <= 32 - 20 + 6
    collect(tmp_path / "whole", [Slow(), Slow(weights=weights), EmbeddedNetwork(batch_size=8)])
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_file_that_a_killed_process_did_not_remove_goes(tmp_path: Path) -> None:
    """The process was killed after it wrote the block: the next one computes nothing, and removes the file."""
    killed(tmp_path / "killed", 120.0)
    (path,) = (tmp_path / "killed").glob("*.partial")
    data = path.read_bytes()
    collect(tmp_path / "killed", [Slow()])
    path.write_bytes(data)
    collect(tmp_path / "killed", [Slow()])
    assert not path.exists()


def test_nothing_is_kept_of_the_first_seconds(tmp_path: Path) -> None:
    killed(tmp_path, KEEP_EVERY - 1)
    assert contents(tmp_path) == {}


def test_a_damaged_file_is_noted_and_computed_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    killed(tmp_path / "killed", 120.0)
    (path,) = (tmp_path / "killed").glob("*.partial")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    again = Slow()
    collect(tmp_path / "killed", [again], reporter=Console())
    assert again.passes == 32
    assert f"features of 64 clips in {path} were damaged and are computed again" in capsys.readouterr().err
    collect(tmp_path / "whole", [Slow()])
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_passes_of_other_clips_or_weights_are_not_used(tmp_path: Path) -> None:
    killed(tmp_path, 120.0)
    (path,) = tmp_path.glob("*.partial")
    data = path.read_bytes()
    weights = {name: 2 * values for name, values in EmbeddedNetwork().module.state_dict().items()}
    for other_weights, clips in ((None, Shapes("test", seed=1)), (weights, CLIPS)):
        with pytest.raises(Killed):
            collect(tmp_path, [Slow(60.0, other_weights)], clips=clips)
        (other,) = set(tmp_path.glob("*.partial")) - {path}
        other.write_bytes(data)  # in the place of that of this block
        again = Slow(weights=other_weights)
        collect(tmp_path, [again], clips=clips)
        assert again.passes == 32


def test_progress_counts_network_passes(tmp_path: Path) -> None:
    """Two clips move the bar, and what is stored already is not counted as work."""
    reporter = Recorder()
    networks = [Slow(), EmbeddedNetwork(batch_size=8)]
    collect(tmp_path, networks, 2, reporter)
    assert reporter.stages == [("features of clips", 2, "passes", 0)]
    assert [steps for steps in reporter.steps if steps] == [1, 1]
    reporter = Recorder()
    collect(tmp_path, networks, 2, reporter)
    assert reporter.stages == [("features of clips", 2, "passes", 2)]
    assert sum(reporter.steps) == 0
    reporter = Recorder()
    collect(tmp_path, networks, 64 + 3, reporter)
    assert reporter.stages == [("features of clips", 32 + 8 + 2 + 1, "passes", 0)]
    assert sum(reporter.steps) == 43


def test_passes_that_are_found_count_as_progress(tmp_path: Path) -> None:
    killed(tmp_path, 120.0)
    reporter = Recorder()
    collect(tmp_path, [Slow()], reporter=reporter)
    assert sum(reporter.steps) == 32
