"""Readers of what the suite keeps: features, measures, plans, records, models and weights.

Weights that are converted have an entry each in a made-up catalogue.
"""

import io
import zlib
from collections.abc import Mapping
from pathlib import Path

import google_crc32c
import numpy as np
import stored_files
import torch

from fuzz.inputs import Reader
from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.leaderboards.checks.baseline import Baseline
from vdm_bench.leaderboards.record import StoredRecord
from vdm_bench.leaderboards.verified import is_verified
from vdm_bench.metrics.networks.embedded import EmbeddedNetwork
from vdm_bench.metrics.weights.convert import convert
from vdm_bench.metrics.weights.entries import Entry, SourceFile, TensorInfo
from vdm_bench.metrics.weights.store import Store, read_weights_file
from vdm_bench.protocols import get_protocol
from vdm_bench.protocols.conditions import Conditions
from vdm_bench.reference_model.text.embeddings import TextEmbeddings
from vdm_bench.reference_model.training.log import RunLog
from vdm_bench.reference_model.training.loop import acquire_run_dir
from vdm_bench.runs.audit import StoredFeatures
from vdm_bench.runtime.distributed import ProcessGroup
from vdm_bench.runtime.progress import Silent
from vdm_bench.scoring.features import FeatureExtractor
from vdm_bench.scoring.frames import FrameEvaluator
from vdm_bench.scoring.reference import read_reference, write_reference
from vdm_bench.video.contents import BlockMetadata


def _collector() -> FeatureExtractor:
    return FeatureExtractor([EmbeddedNetwork()], 1, True, Silent())


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
            digests = BlockMetadata.from_json(path.read_bytes()).digests
        except (ValueError, KeyError, TypeError):
            continue
        for digest in digests:
            stored.rows(digest, {"0.features": 64})


def _measure(folder: Path) -> None:
    """Measures that are damaged are made again: no error at all."""
    protocol = get_protocol("shapes-prediction").model_copy(update={"generated_count": 2})
    meter = FrameEvaluator(("psnr",), Conditions(protocol, None), folder, 1, Silent(), ProcessGroup())
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


def _read_embeddings(folder: Path) -> None:
    TextEmbeddings.load(folder / "text.safetensors").batch(["a red ball", ""])


# --- weights

_SHAPES = {"a/w": (3, 4, 5), "b/beta": (5,)}
_MEAN = (3, 2, 4, 5)
Source = tuple[Entry, dict[str, bytes]]


def _array(name: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)


def _entry(converter: str, files: dict[str, bytes], tensors: dict[str, TensorInfo]) -> Source:
    sources = tuple(SourceFile(name, (f"http://127.0.0.1:9/{name}",)) for name in files)
    return Entry("made-up", "Made up", "none", converter, sources, tensors, "not stated", "nobody"), files


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    return content.getvalue()


def _c3d() -> Source:
    arrays = {name: _array(name, shape) for name, shape in _SHAPES.items()}
    files = {
        "weights.npz": _npz(arrays),
        "mean.npz": _npz({"arr_0": _array("mean", _MEAN), "other": np.zeros(3)}),
    }
    tensors = {name: TensorInfo(shape) for name, shape in {**_SHAPES, "mean": _MEAN}.items()}
    return _entry("c3d-npz", files, tensors)


def _state_dict() -> Source:
    content = io.BytesIO()
    torch.save({name: torch.from_numpy(_array(name, shape)) for name, shape in _SHAPES.items()}, content)
    return _entry("state-dict", {"a.pth": content.getvalue()}, {n: TensorInfo(s) for n, s in _SHAPES.items()})


def _checkpoint() -> Source:
    data, tensors = b"", {}
    for name, shape in _SHAPES.items():
        values = _array(name, shape).tobytes()
        tensors[name] = TensorInfo(shape, len(data), google_crc32c.value(values))
        data += values
    return _entry("tf-checkpoint", {"a.data-00000-of-00001": data}, tensors)


C3D, STATE_DICT, CHECKPOINT = _c3d(), _state_dict(), _checkpoint()


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


KEPT: dict[str, Reader] = {
    "contents and features": Reader(_collect, _collect),
    "stored features": Reader(_collect, _read_stored_features),
    "frame measures": Reader(_measure, _measure),
    "reference file": Reader(_reference, _read_reference),
    "text embeddings": Reader(stored_files.write_embeddings, _read_embeddings),
    "checkpoint": Reader(stored_files.write_checkpoint, stored_files.read_checkpoint),
    "training state": Reader(stored_files.write_training_state, stored_files.read_training_state),
    "training settings": Reader(
        stored_files.write_config, lambda folder: acquire_run_dir(folder, stored_files.CONFIG), "config.json"
    ),
    "training log": Reader(
        stored_files.write_log, lambda folder: RunLog(folder, 4, tensorboard=False, note=print).close()
    ),
    "plan of samples": Reader(stored_files.write_sample_plan, stored_files.write_sample_plan, "sample.json"),
    "plan of a run": Reader(stored_files.write_plan, stored_files.write_plan),
    "run record": Reader(stored_files.write_run, lambda folder: StoredRecord.read(folder / "run.json")),
    "baseline": Reader(stored_files.write_baseline, lambda folder: Baseline.read(folder / "baseline.json")),
    "verified": Reader(stored_files.write_verified, lambda folder: is_verified(folder / "run.json", b"{}")),
    "weights safetensors": Reader(_own_weights, lambda folder: read_weights_file(folder / "a.safetensors")),
    "weights store": Reader(_store, _read_store, "[!i]*"),
    "weights npz": _files_of(*C3D),
    "weights state dict": _files_of(*STATE_DICT),
    "weights tf checkpoint": _files_of(*CHECKPOINT),
}
