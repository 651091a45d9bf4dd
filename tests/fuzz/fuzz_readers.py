"""Every reader of the project: how a small valid input is made, and how it is read."""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import tfrecord_files
import torch
from fuzz_weights import C3D, CHECKPOINT, STATE_DICT
from PIL import Image

from vdm_bench.cli import options as cli_options
from vdm_bench.cli.train import changed
from vdm_bench.datasets.bair import Bair
from vdm_bench.datasets.captioned import open_captioned
from vdm_bench.datasets.folder import open_clips
from vdm_bench.datasets.kinetics import open_kinetics600
from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.datasets.tfrecord import find_records, parse_example
from vdm_bench.datasets.tfrecord import read_record as read_tfrecord
from vdm_bench.datasets.ucf101 import open_ucf101
from vdm_bench.datasets.windows import VideoSet
from vdm_bench.errors import BrokenClipError, MachineError, VdmBenchError
from vdm_bench.generation.output import Target, open_sink
from vdm_bench.leaderboards.checks.baseline import Baseline
from vdm_bench.leaderboards.checks.tolerances import ToleranceRule
from vdm_bench.leaderboards.published import parse_entries, parse_rows
from vdm_bench.leaderboards.record import SCHEMA_VERSION, Record, StoredRecord, read_record, write_record
from vdm_bench.leaderboards.verified import is_verified
from vdm_bench.metrics.networks.embedded import EmbeddedNetwork
from vdm_bench.metrics.recipes import get_recipe
from vdm_bench.metrics.score import Interval, Score, Signature
from vdm_bench.metrics.weights.convert import convert
from vdm_bench.metrics.weights.entries import Entry
from vdm_bench.metrics.weights.store import Store, read_weights_file
from vdm_bench.protocols import Protocol, get_protocol
from vdm_bench.protocols.clips import open_dataset
from vdm_bench.protocols.conditions import Conditions
from vdm_bench.protocols.prepare import prepare
from vdm_bench.reference_model.checkpoint import CheckpointInfo, load_model, save_model
from vdm_bench.reference_model.config import ModelConfig, Preset, SamplingConfig, TrainingConfig
from vdm_bench.reference_model.text.embeddings import EncoderInfo, TextEmbeddings, caption_digest
from vdm_bench.reference_model.training.log import LogLine, RunLog
from vdm_bench.reference_model.training.loop import RunConfig, claim
from vdm_bench.reference_model.training.state import TrainingProgress, read_state, write_state
from vdm_bench.reference_model.unet import VideoUNet
from vdm_bench.runs.audit import StoredFeatures
from vdm_bench.runs.plan import keep_plan
from vdm_bench.runtime.distributed import World
from vdm_bench.runtime.files import read_text
from vdm_bench.runtime.progress import Silent
from vdm_bench.samplers.sampling_settings import choose, parsed
from vdm_bench.scoring.features import Collector
from vdm_bench.scoring.frames import FrameMeter
from vdm_bench.scoring.reference import read_reference, write_reference
from vdm_bench.video.archive import Archive, ArchiveWriter
from vdm_bench.video.clip import ClipDataset
from vdm_bench.video.contents import BlockFacts
from vdm_bench.video.write import write_clip

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 4, 16, 16, 3), np.uint8)
SMALL = ModelConfig(
    frames=2,
    resolution=4,
    base_channels=4,
    multipliers=(1, 2),
    blocks=1,
    attention_resolutions=(),
    head_dim=4,
    embedding_dim=4,
)
PRESET = Preset("small", "for tests", SMALL, TrainingConfig(steps=6, batch=2))


@dataclass(frozen=True)
class Reader:
    """A reader and the input it is for.

    Attributes:
        make: writes a valid input into an empty folder.
        read: reads it there, and raises errors of the project alone.
        changed: names of the files that are changed, as a pattern; the others stay as they are.
    """

    make: Callable[[Path], object]
    read: Callable[[Path], object]
    changed: str = "*"


# --- clips


def _film(name: str, codec: str = "") -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        if not codec:
            write_clip(folder / name, FRAMES[0])
            return
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream(codec, rate=8)
            stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
            for frame in FRAMES[0]:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
            container.mux(stream.encode())

    return make


def _animation(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        first, *rest = map(Image.fromarray, FRAMES[0])
        first.save(folder / name, save_all=True, append_images=rest, duration=125, loop=0)

    return make


def _pictures(suffix: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / "clip").mkdir()
        for number, frame in enumerate(FRAMES[0, :2]):
            Image.fromarray(frame).save(folder / "clip" / f"{number}{suffix}")

    return make


def _strip(folder: Path) -> None:
    Image.fromarray(FRAMES[0].swapaxes(0, 1).reshape(16, 64, 3)).save(folder / "strip.png")


def _npz(method: int) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        content = io.BytesIO()
        np.save(content, FRAMES)
        with zipfile.ZipFile(folder / "clips.npz", "w", method) as file:
            file.writestr("clips.npy", content.getvalue())

    return make


def _archive(folder: Path) -> None:
    writer = ArchiveWriter(folder, (4, 16, 16))
    writer.append(list(_Clips()[:]))


class _Clips:
    """The three clips as a dataset."""

    identity = None

    def __len__(self) -> int:
        return len(FRAMES)

    def __getitem__(self, index: Any) -> Any:
        from vdm_bench.video.clip import Clip

        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        return Clip(FRAMES[index], f"clip {index}", label=index, caption=f"clip {index}")

    def fingerprint(self, index: int) -> str:
        return f"noise {index}"


def _each(clips: ClipDataset) -> None:
    """Read all clips as `--skip-broken` does: a clip that is broken says so, and the others are read."""
    for index in range(len(clips)):
        try:
            clips[index]
        except BrokenClipError:
            continue


def _read_clips(folder: Path) -> None:
    _each(open_clips(folder))


def _read_archive(folder: Path) -> None:
    _each(open_clips(folder))
    Archive(folder).verify()


def _read_videos(videos: VideoSet) -> None:
    for index in range(len(videos)):
        videos.info(index)
        try:
            videos.read(index, range(min(videos.length(index), 2)))
        except BrokenClipError:
            continue


# --- datasets


def _write(name: str, text: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8", newline="")

    return make


def _with_films(*names: str, and_then: Callable[[Path], object]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            np.save(folder / "a.npy", FRAMES[0])
            write_clip((folder / name).with_suffix(".gif"), FRAMES[0])
            (folder / name).with_suffix(".gif").rename(folder / name)
        (folder / "a.npy").unlink()
        and_then(folder)

    return make


_CAPTIONS_CSV = 'file,caption,label\na.gif,a red ball,3\nb.gif,"a blue, square ball",1\n'
_CAPTIONS_JSONL = "".join(
    json.dumps({"file": f"{name}.gif", "caption": f"ball {name}", "label": 1.0}) + "\n" for name in "ab"
)
_KINETICS = "label,youtube_id,time_start,time_end,split\njuggling,abc,1,11,test\njuggling,def,2.0,12.0,test\n"


def _ucf101(folder: Path) -> None:
    lists = {"classInd": "1 A\r\n2 B\r\n", "trainlist01": "A/v_A.avi 1\r\n", "testlist01": "B/v_B.avi\r\n"}
    for name, text in lists.items():
        _write(f"ucfTrainTestlist/{name}.txt", text)(folder)


def _read_ucf101(folder: Path) -> None:
    _read_videos(open_ucf101(folder, "train+test"))


def _bair(folder: Path) -> None:
    picture = np.zeros((30, 64, 64, 3), np.uint8)
    path = folder / "softmotion30_44k" / "test" / "traj_0_to_0.tfrecords"
    tfrecord_files.write_records(path, [tfrecord_files.trajectory(picture, picture)])


def _read_bair(folder: Path) -> None:
    videos = Bair(folder, "test")
    _read_videos(videos)
    for index in range(len(videos)):
        videos.actions(index)
        videos.positions(index)


def _records(folder: Path) -> None:
    example = tfrecord_files.encoded({"a": [b"bytes"], "b": [1.0, 2.0], "c": [1, -1], "d": []})
    tfrecord_files.write_records(folder / "a.tfrecords", [example, example])


def _read_records(folder: Path) -> None:
    for place in find_records(folder / "a.tfrecords"):
        parse_example(read_tfrecord(folder / "a.tfrecords", place, "record"), "record")


def _small_protocol() -> Protocol:
    choice = {"split": "test", "seed": 0, "windows": "first"}
    changes = {
        "dataset": "folder",
        "reference": choice,
        "conditions": choice,
        "reference_count": 3,
        "generated_count": 3,
        "frames": 4,
        "resolution": 16,
    }
    return Protocol.model_validate({**get_protocol("shapes-unconditional").model_dump(), **changes})


def _prepared(folder: Path) -> None:
    (folder / "data" / "test").mkdir(parents=True)
    for number, frames in enumerate(FRAMES):
        np.save(folder / "data" / "test" / f"{number}.npy", frames)
    _prepare(folder)


def _prepare(folder: Path) -> None:
    for made in prepare(
        _small_protocol(), folder / "data", folder / "out", workers=1, skip_broken=True, reporter=Silent()
    ):
        assert made.folder.is_dir()


def _read_prepared(folder: Path) -> None:
    protocol = _small_protocol()
    try:
        _each(open_dataset(protocol, protocol.reference, folder / "out"))
    except MachineError:
        raise
    except VdmBenchError:
        pass  # `prepare` is tried all the same
    _prepare(folder)


# --- what the suite keeps


def _collector() -> Collector:
    return Collector([EmbeddedNetwork()], 1, True, Silent())


def _collect(folder: Path) -> None:
    """Features that are damaged are computed again: no error at all, and as many of them."""
    clips, layers = Shapes("test", frames=16, resolution=32), EmbeddedNetwork().spec.layers
    found = _collector().collect(clips, 2, folder, "clips").features[0]
    for layer, width in layers.items():
        assert [block.shape for block in found.blocks(layer)] == [(2, width)]


def _read_stored_features(folder: Path) -> None:
    stored = StoredFeatures(folder)
    for path in folder.glob("*.json"):
        try:
            digests = BlockFacts.from_json(path.read_bytes()).digests
        except (ValueError, KeyError, TypeError):
            continue
        for digest in digests:
            stored.rows(digest, {"0.features": 64})


def _measure(folder: Path) -> None:
    """Measures that are damaged are made again: no error at all."""
    protocol = get_protocol("shapes-prediction").model_copy(update={"generated_count": 2})
    meter = FrameMeter(("psnr",), Conditions(protocol, None), folder, 1, Silent(), World())
    table = meter.measure(Shapes("train"), 2).tables["psnr"]
    assert table.shape == (2, protocol.frames - protocol.context_frames)


_REFERENCE = get_protocol("shapes-unconditional").model_copy(update={"reference_count": 2})


def _reference(folder: Path) -> None:
    collected = _collector().collect(Shapes("test"), 2, folder / "features", "clips")
    write_reference(folder / "a.safetensors", _REFERENCE, [EmbeddedNetwork()], collected)
    for path in (folder / "features").iterdir():
        path.unlink()
    (folder / "features").rmdir()


def _read_reference(folder: Path) -> None:
    network = EmbeddedNetwork()
    found = read_reference(folder / "a.safetensors", _REFERENCE, [network]).features[0]
    for layer in network.spec.layers:
        for block in found.blocks(layer):
            assert block.ndim == 2


def _embeddings(folder: Path) -> None:
    captions = ("a ball", "a square")
    TextEmbeddings(
        tokens=torch.arange(12.0).reshape(3, 4),
        lengths=torch.tensor([1, 2]),
        digests=torch.tensor([list(caption_digest(caption)) for caption in captions], dtype=torch.uint8),
        encoder=EncoderInfo("test", None, "0", 8),
    ).save(folder / "a.safetensors")


def _read_embeddings(folder: Path) -> None:
    TextEmbeddings.load(folder / "a.safetensors").batch(["a ball", ""])


def _checkpoint(folder: Path) -> None:
    torch.manual_seed(0)
    info = CheckpointInfo("small", SMALL, SamplingConfig(steps=7), step=12, training={"seed": 3, "loss": 0.5})
    save_model(folder / "a.safetensors", VideoUNet(SMALL), info)


_TENSORS = {"weights.a": torch.ones(3), "average.a": torch.ones(3)}


def _state(folder: Path) -> None:
    write_state(folder, _TENSORS, TrainingProgress(3, 1.5))


def _read_state(folder: Path) -> None:
    read_state(folder, {name: tuple(tensor.shape) for name, tensor in _TENSORS.items()})


_RUN = RunConfig(PRESET, 0, "fp32", "shapes")


def _training_config(folder: Path) -> None:
    claim(folder, _RUN)
    _state(folder)  # without one the settings may still change


def _training_log(folder: Path) -> None:
    log = RunLog(folder, 0, tensorboard=False, note=print)
    for step in (2, 4):
        log.write(LogLine(step, 0.5, {"-5..0": 0.25}, 1.0, 1e-3, 10.0, 2.5))
    log.close()


def _archive_plan(folder: Path) -> None:
    _open_sink(folder)


def _open_sink(folder: Path) -> None:
    plan: dict[str, object] = {"checkpoint": "a", "sampling": {"steps": 7, "clip": "static"}, "seed": 0}
    open_sink(Target(folder / "out", "archive"), (4, 16, 16), plan)


_PLAN: Mapping[str, Any] = {
    "protocol": "p",
    "protocol_digest": "0123456789ab",
    "clips": 64,
    "data": None,
    "sampler code": None,
    "networks": ["x"],
    "sampler": {"kind": "k", "settings": {"steps": 4}},
    "name": "n",
    "skip_broken": False,
    "asked": None,
}


def _keep_plan(folder: Path) -> None:
    keep_plan(folder, _PLAN, writes=True)


# --- weights


def _files_of(entry: Entry, files: Mapping[str, bytes]) -> Reader:
    def make(folder: Path) -> None:
        for name, data in files.items():
            (folder / name).write_bytes(data)

    return Reader(make, lambda folder: convert(entry, [folder / name for name in files]))


def _own_weights(folder: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2, 3), "b": torch.zeros(4)}, folder / "a.safetensors", {"made": "by hand"})


def _store(folder: Path) -> None:
    entry, files = CHECKPOINT
    (folder / "in").mkdir()
    for name, data in files.items():
        (folder / "in" / name).write_bytes(data)
    paths = [folder / "in" / name for name in files]
    Store(folder).write(entry, convert(entry, paths), paths)
    Store(folder).record_path(entry).write_text(f"{'0' * 64}  {entry.files[0].name}\n")


def _read_store(folder: Path) -> None:
    entry, files = CHECKPOINT
    store = Store(folder)
    store.header(entry)
    if store.current(entry):
        store.refuse(entry, entry.files[0], folder / "in" / next(iter(files)))
        store.read(entry)


# --- text


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
    choose(SamplingConfig(), parsed(cli_options.key_values([line])))


def _size_or_rate(line: str) -> None:
    import click

    for kind in (cli_options.Size(), cli_options.Rate()):
        try:
            kind.convert(line, None, None)
        except click.UsageError:
            continue


def _record(folder: Path) -> None:
    signature = Signature.of("fvd", {"n": "256", "v": "1"})
    score = Score(
        metric="fvd",
        value=10.0,
        higher_is_better=False,
        n_reference=256,
        n_generated=256,
        signature=str(signature),
        digest=signature.digest,
        interval=Interval(9.0, 11.0, 0.95, "jackknife-20"),
    )
    count = {"source": "clips", "expected": 256, "scored": 256, "skipped": [], "repeated": 0, "lossy": False}
    content = {
        "schema_version": SCHEMA_VERSION,
        "name": "model",
        "created": "2026-03-04T05:06:07Z",
        "protocol": {"name": "bair-prediction", "digest": "ab12", "departures": []},
        "sampler": {"kind": "baseline", "spec": "baseline:copy", "settings": {"steps": 4}, "seed": 7},
        "reference": count,
        "generated": count,
        "scores": [asdict(score)],
        "timing_seconds": {"features": 1.5},
        "environment": {
            "python": "3.11.7",
            "platform": "Linux",
            "packages": {"torch": "2.13.0"},
            "device": "cpu",
            "code_version": "0.1.0",
            "code_revision": None,
            "code_dirty": None,
        },
    }
    record = Record.model_validate_json(json.dumps(content), strict=True)
    write_record(record, folder / "run.json")


def _baseline(folder: Path) -> None:
    _record(folder)
    baseline = Baseline(folder / "baseline.json", {}, exists=False)
    baseline.updated([read_record(folder / "run.json")]).write()
    (folder / "run.json").unlink()


def _verified(folder: Path) -> None:
    from datetime import UTC, datetime

    from vdm_bench.leaderboards.verified import Verification, record_digest, write_verification

    note = Verification(
        record_sha256=record_digest(b"{}"),
        verified=datetime(2026, 1, 1, tzinfo=UTC),
        code_version="1",
        device="cpu",
        protocol="p",
        clips=2,
        computed_again=1,
        seed=0,
        checks={"clips": "same"},
    )
    (folder / "run.json").write_bytes(b"{}")
    write_verification(note, folder / "run.json")


def _packaged(package: str, name: str, end: str = "") -> Callable[[Path], None]:
    """Take a file of the package, up to the second time that `end` stands in it."""

    def make(folder: Path) -> None:
        from importlib import resources

        text = resources.files(package).joinpath(name).read_text("utf-8")
        _write(name, end.join(text.split(end)[:2]) if end else text)(folder)

    return make


_RECIPE = (
    'name = "mine"\ntitle = "My distance"\nnetwork = "embedded"\nlayer = "features"\nepsilon = 1e-3\n'
    '[statistic]\nkind = "kernel"\n'
)
_PUBLISHED = "vdm_bench.leaderboards.published_data"

READERS: dict[str, Reader] = {
    "video mp4": Reader(_film("a.mp4"), _read_clips),
    "video webm": Reader(_film("a.webm"), _read_clips),
    "video gif": Reader(_film("a.gif"), _read_clips),
    "video mkv": Reader(_film("a.mkv", "libx264"), _read_clips),
    "video avi": Reader(_film("a.avi", "mpeg4"), _read_clips),
    "video ts": Reader(_film("a.ts", "mpeg2video"), _read_clips),
    "animated png": Reader(_animation("a.png"), _read_clips),
    "animated webp": Reader(_animation("a.webp"), _read_clips),
    "frames png": Reader(_pictures(".png"), _read_clips),
    "frames jpg": Reader(_pictures(".jpg"), _read_clips),
    "strip png": Reader(_strip, lambda folder: _each(open_clips(folder, strips=True))),
    "npy": Reader(lambda folder: np.save(folder / "clips.npy", FRAMES), _read_clips),
    "npz stored": Reader(_npz(zipfile.ZIP_STORED), _read_clips),
    "npz deflated": Reader(_npz(zipfile.ZIP_DEFLATED), _read_clips),
    "clip archive": Reader(_archive, _read_archive),
    "prepared clips": Reader(_prepared, _read_prepared, "*/*.json"),
    "captions csv": Reader(
        _with_films("a.gif", "b.gif", and_then=_write("captions.csv", _CAPTIONS_CSV)),
        lambda folder: _read_videos(open_captioned(folder)),
        "captions.csv",
    ),
    "captions jsonl": Reader(
        _with_films("a.gif", "b.gif", and_then=_write("captions.jsonl", _CAPTIONS_JSONL)),
        lambda folder: _read_videos(open_captioned(folder)),
        "captions.jsonl",
    ),
    "kinetics csv": Reader(
        _with_films("test/abc_000001_000011.mp4", and_then=_write("annotations/test.csv", _KINETICS)),
        lambda folder: _read_videos(open_kinetics600(folder, "test")),
        "*.csv",
    ),
    "ucf101 lists": Reader(
        _with_films("UCF-101/A/v_A.avi", "UCF-101/B/v_B.avi", and_then=_ucf101), _read_ucf101, "*.txt"
    ),
    "bair": Reader(_bair, _read_bair),
    "tfrecord": Reader(_records, _read_records),
    "contents and features": Reader(_collect, _collect),
    "stored features": Reader(_collect, _read_stored_features),
    "frame measures": Reader(_measure, _measure),
    "reference file": Reader(_reference, _read_reference),
    "text embeddings": Reader(_embeddings, _read_embeddings),
    "checkpoint": Reader(_checkpoint, lambda folder: load_model(folder / "a.safetensors")),
    "training state": Reader(_state, _read_state),
    "training settings": Reader(_training_config, lambda folder: claim(folder, _RUN), "config.json"),
    "training log": Reader(
        _training_log, lambda folder: RunLog(folder, 4, tensorboard=False, note=print).close()
    ),
    "plan of samples": Reader(_archive_plan, _open_sink, "*/sample.json"),
    "plan of a run": Reader(_keep_plan, _keep_plan),
    "weights safetensors": Reader(_own_weights, lambda folder: read_weights_file(folder / "a.safetensors")),
    "weights store": Reader(_store, _read_store, "[!i]*"),
    "weights npz": _files_of(*C3D),
    "weights state dict": _files_of(*STATE_DICT),
    "weights tf checkpoint": _files_of(*CHECKPOINT),
    "protocol": Reader(
        _packaged("vdm_bench.protocols", "bair-prediction.toml"),
        lambda folder: get_protocol(str(folder / "bair-prediction.toml")).digest,
    ),
    "recipe": Reader(_write("a.toml", _RECIPE), lambda folder: get_recipe(str(folder / "a.toml"))),
    "run record": Reader(_record, lambda folder: StoredRecord.read(folder / "run.json")),
    "baseline": Reader(_baseline, lambda folder: Baseline.read(folder / "baseline.json")),
    "verified": Reader(_verified, lambda folder: is_verified(folder / "run.json", b"{}"), "verified.json"),
    "published rows": Reader(
        _packaged(_PUBLISHED, "published.csv", "\n2,"),
        lambda folder: parse_rows(read_text(folder / "published.csv"), "published.csv"),
    ),
    "published papers": Reader(
        _packaged(_PUBLISHED, "published.bib", "\n@"),
        lambda folder: parse_entries(read_text(folder / "published.bib"), "published.bib"),
    ),
    "options": Reader(
        _write("a.txt", "steps=7\ngamma=0.5\nlast_step_noise=true\nguidance_scale=2\noverlap=4\nclip=dynamic\n"),
        _lines_of(_option),
    ),
    "presets changed": Reader(
        _write("a.txt", 'training.steps=7\nmodel.multipliers=[1, 2]\ntraining.loss="x"\ntraining.ema=0.5\n'),
        _lines_of(lambda line: changed("shapes", [line])),
    ),
    "tolerances": Reader(_write("a.txt", "fvd:5%\nprdc/*:0.02\n*:0\n"), _lines_of(ToleranceRule.parse)),
    "sizes and rates": Reader(_write("a.txt", "64\n128x96\n8\n30000/1001\nstored\n"), _lines_of(_size_or_rate)),
    "named paths": Reader(
        _write("a.txt", "i3d-k400=mine.safetensors\n"), _lines_of(lambda line: cli_options.weight_files([line]))
    ),
}
