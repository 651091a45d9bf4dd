"""The page of the protocols, made from their files: `python docs/protocols_page.py > docs/protocols.md`."""

import sys
from importlib import resources

from vdm_bench.datasets.registry import DATASETS, known_options
from vdm_bench.protocols import Protocol, get_protocol, protocol_names

_HEAD = """# Protocols

This page is made from the protocols' files. A protocol is everything that decides a number; its digest names it,
and changes with any figure below. `(U)` marks what the papers leave open: there the figure is this project's
choice. A file of your own is a protocol, too: `vdm-bench run mine.toml ...`.

A run that departs from its protocol (`--limit`, missing videos) is possible. It is marked, has another digest,
and is ranked apart.
"""

_FIELDS = """## Fields

A clip of a video is its first frames, a random window, or every window. Random windows are drawn by a hash of the
seed, the round and the video's name: they are the same on every machine, and a missing video moves no other.
"""


def page() -> str:
    """Return the page as markdown."""
    protocols = [get_protocol(name) for name in protocol_names()]
    parts = [_HEAD, _table(protocols), _FIELDS, _fields(), "## Where the data come from\n", _sources()]
    return "\n".join([*parts, *map(_section, protocols)])


def _table(protocols: list[Protocol]) -> str:
    rows = ["| protocol | given | clips | generated v reference | metrics |", "| --- | --- | --- | --- | --- |"]
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
    return {"unconditional": "nothing", "class": "a class", "text": "a caption", "prediction": frames}[
        protocol.task
    ]


def _fields() -> str:
    rows = ["| field | what |", "| --- | --- |"]
    for model, prefix in ((Protocol, ""), (type(get_protocol(protocol_names()[0]).reference), "reference.")):
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
