"""`vdm-bench sample`: any checkpoint, any sampler and guidance, to clips, videos and pictures."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from tiny_model import TINY

from vdm_bench.cli import cli
from vdm_bench.reference_model.checkpoint import CheckpointInfo, load_model, save_model
from vdm_bench.reference_model.config import ModelConfig, SamplingConfig
from vdm_bench.reference_model.text.embeddings import caption_digest
from vdm_bench.reference_model.text.encoding import EncoderInfo, TextEmbeddings
from vdm_bench.reference_model.unet import VideoUNet
from vdm_bench.video.archive import Archive, ArchiveWriter
from vdm_bench.video.clip import Clip
from vdm_bench.video.decode import read_video


def write_model(path: Path, config: ModelConfig) -> None:
    torch.manual_seed(0)
    network = VideoUNet(config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    save_model(path, network, CheckpointInfo("tiny", config, SamplingConfig(sampler="ddim", steps=2)))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "tiny.safetensors", TINY)
    write_model(folder / "plain.safetensors", dataclasses.replace(TINY, classes=0))
    write_model(folder / "text.safetensors", dataclasses.replace(TINY, classes=0, text_dim=8))
    return folder


@pytest.fixture
def here(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with models, given clips, and files that are none."""
    monkeypatch.chdir(tmp_path)
    for file in models.iterdir():
        (tmp_path / file.name).symlink_to(file)
    clips = np.random.default_rng(0).integers(0, 256, (3, 6, 8, 8, 3), np.uint8)
    np.save("clips.npy", clips)
    np.save("large.npy", clips.repeat(2, 2).repeat(2, 3))
    whole = (models / "tiny.safetensors").read_bytes()
    Path("cut.safetensors").write_bytes(whole[:-10])
    Path("weights.pt").write_bytes(b"\x80\x02}q\x00.")
    Path("file").write_text("x")
    Path("full").mkdir()
    Path("full/notes.txt").write_text("mine")
    captions = ("a red circle", "a blue square")
    TextEmbeddings(
        torch.randn(5, 8, generator=torch.Generator().manual_seed(0)),
        torch.tensor([2, 3]),
        torch.tensor([list(caption_digest(caption)) for caption in captions], dtype=torch.uint8),
        EncoderInfo("bert", None, "0", 6),
    ).save("captions.safetensors")
    return tmp_path


def command(line: str | list[str]) -> Result:
    return CliRunner().invoke(cli, ["sample", *(line.split() if isinstance(line, str) else line)])


def made(line: str | list[str]) -> Result:
    result = command(line)
    assert result.exit_code == 0, result.output
    return result


def clips_of(line: str | list[str], out: str) -> np.ndarray:
    made([*(line.split() if isinstance(line, str) else line), "--out", out])
    archive = Archive(Path(out))
    assert archive.verify() == []
    return np.stack([archive[index].frames for index in range(len(archive))])


def test_it_says_what_it_wrote_and_how_often_the_network_was_evaluated(here: Path) -> None:
    result = made("tiny.safetensors")
    assert result.stdout == "wrote 16 clips of 4x8x8 to samples as archive; 2 network evaluations per clip\n"
    assert result.stderr.startswith("sampling: 32 evaluations in ")
    result = made("tiny.safetensors --sampler predictor-corrector --frames 6 --count 2 --out b")
    assert result.stdout == "wrote 2 clips of 6x8x8 to b as archive; 6 network evaluations per clip\n"


def test_clip_i_depends_on_the_seed_and_i_alone(here: Path) -> None:
    many, few = clips_of("tiny.safetensors --count 5", "a"), clips_of("tiny.safetensors --count 2", "b")
    assert np.array_equal(many[:2], few)
    other = clips_of("tiny.safetensors --count 2 --seed 1", "c")
    assert not np.array_equal(other, few)


def test_every_setting_reaches_the_sampler(here: Path) -> None:
    """Each of these, alone, changes the clip."""
    base = "tiny.safetensors --count 1 --label 1 --context clips.npy --context-frames 2 --steps 3"
    base += " --reconstruction-weight 20"
    lines = {
        "as it is": "",
        "seed": "--seed 3",
        "label": "--label 2",
        "steps": "--steps 4",
        "sampler": "--sampler ancestral",
        "gamma": "--sampler ancestral --gamma 1",
        "corrector": "--sampler predictor-corrector",
        "delta": "--sampler predictor-corrector --delta 0.5",
        "corrector guidance": "--sampler predictor-corrector --no-corrector-guidance",
        "solver": "--sampler dpm-solver",
        "clip": "--clip none",
        "dynamic": "--clip dynamic",
        "percentile": "--clip dynamic --clip-percentile 0.98",
        "guidance": "--guidance-weight 2",
        "reconstruction": "--reconstruction-weight 50",
        "method": "--method replacement",
        "context frames": "--context-frames 1",
        "precision": "--precision bf16",
    }
    seen: dict[bytes, str] = {}
    for number, (name, options) in enumerate(lines.items()):
        line = base.replace("--label 1 ", "") + f" {options}" if name == "label" else f"{base} {options}"
        frames = clips_of(line, f"out{number}").tobytes()
        assert frames not in seen, f"{name} gives the same clip as {seen[frames]}"
        seen[frames] = name
    # At the highest log-SNR these two change less than a 255th.
    made(f"{base} --sampler predictor-corrector --correct-last --last-step-noise --out last")
    plan = json.loads(Path("last/sample.json").read_text())
    assert (plan["correct_last"], plan["last_step_noise"], plan["corrector_guidance"]) == (True, True, True)


def test_the_guidance_scale_is_one_plus_the_weight(here: Path) -> None:
    line = "tiny.safetensors --count 2 --label 1"
    weight = clips_of(f"{line} --guidance-weight 0.5", "a")
    assert np.array_equal(weight, clips_of(f"{line} --guidance-scale 1.5", "b"))


def test_given_frames_begin_the_clips_and_longer_ones_are_made_in_blocks(here: Path) -> None:
    clips = clips_of("tiny.safetensors --context clips.npy --context-frames 5 --frames 11", "a")
    assert clips.shape == (3, 11, 8, 8, 3)  # as many as are given
    assert np.array_equal(clips[:, :5], np.load("clips.npy")[:, :5])
    resized = clips_of("tiny.safetensors --context large.npy --context-frames 2 --resize antialias", "b")
    assert np.abs(resized[:, :2].astype(int) - np.load("clips.npy")[:, :2]).mean() < 40


def test_labels_and_captions_are_assigned_in_turn_and_archived(here: Path) -> None:
    made("tiny.safetensors --count 3 --label 2 --label 0 --out a")
    assert [Archive(Path("a"))[index].label for index in range(3)] == [2, 0, 2]
    made("tiny.safetensors --count 8 --label random --out r")
    labels = [Archive(Path("r"))[index].label for index in range(8)]
    assert set(labels) <= {0, 1, 2}
    assert len(set(labels)) > 1
    captions = [
        "--caption",
        "a red circle",
        "--caption",
        "a blue square",
        "--text-embeddings",
        "captions.safetensors",
    ]
    made(["text.safetensors", *captions, "--out", "t"])
    archive = Archive(Path("t"))
    assert [archive[index].caption for index in range(len(archive))] == ["a red circle", "a blue square"]


@pytest.mark.parametrize("form", ["mp4", "webm", "gif"])
def test_videos_are_written_one_a_clip(here: Path, form: str) -> None:
    made(f"tiny.safetensors --count 2 --format {form} --out videos")
    assert sorted(path.name for path in Path("videos").glob("0*")) == [f"000000.{form}", f"000001.{form}"]
    made(f"tiny.safetensors --count 1 --out one.{form}")
    assert Path(f"one.{form}").read_bytes() == Path(f"videos/000000.{form}").read_bytes()
    clip, video = clips_of("tiny.safetensors --count 1", "a")[0], read_video(Path(f"one.{form}"))
    assert video.shape == clip.shape
    if form == "gif":
        assert np.abs(video.astype(int) - clip).mean() < 12  # 64 pixels have their colours in a palette of 256


def test_a_grid_is_one_picture_with_two_clips_a_row(here: Path) -> None:
    made("tiny.safetensors --count 5 --out grid.png")
    made("tiny.safetensors --count 3 --out small.png")
    large, small = (Image.open(name).size for name in ("grid.png", "small.png"))
    assert large[0] == small[0]
    assert large[1] - small[1] == 60  # a row
    assert sorted(path.name for path in here.glob("*.png")) == ["grid.png", "small.png"]


def test_an_interrupted_command_goes_on(here: Path) -> None:
    line = "plain.safetensors --count 66 --steps 1"
    whole = clips_of(line, "a")
    first = Path("a/shard-000000.npy").stat().st_mtime_ns
    for file in Path("a").glob("shard-000001*"):
        file.unlink()
    assert np.array_equal(clips_of(line, "a"), whole)
    assert Path("a/shard-000000.npy").stat().st_mtime_ns == first
    plan = json.loads(Path("a/sample.json").read_text())
    assert (plan["steps"], plan["sampler"], plan["count"]) == (1, "ddim", 66)
    assert plan["checkpoint"].startswith("plain.safetensors@")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("missing.safetensors", "missing.safetensors does not exist; give a checkpoint"),
        ("nothing", "there is no trained model 'nothing'"),
        ("cut.safetensors", "cut.safetensors is truncated or damaged"),
        ("weights.pt", "weights.pt is not a safetensors file"),
        ("file", "file is not a safetensors file"),
        ("captions.safetensors", "is a safetensors file but no checkpoint of vdm-bench"),
        ("full", "full is a folder; give the checkpoint in it"),
        (
            "tiny.safetensors --context clips.npy --context-frames 4",
            "leaves nothing to generate in clips of 4 frames",
        ),
        ("tiny.safetensors --context clips.npy --context-frames 7 --frames 9", "has 6 frames, 7 are needed"),
        ("tiny.safetensors --context clips.npy", "--context-frames K together"),
        ("tiny.safetensors --context large.npy --context-frames 2", "has 16x16 pixels, and the model makes 8x8"),
        (
            "tiny.safetensors --context clips.npy --context-frames 2 --count 4",
            "holds 3 clips, and 4 are asked for",
        ),
        ("tiny.safetensors --context nowhere --context-frames 2", "nowhere does not exist"),
        (
            "tiny.safetensors --reconstruction-weight -1",
            "reconstruction_weight -1.0 is out of range; give w_r of 0",
        ),
        ("tiny.safetensors --resolution 15", "sides must be divisible by its stride, 2"),
        ("text.safetensors --caption x", "--caption needs a text encoder: give --text-encoder FOLDER"),
        ("text.safetensors --caption x --text-embeddings captions.safetensors", "have none of the caption 'x'"),
        ("text.safetensors --caption x --text-encoder ./nowhere", "there is no folder ./nowhere"),
        ("text.safetensors --caption x --text-encoder a --text-embeddings b", "give one of the two"),
        ("tiny.safetensors --caption x --text-embeddings captions.safetensors", "trained without text"),
        ("tiny.safetensors --label 3", "label 3 is not in 0 to 2"),
        ("tiny.safetensors --label -1", "--label '-1' is not a class"),
        ("tiny.safetensors --label red", "--label 'red' is not a class; give a whole number from 0, or `random`"),
        ("plain.safetensors --label 0", "the model was trained without classes"),
        ("plain.safetensors --label random", "random labels need a model with classes"),
        ("tiny.safetensors --sampler dim", "unknown sampler 'dim'; did you mean 'ddim'?"),
        ("tiny.safetensors --clip dynamics", "did you mean 'dynamic'?"),
        ("tiny.safetensors --method reconstuction", "did you mean 'reconstruction'?"),
        ("tiny.safetensors --steps 0", "steps 0 is out of range; give 1 to 1,000,000"),
        ("tiny.safetensors --guidance-weight 1 --guidance-scale 2", "say the same thing; give one of the two"),
        (
            "tiny.safetensors --guidance-weight 1",
            "acts on labels or captions, and there are none; give some (--label random, or",
        ),
        ("tiny.safetensors --frames 3", "clips of 3 frames are asked for, and the model makes 4 or more"),
        ("tiny.safetensors --frames 8 --overlap 4", "the overlap 4 leaves nothing"),
        ("tiny.safetensors --out a.gif", "is one video, but 16 clips are asked for"),
        ("tiny.safetensors --out a.gif --format mp4", "--out a.gif does not fit --format mp4"),
        ("tiny.safetensors --out a --format grid", "give it the suffix .png"),
        ("tiny.safetensors --out a.png --count 257", "--count 257 is too many for a grid"),
        ("tiny.safetensors --out full", "full is not empty"),
        ("tiny.safetensors --out file/x", "cannot write file/x"),
        ("tiny.safetensors --fps 0 --out a --format gif", "0.0 frames per second are not possible"),
        ("tiny.safetensors --fps nan --out a.mp4 --count 1", "nan frames per second are not possible"),
        ("tiny.safetensors --fps 2e9 --out a", "choose between 0.001 and 1,000,000"),
        ("tiny.safetensors --device cuda:99", "the device 'cuda:99' cannot be used"),
        ("tiny.safetensors --preset shape", "unknown preset 'shape'"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(here: Path, line: str, words: str) -> None:
    result = command(line)
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if not line.startswith("sampling")]
    assert len(lines) == 1, lines
    assert lines[0].startswith("Error: ")
    assert words in lines[0]
    assert not Path("samples").exists()


def test_a_checkpoint_of_another_preset_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vdm_bench.reference_model import checkpoint
    from vdm_bench.reference_model.config import Preset

    wide = Preset("wide", "", dataclasses.replace(TINY, base_channels=16))
    monkeypatch.setattr(checkpoint, "get_preset", lambda name: wide)
    result = command("tiny.safetensors --preset wide")
    assert result.exit_code == 2
    assert "holds a model 'tiny' and not one of preset 'wide' (base_channels 8, not 16)" in result.stderr


def test_clips_of_another_command_are_not_mixed_in(here: Path) -> None:
    clips_of("tiny.safetensors --count 2", "a")
    for options in ("--count 3", "--seed 1", "--steps 5", "--label 1", "--format gif", "--fps 4"):
        result = command(f"tiny.safetensors --count 2 {options} --out a")
        assert result.exit_code == 2, options
        assert "a holds clips with another" in result.stderr
    network, info = load_model("tiny.safetensors")
    Path("tiny.safetensors").unlink()
    save_model("tiny.safetensors", network, dataclasses.replace(info, step=9))
    assert "holds clips with another checkpoint" in command("tiny.safetensors --count 2 --out a").stderr
    ArchiveWriter(Path("b"), (4, 8, 8)).write_shard(0, [Clip(np.zeros((4, 8, 8, 3), np.uint8), "0")])
    assert "b is not empty" in command("tiny.safetensors --out b").stderr
