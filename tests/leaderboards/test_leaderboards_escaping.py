import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from vdm_bench.leaderboards.text import csv_cell, latex_text, markdown_line, markdown_text
from vdm_bench.runtime.printable import printable

ESCAPE = "\x1b]0;title\x07\x1b[31mred"
SIGNS = "\\|`*_[]()<>&~$!{}#%^\"'-=+@ \n\r\t\x1b\u202e:/w.\u00a0\u202f\u3000\u200d\u0645"
any_text = st.text(st.characters() | st.sampled_from(SIGNS))


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("model", "model"),
        ("漢字 naïve", "漢字 naïve"),
        (ESCAPE, "\\x1b]0;title\\x07\\x1b[31mred"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("a\u2028b\u202ec\u200b\x9b", "a\\u2028b\\u202ec\\u200b\\x9b"),
        ("clip\udcff", "clip\\udcff"),
    ],
)
def test_printable(text: str, safe: str) -> None:
    assert printable(text) == safe


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("  =1", "'  =1"),
        ("＝1", "'＝1"),
        ("\t=1", "\\t=1"),
        ("a=1", "a=1"),
        (ESCAPE, printable(ESCAPE)),
    ],
)
def test_csv_cell(text: str, safe: str) -> None:
    assert csv_cell(text) == safe


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("a|b", "a\\|b"),
        ("`code`", "\\`code\\`"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("&lt;", "&amp;lt;"),
        ("[x](javascript:1)", "\\[x\\](javascript:1)"),
        ("![](https://a.b/c.png)", "\\!\\[\\](https\\://a.b/c.png)"),
        ("www.a.b", "www\\.a.b"),
        ("**_~$x$~_**", "\\*\\*\\_\\~\\$x\\$\\~\\_\\*\\*"),
        ("a\\|b\n# c", "a\\\\\\|b\\\\n# c"),
    ],
)
def test_markdown_text(text: str, safe: str) -> None:
    assert markdown_text(text) == safe


@given(any_text)
@example("a\\|b")
@example("\\")
@example("www.a.b http://a.b")
def test_a_markdown_table_shows_any_text_as_it_is(text: str) -> None:
    table = f"| {markdown_text(text)} | b |\n| --- | --- |\n"
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(table)
    cells = [token for token in tokens if token.type == "inline"]
    assert len(cells) == 2
    children = cells[0].children or []
    assert {token.type for token in children} <= {"text", "text_special"}
    assert "".join(token.content for token in children) == printable(text).strip(" ")


@given(any_text, st.sampled_from(("", "- ")))
@example("## deep", "")
@example("+ item", "- ")
@example("007) item", "")
@example("- - -", "- ")
@example("      code", "- ")
def test_a_markdown_line_begins_nothing_but_a_paragraph(text: str, before: str) -> None:
    parsed = MarkdownIt("commonmark").enable("table").parse(f"above\n\n{before}{markdown_line(text)}\n")
    types = {token.type.removesuffix("_open").removesuffix("_close") for token in parsed}
    assert types <= {"paragraph", "inline", *(("bullet_list", "list_item") if before else ())}
    shown = [token for token in parsed if token.type == "inline"][1:]
    children = [child for token in shown for child in token.children or []]
    assert {child.type for child in children} <= {"text", "text_special"}
    assert "".join(child.content for child in children).strip() == printable(text).strip()


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("\\input{/etc/passwd}", "\\textbackslash{}input\\{/etc/passwd\\}"),
        ("a & b % c # d $ e _ f", "a \\& b \\% c \\# d \\$ e \\_ f"),
        ("~^", "\\textasciitilde{}\\textasciicircum{}"),
        ("<a>|`", "\\textless{}a\\textgreater{}\\textbar\\allowbreak{}\\textasciigrave{}"),
        ("a-b--c---d", "a-b-{}-c-{}-{}-d"),
        ("a\n\n\\par", "a\\textbackslash{}n\\textbackslash{}n\\textbackslash{}par"),
        (ESCAPE, "\\textbackslash{}x1b]0;title\\textbackslash{}x07\\textbackslash{}x1b[31mred"),
    ],
)
def test_latex_text(text: str, safe: str) -> None:
    assert latex_text(text) == safe


@given(any_text)
def test_latex_text_holds_no_command_but_those_that_spell_a_character(text: str) -> None:
    words = r"text(?:backslash|asciitilde|asciicircum|less|greater|asciigrave|bar\\allowbreak)"
    rest = re.sub(rf"\\(?:[&%$#_{{}}]|{words}\{{\}})", "", latex_text(text)).replace("-{}", "-")
    assert not set(rest) & set("\\&%$#_{}~^<>|`\n")


@given(any_text)
def test_no_format_lets_an_unprintable_character_through(text: str) -> None:
    for escape in (printable, csv_cell, markdown_text, latex_text):
        assert printable(escape(text), None) == escape(text)
