import pickle
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.errors import InputError
from vdm_bench.metrics import frechet_distance, inception_score, kernel_distance
from vdm_bench.metrics.extraction import extract_features
from vdm_bench.metrics.modules import FrechetVideoDistance, KernelVideoDistance, VideoInceptionScore
from vdm_bench.metrics.networks import load_network
from vdm_bench.metrics.networks.base import NetworkSettings, NetworkSpec, Preprocessing, TorchNetwork

DISTANCES = (FrechetVideoDistance, KernelVideoDistance)
ALL = (*DISTANCES, VideoInceptionScore)


class ToyNetwork(TorchNetwork):
    """Six random projections of each clip; batches of four."""

    def __init__(self) -> None:
        module = nn.Linear(3 * 2 * 8 * 8, 6)
        nn.init.zeros_(module.bias)
        generator = torch.Generator().manual_seed(0)
        module.weight.data = torch.randn(module.weight.shape, generator=generator) / 10
        layers = {"features": 6, "logits": 6}
        spec = NetworkSpec("toy", layers, 2, 4, Preprocessing(8, "half-pixel"), "0123abcd", "MIT")
        super().__init__(module, spec)

    def _layers(self, clips: Tensor) -> dict[str, Tensor]:
        layer = self._run(self.spec.preprocessing(clips)[:, :, :2].flatten(1))
        return {"features": layer, "logits": 3 * layer}


def clips(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 2, 8, 8, 3), dtype=torch.uint8, generator=generator) // (1 + seed % 3)


def update(metric: Metric, generated: Tensor, real: Tensor) -> None:
    if isinstance(metric, VideoInceptionScore):
        metric.update(generated)
    else:
        metric.update(real, real=True)
        metric.update(generated, real=False)


@pytest.fixture(params=ALL, ids=lambda kind: kind.__name__)
def metric(request: pytest.FixtureRequest) -> Metric:
    made: Metric = request.param(ToyNetwork())
    update(made, clips(21, 1), clips(30, 0))
    return made


def expected(kind: type[Metric], real: Tensor, generated: Tensor) -> float:
    a, b = (extract_features(ToyNetwork(), x.numpy()) for x in (real, generated))
    if kind is VideoInceptionScore:
        return inception_score(torch.from_numpy(b["logits"]).double().softmax(1).numpy())
    return (frechet_distance if kind is FrechetVideoDistance else kernel_distance)(a["features"], b["features"])


# The four claims of torchmetrics' own tests of its FID.


def test_the_same_clips_on_both_sides_are_no_distance_apart() -> None:
    frechet = FrechetVideoDistance(ToyNetwork())
    kernel = KernelVideoDistance(ToyNetwork(), estimator="biased")
    for side in (True, False):
        frechet.update(clips(30, 0), real=side)
        kernel.update(clips(30, 0), real=side)
    assert float(frechet.compute()) == pytest.approx(0, abs=1e-12)
    assert float(kernel.compute()) == pytest.approx(0, abs=1e-12)


def test_a_metric_is_pickled_in_the_middle_of_an_epoch(metric: Metric) -> None:
    copy = pickle.loads(pickle.dumps(metric))
    for one in (metric, copy, metric.clone()):
        update(one, clips(9, 4), clips(5, 3))
    values = [float(one.compute()) for one in (metric, copy)]
    assert values[0] == values[1]
    real, generated = torch.cat([clips(30, 0), clips(5, 3)]), torch.cat([clips(21, 1), clips(9, 4)])
    assert values[0] == pytest.approx(expected(type(metric), real, generated), rel=1e-12)


def test_changes_to_the_outer_module_do_not_reach_network_and_states(metric: Metric) -> None:
    value = float(metric.compute())
    host = nn.ModuleDict({"metric": metric, "layer": nn.Linear(2, 2)})
    host.train()
    host.half()
    host.to(torch.bfloat16)
    host.requires_grad_(True)
    metric.set_dtype(torch.float16)
    update(metric, clips(21, 1), clips(30, 0))
    metric.reset()
    update(metric, clips(21, 1), clips(30, 0))
    assert host["layer"].weight.dtype == torch.bfloat16
    result = metric.compute()
    assert (float(result), result.dtype) == (value, torch.float64)
    assert not metric._layer.network.module.training


@pytest.mark.parametrize("kind", ALL)
def test_a_metric_agrees_with_the_function_over_features(kind: type[Metric]) -> None:
    metric = kind(ToyNetwork())
    for start in range(0, 30, 7):
        update(metric, clips(21, 1)[start : start + 7], clips(30, 0)[start : start + 7])
    result = metric.compute()
    assert (result.dtype, result.shape) == (torch.float64, ())
    assert float(result) == pytest.approx(expected(kind, clips(30, 0), clips(21, 1)), rel=1e-12)


# What training loops do.


def test_the_embedded_network_is_found_by_name_with_its_own_layer() -> None:
    sides = [np.stack([Shapes("test", seed=seed, frames=8)[i].frames for i in range(20)]) for seed in (0, 1)]
    metric = FrechetVideoDistance("embedded")
    for real, side in zip((True, False), sides, strict=True):
        metric.update(torch.from_numpy(side), real=real)
    network = load_network("embedded")
    a, b = (extract_features(network, side)["features"] for side in sides)
    # Fewer clips than dimensions: the metric keeps the singular scatter, the function the features.
    assert float(metric.compute()) == pytest.approx(frechet_distance(a, b), rel=1e-6)


def test_the_size_of_batches_does_not_matter(metric: Metric) -> None:
    again = type(metric)(ToyNetwork())
    for i in range(30):
        update(again, clips(21, 1)[i : i + 1], clips(30, 0)[i : i + 1])
    assert float(again.compute()) == pytest.approx(float(metric.compute()), rel=1e-12)


def test_float_clips_are_the_same_clips(metric: Metric) -> None:
    again = type(metric)(ToyNetwork())
    real, generated = ((x.float() / 127.5 - 1).movedim(-1, 1) for x in (clips(30, 0), clips(21, 1)))
    update(again, generated.requires_grad_(), real.double())
    assert float(again.compute()) == float(metric.compute())


def test_every_pixel_survives_as_float() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1, 1).expand(-1, -1, -1, -1, 3)
    floats = (pixels.movedim(-1, 1).float() / 255) * 2 - 1
    metric = KernelVideoDistance(Echo())
    metric.update(floats, real=True)
    assert torch.equal(metric.real_features[0].flatten(), pixels.flatten().float())


class Echo:
    """A network from elsewhere: a torch module with a parameter, which gives its input as features."""

    def __init__(self) -> None:
        self.spec = NetworkSpec("echo", {"features": 768}, 1, 2, Preprocessing(16, "half-pixel"), "0", "MIT")
        self.device = torch.device("cpu")
        self.moves: list[torch.device] = []

    def to(self, device: torch.device) -> "Echo":
        self.moves.append(device)
        self.device = device
        return self

    def configured(self, settings: NetworkSettings) -> "Echo":
        return self

    def __call__(self, batch: Tensor) -> dict[str, Tensor]:
        weight = nn.Parameter(torch.ones(()))  # as one that forgot about gradients
        return {"features": batch.flatten(1).float() * weight}


def test_the_network_moves_to_the_device_of_the_metric() -> None:
    network = Echo()
    metric = FrechetVideoDistance(network)
    batch = torch.zeros(1, 16, 16, 1, 3, dtype=torch.uint8)
    metric.update(batch, real=True)
    assert network.moves == []
    network.device = torch.device("cuda", 1)
    metric.update(batch, real=True)
    assert network.moves == [torch.device("cpu")]
    assert metric.to("meta").real_moments.device == metric.device == torch.device("meta")


def test_clones_share_the_network(metric: Metric) -> None:
    assert metric.clone()._layer is metric._layer


def test_the_network_is_not_part_of_the_module_around(metric: Metric) -> None:
    host = nn.ModuleDict({"metric": metric})
    assert list(host.parameters()) == list(host.buffers()) == []
    assert list(host.modules()) == [host, metric]
    assert host.state_dict() == {}


def test_states_are_saved_when_asked_for(metric: Metric) -> None:
    metric.persistent(True)
    copy = type(metric)(ToyNetwork())
    copy.persistent(True)
    nn.ModuleDict({"metric": copy}).load_state_dict(nn.ModuleDict({"metric": metric}).state_dict())
    for one in (metric, copy):
        update(one, clips(9, 4), clips(5, 3))
    assert float(copy.compute()) == float(metric.compute())


@pytest.mark.parametrize("context", [torch.inference_mode, torch.enable_grad])
def test_the_context_around_an_update_changes_nothing(metric: Metric, context: Callable[[], object]) -> None:
    again = type(metric)(ToyNetwork())
    with context(), torch.autocast("cpu", torch.bfloat16):  # type: ignore[attr-defined]
        update(again, clips(21, 1), clips(30, 0))
    again = pickle.loads(pickle.dumps(again))
    assert float(again.compute()) == float(metric.compute())


def test_a_call_adds_the_batch_and_gives_no_value(metric: Metric) -> None:
    again = type(metric)(ToyNetwork())
    for start in (0, 15):
        generated, real = clips(21, 1)[start : start + 15], clips(30, 0)[start : start + 15]
        if isinstance(again, VideoInceptionScore):
            assert again(generated) is None
        else:
            assert again(real, real=True) is again(generated, real=False) is None
    assert float(again.compute()) == pytest.approx(float(metric.compute()), rel=1e-12)


def test_metrics_merge(metric: Metric) -> None:
    other = type(metric)(ToyNetwork())
    update(other, clips(9, 4), clips(5, 3))
    other.merge_state(metric)
    update(metric, clips(9, 4), clips(5, 3))
    assert float(other.compute()) == pytest.approx(float(metric.compute()), rel=1e-12)


def test_reset_forgets_everything(metric: Metric) -> None:
    value = float(metric.compute())
    update(metric, clips(9, 4), clips(5, 3))
    metric.reset()
    update(metric, clips(21, 1), clips(30, 0))
    assert float(metric.compute()) == value


@pytest.mark.parametrize("kind", DISTANCES)
def test_the_real_side_may_outlive_reset(kind: type[Metric]) -> None:
    metric = kind(ToyNetwork(), reset_real_features=False)
    update(metric, clips(9, 4), clips(30, 0))
    metric.compute()
    metric.reset()
    metric.update(clips(21, 1), real=False)
    assert float(metric.compute()) == pytest.approx(expected(kind, clips(30, 0), clips(21, 1)), rel=1e-12)


def test_a_collection_of_metrics_gives_the_values_of_each() -> None:
    network = ToyNetwork()
    collection = MetricCollection(
        {
            "fvd": FrechetVideoDistance(network, reset_real_features=False),
            "cubic": KernelVideoDistance(network, reset_real_features=False),
            "square": KernelVideoDistance(network, degree=2, reset_real_features=False),
        }
    )
    collection.update(clips(30, 0), real=True)
    for _ in range(2):
        collection.update(clips(21, 1), real=False)
        values = {name: float(value) for name, value in collection.compute().items()}
        for name, kind in (("fvd", FrechetVideoDistance), ("cubic", KernelVideoDistance)):
            assert values[name] == pytest.approx(expected(kind, clips(30, 0), clips(21, 1)), rel=1e-12)
        assert values["square"] != values["cubic"]
        collection.reset()


def test_the_settings_of_a_network_are_kept() -> None:
    network = ToyNetwork().configured(NetworkSettings(rule="tf1-bilinear"))
    spec = FrechetVideoDistance(network, layer="logits")._layer.network.spec
    assert (spec.precision, spec.preprocessing.rule, list(spec.layers)) == ("fp32", "tf1-bilinear", ["logits"])


@pytest.mark.bfloat16
def test_the_precision_of_a_network_is_kept() -> None:
    network = ToyNetwork().configured(NetworkSettings(precision="bf16"))
    assert FrechetVideoDistance(network)._layer.network.spec.precision == "bf16"


# What is refused.


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (torch.zeros(1, 2, 8, 8, 3), r"clips are uint8 .* float \[N, 3, .*; these are torch.float32 1x2x8x8x3"),
        (torch.zeros(1, 3, 2, 8, 8, dtype=torch.uint8), "these are torch.uint8 1x3x2x8x8"),
        (torch.zeros(2, 8, 8, 3, dtype=torch.uint8), "these are torch.uint8 2x8x8x3"),
        (torch.zeros(1, 2, 8, 8, 3, dtype=torch.int64), "these are torch.int64 1x2x8x8x3"),
        (np.zeros((1, 2, 8, 8, 3), np.uint8), "these are ndarray"),
        (torch.full((1, 3, 2, 8, 8), 255.0), "these span 255 to 255; clamp or scale them"),
        (torch.full((1, 3, 2, 8, 8), float("nan")), "these span nan to nan"),
        (torch.zeros(1, 1, 8, 8, 3, dtype=torch.uint8), "toy needs clips of at least 2 frames"),
    ],
)
def test_bad_clips_are_refused_and_change_nothing(metric: Metric, bad: Tensor, words: str) -> None:
    value = float(metric.compute())
    with pytest.raises(InputError, match=words):
        metric.update(bad, **({} if isinstance(metric, VideoInceptionScore) else {"real": False}))
    assert float(metric.compute()) == value


def test_features_with_nan_are_refused_with_the_name_of_the_layer() -> None:
    network = ToyNetwork()
    network.module.bias.data[:] = float("nan")
    with pytest.raises(InputError, match="toy gives NaN or infinity in its layer 'features'"):
        FrechetVideoDistance(network).update(clips(3, 0), real=True)


@pytest.mark.parametrize("kind", DISTANCES)
@pytest.mark.parametrize("first", [True, False])
def test_clips_of_unlike_length_are_refused_and_change_nothing(kind: type[Metric], first: bool) -> None:
    metric = kind(ToyNetwork())
    metric.update(clips(21, 1), real=first)
    longer = torch.cat([clips(21, 2), clips(21, 3)[:, :1]], dim=1)
    words = "must be of one length; these have 3 frames, those before 2; cut them to one length"
    for side in (True, False):
        for given in (longer, as_floats(longer)):
            with pytest.raises(InputError, match=words):
                metric.update(given, real=side)
    metric.update(clips(21, 0), real=not first)
    fresh = kind(ToyNetwork())
    fresh.update(clips(21, 1), real=first)
    fresh.update(clips(21, 0), real=not first)
    assert metric.compute() == fresh.compute()
    metric.reset()
    metric.update(longer, real=True)  # other clips, another length
    metric.update(longer, real=False)
    kept = kind(ToyNetwork(), reset_real_features=False)
    kept.update(clips(21, 1), real=True)
    kept.reset()
    with pytest.raises(InputError, match=words):
        kept.update(longer, real=False)


def as_floats(pixels: Tensor) -> Tensor:
    """As a training loop has them: float [N, 3, T, H, W] in [-1, 1]."""
    return (pixels / 127.5 - 1).movedim(-1, 1)


@pytest.mark.parametrize("kind", ALL)
def test_floats_that_are_never_below_zero_are_warned_of_once(kind: type[Metric]) -> None:
    metric = kind(ToyNetwork())
    wrong = (clips(21, 3) / 255).movedim(-1, 1)
    sides = "generated" if kind is VideoInceptionScore else "real and generated"
    update(metric, wrong, wrong)
    with pytest.warns(UserWarning, match=f"no value of the {sides} clips is below 0.*as 2") as caught:
        metric.compute()
    assert [warning.filename for warning in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metric.compute()  # once is enough
        metric.reset()
        update(metric, wrong, wrong)
        metric.compute()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ALL)
def test_a_bright_batch_is_no_reason_to_warn(kind: type[Metric]) -> None:
    metric = kind(ToyNetwork())
    bright = as_floats(clips(21, 0) // 2 + 128)
    assert float(bright.min()) > 0
    update(metric, bright, bright)
    update(metric, as_floats(clips(21, 0)), as_floats(clips(21, 0)))
    metric.compute()
    pixels = kind(ToyNetwork())
    update(pixels, clips(21, 0), clips(21, 0))  # uint8 is in 0..255 in any case
    pixels.compute()


def test_a_side_of_floats_that_is_forgotten_is_not_warned_of() -> None:
    metric = FrechetVideoDistance(ToyNetwork(), reset_real_features=False)
    wrong = (clips(21, 3) / 255).movedim(-1, 1)
    update(metric, wrong, as_floats(clips(21, 0)))
    metric.reset()
    metric.update(clips(21, 1), real=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metric.compute()
    metric.update(wrong, real=False)
    with pytest.warns(UserWarning, match="no value of the generated clips is below 0"):
        metric.compute()


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(("count", "words"), [(0, "there are 0"), (1, "there is 1; call update with more")])
def test_fewer_than_two_clips_give_no_score(kind: type[Metric], count: int, words: str) -> None:
    metric = kind(ToyNetwork())
    update(metric, clips(count, 1), clips(30, 0))
    with pytest.raises(InputError, match=f"{kind.__name__} needs at least 2 generated clips; {words}"):
        metric.compute()


def test_an_unknown_layer_is_refused() -> None:
    with pytest.raises(InputError, match="toy has no layer 'pool'; choose layer= one of features, logits"):
        FrechetVideoDistance(ToyNetwork(), layer="pool")
    with pytest.raises(InputError, match="echo has no layer 'logits'"):
        VideoInceptionScore(Echo())


# Several processes: (first, second) numbers of clips each rank sees of either side.

SHARES = {
    2: {"real": [(90, 0), (60, 20)], "generated": [(0, 0), (140, 15)]},
    3: {"real": [(100, 10), (0, 0), (50, 0)], "generated": [(31, 0), (0, 0), (110, 3)]},
}


def rank_clips(world: int, side: str, turn: int) -> tuple[Tensor, ...]:
    sizes = [counts[turn] for counts in SHARES[world][side]]
    return clips(sum(sizes), 10 * turn + (side == "generated")).split(sizes)


def run_rank(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    store, timeout = f"file://{folder / 'store'}", timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world, timeout=timeout)
    values = []
    for kind in ALL:
        metric = kind(ToyNetwork())
        with pytest.raises(InputError, match="there are 0"):
            metric.compute()
        for turn in (0, 1):
            real, generated = (rank_clips(world, side, turn)[rank] for side in ("real", "generated"))
            if len(real) and kind is not VideoInceptionScore:
                metric.update(real, real=True)
            if len(generated):
                metric.update(generated, **({} if kind is VideoInceptionScore else {"real": False}))
            values.append(metric.compute())
        if kind is not VideoInceptionScore:
            unlike = kind(ToyNetwork())
            for real in (True, False):
                unlike.update(clips(5, rank).repeat(1, 1 + rank, 1, 1, 1), real=real)
            with pytest.raises(InputError, match="of one length, on all ranks"):
                unlike.compute()
            assert int(unlike.real_frames) == 2 + 2 * rank  # each goes on with its own clips
    torch.save(torch.stack(values), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("world", SHARES)
def test_processes_give_the_value_of_all_their_clips(world: int, tmp_path: Path) -> None:
    mp.spawn(run_rank, (world, tmp_path), nprocs=world)
    by_rank = [torch.load(tmp_path / f"{rank}.pt") for rank in range(world)]
    assert all(torch.equal(values, by_rank[0]) for values in by_rank)
    sides = {side: [torch.cat(rank_clips(world, side, turn)) for turn in (0, 1)] for side in SHARES[world]}
    reference = [
        expected(kind, *(torch.cat(sides[side][: turn + 1]) for side in ("real", "generated")))
        for kind in ALL
        for turn in (0, 1)
    ]
    assert by_rank[0].tolist() == pytest.approx(reference, rel=1e-10)
