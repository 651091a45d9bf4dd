"""The short form of `tox run -e torture`, and that its judges see what is wrong."""

import random
from pathlib import Path

import pytest
from torture import kills, places, rot, surroundings
from torture.findings import BrokenPromiseError, Came, Finding, table
from torture.places import Place, Tree, first_difference
from torture.rot import Target
from torture.running import KINDS, Part, plan, tried
from torture.works import WRITERS, Work, two_sides

SCORE = ("score", "generated.npy", "--reference", "real.npy", "--metric", "embedded/fvd", "--workers", "1")

# `test_kills.py` kills runs; the rest is tried in full by the torture alone.
SHORT = (
    Part("kills", "score", (0, 1)),
    Part("kills", "check", (0, 1)),
    Part("rot", "run-features", (0, 10, 21)),
    Part("rot", "archive", (0, 1)),
    Part("rot", "record", (1, 2)),
    Part("races", "check", (0,)),
    Part("surroundings", "score", (1, 8, 21, 40)),
    Part("children", "all", (9,)),
)


@pytest.fixture(autouse=True)
def _few_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is trained here, and what training imports takes seconds."""
    monkeypatch.setattr(places, "PRELOAD", ())


@pytest.mark.parametrize("part", SHORT, ids=lambda part: part.name)
def test_what_is_promised_is_kept(part: Part, tmp_path: Path) -> None:
    failed = [
        finding for finding in tried(part, "0", tmp_path / "scratch").findings if finding.came is Came.FAILED
    ]
    assert not failed, "\n".join(f"{finding.case}: {finding.said}" for finding in failed)


def test_every_kind_has_cases_in_a_full_run_and_in_a_short_one() -> None:
    for scale in (1.0, 0.001):
        parts = plan(list(KINDS), scale)
        assert {part.kind for part in parts} == set(KINDS)
        assert all(part.numbers for part in parts)
    assert sum(len(part.numbers) for part in plan(["kills"], 1.0)) >= kills.MOST
    assert all(len(part.numbers) == rot.MOST for part in plan(["rot"], 1.0))


def test_rot_that_no_checksum_covers_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clip of the user's own is another clip: nothing tells but the score."""
    work = Work("unsealed", two_sides, (*SCORE, "--json"))
    monkeypatch.setattr(rot, "TARGETS", (Target(work, r"generated\.npy"),))
    group = rot.Group("unsealed", Place(tmp_path))
    with pytest.raises(BrokenPromiseError, match="is taken for sound: standard output is another"):
        group.judge("rot/unsealed/1", random.Random(1))


def test_what_a_kill_leaves_behind_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work("untidy", two_sides, (*SCORE, "--out", "scored"))
    monkeypatch.setattr(kills, "WRITERS", (work,))
    group = kills.Group("untidy", Place(tmp_path))
    (group.begun.files / ".left.part-1").touch()
    with pytest.raises(BrokenPromiseError, match=r"after a kill, \.left\.part-1 is left over"):
        group.judge("kills/untidy/0", random.Random(0))


def test_a_group_that_cannot_be_made_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "WRITERS", (Work("score", lambda folder: None, SCORE),))
    (finding,) = tried(Part("surroundings", "score", (0, 1)), "0", tmp_path / "scratch").findings
    assert finding.came is Came.FAILED
    assert "cannot be made" in finding.said


def test_totals_are_rows_of_a_table() -> None:
    findings = [
        Finding("rot/run/0", Came.REFUSED),
        Finding("rot/run/1", Came.AGAIN),
        Finding("fuzz/all/0", Came.SAME, times=1200),
        Finding("fuzz/all/0", Came.FAILED, "hangs", times=2),
    ]
    assert table(findings).splitlines()[2:] == [
        "| fuzz | 1,202 | 1,200 | 0 | 0 | 2 |",
        "| rot | 2 | 0 | 1 | 1 | 0 |",
        "| all | 1,204 | 1,200 | 1 | 1 | 2 |",
    ]


def test_a_place_is_put_back_in_the_inodes_and_times_it_had(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    kept, gone = tmp_path / "in/kept", tmp_path / "gone"
    kept.write_bytes(b"whole")
    gone.write_bytes(b"x")
    tree, before = Tree.of(tmp_path), kept.stat()
    kept.write_bytes(b"longer than it was")
    gone.unlink()
    (tmp_path / "new").mkdir()
    (tmp_path / "new/file").touch()
    tree.put_back(tmp_path)
    assert Tree.of(tmp_path) == tree
    assert (kept.stat().st_ino, kept.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_differences_are_named() -> None:
    assert first_difference({"a": 1}, {"a": 1}) is None
    assert first_difference({}, {"a": 1}) == "a is missing"
    assert first_difference({"a": 1, "b": 1}, {"a": 1}) == "b is left over"
    assert first_difference({"a": 2}, {"a": 1}) == "a is another: 2 for 1"


def test_names_of_verbs_and_targets_are_their_own() -> None:
    for names in ([work.name for work in WRITERS], [target.name for target in rot.TARGETS]):
        assert len(set(names)) == len(names)
    assert set(surroundings.ON) <= {work.name for work in WRITERS}
