"""Every protocol from end to end, on a miniature of its data in the true format."""

import json
import runpy
from collections.abc import Mapping
from pathlib import Path

import miniatures
import numpy as np
import pytest
from paths import ROOT
from recipe_weights import c3d_weights, i3d_shapes, i3d_weights, inception_weights
from safetensors.numpy import save_file

from vdm_bench import run
from vdm_bench.errors import InputError
from vdm_bench.leaderboards.record import Record
from vdm_bench.metrics.networks import ComputeConfig
from vdm_bench.protocols import Protocol, get_protocol, protocol_names
from vdm_bench.protocols.clips import open_dataset
from vdm_bench.samplers.base import SampleRequest
from vdm_bench.video.archive import Archive
from vdm_bench.video.write import write_clip


@pytest.fixture(scope="module")
def computing(tmp_path_factory: pytest.TempPathFactory) -> ComputeConfig:
    """Recipe weights for all networks."""
    folder = tmp_path_factory.mktemp("weights")
    for name, weights in {
        "i3d": i3d_weights(i3d_shapes()),
        "c3d": c3d_weights(),
        "inception": inception_weights(),
    }.items():
        save_file(weights, folder / f"{name}.safetensors")
    files = {"i3d-k400": "i3d", "i3d-k600": "i3d600", "c3d-ucf101": "c3d", "inception-2015": "inception"}
    shapes = {name: (*shape[:-1], 600) if "/Logits/" in name else shape for name, shape in i3d_shapes().items()}
    save_file(i3d_weights(shapes), folder / "i3d600.safetensors")
    return ComputeConfig(weights={name: folder / f"{file}.safetensors" for name, file in files.items()})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A miniature of each dataset."""
    folder = tmp_path_factory.mktemp("data")
    return {
        "bair": miniatures.write_bair(folder / "bair"),
        "ucf101": miniatures.write_ucf101(folder / "ucf101"),
        "kinetics600": miniatures.write_kinetics600(folder / "kinetics600"),
        "captioned": miniatures.write_captioned(folder / "captioned", frames=70),
    }


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path / "cache"))


class Remembering:
    """Makes gray clips, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.requests: list[SampleRequest] = []

    def sample(self, request: SampleRequest) -> np.ndarray:
        self.requests.append(request)
        shape = (len(request), request.frames, request.height, request.width, 3)
        clips = np.random.default_rng(request.seeds[0]).integers(0, 256, shape, np.uint8)
        if request.context is not None:
            clips[:, : request.context.shape[1]] = request.context
        return clips

    @property
    def block(self) -> SampleRequest:
        """The request for all clips; one clip was asked for first."""
        _, request = self.requests
        return request


def run_small(
    name: str, counts: Mapping[str, object], data: Mapping[str, Path], computing: ComputeConfig, out: Path
) -> tuple[Record, SampleRequest, Protocol]:
    """Run a protocol with other counts."""
    protocol = get_protocol(name).model_copy(update=dict(counts))
    sampler = Remembering()
    networks = {"fvd": "i3d-k400", "i3d": "i3d-k600", "c3d": "c3d-ucf101"}
    used = {networks.get(metric.split("/")[0], "inception-2015") for metric in protocol.metrics}
    weights = {network: path for network, path in computing.weights.items() if network in used}
    record = run(
        protocol,
        out=out,
        sampler=sampler,
        data_root=data[protocol.dataset],
        computing=ComputeConfig(weights=weights),
    )
    return record, sampler.block, protocol


def fields(record: Record, metric: str) -> dict[str, str]:
    """The signature of a score as a mapping."""
    (score,) = (score for score in record.scores if score.metric == metric)
    return dict(pair.split(":", 1) for pair in score.signature.split("|")[1:])


def counts_of(record: Record) -> tuple[int, int]:
    return record.reference.scored, record.generated.scored


BAIR = {"reference_count": 3, "condition_count": 3, "generated_count": 6}


def test_bair_prediction(data: Mapping[str, Path], computing: ComputeConfig, tmp_path: Path) -> None:
    record, request, _ = run_small("bair-prediction", BAIR, data, computing, tmp_path)
    assert counts_of(record) == (3, 6)
    assert request.context is not None
    assert request.context.shape == (6, 1, 64, 64, 3)
    real = miniatures.clips(3, 30)
    for index in range(6):  # the three conditions come round again
        assert np.array_equal(request.context[index, 0], real[index % 3].frames[0])
    signature = fields(record, "fvd")
    assert signature["in"] == "16x64x64>224:tf1-bilinear:stretch"
    assert signature["task"] == "prediction-1-of-16@bair-main/test/first"
    assert signature["ref"].startswith("bair-main/test/first@")
    assert signature["ref"].endswith("/3")
    assert (signature["n"], signature["src"]) == ("6", "lossless")
    assert record.protocol is not None
    assert record.protocol.departures == ["253 of 256 videos of bair/test are missing"]
    assert [score.metric for score in record.scores] == [
        "fvd",
        *("psnr", "psnr/best-of-2", "ssim", "ssim/best-of-2"),
    ]
    assert record.curves["psnr"].frames == list(range(1, 16))


def test_bair_trajectories(data: Mapping[str, Path], computing: ComputeConfig, tmp_path: Path) -> None:
    """The mean over the rounds, each scored by itself: as single runs of each round give it."""
    counts = {**BAIR, "generated_count": 9, "frame_metrics": ()}
    record, _, protocol = run_small("bair-prediction-trajectories", counts, data, computing, tmp_path / "all")
    (score,) = record.scores
    assert fields(record, "fvd")["n"] == "3x3"
    assert fields(record, "fvd")["task"] == "prediction-1-of-16@bair-aux1/test/first"
    clips = Archive(tmp_path / "all" / "samples")
    values = []
    for turn in range(3):
        single = protocol.model_copy(update={"generated_count": 3, "rounds": "pooled"})
        np.save(tmp_path / f"{turn}.npy", np.stack([clips[3 * turn + i].frames for i in range(3)]))
        one = run(
            single,
            out=tmp_path / str(turn),
            clips=tmp_path / f"{turn}.npy",
            data_root=data["bair"],
            computing=ComputeConfig(weights={"i3d-k400": computing.weights["i3d-k400"]}),
        )
        values.append(one.scores[0].value or 0.0)
    assert score.value == pytest.approx(np.mean(values), rel=1e-9)
    assert len(set(values)) == 3
    assert score.interval is not None
    assert score.interval.method == "rounds-3"
    # Student's t with two degrees of freedom.
    half = 4.302652729749464 * np.std(values, ddof=1) / np.sqrt(3)
    assert score.interval.high - score.value == pytest.approx(half, rel=1e-6)
    with pytest.raises(InputError, match="`limit` 4 is not a multiple of 3"):
        run(protocol, out=tmp_path / "x", sampler="real", data_root=data["bair"], limit=4, computing=computing)


@pytest.mark.slow
def test_bair_debiased(data: Mapping[str, Path], computing: ComputeConfig, tmp_path: Path) -> None:
    counts = {**BAIR, "reference_count": 18, "generated_count": 3}
    record, _, _ = run_small("bair-prediction-debiased", counts, data, computing, tmp_path)
    assert counts_of(record) == (18, 3)
    assert fields(record, "fvd")["ref"].startswith("bair-aux1/test/every@")


def test_kinetics600_prediction(data: Mapping[str, Path], computing: ComputeConfig, tmp_path: Path) -> None:
    counts = {"reference_count": 4, "generated_count": 4}
    record, request, protocol = run_small("kinetics600-prediction", counts, data, computing, tmp_path)
    assert counts_of(record) == (4, 4)
    assert request.context is not None
    assert request.context.shape == (4, 5, 64, 64, 3)
    # Given frames and reference are of the same windows.
    reference = open_dataset(protocol, protocol.reference, data["kinetics600"])
    assert all(np.array_equal(request.context[i], reference[i].frames[:5]) for i in range(4))
    assert [score.metric for score in record.scores] == ["fvd", "i3d/is", "psnr", "ssim"]
    assert fields(record, "fvd")["task"] == "prediction-5-of-16@kinetics600/test/random-seed0"
    assert fields(record, "fvd")["src"] == "lossless"  # of the generated clips
    assert fields(record, "i3d/is")["net"].startswith("i3d-k600@")


def test_kinetics600_with_replacement(data: Mapping[str, Path], computing: ComputeConfig, tmp_path: Path) -> None:
    counts = {"reference_count": 4, "generated_count": 4}
    record, _, _ = run_small("kinetics600-prediction-with-replacement", counts, data, computing, tmp_path)
    signature = fields(record, "fvd")
    assert signature["ref"].startswith("kinetics600/test/random-seed1-replaced@")
    assert signature["task"].endswith("@kinetics600/test/random-seed0-replaced")


def test_kinetics600_magvit(data: Mapping[str, Path], computing: ComputeConfig, tmp_path: Path) -> None:
    counts = {"reference_count": 24, "condition_count": 2, "generated_count": 4}
    record, request, _ = run_small("kinetics600-prediction-magvit", counts, data, computing, tmp_path)
    assert counts_of(record) == (24, 4)
    assert (request.height, request.width) == (128, 128)
    assert Archive(tmp_path / "samples").shape == (16, 128, 128)
    signature = fields(record, "fvd")
    assert signature["in"].startswith("16x64x64>")  # scored at 64
    assert signature["ref"].startswith("kinetics600/test/random-seed0-x2-crops3@")


def test_ucf101_unconditional(data: Mapping[str, Path], computing: ComputeConfig, tmp_path: Path) -> None:
    counts = {"reference_count": 20, "generated_count": 4}
    record, request, _ = run_small("ucf101-unconditional", counts, data, computing, tmp_path)
    assert counts_of(record) == (20, 4)
    assert (request.context, request.labels, request.captions) == (None, None, None)
    assert fields(record, "c3d/fid")["ref"].startswith("ucf101-1/train/random-seed0-x10@")
    assert fields(record, "c3d/is")["task"] == "unconditional"


@pytest.mark.parametrize(("name", "split"), [("fvd2048", "train+test"), ("fvd2048-train", "train")])
def test_ucf101_fvd2048(
    name: str, split: str, data: Mapping[str, Path], computing: ComputeConfig, tmp_path: Path
) -> None:
    count = 4 if split == "train+test" else 2
    counts = {"reference_count": count, "generated_count": 2, "metrics": ("fvd",)}
    record, _, _ = run_small(f"ucf101-unconditional-{name}", counts, data, computing, tmp_path)
    assert counts_of(record) == (count, 2)
    assert fields(record, "fvd")["ref"].startswith(f"ucf101-1/{split}/random-seed0@")


def test_ucf101_class(data: Mapping[str, Path], computing: ComputeConfig, tmp_path: Path) -> None:
    counts = {"reference_count": 2, "generated_count": 2}
    record, request, protocol = run_small("ucf101-class", counts, data, computing, tmp_path)
    assert counts_of(record) == (2, 2)
    conditions = open_dataset(protocol, protocol.conditions, data["ucf101"])
    assert request.labels is not None
    assert request.labels.tolist() == [conditions[i].label for i in range(2)]
    assert sorted(request.labels.tolist()) == [0, 1]
    samples = Archive(tmp_path / "samples")
    assert [samples[i].label for i in range(2)] == request.labels.tolist()
    assert fields(record, "fvd")["task"] == "class@ucf101-1/train/random-seed1"


@pytest.mark.parametrize(("name", "frames"), [("text-video", 16), ("text-video-extension", 64)])
def test_text_video(
    name: str, frames: int, data: Mapping[str, Path], computing: ComputeConfig, tmp_path: Path
) -> None:
    counts: dict[str, object] = {"reference_count": 2, "generated_count": 2}
    assert get_protocol(name).metrics[1:] == (
        "fid/frames-avg",
        "is/frames-avg",
        "fid/frames-first",
        "is/frames-first",
    )
    if frames == 64:  # Inception on all 64 frames of 4 clips takes long
        counts["metrics"] = ("fvd", "fid/frames-first", "is/frames-first")
    record, request, protocol = run_small(name, counts, data, computing, tmp_path)
    assert counts_of(record) == (2, 2)
    assert request.frames == frames
    conditions = open_dataset(protocol, protocol.conditions, data["captioned"])
    assert request.captions == tuple(conditions[i].caption for i in range(2))
    assert len(record.scores) == len(protocol.metrics)
    assert fields(record, "fvd")["task"] == "text@captioned/test/random-seed0"


@pytest.mark.parametrize("task", ["class", "text"])
def test_shapes_twins_give_labels_and_captions(task: str, tmp_path: Path) -> None:
    protocol = get_protocol(f"shapes-{task}").model_copy(update={"reference_count": 64, "generated_count": 12})
    sampler = Remembering()
    record = run(protocol, out=tmp_path / "a", sampler=sampler)
    conditions = open_dataset(protocol, protocol.conditions)
    infos = [conditions.info(i) for i in range(12)]
    request = sampler.block
    if task == "class":
        assert request.labels is not None
        assert (request.labels.tolist(), request.captions) == ([info.label for info in infos], None)
    else:
        assert (request.captions, request.labels) == (tuple(info.caption for info in infos), None)
    assert all(conditions[i].label == infos[i].label for i in range(12))
    assert all(conditions[i].caption == infos[i].caption for i in range(12))
    assert f"|task:{task}@shapes-v1/test/seed1|" in record.scores[0].signature


def test_labels_come_round_again_with_their_conditions(tmp_path: Path) -> None:
    counts = {"reference_count": 64, "condition_count": 5, "generated_count": 10, "metrics": ("embedded/is",)}
    protocol, sampler = get_protocol("shapes-class").model_copy(update=counts), Remembering()
    run(protocol, out=tmp_path, sampler=sampler)
    assert sampler.block.labels is not None
    labels = sampler.block.labels.tolist()
    assert (
        labels[5:] == labels[:5] == [open_dataset(protocol, protocol.conditions).info(i).label for i in range(5)]
    )


@pytest.mark.parametrize(("generated", "groups"), [(40, "permuted-rounds"), (36, "permuted-clips"), (4, None)])
def test_repeated_conditions_decide_the_groups_of_the_jackknife(
    generated: int, groups: str | None, tmp_path: Path
) -> None:
    """Ten rounds of four conditions are left out round by round."""
    counts = {"reference_count": 64, "condition_count": 4, "generated_count": generated, "frame_metrics": ()}
    record = run(get_protocol("shapes-prediction").model_copy(update=counts), out=tmp_path, sampler="noise")
    assert [score.jackknife_groups for score in record.scores] == [groups, groups]


def test_every_protocol_has_a_test_here() -> None:
    """Those of `shapes` run in test_runner.py."""
    text = Path(__file__).read_text("utf-8")
    for name in protocol_names():
        family, _, variant = name.partition("-unconditional-")
        assert family.startswith("shapes") or f'"{name}"' in text or (variant and f'"{variant}"' in text), name


# Frame-wise metrics against the ground truth


class Near:
    """Predicts what followed, off by one more in each round and by two more in each frame."""

    def __init__(self, protocol: Protocol, data_root: Path | None) -> None:
        self.clips = open_dataset(protocol, protocol.conditions, data_root, protocol.sample_size)
        self.conditions, self.given = protocol.conditions_used, protocol.context_frames

    def sample(self, request: SampleRequest) -> np.ndarray:
        clips = np.stack([self.clips[i % self.conditions].frames for i in request.indices]).astype(np.int64)
        for clip, index in zip(clips, request.indices, strict=True):
            steps = 1 + index // self.conditions + 2 * np.arange(request.frames - self.given)
            inward = np.where(clip[self.given :] < 128, 1, -1)
            clip[self.given :] += inward * steps[:, None, None, None]
        return clips.astype(np.uint8)


def test_frames_are_held_against_what_followed(tmp_path: Path) -> None:
    """Two rounds of four conditions: the errors are known, so that the means and the best are, too."""
    protocol = get_protocol("shapes-prediction").model_copy(
        update={"reference_count": 64, "condition_count": 4, "generated_count": 8, "metrics": ("embedded/is",)}
    )
    record = run(protocol, out=tmp_path / "run", sampler=Near(protocol, None))
    scores = {score.metric: score for score in record.scores}
    assert list(scores) == ["embedded/is", "psnr", "psnr/best-of-2", "ssim", "ssim/best-of-2"]
    first, second = (20 * np.log10(255 / (start + 2 * np.arange(12))) for start in (1, 2))
    assert scores["psnr"].value == pytest.approx((first.mean() + second.mean()) / 2, rel=1e-12)
    assert scores["psnr/best-of-2"].value == pytest.approx(first.mean(), rel=1e-12)
    assert scores["psnr"].n_generated == 8
    assert scores["psnr"].interval is not None
    assert scores["psnr"].interval.method == "conditions-4"
    signature = fields(record, "psnr")
    assert (signature["n"], signature["src"]) == ("4x2", "lossless")
    assert signature["ref"].startswith("shapes-v1/test/seed1@")
    assert fields(record, "ssim/best-of-2")["kernel"] == "gauss11-1.5-reflect"
    assert (signature["cap"], "cap" in fields(record, "ssim")) == ("100dB", False)
    curve = record.curves["psnr"]
    assert curve.frames == list(range(4, 16))
    assert curve.values == pytest.approx((first + second) / 2)
    assert curve.standard_errors == pytest.approx(np.zeros(12), abs=1e-12)
    assert record.curves["ssim"].values == sorted(record.curves["ssim"].values, reverse=True)


def test_a_last_round_that_is_not_whole_counts_in_the_mean_alone(tmp_path: Path) -> None:
    protocol = get_protocol("shapes-prediction").model_copy(
        update={"reference_count": 64, "condition_count": 4, "generated_count": 8, "metrics": ("embedded/is",)}
    )
    record = run(protocol, out=tmp_path / "run", sampler=Near(protocol, None), limit=6)
    scores = {score.metric: score for score in record.scores}
    assert list(scores) == ["embedded/is", "psnr", "ssim"]
    first, second = (20 * np.log10(255 / (start + 2 * np.arange(12))).mean() for start in (1, 2))
    # Two conditions have both rounds, two the first alone; the mean is over conditions.
    assert scores["psnr"].value == pytest.approx((2 * (first + second) / 2 + 2 * first) / 4, rel=1e-12)
    assert (scores["psnr"].n_generated, fields(record, "psnr")["n"]) == (6, "6")


@pytest.mark.usefixtures("settled")
def test_what_was_measured_is_found_again_and_broken_clips_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol = get_protocol("shapes-prediction").model_copy(
        update={"reference_count": 64, "generated_count": 12, "metrics": ("embedded/is",)}
    )
    made = tmp_path / "videos"
    conditions = open_dataset(protocol, protocol.conditions)
    for index in range(12):
        write_clip(made / f"{index:02}.mp4", conditions[index].frames)
    (made / "03.mp4").write_bytes(b"")
    record = run(protocol, out=tmp_path / "run", clips=made, skip_broken=True)
    (psnr,) = (score for score in record.scores if score.metric == "psnr")
    assert psnr.value is not None
    assert 25 < psnr.value < 60  # what the encoder took
    assert psnr.marks == ("1 generated clip broken and skipped",)
    assert (psnr.n_generated, fields(record, "psnr")["src"]) == (11, "lossy")
    (tmp_path / "run" / "run.json").unlink()
    monkeypatch.setattr("vdm_bench.scoring.frames.FRAME_METRICS", {})
    again = run(protocol, out=tmp_path / "run", clips=made, skip_broken=True)
    assert again.scores == record.scores


# What is not there


def test_videos_that_are_missing_are_a_departure(tmp_path: Path, computing: ComputeConfig) -> None:
    root = miniatures.write_kinetics600(tmp_path / "data", count=2, missing=2)
    counts = {"reference_count": 4, "generated_count": 4, "metrics": ("fvd",)}
    record, request, _ = run_small(
        "kinetics600-prediction", counts, {"kinetics600": root}, computing, tmp_path / "r"
    )
    assert counts_of(record) == (2, 2)
    assert record.protocol is not None
    assert record.protocol.departures == [
        "2 of 4 conditions",
        "2 of 4 videos of kinetics600/test are missing",
        "2 of 4 reference clips",
    ]
    assert len(request) == 2


def test_data_must_be_given_and_be_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"bair-prediction needs the dataset bair; give --data-root DIR"):
        run("bair-prediction", out=tmp_path / "a", sampler="real")
    with pytest.raises(
        InputError, match=r"--data-root .*nowhere is not a folder; give the one that holds ucf101"
    ):
        run("ucf101-class", out=tmp_path / "a", sampler="real", data_root=tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no Kinetics-600 test: expected"):
        run("kinetics600-prediction", out=tmp_path / "a", sampler="real", data_root=tmp_path)
    assert not (tmp_path / "a").exists()


def test_a_condition_that_cannot_be_read_is_named(tmp_path: Path, computing: ComputeConfig) -> None:
    root = miniatures.write_kinetics600(tmp_path / "data", count=3)
    broken = next((root / "test").rglob("id-1_*"))
    broken.write_bytes(broken.read_bytes()[:500])
    protocol = get_protocol("kinetics600-prediction").model_copy(
        update={"reference_count": 3, "generated_count": 3, "metrics": ("embedded/is",)}
    )
    with pytest.raises(InputError, match=r"the frames given to clip \d cannot be read .*id-1_"):
        run(protocol, out=tmp_path / "r", sampler=Remembering(), data_root=root, skip_broken=True)


def test_clips_without_label_or_caption_are_refused(tmp_path: Path, data: Mapping[str, Path]) -> None:
    counts = {"reference_count": 2, "generated_count": 2, "metrics": ("embedded/is",)}
    unlabelled = get_protocol("text-video").model_copy(update={**counts, "task": "class"})
    with pytest.raises(InputError, match=r"video\d.mp4 has no label, and the protocol's task is"):
        run(unlabelled, out=tmp_path / "a", sampler=Remembering(), data_root=data["captioned"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"camera": None}, "bair needs camera, one of main, aux1"),
        ({"task": "class", "context_frames": 0}, "frame_metrics need ground-truth frames"),
        ({"split_list": 1}, "bair has no field split_list, which is of ucf101"),
        ({"generated_resolution": 128}, "a generated_resolution needs a rule"),
        ({"generated_count": 25601}, "generated_count must be a multiple of condition_count"),
        ({"rounds": "averaged", "condition_count": None}, "rounds can be averaged only if"),
    ],
)
def test_protocols_that_contradict_themselves_are_refused(change: dict[str, object], message: str) -> None:
    content = get_protocol("bair-prediction").model_dump()
    with pytest.raises(ValueError, match=message):
        Protocol.model_validate({**content, **change})


def test_a_field_at_its_default_changes_no_digest() -> None:
    protocol = get_protocol("shapes-class")
    said = Protocol.model_validate({**json.loads(protocol.model_dump_json()), "stride": 1, "aspect": "stretch"})
    assert said.digest == protocol.digest
    assert Protocol.model_validate({**protocol.model_dump(), "stride": 2}).digest != protocol.digest


def test_the_page_in_the_docs_is_that_of_the_files() -> None:
    docs = ROOT / "docs"
    made = runpy.run_path(str(docs / "protocols_page.py"))["page"]()
    again = "write it again: python docs/protocols_page.py > docs/protocols.md"
    assert (docs / "protocols.md").read_text("utf-8") == made, again
