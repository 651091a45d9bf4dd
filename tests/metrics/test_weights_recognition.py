"""Weight files are recognised by their content, exported, or refused with the reason; none is unpickled."""

import gzip
import pickle
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from weights_files import checkpoint, pinned, recipe, same, sentence

from vdm_bench.metrics import weights
from vdm_bench.metrics.recipes import recipes
from vdm_bench.metrics.weights.entries import Entry, SourceFile, TensorInfo
from vdm_bench.metrics.weights.forms import OtherForm, known_form, other_forms
from vdm_bench.metrics.weights.library import Library

C3D_SHAPES = {"conv1a/W": (4, 3, 3, 3, 3), "conv1a/b": (4,), "fc8/W": (5, 9), "fc8/b": (5,)}
MEAN = (3, 2, 4, 5)
STATE = {"conv.weight": (4, 3, 3, 3), "bn.running_var": (4,)}


def made_up(folder: Path) -> dict[str, Entry]:
    """Entries of each kind; their files lie in `folder` under names that say nothing."""
    entries = {}
    for number, (name, kind) in enumerate((("first", "content"), ("second", "digest"), ("third", "checksums"))):
        entry, data = checkpoint(name, recipe(number))
        entry = pinned(entry, data) if kind != "checksums" else entry
        entries[name] = replace(entry, content=weights.git_blob_id(data) if kind == "content" else "")
        (folder / f"file{number}").write_bytes(data)
    arrays = recipe(3, {**C3D_SHAPES, "mean": MEAN})
    with (folder / "file3").open("wb") as file:
        np.savez(file, **{name: arrays[name] for name in C3D_SHAPES})
    with (folder / "file4").open("wb") as file:
        np.savez(file, anything=arrays["mean"])
    files = tuple(SourceFile(name, (f"http://127.0.0.1:9/{name}",)) for name in ("c3d.npz", "mean2.npz"))
    tensors = {name: TensorInfo(array.shape) for name, array in arrays.items()}
    entries["c3d"] = Entry("c3d", "C3D", "c3d", "c3d-npz", files, tensors, "not stated", "nobody")
    state = {name: torch.from_numpy(array) for name, array in recipe(4, STATE).items()}
    torch.save(state, folder / "file5")
    digest = f"sha256:{weights_sha256(folder / 'file5')}"
    source = SourceFile("inc.pth", ("http://127.0.0.1:9/inc.pth",), (folder / "file5").stat().st_size, digest)
    tensors = {name: TensorInfo(shape) for name, shape in STATE.items()}
    entries["inc"] = Entry("inc", "Inc", "inception", "state-dict", (source,), tensors, "Apache-2.0", "nobody")
    return entries


def weights_sha256(path: Path) -> str:
    from vdm_bench.metrics.weights.digest import sha256

    return sha256(path)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


@pytest.fixture
def library(files: Path, tmp_path: Path) -> Library:
    return Library(made_up(files), tmp_path / "cache")


@pytest.fixture
def other(library: Library, tmp_path: Path) -> Library:
    """The empty cache of another machine."""
    return replace(library, folder=tmp_path / "other")


NAMES = ["first", "second", "third", "c3d", "inc"]


def test_published_files_are_recognised_whatever_their_names(library: Library, files: Path) -> None:
    paths = [files / f"file{number}" for number in (5, 4, 1, 3, 0, 2)]
    imported = library.import_recognised(paths)
    assert sorted(imported) == sorted(NAMES)
    assert all(imported[name] == library.store.path(library.entries[name]) for name in NAMES)
    for number, name in enumerate(NAMES[:3]):
        assert same(library.load(name), recipe(number))
    assert same(library.load("c3d"), recipe(3, {**C3D_SHAPES, "mean": MEAN}))
    assert same(library.load("inc"), recipe(4, STATE))


def test_names_of_files_do_not_mislead(library: Library, files: Path) -> None:
    (files / "file3").rename(files / "swap")
    (files / "file4").rename(files / "c3d.npz")
    (files / "swap").rename(files / "mean2.npz")
    library.import_recognised([files / "c3d.npz", files / "mean2.npz"])
    assert same(library.load("c3d"), recipe(3, {**C3D_SHAPES, "mean": MEAN}))


def test_a_part_of_weights_names_the_other_part(library: Library, files: Path) -> None:
    said = sentence(lambda: library.import_recognised([files / "file0", files / "file4"]))
    assert said == f"{files / 'file4'} is only a part of c3d; give c3d.npz, too"
    assert not library.folder.exists(), "nothing is imported by half"


def test_a_folder_stands_for_the_files_in_it(library: Library, files: Path, tmp_path: Path) -> None:
    (files / "readme.txt").write_text("nothing")
    assert sorted(library.import_recognised([files])) == sorted(NAMES)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "model.bin").write_bytes(pickle.dumps("a program"))
    said = sentence(lambda: library.import_recognised([tmp_path / "empty"]))
    assert said.startswith(f"{tmp_path / 'empty' / 'model.bin'} is a pickle, which can run code")
    (tmp_path / "empty" / "model.bin").unlink()
    assert sentence(lambda: library.import_recognised([tmp_path / "empty"])) == (
        f"{tmp_path / 'empty'} holds no file of known weights; `vdm-bench weights list` shows them"
    )


def test_a_checkpoint_is_recognised_by_its_prefix(library: Library, files: Path) -> None:
    (files / "file1").rename(files / "my.ckpt.data-00000-of-00001")
    assert list(library.import_recognised([files / "my.ckpt"])) == ["second"]


@pytest.mark.parametrize("name", NAMES)
def test_an_export_is_imported_elsewhere(
    name: str, library: Library, other: Library, files: Path, tmp_path: Path
) -> None:
    library.import_recognised([files])
    copy = tmp_path / "from-a-colleague.safetensors"
    assert library.export(name, copy) == library.verify(name)[name]
    assert copy.read_bytes() == library.store.path(library.entries[name]).read_bytes()
    assert list(other.import_recognised([copy])) == [name]
    assert header_of(other.store.path(other.entries[name])) == header_of(copy)
    assert other.verify() == {name: library.verify(name)[name]}
    record, theirs = (side.store.record_path(side.entries[name]) for side in (library, other))
    pinned_at_first_use = name in ("third", "c3d")
    assert record.exists() == theirs.exists() == pinned_at_first_use
    assert not pinned_at_first_use or record.read_text() == theirs.read_text()


def test_only_a_state_dict_needs_torch(library: Library, other: Library, files: Path, tmp_path: Path) -> None:
    code = (
        "import pickle, sys\nfrom pathlib import Path\n"
        "ours, theirs = pickle.load(sys.stdin.buffer)\n"
        "ours.import_recognised([Path(path) for path in sys.argv[1:]])\n"
        "ours.verify()\nours.describe()\nours.export('first', ours.folder / 'x.safetensors')\n"
        "theirs.import_recognised([ours.folder / 'x.safetensors'])\n"
        "print('torch' in sys.modules)"
    )
    for numbers, loaded in ((range(5), "False\n"), (range(6), "True\n")):
        command = [sys.executable, "-c", code, *(str(files / f"file{number}") for number in numbers)]
        done = subprocess.run(command, input=pickle.dumps((library, other)), capture_output=True)
        assert done.stdout.decode() == loaded, done.stderr
    assert other.verify() == {"first": weights.content_digest(recipe(0))}


def test_a_whole_cache_is_imported(library: Library, other: Library, files: Path) -> None:
    library.import_recognised([files])
    assert sorted(other.import_recognised([library.folder])) == sorted(NAMES)
    assert other.verify() == library.verify()


def test_weights_that_are_not_there_are_not_exported(library: Library, files: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.safetensors"
    assert "first is not in the cache; get it with: vdm-bench" in sentence(
        lambda: library.export("first", target)
    )
    library.import_recognised([files / "file0"])
    said = sentence(lambda: library.export("first", tmp_path / "x.pth"))
    assert said == f"cannot write weights to {tmp_path / 'x.pth'}; give a file whose name ends in .safetensors"
    path = library.store.path(library.entries["first"])
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    assert "is damaged" in sentence(lambda: library.export("first", target))
    assert not target.exists()


def header_of(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("first", "not first: content"),
        ("second", "CRC32C"),
        ("third", "CRC32C"),
        ("c3d", "not c3d: the checksum of its header is not"),
        ("inc", "not inc: the checksum of its header is not"),
    ],
)
def test_a_changed_copy_is_refused(
    name: str, said: str, library: Library, other: Library, files: Path, tmp_path: Path
) -> None:
    library.import_recognised([files])
    tensors = library.load(name)
    next(iter(tensors.values())).view(-1)[0] += 1
    header = header_of(library.store.path(library.entries[name]))
    copy = tmp_path / "copy.safetensors"
    save_file(tensors, copy, {**header, "content": weights.content_digest(tensors)})
    assert said in sentence(lambda: other.import_recognised([copy]))
    save_file(tensors, copy, header)
    assert "holds weights of none of the known names" in sentence(lambda: other.import_recognised([copy]))
    assert not other.folder.exists()


@pytest.mark.parametrize("name", NAMES)
def test_tensors_without_a_header_need_a_known_digest(
    name: str, library: Library, other: Library, files: Path, tmp_path: Path
) -> None:
    library.import_recognised([files])
    save_file(library.load(name), tmp_path / "plain.safetensors")
    if name in ("c3d", "inc"):
        said = sentence(lambda: other.import_recognised([tmp_path / "plain.safetensors"]))
        assert f"not {name}: it does not name the published files it was made from" in said
        assert said.endswith("to use weights of your own, give --weights NETWORK=FILE")
    else:
        assert list(other.import_recognised([tmp_path / "plain.safetensors"])) == [name]
        assert other.verify() == {name: library.verify(name)[name]}


def test_a_copy_made_from_another_file_is_refused(
    library: Library, other: Library, files: Path, tmp_path: Path
) -> None:
    library.import_recognised([files])
    digest = library.entries["inc"].files[0].digest
    another = replace(library.entries["inc"].files[0], digest=digest[:-1] + ("0" if digest[-1] != "0" else "1"))
    strict = replace(other, entries={"inc": replace(library.entries["inc"], files=(another,))})
    copy = library.store.path(library.entries["inc"])
    assert "it does not name the published files" in sentence(lambda: strict.import_recognised([copy]))


def test_a_copy_does_not_replace_what_was_pinned_at_first_use(
    library: Library, other: Library, files: Path
) -> None:
    library.import_recognised([files / "file3", files / "file4"])
    with (files / "file4").open("wb") as file:
        np.savez(file, mean=np.zeros(MEAN, np.float32))
    other.import_recognised([files / "file3", files / "file4"])
    before = other.verify()
    copy = library.store.path(library.entries["c3d"])
    said = sentence(lambda: other.import_recognised([copy]))
    assert "c3d was first used with another mean2.npz (sha256" in said
    assert f"delete {other.store.record_path(other.entries['c3d'])} to accept this copy" in said
    assert other.verify() == before


def test_what_is_unknown_or_damaged_is_named(library: Library, files: Path, tmp_path: Path) -> None:
    data = bytearray((files / "file0").read_bytes())
    data[9] ^= 1
    (files / "file0").write_bytes(data)
    said = sentence(lambda: library.import_recognised([files / "file0"]))
    assert said.startswith(f"{files / 'file0'} is not a file of any known weights, or it is damaged")
    assert sentence(lambda: library.import_recognised([tmp_path / "no"])) == f"there is no file {tmp_path / 'no'}"
    save_file({"a": torch.zeros(2)}, tmp_path / "mine.safetensors")
    said = sentence(lambda: library.import_recognised([tmp_path / "mine.safetensors"]))
    assert "holds weights of none of the known names (other tensors)" in said
    save_file({"a/w": torch.zeros(2, dtype=torch.bfloat16)}, tmp_path / "half.safetensors")
    said = sentence(lambda: library.import_recognised([tmp_path / "half.safetensors"]))
    assert "its tensor a/w is BF16, not F32" in said


# Other forms of the same networks


class Touches:
    """Leaves a trace when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


@pytest.fixture
def _never_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((torch, "load"), (torch.jit, "load"), (pickle, "load"), (pickle, "loads")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("a file was loaded"))


@pytest.mark.usefixtures("_never_loaded")
@pytest.mark.parametrize("form", other_forms(), ids=lambda form: form.names[0])
def test_other_forms_are_refused_by_name(form: OtherForm, tmp_path: Path) -> None:
    library = Library(weights.catalogue(), tmp_path / "cache")
    for name in form.names:
        path = tmp_path / name
        path.write_bytes(pickle.dumps({"a": Touches(tmp_path / "trace")}))
        assert sentence(lambda: library.import_recognised([path])) == f"{path} is {form.what}; {form.instead}"  # noqa: B023
        said = sentence(lambda: library.import_files("i3d-k400", [path]))  # noqa: B023
        assert "bytes expected" in said
        assert f"it is {form.what}; {form.instead}" in said
        said = sentence(lambda: weights.read_weights_file(path))  # noqa: B023
        assert said.startswith(f"{path} is {form.what}; {form.instead}; or convert it if you trust it: ")
    assert not (tmp_path / "trace").exists()


def test_what_is_proposed_instead_exists() -> None:
    names = [name for form in other_forms() for name in form.names]
    assert len(names) == len(set(names))
    assert names == [name.lower() for name in names]
    known = {*weights.catalogue(), *recipes(), "NAME"}
    for form in other_forms():
        proposed = re.findall(r"weights fetch ([\w-]+)|metric ([\w/-]+)|use ([\w-]+)", form.instead)
        assert proposed
        assert {name for match in proposed for name in match if name} <= known


def test_a_published_digest_is_recognised_under_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "renamed.bin").write_bytes(pickle.dumps("a program"))
    form = OtherForm("a known program", "use another", ("x.pt",), weights_sha256(tmp_path / "renamed.bin"))
    monkeypatch.setattr("vdm_bench.metrics.weights.forms.other_forms", lambda: (form,))
    assert known_form(tmp_path / "renamed.bin") == form
    (tmp_path / "renamed.bin").write_bytes(pickle.dumps("another program"))
    assert known_form(tmp_path / "renamed.bin") not in (form, None)
    (tmp_path / "renamed.bin").write_bytes(b"no program")
    assert known_form(tmp_path / "renamed.bin") is None


def test_kinds_of_files_are_seen_without_loading_them(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "program", "w") as archive:  # the members that torch.jit.save writes
        for name in ("data.pkl", "code/__torch__.py", "constants.pkl", "version"):
            archive.writestr(f"program/{name}", b"")
    torch.save({"a": torch.zeros(2)}, tmp_path / "new")
    torch.save({"a": torch.zeros(2)}, tmp_path / "old", _use_new_zipfile_serialization=False)
    (tmp_path / "raw").write_bytes(pickle.dumps({"a": Touches(tmp_path / "trace")}, protocol=2))
    (tmp_path / "packed").write_bytes(gzip.compress(b"x"))
    for module, name in ((torch, "load"), (torch.jit, "load"), (pickle, "load"), (pickle, "loads")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("a file was loaded"))
    for name, said in (
        ("program", "is a TorchScript program, which can run code when it is loaded; give the published files"),
        ("new", "is a PyTorch pickle, which can run code when it is loaded; give the published files"),
        ("old", "is a pickle, which can run code when it is loaded; give the published files"),
        ("raw", "is a pickle, which can run code when it is loaded; give the published files"),
        ("packed", "is a gzip archive; unpack it"),
    ):
        assert said in sentence(lambda: library.import_recognised([tmp_path / name]))  # noqa: B023
    assert not (tmp_path / "trace").exists()


def test_a_whole_file_under_a_name_of_another_form_is_imported(library: Library, files: Path) -> None:
    """pytorch-fid publishes the bytes of torch-fidelity under a name of its own."""
    path = files / "pt_inception-2015-12-05-6726825d.pth"
    shutil.copy(files / "file5", path)
    assert list(library.import_recognised([path])) == ["inc"]
    path.write_bytes(path.read_bytes()[:-1])
    assert "its SHA-256 does not begin with 6726825d" in sentence(lambda: library.import_recognised([path]))


# Several that are missing


class Notes:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_all_missing_weights_are_named_at_once(library: Library, files: Path) -> None:
    library.import_recognised([files / "file1"])
    assert list(library.fetch_all(["second"])) == ["second"]
    said = sentence(lambda: library.fetch_all(["first", "second", "c3d"]))
    refused = "(127.0.0.1:9: connection refused)"
    assert said == (
        f"cannot download first {refused}, c3d {refused}; get them with: vdm-bench weights fetch first c3d; "
        "without a network, put the files from http://127.0.0.1:9/x and http://127.0.0.1:9/c3d.npz and "
        "http://127.0.0.1:9/mean2.npz on this machine and run: vdm-bench weights import FILE FILE FILE"
    )
    assert "unknown weights 'fist'" in sentence(lambda: library.fetch_all(["first", "fist"]))


def test_what_will_be_downloaded_is_said_first(
    library: Library, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vdm_bench.metrics.weights import library as module

    reporter = Notes()
    monkeypatch.setattr(module, "default_library", lambda _: library)
    said = sentence(lambda: module.provide("first", "c3d", "inc", reporter=reporter))  # type: ignore[arg-type]
    assert said.startswith("cannot download first (")
    assert reporter.notes == ["weights that are not in the cache: first (0 MB), c3d, inc (0 MB)"]
    library.import_recognised([files])
    module.provide("first", "c3d", "inc", reporter=reporter)  # type: ignore[arg-type]
    assert len(reporter.notes) == 1
