"""One small file of each kind that the project stores, written and read by the project's own functions.

A writer takes a folder, and returns the path of what it has written there.
"""

import json
from pathlib import Path

import torch
from records import build_note, build_record, build_score
from tiny_model import TINY

from vdm_bench.errors import InputError
from vdm_bench.generation.output import OutputSpec, open_writer
from vdm_bench.leaderboards.checks.baseline import Baseline
from vdm_bench.leaderboards.record import Record, write_record
from vdm_bench.leaderboards.verified import write_verification
from vdm_bench.protocols.clips import prepared_plan
from vdm_bench.reference_model.checkpoint import CheckpointInfo, load_model, save_model
from vdm_bench.reference_model.config import Preset
from vdm_bench.reference_model.text.embeddings import EncoderInfo, TextEmbeddings, caption_digest
from vdm_bench.reference_model.training.log import LOG, LogLine, RunLog
from vdm_bench.reference_model.training.loop import RunConfig, acquire_run_dir
from vdm_bench.reference_model.training.state import FOLDER, TrainingProgress, read_state, write_state
from vdm_bench.reference_model.unet import VideoUNet
from vdm_bench.runs.plan import keep_plan

PLAN = {
    "protocol": "shapes-unconditional",
    "protocol_digest": "0123456789ab",
    "clips": 64,
    "data": None,
    "name": "blurred",
    "sampler": {"kind": "baseline", "spec": "blurred", "settings": {"steps": 4}, "seed": 0},
    "skip_broken": False,
    "missing videos": None,
    "networks": ["embedded@0123"],
    "sampler code": None,
    "sampler module": None,
    "asked": {"version": "0.1.0", "precision": "fp32"},
}
PREPARED = {
    "wanted": 64,
    "next": 64,
    "shards": 1,
    "broken": [[3, "a.mp4", "is empty"]],
    "clips": 63,
    "whole": True,
    "videos": 60,
    "missing": ["b.mp4"],
}


def write_plan(folder: Path) -> Path:
    keep_plan(folder, PLAN, writes=True)
    return folder / "plan.json"


def write_sample_plan(folder: Path, seed: int = 3) -> Path:
    settings: dict[str, object] = {"count": 2, "seed": seed, "label": [1, 2], "sampler": "ddim", "steps": 8}
    open_writer(OutputSpec(folder, "archive"), (4, 8, 8), settings)
    return folder / "sample.json"


CONFIG = RunConfig(Preset("tiny", "", TINY), 0, "fp32", "shapes")


def write_config(folder: Path) -> Path:
    acquire_run_dir(folder, CONFIG)
    (folder / FOLDER).mkdir()
    (folder / FOLDER / "step-000000002.safetensors").touch()
    return folder / "config.json"


def write_prepared(folder: Path) -> Path:
    prepared_plan(folder).write(PREPARED)
    return folder / "prepared.json"


def named_record(name: str = "model") -> Record:
    jackknife = tuple(index + 1 / 3 for index in range(20))
    return build_record(name, build_score(12.0, ends=(11.5, 13.0), jackknife=jackknife))


def write_run(folder: Path) -> Path:
    write_record(named_record("küche"), folder / "run.json")
    return folder / "run.json"


def write_baseline(folder: Path) -> Path:
    Baseline(folder / "baseline.json", {}).updated([named_record("a"), named_record("b")]).write()
    return folder / "baseline.json"


def write_verified(folder: Path) -> Path:
    return write_verification(build_note(b"{}"), folder / "run.json")


def write_checkpoint(folder: Path, storage: torch.dtype = torch.float32) -> Path:
    torch.manual_seed(0)
    info = CheckpointInfo("tiny", TINY, step=12, training={"seed": 3, "loss": 0.5})
    save_model(folder / "tiny.safetensors", VideoUNet(TINY), info, storage=storage)
    return folder / "tiny.safetensors"


def read_checkpoint(folder: Path) -> object:
    network, info = load_model(folder / "tiny.safetensors")
    return info, {name: value.numpy().tobytes() for name, value in network.state_dict().items()}


STATE = {
    "weights.a": torch.arange(12.0).reshape(3, 4),
    "step.a": torch.tensor(7.0),
    "exp_avg.a": torch.full((5,), 0.1, dtype=torch.bfloat16),
}


def write_training_state(folder: Path) -> Path:
    write_state(folder, STATE, TrainingProgress(7, 12.5))
    return folder / FOLDER / "step-000000007.safetensors"


def read_training_state(folder: Path) -> object:
    found = read_state(folder, {name: tuple(value.shape) for name, value in STATE.items()})
    assert found is not None
    return found[1], {name: (value.dtype, value.float().tolist()) for name, value in found[0].items()}


def write_embeddings(folder: Path) -> Path:
    digests = torch.tensor([[*caption_digest(caption)] for caption in ("a red ball", "two")], dtype=torch.uint8)
    tokens, lengths = torch.arange(15.0).reshape(5, 3), torch.tensor([3, 2])
    TextEmbeddings(tokens, lengths, digests, EncoderInfo("bert", None, "ab12", 8), 1).save(
        folder / "text.safetensors", storage="float16"
    )
    return folder / "text.safetensors"


def read_embeddings(folder: Path) -> object:
    found = TextEmbeddings.load(folder / "text.safetensors")
    tensors = (found.tokens, found.lengths, found.digests)
    return found.report, found.encoder, [(value.dtype, value.tolist()) for value in tensors]


LINES = [LogLine(step, 0.5 / step, {"-10..-5": 0.25}, 1.0, 1e-4, 20.0, 3.0 * step) for step in (2, 4, 6)]


def write_log(folder: Path) -> Path:
    writer = RunLog(folder, 0, tensorboard=False, note=print)
    for line in LINES:
        writer.write(line)
    return folder / LOG


def read_log(folder: Path) -> object:
    """Raise an InputError where lines were damaged, which the project itself only tells of."""
    notes: list[str] = []
    RunLog(folder, 6, tensorboard=False, note=notes.append)
    if notes:
        raise InputError(f"{notes[0]}; and that is all")
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
