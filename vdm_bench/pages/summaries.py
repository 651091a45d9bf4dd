"""Summaries of protocols for pages and terminals: one sentence, and conditions that numbers may deviate from."""

from collections.abc import Mapping

from vdm_bench.datasets.registry import dataset_entry
from vdm_bench.leaderboards.tables.matrix import ProtocolSummary
from vdm_bench.protocols import Protocol, builtin_names, get_protocol

_TASKS = {"unconditional": "generate", "class": "given a class, generate", "text": "given a caption, generate"}
_WINDOWS = {"first": "first frames", "random": "random windows", "every": "every window"}


def summaries() -> Mapping[str, ProtocolSummary]:
    """Return the summaries of the built-in protocols, by name."""
    return {name: summary_of(get_protocol(name)) for name in builtin_names()}


def summary_of(protocol: Protocol) -> ProtocolSummary:
    """Return the summary of a protocol, made from its fields.

    Example:
        >>> summary_of(get_protocol("ucf101-class")).conditions["resolution"]
        '64x64'
    """
    conditions = {
        "resolution": f"{protocol.resolution}x{protocol.resolution}",
        "samples": f"{protocol.generated_count:,}",
    }
    if "camera" in protocol.dataset_options:
        conditions["camera"] = str(protocol.dataset_options["camera"])
    return ProtocolSummary(_sentence(protocol), conditions)


def _sentence(protocol: Protocol) -> str:
    if protocol.task == "prediction":
        task = f"given {_counted(protocol.context_frames, 'frame')}, predict"
    else:
        task = _TASKS[protocol.task]
    made = _counted(protocol.frames - protocol.context_frames, "frame")
    rounds = protocol.generated_count // protocol.conditions_used
    each = f" ({rounds} for each of {protocol.conditions_used:,} conditions)" if rounds > 1 else ""
    options = [f"{name} {value}" for name, value in protocol.dataset_options.items() if name == "camera"]
    real = ", ".join([f"split {protocol.reference.split}", _WINDOWS[protocol.reference.windows], *options])
    dataset = dataset_entry(protocol.dataset).title.partition(",")[0]
    return (
        f"{dataset[0].upper()}{dataset[1:]}: {task} {made} of {protocol.resolution}x"
        f"{protocol.resolution} pixels. {protocol.generated_count:,} generated clips{each} are compared with "
        f"{protocol.reference_count:,} real ones ({real})."
    )


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
