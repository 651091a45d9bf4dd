"""Options that a sampler does not have, or that it needs, are named before it is called."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vdm_bench.errors import InputError
from vdm_bench.samplers import make_sampler
from vdm_bench.samplers.base import SamplerSetup
from vdm_bench.samplers.callable import as_sampler

MODULE = """
def function(request, steps="4", *, guidance="1"): ...
def bare(request): ...
def open_ended(request, steps="4", **others): ...
def needs(request, *, checkpoint, steps="4"): ...
def odd(steps="4", /, *, eta="0"): ...
class Model:
    def __init__(self, steps="4", checkpoint="x"): ...
    def sample(self, request): ...
class Needy:
    def __init__(self, checkpoint): ...
    def sample(self, request): ...
"""


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, dict[str, str]], Any]:
    monkeypatch.chdir(tmp_path)
    Path("option_models.py").write_text(MODULE)
    return lambda name, options: make_sampler(f"option_models:{name}", SamplerSetup([], options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("function", {"stps": "2"}, "unknown option of option_models:function: 'stps'; did you mean 'steps'"),
        ("function", {"request": "2"}, "option_models:function takes steps, guidance"),
        ("bare", {"steps": "2"}, "option_models:bare has no options: leave it out"),
        ("needs", {"steps": "2"}, "needs the option checkpoint; give --option checkpoint=VALUE"),
        ("odd", {"steps": "2"}, "option_models:odd takes eta"),
        (
            "Model",
            {"chekpoint": "a"},
            "unknown option of option_models:Model: 'chekpoint'; did you mean 'checkpoint'",
        ),
        ("Needy", {}, "the sampler option_models:Needy needs the option checkpoint"),
    ],
)
def test_wrong_options_are_named(
    make: Callable[[str, dict[str, str]], Any], name: str, options: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError) as error:
        make(name, options)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("function", {}),
        ("function", {"steps": "2", "guidance": "3"}),
        ("open_ended", {"anything": "2"}),
        ("needs", {"checkpoint": "a"}),
        ("Model", {"steps": "2"}),
    ],
)
def test_right_options_are_taken(
    make: Callable[[str, dict[str, str]], Any], name: str, options: dict[str, str]
) -> None:
    make(name, options)


def test_functions_passed_as_objects_are_checked_too() -> None:
    def mine(request: object, steps: str = "4") -> None: ...

    with pytest.raises(InputError, match="unknown option of mine: 'step'; did you mean 'steps'"):
        as_sampler(mine, {"step": "2"})
    with pytest.raises(InputError, match="needs the options a, b; give --option a=VALUE"):
        as_sampler(lambda request, a, b: None, {}, "mine")
