from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.errors import BrokenClipError, BrokenClipsError, InputError
from vdm_bench.metrics.evaluation import Evaluation
from vdm_bench.metrics.networks.base import NetworkSettings
from vdm_bench.metrics.networks.embedded import EmbeddedNetwork
from vdm_bench.metrics.recipes import get_recipe
from vdm_bench.metrics.score import Score
from vdm_bench.runtime.process_identity import ProcessIdentity
from vdm_bench.runtime.progress import Console, Silent
from vdm_bench.runtime.threads import ordered_map
from vdm_bench.scoring.features import ExtractedFeatures, FeatureExtractor
from vdm_bench.video.clip import Clip


class Clips:
    """Shapes, with some clips broken or of another shape, which counts how often each is decoded."""

    identity = None

    def __init__(self, seed: int = 0, broken: tuple[int, ...] = (), wide: tuple[int, ...] = ()) -> None:
        self._shapes, self._large = Shapes("test", seed=seed), Shapes("test", seed=seed, resolution=64)
        self._broken, self._wide = broken, wide
        self.decoded: list[int] = []

    def __len__(self) -> int:
        return len(self._shapes)

    def __getitem__(self, index: int) -> Clip:
        self.decoded.append(index)
        if index in self._broken:
            raise BrokenClipError(f"clip{index}.mp4", "is empty")
        return self._large[index] if index in self._wide else self._shapes[index]

    def fingerprint(self, index: int) -> str:
        return self._shapes.fingerprint(index)


def collector(workers: int = 2, batch_size: int = 32, skip: bool = False) -> FeatureExtractor:
    return FeatureExtractor([EmbeddedNetwork(batch_size=batch_size)], workers, skip, Silent())


def scores(reference: ExtractedFeatures, generated: ExtractedFeatures) -> list[Score]:
    evaluation = Evaluation(reference.features[0], generated.features[0])
    spec = EmbeddedNetwork().spec
    return [evaluation.score(get_recipe(name), spec) for name in ("embedded/fvd", "embedded/is")]


@pytest.fixture(scope="module")
def score_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Score]]:
    def compute(**arguments: int) -> list[Score]:
        folder = tmp_path_factory.mktemp("features")
        made = collector(**arguments)
        return scores(
            made.collect(Clips(0), 200, folder / "r", "real"), made.collect(Clips(1), 150, folder / "g", "fake")
        )

    return compute


@pytest.mark.parametrize("workers", [2, 3])
def test_the_score_is_the_same_to_the_last_bit_for_any_number_of_workers(
    score_of: Callable[..., list[Score]], workers: int
) -> None:
    assert score_of(workers=workers) == score_of(workers=1)


@pytest.mark.parametrize("batch_size", [1, 7])
def test_the_score_depends_on_the_batch_size_by_rounding_only(
    score_of: Callable[..., list[Score]], batch_size: int
) -> None:
    for usual, other in zip(score_of(), score_of(batch_size=batch_size), strict=True):
        assert other.value == pytest.approx(usual.value, rel=1e-6)


def test_stored_features_are_found_again_and_nothing_is_decoded_twice(tmp_path: Path) -> None:
    first, again = Clips(), Clips()
    before = collector().collect(first, 130, tmp_path, "clips")
    after = collector(workers=3).collect(again, 130, tmp_path, "clips")
    assert sorted(first.decoded) == list(range(130))
    assert len(again.decoded) == 2 + 2 + 1  # a sample of each block
    assert scores(before, before) == scores(after, after)


def test_a_missing_or_damaged_block_is_computed_again(tmp_path: Path) -> None:
    before = collector().collect(Clips(), 130, tmp_path, "clips")
    files = sorted(tmp_path.glob("*.safetensors"), key=lambda file: file.stat().st_size)
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:100])
    again = Clips()
    after = collector().collect(again, 130, tmp_path, "clips")
    assert len(again.decoded) == 2 + 64 + 2  # of the block that is there, a sample
    assert scores(before, before) == scores(after, after)


def test_stored_features_may_be_read_by_others(tmp_path: Path) -> None:
    """A cache is shared: the files follow the umask, as any file does."""
    collector().collect(Clips(), 4, tmp_path / "cache", "clips")
    (tmp_path / "plain").touch()
    files = list((tmp_path / "cache").iterdir())
    assert len(files) == 2
    assert {file.stat().st_mode for file in files} == {(tmp_path / "plain").stat().st_mode}


def test_other_weights_do_not_find_the_stored_features(tmp_path: Path) -> None:
    collector().collect(Clips(), 10, tmp_path, "clips")
    weights = {name: t.clone() for name, t in EmbeddedNetwork().module.state_dict().items()}
    weights["temporal.bias"] += 1
    again = Clips()
    FeatureExtractor([EmbeddedNetwork(weights)], 1, False, Silent()).collect(again, 10, tmp_path, "clips")
    assert len(again.decoded) == 10


def test_broken_clips_are_all_named_and_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokenClipsError) as caught:
        collector().collect(Clips(broken=(3, 70)), 80, tmp_path, "my clips")
    message = str(caught.value)
    assert "2 of 80 clips in my clips cannot be read" in message
    assert "clip3.mp4: is empty; clip70.mp4: is empty" in message
    assert "--skip-broken" in message


def test_skipped_clips_are_counted_and_the_others_scored(tmp_path: Path) -> None:
    found = collector(skip=True).collect(Clips(broken=(3, 70)), 80, tmp_path, "clips")
    assert [(error.source, error.reason) for error in found.broken] == [
        ("clip3.mp4", "is empty"),
        ("clip70.mp4", "is empty"),
    ]
    features = found.features[0]
    assert (features.count, features.skipped) == (78, 2)
    kept = [index for index in range(80) if index not in (3, 70)]
    whole = collector().collect(Clips(), 80, tmp_path / "whole", "clips").features[0]
    expected = np.concatenate(list(whole.blocks("features")))[kept]
    np.testing.assert_allclose(np.concatenate(list(features.blocks("features"))), expected, atol=1e-5)
    again = collector(skip=True).collect(Clips(broken=(3, 70)), 80, tmp_path, "clips")
    assert [error.source for error in again.broken] == ["clip3.mp4", "clip70.mp4"]


def test_a_source_without_a_single_readable_clip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a single clip"):
        collector(skip=True).collect(Clips(broken=tuple(range(5))), 5, tmp_path, "clips")


def fussy() -> EmbeddedNetwork:
    """The embedded network, if it needed more frames than there are."""
    network = EmbeddedNetwork()
    network.spec = replace(network.spec, name="fussy", min_frames=17)
    return network


def without_logits() -> EmbeddedNetwork:
    """The embedded network with damage to the weights of its last layer."""
    weights = {name: tensor.clone() for name, tensor in EmbeddedNetwork().module.state_dict().items()}
    weights["heads.motion.bias"][2] = torch.nan
    return EmbeddedNetwork(weights)


def test_a_network_that_fails_costs_its_own_metrics_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    networks = [fussy(), EmbeddedNetwork(), without_logits()]
    made = FeatureExtractor(networks, 2, False, Console())
    sides = [made.collect(Clips(seed), 70, tmp_path / str(seed), f"side {seed}") for seed in (0, 1)]
    notes = capsys.readouterr().err
    assert notes.count("fussy needs clips of at least 17 frames; these have 16") == 2
    alone = collector()
    expected = scores(*[alone.collect(Clips(seed), 70, tmp_path / f"alone{seed}", "") for seed in (0, 1)])

    def of(number: int) -> list[Score]:
        evaluation = Evaluation(sides[0].features[number], sides[1].features[number])
        return [
            evaluation.score(get_recipe(name), networks[number].spec) for name in ("embedded/fvd", "embedded/is")
        ]

    assert of(1) == expected
    for score in of(0):
        assert score.value is None
        assert "fussy needs clips of at least 17 frames; these have 16" in score.status
    fvd, inception = of(2)
    assert fvd.value == expected[0].value
    assert inception.value is None
    assert (
        inception.status == f"embedded gives NaN or infinity in its layer 'logits' for the clip {Clips(1)[0].key}"
    )

    warm = Clips(1)
    again = made.collect(warm, 70, tmp_path / "1", "side 1")
    assert len(warm.decoded) == 2 + 1  # a sample of each block
    assert [features.refused for features in again.features] == [
        features.refused for features in sides[1].features
    ]


def test_clips_that_no_network_takes_are_refused_at_the_first_block(tmp_path: Path) -> None:
    clips = Clips()
    with pytest.raises(InputError, match="fussy needs clips of at least 17 frames"):
        FeatureExtractor([fussy(), fussy()], 1, False, Silent()).collect(clips, 150, tmp_path, "clips")
    assert len(clips.decoded) < 70


@pytest.mark.parametrize("wide", [5, 100])
def test_clips_of_unlike_size_are_refused(tmp_path: Path, wide: int) -> None:
    with pytest.raises(InputError, match=r"16 frames of 32x32 .* and 16 frames of 64x64 .*--resize"):
        collector().collect(Clips(wide=(wide,)), 130, tmp_path, "clips")


def test_repeated_clips_are_counted(tmp_path: Path) -> None:
    class Twice(Clips):
        def __getitem__(self, index: int) -> Clip:
            return super().__getitem__(index % 10)

    assert collector().collect(Twice(), 25, tmp_path, "clips").features[0].repeated == 15


def test_identity_is_the_dataset_or_the_content_in_any_order(tmp_path: Path) -> None:
    class Backwards(Clips):
        def __getitem__(self, index: int) -> Clip:
            return super().__getitem__(19 - index)

    shapes = collector().collect(Shapes("test"), 20, tmp_path / "a", "clips").features[0]
    forwards = collector().collect(Clips(), 20, tmp_path / "b", "clips").features[0]
    backwards = collector().collect(Backwards(), 20, tmp_path / "c", "clips").features[0]
    other = collector().collect(Clips(seed=1), 20, tmp_path / "d", "clips").features[0]
    assert shapes.identity == "shapes-v1/test/seed0"
    assert forwards.identity == backwards.identity != other.identity
    assert forwards.identity.startswith("sha256-")


@pytest.mark.parametrize("workers", [1, 3])
def test_ordered_map_keeps_order_and_bounds_what_is_under_way(workers: int) -> None:
    taken = []

    def items() -> object:
        for item in range(50):
            taken.append(item)
            yield item

    results = ordered_map(lambda x: x * x, items(), workers)  # type: ignore[arg-type, operator]
    for done, result in enumerate(results, 1):
        assert result == (done - 1) ** 2
        assert len(taken) <= done + 2 * workers


def test_ordered_map_raises_where_the_result_would_have_come() -> None:
    results = ordered_map(lambda x: 1 // (x - 2), range(5), 2)
    assert [next(results), next(results)] == [-1, -1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def collected(folder: Path, settings: NetworkSettings) -> np.ndarray:
    network = EmbeddedNetwork().configured(settings)
    made = FeatureExtractor([network], 1, False, Silent()).collect(Clips(0), 20, folder, "clips")
    (block,) = made.features[0].blocks("logits" if "logits" in settings.layers else "features")
    return np.asarray(block)


def test_features_of_other_layers_are_not_taken_for_these(tmp_path: Path) -> None:
    """All in one folder, as in the cache that runs share."""
    features = collected(tmp_path, NetworkSettings(layers=("features",)))
    assert collected(tmp_path, NetworkSettings(layers=("logits",))).shape == (20, 240)
    assert np.array_equal(collected(tmp_path, NetworkSettings(layers=("features",))), features)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


@pytest.mark.bfloat16
def test_features_of_another_precision_are_not_taken_for_these(tmp_path: Path) -> None:
    features = collected(tmp_path, NetworkSettings(layers=("features",)))
    assert not np.array_equal(collected(tmp_path, NetworkSettings(("features",), precision="bf16")), features)
    assert np.array_equal(collected(tmp_path, NetworkSettings(layers=("features",))), features)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_each_clip_is_decoded_and_moved_to_the_device_once(tmp_path: Path) -> None:
    seen = []

    class Watched(EmbeddedNetwork):
        def __call__(self, clips: torch.Tensor) -> dict[str, torch.Tensor]:
            seen.append(clips.untyped_storage().data_ptr())
            return super().__call__(clips)

    networks = [Watched().configured(NetworkSettings(rule=rule)) for rule in ("antialias", "half-pixel")]
    clips = Clips(0)
    made = FeatureExtractor(networks, 2, False, Silent()).collect(clips, 64, tmp_path, "clips")
    assert clips.decoded == list(range(64))
    assert len(made.features) == 2
    assert len(seen) == 16
    assert len(set(seen)) == 1  # views of one block of pixels


def test_what_a_killed_process_left_among_the_features_goes(tmp_path: Path) -> None:
    """In every folder they are written to, that of the user's cache, too."""
    dead = (
        tmp_path
        / f".x.part-{ProcessIdentity(ProcessIdentity.current().place, 2**31 - 7, 1)}-0a1b2c3d.safetensors"
    )
    theirs = tmp_path / ".x.part-01234567-1-1-0a1b2c3d.safetensors"  # of another machine, perhaps still at work
    for path in (dead, theirs):
        path.touch()
    collector().collect(Clips(0), 64, tmp_path, "real")
    assert not dead.exists()
    assert theirs.exists()
