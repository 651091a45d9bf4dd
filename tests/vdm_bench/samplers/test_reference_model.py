"""The reference model as a sampler: clip i is a function of its seed, whatever else is asked for and computed."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_model import TINY

from vdm_bench import load_reference_model, run
from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.errors import InputError
from vdm_bench.protocols import get_protocol
from vdm_bench.reference_model import model as pretrained
from vdm_bench.reference_model.checkpoint import CheckpointInfo, save_model
from vdm_bench.reference_model.conditional import window_sampler
from vdm_bench.reference_model.config import ModelConfig, SamplingConfig, setting_names, settings_from_text
from vdm_bench.reference_model.embeddings import Condition
from vdm_bench.reference_model.model import ReferenceModel
from vdm_bench.reference_model.noise import NoiseStream
from vdm_bench.reference_model.process import from_uint8, to_uint8
from vdm_bench.reference_model.rollout import extend
from vdm_bench.reference_model.text.embeddings import caption_digest
from vdm_bench.reference_model.text.encoding import EncoderInfo, TextEmbeddings
from vdm_bench.reference_model.unet import VideoUNet
from vdm_bench.runs import demo
from vdm_bench.runtime.progress import Silent
from vdm_bench.samplers import make_sampler
from vdm_bench.samplers.base import SampleRequest, SamplerSetup, checked_samples, sample_seed
from vdm_bench.samplers.baselines import noise
from vdm_bench.samplers.reference_model import ReferenceSampler

SAMPLING = SamplingConfig(steps=3, gamma=0.3, reconstruction_weight=5.0)


def network(config: ModelConfig) -> VideoUNet:
    torch.manual_seed(0)
    made = VideoUNet(config)
    for parameter in made.parameters():  # a new network predicts zero, whatever it is given
        torch.nn.init.normal_(parameter, std=0.15)
    return made


@pytest.fixture(scope="module")
def model() -> ReferenceModel:
    return ReferenceModel(network(TINY), TINY, SAMPLING, "tiny")


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def sampler(model: ReferenceModel, **chosen: object) -> ReferenceSampler:
    return ReferenceSampler(model, model.sampling.override(chosen))


def request(
    *indices: int,
    frames: int = 4,
    context: int = 0,
    labels: tuple[int, ...] = (),
    captions: tuple[str, ...] | None = None,
) -> SampleRequest:
    given = [np.random.default_rng(index).integers(0, 256, (context, 8, 8, 3), np.uint8) for index in indices]
    return SampleRequest(
        indices=indices,
        seeds=tuple(sample_seed(0, index) for index in indices),
        frames=frames,
        height=8,
        width=8,
        context=np.stack(given) if context else None,
        labels=np.array(labels, np.int64) if labels else None,
        captions=captions,
    )


@pytest.mark.parametrize("case", [{}, {"context": 2}, {"context": 2, "frames": 7}, {"labels": (0, 1, 2, 0, 1)}])
def test_a_clip_has_the_same_bits_in_any_batch_and_with_any_threads(
    model: ReferenceModel, case: dict[str, object]
) -> None:
    made = sampler(model)
    torch.set_num_threads(1)
    whole = request(3, 1, 4, 0, 2, **case)  # type: ignore[arg-type]
    clips = checked_samples(made.sample(whole), whole, "reference")
    torch.set_num_threads(3)
    assert np.array_equal(made.sample(whole), clips)
    labels = case.get("labels")
    one = request(4, **{**case, **({"labels": (2,)} if labels else {})})  # type: ignore[arg-type]
    assert np.array_equal(made.sample(one)[0], clips[2])
    assert torch.get_num_threads() == 3


def test_batches_have_a_fixed_size_at_the_end_of_a_run_too(model: ReferenceModel) -> None:
    made = sampler(model, batch=3)
    clips = made.sample(request(0, 1, 2, 3, 4))
    assert np.array_equal(made.sample(request(0, 1, 2, 3)), clips[:4])
    assert clips.shape == (5, 4, 8, 8, 3)
    seen = set()
    hook = model.network.register_forward_pre_hook(
        lambda _, given: seen.add((len(given[0]), torch.get_num_threads()))
    )
    torch.set_num_threads(2)
    made.sample(request(0, 1, 2, 3))
    hook.remove()
    assert seen == {(3, 1)}  # three clips, on one thread
    close = sampler(model).sample(request(0, 1, 2, 3, 4))
    assert np.abs(close.astype(int) - clips).max() <= 1  # by rounding alone


def test_other_seeds_are_other_clips(model: ReferenceModel) -> None:
    clips = sampler(model).sample(request(0, 1))
    assert not np.array_equal(clips[0], clips[1])


@pytest.mark.parametrize(
    ("chosen", "case"),
    [
        ({}, {}),
        ({"guidance_weight": 2.0}, {"labels": (2,)}),
        ({"overlap": 1}, {"context": 2, "frames": 7}),
        ({"method": "replacement-conditional"}, {"context": 2}),
    ],
)
def test_a_clip_is_a_roll_out_of_the_guided_denoiser(
    model: ReferenceModel, chosen: dict[str, object], case: dict[str, object]
) -> None:
    """Clips are made by hand, with what `ReferenceModel.sample` is made of."""
    asked = request(5, **case)  # type: ignore[arg-type]
    config = dataclasses.replace(SAMPLING, **chosen)  # type: ignore[arg-type]
    condition = None if asked.labels is None else Condition(torch.from_numpy(asked.labels))
    made = extend(
        window_sampler(model.denoiser(condition, guidance_weight=config.guidance_weight), config),
        NoiseStream(asked.seeds, TINY.clip_shape),
        length=asked.frames,
        overlap=config.overlap or 2,
        context=None if asked.context is None else from_uint8(torch.from_numpy(asked.context)),
    )
    assert np.array_equal(sampler(model, **chosen).sample(asked), to_uint8(made).numpy())


def test_the_model_draws_the_labels_that_the_sampler_draws(model: ReferenceModel) -> None:
    config = model.sampling.override({"labels": "random", "guidance_weight": 1.0})
    asked = request(3)
    assert np.array_equal(
        model.sample(asked.seeds, sampling=config).numpy(), sampler(model, **vars(config)).sample(asked)
    )
    assert not np.array_equal(model.sample(asked.seeds).numpy(), sampler(model, **vars(config)).sample(asked))


def test_given_frames_stay_and_decide_what_follows(model: ReferenceModel) -> None:
    asked = request(0, 1, context=2)
    clips = sampler(model).sample(asked)
    assert asked.context is not None
    assert np.array_equal(clips[:, :2], asked.context)
    other = sampler(model).sample(dataclasses.replace(asked, context=255 - asked.context))
    assert not np.array_equal(other[:, 2:], clips[:, 2:])


def test_a_longer_clip_begins_with_the_shorter_one(model: ReferenceModel) -> None:
    made = sampler(model, overlap=1)
    short, long = made.sample(request(2, frames=7)), made.sample(request(2, frames=12))
    assert long.shape[1] == 12
    assert np.array_equal(long[:, :7], short)


@pytest.mark.parametrize(
    ("chosen", "case", "expected"),
    [
        ({}, {}, 3),
        ({"sampler": "predictor-corrector"}, {}, 5),
        ({"sampler": "predictor-corrector", "correct_last": True}, {"frames": 6}, 12),
        ({"sampler": "ddim", "steps": 2, "overlap": 3}, {"frames": 9}, 12),
        ({"sampler": "dpm-solver", "overlap": 1}, {"frames": 10, "context": 6}, 6),
    ],
)
def test_evaluations_are_foretold_and_counted(
    model: ReferenceModel, chosen: dict[str, object], case: dict[str, int], expected: int
) -> None:
    made, seen = sampler(model, batch=2, **chosen), list[int]()
    asked = request(0, 1, 2, **case)  # type: ignore[arg-type]
    assert made.evaluations(asked) == expected
    made.sample(asked, seen.append)
    assert sum(seen) == 3 * expected


def test_labels_and_guidance_act_and_the_scale_is_one_plus_the_weight(model: ReferenceModel) -> None:
    asked = request(0, labels=(1,))
    plain = sampler(model).sample(asked)
    assert not np.array_equal(plain, sampler(model).sample(request(0, labels=(2,))))
    guided = sampler(model, guidance_weight=2.0).sample(asked)
    assert not np.array_equal(plain, guided)
    assert np.array_equal(sampler(model, guidance_scale=3.0).sample(asked), guided)
    unconditional = sampler(model, guidance_weight=-1.0).sample(asked)
    assert np.abs(unconditional.astype(int) - sampler(model).sample(request(0))).max() <= 1


def test_the_methods_are_reconstruction_and_both_sorts_of_replacement(model: ReferenceModel) -> None:
    asked = request(0, context=2)
    made = {
        name: sampler(model, method=name).sample(asked)
        for name in ("reconstruction", "reconstruction-conditional", "replacement", "replacement-conditional")
    }
    assert np.array_equal(made["reconstruction"], sampler(model).sample(asked))
    assert np.array_equal(made["replacement"], sampler(model, reconstruction_weight=0.0).sample(asked))
    assert len({clips.tobytes() for clips in made.values()}) == 4


def test_random_labels_are_drawn_with_the_seed_and_evenly(model: ReferenceModel) -> None:
    made = sampler(model, labels="random", guidance_weight=1.0)
    labels = made.labelled(request(*range(600))).labels
    assert labels is not None
    assert np.bincount(labels).tolist() == pytest.approx([200, 200, 200], abs=35)
    part = made.labelled(request(7, 3)).labels
    assert part is not None
    assert part.tolist() == [labels[7], labels[3]]
    label = int(labels[3])
    fixed = sampler(model, guidance_weight=1.0).sample(request(3, labels=(label,)))
    assert np.array_equal(made.sample(request(3)), fixed)


def test_captions_come_by_their_embeddings() -> None:
    config = dataclasses.replace(TINY, classes=0, text_dim=8)
    captions = ("a red circle", "a blue square")
    text = TextEmbeddings(
        torch.randn(5, 8, generator=torch.Generator().manual_seed(0)),
        torch.tensor([2, 3]),
        torch.tensor([list(caption_digest(caption)) for caption in captions], dtype=torch.uint8),
        EncoderInfo("bert", None, "0", 6),
    )
    model = ReferenceModel(network(config), config, SAMPLING, "tiny")
    made = ReferenceSampler(model, SAMPLING.override({"guidance_weight": 1.0}), text=text)
    clips = made.sample(request(0, 0, 0, captions=(*captions, "")))
    assert len({clip.tobytes() for clip in clips}) == 3
    assert np.array_equal(made.sample(request(0, captions=captions[1:]))[0], clips[1])
    with pytest.raises(InputError, match="captions need a text encoder"):
        sampler(model).sample(request(0, captions=captions[:1]))


def test_bfloat16_is_near_and_not_the_same(model: ReferenceModel) -> None:
    full, half = (sampler(model, precision=name, steps=1).sample(request(0)) for name in ("fp32", "bf16"))
    assert 0 < np.abs(full.astype(int) - half).mean() < 8


@pytest.mark.parametrize(
    ("chosen", "case", "words"),
    [
        ({}, {"frames": 3}, "clips of 3 frames are asked for, and the model makes 4 or more"),
        ({"resolution": 16}, {}, "clips of 8x8 pixels are asked for, and the model makes 16x16"),
        ({}, {"frames": 4, "context": 4}, "the context has 4 frames"),
        ({"overlap": 4}, {"frames": 5}, "the overlap 4 leaves nothing"),
        ({}, {"labels": (3,)}, "label 3 is not in 0 to 2"),
        ({}, {"labels": (-1,)}, "label -1 is not in 0 to 2"),
        ({}, {"captions": ("a",)}, "the model was trained without text"),
        ({"guidance_weight": 1.0}, {}, "guidance_weight 1 acts on labels or captions, and there are none"),
    ],
)
def test_a_request_that_does_not_go_with_the_model_is_refused(
    model: ReferenceModel, chosen: dict[str, object], case: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        sampler(model, **chosen).sample(request(0, **case))  # type: ignore[arg-type]


def test_default_guidance_of_a_checkpoint_needs_context_frames() -> None:
    plain, guided = (
        ReferenceModel(network(TINY), TINY, dataclasses.replace(SAMPLING, guidance_weight=weight), "tiny")
        for weight in (0.0, 2.0)
    )
    assert np.array_equal(sampler(guided).sample(request(0)), sampler(plain).sample(request(0)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"step": "4"}, "unknown option 'step'; did you mean 'steps'?"),
        ({"checkpont": "x"}, "did you mean 'checkpoint'?"),
        ({"steps": "4.5"}, "option steps=4.5 must be a whole number"),
        ({"gamma": "much"}, "option gamma=much must be a number"),
        ({"correct_last": "yes"}, "option correct_last=yes must be true or false"),
        ({"steps": "0"}, "steps 0 is out of range; give 1 to 1,000,000"),
        ({"sampler": "ancestal"}, "unknown sampler 'ancestal'; did you mean 'ancestral'?"),
        ({"method": "replace"}, "unknown method 'replace'"),
        ({"clip": "hard"}, "unknown clip 'hard'; choose one of none, static, dynamic"),
        ({"precision": "fp8"}, "unknown precision 'fp8'"),
        ({"guidance_weight": "1", "guidance_scale": "2"}, "give one of the two"),
        (
            {"guidance_scale": "-1"},
            "guidance_weight -2.0 is out of range; give w of -1 (unconditional) or more, or a guidance_scale",
        ),
        ({"guidance_weight": "nan"}, "guidance_weight is nan; it must be finite"),
        ({"reconstruction_weight": "-1"}, "reconstruction_weight -1.0 is out of range; give w_r of 0"),
        ({"batch": "0"}, "batch 0 is out of range; give 1 to 65,536"),
        ({"checkpoint": "missing.safetensors"}, "missing.safetensors does not exist"),
        ({"checkpoint": "nothing-of-this-name"}, "there is no trained model 'nothing-of-this-name'"),
        ({"device": "cuda:99"}, "the device 'cuda:99' cannot be used"),
        ({"preset": "shape"}, "unknown preset 'shape'"),
        ({"resolution": "9"}, "sides must be divisible by its stride, 2"),
    ],
)
def test_wrong_options_are_one_sentence(checkpoint: Path, options: dict[str, str], words: str) -> None:
    setup = SamplerSetup(Shapes("test"), {"checkpoint": str(checkpoint), **options})
    with pytest.raises(InputError) as caught:
        make_sampler("reference", setup)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_setting_can_be_read_from_text() -> None:
    texts = {"sampler": "ddim", "clip": "none", "method": "replacement", "precision": "bf16", "labels": "random"}
    flags = {"last_step_noise": "true", "correct_last": "false", "corrector_guidance": "false"}
    values = settings_from_text({name: texts.get(name, flags.get(name, "1")) for name in setting_names()})
    assert values["steps"] == 1
    assert values["correct_last"] is False
    del values["guidance_scale"]
    assert SamplingConfig().override(values).described == values


LARGE = dataclasses.replace(TINY, frames=16, resolution=32, attention_resolutions=())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    sampling = dataclasses.replace(SAMPLING, sampler="ddim", steps=1)
    save_model(path, network(LARGE), CheckpointInfo("tiny", LARGE, sampling))
    return path


@pytest.mark.parametrize("name", ["shapes-unconditional", "shapes-prediction"])
def test_a_protocol_runs_and_goes_on_with_the_same_bits(
    name: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VDM_BENCH_CACHE", str(checkpoint.parent / "cache"))
    protocol = get_protocol(name).model_copy(update={"generated_count": 70, "reference_count": 70})
    options = {"checkpoint": str(checkpoint), "method": "replacement"}
    record = run(protocol, out=tmp_path / "a", sampler="reference", options=options)
    assert record.sampler.kind == "reference"
    assert record.sampler.settings["steps"] == 1
    assert str(record.sampler.settings["checkpoint"]).startswith("tiny.safetensors@")
    whole = (tmp_path / "a" / "samples" / "shard-000001.npy").read_bytes()
    for file in ("run.json", "samples/shard-000001.npy", "samples/shard-000001.json"):
        (tmp_path / "a" / file).unlink()
    torch.set_num_threads(2)
    again = run(protocol, out=tmp_path / "a", sampler="reference", options=options)
    assert (tmp_path / "a" / "samples" / "shard-000001.npy").read_bytes() == whole
    assert [score.value for score in again.scores] == [score.value for score in record.scores]
    other = load_reference_model(checkpoint)
    save_model(checkpoint.parent / "other" / "tiny.safetensors", other.network, CheckpointInfo("b", LARGE))
    options["checkpoint"] = str(checkpoint.parent / "other" / "tiny.safetensors")
    with pytest.raises(InputError, match="holds a run with another sampler"):
        run(protocol, out=tmp_path / "a", sampler="reference", options=options)


def test_the_demo_shows_the_packaged_model_as_soon_as_there_is_one(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VDM_BENCH_CACHE", str(checkpoint.parent / "cache"))
    small = get_protocol("shapes-unconditional").model_copy(update={"generated_count": 40, "reference_count": 70})
    monkeypatch.setattr(demo, "get_protocol", lambda name: small)
    monkeypatch.setattr(demo, "BASELINES", {"noise": noise})
    monkeypatch.setattr(demo, "MODEL_CLIPS", 20)
    monkeypatch.setattr(demo, "MODEL_OPTIONS", {**demo.MODEL_OPTIONS, "steps": "1"})
    folder = tmp_path / "package"
    monkeypatch.setattr(pretrained, "_packaged_folder", lambda: folder)
    assert "| reference |" not in demo.run_demo(tmp_path / "before", 1, Silent()).read_text()
    folder.mkdir()
    (folder / "shapes.safetensors").symlink_to(checkpoint)
    assert "| reference |" in demo.run_demo(tmp_path / "after", 1, Silent()).read_text()
    height = [Image.open(tmp_path / name / demo.PICTURE).size[1] for name in ("before", "after")]
    assert height[1] - height[0] == 60  # one row more


def test_one_batch_that_fails_stops_the_others(model: ReferenceModel) -> None:
    done = list[int]()

    def fails(clips: int) -> None:
        done.append(clips)
        raise InputError("the disk is full")

    torch.set_num_threads(2)
    with pytest.raises(InputError, match="the disk is full"):
        sampler(model, steps=50).sample(request(*range(20)), fails)
    assert len(done) <= 2  # one a thread, of 1000
