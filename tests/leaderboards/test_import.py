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


PACKAGES = """
vdm_bench vdm_bench.leaderboards vdm_bench.leaderboards.report vdm_bench.metrics vdm_bench.metrics.weights
vdm_bench.reference_model vdm_bench.reference_model.text vdm_bench.reference_model.training
"""


@pytest.mark.parametrize("package", PACKAGES.split())
def test_every_public_name_is_there(package: str) -> None:
    program = (
        f"import {package} as package; listed = dir(package); "
        "assert set(package.__all__) <= set(listed), listed; [getattr(package, name) for name in package.__all__]"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'colour'"):
        vdm_bench.leaderboards.colour  # noqa: B018
