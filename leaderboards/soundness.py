"""Whether a score's numbers of clips are those of its signature: a value must not borrow another's digest."""

import math

from vdm_bench.metrics.score import Score, Signature


def check_signed_counts(score: Score, skipped: int) -> None:
    """Refuse a score that was made from another number of clips than its signature says.

    `n` is a number of clips, or AxB: A clips in each of B rounds; of frame by frame scores it counts the clips
    that were skipped, too. Where reference clips enter the score, `ref` ends in their number.

    Args:
        score: of a record.
        skipped: generated clips that the record says were skipped.

    Raises:
        ValueError: the two numbers differ.
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
