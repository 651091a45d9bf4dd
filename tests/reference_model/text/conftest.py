"""Text encoders: a tiny one, loaded and on the disk."""

import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants
from tiny_bert import LONG, SHORT, write_bert

from vdm_bench.reference_model.text.encoding import TextEmbeddings, TextEncoder, encode, load_encoder


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as BERT's authors publish it: config, vocabulary, weights with heads that are not needed."""
    return write_bert(tmp_path_factory.mktemp("models") / "tiny-bert")


@pytest.fixture(scope="session")
def encoder(bert: Path) -> TextEncoder:
    return load_encoder(bert, max_tokens=8)


@pytest.fixture(scope="session")
def embeddings(encoder: TextEncoder) -> TextEmbeddings:
    return encode([LONG, "a blue circle", SHORT], encoder)


@pytest.fixture
def folder(bert: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(bert, tmp_path / "bert"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The hub's cache, empty, where no network is."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"
