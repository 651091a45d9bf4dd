"""Signatures in plain words, for readers who do not know their keys."""

from dataclasses import dataclass

from vdm_bench.metrics.score import Signature

# What each key of a signature says; `docs/scores.md` has them all.
_MEANINGS = {
    "net": "feature network, digest of its weights, and layer",
    "in": "clips: frames x height x width > how they are resized for the network",
    "view": "how clips are sampled and resized as they are read: stride, resize rule, aspect rule",
    "fps": "frame rate that videos are read at",
    "task": "what the model was given, and from which clips",
    "ref": "reference clips, and how many",
    "n": "generated clips",
    "src": "how the clips were stored",
    "cov": "divisor of the covariance",
    "root": "how the matrix square root is computed",
    "splits": "splits of the inception score",
    "kernel": "kernel",
    "knn": "nearest neighbours",
    "cap": "highest value",
    "prec": "arithmetic of the network",
    "v": "version of vdm-bench; not part of the digest",
}


@dataclass(frozen=True)
class Reading:
    """A signature, read out.

    Attributes:
        text: the signature.
        digest: equal digests mean comparable scores.
        parts: meaning and value of each key.
    """

    text: str
    digest: str
    parts: tuple[tuple[str, str], ...]


def read_signature(text: str) -> Reading:
    """Read a signature.

    Raises:
        InputError: the text is not a signature.

    Example:
        >>> read_signature("fvd|n:2048|v:0.1.0").parts[1]
        ('generated clips', '2048')
    """
    signature = Signature.parse(text)
    parts = [("metric", signature.metric), *((_MEANINGS[key], value) for key, value in signature.fields)]
    return Reading(text, signature.digest, tuple(parts))
