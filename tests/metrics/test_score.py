import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdm_bench.errors import InputError
from vdm_bench.metrics import Signature
from vdm_bench.metrics.score import SIGNATURE_KEYS

VALUES = st.text(st.characters(exclude_characters="|", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
FIELDS = st.dictionaries(st.sampled_from(SIGNATURE_KEYS), VALUES)


@given(FIELDS)
def test_a_signature_survives_printing_and_reading(fields: dict[str, str]) -> None:
    signature = Signature.of("embedded/fvd", fields)
    assert Signature.parse(str(signature)) == signature


@given(FIELDS, st.sampled_from([key for key in SIGNATURE_KEYS if key != "v"]), VALUES)
def test_any_other_field_value_is_another_digest(fields: dict[str, str], key: str, value: str) -> None:
    a = Signature.of("embedded/fvd", fields)
    b = Signature.of("embedded/fvd", {**fields, key: value})
    assert (a.digest == b.digest) == (fields.get(key) == value)


def test_the_version_is_last_and_not_part_of_the_digest() -> None:
    old, new = (Signature.of("fvd", {"v": v, "n": "16", "net": "i3d"}) for v in ("0.1.0", "0.2.0"))
    assert str(old) == "fvd|net:i3d|n:16|v:0.1.0"
    assert old.digest == new.digest
    assert len(old.digest) == 12


def test_the_digest_is_pinned() -> None:
    """A change here makes every number ever published incomparable."""
    assert Signature.of("fvd", {"net": "i3d-k400@fa7df956:logits", "n": "2048"}).digest == "33fe5831287b"


@pytest.mark.parametrize("text", ["", "fvd|n", "|n:1", "fvd|colour:red", "fvd|n:"])
def test_what_is_no_signature_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        Signature.parse(text)


def test_signatures_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Signature.of("fvd", {}).metric = "other"  # type: ignore[misc]
