"""Words and phrases that do not occur in the README, the docs, the help texts and the error messages.

Each is written as this field's engineers do not write it; beside it is what they write.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click

# A regular expression, and what to write in its place. Spaces in it also match ends of lines; case does not matter.
INSTEAD = {
    r"films?": "video",
    r"told apart|tell apart|telling apart|(?:can|cannot) be told": "distinguished, distinguish",
    r"(?:stands?|ranked|kept|cached|are|is) apart": "separate, separately",
    r"taken apart": "split; ablated",
    r"hangs? on(?! \()": "depends on",
    r"(?:hold|holds|held|holding) (?:[\w`]+ ){0,6}against": "compare with, check against",
    r"(?:stand|stands|standing|lie|lies|laid) (?:beside|among|by themselves)": "is next to, is listed with, separately",
    r"beside": "next to, as well as",
    r"in unlike ways|(?:of|are|be|at|seen|with) unlike|unlike (?!in\b|the\b)\w+s": "different",
    r"anew": "again",
    r"mends?|mended": "fix, fixed",
    r"(?:can|cannot|could|may|to) be had": "available",
    r"whatever comes in": "any input",
    r"(?:come|comes|came|coming) round": "are reused cyclically",
    r"(?:go|goes|went|going) on (?:where|when|with|there|another|from)|(?:and|it|then|that|a run) goes on": "resume, continue",
    r"(?:is|are|was|be|were) no (?!more\b|longer\b|\w+ (?:in|at|of|with|for|to|on|below|between)\b)[\w-]+": "is not a",
    r"has not (?:a|an|the|these|those|such|this)\b": "has no, does not have",
    r"that are there already|that is there already|there already": "existing",
    r"as they are found|made so": "(say what happens)",
    r"passed over": "skipped",
    r"to the letter": "exactly",
    r"for the eye": "previews",
    r"for ever": "deadlocks, forever",
    r"says? no more": "(say what it says)",
    r"of their own|of its own|of one's own|of (?:your|his) own": "your own, separate, its own",
    r"own (?:runs?|values?)": "your run, your values",
    r"who (?:has|publishes|edits|may|keeps)": "if you ..., anyone who ...",
    r"where it (?:is|was|can|has|did|followed)|where they (?:are|differ|may)|where there (?:is|are)": "if",
    r"not at hand|at hand": "available, in memory",
    r"made again|made out|makes? of": "reproduced, computed again",
    r"given frames?": "context frames",
    r"a (?:clip|second|step|side|process|parameter|video|block|run|core|caption|forward pass)(?= (?:\(|and\b))|(?:clips|frames|tokens|bytes|seconds|steps|images|evaluations) a (?:second|clip|step|video|caption|parameter|process|side|run)\b|(?:kB|MB|GB|ms|s|bytes) a (?:clip|side|block|caption|parameter)": "per",
    r"ranked apart|stands? in a table of": "ranked separately",
    r"is said|as it is said|tell of|tells of|telling of": "report",
    r"(?:is|are|being|was) the sharper|the better for": "(say how much)",
    r"looked at": "read, viewed",
    r"right under": "correct under",
    r"cut off": "truncated",
    r"give back|gives back": "return",
    r"for the signature's": "(say what it does)",
    r"whose every": "with every",
    r"shares? out": "shard, distribute",
    r"forgets? activations": "activation checkpointing",
    r"sound records?|not sound|is sound": "valid",
    r"by hand and by eye": "manually",
    r"in few words|in words": "as text",
}
PATTERNS = {
    re.compile(r"\b(?:" + found.replace(" ", r"\s+") + r")(?!\w)", re.IGNORECASE): word for found, word in INSTEAD.items()
}


def found(text: str) -> Iterator[tuple[str, str]]:
    """Yield what `text` says that it must not, and what to write in its place."""
    for pattern, word in PATTERNS.items():
        for match in pattern.finditer(text):
            yield " ".join(match[0].split()), word


def prose(markdown: str) -> str:
    """Drop blocks of code, whose output and comments are written elsewhere; keep inline code out too."""
    without = re.sub(r"^```.*?^```$", "", markdown, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "`code`", without)


def help_texts(command: click.Command, name: str) -> Iterator[tuple[str, str]]:
    """Yield the texts of `--help` of a verb, its options and its verbs, with what they belong to."""
    yield f"{name} --help", "\n".join(filter(None, (command.help, command.short_help, command.epilog)))
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.help:
            yield f"{name} {parameter.opts[0]}", parameter.help
    if isinstance(command, click.Group):
        for verb, child in command.commands.items():
            yield from help_texts(child, f"{name} {verb}")


def messages(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the texts in a module that are raised as errors, with their lines."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            yield f"{path.name}:{node.lineno}", _text(node.exc)


def _text(call: ast.Call) -> str:
    parts = [ast.unparse(part) if isinstance(part, ast.Constant) is False else str(part.value) for part in []]
    for argument in call.args:
        for node in ast.walk(argument):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                parts.append(node.value)
    return "".join(parts)
