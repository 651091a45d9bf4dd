import subprocess
import sys

import pytest

import vdm_bench.leaderboards


def test_importing_the_package_is_cheap() -> None:
    program = (
        "import sys, vdm_bench.leaderboards as boards; "
        "assert not {'pandas', 'pydantic', 'rich', 'torch'} & set(sys.modules), 'heavy import'; "
        "boards.Record; assert 'pandas' not in sys.modules; "
        "boards.load_runs; assert 'pandas' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_every_public_name_is_there() -> None:
    for name in vdm_bench.leaderboards.__all__:
        assert getattr(vdm_bench.leaderboards, name) is not None
        assert name in dir(vdm_bench.leaderboards)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'colour'"):
        vdm_bench.leaderboards.colour  # noqa: B018
