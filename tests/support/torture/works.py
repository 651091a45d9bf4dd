"""The commands that are tried: each with the files it needs, made once and copied."""

import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from paths import ROOT, TESTS

from torture.places import Place, Setup

COUNT = 66  # clips a side: two blocks, of which one is small

PROTOCOL = """
name = "small"
title = "one block and a part of a second"
task = "{task}"
dataset = "shapes"
frames = 16
context_frames = {given}
resolution = 32
reference = {{ split = "test" }}
reference_count = {count}
conditions = {{ split = "test", seed = 1 }}
generated_count = {count}
metrics = ["embedded/fvd", "embedded/is"]
"""

CHILD = f"""
import sys
sys.path[:0] = {[str(TESTS / "support"), str(ROOT / "examples" / "command_sampler")]!r}
import client, killing
client.serve(killing.noise)
"""

TRAIN = (
    *("train", "shapes", "--out", "trained", "--steps", "4", "--batch", "2", "--checkpoint-every", "1"),
    *("--sample-every", "2", "--device", "cpu", "--workers", "1"),
    *("--set", "model.base_channels=8", "--set", "model.multipliers=[1]", "--set", "model.head_dim=8"),
    *("--set", "model.frames=2", "--set", "model.embedding_dim=8", "--set", "model.attention_resolutions=[]"),
)
RUN = ("run", "small.toml", "--sampler", "blurred", "--out", "run", "--workers", "1")
SCORE = (
    *("score", "generated.npy", "--reference", "real.npy", "--metric", "embedded/fvd"),
    *("--metric", "embedded/is", "--out", "scored", "--workers", "1"),
)
SAMPLE = ("sample", "tiny.safetensors", "--count", str(COUNT), "--out", "samples", "--device", "cpu")
EXPORT = ("data", "export-reference", "small.toml", "--out", "stats.safetensors", "--workers", "1")
PREPARE = ("data", "prepare", "videos.toml", "--data-root", "videos", "--out", "prepared", "--workers", "1")


@dataclass(frozen=True)
class Work:
    """A command line, and what it needs.

    Attributes:
        name: in the names of cases.
        inputs: writes files into a folder.
        command: arguments, with paths relative to that folder.
        before: commands that are given first.
        setup: called in each of its processes.
        growing: patterns of files that are not what they will be until the end.
        passing: patterns of files that need not be made again.
        removed: files and folders that are taken away again, so that the command makes them.
    """

    name: str
    inputs: Callable[[Path], None]
    command: tuple[str, ...]
    before: tuple[tuple[str, ...], ...] = ()
    setup: Setup | None = None
    growing: tuple[str, ...] = ()
    passing: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def build(self, root: Path) -> Place:
        """Make a place for it, in which all is done but the command itself."""
        place = Place(root, self.setup).make()
        self.inputs(place.files)
        for arguments in self.before:
            place.must(*arguments)
        self.prune(place)
        return place

    def prune(self, place: Place) -> None:
        """Take away what is `removed`."""
        for name in self.removed:
            path = place.files / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def write_protocol(folder: Path, task: str = "unconditional", given: int = 0, more: str = "") -> None:
    """Write `small.toml`, over the dataset that comes with the package."""
    (folder / "small.toml").write_text(PROTOCOL.format(task=task, given=given, count=COUNT) + more)


def prediction(folder: Path) -> None:
    write_protocol(folder, "prediction", 4, 'frame_metrics = ["psnr"]\n')


def command_sampler(folder: Path) -> None:
    prediction(folder)
    (folder / "child.py").write_text(CHILD)


def clips(count: int, seed: int, shape: tuple[int, ...] = (16, 32, 32, 3)) -> "np.ndarray":
    """Return clips of a few squares, uint8 [N, T, H, W, 3]."""
    draw = np.random.default_rng(seed)
    coarse = draw.integers(0, 256, (count, shape[0], shape[1] // 8, shape[2] // 8, 3), dtype=np.uint8)
    return coarse.repeat(8, 2).repeat(8, 3)


def given_clips(folder: Path) -> None:
    write_protocol(folder)
    two_sides(folder)


def two_sides(folder: Path) -> None:
    for seed, name in enumerate(("generated", "real")):
        np.save(folder / f"{name}.npy", clips(COUNT, seed))


def model(folder: Path) -> None:
    from tiny_model import TINY

    _write_model(folder / "tiny.safetensors", TINY)


def model_of_shapes(folder: Path) -> None:
    from tiny_model import TINY

    large = replace(TINY, frames=16, resolution=32, attention_resolutions=(), classes=240)
    _write_model(folder / "tiny.safetensors", large)


def model_with_text(folder: Path) -> None:
    import torch
    from tiny_model import TINY

    from vdm_bench.reference_model.text.embeddings import caption_digest
    from vdm_bench.reference_model.text.encoding import EncoderInfo, TextEmbeddings

    _write_model(folder / "tiny.safetensors", replace(TINY, classes=0, text_dim=8))
    captions = ("a red circle", "a blue square")
    TextEmbeddings(
        torch.randn(5, 8, generator=torch.Generator().manual_seed(0)),
        torch.tensor([2, 3]),
        torch.tensor([list(caption_digest(caption)) for caption in captions], dtype=torch.uint8),
        EncoderInfo("bert", None, "0", 6),
    ).save(folder / "captions.safetensors")


def _write_model(path: Path, config: object) -> None:
    import torch

    from vdm_bench.reference_model.checkpoint import CheckpointInfo, save_model
    from vdm_bench.reference_model.config import ModelConfig, SamplingConfig
    from vdm_bench.reference_model.unet import VideoUNet

    assert isinstance(config, ModelConfig)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = VideoUNet(config)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    save_model(path, network, CheckpointInfo("tiny", config, SamplingConfig(sampler="ddim", steps=2)))


def nothing(folder: Path) -> None:
    """A command that needs no files."""


def videos(folder: Path) -> None:
    """Four videos in the form of Kinetics-600, and a protocol of them."""
    import miniatures

    miniatures.write_kinetics600(folder / "videos", count=4)
    (folder / "videos.toml").write_text(VIDEOS)


VIDEOS = """
name = "videos"
title = "four videos"
task = "prediction"
dataset = "kinetics600"
frames = 16
context_frames = 5
resolution = 32
resize = "antialias"
aspect = "center-crop"
reference = { split = "test", seed = 0, windows = "random" }
reference_count = 4
conditions = { split = "test", seed = 0, windows = "random" }
generated_count = 4
metrics = ["embedded/fvd"]
frame_metrics = ["psnr"]
"""

WEIGHTS = np.arange(3000, dtype="<f4").tobytes()


def weights_file(folder: Path) -> None:
    (folder / "w.data").write_bytes(WEIGHTS)


def made_up_weights() -> None:
    """Have the catalogue know weights that are small."""
    from vdm_bench.metrics import weights
    from vdm_bench.metrics.weights import library
    from vdm_bench.metrics.weights.digest import crc32c
    from vdm_bench.metrics.weights.entries import Entry, SourceFile, TensorInfo

    digest = f"git-blob:{weights.git_blob_id(WEIGHTS)}"
    tensors = {
        "a": TensorInfo((2000,), 0, crc32c(WEIGHTS[:8000])),
        "b": TensorInfo((1000,), 8000, crc32c(WEIGHTS[8000:])),
    }
    files = (SourceFile("w.data", ("http://127.0.0.1:9/w",), len(WEIGHTS), digest),)
    entry = Entry("made-up", "Made up", "i3d", "tf-checkpoint", files, tensors, "Apache-2.0", "nobody")
    library.catalogue = lambda: {"made-up": entry}  # type: ignore[assignment]


_STATES = ("trained/.*",)
# They show a network on its way: a process that died between a state and its picture has gone on from there.
_PICTURES = (r"trained/samples(/.*\.png)?",)

# All verbs that write.
WRITERS = (
    Work("run", prediction, RUN),
    Work(
        "run-command",
        command_sampler,
        (*RUN[:2], "--sampler-command", shlex.join([sys.executable, "child.py"]), *RUN[4:]),
    ),
    Work("run-clips", given_clips, ("run", "small.toml", "--clips", "generated.npy", *RUN[4:])),
    Work("score", two_sides, SCORE),
    Work("sample", model, SAMPLE),
    Work(
        "sample-videos", model, (*SAMPLE[:2], "--count", "4", "--out", "videos", "--format", "mp4", *SAMPLE[6:])
    ),
    Work("train", nothing, TRAIN, growing=_STATES, passing=_PICTURES),
    Work("prepare", videos, PREPARE, growing=("prepared/.*/prepared.json",)),
    Work("export-reference", prediction, EXPORT),
    Work("report", prediction, ("report", "run", "--format", "html", "-o", "page.html"), (RUN,)),
    Work("leaderboard", prediction, ("leaderboard", "--runs", "run", "--html", "site"), (RUN,)),
    Work(
        "check",
        prediction,
        ("check", "run", "--baseline", "baseline.json", "--update-baseline", "--junit", "check.xml"),
        (RUN,),
    ),
    Work(
        "reproduce",
        model_of_shapes,
        (
            *("reproduce", "table2", "--on-shapes", "--checkpoint", "tiny.safetensors", "--limit", "10"),
            *("--steps", "2", "--out", "table2", "--workers", "1", "-o", "table2.txt", "--device", "cpu"),
        ),
        # The features of the reference, which all its runs have in common.
        (("run", "shapes-unconditional", "--sampler", "noise", "--limit", "10", "--out", "warm"),),
    ),
    Work(
        "verify",
        prediction,
        (
            *("verify", "run", "--samples", "run", "--protocol", "small.toml", "--seed", "3"),
            *("--workers", "1", "--device", "cpu"),
        ),
        (RUN,),
    ),
    Work("weights", weights_file, ("weights", "import", "made-up", "w.data"), setup=made_up_weights),
    Work("log", prediction, ("log", "run", "--to", "tensorboard:board"), (RUN,)),
)
