import re
from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from vdm_bench.leaderboards.text import csv_cell, latex_text, markdown_line, markdown_text
from vdm_bench.metrics.choices import ResizeRule
from vdm_bench.runtime.printable import printable

ESCAPE = "\x1b]0;title\x07\x1b[31mred"
SIGNS = "\\|`*_[]()<>&~$!{}#%^\"'-=+@ \n\r\t\x1b\u202e:/w.\u00a0\u202f\u3000\u200d\u0645"
NO_WIDTH = "\u200b"  # which `printable` spells out: where Markdown shows one, `markdown_text` put it there
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
        ("@user, (@org/team) _@user é@user", "@~user, (@~org/team) \\_@~user é@~user"),
        ("#12 owner/name#12 GH-12", "#~12 owner/name#~12 GH-~12"),
        (":bug: x:+1:y :a::b:", ":~bug: x:~+1:y :~a::~b:"),
        ("mail@example.org", "mail@~example.org"),
        ("1 @ 2 # 3, C# a:b 12:30 weigh-12", "1 @ 2 # 3, C# a:b 12:30 weigh-12"),
    ],
)
def test_markdown_text(text: str, safe: str) -> None:
    assert markdown_text(text).replace("&#8203;", "~") == safe


@pytest.mark.parametrize("rule", get_args(ResizeRule))
def test_a_signature_in_markdown_can_be_copied(rule: str) -> None:
    signature = f"fvd|net:i3d-k400@fa7df956:logits|in:16x64x64>224:{rule}:stretch|n:256x2|v:0.1.0"
    assert "&#8203;" not in markdown_text(signature)


# What GitHub looks for in the text of a page: mentions, issues and emoji.
ALIVE = re.compile(r"(?<![A-Za-z0-9])@[A-Za-z0-9]|#[0-9]|(?<![A-Za-z0-9])GH-[0-9]|:(?:bug|\+1|100):")
SIGNALS = ["@", "user", "#", "12", "GH-", ":", "bug", "+1", "100", " ", "_", "\\", "|", "\n"]


@given(st.lists(st.sampled_from(SIGNALS)).map("".join))
@example("@user @org/team")
@example("a#12 GH-12")
@example(":bug::100::+1:")
def test_github_finds_no_mention_issue_or_emoji_in_any_text(text: str) -> None:
    (line,) = (t for t in MarkdownIt("commonmark").parse(f"({markdown_text(text)})") if t.type == "inline")
    assert not ALIVE.search("".join(child.content for child in line.children or []))


@given(any_text)
@example("a\\|b")
@example("\\")
@example("www.a.b http://a.b")
@example("@user #12 :bug: a@b.c")
def test_a_markdown_table_shows_any_text_as_it_is(text: str) -> None:
    table = f"| {markdown_text(text)} | b |\n| --- | --- |\n"
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(table)
    cells = [token for token in tokens if token.type == "inline"]
    assert len(cells) == 2
    children = cells[0].children or []
    assert {token.type for token in children} <= {"text", "text_special"}
    found = "".join(token.content for token in children)
    assert found.replace(NO_WIDTH, "") == printable(text).strip(" ")


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
    found = "".join(child.content for child in children)
    assert found.replace(NO_WIDTH, "").strip() == printable(text).strip()


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
    spelled = rf"\\(?:[&%$#_{{}}]|{words}\{{\}})|\$\\infty\$"
    rest = re.sub(spelled, "", latex_text(text)).replace("-{}", "-")
    assert not set(rest) & set("\\&%$#_{}~^<>|`\n")


@given(any_text)
def test_no_format_lets_an_unprintable_character_through(text: str) -> None:
    for escape in (printable, csv_cell, markdown_text, latex_text):
        assert printable(escape(text), None) == escape(text)
