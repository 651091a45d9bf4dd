"""Benchmark protocols: everything that determines a score, in one TOML file each."""

from importlib import resources
from pathlib import Path

from pydantic import ValidationError

from vdm_bench.errors import InputError
from vdm_bench.protocols.protocol import ClipChoice, Protocol
from vdm_bench.runtime.choose import check_known
from vdm_bench.runtime.files import read_text
from vdm_bench.runtime.input_files import parse_toml

__all__ = ["ClipChoice", "Protocol", "get_protocol", "protocol_names"]


def protocol_names() -> list[str]:
    """Return the names of the built-in protocols, sorted."""
    files = resources.files(__package__).iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def get_protocol(name: str) -> Protocol:
    """Load a protocol by its name, or from a TOML file.

    Raises:
        InputError: there is no such protocol (the message suggests the closest name), or the file is invalid.
    """
    if name.endswith(".toml"):
        return _parse(name, read_text(Path(name), "give a protocol's name or file"))
    check_known(name, protocol_names(), "protocol", "`vdm-bench list protocols` shows them")
    return _parse(name, resources.files(__package__).joinpath(f"{name}.toml").read_text("utf-8"))


def _parse(source: str, text: str) -> Protocol:
    try:
        return Protocol.model_validate(parse_toml(text, source))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        reason = first["msg"].removeprefix("Value error, ")
        where = ": ".join(filter(None, (".".join(map(str, first["loc"])), reason)))
        raise InputError(f"{source} is not a protocol: {where}; fix the field") from error
