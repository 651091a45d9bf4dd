"""Captions to embeddings: with a BERT (`bert.py`), or from a file of embeddings (`embeddings.py`).

The paper conditions on the token embeddings of BERT-large, the encoder's last hidden states. It does not say
which BERT-large, nor how many tokens: both are settings here. Reading a file does not need transformers.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch

from vdm_bench.errors import InputError
from vdm_bench.reference_model.text.bert import DEFAULT_ENCODER as DEFAULT_ENCODER
from vdm_bench.reference_model.text.bert import DEFAULT_MAX_TOKENS as DEFAULT_MAX_TOKENS
from vdm_bench.reference_model.text.bert import TextEncoder as TextEncoder
from vdm_bench.reference_model.text.bert import load_encoder as load_encoder
from vdm_bench.reference_model.text.embeddings import SUFFIX, caption_digest, plain, require_captions
from vdm_bench.reference_model.text.embeddings import EncoderInfo as EncoderInfo
from vdm_bench.reference_model.text.embeddings import TextBatch as TextBatch
from vdm_bench.reference_model.text.embeddings import TextEmbeddings as TextEmbeddings

TooLong: TypeAlias = Literal["cut", "refuse"]
OnProgress: TypeAlias = Callable[[int, int], None]  # (captions done, of how many)


def encode(
    captions: Sequence[str],
    encoder: TextEncoder,
    *,
    batch_size: int = 32,
    too_long: TooLong = "cut",
    progress: OnProgress | None = None,
) -> TextEmbeddings:
    """Embed captions: each text once, except the empty one (it means unconditional).

    Args:
        captions: repeats allowed.
        encoder: from `load_encoder`.
        batch_size: captions per forward pass; embeddings depend on it by rounding only.
        too_long: truncate and count captions with too many tokens (`TextEmbeddings.cut`), or refuse them.
        progress: is called after each batch.

    Raises:
        InputError: a caption is not a string or, if refused, too long; or an embedding is not finite.
    """
    require_captions(captions)
    texts = list(dict.fromkeys(text for text in map(plain, captions) if text))
    ids, truncated = encoder.tokenize(texts)
    if truncated and too_long == "refuse":
        raise InputError(
            f"{len(truncated)} captions have more than {encoder.info.max_tokens} tokens, the first being "
            f"{texts[truncated[0]]!r}; shorten them, allow more tokens, or have them truncated"
        )
    tokens = _embed_all(ids, encoder, batch_size, progress)
    if not bool(torch.isfinite(tokens).all()):
        raise InputError(
            f"the text encoder {encoder.info.name} returns embeddings that are not finite; use another"
        )
    digests = np.frombuffer(bytearray().join(map(caption_digest, texts)), dtype=np.uint8).reshape(-1, 32)
    unknown = encoder.tokenizer.unk_token_id
    return TextEmbeddings(
        tokens=tokens,
        lengths=torch.tensor([len(values) for values in ids], dtype=torch.int64),
        digests=torch.from_numpy(digests),
        encoder=encoder.info,
        cut=len(truncated),
        unknown=sum(unknown in values for values in ids),
    )


def _embed_all(
    ids: Sequence[Sequence[int]], encoder: TextEncoder, batch_size: int, progress: OnProgress | None
) -> torch.Tensor:
    """Embed the token ids of captions batch by batch: float32 [M, D], in the order of the captions."""
    lengths = [len(values) for values in ids]
    ends = list(accumulate(lengths, initial=0))
    tokens = torch.empty(ends[-1], encoder.width)
    order = sorted(range(len(ids)), key=lambda place: lengths[place])  # little padding
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        for place, embedded in zip(places, encoder.embed([ids[place] for place in places]), strict=True):
            tokens[ends[place] : ends[place + 1]] = embedded
        if progress is not None:
            progress(start + len(places), len(order))
    return tokens


def load_text(
    captions: Sequence[str],
    source: str | Path | None,
    *,
    text_dim: int | None = None,
    max_tokens: int = DEFAULT_MAX_TOKENS,
    revision: str | None = None,
    device: str | torch.device = "cpu",
    progress: OnProgress | None = None,
) -> TextEmbeddings:
    """Return the embeddings of captions, from a file or an encoder.

    Args:
        captions: all that will be looked up.
        source: a file of embeddings, a folder with a BERT, or the name of one on the Hugging Face hub.
        text_dim: of the model; None to accept any width.
        max_tokens: for a BERT; a file has its own.
        revision: for a BERT on the hub.
        device: of the BERT; embeddings are on the CPU in any case.
        progress: of encoding.

    Raises:
        InputError: there is no source, it cannot be used, a caption is not in the file, or the width is not
            the model's.
    """
    require_captions(captions)
    if text_dim == 0:
        raise InputError("the model was trained without text; captions need a model with text_dim above 0")
    if source is None:
        raise InputError(f"captions need a text encoder or a file of embeddings ({SUFFIX}), and neither is given")
    path = Path(source).expanduser()
    if path.suffix == SUFFIX or path.is_file():
        embeddings = TextEmbeddings.load(path, width=text_dim)
        embeddings.require(captions, where=f"the embeddings in {path}")
        return embeddings
    encoder = load_encoder(source, max_tokens=max_tokens, revision=revision, device=device)
    if text_dim is not None and encoder.width != text_dim:
        raise InputError(
            f"the text encoder {encoder.info.name} gives embeddings {encoder.width} wide, but the model's "
            f"text_dim is {text_dim}; give the encoder that the model was trained with"
        )
    return encode(captions, encoder, progress=progress)
