"""Benchmark protocols: everything that determines a score, in one TOML file each."""

from importlib import resources
from pathlib import Path

from pydantic import ValidationError

from vdm_bench.errors import InputError
from vdm_bench.protocols.protocol import ClipChoice, Protocol
from vdm_bench.runtime.choose import check_known
from vdm_bench.runtime.files import read_text
from vdm_bench.runtime.input_files import parse_toml
from vdm_bench.runtime.plugins import installed, load_plugin

__all__ = ["ClipChoice", "Protocol", "builtin_names", "get_protocol", "protocol_names"]

GROUP = "vdm_bench.protocols"  # of entry points: a protocol's name, and the package that holds NAME.toml


def builtin_names() -> list[str]:
    """Return the names of the built-in protocols, sorted."""
    files = resources.files(__package__).iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def protocol_names() -> list[str]:
    """Return the names of all protocols: the built-in ones, then those of installed packages."""
    return list(dict.fromkeys((*builtin_names(), *installed(GROUP))))


def get_protocol(name: str) -> Protocol:
    """Load a protocol by its name, or from a TOML file; paths of metrics are relative to that file.

    Raises:
        InputError: there is no such protocol (the message suggests the closest name), or the file is invalid.
    """
    if name.endswith(".toml"):
        path = Path(name)
        protocol = _parse(name, read_text(path, "give a protocol's name or file"))
        return protocol.with_metrics_in(path.parent)
    builtin = builtin_names()
    check_known(name, protocol_names(), "protocol", "`vdm-bench list protocols` shows them")
    package = __package__ if name in builtin else _package_of(name)
    file = resources.files(package).joinpath(f"{name}.toml")
    if not file.is_file():
        raise InputError(f"the package {package} holds no {name}.toml, which its entry point of {GROUP} promises")
    protocol = _parse(name, file.read_text("utf-8"))
    if protocol.name != name:
        raise InputError(f"{name}.toml in {package} names its protocol {protocol.name!r}; make the two equal")
    return protocol if name in builtin else protocol.with_metrics_in(Path(str(file)).parent)


def _package_of(name: str) -> str:
    entry = installed(GROUP)[name]
    load_plugin(entry, "protocol")
    return entry.module


def _parse(source: str, text: str) -> Protocol:
    try:
        return Protocol.model_validate(parse_toml(text, source))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        reason = first["msg"].removeprefix("Value error, ")
        where = ": ".join(filter(None, (".".join(map(str, first["loc"])), reason)))
        raise InputError(f"{source} is not a protocol: {where}; fix the field") from error
