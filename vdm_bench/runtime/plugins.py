"""Entry points of installed packages, which add samplers, datasets and protocols by name."""

from importlib.metadata import EntryPoint, entry_points

from vdm_bench.errors import InputError, VdmBenchError
from vdm_bench.runtime.printable import printable

_LONGEST_MESSAGE = 500  # characters shown of the error message of a package


def installed(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name, sorted; nothing is imported."""
    return {entry.name: entry for entry in sorted(entry_points(group=group), key=lambda entry: entry.name)}


def load_plugin(entry: EntryPoint, what: str) -> object:
    """Import the object that an entry point names.

    Args:
        entry: the entry point.
        what: kind of object, for errors: `dataset`.

    Raises:
        InputError: it cannot be imported.
    """
    try:
        return entry.load()
    except VdmBenchError:
        raise
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {printable(error, _LONGEST_MESSAGE)}"
        package = f" of the package {entry.dist.name}" if entry.dist else ""
        raise InputError(
            f"the {what} {entry.name}{package} cannot be imported from {entry.value} ({reason}); fix or remove it"
        ) from error
