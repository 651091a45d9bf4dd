"""Metrics on pretrained networks as users meet them, on weights made by recipe."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from recipe_weights import GOLDEN, i3d_shapes, i3d_weights
from safetensors.numpy import save_file

from vdm_bench.cli import cli
from vdm_bench.datasets.in_memory import ArrayDataset
from vdm_bench.metrics import frechet_distance
from vdm_bench.scoring import score as comparison
from vdm_bench.video.clip import Clip

SETS = np.load(GOLDEN / "i3d" / "fvd_golden.npz")
FVD = json.loads((GOLDEN / "i3d" / "fvd_golden.json").read_text())["P_Q"]["nuclear"]["fvd"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips, and weights for `--weights`."""
    folder = tmp_path_factory.mktemp("metrics")
    save_file(i3d_weights(i3d_shapes()), folder / "i3d.safetensors")
    for side in "PQ":
        np.save(folder / f"{side}.npy", SETS[side])
    for side in "PQ":
        np.save(folder / f"six-{side}.npy", SETS[side][:6])
    np.save(folder / "few.npy", SETS["P"][:2])
    np.save(folder / "short.npy", SETS["P"][:2, :8])
    np.save(folder / "wide.npy", np.concatenate([SETS["P"][:2], SETS["Q"][:2]], axis=3))
    np.save(folder / "wide2.npy", np.concatenate([SETS["Q"][2:4], SETS["P"][2:4]], axis=3))
    return folder


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("VDM_BENCH_CACHE", str(folder / "cache"))


def call(text: str) -> Result:
    return CliRunner().invoke(cli, text.split())


def score(text: str) -> list[dict[str, object]]:
    result = call(f"score {text} --weights i3d-k400=i3d.safetensors --json")
    assert result.exit_code == 0, result.output
    scores: list[dict[str, object]] = json.loads(result.stdout)["scores"]
    return scores


@pytest.mark.slow
def test_fvd_is_the_number_of_the_original_graph() -> None:
    (scored,) = score("Q.npy --reference P.npy --metric fvd")
    assert scored["value"] == pytest.approx(FVD, rel=1e-5)


def test_fvd_is_that_of_the_original_graph_and_clips_are_decoded_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoded = []

    class Watched(ArrayDataset):
        notes = ()

        def __getitem__(self, index: int) -> Clip:
            decoded.append(index)
            return super().__getitem__(index)

    monkeypatch.setattr(
        comparison, "open_clips", lambda path, view, strips: Watched(np.load(path, allow_pickle=False))
    )
    metrics = "--metric fvd --metric kvd --metric fvd/half-pixel --metric prdc"
    scores = score(f"six-Q.npy --reference six-P.npy {metrics}")
    by_name = {item["metric"]: item for item in scores}
    expected = frechet_distance(SETS["feat_P"][:6], SETS["feat_Q"][:6])
    assert by_name["fvd"]["value"] == pytest.approx(expected, rel=1e-5)
    signature = str(by_name["fvd"]["signature"])
    assert signature.startswith("fvd|net:i3d-k400@")
    assert ":logits|in:16x64x64>224:tf1-bilinear:stretch|" in signature
    assert signature.endswith("|cov:n-1|root:factor|prec:fp32|v:0.1.0")
    assert ">224:half-pixel:stretch|" in str(by_name["fvd/half-pixel"]["signature"])
    assert "|kernel:poly-d3-c1-unbiased|" in str(by_name["kvd"]["signature"])
    assert {f"prdc/{name}" for name in ("precision", "recall", "density", "coverage")} < set(by_name)
    # The first clip of each side shows its shape before anything is computed.
    assert sorted(decoded) == sorted(2 * [0, *range(6)])
    assert by_name["fvd"]["infinite"] is None  # 6 clips say nothing about infinitely many


def test_explain_walks_from_one_recipe_to_another() -> None:
    command = (
        "explain wide.npy --reference wide2.npy --from fvd --to fvd/stylegan-v --weights i3d-k400=i3d.safetensors"
    )
    result = call(f"{command} --json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [step["setting"] for step in found["steps"]] == ["resize", "aspect", "padding", "ddof"]
    effects = [step["contribution"] for step in found["steps"]]
    gap = found["goal"]["value"] - found["start"]["value"]
    assert sum(effects) == pytest.approx(gap, rel=1e-9)
    assert effects[2] == 0  # 16 frames: both paddings are the same
    assert effects[1] != 0
    whole = {
        item["metric"]: item["value"]
        for item in score("wide.npy --reference wide2.npy --metric fvd --metric fvd/stylegan-v")
    }
    assert found["start"]["value"] == whole["fvd"]
    assert found["goal"]["value"] == whole["fvd/stylegan-v"]


def test_explain_prints_a_table_that_adds_up() -> None:
    weights = "--weights i3d-k400=i3d.safetensors"
    lines = call(f"explain few.npy --reference few.npy --to fvd/half-pixel {weights}").stdout.splitlines()
    assert lines[0].split() == ["setting", "change", "score", "effect"]
    assert lines[2].startswith("resize   tf1-bilinear > half-pixel")
    assert lines[3].split()[0] == "fvd/half-pixel"
    same = call(f"explain few.npy --reference few.npy --to fvd {weights}")
    assert same.stdout.splitlines()[-1] == "the two metrics have the same settings for these clips"


def test_a_recipe_that_crops_says_so() -> None:
    (cropped,) = score("wide.npy --reference wide2.npy --metric fvd/stylegan-v")
    marks = cropped["marks"]
    assert isinstance(marks, list)
    assert "fvd/stylegan-v sees only the middle square of the generated clips, which are 128x64" in marks
    assert "fvd/stylegan-v sees only the middle square of the reference clips, which are 128x64" in marks


@pytest.mark.bfloat16
def test_precision_enters_the_signature() -> None:
    line = "score few.npy --reference P.npy --metric embedded/fvd --json --precision"
    fp32, bf16 = (json.loads(call(f"{line} {word}").stdout)["scores"][0] for word in ("fp32", "bf16"))
    assert "|prec:bf16|" in str(bf16["signature"])
    assert fp32["digest"] != bf16["digest"]
    assert fp32["value"] != bf16["value"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("short.npy --reference P.npy", "i3d-k400 needs clips of at least 9 frames; these have 8"),
        ("few.npy --reference P.npy --precision tf32", "--precision fp32 or bf16"),
        ("few.npy --reference P.npy --backend jax", "unknown backend 'jax'; choose torch"),
        ("few.npy --reference P.npy --weights c3d-ucf101=x", "no metric asked for uses the network 'c3d-ucf101'"),
        ("few.npy --reference P.npy --weights i3d-k400", "is not NETWORK=FILE"),
        ("few.npy --reference P.npy --weights i3d-k400=P.npy", "P.npy"),
        ("few.npy --reference P.npy --weights i3d-k400=none.safetensors", "none.safetensors"),
        ("few.npy --reference P.npy --metric embedded/is --weights embedded=i3d.safetensors", "embedded network"),
        ("few.npy --reference few.npy --metric prdc", "clips"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(line: str, words: str) -> None:
    weights = "" if "--weights" in line else "--weights i3d-k400=i3d.safetensors"
    result = call(f"score {line} {weights} --device cpu")
    assert result.exit_code == 2, result.output
    errors = [text for text in result.stderr.splitlines() if not text.startswith("features of")]
    assert len(errors) == 1, result.stderr
    assert words in errors[0]


def test_explain_refuses_unlike_scores() -> None:
    result = call("explain few.npy --reference P.npy --from fvd --to c3d/is")
    assert result.exit_code == 2
    assert "different kinds of score" in result.stderr
