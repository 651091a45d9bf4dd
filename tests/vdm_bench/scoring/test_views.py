"""How clips are sampled and resized as they are read is signed: two rules are two digests."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from vdm_bench.cli import cli
from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.leaderboards.checks.compare import compare_records
from vdm_bench.leaderboards.record import Record
from vdm_bench.metrics.resize import fit
from vdm_bench.scoring.explain import explain
from vdm_bench.scoring.score import ScoreOptions, score_record
from vdm_bench.video.view import View

METRICS = ("embedded/fvd", "embedded/is")


def clips(seed: int, side: int, count: int = 4, frames: int = 16) -> NDArray[np.uint8]:
    return np.stack([Shapes("test", seed=seed, frames=frames, resolution=side)[i].frames for i in range(count)])


def run(generated: Any, reference: Any, out: Path | None = None, **view: Any) -> Record:
    return score_record(generated, reference, ScoreOptions(metrics=METRICS, view=View(**view), out=out))


RULES: list[dict[str, Any]] = [
    {"size": (32, 32), "rule": "antialias"},
    {"size": (32, 32), "rule": "tf1-bilinear"},
    {"size": (32, 32), "rule": "antialias", "aspect": "center-crop"},
]


@pytest.mark.parametrize(("generated", "reference"), [(64, 32), (32, 64), (64, 64)])
def test_rules_of_resizing_are_not_comparable(generated: int, reference: int) -> None:
    """Whichever side is resized; the inception score depends on the generated side alone."""
    sides = clips(1, generated), clips(2, reference)
    records = [run(*sides, **rule) for rule in RULES]
    for metric in range(len(METRICS)):
        assert len({record.scores[metric].digest for record in records}) == len(RULES)
    assert {found.verdict for found in compare_records(*records[:2])} == {"not comparable"}
    if generated != 32:
        assert len({record.scores[1].value for record in records[:2]}) == 2


def test_a_stride_is_signed_where_the_content_of_the_reference_is_not() -> None:
    still, moving = clips(2, 32)[:, :1].repeat(16, axis=1), clips(1, 32)
    first, second = (run(moving, still, frames=8, stride=stride) for stride in (1, 2))
    assert first.reference.digest == second.reference.digest
    assert [score.value for score in first.scores] != [score.value for score in second.scores]
    assert {found.reason for found in compare_records(first, second)} == {"view (none) v stride2"}


def test_signatures_without_a_stride_or_a_size_are_as_before() -> None:
    record = run(clips(1, 32), clips(2, 32), frames=8)
    assert all("|view:" not in score.signature for score in record.scores)
    assert record.scores[1].signature.startswith("embedded/is|net:embedded@00ca9137:logits|in:8x32x32>32:")


def test_the_signed_rule_is_the_one_that_made_the_pixels() -> None:
    """Resized beforehand by the same function, the same clips have the same value without a view."""
    import torch

    large, real = clips(1, 64), clips(2, 32)
    planes = torch.from_numpy(large).movedim(-1, 2).reshape(-1, 64, 64)
    small = fit(planes, (32, 32), "antialias", "stretch").round_().clamp_(0, 255).to(torch.uint8)
    by_hand = small.reshape(4, 16, 3, 32, 32).movedim(2, -1).numpy()
    viewed = run(large, real, size=(32, 32), rule="antialias")
    assert [score.value for score in viewed.scores] == [score.value for score in run(by_hand, real).scores]
    assert all("|view:antialias:stretch|" in score.signature for score in viewed.scores)


def test_explained_steps_are_signed_alike() -> None:
    options = ScoreOptions(view=View(size=(32, 32), rule="half-pixel"))
    found = explain(clips(1, 64), clips(2, 32), "embedded/fvd", "embedded/fvd", options)
    assert "|view:half-pixel:stretch|" in found.start.signature


def test_sides_of_different_shapes_are_marked() -> None:
    record = run(clips(1, 64), clips(2, 32))
    mark = "generated clips are 16 frames of 64x64, reference clips 16 frames of 32x32"
    assert [mark in score.marks for score in record.scores] == [True, False]
    assert "|in:16x64x64/16x32x32>" in record.scores[0].signature


def test_compare_refuses_two_rules_of_the_command_line(tmp_path: Path) -> None:
    np.save(tmp_path / "generated.npy", clips(1, 64))
    np.save(tmp_path / "real.npy", clips(2, 32))
    for rule in ("antialias", "tf1-bilinear"):
        sides = [str(tmp_path / "generated.npy"), "--reference", str(tmp_path / "real.npy")]
        rest = ["--metric", "embedded/fvd", "--size", "32", "--resize", rule, "--out", str(tmp_path / rule)]
        assert CliRunner().invoke(cli, ["score", *sides, *rest]).exit_code == 0
    compared = CliRunner().invoke(cli, ["compare", str(tmp_path / "antialias"), str(tmp_path / "tf1-bilinear")])
    assert compared.exit_code == 3
    assert "view antialias:stretch v tf1-bilinear:stretch" in " ".join(compared.stdout.split())
