"""Existing clips of other sizes are resized by the protocol's rule on request, and the run is marked."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vdm_bench import run
from vdm_bench.errors import InputError
from vdm_bench.protocols import Protocol, get_protocol
from vdm_bench.video.view import View


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path / "cache"))


def small(name: str = "shapes-unconditional", **fields: Any) -> Protocol:
    counts = {"generated_count": 6, "reference_count": 6, "metrics": ("embedded/fvd",)}
    return get_protocol(name).model_copy(
        update={"resize": "antialias", "aspect": "center-crop"} | counts | fields
    )


def put(path: Path, height: int, width: int, frames: int = 16) -> np.ndarray:
    clips = np.random.default_rng(0).integers(0, 256, (6, frames, height, width, 3), dtype=np.uint8)
    np.save(path, clips)
    return clips


def test_other_sizes_score_as_clips_resized_before(tmp_path: Path) -> None:
    clips = put(tmp_path / "wide.npy", 40, 64)
    view = View(16, size=(32, 32), rule="antialias", aspect="center-crop")
    np.save(tmp_path / "resized.npy", np.stack([view.resized(clip) for clip in clips]))
    fitted = run(small(), out=tmp_path / "fitted", clips=tmp_path / "wide.npy", fit=True)
    plain = run(small(), out=tmp_path / "plain", clips=tmp_path / "resized.npy")
    assert [score.value for score in fitted.scores] == [score.value for score in plain.scores]
    assert ["|view:antialias:center-crop|" in record.scores[0].signature for record in (fitted, plain)] == [
        True,
        False,
    ]
    assert fitted.protocol is not None
    assert fitted.protocol.departures == ["given clips resized to 32x32 by antialias, center-crop"]
    assert (fitted.sampler.settings, plain.sampler.settings) == ({"fit": True}, {})
    assert run(small(), out=tmp_path / "fitted", clips=tmp_path / "wide.npy", fit=True) == fitted


def test_without_the_option_they_are_refused_with_the_way_out(tmp_path: Path) -> None:
    put(tmp_path / "wide.npy", 40, 64)
    with pytest.raises(InputError, match=r"give `fit` to resize them by its rule \(antialias, center-crop\)"):
        run(small(), out=tmp_path / "run", clips=tmp_path / "wide.npy")


def test_a_fitted_run_and_a_plain_one_are_different_runs(tmp_path: Path) -> None:
    put(tmp_path / "clips.npy", 32, 32)
    run(small(), out=tmp_path / "run", clips=tmp_path / "clips.npy")
    with pytest.raises(InputError, match=r"holds a run with another sampler\.settings"):
        run(small(), out=tmp_path / "run", clips=tmp_path / "clips.npy", fit=True)


@pytest.mark.parametrize(
    ("protocol", "arguments", "message"),
    [
        (
            small("shapes-prediction"),
            {"clips": "wide.npy"},
            "is a prediction, whose clips begin with given frames",
        ),
        (small(resize=None), {"clips": "wide.npy"}, "has no rule to resize by; resize the clips to 32x32"),
        (small(), {"sampler": "noise"}, "`fit` works only with `clips`"),
        (small(), {"clips": "short.npy"}, "has 8 frames, 16 are needed"),
    ],
    ids=["prediction", "no rule", "sampler", "short"],
)
def test_what_cannot_be_fitted_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: Protocol, arguments: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    put(Path("wide.npy"), 40, 64)
    put(Path("short.npy"), 32, 32, frames=8)
    with pytest.raises(InputError, match=message):
        run(protocol, out="run", fit=True, **arguments)
