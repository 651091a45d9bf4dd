"""A BERT (Devlin et al. 2018, arXiv 1810.04805) and its tokenizer, through transformers (extra `text`).

Weights are read only from safetensors, and no code of a model's repository is run. transformers is imported when
an encoder is loaded.
"""

import contextlib
import hashlib
import importlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vdm_bench.errors import InputError
from vdm_bench.reference_model.text.embeddings import SUFFIX, EncoderInfo

DEFAULT_ENCODER = "google-bert/bert-large-uncased"
DEFAULT_REVISION = "6da4b6a26a1877e173fca3225479512db81a5e5b"  # its commit on the hub
DEFAULT_MAX_TOKENS = 77

_HUB_FILES = ("*.json", "*.txt", "*.model", "*.safetensors")  # pickles are not even downloaded
_UNUSED = "pooler."  # BERT's pooled vector is not used, and many checkpoints lack its weights
_ROUNDED_UP = 128  # a model's vocabulary may exceed its tokenizer's by less than this
_WAY_OUT = "give a folder with config.json, the tokenizer's files and model.safetensors, or a file of embeddings"


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that is used here."""

    unk_token_id: int | None
    all_special_tokens: list[str]

    def __call__(self, text: list[str], **options: Any) -> Mapping[str, list[list[int]]]:
        """Return the `input_ids` of each text, with special tokens."""
        ...

    def get_vocab(self) -> dict[str, int]:
        """Return token -> id."""
        ...


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """A BERT and its tokenizer; made by `load_encoder`.

    Attributes:
        tokenizer: from transformers.
        model: from transformers, float32, in eval mode.
        info: description for a file of embeddings.
        width: D of the embeddings.
    """

    tokenizer: Tokenizer
    model: nn.Module
    info: EncoderInfo
    width: int

    def tokenize(self, captions: Sequence[str]) -> tuple[list[list[int]], list[int]]:
        """Return the token ids of each caption, truncated at `info.max_tokens`, and which were truncated."""
        if not captions:
            return [], []
        full = self.tokenizer(list(captions), truncation=False, verbose=False)["input_ids"]
        too_long = [place for place, ids in enumerate(full) if len(ids) > self.info.max_tokens]
        ids = [list(tokens) for tokens in full]
        if too_long:
            texts = [captions[place] for place in too_long]
            short = self.tokenizer(texts, truncation=True, max_length=self.info.max_tokens)["input_ids"]
            for place, tokens in zip(too_long, short, strict=True):
                ids[place] = list(tokens)
        return ids, too_long

    @torch.no_grad()
    def embed(self, ids: Sequence[Sequence[int]]) -> list[Tensor]:
        """Embed the captions of one batch: float32 [L, D] on the CPU for each caption of L tokens."""
        lengths = [len(tokens) for tokens in ids]
        tokens = torch.zeros(len(ids), max(lengths), dtype=torch.int64)
        for row, values in zip(tokens, ids, strict=True):
            row[: len(values)] = torch.tensor(values)
        mask = torch.arange(tokens.shape[1]) < torch.tensor(lengths)[:, None]
        device = next(self.model.parameters()).device
        hidden: Tensor = self.model(
            input_ids=tokens.to(device), attention_mask=mask.long().to(device)
        ).last_hidden_state
        return [row[:length] for row, length in zip(hidden.float().cpu(), lengths, strict=True)]


def load_encoder(
    source: str | Path = DEFAULT_ENCODER,
    *,
    max_tokens: int = DEFAULT_MAX_TOKENS,
    revision: str | None = None,
    device: str | torch.device = "cpu",
) -> TextEncoder:
    """Load a BERT and its tokenizer. The global random state is not changed.

    Args:
        source: a folder, or a name on the Hugging Face hub, which is downloaded into the hub's own cache.
        max_tokens: per caption, including those that the tokenizer adds (two for BERT).
        revision: commit, branch or tag on the hub; None for `DEFAULT_REVISION` of the default encoder, and the
            newest of any other.
        device: of the model.

    Raises:
        InputError: transformers is not installed, or the encoder is not available, damaged or unsuitable.
    """
    transformers = _import("transformers")
    path = Path(source).expanduser()
    folder = path if path.is_dir() else _download(str(source), revision)
    if not (folder / "config.json").is_file():
        raise InputError(f"{source} has no config.json of a text encoder; {_WAY_OUT}")
    model, tokenizer = _load(transformers, folder, str(source))
    _require_fit(str(source), model.config, tokenizer, max_tokens)
    name = path.resolve().name if path.is_dir() else str(source)
    commit = None if path.is_dir() else folder.name  # the hub's cache keeps snapshots by commit
    info = EncoderInfo(name, commit, _digest(model, tokenizer.get_vocab()), max_tokens)
    return TextEncoder(tokenizer, model.to(device), info, int(model.config.hidden_size))


def _load(transformers: ModuleType, folder: Path, source: str) -> tuple[Any, Tokenizer]:
    """Load model (float32, in eval mode) and tokenizer from a folder, which messages call `source`."""
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        with _quiet(transformers), torch.random.fork_rng(devices=[]):
            tokenizer: Tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), **options)
            model, loading = transformers.AutoModel.from_pretrained(
                str(folder), use_safetensors=True, output_loading_info=True, **options
            )
    except Exception as error:  # transformers raises a dozen kinds for a faulty folder
        raise InputError(f"no text encoder can be loaded from {source}: {_line(error)}; {_WAY_OUT}") from error
    missing = sorted(name for name in loading["missing_keys"] if _UNUSED not in name)
    if missing:  # transformers initialises them at random
        raise InputError(f"{source} lacks weights of its text encoder, such as {missing[0]}; {_WAY_OUT}")
    return model.float().eval().requires_grad_(False), tokenizer


def _import(name: str) -> ModuleType:
    """Import a module of the extra `text`, which the rest of the project does not need."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"encoding captions needs {name}, which cannot be imported ({_line(error)}): pip install "
            f"'vdm-bench[text]', or give a file of embeddings ({SUFFIX})"
        ) from error


def _download(source: str, revision: str | None) -> Path:
    """Return the local folder of a repository on the hub, downloaded if it is not in the hub's cache."""
    if source.startswith((".", "~", os.sep)) or source.count("/") > 1 or "\\" in source:
        raise InputError(f"there is no folder {source} with a text encoder; {_WAY_OUT}")
    hub = _import("huggingface_hub")
    if source == DEFAULT_ENCODER and revision is None:
        revision = DEFAULT_REVISION
    try:
        return Path(hub.snapshot_download(source, revision=revision, allow_patterns=list(_HUB_FILES)))
    except Exception as error:  # network, name, revision, permissions, disk
        raise InputError(
            f"there is no folder {source}, and the Hugging Face hub does not provide a text encoder of it "
            f"({_line(error)}); {_WAY_OUT}"
        ) from error


def _require_fit(source: str, config: Any, tokenizer: Tokenizer, max_tokens: int) -> None:
    """Refuse a model that has a decoder, or does not match its tokenizer or `max_tokens`."""
    vocabulary, positions = tokenizer.get_vocab(), getattr(config, "max_position_embeddings", max_tokens)
    if config.is_encoder_decoder or getattr(config, "is_decoder", False):
        raise InputError(f"{source} is not an encoder alone ({config.model_type}); give a BERT")
    if not set(vocabulary) - set(tokenizer.all_special_tokens):
        raise InputError(f"the tokenizer in {source} knows no word; its vocab.txt or tokenizer.json is missing")
    excess = config.vocab_size - (max(vocabulary.values()) + 1)
    if not 0 <= excess < _ROUNDED_UP:
        raise InputError(
            f"the tokenizer in {source} has {len(vocabulary)} tokens, its model {config.vocab_size}: the "
            "vocabulary is truncated, or they are of different encoders"
        )
    if not 3 <= max_tokens <= positions:
        raise InputError(f"max_tokens {max_tokens} is not between 3 and the {positions} positions of {source}")


def _digest(model: nn.Module, vocabulary: Mapping[str, int]) -> str:
    """Return the SHA-256 over the vocabulary and the weights that are used, in hexadecimal."""
    digest = hashlib.sha256(json.dumps(sorted(vocabulary.items())).encode())
    for name, weights in sorted(model.named_parameters()):
        if _UNUSED not in name:
            digest.update(f"{name} {list(weights.shape)}".encode())
            digest.update(weights.detach().contiguous().numpy().data)
    return digest.hexdigest()


@contextlib.contextmanager
def _quiet(transformers: ModuleType) -> Iterator[None]:
    """Silence transformers while it loads: it warns about unused weights and shows progress bars on stderr."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _line(error: Exception) -> str:
    """Return the first line of an error, without punctuation at its end."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.: ')[:200]}" if lines else type(error).__name__
