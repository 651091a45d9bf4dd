"""`vdm-bench data`: what is there, and clips that are prepared once."""

import json
import shutil
from pathlib import Path

import miniatures
import numpy as np
import pytest
from click.testing import CliRunner, Result
from paths import ROOT

from vdm_bench import run
from vdm_bench.cli import cli
from vdm_bench.datasets.windows import WindowedClips
from vdm_bench.errors import InputError
from vdm_bench.protocols import Protocol, get_protocol
from vdm_bench.protocols import prepare as preparing
from vdm_bench.protocols.clips import open_dataset
from vdm_bench.runtime.progress import Silent
from vdm_bench.video import archive
from vdm_bench.video.archive import Archive
from vdm_bench.video.clip import Clip


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, list(map(str, arguments)))


def small(name: str, **counts: object) -> Protocol:
    return get_protocol(name).model_copy(update={"metrics": ("embedded/fvd",), **counts})


def write_protocol(path: Path, protocol: Protocol) -> Path:
    """As a TOML file."""
    content = protocol.model_dump(mode="json", exclude_defaults=True)

    def value(item: object) -> str:
        if isinstance(item, dict):
            return "{ " + ", ".join(f"{key} = {value(inner)}" for key, inner in item.items()) + " }"
        return json.dumps(item)

    path.write_text("\n".join(f"{key} = {value(item)}" for key, item in content.items()))
    return path


@pytest.fixture
def kinetics(tmp_path: Path) -> tuple[Path, Path]:
    """A protocol of four videos, and data of which one video is missing."""
    root = miniatures.write_kinetics600(tmp_path / "data", count=3, missing=1)
    protocol = small("kinetics600-prediction", reference_count=4, generated_count=4)
    return root, write_protocol(tmp_path / "small.toml", protocol)


def test_check_says_what_is_missing(kinetics: tuple[Path, Path]) -> None:
    root, protocol = kinetics
    result = call("data", "check", protocol, "--data-root", root)
    assert result.exit_code == 3
    assert result.stdout.splitlines() == [
        "reference: kinetics600/test/random-seed0: 3 of 4 videos (75.0%), 3 of 4 clips",
        "  missing: id-3_000003_000013",
        "conditions: kinetics600/test/random-seed0: 3 of 4 videos (75.0%), 3 of 4 clips",
        "  missing: id-3_000003_000013",
    ]
    assert result.stderr == (
        "Error: the data of kinetics600-prediction are not complete; a run will be marked and ranked separately\n"
    )


def test_check_reads_every_clip_if_asked(kinetics: tuple[Path, Path]) -> None:
    root, protocol = kinetics
    video = next((root / "test").rglob("id-1_*"))
    video.write_bytes(video.read_bytes()[:700])
    result = call("data", "check", protocol, "--data-root", root, "--decode", "--json")
    assert result.exit_code == 3
    sides = json.loads(result.stdout)
    assert [(side["side"], side["complete"], len(side["broken"])) for side in sides] == [
        ("reference", False, 1),
        ("conditions", False, 1),
    ]
    assert sides[0]["broken"][0][0] == str(video)


def test_check_of_complete_data(tmp_path: Path) -> None:
    root = miniatures.write_ucf101(tmp_path / "data")
    protocol = write_protocol(tmp_path / "p.toml", small("ucf101-class", reference_count=2, generated_count=2))
    result = call("data", "check", protocol, "--data-root", root)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "complete: the counts are the protocol's (--decode reads every clip)"
    result = call("data", "check", "shapes-prediction")
    assert result.stdout.splitlines()[0] == "reference: shapes-v1/test/seed0: 1,024 of 1,024 clips"
    assert result.exit_code == 0


def test_a_wrong_tree_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    result = call("data", "check", "ucf101-class", "--data-root", tmp_path)
    assert result.exit_code == 2
    assert "holds no UCF101: expected UCF-101/<class>/v_<class>_gNN_cNN.avi and ucfTrainTestlist" in result.stderr
    result = call("data", "prepare", "ucf101-class")
    assert (result.exit_code, result.stderr) == (
        2,
        "Error: ucf101-class needs the dataset ucf101; give --data-root DIR, the folder it lies in "
        "(`vdm-bench data where ucf101-class` says where to get it)\n",
    )
    result = call("data", "prepare", "ucf101-class", "--data-root", tmp_path / "nowhere")
    assert "nowhere is not a folder; give the one that holds ucf101" in result.stderr
    assert not (tmp_path / "nowhere").exists()
    for root in ((), ("--data-root", tmp_path)):
        result = call("data", "prepare", "shapes-class", *root)
        assert (result.exit_code, "needs no preparation" in result.stderr) == (2, True)
    assert "unknown protocol 'nope'" in call("data", "prepare", "nope").stderr


def test_where_says_where_the_data_are_and_under_which_licence() -> None:
    text = call("data", "where").stdout
    for words in ("https://www.crcv.ucf.edu/data/UCF101.php", "CC BY 4.0", "softmotion30_44k", "captions.jsonl"):
        assert words in text
    assert "`vdm-bench data where PROTOCOL`" in " ".join(call("data", "check", "--help").stdout.split())


def test_where_takes_protocols_and_datasets() -> None:
    bair = call("data", "where", "bair-prediction").stdout
    assert (bair.startswith("bair: "), "softmotion30_44k" in bair, "UCF101" in bair) == (True, True, False)
    assert call("data", "where", "bair").stdout == bair
    assert call("data", "where", "shapes-class").stdout.splitlines()[1:] == ["  needs no data"]
    wrong = call("data", "where", "nope")
    assert (wrong.exit_code, "unknown protocol 'nope'" in wrong.stderr) == (2, True)


def test_prepared_clips_score_as_the_data_they_are_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path / "cache"))
    root = miniatures.write_kinetics600(tmp_path / "data", count=4)
    # Another view for the conditions, so that there are two archives.
    protocol = small(
        "kinetics600-prediction", reference_count=4, generated_count=4, generated_resolution=32, resolution=64
    )
    path = write_protocol(tmp_path / "p.toml", protocol)
    result = call("data", "prepare", path, "--data-root", root, "--out", tmp_path / "made")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert len(lines) == 2
    assert all(line.endswith(": 4 of 4 clips of kinetics600/test/random-seed0") for line in lines)
    direct = run(protocol, out=tmp_path / "a", sampler="blurred", data_root=root)
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path / "cache2"))
    prepared = run(protocol, out=tmp_path / "b", sampler="blurred", data_root=tmp_path / "made")
    assert prepared.scores == direct.scores
    assert prepared.protocol == direct.protocol
    assert prepared.reference.lossy


def test_labels_and_captions_are_prepared_too(tmp_path: Path) -> None:
    root = miniatures.write_captioned(tmp_path / "data")
    protocol = small("text-video", reference_count=4, generated_count=4)
    (made,) = preparing.prepare(protocol, root, root, workers=2, skip_broken=False, reporter=Silent())
    clips = open_dataset(protocol, protocol.conditions, root)
    assert not isinstance(clips, WindowedClips)  # an archive, although the videos lie beside it
    captions = {miniatures.clips(4, 24).info(i).caption for i in range(4)}
    assert {clips.info(i).caption for i in range(4)} == captions
    assert made.folder.parent == root


class InterruptedHereError(Exception):
    pass


def test_what_was_interrupted_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each clip in turn; every archive ends with the same bytes, and no clip of a full shard is read again."""
    for module in (preparing, archive):
        monkeypatch.setattr(module, "SHARD_CLIPS", 2)
    root = miniatures.write_kinetics600(tmp_path / "data", count=5)
    video = next((root / "test").rglob("id-2_*"))
    video.write_bytes(video.read_bytes()[:700])
    protocol = small("kinetics600-prediction", reference_count=5, generated_count=5)
    read: list[int] = []
    stop_at = -1
    original = WindowedClips.__getitem__

    def reading(self: WindowedClips, index: int) -> Clip:
        if index == stop_at:
            raise InterruptedHereError
        read.append(index)
        return original(self, index)

    monkeypatch.setattr(WindowedClips, "__getitem__", reading)
    monkeypatch.setattr(preparing, "sample_of", lambda rows: [])  # what is there is read again for its sake alone

    def make(out: Path) -> preparing.PreparedClips:
        (made,) = preparing.prepare(protocol, root, out, workers=1, skip_broken=True, reporter=Silent())
        return made

    whole = make(tmp_path / "whole")
    assert (whole.clips, len(whole.broken)) == (4, 1)
    for moment in range(5):
        stop_at = moment
        with pytest.raises(InterruptedHereError):
            make(tmp_path / str(moment))
        stop_at = -1
        read.clear()
        again = make(tmp_path / str(moment))
        assert (again.clips, again.broken) == (whole.clips, whole.broken)
        assert min(read) >= moment - 2
        files = sorted(path.relative_to(whole.folder) for path in whole.folder.iterdir())
        assert files == sorted(path.relative_to(again.folder) for path in again.folder.iterdir())
        for file in files:
            assert (again.folder / file).read_bytes() == (whole.folder / file).read_bytes()
        read.clear()
        make(tmp_path / str(moment))
        assert read == []


def test_broken_clips_end_it_unless_they_may_be_left_out(tmp_path: Path) -> None:
    root = miniatures.write_kinetics600(tmp_path / "data", count=3)
    video = next((root / "test").rglob("id-0_*"))
    video.write_bytes(b"")
    protocol = write_protocol(
        tmp_path / "p.toml", small("kinetics600-prediction", reference_count=3, generated_count=3)
    )
    command = ("data", "prepare", protocol, "--data-root", root)
    result = call(*command)
    assert result.exit_code == 2
    assert f"{video}: is empty (0 bytes); fix the file, or pass --skip-broken" in result.stderr
    result = call(*command, "--skip-broken")
    assert result.exit_code == 0
    assert "2 of 3 clips of kinetics600" in result.stdout
    assert f"  broken: {video} (is empty (0 bytes))" in result.stdout
    record = run(str(protocol), out=tmp_path / "run", sampler="real", data_root=root)
    assert record.protocol is not None
    assert record.protocol.departures == ["2 of 3 conditions", "2 of 3 reference clips"]


def test_data_without_a_single_sound_clip_are_refused(tmp_path: Path) -> None:
    root = miniatures.write_kinetics600(tmp_path / "data", count=1)
    next((root / "test").rglob("id-0_*")).write_bytes(b"")
    protocol = write_protocol(
        tmp_path / "p.toml", small("kinetics600-prediction", reference_count=2, generated_count=2)
    )
    result = call("data", "prepare", protocol, "--data-root", root, "--skip-broken")
    assert result.exit_code == 2
    assert "not one clip of kinetics600/test/random-seed0 could be read" in result.stderr


def test_a_larger_protocol_adds_to_what_a_smaller_one_prepared(tmp_path: Path) -> None:
    root, out = miniatures.write_kinetics600(tmp_path / "data", count=4), tmp_path / "made"

    def make(count: int) -> preparing.PreparedClips:
        protocol = small("kinetics600-prediction", reference_count=count, generated_count=count)
        (made,) = preparing.prepare(protocol, root, out, workers=2, skip_broken=False, reporter=Silent())
        return made

    few, many = make(2), make(4)
    assert few.folder == many.folder
    assert (few.clips, many.clips, len(Archive(many.folder))) == (2, 4, 4)
    assert make(3).clips == 4
    pixels = [Archive(many.folder)[i].frames for i in range(4)]
    direct = get_protocol("kinetics600-prediction")
    clips = open_dataset(direct, direct.reference, root)
    assert all(np.array_equal(pixels[i], clips[i].frames) for i in range(4))


def test_a_broken_clip_is_listed_once_where_an_archive_becomes_longer(tmp_path: Path) -> None:
    root = miniatures.write_kinetics600(tmp_path / "data", count=4)
    whole = get_protocol("kinetics600-prediction")
    first = open_dataset(whole, whole.reference, root).info(0).key
    next((root / "test").rglob(f"{first}*")).write_bytes(b"")
    for count in (2, 4):
        protocol = small("kinetics600-prediction", reference_count=count, generated_count=count)
        (made,) = preparing.prepare(protocol, root, root, workers=2, skip_broken=True, reporter=Silent())
        assert (made.clips, len(made.broken)) == (count - 1, 1)


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    root = miniatures.write_kinetics600(tmp_path / "data", count=2)
    protocol = small("kinetics600-prediction", reference_count=2, generated_count=2)
    (made,) = preparing.prepare(protocol, root, root, workers=1, skip_broken=False, reporter=Silent())
    (made.folder / "prepared.json").write_text("{}")
    message = r"prepared.json is damaged: its field 'wanted' is missing; delete .*clips-\w+ and prepare it again"
    with pytest.raises(InputError, match=message):
        open_dataset(protocol, protocol.reference, root)
    with pytest.raises(InputError, match=message):
        preparing.prepare(protocol, root, root, workers=1, skip_broken=False, reporter=Silent())


def test_the_fields_of_check_are_those_that_the_docs_describe(kinetics: tuple[Path, Path]) -> None:
    root, protocol = kinetics
    result = call("data", "check", protocol, "--data-root", root, "--json")
    page = (ROOT / "docs" / "runs.md").read_text("utf-8")
    table = page.split("`data check --json` prints")[1].split("\n\n")[1]
    described = [line.split("`")[1] for line in table.splitlines()[2:]]
    assert [list(side) for side in json.loads(result.stdout)] == [described, described]


# Sets of which some videos are missing


def incomplete(name: str, root: Path) -> tuple[str, list[str]]:
    """Write four videos of a dataset; take the second, or a folder of a class, away; name what is missing."""
    if name == "kinetics600-prediction":
        miniatures.write_kinetics600(root)
        next((root / "test").rglob("id-1_*")).unlink()
        return "1 of 4 videos of kinetics600/test are missing", ["id-1_000001_000011"]
    if name == "text-video":
        miniatures.write_captioned(root)
        (root / "test/video1.mp4").unlink()
        return "1 of 4 videos of captioned/test are missing", ["video1.mp4"]
    miniatures.write_ucf101(root, count=8)
    shutil.rmtree(root / "UCF-101/HandstandPushups")
    gone = [f"HandstandPushups/v_HandStandPushups_g{number:02}_c01.avi" for number in (1, 3)]
    return "2 of 4 videos of ucf101/train are missing", gone


@pytest.mark.parametrize("name", ["kinetics600-prediction", "text-video", "ucf101-class"])
def test_a_set_without_some_of_its_videos_runs_as_a_marked_departure(tmp_path: Path, name: str) -> None:
    """Although the videos that are there give enough clips: the protocol's are cut out of all videos."""
    departure, gone = incomplete(name, tmp_path / "data")
    path = write_protocol(tmp_path / "p.toml", small(name, reference_count=2, generated_count=2))
    checked = call("data", "check", path, "--data-root", tmp_path / "data")
    assert checked.exit_code == 3
    assert checked.stdout.splitlines()[1] == f"  missing: {', '.join(gone)}"
    as_json = call("data", "check", path, "--data-root", tmp_path / "data", "--json")
    assert as_json.exit_code == 3
    assert as_json.stderr == checked.stderr
    assert [side["missing"] for side in json.loads(as_json.stdout)] == [gone, gone]
    record = run(str(path), out=tmp_path / "run", sampler="noise", data_root=tmp_path / "data")
    assert record.protocol is not None
    assert record.protocol.departures == [departure]
    assert f"departs from its protocol: {departure}" in call("report", tmp_path / "run").stdout


@pytest.mark.parametrize("name", ["text-video", "ucf101-class"])
def test_a_set_without_any_of_its_videos_is_refused(tmp_path: Path, name: str) -> None:
    root = tmp_path / "data"
    miniatures.write_captioned(root) if name == "text-video" else miniatures.write_ucf101(root)
    for video in [*root.rglob("*g00_c01.avi"), *root.rglob("*g01_c01.avi"), *root.rglob("*.mp4")]:
        video.unlink()
    for form in ((), ("--json",)):
        result = call("data", "check", name, "--data-root", root, *form)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith("Error: none of the ")
        assert result.stderr.count("\n") == 1


def test_what_was_missing_when_clips_were_prepared_is_remembered(tmp_path: Path) -> None:
    departure, gone = incomplete("ucf101-class", tmp_path / "data")
    path = write_protocol(tmp_path / "p.toml", small("ucf101-class", reference_count=2, generated_count=2))
    made = call("data", "prepare", path, "--data-root", tmp_path / "data", "--out", tmp_path / "made")
    assert f"  missing: {', '.join(gone)}" in made.stdout
    checked = call("data", "check", path, "--data-root", tmp_path / "made")
    assert (checked.exit_code, checked.stdout.splitlines()[1]) == (3, f"  missing: {', '.join(gone)}")
    record = run(str(path), out=tmp_path / "run", sampler="noise", data_root=tmp_path / "made")
    assert record.protocol is not None
    assert record.protocol.departures == [departure]


def test_an_archive_is_not_gone_on_with_from_other_videos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (preparing, archive):
        monkeypatch.setattr(module, "SHARD_CLIPS", 2)
    root, kept = tmp_path / "data", tmp_path / "kept.mp4"
    miniatures.write_captioned(root)
    (root / "test/video1.mp4").rename(kept)

    def make(count: int) -> preparing.PreparedClips:
        protocol = small("text-video", reference_count=count, generated_count=count)
        (made,) = preparing.prepare(protocol, root, root, workers=1, skip_broken=False, reporter=Silent())
        return made

    assert make(2).missing == ("video1.mp4",)
    assert make(3).clips == 3
    kept.rename(root / "test/video1.mp4")
    with pytest.raises(InputError, match=r", set of missing videos \(\['video1.mp4'\] and not \[\]\); delete"):
        make(4)


def test_a_run_is_not_gone_on_with_after_other_videos_have_come(tmp_path: Path) -> None:
    root, kept = tmp_path / "data", tmp_path / "kept.mp4"
    miniatures.write_captioned(root)
    protocol = small("text-video", reference_count=3, generated_count=3)
    (root / "test/video2.mp4").rename(kept)
    run(protocol, out=tmp_path / "run", sampler="noise", data_root=root)
    run(protocol, out=tmp_path / "run", sampler="noise", data_root=root)
    kept.rename(root / "test/video2.mp4")
    with pytest.raises(InputError, match="holds a run with another set of missing videos; choose another `out`"):
        run(protocol, out=tmp_path / "run", sampler="noise", data_root=root)


def test_features_of_an_incomplete_reference_carry_the_departure(tmp_path: Path) -> None:
    departure, _ = incomplete("ucf101-class", tmp_path / "data")
    path = write_protocol(tmp_path / "p.toml", small("ucf101-class", reference_count=2, generated_count=2))
    stats = tmp_path / "r.safetensors"
    made = call("data", "export-reference", path, "--data-root", tmp_path / "data", "--out", stats)
    assert departure in made.stderr
    np.save(tmp_path / "clips.npy", np.stack([miniatures.clips(2, 16)[index].frames for index in range(2)]))
    record = run(str(path), out=tmp_path / "run", clips=tmp_path / "clips.npy", reference_stats=stats)
    assert record.protocol is not None
    assert record.protocol.departures == [departure]


def test_a_missing_optional_column_is_said_once(tmp_path: Path) -> None:
    root = miniatures.write_captioned(tmp_path / "data")
    protocol = small("text-video", reference_count=2, generated_count=2)
    path = write_protocol(tmp_path / "p.toml", protocol)
    note = f"{root / 'test/captions.csv'} has no column label: its videos have no labels"
    checked = call("data", "check", path, "--data-root", root)
    assert (checked.exit_code, checked.stdout.splitlines()[1]) == (0, f"  note: {note}")
    ran = call("run", path, "--data-root", root, "--sampler", "noise", "--out", tmp_path / "run")
    assert ran.exit_code == 0, ran.output
    assert ran.stderr.splitlines().count(note) == 1
