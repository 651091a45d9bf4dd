"""README, docs, help, error messages, docstrings and comments use the words of this field, in plain English.

Each rule names what must not occur and what to write instead. A rule that is wrong about a sentence is made
narrower here; the sentence is not written around it.
"""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator

import click
import pytest
from paths import ROOT

from vdm_bench.cli import cli

PACKAGES = ("vdm_bench", "metrics", "reference_model", "leaderboards")

# Regular expressions for whole words, without regard to case; white space is one space.
INSTEAD = {
    # terms of the field
    r"films?": "video",
    r"(?:the|of|its|their|changed|\d|from) given frames?|given frames (?:enter|are|come)": "context frames",
    r"frames a second": "frames per second, frame rate",
    r"(?:clips|frames|bytes|seconds|steps|images|[kMG]B) an? (?:second|clip|step|video|caption|process)": "per",
    r"(?:dynamic|static) clipping": "dynamic or static thresholding",
    r"share[sd]? out": "shard, distribute",
    r"forgets? activations": "activation checkpointing",
    r"own runs?": "your run",
    r"the (?:reference|paper|original) gives?": "returns, states",
    # scores and how they compare
    r"told apart|tell apart": "distinguished, distinguish",
    r"(?:cannot|can) be told": "distinguished",
    r"(?:ranked|cached|kept|stands?) apart": "separately",
    r"taken apart": "split, ablated",
    r"(?:hold|holds|held) (?:[\w`]+ ){0,6}against": "compare with, check against",
    r"stands? (?:beside|among|by themselves|in a table)": "is ranked with, is in a separate table",
    r"beside": "next to",
    r"in unlike ways": "with different signatures, under different settings",
    r"unlike(?= (?:kinds|numbers|recipes|rates|frame rates|files|ways|sides))": "different",
    r"to the letter": "exactly",
    r"moves? no other": "does not change the others",
    r"the sharper|the better for": "more precise, better",
    # what happens to a run or a file
    r"goes on where|go on where|went on where": "continues, resumes",
    r"(?:same command|a run|the run|training|it) goes on": "rerun the same command to resume",
    r"anew": "again, from scratch",
    r"mend(?:s|ed)?": "fix, fixed",
    r"(?:can|cannot|could|to) be had": "available",
    r"passed over": "skipped",
    r"looked at": "read",
    r"made again": "reproduced, computed again",
    r"cut off": "truncated",
    r"(?:there|are) already,?(?= instead)|that are there already": "existing",
    r"come(?:s)? round": "are reused cyclically",
    r"whatever comes in": "any input",
    r"hangs? on(?= (?:it|the|a|no|what|which))|(?:number|value|result) hangs": "depends on",
    r"(?:is|was) not sound|is sound|sound records?": "valid",
    r"for the eye": "preview",
    r"waits? for ever": "deadlocks",
    r"tells? of": "report",
    r"in few words|in words": "as text",
    r"whose every": "with every",
    # negation: "X is no file" for "X is not a file"; "there is no file" is fine, and so is "is no longer"
    r"(?<!there )(?:is|are) no (?!longer|more)(?:\w+ )?(?:array|baseline|class|clips?|CSV|encoder|file|folder|"
    r"interval|JSON|network|number|object|preset|protocol|record|sampler|signature|size|tensor|text|value|video)s?":
    "is not a ...",
    r"has not (?:an?|the|these|such)": "has no, does not have",
}  # fmt: skip
RULES = [
    (re.compile(rf"(?<![\w-])(?:{wrong})(?![\w-])", re.IGNORECASE), instead) for wrong, instead in INSTEAD.items()
]


def wrong_words(texts: Iterator[tuple[str, str]]) -> list[str]:
    """List the words in `texts`, pairs of a place and a text, that have a better one, with both."""
    return [
        f"{place}: {match[0]!r} -> {instead}"
        for place, text in texts
        for pattern, instead in RULES
        for match in pattern.finditer(" ".join(text.split()))
    ]


def pages() -> Iterator[tuple[str, str]]:
    """Yield the prose of README and docs, with its comments in code, but without printed tables of scores."""
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))):
        text = re.sub(r"^```text\n.*?^```", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
        yield path.name, text


def help_texts(command: click.Command = cli, name: str = "vdm-bench") -> Iterator[tuple[str, str]]:
    """Yield what `--help` prints of a verb, of its options and of its own verbs."""
    yield f"{name} --help", f"{command.help}\n{command.short_help}"
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            yield f"{name} {parameter.opts[0]}", parameter.help or ""
    for verb, child in getattr(command, "commands", {}).items():
        yield from help_texts(child, f"{name} {verb}")


def sources() -> Iterator[tuple[str, str]]:
    """Yield the paths below the root, and the texts, of all modules of the package."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if (
                ROOT / "vdm_bench"
            ) not in path.parents or path.resolve() == path:  # the packages are linked there
                yield path.relative_to(ROOT).as_posix(), path.read_text("utf-8")


def comments() -> Iterator[tuple[str, str]]:
    """Yield docstrings and comments."""
    for name, text in sources():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                yield f"{name}:{getattr(node, 'lineno', 1)}", ast.get_docstring(node) or ""
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                yield f"{name}:{token.start[0]}", token.string


def messages() -> Iterator[tuple[str, str]]:
    """Yield the texts of errors, and of what `say` and `note` print.

    The reasons of `BrokenClipError` are left out: they are stored in records.
    """
    for name, text in sources():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and called(node) not in {"", "BrokenClipError"}:
                yield f"{name}:{node.lineno}", literal(node)


def called(call: ast.Call) -> str:
    """Return the name of an error, or of `say`, `fail` and `note`; of all other calls ''."""
    name = getattr(call.func, "id", getattr(call.func, "attr", ""))
    return name if name.endswith("Error") or name in {"say", "fail", "note"} else ""


def literal(call: ast.Call) -> str:
    """Join the literal parts of the arguments of a call; what is filled in is `X`."""
    texts = []
    for argument in call.args:
        if isinstance(argument, ast.JoinedStr):
            texts.append(
                "".join(getattr(part, "value", "X") if is_text(part) else "X" for part in argument.values)
            )
        elif is_text(argument):
            texts.append(str(argument.value))
    return "; ".join(texts)


def is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


@pytest.mark.parametrize(
    "texts", [pages, help_texts, messages, comments], ids=["pages", "help", "messages", "comments"]
)
def test_the_words_are_those_of_the_field(texts: Callable[[], Iterator[tuple[str, str]]]) -> None:
    wrong = wrong_words(texts())
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    ("sentence", "instead"),
    [
        ("Films are decoded once.", "video"),
        ("The models cannot be told\napart.", "distinguished"),
        ("Hold the run against a baseline.", "compare with, check against"),
        ("Sides with unlike rates are marked.", "different"),
        ("A line that is no JSON object is refused.", "is not a ..."),
        ("The same command goes on where it stopped.", "continues, resumes"),
    ],
)
def test_a_wrong_word_is_found_and_the_right_one_named(sentence: str, instead: str) -> None:
    assert any(found.endswith(f"-> {instead}") for found in wrong_words(iter([("here", sentence)])))


@pytest.mark.parametrize(
    "sentence",
    [
        "There is no file there.",
        "It is no longer read.",
        "Unlike FVD, KVD is unbiased.",
        "It depends on the clip.",
    ],
)
def test_plain_sentences_pass(sentence: str) -> None:
    assert not wrong_words(iter([("here", sentence)]))


def test_all_kinds_of_texts_are_read() -> None:
    """A rule that reads nothing cannot fail."""
    assert {"README.md", "scores.md", "protocols.md"} <= {place for place, _ in pages()}
    assert {"vdm-bench check --fail-on", "vdm-bench data prepare --help"} <= {place for place, _ in help_texts()}
    for texts in (messages, comments):
        places = [place for place, text in texts() if text]
        assert len(places) > 300
        assert {place.split("/")[0] for place in places} == set(PACKAGES)
