"""The packages of the metrics name what is public, and every public name is there."""

import importlib
import pkgutil

import pytest

import vdm_bench.metrics

PACKAGES = [
    "vdm_bench.metrics",
    *(m.name for m in pkgutil.walk_packages(vdm_bench.metrics.__path__, "vdm_bench.metrics.") if m.ispkg),
]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_of_a_package_is_there(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__all__, f"{package} must say in __all__ what is public"
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    assert set(module.__all__) <= set(dir(module))


def test_the_packages_are_found() -> None:
    assert PACKAGES == ["vdm_bench.metrics", "vdm_bench.metrics.networks", "vdm_bench.metrics.weights"]
