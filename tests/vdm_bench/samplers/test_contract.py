"""What the harness asks of a `Sampler`, and what it never asks of anybody else's object."""

import contextlib
import hashlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import ROOT

import vdm_bench
from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.errors import InputError
from vdm_bench.protocols import Protocol, get_protocol
from vdm_bench.runs.forecast import forecast
from vdm_bench.runs.plan import RunOptions, SampledClips
from vdm_bench.runtime.progress import Advance, Silent
from vdm_bench.samplers import BUILT_IN, check_name, describe_samplers, make_sampler, sampler_kind
from vdm_bench.samplers.base import SamplerSetup, call_sampler
from vdm_bench.samplers.baselines import BASELINES, BaselineSampler
from vdm_bench.samplers.callable import CallableSampler, as_sampler
from vdm_bench.samplers.command import CommandSampler
from vdm_bench.samplers.diffusers import DiffusersSampler
from vdm_bench.samplers.reference_model import ReferenceSampler

REQUEST = vdm_bench.SampleRequest(indices=(0, 1, 2), seeds=(5, 6, 7), frames=2, height=4, width=4)


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VDM_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def small(name: str = "shapes-unconditional", count: int = 12) -> Protocol:
    return get_protocol(name).model_copy(update={"generated_count": count, "reference_count": 16})


def gray(request: vdm_bench.SampleRequest, level: str = "0") -> np.ndarray:
    """Clips of one gray each, drawn with the clip's seed."""
    grays = np.array([(seed + int(level)) % 256 for seed in request.seeds], np.uint8)
    shape = (len(request), request.frames, request.height, request.width, 3)
    return np.broadcast_to(grays[:, None, None, None, None], shape)


class Plain(vdm_bench.Sampler):
    """Defines nothing but what it must."""

    def sample(self, request: vdm_bench.SampleRequest) -> np.ndarray:
        return gray(request)


class Full(Plain):
    """Defines everything, and writes down what is asked of it."""

    kind = "home-made"
    spec = "mine v2"
    recorded_settings = {"steps": 4, "eta": None}  # noqa: RUF012

    def __init__(self) -> None:
        self.calls: list[object] = []

    def evaluations(self, request: vdm_bench.SampleRequest) -> int:
        return 4

    def sample_with_progress(
        self, request: vdm_bench.SampleRequest, advance: Callable[[int], None]
    ) -> np.ndarray:
        self.calls.append(len(request))
        for _ in range(4):
            advance(len(request))
        return self.sample(request)

    def set_scratch_folder(self, parent: Path) -> None:
        self.calls.append(parent.name)

    def close(self) -> None:
        self.calls.append("closed")


class Trap:
    """Somebody's model, with methods of the harness's names that mean something else."""

    def _sprung(self, *arguments: object, **options: object) -> Any:
        raise AssertionError("called by accident")

    evaluations = close = set_scratch_folder = sample_with_progress = __call__ = _sprung
    kind = spec = recorded_settings = code_digest = code_module = property(_sprung)

    def sample(self, request: vdm_bench.SampleRequest) -> np.ndarray:
        return gray(request)


# Anybody's object


def test_of_anybody_elses_object_sample_alone_is_called(tmp_path: Path) -> None:
    protocol = small()
    record = vdm_bench.run(protocol, out=tmp_path / "run", sampler=Trap())
    assert record.sampler.model_dump() == {"kind": "callable", "spec": "Trap", "settings": {}, "seed": 0}
    assert vdm_bench.run(protocol, out=tmp_path / "run", sampler=Trap()) == record
    assert forecast(protocol, RunOptions(source=SampledClips(as_sampler(Trap(), {})))).evaluations is None


def test_an_object_is_wrapped_once_and_a_sampler_not_at_all() -> None:
    plain, wrapped = Plain(), as_sampler(Trap(), {})
    assert as_sampler(plain, {}) is plain
    assert as_sampler(wrapped, {}) is wrapped
    assert as_sampler(gray, {}).spec == "gray"
    assert as_sampler(wrapped.sample, {}).spec == "sample"


def test_a_function_is_called_with_the_options_of_the_run(tmp_path: Path) -> None:
    record = vdm_bench.run(small(), out=tmp_path / "run", sampler=gray, options={"level": "3"})
    assert record.sampler.model_dump() == {
        "kind": "callable",
        "spec": "gray",
        "settings": {"level": "3"},
        "seed": 0,
    }
    brighter = as_sampler(gray, {"level": "3"}).sample(REQUEST)
    assert brighter[:, 0, 0, 0, 0].tolist() == [8, 9, 10]


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (Plain, "the sampler Plain is a class; make an object of it"),
        (3, "the sampler of type int is neither a function nor an object"),
        (Path("my_model.py"), "the sampler of type PosixPath is neither a function nor an object"),
    ],
)
def test_what_makes_no_clips_is_refused(thing: object, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        vdm_bench.run(small(), out=tmp_path / "run", sampler=thing)
    assert list(tmp_path.iterdir()) == []


# Defaults


def test_a_sampler_needs_sample_alone() -> None:
    plain = Plain()
    assert (plain.kind, plain.spec, plain.recorded_settings) == ("callable", "Plain", None)
    assert plain.evaluations(REQUEST) is None
    plain.set_scratch_folder(Path("nowhere"))
    plain.close()
    steps: list[int] = []
    clips = call_sampler(plain, REQUEST, "mine", steps.append)
    assert np.array_equal(clips, gray(REQUEST))
    assert steps == [3]


def test_a_sampler_without_sample_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="abstract"):
        type("Empty", (vdm_bench.Sampler,), {})()


@pytest.mark.parametrize("name", ["spec", "recorded_settings", "code_module", "code_digest"])
def test_a_method_in_the_place_of_a_property_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} of the sampler Wrong is a method; write @property above it"):
        type("Wrong", (Plain,), {name: lambda self: None})
    type("Right", (Plain,), {name: property(lambda self: None)})
    type("Constant", (Plain,), {name: "a"})


def test_progress_adds_up_to_the_evaluations_by_default() -> None:
    class Counting(Plain):
        def evaluations(self, request: vdm_bench.SampleRequest) -> int:
            return 7

    steps: list[int] = []
    call_sampler(Counting(), REQUEST, "mine", steps.append)
    assert sum(steps) == 3 * 7


def test_all_samplers_of_the_package_are_samplers() -> None:
    kinds = (BaselineSampler, CallableSampler, CommandSampler, DiffusersSampler, ReferenceSampler)
    assert all(issubclass(kind, vdm_bench.Sampler) for kind in kinds)


def test_the_code_is_the_file_of_the_function_or_of_the_class() -> None:
    digest = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    # The method comes from elsewhere, the class from here.
    borrowed = type("Borrowed", (), {"sample": CallableSampler.sample, "__module__": __name__})()
    for sampler in (Plain(), as_sampler(gray, {}), as_sampler(borrowed, {})):
        assert sampler.code_digest == digest
        assert sampler.code_module == __name__
    assert as_sampler(np.zeros, {}).code_digest != digest
    assert as_sampler(len, {}).code_digest is None


# What a subclass defines


class Watching(Silent):
    """Adds up the steps of each stage."""

    def __init__(self) -> None:
        self.stages: dict[str, tuple[int, int, str]] = {}

    @contextlib.contextmanager
    def stage(self, title: str, total: int, unit: str = "clips", *, found: int = 0) -> Iterator[Advance]:
        steps: list[int] = []
        yield steps.append
        self.stages[title] = found + sum(steps), total, unit


def test_a_run_uses_what_a_sampler_defines(tmp_path: Path) -> None:
    sampler, reporter = Full(), Watching()
    record = vdm_bench.run(small(count=70), out=tmp_path / "run", sampler=sampler, reporter=reporter)
    assert record.sampler.model_dump() == {
        "kind": "home-made",
        "spec": "mine v2",
        "settings": {"steps": 4, "eta": None},
        "seed": 0,
    }
    assert sampler.calls == ["run", 1, "closed", "run", 64, 6, "closed"]
    assert reporter.stages["samples of mine v2"] == (280, 280, "evaluations")
    assert forecast(small(), RunOptions(source=SampledClips(sampler))).evaluations == 4


def test_a_run_does_not_go_on_with_other_settings(tmp_path: Path) -> None:
    vdm_bench.run(small(), out=tmp_path / "run", sampler=Full())
    other = Full()
    other.recorded_settings = {"steps": 5, "eta": None}
    with pytest.raises(InputError, match=r"another sampler.settings.steps \(4 and not 5\)"):
        vdm_bench.run(small(), out=tmp_path / "run", sampler=other)


@pytest.mark.parametrize("look", ["run", "dry run"])
def test_a_sampler_that_fails_is_closed(look: str, tmp_path: Path) -> None:
    class Failing(Full):
        def sample(self, request: vdm_bench.SampleRequest) -> np.ndarray:
            raise RuntimeError("out of ideas")

    sampler = Failing()
    looks: dict[str, Callable[[], object]] = {
        "run": lambda: vdm_bench.run(small(), out=tmp_path / "run", sampler=sampler),
        "dry run": lambda: forecast(small(), RunOptions(source=SampledClips(sampler))),
    }
    with pytest.raises(InputError, match="out of ideas"):
        looks[look]()
    assert sampler.calls[-1] == "closed"


# By name


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "sampler_of_the_contract.py").write_text(
        "import numpy as np, vdm_bench\n"
        "class Silent(vdm_bench.Sampler):\n"
        "    def __init__(self, level='1'): self.level = int(level)\n"
        "    def sample(self, request):\n"
        "        return np.stack([np.full((16, 32, 32, 3), s % 256, np.uint8) for s in request.seeds])\n"
        "class Telling(Silent):\n"
        "    @property\n"
        "    def recorded_settings(self): return {'level': self.level}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    sys.modules.pop("sampler_of_the_contract", None)
    return "sampler_of_the_contract"


@pytest.mark.parametrize(
    ("name", "options", "settings"),
    [
        ("Silent", {"level": "2"}, {"level": "2"}),
        ("Telling", {"level": "2"}, {"level": 2}),
        ("Telling", {}, {"level": 1}),
    ],
)
def test_options_are_recorded_unless_a_sampler_tells_its_settings(
    module: str, name: str, options: dict[str, str], settings: dict[str, object], tmp_path: Path
) -> None:
    record = vdm_bench.run(small(), out=tmp_path / "run", sampler=f"{module}:{name}", options=options)
    assert record.sampler.settings == settings
    assert (record.sampler.kind, record.sampler.spec) == ("callable", f"{module}:{name}")
    sampler = make_sampler(f"{module}:{name}", SamplerSetup(Shapes("test"), options))
    assert sampler.code_digest == hashlib.sha256(Path(f"{module}.py").read_bytes()).hexdigest()[:12]


def test_every_name_is_described_and_is_a_sampler() -> None:
    described = describe_samplers()
    assert list(described) == [*BASELINES, *BUILT_IN]
    for name, text in described.items():
        assert text
        check_name(name)
        assert sampler_kind(name) == ("baseline" if name in BASELINES else name)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("difusers", "unknown sampler 'difusers'; did you mean 'diffusers'?"),
        (
            "xyzzy",
            "unknown sampler 'xyzzy'; `vdm-bench list samplers` shows them, and a callable of your own is "
            "written module:object",
        ),
    ],
)
def test_an_unknown_name_is_refused_in_one_sentence(name: str, sentence: str) -> None:
    with pytest.raises(InputError) as refused:
        check_name(name)
    assert str(refused.value) == sentence


# The page


def test_the_example_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "adding-a-sampler.md").read_text("utf-8")
    code = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[0]
    (tmp_path / "my_model.py").write_text(code, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_model", raising=False)
    protocol = small("shapes-prediction")
    record = vdm_bench.run(protocol, out=tmp_path / "a", sampler="my_model:Drift", options={"speed": "2"})
    assert record.sampler.settings == {"speed": 2}
    assert record.generated.scored == 12
    drift = sys.modules["my_model"].Drift("2")
    again = vdm_bench.run(protocol, out=tmp_path / "b", sampler=drift)
    assert again.generated.digest == record.generated.digest


def test_the_page_names_every_member_of_a_sampler() -> None:
    page = (ROOT / "docs" / "adding-a-sampler.md").read_text("utf-8")
    members = {name for name in vars(vdm_bench.Sampler) if not name.startswith("_")} - {"code_module"}
    fields = vdm_bench.SampleRequest.__dataclass_fields__
    assert sorted(name for name in (*members, *fields) if not re.search(rf"`{name}\b", page)) == []
