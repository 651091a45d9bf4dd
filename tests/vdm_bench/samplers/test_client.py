"""The client of samplers in other environments: printed whole, and at work with and without NumPy."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from vdm_bench.cli import cli
from vdm_bench.samplers import client
from vdm_bench.samplers.base import SampleRequest, call_sampler
from vdm_bench.samplers.command import CommandSampler

CONTEXT = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5, 3), dtype=np.uint8)
REQUEST = SampleRequest(indices=(0, 1), seeds=(5, 6), frames=6, height=4, width=5, context=CONTEXT)

WITHOUT_NUMPY = """
import sys
sys.modules["numpy"] = None  # as if it were not installed
import client

def make(request):
    assert type(request.context).__name__ == "memoryview"
    shape = (len(request.seeds), request.frames, request.height, request.width, 3)
    size = request.height * request.width * 3
    context, clips = request.context.tobytes(), bytearray()
    given = request.context.shape[1] * size
    for number, seed in enumerate(request.seeds):
        clips += context[number * given : (number + 1) * given]
        clips += bytes([seed]) * (request.frames * size - given)
    return memoryview(clips).cast("B", shape)

client.serve(make)
"""

WITH_NUMPY = """
import client
import numpy as np

def make(request):
    clips = np.empty((len(request.seeds), 3, request.frames, request.height, request.width), np.uint8)
    clips[:] = np.array(request.seeds)[:, None, None, None, None]
    clips[:, :, : request.context.shape[1]] = np.moveaxis(request.context, -1, 1)
    return np.moveaxis(clips, 1, -1)  # not contiguous

client.serve(make)
"""


@pytest.mark.parametrize("program", [WITHOUT_NUMPY, WITH_NUMPY], ids=["without NumPy", "with NumPy"])
def test_the_printed_client_is_all_that_a_program_needs(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)  # a program finds the files next to it
    printed = CliRunner().invoke(cli, ["sampler-client"])
    (tmp_path / "client.py").write_text(printed.output)
    (tmp_path / "program.py").write_text(program)
    sampler = CommandSampler(f"{sys.executable} {tmp_path / 'program.py'}", {}, timeout=60)
    try:
        clips = call_sampler(sampler, REQUEST, "mine", lambda steps: None)
    finally:
        sampler.close()
    assert np.array_equal(clips[:, :3], CONTEXT)
    assert [set(clip[3:].flat) for clip in clips] == [{5}, {6}]


def test_the_client_is_printed_to_the_last_byte() -> None:
    command = [sys.executable, "-m", "vdm_bench", "sampler-client"]
    printed = subprocess.run(command, capture_output=True, check=True).stdout
    assert printed == Path(client.__file__).read_bytes()


@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.bool_, np.int16])
def test_its_files_are_those_of_numpy(kind: type, tmp_path: Path) -> None:
    array = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4).astype(kind).swapaxes(0, 2)
    client._write(tmp_path / "a.npy", array)
    found = np.load(tmp_path / "a.npy", allow_pickle=False)
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert np.array_equal(found, array)
    np.save(tmp_path / "b.npy", array)
    assert len((tmp_path / "a.npy").read_bytes()) == len((tmp_path / "b.npy").read_bytes())


def test_list_names_all_ways_to_give_a_sampler() -> None:
    listed = CliRunner().invoke(cli, ["list", "samplers"]).output
    assert all(
        way in listed for way in ("reference", "diffusers", "module:object", "--sampler-command", "--clips")
    )
