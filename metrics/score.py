"""A score, and the signature that says how it was computed.

The idea is sacreBLEU's: scores are comparable only if their signatures are equal, so the signature is built where
the score is computed and stored with it. This module needs only the standard library.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from vdm_bench.errors import InputError

DIGEST_LENGTH = 12

# Everything that changes a value, in the order of a signature. `v`, the version, is last and not part of the
# digest: a new version must not make old scores incomparable. If it changes a value, one of the other keys
# changes too.
SIGNATURE_KEYS = (
    *("net", "in", "view", "fps", "task", "ref", "n", "src"),
    *("cov", "root", "splits", "kernel", "knn", "cap", "prec", "v"),
)

GroupKind = Literal["permuted-clips", "permuted-rounds", "permuted-conditions"]


@dataclass(frozen=True)
class Signature:
    """How a score was computed: the metric's name and ordered `key:value` fields, version last.

    Attributes:
        metric: name of the recipe, such as `embedded/fvd`.
        fields: pairs (key, value) in the order of `SIGNATURE_KEYS`.

    Example:
        >>> signature = Signature.of("fvd", {"n": "2048", "net": "i3d-k400@fa7df956:logits", "v": "0.1.0"})
        >>> str(signature)
        'fvd|net:i3d-k400@fa7df956:logits|n:2048|v:0.1.0'
        >>> Signature.parse(str(signature)) == signature
        True
    """

    metric: str
    fields: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, metric: str, fields: Mapping[str, str]) -> "Signature":
        """Build a signature from a mapping; the order of its keys does not matter.

        Raises:
            InputError: a key that is not in `SIGNATURE_KEYS`, or a value with `|` in it.
        """
        for key, value in fields.items():
            if key not in SIGNATURE_KEYS:
                raise InputError(f"{key!r} is not a signature key; known are {', '.join(SIGNATURE_KEYS)}")
            if "|" in value or not value:
                raise InputError(f"the signature value {key}:{value!r} is empty or holds the separator '|'")
        return cls(metric, tuple((key, fields[key]) for key in SIGNATURE_KEYS if key in fields))

    @classmethod
    def parse(cls, text: str) -> "Signature":
        """Read the text of a signature, as `str(signature)` returns it.

        Raises:
            InputError: the text is not a signature.
        """
        metric, *parts = text.split("|")
        pairs = [part.partition(":") for part in parts]
        if not metric or not all(colon for _, colon, _ in pairs):
            raise InputError(f"{text!r} is not a signature; one looks like 'fvd|net:...|n:2048|v:0.1.0'")
        return cls.of(metric, {key: value for key, _, value in pairs})

    def __str__(self) -> str:
        return "|".join([self.metric, *(f"{key}:{value}" for key, value in self.fields)])

    @property
    def digest(self) -> str:
        """12 hexadecimal digits over everything but the version; scores with equal digests are comparable."""
        protocol_part = Signature(self.metric, tuple(pair for pair in self.fields if pair[0] != "v"))
        return hashlib.sha256(str(protocol_part).encode()).hexdigest()[:DIGEST_LENGTH]

    def differences(self, other: "Signature") -> list[tuple[str, str | None, str | None]]:
        """Return the keys in which two signatures differ, except the version: (key, value here, value there)."""
        here, there = dict(self.fields), dict(other.fields)
        return [
            (key, here.get(key), there.get(key))
            for key in SIGNATURE_KEYS
            if key != "v" and here.get(key) != there.get(key)
        ]


@dataclass(frozen=True)
class Interval:
    """A confidence interval for a score.

    Attributes:
        low: lower end, in the unit of the score.
        high: upper end.
        level: nominal coverage, such as 0.95.
        method: how it was computed, such as `jackknife-20`.
    """

    __pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}  # noqa: RUF012 - read by pydantic

    low: float
    high: float
    level: float
    method: str


@dataclass(frozen=True)
class Estimate:
    """A number with its confidence interval: a score at infinitely many clips, or the difference of two scores.

    Attributes:
        value: the number, in the unit of the score; it may lie outside the range of the score.
        low: lower end of the interval, in the unit of the score.
        high: upper end; two scores differ at this level if the interval of their difference excludes zero.
        level: nominal coverage, such as 0.95.
        method: how it was computed, such as `linear-in-1/n-jackknife-20` or `paired-jackknife-20`.
    """

    __pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}  # noqa: RUF012 - read by pydantic

    value: float
    low: float
    high: float
    level: float
    method: str


@dataclass(frozen=True)
class Score:
    """The value of a metric, with its interval, its finite-sample bias and its signature.

    Attributes:
        metric: name of the recipe, such as `embedded/fvd`.
        value: the number; None if there is none, and then `status` says why. Never NaN.
        higher_is_better: direction of the metric.
        n_reference: reference clips behind the value.
        n_generated: generated clips behind the value.
        signature: text of the `Signature`.
        digest: digest of the signature; scores with equal digests are comparable.
        interval: confidence interval; None if there are too few clips.
        floor: finite-sample bias: the expected score of a perfect model at these numbers of clips, or None.
        infinite: the value extrapolated to infinitely many clips; None if that is not possible.
        status: `ok`, or why there is no value.
        marks: warnings about the value, such as `2 generated clips broken and skipped`.
        jackknife: the value without each group of generated clips in turn, for the paired difference of two
            runs; empty if there is no interval.
        jackknife_groups: what the groups are made of, in pseudo-random order: `permuted-clips`, `permuted-rounds`
            or `permuted-conditions`; None if there are none, and in older records, whose groups are consecutive
            clips. Only groups of the same kind can be paired.
    """

    __pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}  # noqa: RUF012 - read by pydantic

    metric: str
    value: float | None
    higher_is_better: bool
    n_reference: int
    n_generated: int
    signature: str
    digest: str
    interval: Interval | None = None
    floor: float | None = None
    infinite: Estimate | None = None
    status: str = "ok"
    marks: tuple[str, ...] = field(default=())
    jackknife: tuple[float, ...] = field(default=())
    jackknife_groups: GroupKind | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the score as plain JSON types."""
        return {**asdict(self), "marks": list(self.marks), "jackknife": list(self.jackknife)}


def check_signed_counts(score: Score, skipped: int) -> None:
    """Check that the numbers of clips of a score are those of its signature.

    `n` is a number of clips, or AxB for A clips in each of B rounds; for frame-wise metrics it includes skipped
    clips. If reference clips enter the score, `ref` ends in their number.

    Args:
        score: a score of a record.
        skipped: number of skipped generated clips in the record.

    Raises:
        ValueError: the numbers differ.
    """
    metric, fields = score.metric, dict(Signature.parse(score.signature).fields)
    if "n" in fields:
        signed = math.prod(_count(score, "n", part) for part in fields["n"].split("x"))
        if not signed - skipped <= score.n_generated <= signed:
            raise ValueError(
                f"{metric} is signed n:{fields['n']}, but is made of {score.n_generated} generated clips"
            )
    if "ref" in fields and score.n_reference:
        counted = fields["ref"].rpartition("/")[2]
        if _count(score, "ref", counted) != score.n_reference:
            raise ValueError(
                f"{metric} is signed ref:{fields['ref']}, but is made of {score.n_reference} reference clips"
            )


def _count(score: Score, key: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(f"{key} in the signature of {score.metric} gives no number of clips")
    return int(text)
