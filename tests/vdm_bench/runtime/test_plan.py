"""A folder belongs to the settings that its files were made with."""

from pathlib import Path
from typing import Any

import pytest

from vdm_bench.errors import InputError
from vdm_bench.runtime.plan import FolderPlan

OLD = {"clips": 4, "sampler": {"kind": "ddim", "settings": {"steps": 8}}, "name": "a"}


def plan(folder: Path) -> FolderPlan:
    return FolderPlan(
        folder / "plan.json", "a run", optional=frozenset({"late"}), titles={"clips": "number of clips"}
    )


def test_the_same_settings_go_on(tmp_path: Path) -> None:
    plan(tmp_path).write(OLD)
    assert plan(tmp_path).read() == OLD
    plan(tmp_path).require_same(OLD, dict(OLD))
    plan(tmp_path).require_same(OLD, OLD | {"clips": 5, "extra": 1}, free={"clips", "extra"})
    plan(tmp_path).require_same(OLD, OLD | {"late": None})  # an earlier version did not write it


def test_a_part_of_the_settings_is_compared_with_what_it_holds(tmp_path: Path) -> None:
    plan(tmp_path).require_same(OLD, {"sampler": {"kind": "ddim"}}, partial=True)
    for part in ({"sampler": {"kind": "ddpm"}}, {"sampler": {"seed": 1}}, {"late": 1}):
        with pytest.raises(InputError):
            plan(tmp_path).require_same(OLD, part, partial=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"clips": 5}, "number of clips (4 and not 5)"),
        ({"sampler": {"kind": "ddim", "settings": {"steps": 9}}}, "sampler.settings.steps (8 and not 9)"),
        ({"sampler": {"kind": "ddim"}}, "sampler.settings ({'steps': 8} and not nothing)"),
        ({"name": "x" * 70, "clips": 5}, "name, number of clips (4 and not 5)"),
        ({"late": 1}, "late (None and not 1)"),
        ({"extra": 1}, "extra (nothing and not 1)"),
    ],
)
def test_other_settings_are_refused_by_name_and_value(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        plan(tmp_path).require_same(OLD, OLD | change)
    expected = f"{tmp_path} holds a run with another {words}; choose another --out, or delete it"
    assert str(caught.value) == expected
