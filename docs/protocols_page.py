"""Generate the page of the protocols from their files: `python docs/protocols_page.py > docs/protocols.md`."""

import sys
from importlib import resources

from vdm_bench.datasets.registry import DATASETS, known_options
from vdm_bench.protocols import Protocol, builtin_names, get_protocol

_HEAD = """# Protocols

This page is generated from the protocol files. A protocol fixes everything that affects a score. Its digest
identifies it, and changes with every setting below. `(U)` marks settings that the papers do not state; there
the value is this project's choice. You can also write your own protocol file: `vdm-bench run mine.toml ...`. A
metric in it can be the path of a [recipe file](recipes.md), relative to the protocol file. `vdm-bench data
check mine.toml` checks both. A package adds protocols by [entry
points](adding-a-dataset.md#in-a-package-of-your-own).

A run may deviate from its protocol (`--limit`, `--fit`, missing videos). It is then marked, has another digest,
and is ranked separately.
"""

_FIELDS = """## Fields

Clips are the first frames of a video, random windows, or every window. Random windows are drawn with a hash of
the seed, the round and the video's name: they are the same on every machine, and a missing video does not change
the others.
"""


def page() -> str:
    """Return the page as markdown."""
    protocols = [get_protocol(name) for name in builtin_names()]
    parts = [_HEAD, _table(protocols), _FIELDS, _fields(), "## Where to get the data\n", _sources()]
    return "\n".join([*parts, *map(_section, protocols)])


def _table(protocols: list[Protocol]) -> str:
    rows = [
        "| protocol | conditioning | clips | generated v reference | metrics |",
        "| --- | --- | --- | --- | --- |",
    ]
    for protocol in protocols:
        size = f"{protocol.frames}x{protocol.resolution}x{protocol.resolution}"
        metrics = ", ".join(f"`{metric}`" for metric in protocol.metrics)
        counts = f"{protocol.generated_count:,} v {protocol.reference_count:,}"
        rows.append(
            f"| [`{protocol.name}`](#{protocol.name}) | {_given(protocol)} | {size} | {counts} | {metrics} |"
        )
    return "\n".join(rows) + "\n"


def _given(protocol: Protocol) -> str:
    frames = "1 frame" if protocol.context_frames == 1 else f"{protocol.context_frames} frames"
    return {"unconditional": "none", "class": "a class", "text": "a caption", "prediction": frames}[protocol.task]


def _fields() -> str:
    rows = ["| field | meaning |", "| --- | --- |"]
    for model, prefix in ((Protocol, ""), (type(get_protocol(builtin_names()[0]).reference), "reference.")):
        for name, field in model.model_fields.items():
            rows.append(f"| `{prefix}{name}` | {field.description} |")
            if field is Protocol.model_fields["dataset"]:
                rows += [f"| `{name}` | {option.description} |" for name, option in known_options().items()]
    return "\n".join(rows) + "\n"


def _sources() -> str:
    rows = ["| dataset | from | licence | below `--data-root` |", "| --- | --- | --- | --- |"]
    rows += [
        f"| {source.title} (`{name}`) | {source.where} | {source.licence} | `{source.layout}` |"
        for name, source in DATASETS.items()
    ]
    return "\n".join(rows) + "\n"


def _section(protocol: Protocol) -> str:
    text = resources.files("vdm_bench.protocols").joinpath(f"{protocol.name}.toml").read_text("utf-8")
    return f"## {protocol.name}\n\n{protocol.title}. Digest `{protocol.digest}`.\n\n```toml\n{text}```\n"


if __name__ == "__main__":
    sys.stdout.write(page())
