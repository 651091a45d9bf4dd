"""Embeddings of log-SNR, class label and text: the network's inputs other than z.

Always float32, also under autocast.
"""

import itertools
import math
from dataclasses import dataclass
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vdm_bench.errors import InputError
from vdm_bench.reference_model.config import ModelConfig
from vdm_bench.reference_model.process import describe

__all__ = ["Condition"]

UNCONDITIONAL = -1


@dataclass(frozen=True, eq=False)
class Condition:
    """The classes or texts on which B examples are conditioned; an example may be unconditional.

    Attributes:
        labels: class of each example, int64 [B], -1 for unconditional; or None.
        text: token embeddings, float [B, L, D]; or None.
        text_mask: bool [B, L], False for padding; an example of padding alone is unconditional.

    Raises:
        InputError: an attribute of another type, dtype or shape, or a text without its mask.
    """

    labels: Tensor | None = None
    text: Tensor | None = None
    text_mask: Tensor | None = None

    def __post_init__(self) -> None:
        labels, text, mask = self._values
        if labels is not None and not (_is_tensor(labels, 1) and labels.dtype == torch.int64):
            raise InputError(f"labels must be a tensor, int64 [B], not {describe(labels)}")
        if text is None and mask is None:
            return
        is_text = _is_tensor(text, 3) and text.is_floating_point()
        if not (is_text and _is_tensor(mask, 2) and mask.dtype == torch.bool):
            raise InputError(
                f"text and text_mask must be tensors, float [B, L, D] and bool [B, L], not {describe(text)} "
                f"and {describe(mask)}"
            )

    def dropped(self, drop: Tensor) -> "Condition":
        """Return the condition with the examples where `drop`, bool [B], is true made unconditional."""
        return Condition(
            None if self.labels is None else self.labels.masked_fill(drop, UNCONDITIONAL),
            self.text,
            None if self.text_mask is None else self.text_mask & ~drop[:, None],
        )

    def unconditional(self) -> "Condition":
        """Return the condition with all examples made unconditional."""
        values = self.labels if self.labels is not None else self.text_mask
        if values is None:
            return self
        return self.dropped(torch.ones(len(values), dtype=torch.bool, device=values.device))

    def rows(self, rows: slice) -> "Condition":
        """Return some of the examples."""
        return Condition(*(None if value is None else value[rows] for value in self._values))

    def to(self, device: torch.device) -> "Condition":
        """Return the condition on another device."""
        return Condition(*(None if value is None else value.to(device) for value in self._values))

    @staticmethod
    def join(first: "Condition", second: "Condition") -> "Condition":
        """Concatenate the examples of two conditions of the same kind."""
        pairs = zip(first._values, second._values, strict=True)
        return Condition(*(None if a is None or b is None else torch.cat([a, b]) for a, b in pairs))

    @property
    def _values(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        return self.labels, self.text, self.text_mask


class Embedding(nn.Module):
    """Embeds log-SNR and condition as one vector per example: float32 [B, embedding_dim].

    Each has its own MLP; the two results are added. The log-SNR enters as a sinusoidal embedding of
    `1000 atan(exp(-log_snr / 2)) / (pi / 2)`, which is 1000 t for a cosine schedule without truncated ends. For
    unconditional examples the condition's embedding is the zero vector.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.embedding_dim
        self.sinusoid_dim = 2 * (max(config.base_channels, 32) // 2)
        self.log_snr_mlp = _mlp(self.sinusoid_dim, width, config.embedding_layers)
        self.class_factors = config.class_factors or (config.classes,)
        self.classes = nn.Embedding(sum(self.class_factors), width) if config.classes else None
        self.pooling = TextPooling(config.text_dim, width) if config.text_dim else None
        conditional = config.classes or config.text_dim
        self.condition_mlp = _mlp(width, width, config.embedding_layers) if conditional else None
        if self.classes is not None:
            nn.init.normal_(self.classes.weight, std=len(self.class_factors) ** -0.5)

    def forward(self, log_snr: Tensor, condition: Condition | None) -> Tensor:
        """Embed log-SNRs [B] and the condition of the examples (None: all unconditional)."""
        with torch.autocast(log_snr.device.type, enabled=False):
            angle = torch.atan(torch.exp(-0.5 * log_snr.double())) / (math.pi / 2)
            emb: Tensor = self.log_snr_mlp(sinusoid(1000.0 * angle.float(), self.sinusoid_dim))
            if self.condition_mlp is None:
                return emb
            vector = torch.zeros_like(emb)
            condition = condition or Condition()
            if self.classes is not None and condition.labels is not None:
                known = condition.labels >= 0
                rows = self._class_rows(condition.labels.clamp(min=0))
                vector = vector + self.classes(rows).sum(1) * known[:, None]
            if self.pooling is not None and condition.text is not None and condition.text_mask is not None:
                vector = vector + self.pooling(condition.text.float(), condition.text_mask)
            summed: Tensor = emb + self.condition_mlp(vector)
            return summed

    def _class_rows(self, labels: Tensor) -> Tensor:
        """Split labels [B] into attributes; return the table's row of each: int64 [B, attributes]."""
        rows = []
        for size in reversed(self.class_factors):
            rows.append(labels % size)
            labels = labels // size
        starts = itertools.accumulate(self.class_factors[:-1], initial=0)
        return torch.stack([row + start for row, start in zip(reversed(rows), starts, strict=True)], 1)


class TextPooling(nn.Module):
    """Attention pooling: one learnt query over the tokens, eight heads; zero for examples without tokens."""

    heads = 8

    def __init__(self, text_dim: int, width: int) -> None:
        super().__init__()
        if width % self.heads:
            raise InputError(f"embedding_dim {width} is not divisible by {self.heads}, the heads of text pooling")
        self.norm = nn.LayerNorm(text_dim)
        self.query = nn.Parameter(torch.randn(width) / math.sqrt(width))
        self.key_value = nn.Linear(text_dim, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, text: Tensor, mask: Tensor) -> Tensor:
        """Pool the token embeddings [B, L, D] where `mask`, bool [B, L], is true: [B, width]."""
        batch, length = mask.shape
        key, value = self.key_value(self.norm(text)).view(batch, length, 2, self.heads, -1).unbind(2)
        query = self.query.view(1, self.heads, 1, -1).expand(batch, -1, -1, -1)
        has_text = mask.any(1)
        # An example without tokens attends to the padding, so that no softmax is empty; its result is zeroed.
        attended = (mask | ~has_text[:, None])[:, None, None]
        pooled = F.scaled_dot_product_attention(
            query, key.transpose(1, 2), value.transpose(1, 2), attn_mask=attended
        )
        result: Tensor = self.out(pooled.reshape(batch, -1)) * has_text[:, None]
        return result


def _is_tensor(value: object, axes: int) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.ndim == axes


def sinusoid(position: Tensor, dim: int) -> Tensor:
    """Return sines and cosines of positions [B] at `dim / 2` frequencies from 1 to 1/10000: float32 [B, dim]."""
    half = dim // 2
    frequency = torch.exp(torch.arange(half, device=position.device) * (-math.log(10000.0) / (half - 1)))
    angle = position.float()[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], 1)


def _mlp(inputs: int, width: int, layers: int) -> nn.Sequential:
    """Linear layers with swish between them."""
    modules: list[nn.Module] = [nn.Linear(inputs, width)]
    for _ in range(layers - 1):
        modules += [nn.SiLU(), nn.Linear(width, width)]
    return nn.Sequential(*modules)
