import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from vdm_bench import load_runs, protocols, run
from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.errors import InputError
from vdm_bench.leaderboards.record import read_record
from vdm_bench.protocols import Protocol, get_protocol, protocol_names
from vdm_bench.protocols.clips import open_dataset, task_signature
from vdm_bench.runtime.progress import Console
from vdm_bench.samplers.base import SampleRequest
from vdm_bench.video.archive import Archive, ArchiveWriter
from vdm_bench.video.clip import Clip
from vdm_bench.video.write import write_clip


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VDM_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def small(name: str, count: int = 100) -> Protocol:
    return get_protocol(name).model_copy(update={"generated_count": count, "reference_count": 128})


class Gray:
    """A sampler that counts its calls."""

    def __init__(self) -> None:
        self.requests: list[SampleRequest] = []

    def sample(self, request: SampleRequest) -> np.ndarray:
        self.requests.append(request)
        clips = np.empty((len(request), request.frames, request.height, request.width, 3), np.uint8)
        for clip, seed in zip(clips, request.seeds, strict=True):
            clip[:] = seed % 256
        if request.context is not None:
            clips[:, : request.context.shape[1]] = request.context
        return clips


def test_shipped_protocols_are_pinned() -> None:
    """Another digest is another protocol: give it another name instead."""
    digests = {name: get_protocol(name).digest for name in protocol_names()}
    assert digests == {
        "bair-prediction": "706c96f774c4",
        "bair-prediction-debiased": "735bc9c806b2",
        "bair-prediction-trajectories": "efbc07933169",
        "kinetics600-prediction": "174f8374a019",
        "kinetics600-prediction-magvit": "63cf5ba0027d",
        "kinetics600-prediction-with-replacement": "0e6b82f12ef5",
        "shapes-class": "5af3114e6cc5",
        "shapes-extension": "cddf6fdd096f",
        "shapes-prediction": "a41250f9098a",
        "shapes-text": "217c958f8383",
        "shapes-unconditional": "7f918c810b29",
        "text-video": "26f2e15697fa",
        "text-video-extension": "d325f88a789f",
        "ucf101-class": "613b59709b4c",
        "ucf101-unconditional": "e8e519bf3dd3",
        "ucf101-unconditional-fvd2048": "ed180a3fec2e",
        "ucf101-unconditional-fvd2048-train": "eeaa669dc177",
    }


@pytest.mark.parametrize(
    "name",
    ["shapes-unconditional", "shapes-prediction", pytest.param("shapes-extension", marks=pytest.mark.slow)],
)
def test_a_protocol_runs_from_end_to_end(name: str, tmp_path: Path) -> None:
    protocol = get_protocol(name)
    record = run(name, out=tmp_path / "run", sampler="real", workers=2)
    assert read_record(tmp_path / "run" / "run.json") == record
    assert record.protocol is not None
    assert (record.protocol.name, record.protocol.digest, record.protocol.departures) == (
        name,
        protocol.digest,
        [],
    )
    assert (record.reference.scored, record.generated.scored) == (1024, 1024)
    assert record.generated.repeated == 0
    fvd, inception, *_ = record.scores
    assert fvd.floor is not None
    assert fvd.value == pytest.approx(fvd.floor, rel=0.5)
    assert inception.value is not None
    assert 180 < inception.value < 240
    assert f"|task:{task_signature(protocol)}|" in fvd.signature
    assert "|ref:shapes-v1/test/seed0/1024|n:1024|" in fvd.signature
    assert len(Archive(tmp_path / "run" / "samples")) == 1024
    assert fvd.marks == ()
    frames = {score.metric: score.value for score in record.scores[2:]}
    # The baseline `real` goes on as it really did.
    assert frames == ({"psnr": 100.0, "ssim": pytest.approx(1.0)} if name == "shapes-prediction" else {})


@pytest.mark.parametrize(
    "protocol", ["shapes-unconditional", pytest.param("shapes-prediction", marks=pytest.mark.slow)]
)
def test_baselines_are_ranked_sensibly(protocol: str, tmp_path: Path) -> None:
    names = ["real", "blurred", "shuffled-frames", "copy-last-frame", "noise"]
    scores = {name: run(small(protocol, 256), out=tmp_path / name, sampler=name).scores for name in names}
    fvd = {name: found[0].value or 0.0 for name, found in scores.items()}
    inception = {name: found[1].value or 0.0 for name, found in scores.items()}
    assert min(fvd, key=fvd.__getitem__) == max(inception, key=inception.__getitem__) == "real"
    assert max(fvd, key=fvd.__getitem__) == min(inception, key=inception.__getitem__) == "noise"
    floor = scores["real"][0].floor or 0.0
    assert all(fvd[name] - floor > 5 * abs(fvd["real"] - floor) for name in names[1:])


def test_sample_i_depends_on_seed_and_i_alone(tmp_path: Path) -> None:
    protocol = small("shapes-unconditional")
    whole, part, other = Gray(), Gray(), Gray()
    run(protocol, out=tmp_path / "a", sampler=whole)
    run(protocol, out=tmp_path / "b", sampler=part, limit=70)
    run(protocol, out=tmp_path / "c", sampler=other, seed=1)
    seeds = [[seed for request in s.requests for seed in request.seeds] for s in (whole, part, other)]
    assert [request.indices for request in whole.requests] == [(0,), tuple(range(64)), tuple(range(64, 100))]
    assert seeds[1] == seeds[0][:71]
    assert not set(seeds[2]) & set(seeds[0])


def test_a_limited_run_is_marked_and_has_another_digest(tmp_path: Path) -> None:
    protocol = small("shapes-unconditional")
    whole = run(protocol, out=tmp_path / "a", sampler="blurred")
    part = run(protocol, out=tmp_path / "b", sampler="blurred", limit=70)
    assert part.protocol is not None
    assert part.protocol.departures == ["generated 70 of 100 clips"]
    assert "70 generated clips where the protocol asks for 100" in part.scores[0].marks
    assert {s.digest for s in part.scores}.isdisjoint(s.digest for s in whole.scores)


def test_a_complete_run_is_not_run_again(tmp_path: Path) -> None:
    protocol, sampler = small("shapes-unconditional"), Gray()
    first = run(protocol, out=tmp_path, sampler=sampler)
    calls = len(sampler.requests)
    assert run(protocol, out=tmp_path, sampler=sampler) == first
    assert len(sampler.requests) == calls == 3


def test_a_run_of_fewer_clips_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    protocol, sampler = small("shapes-unconditional"), Gray()
    fewer = run(protocol, out=tmp_path / "a", sampler=sampler, limit=64)
    grown = run(protocol, out=tmp_path / "a", sampler=sampler, reporter=Console())
    assert re.search(r"^samples of Gray: 36 clips in .*, 64 were there$", capsys.readouterr().err, re.MULTILINE)
    whole = run(protocol, out=tmp_path / "b", sampler=Gray())
    asked = [(0,), tuple(range(64)), (0,), tuple(range(64, 100))]
    assert [request.indices for request in sampler.requests] == asked
    assert grown.scores == whole.scores
    assert (grown.protocol, grown.generated) == (whole.protocol, whole.generated)
    assert read_record(tmp_path / "a" / "run.json") == grown
    assert read_record(tmp_path / "a" / "run-64.json") == fewer
    assert len(load_runs(tmp_path / "a")["path"].unique()) == 1


def test_growing_a_run_may_be_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between any two steps the folder holds a run that goes on, and never a record of other clips."""
    protocol = small("shapes-unconditional")
    whole = run(protocol, out=tmp_path / "whole", sampler="noise")
    run(protocol, out=tmp_path / "a", sampler="noise", limit=70)

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    for step in ("runs.plan.FolderPlan.write", "runs.run.extract_reference"):
        with monkeypatch.context() as patch:
            patch.setattr(f"vdm_bench.{step}", stop)
            with pytest.raises(KeyboardInterrupt):
                run(protocol, out=tmp_path / "a", sampler="noise")
        assert not (tmp_path / "a" / "run.json").exists()
    grown = run(protocol, out=tmp_path / "a", sampler="noise")
    assert (grown.scores, grown.generated) == (whole.scores, whole.generated)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sampler": "noise", "seed": 1}, "another sampler"),
        ({"sampler": "real"}, r"another name \('noise' and not 'real'\), sampler.spec"),
        ({"sampler": "noise", "limit": 50}, "another number of clips"),
    ],
)
def test_a_folder_with_another_run_is_refused(tmp_path: Path, options: dict[str, object], words: str) -> None:
    protocol = small("shapes-unconditional")
    before = run(protocol, out=tmp_path, sampler="noise")
    with pytest.raises(InputError, match=words):
        run(protocol, out=tmp_path, **options)  # type: ignore[arg-type]
    assert read_record(tmp_path / "run.json") == before


def test_a_run_does_not_go_on_with_other_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the clips of one run would come from two samplers."""
    module = tmp_path / "sampler_that_changes.py"
    code = (
        "import numpy as np\n"
        "def sample(request):\n"
        "    if request.indices[0]: raise KeyboardInterrupt\n"
        "    shape = (len(request), request.frames, request.height, request.width, 3)\n"
        "    return np.full(shape, 7, np.uint8)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for text in (code, code + "# another model\n"):
        module.write_text(text)
        sys.modules.pop("sampler_that_changes", None)
        expected = KeyboardInterrupt if text == code else InputError
        with pytest.raises(expected) as caught:
            run(small("shapes-unconditional"), out=tmp_path / "run", sampler="sampler_that_changes:sample")
    assert "holds a run with another sampler code" in str(caught.value)


def test_predictions_may_come_as_lossy_videos_but_not_in_another_order(tmp_path: Path) -> None:
    protocol = small("shapes-prediction", 24)
    conditions = open_dataset(protocol, protocol.conditions)
    for suffix in ("mp4", "webm", "gif"):
        for index in range(24):
            write_clip(tmp_path / suffix / f"{index:03d}.{suffix}", conditions[index].frames)
        record = run(protocol, out=tmp_path / f"run-{suffix}", clips=tmp_path / suffix)
        assert record.generated.lossy
        (tmp_path / suffix / f"000.{suffix}").rename(tmp_path / suffix / f"100.{suffix}")
        with pytest.raises(InputError, match=r"24 of 24 clips .* do not begin with the 4 frames"):
            run(protocol, out=tmp_path / f"again-{suffix}", clips=tmp_path / suffix)


def test_a_damaged_plan_is_named(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("[")
    with pytest.raises(
        InputError, match=r"plan\.json is damaged: it is not JSON .*; choose another `out`, or delete it"
    ):
        run(small("shapes-unconditional"), out=tmp_path, sampler="noise")


def test_a_prediction_gives_the_first_frames_of_the_condition_clips(tmp_path: Path) -> None:
    sampler, protocol = Gray(), small("shapes-prediction")
    run(protocol, out=tmp_path, sampler=sampler)
    conditions = open_dataset(protocol, protocol.conditions)
    context = sampler.requests[2].context
    assert context is not None
    assert np.array_equal(context[5], conditions[69].frames[:4])


def test_clips_that_are_there_already_score_as_the_sampler_that_made_them(tmp_path: Path) -> None:
    protocol = small("shapes-prediction")
    made = run(protocol, out=tmp_path / "a", sampler="blurred")
    given = run(protocol, out=tmp_path / "b", clips=tmp_path / "a")
    assert given.scores == made.scores
    assert given.sampler.kind == "folder"


def test_too_few_given_clips_are_a_departure(tmp_path: Path) -> None:
    run(small("shapes-unconditional"), out=tmp_path / "a", sampler="blurred")
    given = run(small("shapes-unconditional", 120), out=tmp_path / "b", clips=tmp_path / "a")
    assert given.protocol is not None
    assert given.protocol.departures == ["100 of 120 clips given"]
    assert given.generated.expected == 120


@pytest.mark.parametrize("form", ["archive", "videos", "array"])
def test_longer_given_clips_are_a_departure(form: str, tmp_path: Path) -> None:
    protocol, real = small("shapes-unconditional", 12), Shapes("test", seed=1, frames=20)
    clips = [real[index] for index in range(12)]
    if form == "archive":
        ArchiveWriter(tmp_path / "a", (20, 32, 32)).append(clips)
    elif form == "array":
        (tmp_path / "a").mkdir()
        np.save(tmp_path / "a" / "clips.npy", np.stack([clip.frames for clip in clips]))
    else:
        for index, clip in enumerate(clips):
            write_clip(tmp_path / "a" / f"{index:02}.mp4", clip.frames)
    record = run(protocol, out=tmp_path / "run", clips=tmp_path / "a")
    assert record.protocol is not None
    assert record.protocol.departures == ["the first 16 of 20 frames of the given clips"]


@pytest.mark.parametrize("suffix", ["mp4", "webm", "gif"])
def test_given_videos_of_another_frame_rate_are_a_departure(suffix: str, tmp_path: Path) -> None:
    protocol = small("shapes-unconditional", 12).model_copy(update={"fps": 50.0, "stride": 2})
    for rate, departures in (
        (25.0, []),
        (10.0, ["given clips of 10 frames a second where the protocol's have 25"]),
    ):
        for index in range(12):
            write_clip(tmp_path / f"{rate}" / f"{index:02}.{suffix}", Shapes("test")[index].frames, fps=rate)
        record = run(protocol, out=tmp_path / f"run-{rate}", clips=tmp_path / f"{rate}")
        assert record.protocol is not None
        assert record.protocol.departures == departures
    assert protocol.digest == protocol.model_copy(update={"fps": None}).digest


def test_given_clips_must_begin_with_the_given_frames(tmp_path: Path) -> None:
    protocol = small("shapes-prediction")
    other = protocol.model_copy(update={"conditions": protocol.reference})
    run(other, out=tmp_path / "a", sampler="real")
    with pytest.raises(InputError, match=r"100 of 100 clips .* do not begin with the 4 frames"):
        run(protocol, out=tmp_path / "b", clips=tmp_path / "a")


def test_given_clips_must_have_the_protocols_resolution(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 64, 64, 3), dtype=np.uint8)
    ArchiveWriter(tmp_path / "a", (16, 64, 64)).append([Clip(p, str(i)) for i, p in enumerate(pixels)])
    with pytest.raises(InputError, match=r"\(16, 64, 64\), shapes-unconditional asks for \(16, 32, 32\)"):
        run(small("shapes-unconditional"), out=tmp_path / "b", clips=tmp_path / "a")


def test_a_sampler_that_fails_is_named(tmp_path: Path) -> None:
    class Broken:
        def sample(self, request: SampleRequest) -> np.ndarray:
            raise RuntimeError("out of ideas")

    with pytest.raises(InputError, match=r"sampler Broken failed on clip 0 \(RuntimeError: out of ideas\)"):
        run(small("shapes-unconditional"), out=tmp_path, sampler=Broken())


def test_an_unknown_protocol_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match="did you mean 'shapes-unconditional'"):
        get_protocol("shape-unconditional")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name = ", "is not TOML"),
        ('name = "x"', "title: Field required"),
    ],
)
def test_a_broken_protocol_file_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        get_protocol(str(path))
    assert str(path) in str(caught.value)


def test_a_protocol_with_a_byte_order_mark_is_read_and_utf_16_is_named(tmp_path: Path) -> None:
    path, fields = tmp_path / "mine.toml", get_protocol("shapes-class")
    lines = Path(protocols.__file__).with_name("shapes-class.toml").read_text("utf-8").splitlines()
    for end in ("\n", "\r\n"):
        path.write_bytes(b"\xef\xbb\xbf" + end.join(lines).encode())
        assert get_protocol(str(path)) == fields
    path.write_bytes("\n".join(lines).encode("utf-16"))
    with pytest.raises(InputError, match=r"mine\.toml cannot be read: it is UTF-16; save it as UTF-8"):
        get_protocol(str(path))
    path.write_bytes(b'name = "mod\xe8le"')
    with pytest.raises(InputError, match=r"mine\.toml cannot be read: byte 0xe8 in line 1 is not UTF-8"):
        get_protocol(str(path))


def test_a_protocol_must_be_consistent() -> None:
    fields = get_protocol("shapes-prediction").model_dump()
    with pytest.raises(ValueError, match="context_frames"):
        Protocol.model_validate({**fields, "context_frames": 16})
    with pytest.raises(ValueError, match="shapes has no field colour"):
        Protocol.model_validate({**fields, "colour": "red"})
    small = {**fields, "resolution": 10, "generated_resolution": None}
    with pytest.raises(ValueError, match="ssim needs a resolution of at least 11"):
        Protocol.model_validate({**small, "frame_metrics": ("psnr", "ssim")})
    assert Protocol.model_validate({**small, "frame_metrics": ("psnr",)}).frame_metrics == ("psnr",)
