"""`vdm-bench weights` as its users meet it."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from vdm_bench.cli import cli
from vdm_bench.metrics import weights
from vdm_bench.metrics.weights import library
from vdm_bench.metrics.weights.digest import crc32c
from vdm_bench.metrics.weights.entries import Entry, SourceFile, TensorInfo

DATA = np.arange(30, dtype="<f4").tobytes()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, and a catalogue of one entry whose address refuses connections."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/w"
    digest = f"git-blob:{weights.git_blob_id(DATA)}"
    tensors = {"a": TensorInfo((20,), 0, crc32c(DATA[:80])), "b": TensorInfo((10,), 80, crc32c(DATA[80:]))}
    files = (SourceFile("w.data", (url,), len(DATA), digest),)
    entry = Entry("made-up", "Made up", "i3d", "tf-checkpoint", files, tensors, "Apache-2.0", "nobody")
    monkeypatch.setattr(library, "catalogue", lambda: {"made-up": entry})
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.chdir(tmp_path)
    Path("w.data").write_bytes(DATA)
    return tmp_path


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["weights", *arguments])


def sentence_of(result: Result) -> str:
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_weights_are_imported_listed_and_verified(here: Path) -> None:
    digest = weights.content_digest({"a": np.arange(30, dtype=np.float32)})
    before, after = (here / "cache/weights/made-up.safetensors"), f"made-up: valid, content {digest}\n"
    assert "not here" in call("list").stdout
    assert call("verify").stderr == "there are no weights in the cache\n"
    assert call("import", "made-up", "w.data").stdout == f"made-up: {before}\n"
    assert call("verify").stdout == call("verify", "made-up").stdout == after
    header, row = call("list").stdout.splitlines()
    assert header.split() == ["name", "title", "size", "licence", "state", "digest"]
    assert row.split("  ") == ["made-up", "Made up", "0 MB", "Apache-2.0", "in cache", digest[:8]]
    assert call("fetch", "made-up").stdout == f"made-up: {before}\n", "what is here is not downloaded"


def test_the_list_as_json_says_where_things_are(here: Path) -> None:
    (row,) = json.loads(call("list", "--json").stdout)
    assert row["state"] == "not here"
    assert row["digest"] is None
    assert row["path"] == str(here / "cache/weights/made-up.safetensors")
    assert row["files"][0]["digest"] == f"git-blob:{weights.git_blob_id(DATA)}"
    assert row["bytes"] == row["files"][0]["bytes"] == 120


def test_the_list_of_the_package_fits_its_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "catalogue", weights.catalogue)
    lines = call("list").stdout.splitlines()
    assert len(lines) == 6
    assert "fa7df956" in lines[1]
    assert any("not stated" in line and "unknown" in line for line in lines)


def test_a_damaged_file_is_named_deleted_and_replaced(here: Path) -> None:
    call("import", "made-up", ".")
    path = here / "cache/weights/made-up.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    said = sentence_of(call("verify"))
    assert f"{path} is damaged (tensor b has CRC32C" in said
    assert said.endswith("and was deleted; get it again with: vdm-bench weights fetch made-up\n")
    assert not path.exists()
    path.write_bytes(b"nonsense")
    assert "damaged" in call("list").stdout
    assert call("import", "made-up", "w.data").exit_code == 0


def test_errors_are_one_sentence() -> None:
    Path("short").write_bytes(DATA[:-1])
    assert "short is not what made-up is made from: 120 bytes expected, 119 found" in sentence_of(
        call("import", "made-up", "short")
    )
    assert "there is no file nowhere" in sentence_of(call("import", "made-up", "nowhere"))
    assert "unknown weights 'made-op'; did you mean 'made-up'?" in sentence_of(call("fetch", "made-op"))
    assert "made-up is not in the cache" in sentence_of(call("verify", "made-up"))
    said = sentence_of(call("fetch", "made-up"))
    assert "connection refused" in said
    assert "vdm-bench weights import made-up FILE" in said


def test_help_names_the_verbs() -> None:
    for verb in ("list", "fetch", "import", "verify"):
        assert verb in call("--help").stdout
        assert call(verb, "--help").exit_code == 0
    assert call("fetch").exit_code == call("import", "made-up").exit_code == 2


def test_a_file_is_recognised_whatever_its_name_and_exported(here: Path) -> None:
    Path("downloaded (1)").write_bytes(DATA)
    stored = here / "cache/weights/made-up.safetensors"
    assert call("import", "downloaded (1)").stdout == f"made-up: {stored}\n"
    digest = weights.content_digest({"a": np.arange(30, dtype=np.float32)})
    assert call("export", "made-up", "-o", "copy.safetensors").stdout == (
        f"made-up: copy.safetensors, content {digest}\n"
    )
    stored.unlink()
    assert call("import", "copy.safetensors").stdout == f"made-up: {stored}\n"
    assert call("verify").stdout == f"made-up: valid, content {digest}\n"


def test_a_name_alone_is_no_file_to_import() -> None:
    said = sentence_of(call("import", "made-up"))
    assert said == "Error: give the files of made-up, too; `vdm-bench weights list --json` names them\n"
    Path("made-up").write_bytes(DATA)
    assert call("import", "made-up").exit_code == 0, "a file of that name is one"


def test_another_form_is_refused_with_what_to_use_instead() -> None:
    Path("i3d_torchscript.pt").write_bytes(b"anything")
    said = sentence_of(call("import", "i3d_torchscript.pt"))
    assert "is StyleGAN-V's export of I3D, a TorchScript program, which can run code" in said
    assert "(vdm-bench weights fetch i3d-k400), and the metric fvd/stylegan-v computes its FVD" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ("weights", "list"),
        ("weights", "list", "--json"),
        ("weights", "verify"),
        ("weights", "import", "w.data"),
        ("weights", "export", "i3d-k400", "-o", "x.safetensors"),
        ("list", "weights"),
        ("list", "metrics"),
        ("list", "metrics", "--json"),
    ],
)
def test_lists_and_weights_load_no_framework(arguments: tuple[str, ...], here: Path) -> None:
    code = (
        "import sys\nfrom vdm_bench.cli import cli\n"
        "try: cli(sys.argv[1:])\n"
        "finally: print([n for n in ('torch', 'tensorflow', 'scipy') if n in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=here)
    assert done.stderr.splitlines()[-1] == "[]"
    assert done.returncode == (2 if {"import", "export"} & {*arguments} else 0), done.stderr
