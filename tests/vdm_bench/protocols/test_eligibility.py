"""Which own scores may stand among published numbers."""

from typing import Any

import pandas as pd
import pytest

from vdm_bench.metrics.score import Signature
from vdm_bench.protocols import get_protocol
from vdm_bench.protocols.eligibility import why_unranked, with_apart

BAIR = get_protocol("bair-prediction")
SIGNED = {"net": "i3d-k400@fa7df956:logits", "n": "25600", "src": "lossless", "prec": "fp32", "v": "0.1.0"}


def run(signed: dict[str, str] | None = None, metric: str = "fvd", **fields: Any) -> dict[str, Any]:
    given = {
        "protocol": BAIR.name,
        "protocol_digest": BAIR.digest,
        "departures": (),
        "metric": metric,
        "n_generated": 25600,
        "n_reference": 256,
        "signature": str(Signature.of(metric, SIGNED | (signed or {}))),
    }
    return given | fields


def test_a_run_by_the_letter_stands_among_published_numbers() -> None:
    assert why_unranked(run()) == ""


def test_a_score_without_reference_clips_needs_none() -> None:
    assert why_unranked(run(metric="i3d/is", n_reference=0, signed={"net": "i3d-k600@12345678:logits"})) == ""


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"protocol": None}, "it follows no protocol of this package"),
        ({"protocol": "mine"}, "it follows no protocol of this package"),
        ({"protocol_digest": "0123"}, f"its protocol of this name has the digest 0123, not {BAIR.digest}"),
        ({"departures": ("64 of 256 clips",)}, "it departs from its protocol"),
        ({"n_generated": 25599}, "its value is of 25,599 generated clips, the protocol asks for 25,600"),
        ({"n_reference": 255}, "its value is of 255 reference clips, the protocol asks for 256"),
        ({"signed": {"prec": "bf16"}}, "its signature has prec:bf16, not fp32"),
        ({"signed": {"src": "lossy"}}, "its signature has src:lossy, not lossless"),
        (
            {"signed": {"net": "i3d-k400@2958652e:logits"}},
            "its network has the weights 2958652e, not those that are published, fa7df956",
        ),
        (
            {"signed": {"net": "i3d-k400:logits"}},
            "its network has the weights (none), not those that are published, fa7df956",
        ),
    ],
)
def test_why_a_run_is_apart(fields: dict[str, Any], reason: str) -> None:
    assert why_unranked(run(**fields)) == reason


def test_clips_that_the_protocol_did_not_ask_for_are_no_reference() -> None:
    assert "0 reference clips" in why_unranked(run(n_reference=0))


def test_a_frame_says_of_each_row_why_it_is_apart() -> None:
    rows = [run(), run(protocol="mine"), run(n_reference=255)]
    frame = with_apart(pd.DataFrame(rows, index=[7, 3, 3]))
    assert frame["apart"].tolist() == [why_unranked(row) for row in rows]
    assert (frame["apart"].dtype, with_apart(pd.DataFrame(rows[:0])).to_dict("list")) == ("string", {"apart": []})
