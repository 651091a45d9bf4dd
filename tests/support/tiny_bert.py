"""A tiny random BERT on the disk, which goes through the same code as a large one."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForPreTraining

from vdm_bench.errors import InputError

SHORT, LONG = "a circle", "a red square moves up"
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "red",
    "blue",
    "circle",
    "square",
    "move",
    "##s",
    "up",
]


WIDTH = 32


def write_bert(folder: Path, vocabulary: int = len(WORDS)) -> Path:
    folder.mkdir()
    folder.joinpath("vocab.txt").write_text("\n".join(WORDS), "utf-8")
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=80,
        initializer_range=0.5,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertForPreTraining(config).save_pretrained(folder)
    return folder


def change_weights(folder: Path, rename: dict[str, str]) -> None:
    """Rename a part of names of the weights; to the empty string: leave them out."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    for old, new in rename.items():
        tensors = {k.replace(old, new): v for k, v in tensors.items() if new or old not in k}
    save_file(tensors, path, {"format": "pt"})


def sentence(error: pytest.ExceptionInfo[InputError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text
