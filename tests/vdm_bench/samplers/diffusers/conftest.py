"""Tiny pipelines on the disk, whole and without their weights."""

import functools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a pipeline by its class, saved when it is first asked for."""
    from diffusers_samplers import BY_KIND  # needs diffusers

    folder = tmp_path_factory.mktemp("diffusers")
    return functools.cache(lambda kind: BY_KIND[kind].save(folder))


@pytest.fixture
def without_weights(saved: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """The folder of a pipeline whose weights are gone: what is refused was refused before they are read."""

    def copied(kind: str) -> Path:
        copy = tmp_path / kind
        shutil.copytree(saved(kind), copy)
        for path in copy.rglob("*.safetensors"):
            path.write_bytes(b"")
        return copy

    return copied
