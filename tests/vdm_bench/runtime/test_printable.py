import pickle
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdm_bench.errors import (
    BrokenClipError,
    BrokenClipsError,
    DamagedError,
    InputError,
    MachineError,
    NotComparableError,
    VdmBenchError,
)
from vdm_bench.runtime.printable import LONGEST, printable

any_text = st.text(
    st.characters()
    | st.characters(categories=["Cs", "Cc", "Cf", "Zs", "Zl", "Zp", "Mn", "So", "Co", "Cn"])
    | st.sampled_from("\x1b[31m:#\r\n\u200d\u200c\u180e\ufe0fم👩🏽❤न्")
)


@pytest.mark.parametrize(
    "name",
    [
        "baseline-2 (final) [v1.0] 50%, #1: a/b\\c 'x' \"y\" <z> & $HOME ~",
        "Ångström naïve Füße Ελληνικά Русский עברית العربية ไทย 한국어 漢字 かな",
        "क्षत्रिय தமிழ் বাংলা മലയാളം ខ្មែរ မြန်မာ",
        "می\u200cخواهم",  # Persian, with a non-joiner
        "ශ්\u200dරී",  # Sinhala, with a joiner
        "র\u200d্যাব ক্\u200cষ",
        "ᠰᠡᠳ\u180eᠡ ᠨ\u180bᠠ",  # Mongolian
        "👩\u200d👩\u200d👧 👩🏽\u200d🔬 ❤\ufe0f\u200d🔥 🏳\ufe0f\u200d🌈 🇫🇷 ☃",
        "葛\U000e0100城",  # an ideograph and the form of it that is meant
        "Screenshot 3.04.05\u202fPM.mov 12\u00a0000 山田\u3000太郎",
        "e\u0301 n\u0303",  # as macOS writes names
        "a::b test.py::test_it std::vector fvd|net:i3d:logits #1 ## title issue ##3",
    ],
)
def test_ordinary_names_stay_as_they_are(name: str) -> None:
    assert printable(name) == name


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\x00b\x7fc\x85d\x9be", r"a\x00b\x7fc\x85d\x9be"),
        ("\x1b]0;title\x07\x1b[2Jgone", r"\x1b]0;title\x07\x1b[2Jgone"),
        ("50 %\rdone\ttab", r"50 %\rdone\ttab"),
        ("a\nb\r\nc\u2028d\u2029e\x0bf\x0cg", r"a\nb\r\nc\u2028d\u2029e\x0bf\x0cg"),
        ("gpj.\u202e4pm\u202c\u2067x\u2069\u200f\u061c", r"gpj.\u202e4pm\u202c\u2067x\u2069\u200f\u061c"),
        ("clip\udcff\udce9.mp4 \ud800", r"clip\udcff\udce9.mp4 \ud800"),
        ("model\u200b \ufeffmodel \u00admodel \u2060", r"model\u200b \ufeffmodel \xadmodel \u2060"),
        ("a\u200db a\u200cb \u200d", r"a\u200db a\u200cb \u200d"),  # nothing to join
        ("م\u200c\u200cم", r"م\u200c\u200cم"),
        ("👩\u200dx", "👩\\u200dx"),
        ("x\ufe0f\ufe0f\U000e0101 \U000e0041\U000e007f", "x\ufe0f\\ufe0f\\U000e0101 \\U000e0041\\U000e007f"),
        ("\u3164\u115f\u2800\u034f", r"\u3164\u115f\u2800\u034f"),  # letters without ink
        ("\ue000\U0010fffd\u0378\uffff", r"\ue000\U0010fffd\u0378\uffff"),
        ("\u2003\u2009\u1680", r"\u2003\u2009\u1680"),
    ],
)
def test_what_cannot_be_seen_is_spelt_out(text: str, line: str) -> None:
    assert printable(text) == line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("::error::gone", r"\x3a:error::gone"),
        ("  ::set-output name=a::b", r"  \x3a:set-output name=a::b"),
        ("\u3000::stop-commands::x", "\u3000\\x3a:stop-commands::x"),
        ("ok\n::warning::x", r"ok\n::warning::x"),  # no line starts there any more
        ("ok\r::add-mask::x", r"ok\r::add-mask::x"),
        ("##[error]x", r"#\x23[error]x"),
        ("a ##vso[task.setvariable variable=PATH]x", r"a #\x23vso[task.setvariable variable=PATH]x"),
        ("###[group]", r"##\x23[group]"),
        ("##teamcity[buildStop]", r"#\x23teamcity[buildStop]"),
    ],
)
def test_nothing_is_a_command_to_a_ci_system(text: str, line: str) -> None:
    assert printable(text) == line


@given(any_text, st.none() | st.integers(0, 40))
def test_any_text_is_one_line_of_at_most_a_length(text: str, longest: int | None) -> None:
    line = printable(text, longest)
    line.encode("utf-8")
    assert len(line.splitlines()) <= 1
    assert not {unicodedata.category(char) for char in line} & {"Cc", "Cs", "Cn", "Co", "Zl", "Zp"}
    assert not line.lstrip().startswith("::")
    assert "##[" not in line
    assert printable(line, longest) == line
    if longest is not None:
        assert len(line) <= max(longest, 5)


def test_a_long_line_keeps_its_start_and_its_end() -> None:
    line = printable(f"cannot read {'x' * 1_000_000}.mp4; give another file")
    assert len(line) == LONGEST
    assert line.startswith("cannot read xxx")
    assert line.endswith("xxx.mp4; give another file")
    assert " ... " in line


def test_a_cut_leaves_no_mark_without_its_letter() -> None:
    line = printable("e" * 50 + "\u0301" * 50, longest=30)
    assert line == "e" * 17 + " ... "


def test_what_is_no_text_is_shown() -> None:
    assert printable(ValueError("a\x07")) == r"a\x07"
    assert printable(None) == "None"


ESCAPE = "clip\udcff\x1b[31m\n::error::.mp4"


@pytest.mark.parametrize(
    "error",
    [
        InputError(f"{ESCAPE} does not exist"),
        MachineError(ESCAPE),
        NotComparableError(ESCAPE),
        BrokenClipError(ESCAPE, "is cut\x07"),
        DamagedError(ESCAPE, "its end\x9b", "delete it"),
        BrokenClipsError(ESCAPE, 2, [BrokenClipError(ESCAPE, "\x1b"), BrokenClipError("b", "c")], "leave"),
    ],
)
def test_an_error_reads_as_one_line_and_keeps_names_as_they_are(error: VdmBenchError) -> None:
    assert printable(str(error), None) == str(error)
    assert r"clip\udcff\x1b[31m\n::error::.mp4" in str(error)
    assert ESCAPE in error.args[0]
    if not isinstance(error, BrokenClipsError):
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), again.args, again.__dict__) == (str(error), error.args, error.__dict__)


def test_a_message_that_holds_too_much_is_cut_in_its_middle() -> None:
    message = str(InputError(f"{'x' * 1_000_000} cannot be read; give another"))
    assert len(message) == 10_000
    assert message.endswith("cannot be read; give another")
