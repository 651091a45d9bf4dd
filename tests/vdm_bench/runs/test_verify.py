"""Records that are true of their clips, and records that are not."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from paths import ROOT

from vdm_bench import load_runs, run
from vdm_bench.cli import cli
from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.errors import InputError
from vdm_bench.leaderboards.record import read_record
from vdm_bench.leaderboards.verified import Verification
from vdm_bench.metrics.score import Signature
from vdm_bench.runs.verify import Check, VerifyOptions, verify
from vdm_bench.runtime.checksums import open_arrays, save_arrays
from vdm_bench.video.archive import Archive, ArchiveWriter
from vdm_bench.video.write import write_clip

COUNT = 100
Edit = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VDM_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "run"
    run("shapes-unconditional", out=folder, sampler="blurred", limit=COUNT)
    return folder


@pytest.fixture
def theirs(made: Path, tmp_path: Path) -> Path:
    """A run folder as it was sent in."""
    return Path(shutil.copytree(made, tmp_path / "theirs"))


def check(folder: Path, samples: Path | None = None, **options: Any) -> Check:
    """The last check that was made: the one that failed, if one did."""
    given = {"samples": samples or folder / "samples", "seed": 3, **options}
    return verify(folder, VerifyOptions(**given))[-1]


def edit(folder: Path, change: Edit) -> None:
    path = folder / "run.json"
    content = json.loads(path.read_text())
    content.pop("checksum", None)  # as a forger would, or make another
    change(content)
    path.write_text(json.dumps(content))
    read_record(path)  # invalid records are another test


def note_of(folder: Path) -> Verification:
    return Verification.model_validate_json((folder / "verified.json").read_bytes())


def fvd_of(content: dict[str, Any]) -> dict[str, Any]:
    score: dict[str, Any] = content["scores"][0]
    assert score["metric"] == "embedded/fvd"
    return score


def test_a_run_is_verified_from_its_clips_and_a_tenth_of_its_features(theirs: Path) -> None:
    assert not load_runs(theirs)["verified"].any()
    checks = verify(theirs / "run.json", VerifyOptions(samples=theirs, seed=3))
    assert [(made.name, made.fault) for made in checks] == [
        (name, None) for name in ("record", "protocol", "clips", "counts", "signatures", "features", "scores")
    ]
    note = note_of(theirs)
    assert (note.clips, note.computed_again, note.seed, note.protocol) == (COUNT, 10, 3, "shapes-unconditional")
    assert note.checks["features"].startswith(
        "10 of 100 clips computed again; stored features are off by at most 0.0"
    )
    assert load_runs(theirs)["verified"].all()


def test_without_stored_features_all_are_computed(theirs: Path) -> None:
    shutil.rmtree(theirs / "features")
    assert check(theirs).fault is None
    assert note_of(theirs).computed_again == COUNT
    assert note_of(theirs).checks["features"] == "100 of 100 clips computed again"


def test_which_clips_are_chosen_nobody_knows_before(theirs: Path) -> None:
    seeds = set()
    for _ in range(2):
        assert check(theirs, seed=None).fault is None
        seeds.add(note_of(theirs).seed)
    assert len(seeds) == 2


def test_a_record_holds_a_digest_of_its_clips_in_their_order(theirs: Path) -> None:
    archive = Archive(theirs / "samples")
    listed = "\n".join(archive.entry(index).sha256 for index in range(COUNT))
    record = read_record(theirs / "run.json")
    assert record.generated.digest == hashlib.sha256(listed.encode()).hexdigest()
    assert record.reference.digest not in (None, record.generated.digest)


# Scores that are not those of the clips


def better(content: dict[str, Any]) -> None:
    score = fvd_of(content)
    score["value"] *= 0.995
    score["interval"]["low"] *= 0.995


def narrower(content: dict[str, Any]) -> None:
    score = fvd_of(content)
    score["interval"]["low"] = score["interval"]["high"] = score["value"]


def without_floor(content: dict[str, Any]) -> None:
    fvd_of(content)["floor"] = None


def without_value(content: dict[str, Any]) -> None:
    fvd_of(content).update(value=None, status="not measured")


def steadier(content: dict[str, Any]) -> None:
    score = fvd_of(content)
    score["jackknife"][2] = score["value"]


def fewer_groups(content: dict[str, Any]) -> None:
    del fvd_of(content)["jackknife"][0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (better, "the value of embedded/fvd is "),
        (narrower, "the low end of the interval of embedded/fvd is "),
        (steadier, "value 3 of the jackknife of embedded/fvd is "),
        (fewer_groups, "the jackknife of embedded/fvd has "),
        (without_floor, "the floor of embedded/fvd is None, and comes out as "),
        (without_value, "embedded/fvd is None, and comes out as "),
    ],
)
def test_a_changed_score_is_found(theirs: Path, change: Edit, words: str) -> None:
    assert check(theirs).fault is None
    edit(theirs, change)
    found = check(theirs)
    assert found.name == "scores"
    assert words in (found.fault or "")
    assert not (theirs / "verified.json").exists()


def test_an_older_record_has_no_jackknife_and_is_verified(theirs: Path) -> None:
    edit(theirs, lambda content: fvd_of(content).update(jackknife=[], jackknife_groups=None))
    assert check(theirs).fault is None


@pytest.mark.parametrize("groups", [None, "permuted-rounds"])
def test_an_interval_over_other_groups_is_not_verified(theirs: Path, groups: str | None) -> None:
    """None is an older record's: its groups are consecutive clips, and nothing here makes them again."""
    edit(theirs, lambda content: fvd_of(content).update(jackknife_groups=groups))
    found = check(theirs)
    assert found.name == "scores"
    assert f"over groups of {groups or 'consecutive clips'}, and must be over permuted-clips" in (
        found.fault or ""
    )


def test_what_another_machine_may_be_off_is_no_fault(theirs: Path) -> None:
    def otherwise_rounded(content: dict[str, Any]) -> None:
        for score in content["scores"]:
            score["value"] *= 1 + 3e-4

    edit(theirs, otherwise_rounded)
    assert check(theirs).fault is None


def forge(folder: Path, change: Callable[[np.ndarray, int], np.ndarray]) -> None:
    """Change stored features; `change` gets the features of a block and the index of its first clip."""
    archive = Archive(folder / "samples")
    places = {archive.entry(index).sha256: index for index in range(len(archive))}
    for path in (folder / "features").glob("*.safetensors"):
        with open_arrays(path) as stored:
            first = places[stored.facts["digests"][0]]
            arrays = {name: change(stored.read(name), first) for name in stored.shapes}
            data = save_arrays(arrays, stored.facts)
        path.write_bytes(data)


def test_features_that_are_not_those_of_the_clips_are_found(theirs: Path) -> None:
    """A cheat that is consistent in itself: better features, and the scores that follow from them."""
    forge(theirs, lambda values, first: values * np.float32(1.01))
    found = check(theirs)
    assert found.name == "features"
    assert "the stored features are not those of the clips: 10 of 100 clips computed again" in (found.fault or "")


def test_a_share_may_miss_what_all_of_them_show(theirs: Path) -> None:
    """What docs/submissions.md says of a share: features of a few clips may be forged and not be found."""

    def of_one(index: int) -> Callable[[np.ndarray, int], np.ndarray]:
        def change(values: np.ndarray, first: int) -> np.ndarray:
            changed = values.copy()
            if first <= index < first + len(values):
                changed[index - first] += np.float32(1e-3)
            return changed

        return change

    chosen = set(np.random.default_rng(3).choice(COUNT, 10, replace=False).tolist())
    forge(theirs, of_one(min(set(range(COUNT)) - chosen)))
    assert check(theirs).fault is None
    assert check(theirs, share=1.0).name == "features"
    shutil.rmtree(theirs / "features")
    assert check(theirs).fault is None


def test_one_clip_far_away_hides_nothing(theirs: Path) -> None:
    """It would make any spread large; an inception score hardly sees it."""
    hidden = min(set(range(COUNT)) - set(np.random.default_rng(3).choice(COUNT, 10, replace=False).tolist()))

    def change(values: np.ndarray, first: int) -> np.ndarray:
        changed = values * np.float32(1.01)
        if first <= hidden < first + len(values):
            changed[hidden - first] = 1e8
        return changed

    forge(theirs, change)
    assert check(theirs).name == "features"


@pytest.mark.parametrize(
    "change",
    [
        lambda values, first: np.full_like(values, np.nan),
        lambda values, first: values[:, :-1],
        lambda values, first: values[: len(values) // 2],
        lambda values, first: values.astype(np.float64),
    ],
)
def test_stored_features_that_are_no_use_are_computed_again(
    theirs: Path, change: Callable[[np.ndarray, int], np.ndarray]
) -> None:
    forge(theirs, lambda values, first: np.ascontiguousarray(change(values, first)))
    (theirs / "features" / "a.safetensors").write_bytes(b"no features")
    assert check(theirs).fault is None
    assert note_of(theirs).computed_again > 50


# Clips that are not those that were scored


def test_one_changed_pixel_is_found_before_anything_is_computed(theirs: Path) -> None:
    path, archive = theirs / "samples" / "shard-000001.npy", Archive(theirs / "samples")
    clips = [archive[index] for index in range(64, len(archive))]
    clips[3] = replace(clips[3], frames=clips[3].frames ^ (np.indices((16, 32, 32, 3)).sum(axis=0) == 0))
    pixels = np.stack([clip.frames for clip in clips])
    np.save(path, pixels)
    found = check(theirs)
    assert found.name == "clips"
    assert found.fault is not None
    assert found.fault.startswith("the 99 clips in ")
    assert f"; {path}: clip 3 (67): its pixels are not those that were written (SHA-256 differs)" in found.fault
    ArchiveWriter(theirs / "samples", (16, 32, 32)).write_shard(1, clips)  # a list that agrees with it
    found = check(theirs)
    assert found.name == "clips"
    assert found.fault is not None
    assert found.fault.startswith("the 100 clips in ")
    assert "are not the 100 that were scored" in found.fault


def test_the_same_clips_in_another_order_are_others(theirs: Path, tmp_path: Path) -> None:
    archive = Archive(theirs / "samples")
    for name, order in (("same", range(COUNT)), ("turned", reversed(range(COUNT)))):
        clips = [archive[index] for index in order]
        writer = ArchiveWriter(tmp_path / name, archive.shape)
        writer.write_shard(0, clips[:64])
        writer.write_shard(1, clips[64:])
    assert check(theirs, tmp_path / "same").fault is None
    assert check(theirs, tmp_path / "turned").name == "clips"


def test_a_record_without_a_digest_of_its_clips_cannot_be_verified(theirs: Path) -> None:
    edit(theirs, lambda content: content["generated"].pop("digest"))
    found = check(theirs)
    assert (found.name, found.fault) == (
        "clips",
        "the record has no digest of its clips; run it again with this version",
    )


# Signatures that are not those of the protocol


def signed_as(key: str, value: str, place: int = 0) -> Edit:
    def change(content: dict[str, Any]) -> None:
        score = content["scores"][place]
        signature = Signature.parse(score["signature"])
        other = Signature.of(signature.metric, {**dict(signature.fields), key: value})
        score.update(signature=str(other), digest=other.digest)

    return change


@pytest.mark.parametrize(
    ("change", "name", "words"),
    [
        (
            signed_as("net", "i3d-k400@fa7df956:logits"),
            "signatures",
            "is signed net:i3d-k400@fa7df956:logits, and",
        ),
        (signed_as("task", "class"), "signatures", "task:class, and must be task:unconditional"),
        (signed_as("src", "lossy"), "signatures", "src:lossy, and must be src:lossless"),
        (signed_as("prec", "bf16"), "signatures", "not signed with one precision"),
        (signed_as("prec", "fp8"), "signatures", "not signed with one precision"),
        (
            lambda content: content["scores"].pop(),
            "signatures",
            "embedded/is is missing; it belongs to the protocol",
        ),
        (
            lambda content: content["protocol"].update(digest="0" * 12),
            "protocol",
            "the record is of shapes-unconditional with the digest 000000000000, and that of",
        ),
        (
            lambda content: content["protocol"].update(departures=[]),
            "counts",
            "a departure from the protocol is not in the record: 100 of 1024 clips given",
        ),
        (
            lambda content: content["generated"].update(lossy=True),
            "counts",
            "generated.lossy is True, and must be",
        ),
        (
            lambda content: content["generated"].update(repeated=5),
            "counts",
            "generated.repeated is 5, and must be 0",
        ),
    ],
)
def test_what_is_not_of_the_protocol_is_found(theirs: Path, change: Edit, name: str, words: str) -> None:
    edit(theirs, change)
    found = check(theirs)
    assert found.name == name
    assert words in (found.fault or "")


def test_another_version_of_the_software_is_no_fault(theirs: Path) -> None:
    for place in (0, 1):
        edit(theirs, signed_as("v", "0.0.1", place))
    assert check(theirs).fault is None


# Other kinds of runs


def test_curves_are_compared_too(tmp_path: Path) -> None:
    run("shapes-prediction", out=tmp_path, sampler="blurred", limit=20)
    assert check(tmp_path, share=1.0).fault is None

    def smoother(content: dict[str, Any]) -> None:
        content["curves"]["psnr"]["values"][-1] += 0.5

    edit(tmp_path, smoother)
    assert "the curve of psnr is " in (check(tmp_path).fault or "")
    edit(tmp_path, lambda content: content["curves"].pop("psnr"))
    assert check(tmp_path).fault == "there are curves of ssim, and must be of psnr, ssim"


def test_lossy_clips_of_which_one_is_broken_are_verified_as_they_are(tmp_path: Path) -> None:
    clips = Shapes("test", seed=5)
    for index in range(24):
        write_clip(tmp_path / "videos" / f"{index:02}.mp4", clips[index].frames)
    (tmp_path / "videos" / "05.mp4").write_bytes(b"")
    folder = tmp_path / "run"
    run("shapes-unconditional", out=folder, clips=tmp_path / "videos", skip_broken=True)
    shutil.move(tmp_path / "videos", tmp_path / "sent")
    assert check(folder, tmp_path / "sent").fault is None
    assert note_of(folder).computed_again == 3
    (tmp_path / "sent" / "05.mp4").unlink()
    assert "generated.skipped lists 1 clips, and 0 cannot be read" in (
        check(folder, tmp_path / "sent").fault or ""
    )


def test_a_protocol_of_ones_own_is_given_as_a_file(theirs: Path, tmp_path: Path) -> None:
    own = tmp_path / "mine.toml"
    text = (ROOT / "vdm_bench/protocols/shapes-unconditional.toml").read_text()
    own.write_text(text.replace('"shapes-unconditional"', '"mine"').replace("1024", "70"))
    run(str(own), out=tmp_path / "mine", sampler="blurred")
    with pytest.raises(InputError, match="unknown protocol 'mine'"):
        check(tmp_path / "mine")
    assert check(tmp_path / "mine", protocol=str(own)).fault is None
    assert check(theirs, protocol=str(own)).name == "protocol"


# The command line


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["verify", *arguments])


def test_exit_codes_tell_verified_from_not_and_from_what_cannot_be_checked(theirs: Path, tmp_path: Path) -> None:
    samples = ["--samples", str(theirs), "--seed", "3"]
    good = call(str(theirs), *samples)
    assert good.exit_code == 0, good.output
    assert good.stdout.splitlines()[-1] == "verified"
    edit(theirs, better)
    bad = call(str(theirs / "run.json"), *samples)
    assert bad.exit_code == 1
    assert bad.stdout.splitlines()[-1] == "not verified: scores"
    (theirs / "run.json").write_text('{"schema_version": 1, "value": NaN}')
    invalid = call(str(theirs), *samples)
    assert invalid.exit_code == 1
    assert "is not a run record" in invalid.stdout
    for arguments, words in (
        ([str(tmp_path / "nowhere"), *samples], "nowhere cannot be read: no such file"),
        ([str(theirs), *samples, "--share", "0"], "--share"),
    ):
        result = call(*arguments)
        assert (result.exit_code, "Traceback" in result.output) == (2, False)
        assert words in result.stderr


def test_clips_must_be_there_and_the_record_follow_a_protocol(theirs: Path) -> None:
    with pytest.raises(InputError, match="nowhere does not exist"):
        check(theirs, theirs / "nowhere")
    edit(theirs, lambda content: content.update(protocol=None))
    with pytest.raises(InputError, match=r"follows no protocol, .*; verify records of `vdm-bench run`"):
        check(theirs)
