"""Weights that a command lacks are named all at once, over all metrics asked for."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from vdm_bench import run
from vdm_bench.cli import cli
from vdm_bench.errors import InputError
from vdm_bench.metrics import weights
from vdm_bench.metrics.weights import library
from vdm_bench.metrics.weights.entries import Entry
from vdm_bench.protocols import get_protocol
from vdm_bench.samplers.base import SampleRequest


def unreachable(entry: Entry) -> Entry:
    """The entry at addresses that refuse connections."""
    files = [replace(source, urls=(f"http://127.0.0.1:9/{source.name}",)) for source in entry.files]
    return replace(entry, files=tuple(files))


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {name: unreachable(entry) for name, entry in weights.catalogue().items()}
    monkeypatch.setattr(library, "catalogue", lambda: entries)
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("generated", "real")):
        np.save(name, np.random.default_rng(seed).integers(0, 256, (2, 16, 32, 32, 3), np.uint8))


def test_score_names_all_missing_weights_at_once(tmp_path: Path) -> None:
    metrics = ("fvd", "embedded/fvd", "c3d/is", "kvd", "fid/frames-avg")
    chosen = [argument for metric in metrics for argument in ("--metric", metric)]
    result = CliRunner().invoke(cli, ["score", "generated.npy", "--reference", "real.npy", *chosen])
    assert result.exit_code == 2
    assert (
        "weights that are not in the cache: i3d-k400 (51 MB), c3d-ucf101, inception-2015 (96 MB)" in result.stderr
    )
    *_, said = result.stderr.splitlines()
    no = "(127.0.0.1:9: connection refused)"
    assert said.startswith(
        f"Error: cannot download i3d-k400 {no}, c3d-ucf101 {no}, inception-2015 {no}; get them with: "
        "vdm-bench weights fetch i3d-k400 c3d-ucf101 inception-2015; without a network, put the files from "
    )
    assert said.endswith("on this machine and run: vdm-bench weights import FILE FILE FILE FILE")


class Untouched:
    """A sampler that must not be called."""

    def sample(self, request: SampleRequest) -> np.ndarray:
        pytest.fail("the sampler was called")


def test_run_names_all_missing_weights_before_the_sampler_works(tmp_path: Path) -> None:
    protocol = get_protocol("shapes-unconditional").model_copy(update={"metrics": ("fvd", "c3d/is")})
    with pytest.raises(InputError, match="weights fetch i3d-k400 c3d-ucf101; without a network"):
        run(protocol, sampler=Untouched(), limit=4, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
