"""Names that users write: found, or refused with the nearest known one."""

import pytest

from vdm_bench.errors import InputError
from vdm_bench.runtime.choose import check_known, lookup

KNOWN = {"fvd": 1, "bair-prediction": 2}


def test_a_known_name_gives_its_value() -> None:
    assert lookup("fvd", KNOWN, "metric") == 1


@pytest.mark.parametrize(
    ("name", "hint", "expected"),
    [
        ("fdv", "", "unknown metric 'fdv'; did you mean 'fvd'?"),
        ("bair", "see the list", "unknown metric 'bair'; did you mean 'bair-prediction'?"),
        ("zzz", "see the list", "unknown metric 'zzz'; see the list"),
        ("zzz", "", "unknown metric 'zzz'; choose one of fvd, bair-prediction"),
    ],
)
def test_an_unknown_name_is_refused_with_a_way_out(name: str, hint: str, expected: str) -> None:
    for refuse in (lookup, check_known):
        with pytest.raises(InputError) as caught:
            refuse(name, KNOWN, "metric", hint)
        assert str(caught.value) == expected
