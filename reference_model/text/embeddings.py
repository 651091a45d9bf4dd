"""Embeddings of captions, in memory and as a file, so that training and sampling need no text encoder.

Captions differ in their number of tokens, so tokens are stored one caption after the other and padded only in a
batch. A caption is looked up by the SHA-256 of its text; the text itself is not in the file.

The file is one `.safetensors`: `tokens` [M, D] (float32 or float16), `lengths` int64 [N], `captions` uint8
[N, 32] (the digests), and in its header, under `vdm_bench_text`, JSON: format, encoder, cut, unknown, and
checksums of all of it; files of earlier versions have none.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from vdm_bench.errors import DamagedError, InputError
from vdm_bench.runtime.checksums import sealed_header, unsealed_header
from vdm_bench.runtime.fields import Kind, wrong_field
from vdm_bench.runtime.files import atomic_path, remove_temporary_files_of
from vdm_bench.runtime.input_files import open_safetensors

FORMAT = 1
SUFFIX = ".safetensors"
_HEADER = "vdm_bench_text"
_NAMES = {"tokens", "lengths", "captions"}
_DIGEST_BYTES = 32
_FIELDS: dict[str, Kind] = {"format": int, "encoder": dict, "cut": int, "unknown": int}
_ENCODER_FIELDS: dict[str, Kind] = {"name": str, "revision": str | None, "digest": str, "max_tokens": int}
_WAY_OUT = "encode the captions again"

Storage: TypeAlias = Literal["float32", "float16"]
_DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "float16": torch.float16}


def plain(caption: str) -> str:
    """Return a caption as it is encoded and looked up: white space collapsed to single spaces, none at the ends.

    >>> plain("  a red\\n circle ")
    'a red circle'
    """
    return " ".join(caption.split())


def caption_digest(caption: str) -> bytes:
    """Return the SHA-256 of a caption's plain form: 32 bytes."""
    return hashlib.sha256(plain(caption).encode("utf-8", "surrogatepass")).digest()


def require_captions(captions: Sequence[str]) -> None:
    """Refuse anything but a sequence of strings.

    Raises:
        InputError: `captions` is a single string, or one of them is not a string.
    """
    if isinstance(captions, str):
        raise InputError(f"captions is one string, {captions!r}; give a list of captions")
    for place, caption in enumerate(captions):
        if not isinstance(caption, str):
            raise InputError(f"caption {place} is {caption!r}; give text, or '' for none")


@dataclass(frozen=True)
class EncoderInfo:
    """What made the embeddings.

    Attributes:
        name: of the encoder on the hub, or of its folder (without the path).
        revision: commit on the hub, or None.
        digest: SHA-256 over the weights used and the vocabulary, in hexadecimal.
        max_tokens: longer captions are truncated to this; includes the tokens that the tokenizer adds.
    """

    name: str
    revision: str | None
    digest: str
    max_tokens: int


class TextBatch(NamedTuple):
    """The captions of a batch, as input of the network.

    Attributes:
        embeddings: float32 [B, L, D]; zero in the padding.
        mask: bool [B, L]; False in the padding. A row of padding alone is unconditional.
    """

    embeddings: Tensor
    mask: Tensor


@dataclass(frozen=True, eq=False)
class TextEmbeddings:
    """Token embeddings of N captions, without the empty caption, which means unconditional.

    Attributes:
        tokens: float32 or float16 [M, D]: the tokens of all captions, one caption after the other.
        lengths: int64 [N]: number of tokens of each caption; their sum is M.
        digests: uint8 [N, 32]: `caption_digest` of each caption, all different.
        encoder: that made them.
        cut: how many captions were truncated because they had more than `encoder.max_tokens` tokens.
        unknown: how many captions have a word that is not in the encoder's vocabulary.
    """

    tokens: Tensor
    lengths: Tensor
    digests: Tensor
    encoder: EncoderInfo
    cut: int = 0
    unknown: int = 0

    def __post_init__(self) -> None:
        if wrong := self._wrong():
            raise InputError(f"these are not text embeddings: {wrong}")

    def __len__(self) -> int:
        return len(self.lengths)

    def __contains__(self, caption: object) -> bool:
        return isinstance(caption, str) and (not plain(caption) or caption_digest(caption) in self._rows)

    @property
    def width(self) -> int:
        """D, the width of the embeddings: what the model's `text_dim` must be."""
        return self.tokens.shape[1]

    @property
    def report(self) -> str:
        """One line for people: how many captions there are, and how many were truncated or have unknown words."""
        return (
            f"{len(self)} captions by {self.encoder.name}, {self.cut} truncated to {self.encoder.max_tokens} "
            f"tokens, {self.unknown} with a word unknown to it"
        )

    def batch(self, captions: Sequence[str], *, length: int | None = None) -> TextBatch:
        """Look up captions; empty ones are unconditional.

        Args:
            captions: B captions, in any order, repeats allowed.
            length: L of the result; None for that of the longest caption (at least 1).

        Returns:
            Embeddings float32 [B, L, D] and mask bool [B, L].

        Raises:
            InputError: a caption has no embedding, or is longer than `length`.
        """
        self.require(captions)
        rows = [self._rows[caption_digest(caption)] if plain(caption) else None for caption in captions]
        lengths = [0 if row is None else self._length_list[row] for row in rows]
        longest = max(lengths, default=0)
        if length is not None and length < longest:
            raise InputError(f"a caption has {longest} tokens, more than the length {length} asked for")
        shape = len(rows), length or max(longest, 1)
        embeddings, mask = torch.zeros(*shape, self.width), torch.zeros(shape, dtype=torch.bool)
        for place, (row, count) in enumerate(zip(rows, lengths, strict=True)):
            if row is not None:
                start = self._starts[row]
                embeddings[place, :count] = self.tokens[start : start + count]
                mask[place, :count] = True
        return TextBatch(embeddings, mask)

    def require(
        self, captions: Sequence[str] = (), *, width: int | None = None, where: str = "the text embeddings"
    ) -> None:
        """Check early that captions have embeddings, and that the width is the model's.

        Args:
            captions: that will be looked up.
            width: the model's `text_dim`.
            where: what messages call the embeddings, such as their file.

        Raises:
            InputError: a caption has no embedding, or the width differs.
        """
        if width is not None and width != self.width:
            raise InputError(
                f"{where} are {self.width} wide (encoder {self.encoder.name}), but the model's text_dim is "
                f"{width}; give embeddings by the encoder that the model was trained with"
            )
        require_captions(captions)
        missing = list(dict.fromkeys(caption for caption in captions if caption not in self))
        if missing:
            more = f" and of {len(missing) - 1} more" if len(missing) > 1 else ""
            shown = missing[0] if len(missing[0]) <= 80 else f"{missing[0][:77]}..."
            raise InputError(f"{where} have none of the caption {shown!r}{more}; encode these captions too")

    def save(self, path: str | Path, *, storage: Storage = "float32") -> None:
        """Write the file, atomically.

        Args:
            path: ends in `.safetensors`.
            storage: `float32` is exact; `float16` halves the file and rounds (relative error 5e-4).

        Raises:
            InputError: another suffix, the file cannot be written, or a value is too large for float16.
        """
        path = Path(path)
        if path.suffix != SUFFIX:
            raise InputError(f"text embeddings are written as safetensors: {path} must end in {SUFFIX}")
        if storage not in _DTYPES:
            raise InputError(f"storage {storage!r} is none of {', '.join(_DTYPES)}")
        tokens = self.tokens.to(_DTYPES[storage])
        if not bool(torch.isfinite(tokens).all()):
            raise InputError("the text embeddings have values that float16 cannot hold; store them as float32")
        counts = {"cut": self.cut, "unknown": self.unknown}
        header = {"format": FORMAT, "encoder": dataclasses.asdict(self.encoder), **counts}
        tensors = {"tokens": tokens.contiguous(), "lengths": self.lengths, "captions": self.digests}
        remove_temporary_files_of(path, shared=True)
        with atomic_path(path, own_folder=True) as temporary:
            try:
                save_file(tensors, temporary, {_HEADER: sealed_header(header, tensors)})
            except SafetensorError as error:
                raise InputError(f"cannot write {path}: {error}; nothing was changed") from error

    @classmethod
    def load(cls, path: str | Path, *, width: int | None = None) -> "TextEmbeddings":
        """Read a file that `save` wrote.

        Args:
            path: of the file.
            width: the model's `text_dim`, if the file is for a model.

        Raises:
            InputError: the file does not exist, is truncated or damaged, or has another format or width.
        """
        path = Path(path)
        text, tensors = _read(path)
        header, sums = unsealed_header(text, path, _WAY_OUT)
        if header.get("format", FORMAT) != FORMAT:
            raise InputError(
                f"{path} has format {header['format']!r} of text embeddings; this version reads {FORMAT}"
            )
        wrong = wrong_field(header, _FIELDS) or wrong_field(header["encoder"], _ENCODER_FIELDS)
        if wrong:
            raise DamagedError(f"the header of {path}", wrong, _WAY_OUT)
        sums.require(tensors)
        encoder, counts = EncoderInfo(**header["encoder"]), (header["cut"], header["unknown"])
        try:
            embeddings = cls(tensors["tokens"], tensors["lengths"], tensors["captions"], encoder, *counts)
        except InputError as error:
            raise InputError(f"{path} is damaged ({error}); {_WAY_OUT}") from error
        embeddings.require(width=width, where=f"the embeddings in {path}")
        return embeddings

    @cached_property
    def _rows(self) -> dict[bytes, int]:
        return {bytes(digest): row for row, digest in enumerate(self.digests.numpy())}

    @cached_property
    def _length_list(self) -> list[int]:
        return [int(length) for length in self.lengths.tolist()]

    @cached_property
    def _starts(self) -> list[int]:
        return [int(end) - length for end, length in zip(self.lengths.cumsum(0), self._length_list, strict=True)]

    def _wrong(self) -> str | None:
        """Describe what is inconsistent, or return None."""
        tokens, lengths, digests = self.tokens, self.lengths, self.digests
        if tokens.ndim != 2 or tokens.dtype not in _DTYPES.values() or tokens.shape[1] == 0:
            return f"tokens are {tokens.dtype} {list(tokens.shape)}, not float [M, D]"
        if lengths.ndim != 1 or lengths.dtype != torch.int64:
            return f"lengths are {lengths.dtype} {list(lengths.shape)}, not int64 [N]"
        if digests.dtype != torch.uint8 or digests.shape != (len(lengths), _DIGEST_BYTES):
            return (
                f"digests of captions are {digests.dtype} {list(digests.shape)}, not uint8 [{len(lengths)}, 32]"
            )
        if bool((lengths < 1).any()) or int(lengths.sum()) != len(tokens):
            return f"the lengths add up to {int(lengths.sum())}, but there are {len(tokens)} tokens"
        return "a caption occurs twice" if len(self._rows) != len(lengths) else None


def _read(path: Path) -> tuple[str, dict[str, Tensor]]:
    """Return the header's text and the tensors; large files are memory-mapped."""
    with open_safetensors(path, "pt", _damaged, _unreadable) as file:
        metadata: dict[str, Any] = file.metadata() or {}
        names = set(file.keys())
        if _HEADER not in metadata or names != _NAMES:
            raise InputError(
                f"{path} holds no text embeddings; give a file that `TextEmbeddings.save` wrote (for the "
                "weights of a text encoder, give the folder they lie in)"
            )
        return str(metadata[_HEADER]), {name: file.get_tensor(name) for name in names}


def _unreadable(source: str, reason: str) -> InputError:
    return InputError(f"cannot read text embeddings from {source}: {reason}; give another file")


def _damaged(source: str, reason: str) -> InputError:
    reason = reason.removeprefix("is damaged ")
    return InputError(f"{source} is truncated, or not safetensors at all {reason}; copy or make it again")
